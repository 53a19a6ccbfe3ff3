"""FastGAN (lite), dense against depthwise separable, at demo scale: the grey pair's target (grey_pair.py), 16x16, tiny networks,
the reference host's own discriminator, three seeds.

    python -m benchmarks.quality.fastgan_quality run       # resumable: runs that are in --work already are not run again
    python -m benchmarks.quality.fastgan_quality report    # the table of docs/fastgan.md from the JSON

Both arms have the same options, rates and length, none of them tuned. A projected discriminator is not in it: its features need
images of 128 pixels at least, and an iteration of 4 images takes longer than one of 32 here (projected_stylegan.py has some).
Scores are fid1k on the detector of grey_pair.py: they compare with each other only."""

import argparse
import json
import platform
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from benchmarks.quality import backbones

RESULTS = ROOT / 'benchmarks' / 'results' / 'fastgan_quality.json'
PAGE    = ROOT / 'docs' / 'fastgan.md'
ARMS    = {'dense': [], 'separable': ['--dsc']}
ARGS    = ['--cfg=fastgan_lite', '--cbase=512']
SEEDS, ITERATIONS, GLR, DLR = [40, 41, 42], 150, 2e-3, 5e-3

#----------------------------------------------------------------------------

def run(work):
    backbones.prepare(work)
    rows = []
    for seed in SEEDS:
        for arm, options in ARMS.items():
            run_dir, seconds = backbones.train_once(work, f'fastgan-{arm}-seed{seed}', f'{work}/target.zip', [*ARGS, *options],
                                                    ITERATIONS, ITERATIONS, GLR, DLR, seed)
            scores = [json.loads(line) for line in (run_dir / 'metric-fid1k.jsonl').read_text().splitlines()]
            curve = sorted([entry['cur_nimg'] // backbones.BATCH, round(entry['results']['fid1k'], 1)] for entry in scores)
            rows.append(dict(arm=arm, seed=seed, curve=curve, cpu_seconds=seconds))
            print(rows[-1], flush=True)
    content = dict(
        environment=dict(device=f'{platform.machine()} cpu, one thread', python=platform.python_version(),
                         torch=torch.__version__),
        settings=dict(args=ARGS, arms=ARMS, batch=backbones.BATCH, gamma=backbones.GAMMA, iterations=ITERATIONS, glr=GLR, dlr=DLR,
                      seeds=SEEDS, metric='fid1k on the detector of grey_pair.py'), rows=rows)
    RESULTS.write_text(json.dumps(content, indent=1) + '\n')

def table(rows):
    lines = ['| | score at the start | last score, per seed | mean, deviation | of dense, per seed | CPU-seconds of a run |',
             '|---' * 6 + '|']
    last = {(row['arm'], row['seed']): row['curve'][-1][1] for row in rows}
    for arm in ARMS:
        mine = [row for row in rows if row['arm'] == arm]
        scores = [last[arm, row['seed']] for row in mine]
        ratios = ' '.join(f'{last[arm, row["seed"]] / last["dense", row["seed"]]:.2f}' for row in mine)
        lines.append(f'| {arm} | {fmean(row["curve"][0][1] for row in mine):.0f} | {" ".join(f"{s:.0f}" for s in scores)} '
                     f'| {fmean(scores):.0f}, {stdev(scores):.0f} | {ratios} | {fmean(row["cpu_seconds"] for row in mine):.0f} |')
    return '\n'.join(lines) + '\n'

def report():
    fill(PAGE, dict(table=table(json.loads(RESULTS.read_text())['rows'])))

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'fastgan_quality', help='datasets, detector, runs')
    args = parser.parse_args()
    report() if args.what == 'report' else run(args.work.resolve())

if __name__ == '__main__':
    main()

#----------------------------------------------------------------------------
