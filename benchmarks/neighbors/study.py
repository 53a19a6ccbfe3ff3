"""Does SID, FID or KID tell beforehand which source trains faster? One target, thirteen sources, fresh seeds, 16x16 grey.

    python -m benchmarks.neighbors.study run            # every source and the Gaussian, benchmarks/results/neighbors.json
    python -m benchmarks.neighbors.study report         # the tables and the plot of docs/neighbors.md from the JSON
    python -m benchmarks.neighbors.study run --quick    # a minute: three sources, one seed, short; the JSON goes to --work

Target and scoring detector are those of common/grey_pair.py, the sources those of sources.py. Every run is the reference
host's own train.py through the attached line, with the rates that the residual was tuned to on another seed
(results/convergence_tuning.json). Distances between source and target are measured on a detector that has seen neither, and,
to show how much that matters, on the scoring detector and on plain pixels. Runs that are in --work already are not run again.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import spider_plugin
from benchmarks.common import grey_pair
from benchmarks.common.paths import ROOT
from benchmarks.neighbors import analysis, report, sources
from spider_plugin.demo import data
from spider_plugin.demo.analysis import detector_features
from spider_plugin.files.cache import atomic_file, cache_dir
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.metrics.sid import sid
from spider_plugin.resources import resource_dir

RESULTS = ROOT / 'benchmarks' / 'results' / 'neighbors.json'
FULL = dict(
    sources             = list(sources.SOURCES),
    seeds               = [30, 31, 32],
    iterations          = 600,
    every               = 50,       # iterations between two scores
    early               = 200,      # the iteration of the early score
    images              = 8000,     # of each source; distances take the first half of two sets
    detector_iterations = grey_pair.ITERATIONS,
)
QUICK = dict(FULL, sources=['turned', 'strokes', 'noise'], seeds=[0], iterations=60, every=20, early=40, images=1000,
             detector_iterations=60)
TRAINING = dict(cfg='dcgan', aug='noaug', batch=32, gamma=0.5, glr=2e-3, dlr=2e-2)  # rates: results/convergence_tuning.json
PREDICTORS = dict(
    sid_source_target = '|SID(source, target)|',
    sid_target_source = '|SID(target, source)|',
    fid               = 'FID',
    kid               = 'KID',
    location          = 'location',
)

#----------------------------------------------------------------------------
# What is prepared once: datasets and the two detectors.

def prepare(work, settings):
    work.mkdir(parents=True, exist_ok=True)
    write = lambda name, images: (work / f'{name}.zip').is_file() or data.write_zip(work / f'{name}.zip', images())
    write('target', lambda: grey_pair.target_images(settings['images']))
    for name in settings['sources']:
        write(name, lambda name=name: sources.source_images(name, settings['images']))
    torch.set_num_threads(1)
    grey_pair.ITERATIONS = settings['detector_iterations']      # both detectors read it
    for name, train in (('scoring', grey_pair.train_detector), ('neutral', sources.train_neutral_detector)):
        path = work / f'{name}.pt'
        if not path.is_file():
            print(f'training the {name} detector', flush=True)
            with atomic_file(path) as temp:
                train(temp)

#----------------------------------------------------------------------------
# One run: train.py in a process of its own, one thread, scores from its metric file.

def train(work, arm, seed, settings):
    """Row of one run: `curve` is a list of [iteration, score]. Its snapshots are removed when it is done."""
    outdir = work / 'runs' / f'{arm}-{settings["iterations"]}-seed{seed}'
    finished = outdir / 'finished'
    if not finished.is_file():
        outdir.mkdir(parents=True, exist_ok=True)
        kimg = lambda iterations: TRAINING['batch'] * iterations / 1000
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   f'--outdir={outdir}', f'--data={work}/target.zip', f'--seed={seed}',
                   *[f'--{name}={value}' for name, value in TRAINING.items()],
                   f'--kimg={kimg(settings["iterations"])}', f'--tick={kimg(settings["every"])}', '--snap=1', '--metrics=fid1k',
                   f'--detector={work}/scoring.pt', '--metric-at-start=true', '--threads=1', '--workers=0']
        if arm != 'gaussian':
            command += [f'--spider-source={work}/{arm}.zip', '--spider-mapping=residual', '--spider-match=none',
                        '--spider-skip=fixed']
        env = dict(os.environ, OMP_NUM_THREADS='1', SPIDER_CACHE_DIR=str(work / 'cache'), DNNLIB_CACHE_DIR=str(work / 'cache'))
        before = _children_seconds()
        with open(outdir / 'output.txt', 'w') as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=env)
        for snapshot in outdir.glob('*/network-snapshot-*.pkl'):
            snapshot.unlink()
        finished.write_text(f'{_children_seconds() - before:.1f}\n')
    scores = {}
    for line in (max(outdir.glob('*-gpus1-*')) / 'metric-fid1k.jsonl').read_text().splitlines():
        entry = json.loads(line)
        scores[entry['cur_nimg'] // TRAINING['batch']] = entry['results']['fid1k']
    return dict(arm=arm, seed=seed, cpu_seconds=float(finished.read_text()),
                curve=[[iteration, round(score, 2)] for iteration, score in sorted(scores.items())])

def _children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

def train_all(work, settings):
    """Rows of all arms and seeds, one after the other; a line for each."""
    jobs = [(arm, seed) for seed in settings['seeds'] for arm in ['gaussian', *settings['sources']]]
    start, rows = time.monotonic(), []
    for arm, seed in jobs:
        rows.append(train(work, arm, seed, settings))
        left = (time.monotonic() - start) / len(rows) * (len(jobs) - len(rows))
        print(f'{len(rows)}/{len(jobs)}  seed {seed} {arm}: {rows[-1]["curve"][0][1]:.0f} at the start, '
              f'{rows[-1]["curve"][-1][1]:.0f} at the end   ETA {left / 60:.0f} min', flush=True)
    return rows

#----------------------------------------------------------------------------
# Distances, on the features of one detector, or on plain pixels.

def distances(work, detector, settings):
    """{source: {predictor: value, and SID's signed values with their intervals}}."""
    net = (lambda x: x.flatten(1) / 255) if detector == 'pixels' else torch.jit.load(str(work / f'{detector}.pt'))
    features = lambda images: detector_features(net, images[: settings['images'] // 2])
    target = features(grey_pair.target_images(settings['images']))
    rows, target_moments = {}, Moments(target)
    for name in settings['sources']:
        source = features(sources.source_images(name, settings['images']))
        forward, backward = sid(source, target), sid(target, source)
        values = dict(sid_source_target=abs(forward.value), sid_target_source=abs(backward.value),
                      fid=fid(Moments(source), target_moments).value, kid=kid(source, target).value, location=forward.location,
                      signed_source_target=forward.value, signed_source_target_ci95=forward.ci95,
                      signed_target_source=backward.value, signed_target_source_ci95=backward.ci95, spread=forward.spread)
        rows[name] = {key: float(f'{float(value):.6g}') for key, value in values.items()}
    return rows

#----------------------------------------------------------------------------
# From rows and distances to rank correlations.

def analyse(rows, distances, settings):
    """(rows of the sources with their outcomes, {detector: {outcome: {predictor: analysis.correlations}}})."""
    curves = {(row['arm'], row['seed']): row['curve'] for row in rows}
    found = {key: analysis.outcomes(curves['gaussian', key[1]], curve, settings['early'])
             for key, curve in curves.items() if key[0] != 'gaussian'}
    result = {}
    for detector, values in distances.items():
        predictors = {name: [values[source][name] for source in settings['sources']] for name in PREDICTORS}
        result[detector] = {}
        for outcome in ('iterations', 'early', 'end'):
            table = np.array([[found[source, seed][outcome] for seed in settings['seeds']] for source in settings['sources']])
            result[detector][outcome] = analysis.correlations(predictors, table, against='fid')
            for entry in result[detector][outcome].values():
                entry['choice'] = settings['sources'][entry['choice']]
    for row in rows:
        if row['arm'] != 'gaussian':
            row['outcomes'] = {name: round(value, 3) if math.isfinite(value) else None
                               for name, value in found[row['arm'], row['seed']].items()}
    return rows, result

def run(work, settings, path):
    prepare(work, settings)
    measured = {detector: distances(work, detector, settings) for detector in ('neutral', 'scoring', 'pixels')}
    rows, result = analyse(train_all(work, settings), measured, settings)
    minutes = round(sum(row['cpu_seconds'] for row in rows) / 60, 1)
    environment = dict(device=f'{platform.machine()} cpu, one thread', cpu_minutes=minutes, python=platform.python_version(),
                       torch=torch.__version__, spider_plugin=spider_plugin.__version__)
    content = dict(environment=environment, settings=dict(settings, training=TRAINING, metric='fid1k on the scoring detector'),
                   predictors=PREDICTORS, distances=measured, correlations=result, rows=rows)
    with atomic_file(path) as temp:
        temp.write_text(json.dumps(content, indent=1) + '\n')
    print(path)

#----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, help='datasets, detectors, runs; a folder of the user\'s cache if not given')
    parser.add_argument('--quick', action='store_true', help='a slice of a minute that proves nothing')
    args = parser.parse_args()
    if args.what == 'report':
        report.write(json.loads(RESULTS.read_text()))
        return
    work = (args.work or cache_dir('benchmarks', 'neighbors')).resolve()
    if args.quick:
        run(work / 'quick', QUICK, work / 'quick' / 'neighbors.json')
    else:
        run(work, FULL, RESULTS)

if __name__ == '__main__':
    main()
