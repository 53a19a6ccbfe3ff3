"""Does a Spider generator learn faster than a tuned Gaussian one? Four pairs, many arms, tiny networks on a CPU.

    python -m benchmarks.convergence.study run            # tunes what is not tuned, runs every cell of the plan, writes the JSON
    python -m benchmarks.convergence.study report         # the tables and the plot of docs/convergence.md from the JSON
    python -m benchmarks.convergence.study run --cells controls --pairs carved wall    # a part of it
    python -m benchmarks.convergence.study run --quick    # two short runs; the JSON goes to --work

arms.py holds what was fixed beforehand: arms, grids, seeds, cells. Every run is the reference host's own train.py
through the attached line; there is no training loop here. What is in --work is not run again, so a run that was stopped goes
on where it was, and the JSON holds the runs that are there. Rules and results: docs/convergence.md.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import platform
from pathlib import Path

import torch

import spider_plugin
from benchmarks.common.paths import ROOT
from benchmarks.convergence import analysis, arms, pairs, report, runs
from spider_plugin.files.cache import atomic_file

RESULTS = ROOT / 'benchmarks' / 'results'

#----------------------------------------------------------------------------

def prepare(work, names, quick):
    work.mkdir(parents=True, exist_ok=True)
    for name in names:
        pairs.build(work, name, images=500 if quick else pairs.IMAGES)
    if not (work / 'neutral.pt').is_file():
        torch.set_num_threads(1)
        print('training the neutral detector (a minute)', flush=True)
        with atomic_file(work / 'neutral.pt') as temp:
            pairs.train_detector(temp, iterations=20 if quick else 1500)

def run_all(pool, jobs):
    """Rows of the jobs, (work, cells, arm, seed, rates) each, in their order; a line for each that ends."""
    futures = [pool.submit(runs.row, *job) for job in jobs]
    for future in concurrent.futures.as_completed(futures):
        row = future.result()
        curve = row['curves']['neutral']
        print(f'{row["network"]} {row["pair"]} {row["arm"]} {row["glr"]:g}/{row["dlr"]:g} seed {row["seed"]}: '
              f'{curve[0][1]:.1f} at the start, best {analysis.best(curve)[0]:.1f}, {row["cpu_seconds"]:.0f} CPU-s', flush=True)
    return [future.result() for future in futures]

#----------------------------------------------------------------------------
# Tuning: the same trials for each arm that is tuned, on the grey pair and seeds that are never reported. What wins is kept.

def tune(pool, work, network, names):
    """Adds the rates of the named arms of a network to the tuning file; returns {arm: (glr, dlr)} for every arm."""
    path = RESULTS / 'convergence_tuning.json'
    known = json.loads(path.read_text()) if path.is_file() else dict(chosen={}, rows=[])
    todo = [arm for arm in names if f'{network}/{arm}' not in known['chosen']]
    if todo:
        prepare(work, [arms.TUNING_PAIR], quick=False)
        cells = arms.Cells('tuning', network, arms.TUNING_PAIR, todo, arms.TUNING_SEEDS)
        rows = run_all(pool, [(work, cells, arm, seed, {arm: rates}) for seed in cells.seeds for rates in arms.GRIDS[network]
                              for arm in todo])
        for arm in todo:
            ends = {rates: analysis.mean(analysis.smooth(row['curves']['neutral'])[-1][1] for row in rows
                                         if row['arm'] == arm and (row['glr'], row['dlr']) == rates)
                    for rates in arms.GRIDS[network]}
            known['chosen'][f'{network}/{arm}'] = list(min(ends, key=ends.get))
        known['rows'] += rows
        write(path, dict(known, environment=environment(), pair=arms.TUNING_PAIR, seeds=arms.TUNING_SEEDS, grids=arms.GRIDS))
    chosen = {arm: known['chosen'].get(f'{network}/{spec.rates_of or arm}') for arm, spec in arms.ARMS.items()}
    return {arm: tuple(rates) for arm, rates in chosen.items() if rates}

#----------------------------------------------------------------------------

def run(work, plan, processes, quick):
    """Runs the cells of the plan, each seed of a cell with all its arms, and returns the rows of all of them."""
    prepare(work, dict.fromkeys(cells.pair for cells in plan), quick)
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as pool:
        rows = []
        for cells in plan:
            needed = dict.fromkeys(arms.ARMS[arm].rates_of or arm for arm in cells.arms)
            rates = {arm: arms.GRIDS[cells.network][2] for arm in arms.ARMS} if quick else tune(pool, work, cells.network, needed)
            for seed in cells.seeds:
                for stage in (False, True):     # the generators that others start from come first
                    rows += run_all(pool, [(work, cells, arm, seed, rates) for arm in cells.arms
                                           if arms.ARMS[arm].pretrained == stage])
                publish(work if quick else RESULTS, rows)
    return rows

def publish(folder, rows):
    """convergence.json: the rows of this plan in place of those of an earlier one, and the comparison of all."""
    path = folder / 'convergence.json'
    name = lambda row: (row['network'], row['pair'], row['arm'], row['seed'], row['curves']['neutral'][-1][0])
    kept = json.loads(path.read_text())['rows'] if path.is_file() else []
    rows = sorted(({name(row): row for row in kept} | {name(row): row for row in rows}).values(), key=place)
    entries = analysis.compare(rows, arms.BASELINES)
    write(path, dict(environment=environment(), plan=[dataclasses.asdict(cells) for cells in arms.PLAN],
                     arms={name: dataclasses.asdict(arm) for name, arm in arms.ARMS.items()},
                     pairs={name: pair.about for name, pair in pairs.PAIRS.items()}, common=arms.COMMON, networks=arms.NETWORKS,
                     table=entries, rows=rows))

def place(row):
    """Of a row in the tables: by network, budget, pair, arm and seed, whatever the order of the runs."""
    orders = zip((arms.NETWORKS, pairs.PAIRS, arms.ARMS), (row['network'], row['pair'], row['arm']), strict=True)
    network, pair, arm = (list(names).index(name) for names, name in orders)
    return network, row['curves']['neutral'][-1][0], pair, arm, row['seed']

def environment():
    return dict(device=f'{platform.machine()} cpu, one thread a run', python=platform.python_version(), torch=torch.__version__,
                spider_plugin=spider_plugin.__version__)

def write(path, content):
    with atomic_file(path) as temp:
        temp.write_text(json.dumps(content, separators=(',', ':')).replace('{"cells"', '\n{"cells"') + '\n')

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'convergence', help='datasets, detector, runs')
    parser.add_argument('--processes', type=int, default=os.cpu_count(), help='runs side by side, one thread each')
    names = list(dict.fromkeys(cells.name for cells in arms.PLAN))
    parser.add_argument('--cells', nargs='+', default=names, choices=names, help='parts of the plan')
    parser.add_argument('--pairs', nargs='+', default=list(pairs.PAIRS), choices=list(pairs.PAIRS))
    parser.add_argument('--quick', action='store_true', help='two short runs')
    args = parser.parse_args()
    work = args.work.resolve()
    if args.what == 'report':
        if not (RESULTS / 'convergence.json').is_file():
            parser.error(f'{RESULTS / "convergence.json"} is not there yet; call run first')
        report.write(json.loads((RESULTS / 'convergence.json').read_text()), work)
        return
    plan = [cells for cells in arms.PLAN if cells.name in args.cells and cells.pair in args.pairs]
    run(work, arms.QUICK if args.quick else plan, args.processes, args.quick)

if __name__ == '__main__':
    main()
