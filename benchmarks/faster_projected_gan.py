"""FastGAN's generator: projected-gan's own dense code, the same with its own separable layers (native DSC), and ours with --dsc.

    python benchmarks/faster_projected_gan.py SPIDER_HOSTS/projected-gan [--resolution=256] [--lite] [--batch=4] [--repeats=3]
        [--iteration] [--out=FILE.json]

Forward and backward in training mode; --iteration: a whole one, with our projected discriminator (random features) in all arms,
and Adam. Each measurement is a fresh process, arms in turn. CPU-seconds are the best of a process's steps; the ratios are over
dense in the same turn. Peak memory is the growth of a process's resident set over its networks; saved is what autograd keeps,
without parameters. On cuda (--device=cuda) time is by events and dense runs with TF32 off (projected-gan's default), with TF32,
and under AMP: that path has not been run."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARMS = {'cpu':  ['dense', 'native', 'ours'],
        'cuda': ['dense', 'dense-tf32', 'dense-amp', 'native', 'native-amp', 'ours', 'ours-amp']}

#----------------------------------------------------------------------------
# One arm, in its own process.

def build(arm, args):
    import torch
    kwargs = dict(z_dim=256, c_dim=0, img_resolution=args.resolution, img_channels=3)
    if arm.startswith('ours'):
        from spider_plugin.networks.fastgan import FastGANGenerator
        return FastGANGenerator(**kwargs, lite=args.lite, dsc={})
    sys.path.insert(0, args.host)
    from pg_modules import blocks, networks_fastgan
    G = networks_fastgan.Generator(**kwargs, ngf=128, synthesis_kwargs=dict(lite=args.lite))
    for name, module in list(G.synthesis.named_modules()) if arm.startswith('native') else []:
        if name.startswith('feat') and isinstance(module, torch.nn.Conv2d):
            parent, _, last = name.rpartition('.')
            G.synthesis.get_submodule(parent)._modules[last] = blocks.SeparableConv2d(module.in_channels, module.out_channels, 3)
    return G

def macs(G, z):
    """Multiply-adds of the convolutions of one image."""
    import torch
    total = 0
    def count(module, _args, out):
        nonlocal total
        weight = getattr(module, 'weight_orig', None)
        if weight is not None and weight.ndim == 4:
            pixels = 1 if isinstance(module, torch.nn.ConvTranspose2d) else out.shape[2] * out.shape[3]
            total += weight.numel() * pixels
    handles = [module.register_forward_hook(count) for module in G.modules()]
    with torch.no_grad():
        G.eval()(z, None)
    for handle in handles:
        handle.remove()
    return total

def measure(arm, args):
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arm == 'dense-tf32'
    G = build(arm, args).to(device)
    result = dict(parameters=sum(p.numel() for p in G.parameters()), macs=macs(G, torch.randn(1, 256, device=device)))
    G.train()
    step = iteration(G, args, device) if args.iteration else lambda: loss_of(G, args, device).backward()
    amp = torch.autocast(device.type, dtype=torch.bfloat16, enabled=arm.endswith('amp'))
    before = peak(device)
    with amp:
        step()
    result['peak_bytes'] = peak(device) - before
    times = []
    for _ in range(args.steps):
        for p in G.parameters():
            p.grad = None
        with amp:
            times.append(timed(step, device))
    result['seconds'] = min(times)
    if not args.iteration:
        result['saved_bytes'] = saved(lambda: loss_of(G, args, device), G)
    if arm.startswith('ours'):
        import torch_utils_ext
        result['kernels'] = torch_utils_ext.status()['kernel_calls']
    return result

def loss_of(G, args, device):
    import torch
    return G(torch.randn(args.batch, 256, device=device), torch.zeros(args.batch, 0, device=device)).square().mean()

def iteration(G, args, device):
    """G's phase, then D's, as Projected GAN trains; Adam for both."""
    import torch

    from spider_plugin.networks.projected import ProjectedDiscriminator
    D = ProjectedDiscriminator(0, args.resolution, 3, backbone='random').to(device).train()
    heads = [p for p in D.parameters() if p.requires_grad]
    optimizers = [torch.optim.Adam(params, lr=2e-4, betas=(0, 0.99)) for params in (list(G.parameters()), heads)]
    real = torch.rand(args.batch, 3, args.resolution, args.resolution, device=device) * 2 - 1
    draw = lambda: G(torch.randn(args.batch, 256, device=device), torch.zeros(args.batch, 0, device=device))
    def step():
        for p in heads:
            p.requires_grad_(False)
        G.requires_grad_(True)
        optimizers[0].zero_grad()
        (-D(draw(), None)).mean().backward()
        optimizers[0].step()
        G.requires_grad_(False)
        for p in heads:
            p.requires_grad_(True)
        optimizers[1].zero_grad()
        with torch.no_grad():
            fake = draw()
        torch.relu(1 + D(fake, None)).mean().backward()
        torch.relu(1 - D(real, None)).mean().backward()
        optimizers[1].step()
    return step

def peak(device):
    import torch
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def timed(step, device):
    import torch
    if device.type != 'cuda':
        start = time.process_time()
        step()
        return time.process_time() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3

def saved(forward, G):
    import torch
    own = {p.untyped_storage().data_ptr() for p in [*G.parameters(), *G.buffers()]}
    kept = {}
    def keep(t):
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = forward()
    del loss
    return sum(kept.values())

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('host')
    parser.add_argument('--resolution', type=int, default=256)
    parser.add_argument('--lite', action='store_true')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--steps', type=int, default=1)
    parser.add_argument('--iteration', action='store_true')
    parser.add_argument('--device', choices=ARMS, default='cpu')
    parser.add_argument('--out')
    parser.add_argument('--arm', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        print('RESULT ' + json.dumps(measure(args.arm, args)))
        return
    import torch
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    runs = {arm: [] for arm in ARMS[args.device]}
    for _ in range(args.repeats):
        for arm in runs:
            command = [sys.executable, __file__, *sys.argv[1:], f'--arm={arm}']
            done = subprocess.run(command, env=env, text=True, capture_output=True)
            if done.returncode:
                sys.exit(done.stderr)
            runs[arm].append(json.loads(done.stdout.split('RESULT ')[1]))
    report = dict(device=platform.processor() or platform.machine(), torch=torch.__version__, threads=1, seed=0,
                  **{key: getattr(args, key) for key in ('resolution', 'lite', 'batch', 'repeats', 'iteration')}, arms=runs)
    for arm, results in runs.items():
        ratios = {key: [r[key] / dense[key] for r, dense in zip(results, runs['dense'], strict=True)]
                  for key in ('seconds', 'peak_bytes', 'saved_bytes') if key in results[0]}
        print(f'{arm:10s} {results[0]["parameters"] / 1e6:7.2f}M parameters {results[0]["macs"] / 1e9:6.2f} GMAC ' + '  '.join(
            f'{key} {statistics.median(r[key] for r in results):.4g}, of dense {statistics.median(values):.3f} '
            f'({min(values):.3f} to {max(values):.3f})' for key, values in ratios.items()))
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()

#----------------------------------------------------------------------------
