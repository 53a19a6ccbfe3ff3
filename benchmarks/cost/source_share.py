"""What an image source costs: its share of the CPU seconds of training steps, for a bank and for the generator itself.

    python -m benchmarks.cost.source_share --out=benchmarks/results/source_share.json [--rounds=5]

Two steps: StyleGAN2 of the reference host at 64^2, batch 8, and the small networks of --cfg=dcgan at 32^2, batch 32, whose
step is so cheap that a source weighs most. Neither has R1 or path length, which would make the step longer and the share
smaller. Residual mapping; the source is a cascade of two DCGANs at 32^2. Sources take turns in one process; losses go into
the JSON."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from benchmarks.common.paths import ROOT

os.environ.setdefault('OMP_NUM_THREADS', '1')    # before torch is imported
sys.path.insert(0, str(ROOT / 'reference_host'))

import numpy as np  # noqa: E402
import torch  # noqa: E402

CASES = {   # images of a batch, their side, steps of a round
    'stylegan2': (8, 64, 2),
    'dcgan':     (32, 32, 10),
}

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

def networks(case, size, spider):
    from spider_plugin.bundles import dcgan
    from spider_plugin.bundles import spider_on_training__networks_stylegan2 as bundle
    shape = dict(c_dim=0, img_resolution=size, img_channels=3)
    if case == 'dcgan':
        return dcgan.DCGANGenerator(z_dim=100, spider=spider, **shape), dcgan.DCGANDiscriminator(**shape)
    from training.networks_stylegan2 import Discriminator
    shape.update(num_fp16_res=0, channel_base=8192, channel_max=128)
    return bundle.SpiderGenerator(z_dim=512, w_dim=512, spider=spider, **shape), Discriminator(**shape)

class Arm:
    """A training set-up with a clock around its source."""

    def __init__(self, case, prepared):
        from training.loss import StyleGAN2Loss
        torch.manual_seed(0)
        batch, size, self.steps = CASES[case]
        self.G, self.D = networks(case, size, dict(mapping='residual', source=prepared.path))
        self.images, self.c = torch.rand([batch, 3, size, size]) * 2 - 1, torch.zeros([batch, 0])
        self.loss = StyleGAN2Loss(device=torch.device('cpu'), G=self.G, D=self.D, r1_gamma=1, pl_weight=0,
                                  style_mixing_prob=0.9 if case == 'stylegan2' else 0)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.99)) for net in (self.G, self.D)]
        self.source_seconds, self.shares, self.losses = 0.0, [], []
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

    def step(self):
        for phase, net, optimizer in zip(('Gmain', 'Dmain'), (self.G, self.D), self.optimizers):
            self.G.requires_grad_(net is self.G), self.D.requires_grad_(net is self.D)
            optimizer.zero_grad(set_to_none=True)
            self.loss.accumulate_gradients(phase=phase, real_img=self.images, real_c=self.c, gen_c=self.c, gain=1, cur_nimg=0,
                                           gen_z=torch.randn([len(self.c), self.G.z_dim]))
            optimizer.step()

    def round(self, losses):
        self.source_seconds, start = 0.0, time.process_time()
        for _ in range(self.steps):
            self.step()
        self.shares.append(self.source_seconds / (time.process_time() - start))
        losses.update()
        self.losses.append({key: losses[key] for key in losses.names()})

    def result(self):
        return dict(median=statistics.median(self.shares), least=min(self.shares), most=max(self.shares), losses=self.losses)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--rounds', type=int, default=5)
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
        sources = dict(bank=prepare_source(second, bank=2000), online=prepare_source(second, bank='online'))
        arms = {(case, name): Arm(case, prepared) for case in CASES for name, prepared in sources.items()}
        for arm in arms.values():
            arm.step()      # the first step allocates
        losses = training_stats.Collector(regex='Loss/(G|D)/loss')
        for _ in range(args.rounds):
            for arm in arms.values():
                arm.round(losses)
    result = dict(
        what=f'share of the source in training steps, CPU seconds, {args.rounds} rounds in turn, one thread, seed 0',
        versions=dict(torch=torch.__version__, numpy=np.__version__, python=platform.python_version()),
        device=f'{platform.machine()} cpu',
        cases={case: dict(zip(('batch', 'size', 'steps'), CASES[case]), **{name: arms[case, name].result() for name in sources})
               for case in CASES})
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')

if __name__ == '__main__':
    main()
