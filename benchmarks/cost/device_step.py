"""A training step of each network as a GPU would run it, counted without one (common/device_counts.py): forward and backward of
G, or of D on fakes and reals together.

    python -m benchmarks.cost.device_step [--cases=TEXT,...] [--out=FILE.json]         # all cases, some minutes on one core
    python -m benchmarks.cost.device_step --report                                     # the table of docs/dsc.md from the JSON

Counts are exact and have no spread: launches, bytes of their inputs and outputs, copies of host data, results that the host waits
for. StyleGAN2 is that of the reference host with the four highest resolutions in float16; other networks are in float32. Each
case is counted with the kernels of torch_utils_ext and without. The optimizer is left out."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch

from benchmarks.common.device_counts import DeviceCounts, with_kernels
from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT

RESULTS, PAGE = ROOT / 'benchmarks' / 'results' / 'device_step.json', ROOT / 'docs' / 'dsc.md'
DSC = dict(rank=1, res=[0, 1024])

#----------------------------------------------------------------------------
# Networks, made on the CPU.

def stylegan2(resolution, feature=None, **kwargs):
    """Return the reference host's synthesis network, with a feature over its layers."""
    from spider_plugin.bundles.names import class_with
    from spider_plugin.resources import resource_dir
    if str(resource_dir('reference_host')) not in sys.path:
        sys.path.insert(0, str(resource_dir('reference_host')))
    name = 'training.networks_stylegan2.Generator'
    module, _, name = (class_with(name, feature) if feature else name).rpartition('.')
    base = 32768 if resolution >= 512 else 16384
    G = getattr(importlib.import_module(module), name)(
        z_dim=512, c_dim=0, w_dim=512, img_resolution=resolution, img_channels=3, channel_base=base, num_fp16_res=4,
        conv_clamp=256, fused_modconv_default='inference_only', mapping_kwargs=dict(num_layers=2), **kwargs)
    return G.synthesis

def fastgan(resolution, **kwargs):
    from spider_plugin.portable.generators.fastgan import FastGANGenerator
    return FastGANGenerator(z_dim=256, c_dim=0, img_resolution=resolution, img_channels=3, ngf=128, **kwargs)

def dcgan(resolution, network):
    from spider_plugin.portable.generators import dcgan
    return dcgan.DCGANGenerator(100, 0, resolution, 3) if network == 'G' else dcgan.DCGANDiscriminator(0, resolution, 3)

def pggan(resolution, network):
    """Return a network that has grown to the end."""
    from spider_plugin.portable.generators import pggan
    made = pggan.PGGANGenerator(512, 0, resolution, 3) if network == 'G' else pggan.PGGANDiscriminator(0, resolution, 3)
    next(buffer for name, buffer in made.named_buffers() if name.endswith('progress')).fill_(1000)
    return made

def projected(resolution, **kwargs):
    from spider_plugin.portable.discriminator.projected import ProjectedDiscriminator
    return ProjectedDiscriminator(0, resolution, 3, **kwargs)

#----------------------------------------------------------------------------
# {case: {variant: (its network, arguments)}}, resolution and batch are in the name of a case.

SYNTHESES = {
    'dense': (stylegan2, {}),
    '--fast': (stylegan2, dict(feature='fast')),
    '--dsc': (stylegan2, dict(feature='dsc', dsc=dict(order='depthwise', **DSC))),
    '--dsc --dsc-order=pointwise': (stylegan2, dict(feature='dsc', dsc=dict(order='pointwise', **DSC))),
}
FASTGANS = {'dense': (fastgan, {}), '--dsc': (fastgan, dict(dsc={}))}
CASES = {
    **{f'StyleGAN2 {r}x{r} batch {n}': SYNTHESES for r, n in ((64, 32), (256, 16), (1024, 4))},
    'FastGAN 256x256 batch 16': FASTGANS,
    'FastGAN lite 256x256 batch 16': {name: (make, dict(kwargs, lite=True)) for name, (make, kwargs) in FASTGANS.items()},
    'DCGAN 64x64 batch 64': {'G': (dcgan, dict(network='G')), 'D': (dcgan, dict(network='D'))},
    'PGGAN 256x256 batch 16': {'G': (pggan, dict(network='G')), 'D': (pggan, dict(network='D'))},
    'Projected D 256x256 batch 16': {'standard heads': (projected, {}), 'separable heads': (projected, dict(heads='separable'))},
}

def count(case, variant, kernels=True):
    """Return the counts of a step as {ops, bytes, copies, syncs}; of the second one where the first copies what it then keeps."""
    size, batch = case.rpartition(' batch ')[::2]
    make, kwargs = CASES[case][variant]
    network = make(int(size.rpartition('x')[2]), **kwargs).train()
    counts = DeviceCounts()
    network = counts.on_device(network)
    inputs = _inputs(counts, network, int(batch))
    def step():
        for tensor in (*network.parameters(), *inputs):
            tensor.grad = None
        network(*inputs).square().sum().backward()
    with with_kernels(kernels):
        first = counts.of(step)
        return counts.of(step) if first['copies'] else first

def passes(variant, layer):
    """Return how often the step of a 3x3 layer of StyleGAN2 reads or writes as many bytes as its output has, with the kernels.

    layer: 'conv1', or 'conv0', which upsamples, of 256x256 pixels, 64 channels and batch 16 in float16."""
    make, kwargs = SYNTHESES[variant]
    counts = DeviceCounts()
    layer = counts.on_device(getattr(make(256, **kwargs).b256, layer).train())
    size = 256 // layer.up
    with counts:
        x, w = counts.randn(16, layer.in_channels, size, size).half(), counts.randn(16, layer.affine.in_features)
    def step():
        y = layer(x.detach().requires_grad_(), w, fused_modconv=False)
        y.backward(y.detach())
    with with_kernels():
        return counts.of(step)['bytes'] / (2 * 16 * layer.out_channels * 256 * 256)

def _inputs(counts, network, batch):
    if hasattr(network, 'mapping'):
        return counts.randn(batch, network.z_dim), counts.randn(batch, 0)
    if hasattr(network, 'num_ws'):
        return counts.randn(batch, network.num_ws, network.w_dim),
    images = counts.randn(2 * batch, network.img_channels, network.img_resolution, network.img_resolution)
    return images.requires_grad_(), counts.randn(2 * batch, 0)

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--cases', default='', help='comma-separated beginnings of their names; default: all')
    parser.add_argument('--out', type=Path, help='JSON to which the cases are added')
    parser.add_argument('--report', action='store_true', help='writes the table of docs/dsc.md from the JSON and ends')
    args = parser.parse_args()
    if args.report:
        return report_page(args.out or RESULTS)
    cases = [case for case in CASES if case.startswith(tuple(args.cases.split(',')))]
    if not cases:
        parser.error(f'--cases: no case begins with {args.cases}; there are {", ".join(CASES)}')
    report = json.loads(args.out.read_text()) if args.out and args.out.is_file() else dict(cases={})
    report['torch'] = torch.__version__
    for case in cases:
        report['cases'][case] = {}
        for variant in CASES[case]:
            row = {kind: count(case, variant, kind == 'kernels') for kind in ('kernels', 'references')}
            report['cases'][case][variant] = row
            print(f'{case}, {variant}: {row}', flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + '\n')

def report_page(path):
    """Replace the part of docs/dsc.md between its two marker lines."""
    lines = ['| case | layers | launches | GB | without kernels: launches | GB | copies | waits |', '|---' * 8 + '|']
    for case, rows in json.loads(path.read_text())['cases'].items():
        for variant, row in rows.items():
            a, b = row['kernels'], row['references']
            plain = f'{b["ops"]} | {b["bytes"] / 1e9:.1f}' if a != b else 'the same |'
            lines.append(f'| {case} | {variant} | {a["ops"]} | {a["bytes"] / 1e9:.1f} | {plain} | {a["copies"]} | {a["syncs"]} |')
    fill(PAGE, dict(device=lines))

if __name__ == '__main__':
    main()
