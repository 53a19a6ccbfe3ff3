"""Does a source help on each backbone? Gaussian, paper mapping, residual and cascade at demo scale, 16x16, tiny networks.

    python -m benchmarks.quality.backbones run       # tunes every arm on a seed of its own, then trains fresh seeds; resumable
    python -m benchmarks.quality.backbones report    # the table of docs/generators.md from the JSON

Every run is the reference host's own train.py through the attached line, on the grey pair (grey_pair.py): mosaics of four digits,
the digit in the upper left being the class where there are classes. Arms of a backbone have the same grid of learning rates and
the same length; a cascade's length holds that of its source. Runs that are in --work already are not run again. `run` writes
benchmarks/results/backbones.json after each backbone: device, versions, settings, one row per run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from statistics import fmean

import torch

import spider_plugin
from benchmarks.common import grey_pair
from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from spider_plugin.files.cache import atomic_file
from spider_plugin.resources import resource_dir

RESULTS = ROOT / 'benchmarks' / 'results' / 'backbones.json'
PAGE = ROOT / 'docs' / 'generators.md'

BATCH, GAMMA, TUNING_SEED, SEEDS = 32, 0.5, 100, [30, 31, 32]
CASCADE_SHARE = 1 / 3   # of a cascade's length that its source trains

#----------------------------------------------------------------------------
# backbone -> options, iterations, grid of (glr, dlr), arms; or, in place of a grid, the backbone whose rates its arms take, or
# one pair for all arms: that of StyleGAN2 was chosen by an earlier study with a larger network (convergence_first.json).
# StyleGAN3 takes no residual. `matched` is a residual whose source has been moved to the target's mean and covariance.

CONVOLUTIONAL = [(1e-3, 1e-2), (2e-3, 2e-2)]
STYLES = [(2.5e-3, 5e-3), (5e-3, 1e-2), (1e-2, 2e-2), (2e-2, 4e-2)]
STYLE_ARGS = ['--map-depth=2', '--style-mixing=0', '--pl-weight=0', '--cbase=128', '--cmax=16']
ARMS = ('gaussian', 'paper', 'residual', 'matched')

BACKBONES = {
    'dcgan':               dict(args=['--cfg=dcgan'], its=300, grid=CONVOLUTIONAL, arms=(*ARMS, 'cascade')),
    'dcgan conditional':   dict(args=['--cfg=dcgan', '--cond=1'], its=150, rates_of='dcgan', arms=ARMS),
    'pggan':               dict(args=['--cfg=pggan', '--pg-loss=nonsaturating', '--pg-kimg=0.6', '--cbase=256',
                                      '--cmax=32'], its=150, grid=[(2e-3, 2e-3), (5e-3, 5e-3)], arms=ARMS),
    'stylegan2':           dict(args=['--cfg=stylegan2', *STYLE_ARGS], its=90, grid=STYLES, arms=ARMS),
    'stylegan2, one pair': dict(args=['--cfg=stylegan2', *STYLE_ARGS], its=90, rates=(1e-2, 2e-2), arms=ARMS),
    'stylegan3-t':         dict(args=['--cfg=stylegan3-t', *STYLE_ARGS], its=60, grid=STYLES[::2], arms=('gaussian', 'paper')),
}
MAPPINGS = dict(paper='paper-16x32', residual='residual', matched='residual', cascade='residual')

#----------------------------------------------------------------------------
# Data: the grey pair, the same images without and with classes.

def prepare(work):
    work.mkdir(parents=True, exist_ok=True)
    grey_pair.build_datasets(work)
    for name, half, jittered in (('target', 'B', False), ('source', 'A', True)):
        if not (work / f'{name}-classes.zip').is_file():
            digits = grey_pair.mosaics(half, 8000, 0, jittered)[1][:, 0].tolist()
            with zipfile.ZipFile(work / f'{name}.zip') as plain:
                files = {entry: plain.read(entry) for entry in plain.namelist() if entry != 'dataset.json'}
            labels = [[entry, digit] for entry, digit in zip(sorted(files), digits, strict=True)]
            with atomic_file(work / f'{name}-classes.zip') as temp, zipfile.ZipFile(temp, 'w') as archive:
                for entry, content in [*files.items(), ('dataset.json', json.dumps(dict(labels=labels)))]:
                    archive.writestr(entry, content)
    if not (work / 'detector.pt').is_file():
        torch.set_num_threads(1)
        print('training the detector (a minute)', flush=True)
        grey_pair.train_detector(work / 'detector.pt')

#----------------------------------------------------------------------------
# One run: train.py in a process of its own, one thread, scores from its metric file.

def train(work, backbone, arm, glr, dlr, seed):
    """Returns the row of one run; `curve` is a list of [iteration, score], which for a cascade begins where its source ends."""
    what = BACKBONES[backbone]
    classes = '-classes' if '--cond=1' in what['args'] else ''
    name = f'{backbone.replace(", ", "-").replace(" ", "-")}-{arm}-{glr:g}-{dlr:g}-seed{seed}'
    its, every, args, before, seconds = what['its'], what['its'] // 3, [], 0, 0
    if arm == 'cascade':
        before = round(its * CASCADE_SHARE)
        source, seconds = train_once(work, f'{name}-source', f'{work}/source.zip', what['args'], before, None, glr, dlr, seed)
        args = [f'--spider-source={max(source.glob("network-snapshot-*.pkl"))}']
    elif arm != 'gaussian':
        args = [f'--spider-source={work}/source{classes}.zip']
    if args:
        args += [f'--spider-mapping={MAPPINGS[arm]}', f'--spider-match={"covariance" if arm == "matched" else "none"}',
                 '--spider-skip=fixed']
    data, args = f'{work}/target{classes}.zip', [*what['args'], *args]
    run_dir, more = train_once(work, name, data, args, its - before, every, glr, dlr, seed)
    scores = [json.loads(line) for line in (run_dir / 'metric-fid1k.jsonl').read_text().splitlines()]
    curve = sorted([before + entry['cur_nimg'] // BATCH, round(entry['results']['fid1k'], 1)] for entry in scores)
    return dict(backbone=backbone, arm=arm, glr=glr, dlr=dlr, seed=seed, iterations=its, curve=curve, cpu_seconds=seconds + more)

def train_once(work, name, data, args, iterations, every, glr, dlr, seed):
    """(run directory, CPU seconds of the process and its children)."""
    outdir = work / 'runs' / name
    finished = outdir / 'finished'
    if not finished.is_file():
        outdir.mkdir(parents=True, exist_ok=True)
        tick = BATCH * (every or iterations) / 1000
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   f'--outdir={outdir}', f'--data={data}',
                   f'--batch={BATCH}', f'--gamma={GAMMA}', '--aug=noaug', f'--glr={glr}', f'--dlr={dlr}',
                   f'--seed={seed}', f'--kimg={BATCH * iterations / 1000}', f'--tick={tick}', '--snap=1', '--threads=1',
                   '--workers=0', *args]
        if every:
            command += ['--metrics=fid1k', f'--detector={work}/detector.pt', '--metric-at-start=true']
        env = dict(os.environ, OMP_NUM_THREADS='1', SPIDER_CACHE_DIR=str(work / 'cache'), DNNLIB_CACHE_DIR=str(work / 'cache'))
        start = sum(os.times()[2:4])
        with open(outdir / 'output.txt', 'w') as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=env)
        finished.write_text(f'{sum(os.times()[2:4]) - start:.1f}')
    return max(outdir.glob('*-gpus1-*')), float(finished.read_text())

#----------------------------------------------------------------------------
# Last scores decide, as they would for a user who has this much time.

def run(work, names):
    prepare(work)
    for backbone in names:
        what = BACKBONES[backbone]
        tuned = what.get('rates_of', backbone)
        grid = BACKBONES[tuned].get('grid', [])
        tuning = [said(train(work, tuned, arm, *rates, TUNING_SEED)) for arm in what['arms'] for rates in grid]
        chosen = dict.fromkeys(what['arms'], what.get('rates'))
        for row in sorted(tuning, key=lambda row: -row['curve'][-1][1]):
            chosen[row['arm']] = row['glr'], row['dlr']
        rows = [said(train(work, backbone, arm, *chosen[arm], seed))
                for seed in SEEDS for arm in what['arms']]
        write(backbone, dict(tuning=tuning, rows=rows))

def said(row):
    scores = ' '.join(f'{score:.0f}' for _, score in row['curve'])
    print(f'{time.strftime("%H:%M:%S")}  {row["backbone"]} {row["arm"]} glr {row["glr"]:g} dlr {row["dlr"]:g} '
          f'seed {row["seed"]}: {scores}  ({row["cpu_seconds"]:.0f} s)', flush=True)
    return row

def write(backbone, result):
    RESULTS.parent.mkdir(exist_ok=True)
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else dict(results={})
    content.update(
        environment=dict(device=f'{platform.machine()} cpu, one thread', python=platform.python_version(),
                         torch=torch.__version__, spider_plugin=spider_plugin.__version__),
        settings=dict(batch=BATCH, gamma=GAMMA, tuning_seed=TUNING_SEED, seeds=SEEDS, cascade_share=CASCADE_SHARE,
                      backbones=BACKBONES, metric='fid1k on the detector of grey_pair.py'))
    results = content['results'] | {backbone: result}
    content['results'] = {name: results[name] for name in BACKBONES if name in results}
    RESULTS.write_text(json.dumps(content, indent=1) + '\n')

#----------------------------------------------------------------------------

def table(results):
    lines = ['| backbone | arm | lr G / D | iterations | score at the start | last score, per seed | mean | of the Gaussian\'s, '
             'per seed | s |', '|---' * 9 + '|']
    for backbone, result in results.items():
        last = {(row['arm'], row['seed']): row['curve'][-1][1] for row in result['rows']}
        for arm in dict.fromkeys(row['arm'] for row in result['rows']):
            rows = [row for row in result['rows'] if row['arm'] == arm]
            ratios = '1' if arm == 'gaussian' else ' '.join(
                f'{last[arm, row["seed"]] / last["gaussian", row["seed"]]:.2f}' for row in rows)
            lasts = ' '.join(f'{last[arm, row["seed"]]:.0f}' for row in rows)
            lines.append(f'| {backbone} | {arm} | {rows[0]["glr"]:g} / {rows[0]["dlr"]:g} | {rows[0]["iterations"]} '
                         f'| {fmean(row["curve"][0][1] for row in rows):.0f} | {lasts} '
                         f'| {fmean(last[arm, row["seed"]] for row in rows):.0f} | {ratios} '
                         f'| {fmean(row["cpu_seconds"] for row in rows):.0f} |')
    return '\n'.join(lines) + '\n'

def report():
    fill(PAGE, dict(table=table(json.loads(RESULTS.read_text())['results'])))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'backbones', help='datasets, detector, runs')
    parser.add_argument('--backbones', nargs='+', choices=list(BACKBONES), default=list(BACKBONES))
    args = parser.parse_args()
    report() if args.what == 'report' else run(args.work.resolve(), args.backbones)

if __name__ == '__main__':
    main()
