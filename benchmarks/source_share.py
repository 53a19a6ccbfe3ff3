"""What an image source costs: its share of the CPU seconds of training steps, for a bank and for the generator itself.

    python benchmarks/source_share.py --out=benchmarks/results/source_share.json [--steps=6] [--rounds=3]

StyleGAN2 of the reference host at 64^2, batch 8, without R1 and path length, which would make the step longer and the share
smaller; residual mapping; the source a cascade of two DCGANs at 32^2. Sources take turns in one process;
losses go into the JSON."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'reference_host')]

import numpy as np  # noqa: E402
import torch  # noqa: E402

BATCH, SIZE = 8, 64

#----------------------------------------------------------------------------

def snapshot(path, spider=None):
    """A DCGAN at 32^2, untrained: it costs what a trained one does."""
    import pickle

    from spider_plugin.bundles.dcgan import DCGANGenerator
    torch.manual_seed(0)
    G = DCGANGenerator(z_dim=100, c_dim=0, img_resolution=32, img_channels=3, spider=spider)
    with open(path, 'wb') as file:
        pickle.dump(dict(G=G, D=G, G_ema=G, augment_pipe=None, training_set_kwargs={}), file)
    return str(path)

class Arm:
    """A training set-up with a clock around its source."""

    def __init__(self, prepared):
        from spider_plugin.bundles import spider_on_training__networks_stylegan2 as bundle
        from training.loss import StyleGAN2Loss
        torch.manual_seed(0)
        shape = dict(c_dim=0, img_resolution=SIZE, img_channels=3, num_fp16_res=0, channel_base=8192, channel_max=128)
        self.G = bundle.SpiderGenerator(z_dim=512, w_dim=512, **shape, spider=dict(mapping='residual', source=prepared.path))
        from training.networks_stylegan2 import Discriminator
        self.D = Discriminator(**shape)
        self.loss = StyleGAN2Loss(device=torch.device('cpu'), G=self.G, D=self.D, r1_gamma=1, style_mixing_prob=0.9, pl_weight=0)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.99)) for net in (self.G, self.D)]
        self.source_seconds, self.step_seconds, self.losses = 0.0, 0.0, []
        source = self.G.source
        for name in ('key', 'fetch'):
            setattr(source, name, self._timed(getattr(source, name)))

    def _timed(self, function):
        def timed(*args):
            start = time.process_time()
            result = function(*args)
            self.source_seconds += time.process_time() - start
            return result
        return timed

    def step(self, images, c):
        start = time.process_time()
        for phase, net, optimizer in zip(('Gmain', 'Dmain'), (self.G, self.D), self.optimizers):
            self.G.requires_grad_(net is self.G), self.D.requires_grad_(net is self.D)
            optimizer.zero_grad(set_to_none=True)
            self.loss.accumulate_gradients(phase=phase, real_img=images, real_c=c, gen_z=torch.randn([BATCH, 512]), gen_c=c,
                                           gain=1, cur_nimg=0)
            optimizer.step()
        self.step_seconds += time.process_time() - start

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--steps', type=int, default=6)
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    import tempfile

    from spider_plugin.sources import prepare
    from spider_plugin.sources.prepare import prepare_source
    from torch_utils import training_stats
    torch.set_num_threads(1)
    prepare._DEFAULT_BANK = 256     # what an online source renders beside, for snapshots: not what is measured
    with tempfile.TemporaryDirectory() as temp:
        os.environ['SPIDER_CACHE_DIR'] = temp
        first = snapshot(Path(temp, 'first.pkl'))
        inner = prepare_source(first, bank=2000)
        second = snapshot(Path(temp, 'second.pkl'), dict(mapping='residual', source=inner.path, embed=8))
        arms = dict(bank=Arm(prepare_source(second, bank=2000)), online=Arm(prepare_source(second, bank='online')))
        images, c, shares = torch.rand([BATCH, 3, SIZE, SIZE]) * 2 - 1, torch.zeros([BATCH, 0]), {name: [] for name in arms}
        for arm in arms.values():
            arm.step(images, c)     # the first step allocates
        losses = training_stats.Collector(regex='Loss/(G|D)/loss')
        for _ in range(args.rounds):
            for name, arm in arms.items():
                arm.source_seconds = arm.step_seconds = 0.0
                for _ in range(args.steps):
                    arm.step(images, c)
                shares[name].append(arm.source_seconds / arm.step_seconds)
                losses.update()
                arm.losses.append({key: losses[key] for key in losses.names()})
    result = dict(
        what=f'share of the source in a training step, CPU seconds, {args.steps} steps x {args.rounds} rounds in turn, '
             f'batch {BATCH}, {SIZE}x{SIZE}, one thread, seed 0',
        versions=dict(torch=torch.__version__, numpy=np.__version__, python=platform.python_version()), device=platform.machine(),
        arms={name: dict(median=statistics.median(share), least=min(share), most=max(share), losses=arms[name].losses)
              for name, share in shares.items()})
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')

if __name__ == '__main__':
    main()
