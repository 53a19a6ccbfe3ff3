"""Peak memory of one training step at 1024^2, batch 1, in float32 on a CPU: G and D at published widths with their regularisers
and Adam, each phase in a fresh process.

    python -m benchmarks.cost.memory_1024 run [--cases pggan stylegan2] [--phases Gmain] [--plain]    # resumable
    python -m benchmarks.cost.memory_1024 report    # the tables of docs/memory.md from the JSON

peak_gib is ru_maxrss of the process, Python and torch included. `run` is with --recompute; --plain is without. A process gets no
more than --limit GiB of addresses, so that the machine never swaps: one that would need more fails, and is recorded
as such. Both networks and the states of both optimizers are there in every process. PGGAN is taken in the middle of its last
fade, where it is largest."""

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from spider_plugin.files.cache import atomic_file

os.environ.setdefault('OMP_NUM_THREADS', '1')    # before torch is imported
sys.path.insert(0, str(ROOT / 'reference_host'))

RESULTS = ROOT / 'benchmarks' / 'results' / 'memory_1024.json'
PAGE    = ROOT / 'docs' / 'memory.md'
SHAPE   = dict(c_dim=0, img_resolution=1024, img_channels=3)
STYLE   = dict(channel_base=32768, channel_max=512)     # config F of StyleGAN2, and StyleGAN3-T
WIDER   = dict(channel_base=65536, channel_max=1024)    # G of StyleGAN3-R; its D is that of the others

def stylegan(module, layers, phases, pl_weight=0, **kwargs):
    latents = dict(z_dim=512, w_dim=512, mapping_kwargs=dict(num_layers=layers))
    precision = dict(num_fp16_res=0, conv_clamp=None)
    loss = dict(r1_gamma=10, pl_weight=pl_weight, style_mixing_prob=0, pl_batch_shrink=1)
    return dict(G=(f'training.{module}.Generator', dict(STYLE, **latents, **precision) | kwargs),
                D=('training.networks_stylegan2.Discriminator', dict(STYLE, **precision)), phases=phases,
                loss=('training.loss.StyleGAN2Loss', loss))

CASES = {   # Greg: path length; Dreg: R1; Dboth: with WGAN-GP's penalty, which is in every step
    'pggan': dict(G=('spider_plugin.portable.generators.pggan.PGGANGenerator', dict(z_dim=512)),
                  D=('spider_plugin.portable.generators.pggan.PGGANDiscriminator', {}), phases=['Gboth', 'Dboth'], progress=15.5,
                  loss=('spider_plugin.training.progressive.ProgressiveLoss', dict(objective='wgan-gp'))),
    'stylegan2':   stylegan('networks_stylegan2', 8, ['Gmain', 'Greg', 'Dmain', 'Dreg'], pl_weight=2),
    'stylegan3-t': stylegan('networks_stylegan3', 2, ['Gmain', 'Dmain', 'Dreg']),
    'stylegan3-r': stylegan('networks_stylegan3', 2, ['Gmain', 'Dmain', 'Dreg'], **WIDER, conv_kernel=1, use_radial_filters=True),
}

#----------------------------------------------------------------------------
# One phase, in its own process.

def run_case(name, phase, recompute):
    import torch

    from spider_plugin.training.recompute import recomputing
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = CASES[name]
    def build(class_name, kwargs, **more):
        return (recomputing if recompute else construct)(class_name, **kwargs, **more)
    G, D = build(*case['G'], **SHAPE), build(*case['D'], **SHAPE)
    if 'progress' in case:
        for network in (G.synthesis, D):
            network.progress.fill_(case['progress'])
    loss = construct(case['loss'][0], device=torch.device('cpu'), G=G, D=D, augment_pipe=None, **case['loss'][1])
    z, c, images = torch.randn([1, 512]), torch.zeros([1, 0]), torch.rand([1, 3, 1024, 1024]) * 2 - 1
    optimizers = {network: torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.0, 0.99)) for network in (G, D)}
    for network, optimizer in optimizers.items():   # states, as after a first step
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(False)
    built, start, network = peak(), time.process_time(), G if phase.startswith('G') else D
    network.requires_grad_(True)
    loss.accumulate_gradients(phase=phase, real_img=images, real_c=c, gen_z=z, gen_c=c, gain=1, cur_nimg=0)
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    optimizers[network].step()
    return dict(parameters=dict(G=count(G), D=count(D)), built_gib=built, peak_gib=peak(), finite=all(
        bool(x.isfinite().all()) for x in [*grads, *network.parameters()]), gradients=len(grads),
        cpu_seconds=round(time.process_time() - start, 1))

def construct(class_name, **kwargs):
    module, _, name = class_name.rpartition('.')
    return getattr(importlib.import_module(module), name)(**kwargs)

def count(network):
    return sum(p.numel() for p in network.parameters())

def peak():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20, 2)

#----------------------------------------------------------------------------

def in_process(name, phase, recompute, limit):
    command = [sys.executable, '-m', __spec__.name, 'phase', '--cases', name, '--phases', phase,
               *([] if recompute else ['--plain'])]
    size = limit * 2 ** 30
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
    return json.loads(done.stdout) if done.returncode == 0 else dict(
        failed=f'ended with {done.returncode}, allowed {limit} GiB of addresses')

def run(cases, phases, recompute, limit):
    import torch
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else dict(cases={})
    content.update(
        what='peak of ru_maxrss, one training step, batch 1, 1024x1024, float32, CPU, one thread, seed 0',
        device=f'{platform.machine()} cpu', versions=dict(torch=torch.__version__, python=platform.python_version()))
    for name in cases:
        results = content['cases'].setdefault(name, {}).setdefault('recompute' if recompute else 'plain', {})
        for phase in CASES[name]['phases']:
            if (phases and phase not in phases) or 'peak_gib' in results.get(phase, {}):
                continue
            results[phase] = in_process(name, phase, recompute, limit)
            print(name, 'recompute' if recompute else 'plain', phase, results[phase], flush=True)
            with atomic_file(RESULTS) as temp:
                temp.write_text(json.dumps(content, indent=1) + '\n')

def table(cases):
    lines = ['| | parameters of G | of D | phase | | peak, GiB | CPU s |', '|---' * 7 + '|']
    for name, ways in cases.items():
        for way, phases in ways.items():
            for phase, row in phases.items():
                if 'peak_gib' in row:
                    sizes = ' | '.join(f'{row["parameters"][network]:,}' for network in 'GD')
                    words = f'{row["peak_gib"]:.2f} | {row["cpu_seconds"]:.0f}'
                else:
                    sizes, words = ' | ', f'{row["failed"]} | '
                lines.append(f'| {name} | {sizes} | {phase} | {"`--recompute`" if way == "recompute" else way} | {words} |')
    return '\n'.join(lines) + '\n'

def report():
    fill(PAGE, dict(table=table(json.loads(RESULTS.read_text())['cases'])))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report', 'phase'], help='phase: one phase in this process, its result printed')
    parser.add_argument('--cases', nargs='+', choices=list(CASES), default=list(CASES))
    parser.add_argument('--phases', nargs='+')
    parser.add_argument('--plain', action='store_true', help='without --recompute')
    parser.add_argument('--limit', type=int, default=18, metavar='GIB')
    args = parser.parse_args()
    if args.what == 'run':
        run(args.cases, args.phases, not args.plain, args.limit)
    elif args.what == 'report':
        report()
    else:
        print(json.dumps(run_case(args.cases[0], args.phases[0], not args.plain)))

if __name__ == '__main__':
    main()
