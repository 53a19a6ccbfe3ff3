"""A forward and backward pass of G in graphs of torch.compile beside the same without, in CPU-seconds, by turns in one run.

    python -m benchmarks.cost.compiled_step [--cases=NAME,...] [--rounds=N] [--out=FILE.json]

Networks are those of device_step.py at 32x32 pixels in float32, batch 8, on one thread; graphs are made by Inductor, which takes
minutes of CPU time once, given in seconds. `graphs` is how many were made, which stays the same after the first pass."""

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
CASES = {**{f'StyleGAN2 {name}': case for name, case in SYNTHESES.items()},
         **{f'FastGAN lite {name}': (make, dict(kwargs, lite=True)) for name, (make, kwargs) in FASTGANS.items()}}

def measure(name: str, rounds: int) -> dict:
    """Return the CPU-seconds of a pass in eager mode and compiled, their ratios by round, and what compiling took."""
    make, kwargs = CASES[name]
    dynamo.reset()
    torch.manual_seed(0)
    G = make(RESOLUTION, **kwargs)
    for module in G.modules():
        if hasattr(module, 'use_fp16'):
            module.use_fp16 = False
    inputs = [torch.randn(BATCH, G.num_ws, G.w_dim)] if name.startswith('StyleGAN2') else \
        [torch.randn(BATCH, G.z_dim), torch.zeros(BATCH, 0)]
    compiled, graphs = torch.compile(G), lambda: dynamo.utils.counters['stats']['unique_graphs']
    def seconds(network):
        start = time.process_time()
        network(*inputs).square().mean().backward()
        return time.process_time() - start
    before = graphs()
    first = seconds(compiled)
    made = graphs() - before
    for network in (compiled, G):
        seconds(network)
    pairs = [(seconds(compiled), seconds(G)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    return dict(compiled=statistics.median(a for a, _ in pairs), eager=statistics.median(b for _, b in pairs),
                ratio=statistics.median(ratios), spread=[min(ratios), max(ratios)], first=first, graphs=[made, graphs() - before])

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
        print(f'{name}: {row["ratio"]:.2f} ({row["spread"][0]:.2f} to {row["spread"][1]:.2f}) of {row["eager"]:.2f} CPU-s; '
              f'compiled in {row["first"]:.0f} CPU-s; graphs {row["graphs"]}', flush=True)
        if args.out:
            args.out.write_text(json.dumps(report, indent=1) + '\n')

if __name__ == '__main__':
    main()
