"""A forward and backward pass of G in graphs of torch.compile beside the same without, in CPU-seconds, by turns in one run.

    python -m benchmarks.cost.compiled_step [--cases=NAME,...] [--rounds=N] [--out=FILE.json]

Networks are those of device_step.py at 32x32 pixels in float32, batch 8, on one thread; graphs are made by Inductor, which takes
some seconds once, given in CPU-seconds. It is told to leave images in the layout that they have (LAYOUT); beside it are graphs of
torch.compile without options, which hold images by channels. `graphs` is how many of the former were made: the same after the
first pass."""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch._dynamo as dynamo

from benchmarks.cost.device_step import FASTGANS, SYNTHESES

RESOLUTION, BATCH = 32, 8
LAYOUT = dict(layout_optimization=False)
CASES = {**{f'StyleGAN2 {name}': case for name, case in SYNTHESES.items()},
         **{f'FastGAN lite {name}': (make, dict(kwargs, lite=True)) for name, (make, kwargs) in FASTGANS.items()}}

def measure(name: str, rounds: int) -> dict:
    """Return the CPU-seconds of a pass in eager mode and compiled in both ways, their ratios, and what compiling took."""
    make, kwargs = CASES[name]
    dynamo.reset()
    torch.manual_seed(0)
    G = make(RESOLUTION, **kwargs)
    for module in G.modules():
        if hasattr(module, 'use_fp16'):
            module.use_fp16 = False
    inputs = [torch.randn(BATCH, G.num_ws, G.w_dim)] if name.startswith('StyleGAN2') else \
        [torch.randn(BATCH, G.z_dim), torch.zeros(BATCH, 0)]
    def seconds(network):
        start = time.process_time()
        network(*inputs).square().mean().backward()
        return time.process_time() - start
    def graphs():
        return dynamo.utils.counters['stats']['unique_graphs']
    compiled, before = torch.compile(G, options=LAYOUT), graphs()
    first, made = seconds(compiled), graphs() - before
    for _ in range(2):
        seconds(compiled)
    after = graphs() - before
    networks = dict(compiled=compiled, without_options=torch.compile(G), eager=G)
    for network in networks.values():
        seconds(network)
    passes = [{way: seconds(network) for way, network in networks.items()} for _ in range(rounds)]
    report = {way: statistics.median(one[way] for one in passes) for way in networks}
    for way, label in (('compiled', 'ratio'), ('without_options', 'ratio_without_options')):
        ratios = [one[way] / one['eager'] for one in passes]
        report |= {label: statistics.median(ratios), label.replace('ratio', 'spread'): [min(ratios), max(ratios)]}
    return dict(report, first=first, graphs=[made, after])

def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--cases', default='', help='comma-separated beginnings of their names; default: all')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in CASES if case.startswith(tuple(args.cases.split(',')))]
    if not cases:
        parser.error(f'--cases: no case begins with {args.cases}; there are {", ".join(CASES)}')
    report = dict(device=platform.processor() or platform.machine(), torch=torch.__version__, threads=1, resolution=RESOLUTION,
                  batch=BATCH, rounds=args.rounds, cases={})
    for name in cases:
        row = report['cases'][name] = measure(name, args.rounds)
        print(f'{name}: {row["ratio"]:.2f} ({row["spread"][0]:.2f} to {row["spread"][1]:.2f}) of {row["eager"]:.2f} CPU-s, '
              f'without options {row["ratio_without_options"]:.2f}; compiled in {row["first"]:.0f} CPU-s; '
              f'graphs {row["graphs"]}', flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
