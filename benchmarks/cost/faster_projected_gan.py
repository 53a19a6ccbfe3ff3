"""FastGAN's generator: projected-gan's own dense code, the same with its own separable layers (native DSC), and ours with --dsc.

    SPIDER_HOSTS=DIR python -m benchmarks.cost.faster_projected_gan [--lite] [--resolution=256] [--batch=4] [--iteration]
        [--rounds=3] [--memory] [--device=cuda] [--out=benchmarks/results/faster_projected_gan.json]

Forward and backward in training mode, float32; --iteration: a whole one, G's phase and D's with Adam, with projected-gan's
discriminator on its code and ours on ours (EfficientNet-Lite0 with random weights; needs timm). All arms take turns in one
process, on a CPU with one thread and an allocator that keeps what it has (environment below; with glibc's default, page faults
of large temporaries weigh on all arms). Time is CPU-seconds, on cuda that between events. Ratios are over dense in the same
round: median and range. Saved bytes are what autograd keeps between forward and backward, parameters aside. --memory measures
nothing but the peak: on a CPU the growth of the resident set in a step, an arm in a fresh process with the default allocator.

cuda has arms with TF32 (dense with it off is projected-gan's default) and with bfloat16 autocast: they have not been run.
Results of a case are put beside those of other cases in --out; --add keeps the rounds that it holds. Loads are averages of the
machine at the end of each run."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

MALLOC = {'MALLOC_MMAP_MAX_': '0', 'MALLOC_TRIM_THRESHOLD_': '8000000000', 'MALLOC_TOP_PAD_': '268435456'}
ARMS   = {'cpu':  ['dense', 'native', 'ours'],
          'cuda': ['dense', 'dense-tf32', 'dense-amp', 'native', 'native-amp', 'ours', 'ours-amp']}

#----------------------------------------------------------------------------
# Networks.

def open_host():
    import torch
    sys.path.insert(0, os.path.join(os.environ['SPIDER_HOSTS'], 'projected-gan'))
    sys.modules.setdefault('pkg_resources', types.SimpleNamespace(parse_version=torch.torch_version.TorchVersion))
    torch.set_num_threads(1)

def build(arm, args):
    import torch
    torch.manual_seed(0)
    kwargs = dict(z_dim=256, c_dim=0, img_resolution=args.resolution, img_channels=3, ngf=128)
    if arm.startswith('ours'):
        from spider_plugin.portable.generators.fastgan import FastGANGenerator
        return FastGANGenerator(**kwargs, lite=args.lite, dsc={}).train()
    from pg_modules import blocks, networks_fastgan
    G = networks_fastgan.Generator(**kwargs, synthesis_kwargs=dict(lite=args.lite))
    for name, module in list(G.synthesis.named_modules()) if arm.startswith('native') else []:
        if name.startswith('feat') and isinstance(module, torch.nn.Conv2d):
            parent, _, last = name.rpartition('.')
            G.synthesis.get_submodule(parent)._modules[last] = blocks.SeparableConv2d(module.in_channels, module.out_channels, 3)
    return G.train()

def discriminator(arm, args):
    if arm.startswith('ours'):
        from spider_plugin.portable.discriminator.projected import ProjectedDiscriminator
        return ProjectedDiscriminator(0, args.resolution, 3).train()
    import torch
    library = None
    try:
        import timm
    except RuntimeError:    # torchvision's wheel does not fit torch: timm needs the names of two operators only
        for name in [name for name in sys.modules if name.split('.')[0] in ('torchvision', 'timm')]:
            del sys.modules[name]
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        import timm
    from timm.models.efficientnet import EfficientNet
    if not hasattr(EfficientNet, 'act1'):   # in the norm since timm 0.6
        EfficientNet.act1 = torch.nn.Identity()
    stock = timm.create_model
    timm.create_model = lambda name, pretrained: stock(name, pretrained=False)
    from pg_modules.discriminator import ProjectedDiscriminator
    D = ProjectedDiscriminator(interp224=args.resolution < 224, backbone_kwargs=dict(separable=False, cond=False, num_discs=4,
                                                                                     proj_type=2)).train()
    timm.create_model = stock
    D.feature_network.requires_grad_(False)
    D.library = library
    return D

def macs(G):
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
        G.eval()(torch.randn(1, 256), None)
    for handle in handles:
        handle.remove()
    G.train()
    return total

#----------------------------------------------------------------------------
# Steps.

def passes(G, args):
    """step(batch), which returns the loss before its backward pass."""
    import torch
    def step(batch):
        G.zero_grad(set_to_none=True)
        return G(torch.randn(batch, 256, device=args.device), torch.zeros(batch, 0, device=args.device)).square().mean()
    return step

def iterations(G, D, joint, args):
    """The same for a whole iteration as Projected GAN trains: G's phase, and the backward pass of D's is left.

    joint: D takes fakes and reals in one pass, and optimizers are fused, as in this plugin."""
    import torch
    heads = [p for p in D.parameters() if p.requires_grad]
    optimizers = [torch.optim.Adam(params, lr=2e-4, betas=(0.0, 0.99), fused=joint or None)
                  for params in (list(G.parameters()), heads)]
    def turn(generator):
        G.requires_grad_(generator)
        for p in heads:
            p.requires_grad_(not generator)
    def step(batch):
        draw = lambda: G(torch.randn(batch, 256, device=args.device), torch.zeros(batch, 0, device=args.device))
        real = torch.rand(batch, 3, args.resolution, args.resolution, device=args.device) * 2 - 1
        turn(generator=True)
        optimizers[0].zero_grad(set_to_none=True)
        (-D(draw(), None)).mean().backward()
        optimizers[0].step()
        turn(generator=False)
        optimizers[1].zero_grad(set_to_none=True)
        with torch.no_grad():
            fake = draw()
        if joint:
            fake, real = D(torch.cat([fake, real]), None, parts=2).chunk(2)
            (torch.relu(1 + fake).mean() + torch.relu(1 - real).mean()).backward()
        else:
            torch.relu(1 + D(fake, None)).mean().backward()
            torch.relu(1 - D(real, None)).mean().backward()
        optimizers[1].step()
    return step

class Arm:
    def __init__(self, arm, args):
        import torch
        self.tf32, self.amp, self.args = arm == 'dense-tf32', arm.endswith('amp'), args
        self.G = build(arm, args)
        self.facts = dict(parameters=sum(p.numel() for p in self.G.parameters()), macs=macs(self.G))
        self.G.to(args.device)
        self.forward = iterations(self.G, discriminator(arm, args).to(args.device), arm.startswith('ours'), args) \
            if args.iteration else passes(self.G, args)
        self.amp = torch.autocast(args.device, dtype=torch.bfloat16, enabled=self.amp)

    def step(self, batch):
        import torch
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        with self.amp:
            loss = self.forward(batch)
        if loss is not None:
            loss.backward()

    def timed(self, batch):
        return seconds(lambda: self.step(batch), self.args.device)

    def saved_bytes(self, batch):
        with self.amp:
            return kept_bytes(lambda: self.forward(batch), self.G)

def seconds(step, device):
    """CPU-seconds of this process, on cuda those between events."""
    import torch
    if device != 'cuda':
        start = time.process_time()
        step()
        return time.process_time() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3

def kept_bytes(forward, network):
    """What autograd keeps for the backward pass of forward(), the network's parameters and buffers aside."""
    import torch
    own, kept = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}, {}
    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        result = forward()
    del result
    return sum(size for key, size in kept.items() if key not in own)

#----------------------------------------------------------------------------
# Measurements: of all arms by turns, and of one arm's peak.

def arms_of(args):
    return args.arms.split(',') if args.arms else ARMS[args.device]

def measure_time(args):
    import torch
    arms = {name: Arm(name, args) for name in arms_of(args)}
    results = {name: dict(arm.facts, seconds=[]) for name, arm in arms.items()}
    for name, arm in arms.items():
        arm.step(1)
        if args.device == 'cuda':
            arm.step(args.batch)
        if not args.iteration:  # per image: what grows with the batch
            one, two = arm.saved_bytes(1), arm.saved_bytes(2)
            results[name].update(saved_bytes=one + (args.batch - 1) * (two - one), saved_bytes_per_image=two - one)
    for _ in range(args.rounds):
        for name, arm in arms.items():
            results[name]['seconds'].append(arm.timed(args.batch))
            arm.G.zero_grad(set_to_none=True)
    import torch_utils_ext
    status = torch_utils_ext.status()
    return dict(torch=torch.__version__, arms=results, **{key: status[key] for key in ('kernel_calls', 'reference_calls')})

def measure_memory(args, name):
    import torch
    arm = Arm(name, args)
    if args.device == 'cuda':
        arm.step(args.batch)
        arm.G.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        before, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated
    else:
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before = peak()
    arm.step(args.batch)
    return dict(peak_bytes=[peak() - before])

def child(args, part, tuned):
    """measure_*() in a fresh process."""
    env = {**{key: value for key, value in os.environ.items() if key not in MALLOC}, 'OMP_NUM_THREADS': '1',
           **(MALLOC if tuned and args.device == 'cpu' else {})}
    command = [sys.executable, '-m', __spec__.name, *sys.argv[1:], f'--part={part}']
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.split('RESULT ')[1])

#----------------------------------------------------------------------------

def cpu_name():
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())

def merge(case, new, keep):
    """Puts the measurements of a run into those of its case: lists grow where they are kept."""
    for name, value in new.items():
        if isinstance(value, dict):
            merge(case.setdefault(name, {}), value, keep)
        elif isinstance(value, list) and keep:
            case[name] = case.get(name, []) + value
        else:
            case[name] = value

def show(name, arms):
    print(f'{name}\n  {"":<12s}{"params":>9s}{"GMAC":>7s}' + ''.join(
        f'{title:>12s}{"of dense":>10s}  {"range":<11s}' for title in ('seconds', 'peak MB', 'saved MB/img')))
    for arm, row in arms.items():
        text = f'  {arm:<12s}{row.get("parameters", 0) / 1e6:8.2f}M{row.get("macs", 0) / 1e9:7.2f}'
        for key, unit in (('seconds', 1), ('peak_bytes', 1e6), ('saved_bytes_per_image', 1e6)):
            values, dense = (arms[x].get(key, []) for x in (arm, 'dense'))
            values, dense = ([v] if isinstance(v, int) else v for v in (values, dense))
            ratios = [a / b for a, b in zip(values, dense, strict=True)] or [0]
            text += f'{statistics.median(values or [0]) / unit:12.2f}{statistics.median(ratios):10.3f}  ' \
                    f'{min(ratios):.3f}-{max(ratios):.3f}'
        print(text)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--resolution', type=int, default=256)
    parser.add_argument('--lite', action='store_true')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--iteration', action='store_true')
    parser.add_argument('--arms', help='of these only, by commas')
    parser.add_argument('--memory', action='store_true', help='the peak and nothing else')
    parser.add_argument('--device', choices=ARMS, default='cpu')
    parser.add_argument('--out')
    parser.add_argument('--add', action='store_true', help='to what --out has of this case')
    parser.add_argument('--part', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        open_host()
        print('RESULT ' + json.dumps(measure_time(args) if args.part == 'time' else measure_memory(args, args.part)))
        return
    name = f'{"lite" if args.lite else "big"} {args.resolution}x{args.resolution} batch {args.batch}' + \
        (', whole iteration' if args.iteration else '')
    out = Path(args.out) if args.out else None
    report = json.loads(out.read_text()) if out and out.exists() else dict(cases={})
    if args.memory:
        new = dict(arms={arm: child(args, arm, tuned=False) for arm in arms_of(args)})
    else:
        new = child(args, 'time', tuned=True)
    if args.device == 'cuda':
        import torch
        device = torch.cuda.get_device_name()
    else:
        device = f'{cpu_name()}, one thread'
    report.update(seed=0, dtype='float32', malloc=MALLOC)
    new.update(device=device, python=platform.python_version(), load_average=[round(os.getloadavg()[0], 1)])
    merge(report['cases'].setdefault(name, {}), new, keep=args.add)
    show(name, report['cases'][name]['arms'])
    if out:
        out.write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
