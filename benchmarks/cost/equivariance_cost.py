"""What a residual would cost StyleGAN3 in equivariance: a small StyleGAN3-T and -R with the source image added to the output at
fixed pixels, y = tanh(x + atanh(s)), against the same weights without, by the reference host's eqt and eqr (PSNR in dB).

    python -m benchmarks.cost.equivariance_cost --out=benchmarks/results/equivariance_cost.json [--samples=16] [--seeds=0,1,2]

Generators are as initialised: what the skip does to equivariance follows from where it is, not from what was learned. The
source is --source, strokes or any other."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.common.paths import ROOT

os.environ.setdefault('OMP_NUM_THREADS', '1')    # before torch is imported
sys.path.insert(0, str(ROOT / 'reference_host'))

import torch  # noqa: E402

METRICS = ('eqt50k_int', 'eqt50k_frac', 'eqr50k')
CONFIGS = {'stylegan3-t': dict(), 'stylegan3-r': dict(conv_kernel=1, use_radial_filters=True)}
SMALL   = dict(z_dim=64, c_dim=0, w_dim=64, img_resolution=32, img_channels=3, channel_base=1024, channel_max=32, num_layers=8,
               num_fp16_res=0, conv_clamp=None, mapping_kwargs=dict(num_layers=2))

#----------------------------------------------------------------------------

class Skip(torch.nn.Module):
    """A synthesis network whose output is joined with one source image for each sample, which stays where it is."""

    def __init__(self, synthesis, source):
        super().__init__()
        self.synthesis, self.source = synthesis, source

    @property
    def input(self):
        return self.synthesis.input

    def forward(self, ws, **kwargs):
        x = self.synthesis(ws, **kwargs)
        return torch.tanh(x + torch.atanh(self.source[: len(x)].clamp(-0.96, 0.96)))

def measure(G, movement, samples, seed):
    """PSNR in dB, as metrics/equivariance.py computes it, on movements and latents of a seed."""
    import numpy as np

    from metrics import equivariance
    rng, squares, known_sum = np.random.RandomState(seed), 0.0, 0.0
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(samples // 4):
            ws = G.mapping(torch.randn([4, G.z_dim]), torch.zeros([4, 0]))
            def synthesize(shift=(0, 0), angle=0, ws=ws):
                transform = equivariance.rotation(-angle)
                transform[:2, 2] = -torch.tensor(shift)
                G.synthesis.input.transform.copy_(transform)
                return G.synthesis(ws, noise_mode='const')
            error, known = movement(synthesize, synthesize(), rng=rng)
            squares += float((error.square() * known).sum())
            known_sum += float(known.sum()) * error.shape[:2].numel()
    G.synthesis.input.transform.copy_(torch.eye(3))
    return 10 * float(torch.log10(torch.tensor(4 * known_sum / squares)))

def run(config, seed, samples, source):
    from metrics import equivariance
    from training.networks_stylegan3 import Generator
    torch.manual_seed(seed)
    G = Generator(**SMALL, **CONFIGS[config]).eval().requires_grad_(False)
    movements = dict(zip(METRICS, (equivariance.shift_int, equivariance.shift_frac, equivariance.turn)))
    synthesis, scores = G.synthesis, {}
    for name, network in (('without', synthesis), ('skip', Skip(synthesis, source))):
        G.synthesis = network
        scores[name] = {metric: round(measure(G, movement, samples, seed), 2) for metric, movement in movements.items()}
    return scores

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--samples', type=int, default=16)
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--source', default='strokes')
    args = parser.parse_args()
    from spider_plugin.portable.source.bank import open_source
    from spider_plugin.sources.prepare import prepare_source
    torch.set_num_threads(1)
    bank = open_source(prepare_source(args.source, size=32, bank=64).path)
    source = bank.fetch(torch.stack([torch.arange(4.0), torch.zeros([4])], dim=1))
    runs = {config: {seed: run(config, int(seed), args.samples, source) for seed in args.seeds.split(',')} for config in CONFIGS}
    text = json.dumps(dict(
        what=f'equivariance in dB (higher is better), StyleGAN3 at 32x32 as initialised, {args.samples} samples, source '
             f'{bank.identity["name"]}', versions=dict(torch=torch.__version__, python=platform.python_version()),
        device=platform.machine(), runs=runs), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + '\n')

if __name__ == '__main__':
    main()
