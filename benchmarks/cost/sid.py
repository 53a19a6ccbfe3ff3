"""SID in closed form, by Monte Carlo and by a port of the released algorithm: time, memory, agreement; coverage of the interval.

    python -m benchmarks.cost.sid    # about a quarter of an hour on one core, 4 GB of memory

All in one run on one thread. Features are random, 50,000 + 50,000 x 2048, rectified; the closed form and a slice of the port
run by turns. A slice is one subset at one radius; the port (benchmarks/common/released_sid.py) takes 199 x 20 of them at the same
cost, so a slice's time is multiplied by that. Most of it is memory traffic: the same estimator without tiles, official=True of
sid_monte_carlo, is timed beside it. Times are CPU-seconds. Coverage: how often the 95 % interval of a pair of samples holds the
value of a sample of 200,000, over 1,000 resamplings. Writes benchmarks/results/sid.json.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'     # before numpy and torch are imported

import numpy as np
import torch

from benchmarks.common.paths import ROOT
from benchmarks.common.released_sid import CENTRES, RADII, SUBSETS, one_subset
from benchmarks.common.sid_pairs import POPULATIONS
from spider_plugin.metrics.sid import sid
from spider_plugin.metrics.sid_monte_carlo import sid_monte_carlo

RESULTS = ROOT / 'benchmarks' / 'results'
SEED = 0
SLICE_RADIUS = 20       # The port's radius in a slice: 20 * 0.25 standard deviations.
COVERAGE_DIM = 256
OPTIONS = [dict(), dict(sigma='vector'), dict(order=-1), dict(order=-1, sigma='vector')]

#----------------------------------------------------------------------------

def rectified_features(count, dim, scale, shift, seed):
    """float32 [count, dim] >= 0, made in place so that nothing else raises the peak of memory."""
    features = np.empty([count, dim], dtype=np.float32)
    rng = np.random.default_rng(seed)
    rng.standard_normal(out=features, dtype=np.float32)
    features *= np.linspace(0.1, 0.5, dim, dtype=np.float32) * np.float32(scale)
    features += np.float32(shift)
    return np.maximum(features, 0, out=features)

def timed(function, *args, **kwargs):
    """Result and CPU-seconds."""
    start = time.process_time()
    result = function(*args, **kwargs)
    return result, time.process_time() - start

def peak_memory():
    """Bytes; the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)

def spread_of(values):
    return dict(median=statistics.median(values), min=min(values), max=max(values))

#----------------------------------------------------------------------------

def time_and_agreement(count, dim, rounds, draws):
    """The closed form and slices of the port by turns, then Monte Carlo, on the same features."""
    sid(*np.random.default_rng(0).standard_normal([2, 64, 64]))     # What is loaded at the first call is not counted.
    p, q = rectified_features(count, dim, 1.05, 0.02, SEED), rectified_features(count, dim, 1, 0, SEED + 1)
    before = peak_memory()
    result, first = timed(sid, p, q)
    beyond = peak_memory() - before
    print(f'closed form: {first:.1f} CPU-seconds, {beyond / 2 ** 20:.0f} MiB beyond the features', flush=True)

    tensors, generator = [torch.from_numpy(features) for features in [p, q]], torch.Generator().manual_seed(SEED)
    mean, scale = tensors[1].mean(dim=0), tensors[1].std(dim=0).mean()
    one_subset(*tensors, mean, scale, 1, generator)
    closed, slices, values = [first], [], []
    for index in range(rounds):
        closed.append(timed(sid, p, q)[1])
        value, seconds = timed(one_subset, *tensors, mean, 0.25 * SLICE_RADIUS * scale, 1, generator)
        slices.append(seconds)
        values.append(value.item())
        print(f'round {index + 1} of {rounds}: closed form {closed[-1]:.1f}, slice of the port {seconds:.2f}', flush=True)
    plain = sid(p, q, debias=False)
    port = dict(slice_seconds=spread_of(slices), slices_in_full=RADII * SUBSETS, centres=CENTRES,
                full_seconds=statistics.median(slices) * RADII * SUBSETS, **against(
                    statistics.mean(values), statistics.stdev(values) / rounds ** 0.5, plain.curve[SLICE_RADIUS - 1]))
    drawn, drawn_seconds = timed(sid_monte_carlo, p, q, draws=draws, seed=SEED)
    official, official_seconds = timed(sid_monte_carlo, p, q, official=True, seed=SEED)
    ratios = [seconds * RADII * SUBSETS / ours for seconds, ours in zip(slices, closed[1:])]
    return dict(
        features=[2, count, dim], radii=len(result.radii),
        closed_form=dict(seconds=spread_of(closed), bytes_beyond_features=beyond, value=result.value, ci95=result.ci95,
                         ci95_conditional=result.ci95_conditional, value_without_debias=plain.value),
        monte_carlo=dict(seconds=drawn_seconds, draws=draws, **against(drawn.value, drawn.se, plain.value)),
        official=dict(seconds=official_seconds, **against(official.value, official.se, plain.value)),
        port=port, port_to_closed_form=spread_of(ratios))

def against(value, se, closed):
    """An estimate beside the closed form without debias."""
    return dict(value=value, se=se, closed_form=float(closed), errors_apart=float((value - closed) / se))

#----------------------------------------------------------------------------

def coverage(times, truth_count):
    """Rows: how often the intervals hold the truth, and their mean half-width in units of 1.96 standard deviations."""
    rows = []
    for name, population in POPULATIONS.items():
        draw = population(COVERAGE_DIM)
        truth_pair = draw(truth_count, np.random.default_rng(SEED))
        truths = [sid(*truth_pair, **options) for options in OPTIONS]
        del truth_pair
        for count in [300, 1000]:
            rng = np.random.default_rng(SEED + 1)
            results = [[] for _ in OPTIONS]
            for _ in range(times):
                pair = draw(count, rng)
                for options, row in zip(OPTIONS, results):
                    row.append(sid(*pair, **options))
            rows += [coverage_row(name, count, *row) for row in zip(OPTIONS, truths, results)]
    return rows

def coverage_row(name, count, options, truth, results):
    values, ci95, conditional = np.array([[r.value, r.ci95, r.ci95_conditional] for r in results]).T
    held = lambda half_width: float((np.abs(values - truth.value) < half_width).mean())
    deviation = values.std(ddof=1)
    row = dict(pair=name, samples=count, order=truth.order, sigma=truth.sigma, truth=truth.value, truth_ci95=truth.ci95,
               bias_in_sd=float((values.mean() - truth.value) / deviation), coverage=held(ci95),
               coverage_conditional=held(conditional), width=float(ci95.mean() / (1.96 * deviation)),
               width_conditional=float(conditional.mean() / (1.96 * deviation)))
    print(f'{name:15s} {count:5d} a side, order {truth.order:g}, {truth.sigma}: coverage {100 * row["coverage"]:.1f} %, '
          f'conditional {100 * row["coverage_conditional"]:.1f} %', flush=True)
    return row

#----------------------------------------------------------------------------

def environment():
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        cpu = next(line.split(':')[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name'))
    return dict(device='cpu, one thread', cpu=cpu, cores=os.cpu_count(), python=platform.python_version(),
                numpy=np.__version__, torch=torch.__version__, seed=SEED)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=50_000, help='images a side')
    parser.add_argument('--rounds', type=int, default=8, help='turns of the closed form and the port')
    parser.add_argument('--draws', type=int, default=64, help='pairs of points of the Monte Carlo estimate')
    parser.add_argument('--times', type=int, default=1000, help='resamplings')
    parser.add_argument('--truth', type=int, default=200_000, help='sample that stands for the population')
    parser.add_argument('--out', type=Path, default=RESULTS / 'sid.json')
    args = parser.parse_args()
    torch.set_num_threads(1)
    timing = time_and_agreement(args.count, 2048, args.rounds, args.draws)
    content = dict(environment=environment(), timing=timing,
                   coverage=dict(dimensions=COVERAGE_DIM, resamplings=args.times, truth_samples=args.truth,
                                 rows=coverage(args.times, args.truth)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1) + '\n')
    ratio = timing['port_to_closed_form']
    print(f'\nclosed form {timing["closed_form"]["seconds"]["median"]:.1f} CPU-seconds, port '
          f'{timing["port"]["full_seconds"] / 60:.0f} CPU-minutes: {ratio["median"]:.0f} times as much, '
          f'{ratio["min"]:.0f} to {ratio["max"]:.0f}\n{args.out}')

if __name__ == '__main__':
    main()
