"""A whole training step of StyleGAN2 on a CPU, with the networks, loss, regularisation, optimizers and average of weights of
NVlabs/stylegan3: as they are, with --fast, with --dsc, and with both.

    SPIDER_HOSTS=DIR python -m benchmarks.cost.whole_step [--resolution=64] [--batch=4] [--rounds=3] [--arms=...] [--ada=P]
        [--profile] [--memory] [--out=FILE.json | --report]

One thread, float32, no augmentation, or with --ada that of --aug=ada at a probability P, the allocator tuned (as in
dsc_step.py). A step is Gmain and Dmain, with a quarter of Greg (path length) and a sixteenth of Dreg (R1), as hosts run them,
each with its optimizer's step, which is fused with --fast, and the average of G's weights; each is timed alone, in CPU-seconds of
this process. All arms take turns in each round; ratios are over the dense arm in the same round, median and range. Rounds are
added to what FILE.json has. --memory measures nothing but the peak: the growth of the resident set in all phases, an arm in a
fresh process with glibc's default allocator. --profile prints where the time of each arm goes, --report fills the table of
docs/dsc.md. Without SPIDER_HOSTS the host is the reference host, which factorises demodulation already: a rehearsal."""

import argparse
import copy
import importlib
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

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from benchmarks.cost.dsc_step import MALLOC, cpu_name

RESULTS, PAGE = ROOT / 'benchmarks' / 'results' / 'whole_step.json', ROOT / 'docs' / 'dsc.md'
PHASES = {'Gmain': 1, 'Greg': 1 / 4, 'Dmain': 1, 'Dreg': 1 / 16, 'average': 1}      # how often in a step
BGC = dict.fromkeys('xflip rotate90 xint scale rotate aniso xfrac brightness contrast lumaflip hue saturation'.split(), 1)
DSC = dict(rank=1, res=[0, 1024])
ARMS = {    # features of the generator, its arguments, whether D and the optimizers are fast
    'dense': ((), {}, False),
    '--fast': (('fast',), {}, True),
    '--dsc': (('dsc',), dict(dsc=dict(order='depthwise', **DSC)), False),
    '--fast --dsc': (('dsc', 'fast'), dict(dsc=dict(order='depthwise', **DSC)), True),
    '--fast --dsc --dsc-order=pointwise': (('dsc', 'fast'), dict(dsc=dict(order='pointwise', **DSC)), True),
}

#----------------------------------------------------------------------------

def open_host():
    """Put a host on the path; return its name."""
    import torch

    from spider_plugin.resources import resource_dir
    hosts = os.environ.get('SPIDER_HOSTS')
    sys.path.insert(0, os.path.join(hosts, 'stylegan3') if hosts else str(resource_dir('reference_host')))
    sys.modules.setdefault('pkg_resources', types.SimpleNamespace(parse_version=torch.torch_version.TorchVersion))
    torch.set_num_threads(1)
    return 'NVlabs/stylegan3' if hosts else 'reference host'

def made(class_name, **kwargs):
    module, _, name = class_name.rpartition('.')
    return getattr(importlib.import_module(module), name)(**kwargs)

def augmentation(p):
    pipe = made('training.augment.AugmentPipe', **BGC).train().requires_grad_(False)
    pipe.p.fill_(p)
    return pipe

class Step:
    """The networks and optimizers of an arm; run(phase) is one of PHASES."""

    def __init__(self, arm, resolution, batch, ada):
        import torch

        from spider_plugin.bundles.names import class_with, fast_discriminator
        features, kwargs, fast = ARMS[arm]
        G_name, D_name = 'training.networks_stylegan2.Generator', 'training.networks_stylegan2.Discriminator'
        for feature in features:
            G_name = class_with(G_name, feature)
        torch.manual_seed(0)
        common = dict(c_dim=0, img_resolution=resolution, img_channels=3, channel_base=16384, num_fp16_res=0)
        self.G = made(G_name, z_dim=512, w_dim=512, fused_modconv_default='inference_only', **common, **kwargs).train()
        self.D = made(fast_discriminator(D_name) if fast else D_name, **common).train()
        self.average = copy.deepcopy(self.G).eval()
        self.G.requires_grad_(False), self.D.requires_grad_(False)
        loss = importlib.import_module('training.loss').StyleGAN2Loss
        self.loss = loss(torch.device('cpu'), G=self.G, D=self.D, augment_pipe=None if ada is None else augmentation(ada),
                         r1_gamma=1, pl_weight=2, style_mixing_prob=0.9)
        self.opts = {name: torch.optim.Adam(module.parameters(), lr=0.0025, betas=(0.0, 0.99), eps=1e-8, fused=fast or None)
                     for name, module in (('G', self.G), ('D', self.D))}
        self.z, self.c = torch.randn([batch, 512]), torch.zeros([batch, 0])
        self.real = torch.randn([batch, 3, resolution, resolution]).clamp(-1, 1)

    def run(self, phase):
        import torch
        if phase == 'average':
            with torch.no_grad():
                for mean, value in zip(self.average.parameters(), self.G.parameters()):
                    mean.copy_(value.lerp(mean, 0.999))
                for mean, value in zip(self.average.buffers(), self.G.buffers()):
                    mean.copy_(value)
            return
        module, opt = (self.G, self.opts['G']) if phase.startswith('G') else (self.D, self.opts['D'])
        opt.zero_grad(set_to_none=True)
        module.requires_grad_(True)
        self.loss.accumulate_gradients(phase=phase, real_img=self.real, real_c=self.c, gen_z=self.z, gen_c=self.c, gain=1,
                                       cur_nimg=0)
        module.requires_grad_(False)
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.nan_to_num(torch.cat([grad.flatten() for grad in grads]), nan=0, posinf=1e5, neginf=-1e5)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads])):
            grad.copy_(part.view_as(grad))
        opt.step()

#----------------------------------------------------------------------------

def seconds_of(step):
    """{phase: CPU-seconds}"""
    taken = {}
    for phase in PHASES:
        start = time.process_time()
        step.run(phase)
        taken[phase] = time.process_time() - start
    return taken

def augmentation_alone(args, rounds=8):
    """Median CPU-seconds of the augmentation of a batch, without a graph and with its backward pass."""
    import torch
    pipe, images = augmentation(args.ada), torch.randn([args.batch, 3, args.resolution, args.resolution])
    def taken(grad):
        start = time.process_time()
        with torch.set_grad_enabled(grad):
            y = pipe(images.clone().requires_grad_(grad))
            if grad:
                y.sum().backward()
        return time.process_time() - start
    return {name: statistics.median(taken(grad) for _ in range(rounds))
            for name, grad in (('forward', False), ('forward and backward', True))}

def whole(taken):
    return sum(often * taken[phase] for phase, often in PHASES.items())

def measure(args, arms):
    """Rounds, [{arm: {phase: CPU-seconds}}], after a warm-up that is not counted."""
    steps = {arm: Step(arm, args.resolution, args.batch, args.ada) for arm in arms}
    for step in steps.values():
        step.run('Gmain'), step.run('Dmain')
    return [{arm: seconds_of(step) for arm, step in steps.items()} for _ in range(args.rounds)]

def summary(rounds, arm):
    """Medians of an arm over the rounds that have it; ratios are over the dense arm in the same round."""
    taken = [(whole(each[arm]), whole(each['dense']), each[arm]) for each in rounds if arm in each]
    ratios = [mine / dense for mine, dense, _ in taken]
    return dict(seconds=statistics.median(mine for mine, _, _ in taken), ratio=statistics.median(ratios),
                ratio_range=[min(ratios), max(ratios)], rounds=len(taken),
                phases={phase: statistics.median(phases[phase] for _, _, phases in taken) for phase in PHASES})

def profile(args, arms):
    """Print the operations of each arm that take the most time."""
    import torch
    for arm in arms:
        step = Step(arm, args.resolution, args.batch, args.ada)
        seconds_of(step)
        for phase in ('Gmain', 'Greg', 'Dmain', 'Dreg', 'average'):
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
                step.run(phase)
            print(f'{arm}: {phase}')
            events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
            total = sum(event.self_cpu_time_total for event in events)
            for event in events[:14]:
                taken = event.self_cpu_time_total
                print(f'    {taken / 1e3:9.1f} ms {taken / total:6.1%}  {event.count:5d}  {event.key}')

def peak(args, arm):
    """Bytes by which the resident set grows at most in a step, in this process."""
    step = Step(arm, args.resolution, args.batch, args.ada)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for phase in PHASES:
        step.run(phase)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

def peak_of_child(args, arm):
    command = [sys.executable, '-m', 'benchmarks.cost.whole_step', f'--resolution={args.resolution}',
               f'--batch={args.batch}', f'--peak-of={arm}', *([] if args.ada is None else [f'--ada={args.ada}'])]
    env = {key: value for key, value in os.environ.items() if key not in MALLOC}
    text = subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(text.rpartition('PEAK ')[2])

#----------------------------------------------------------------------------

def report_page(path):
    """Replace the part of docs/dsc.md between its two marker lines."""
    lines = ['| case | options | CPU-s | of dense | rounds | G | D | peak, GB | of dense |', '|---' * 9 + '|']
    for title, case in json.loads(path.read_text())['cases'].items():
        for arm in [arm for arm in ARMS if arm in case['rows']]:
            row, peaks = case['rows'][arm], case['peak_bytes']
            low, high = row['ratio_range']
            spread = '' if arm == 'dense' or row['rounds'] == 1 else f' ({low:.2f} to {high:.2f})'
            parts = [sum(PHASES[phase] * row['phases'][phase] for phase in PHASES if phase[0] == network) for network in 'GD']
            peak = f'{peaks[arm] / 1e9:.2f} | {peaks[arm] / peaks["dense"]:.2f}' if arm in peaks else '|'
            lines.append(f'| {title} | {arm} | {row["seconds"]:.2f} | {row["ratio"]:.2f}{spread} | {row["rounds"]} '
                         f'| {parts[0]:.2f} | {parts[1]:.2f} | {peak} |')
    fill(PAGE, dict(whole=lines))

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--resolution', type=int, default=64)
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--arms', help='of these only, by ";"')
    parser.add_argument('--ada', type=float, help='probability of augmentation  [default: none]')
    parser.add_argument('--memory', action='store_true', help='the peak and nothing else')
    parser.add_argument('--profile', action='store_true', help='where the time goes, and nothing else')
    parser.add_argument('--out', type=Path)
    parser.add_argument('--report', action='store_true', help='fill the table of docs/dsc.md')
    parser.add_argument('--peak-of', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.report:
        report_page(args.out or RESULTS)
        return
    if args.peak_of:
        open_host()
        print('PEAK', peak(args, args.peak_of))
        return
    if not args.memory and any(os.environ.get(key) != value for key, value in MALLOC.items()):    # read when a process starts
        os.execve(sys.executable, [sys.executable, '-m', 'benchmarks.cost.whole_step', *sys.argv[1:]], {**os.environ, **MALLOC})
    import torch

    import torch_utils_ext
    host = open_host()
    arms = args.arms.split(';') if args.arms else list(ARMS)    # with 'dense', over which ratios are
    if args.profile:
        profile(args, arms)
        return
    report = json.loads(args.out.read_text()) if args.out and args.out.is_file() else dict(cases={})
    title = f'{args.resolution}x{args.resolution} batch {args.batch}' + ('' if args.ada is None else f', ADA at p={args.ada:g}')
    case = report['cases'].setdefault(title, dict(rounds=[], rows={}, peak_bytes={}))
    if args.memory:
        for arm in arms:
            case['peak_bytes'][arm] = peak_of_child(args, arm)
            print(f'{arm:<38s}{case["peak_bytes"][arm] / 1e6:9.0f} MB', flush=True)
    else:
        if args.ada is not None:
            case['augmentation'] = augmentation_alone(args)
            print('augmentation alone:', case['augmentation'], flush=True)
        case['rounds'] += measure(args, arms)
        case['rows'] = {arm: summary(case['rounds'], arm) for arm in ARMS if any(arm in each for each in case['rounds'])}
        for arm, row in case['rows'].items():
            low, high = row['ratio_range']
            phases = '  '.join(f'{phase} {seconds:.2f}' for phase, seconds in row['phases'].items())
            print(f'{arm:<38s}{row["seconds"]:8.2f}{row["ratio"]:7.2f}  {low:.2f}-{high:.2f}  {phases}', flush=True)
        case.update(device=cpu_name(), torch=torch.__version__, python=platform.python_version(), threads=1, seed=0, host=host,
                    channel_base=16384, malloc=MALLOC, load_average=os.getloadavg(), torch_utils_ext=torch_utils_ext.status())
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
