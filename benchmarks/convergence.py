"""Does a Spider generator learn faster than a tuned Gaussian one? The grey pair (grey_pair.py), 16x16, tiny networks.

    python benchmarks/convergence.py tune       # equal grids for the Gaussian and the residual arms, a seed of its own
    python benchmarks/convergence.py run        # every arm with its tuned rates, fresh seeds
    python benchmarks/convergence.py report     # docs/convergence-table.md and docs/convergence.svg from the JSON

Every run is the reference host's own train.py through the attached line; there is no training loop here. Runs that are in
--work already are not run again. `run` and `tune` write benchmarks/results/convergence*.json: device, versions, settings,
one row per seed. The ratio is the number of iterations an arm needs to reach the best score of the Gaussian of the same seed,
over the number the Gaussian needed; runs that never reach it are counted, not dropped.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import convergence_report
import grey_pair
import torch

import spider_plugin
from spider_plugin.demo.analysis import copy_check, detector_features, iterations_ratio
from spider_plugin.io.rebuild import load_generator
from spider_plugin.resources import resource_dir

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results'

BATCH, GAMMA, ITERATIONS, EVERY = 32, 0.5, 600, 100  # EVERY: iterations between two scores
TUNING_SEED = 100
SEEDS = [20, 21, 22]

NETWORKS = {
    'dcgan':     ['--cfg=dcgan'],
    'stylegan2': ['--cfg=stylegan2', '--cbase=256', '--cmax=32', '--map-depth=2', '--style-mixing=0', '--pl-weight=0'],
}
SOURCES = {     # arm -> --spider-source, {work} is the folder of the pair
    'gaussian':   None,
    'residual':   '{work}/source.zip',
    'covariance': 'covariance:{work}/source.zip',   # Gaussian images with the source's mean and covariance
}
GRIDS = {       # (glr, dlr), the same for every arm of a network
    'dcgan':     [(1e-3, 1e-2), (2e-3, 1e-2), (2e-3, 2e-2), (5e-3, 1e-2)],
    'stylegan2': [(5e-3, 1e-2), (1e-2, 2e-2), (2e-2, 2e-2), (2e-2, 4e-2)],
}
TUNED_LIKE = {'covariance': 'residual'}  # the control runs with the rates that were best for the residual

#----------------------------------------------------------------------------
# One run: train.py in a process of its own, one thread, scores from its metric file.

def train(work, network, arm, glr, dlr, seed):
    """Returns the row of one run; `curve` is a list of [iteration, score]."""
    outdir = work / 'runs' / f'{network}-{arm}-{glr:g}-{dlr:g}-seed{seed}'
    finished = outdir / 'finished'
    if not finished.is_file():
        outdir.mkdir(parents=True, exist_ok=True)
        kimg = BATCH * EVERY / 1000
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   f'--outdir={outdir}', f'--data={work}/target.zip', f'--batch={BATCH}', f'--gamma={GAMMA}', '--aug=noaug',
                   f'--glr={glr}', f'--dlr={dlr}', f'--seed={seed}', f'--kimg={BATCH * ITERATIONS / 1000}', f'--tick={kimg}',
                   '--snap=1', '--metrics=fid1k', f'--detector={work}/detector.pt', '--metric-at-start=true',
                   '--threads=1', '--workers=1', *NETWORKS[network]]
        if SOURCES[arm]:
            command += [f'--spider-source={SOURCES[arm].format(work=work)}', '--spider-mapping=residual']
        env = dict(os.environ, OMP_NUM_THREADS='1', SPIDER_CACHE_DIR=str(work / 'cache'), DNNLIB_CACHE_DIR=str(work / 'cache'))
        with open(outdir / 'output.txt', 'w') as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=env)
        finished.touch()
    run_dir = max(outdir.glob('*-gpus1-*'))
    scores = {}
    for line in (run_dir / 'metric-fid1k.jsonl').read_text().splitlines():
        entry = json.loads(line)
        scores[entry['cur_nimg'] // BATCH] = entry['results']['fid1k']
    return dict(network=network, arm=arm, glr=glr, dlr=dlr, seed=seed, run_dir=str(run_dir.relative_to(work)),
                curve=[[iteration, round(score, 2)] for iteration, score in sorted(scores.items())])

def train_all(work, jobs, processes):
    """Rows of all jobs, in their order; a line for each that ends."""
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(train, work, *job): job for job in jobs}
        for done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
            row = future.result()
            print(f'{done}/{len(jobs)}  {row["network"]} {row["arm"]} glr {row["glr"]:g} dlr {row["dlr"]:g} '
                  f'seed {row["seed"]}: best {best(row["curve"]):.0f}, start {row["curve"][0][1]:.0f}', flush=True)
        return [future.result() for future in futures]

#----------------------------------------------------------------------------
# Is it a copy? Distances of 500 samples of the last snapshot to their own source images and to the target set.

@torch.no_grad()
def copies(work, run_dir, baseline_dir):
    """spider_plugin.demo.analysis.copy_check of one Spider run; the Gaussian run of the same seed stands beside it."""
    G, B = (load_generator(max(path.glob('network-snapshot-*.pkl'))) for path in (run_dir, baseline_dir))
    z, c = torch.randn([500, 512], generator=torch.Generator().manual_seed(0)), torch.zeros([500, 0])
    to_uint8 = lambda x: ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    images = dict(
        spider   = to_uint8(G(z[:, : G.z_dim], c, noise_mode='const')),
        sources  = to_uint8(G.source.sample(z[:, : G.z_dim])),
        baseline = to_uint8(B(z[:, : B.z_dim], c, noise_mode='const')),
        target   = grey_pair.target_images(2000),
        fresh    = grey_pair.target_images(500, seed=1))
    detector = torch.jit.load(str(work / 'detector.pt'))
    return copy_check(images, {name: detector_features(detector, x) for name, x in images.items()})

def best(curve):
    """The lowest score after iteration 0."""
    return min(score for iteration, score in curve if iteration > 0)

def compare(work, rows):
    """Adds to each row of a Spider arm its ratio to the Gaussian of the same network and seed, and its copy check."""
    gaussian = {(row['network'], row['seed']): row for row in rows if row['arm'] == 'gaussian'}
    for row in rows:
        if row['arm'] != 'gaussian':
            baseline = gaussian[row['network'], row['seed']]
            row['ratio'], row['upper_bound'] = iterations_ratio(baseline['curve'], row['curve'])
            row['copy_check'] = copies(work, work / row['run_dir'], work / baseline['run_dir'])
    return rows

#----------------------------------------------------------------------------

def environment():
    return dict(device=f'{platform.machine()} cpu, one thread a run', python=platform.python_version(), torch=torch.__version__,
                spider_plugin=spider_plugin.__version__)

def settings():
    return dict(batch=BATCH, gamma=GAMMA, iterations=ITERATIONS, networks=NETWORKS, sources=SOURCES, grids=GRIDS,
                metric='fid1k on the detector of grey_pair.py')

def write_json(name, **content):
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(dict(environment=environment(), settings=settings(), **content), indent=1) + '\n')

def prepare(work):
    work.mkdir(parents=True, exist_ok=True)
    grey_pair.build_datasets(work)
    if not (work / 'detector.pt').is_file():
        torch.set_num_threads(1)
        print('training the detector (a minute)', flush=True)
        grey_pair.train_detector(work / 'detector.pt')

def tune(work, processes, networks):
    prepare(work)
    jobs = [(network, arm, *rates, TUNING_SEED)
            for network in networks for rates in GRIDS[network] for arm in SOURCES if arm not in TUNED_LIKE]
    rows = train_all(work, jobs, processes)
    chosen = {}
    for row in sorted(rows, key=lambda row: -best(row['curve'])):
        chosen[f'{row["network"]}/{row["arm"]}'] = [row['glr'], row['dlr']]
    write_json('convergence_tuning.json', seed=TUNING_SEED, chosen=chosen, rows=rows)

def run(work, processes, networks):
    prepare(work)
    chosen = json.loads((RESULTS / 'convergence_tuning.json').read_text())['chosen']
    jobs = [(network, arm, *chosen[f'{network}/{TUNED_LIKE.get(arm, arm)}'], seed)
            for seed in SEEDS for network in networks for arm in SOURCES]
    write_json('convergence.json', seeds=SEEDS, rows=compare(work, train_all(work, jobs, processes)))

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['tune', 'run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'convergence', help='datasets, detector, runs')
    parser.add_argument('--processes', type=int, default=os.cpu_count(), help='runs side by side, one thread each')
    parser.add_argument('--networks', nargs='+', choices=list(NETWORKS), default=list(NETWORKS))
    args = parser.parse_args()
    if args.what == 'report':
        convergence_report.write(json.loads((RESULTS / 'convergence.json').read_text()))
    else:
        {'tune': tune, 'run': run}[args.what](args.work.resolve(), args.processes, args.networks)

if __name__ == '__main__':
    main()
