"""Does a tiny StyleGAN2 learn before a projected discriminator, with what that one's authors advise for StyleGANs (separable
heads, blur, no skip connections) and without? The demo's neon digits at 64x64, three seeds, runs of minutes.

    python -m benchmarks.quality.projected_stylegan run [--backbone=tf_efficientnet_lite0:PATH]
        [--judge=tf_efficientnet_lite1:PATH]
    python -m benchmarks.quality.projected_stylegan report    # the table of docs/projected.md from the JSON

`run` does not run again what is in --work already. The discriminator has EfficientNet-Lite0's published weights and sees images
at 128 pixels. Scores are the host's fid1k on the last features of EfficientNet-Lite1 (its published weights, 128 pixels): a
network that has seen the same photographs as Lite0, and none of the runs. They compare with each other only."""

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from statistics import fmean, stdev

import torch
import torch.nn.functional as F

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT
from spider_plugin.demo import data
from spider_plugin.portable.discriminator.feature_networks import FrozenFeatures
from spider_plugin.resources import resource_dir
from spider_plugin.weights import prepare_backbone

RESULTS = ROOT / 'benchmarks' / 'results' / 'projected_stylegan.json'
PAGE    = ROOT / 'docs' / 'projected.md'
ARMS    = {
    'as for FastGAN': ['--disc-heads=standard', '--disc-blur=0', '--disc-skips=true'],
    'as advised':     ['--disc-heads=separable', '--disc-blur=2:{kimg}', '--disc-skips=false'],
}
OPTIONS = ['--cfg=stylegan2', '--cbase=1024', '--cmax=64', '--map-depth=2', '--disc=projected', '--disc-size=128', '--batch=4',
           '--gamma=1', '--glr=0.0025', '--dlr=0.0002', '--metrics=fid1k', '--snap=1', '--threads=1', '--workers=0']
BATCH, LENGTHS = 4, {150: [40, 41, 42], 300: [40, 41]}   # iterations: seeds; the blur fades over all of a run

#----------------------------------------------------------------------------
# Data and detector.

class Judge(torch.nn.Module):
    """uint8 [N, 3, 64, 64] -> the mean of the feature network's smallest map, [N, channels]."""

    def __init__(self, name, path):
        super().__init__()
        self.network = FrozenFeatures(name, path)

    def forward(self, images):
        x = F.interpolate(images.to(torch.float32) / 127.5 - 1, [128, 128], mode='bilinear', align_corners=False)
        return self.network.features(x)[-1].mean(dim=[2, 3])

def prepare(work, judge):
    work.mkdir(parents=True, exist_ok=True)
    if not (work / 'target.zip').is_file():
        images = data.target_images(2000, 0)
        data.write_zip(work / 'target.zip', images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    if not (work / 'detector.pt').is_file():
        module, images = Judge(*prepare_backbone(judge)), torch.zeros([4, 3, 64, 64], dtype=torch.uint8)
        module(images)  # its weights are put in order now, and not while it is traced
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', torch.jit.TracerWarning)    # of sizes, which are fixed
            torch.jit.trace(module, images, check_trace=False).save(str(work / 'detector.pt'))

#----------------------------------------------------------------------------
# One run.

def train(work, backbone, arm, iterations, seed):
    """The row of a run."""
    outdir, kimg = work / 'runs' / f'{arm.replace(" ", "-")}-{iterations}-seed{seed}', BATCH * iterations / 1000
    if not (outdir / 'finished').is_file():
        outdir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py',
                   f'--outdir={outdir}', f'--data={work}/target.zip', f'--detector={work}/detector.pt', f'--seed={seed}',
                   f'--disc-backbone={backbone}', f'--kimg={kimg}', f'--tick={kimg}',
                   f'--metric-at-start={(iterations, seed) == (150, 40)}', *OPTIONS,
                   *(option.format(kimg=kimg) for option in ARMS[arm])]
        env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), SPIDER_CACHE_DIR=str(work / 'cache'),
                   DNNLIB_CACHE_DIR=str(work / 'cache'))
        start = sum(os.times()[2:4])
        with open(outdir / 'output.txt', 'w') as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=env)
        (outdir / 'finished').write_text(f'{sum(os.times()[2:4]) - start:.0f}')
    run_dir = max(outdir.glob('*-gpus1-*'))
    scores = [json.loads(line) for line in (run_dir / 'metric-fid1k.jsonl').read_text().splitlines()]
    stats = [json.loads(line) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    curve = sorted([entry['cur_nimg'] // BATCH, round(entry['results']['fid1k'], 1)] for entry in scores)
    return dict(arm=arm, iterations=iterations, seed=seed, curve=curve,
                loss_D=[round(line['Loss/D/loss']['mean'], 3) for line in stats if 'Loss/D/loss' in line],
                cpu_seconds=float((outdir / 'finished').read_text()))

def run(work, backbone, judge):
    prepare(work, judge)
    content = dict(
        environment=dict(device=f'{platform.machine()} cpu, one thread', python=platform.python_version(),
                         torch=torch.__version__),
        settings=dict(options=OPTIONS, arms=ARMS, batch=BATCH, metric='fid1k on EfficientNet-Lite1, 128 pixels'), rows=[])
    for iterations, seeds in LENGTHS.items():
        for seed in seeds:
            for arm in ARMS:
                content['rows'].append(train(work, backbone, arm, iterations, seed))
                print(content['rows'][-1], flush=True)
                RESULTS.write_text(json.dumps(content, indent=1) + '\n')

#----------------------------------------------------------------------------

def table(rows):
    """Rows of arms by length; the score at the start is that of the first seed."""
    lines = ['| | iterations | score at the start | last, per seed | mean, deviation | mean loss of D, per seed '
             '| CPU-seconds of a run |', '|---' * 7 + '|']
    for iterations in LENGTHS:
        for arm in ARMS:
            if not (mine := [row for row in rows if (row['arm'], row['iterations']) == (arm, iterations)]):
                continue
            last, start = [row['curve'][-1][1] for row in mine], mine[0]['curve'][0]
            each, losses = (' '.join(f'{x:{form}}' for x in numbers) for form, numbers in (
                ('.0f', last), ('.2f', [row['loss_D'][-1] for row in mine])))
            mean = f'{fmean(last):.0f}, {stdev(last):.0f}' if len(last) > 1 else ''
            lines.append(f'| {arm} | {iterations} | {"" if start[0] else f"{start[1]:.0f}"} | {each} | {mean} | {losses} '
                         f'| {fmean(row["cpu_seconds"] for row in mine):.0f} |')
    return '\n'.join(lines) + '\n'

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'projected_stylegan', help='dataset, detector, runs')
    parser.add_argument('--backbone', default='tf_efficientnet_lite0', metavar='NAME[:PATH]')
    parser.add_argument('--judge', default='tf_efficientnet_lite1', metavar='NAME[:PATH]')
    args = parser.parse_args()
    if args.what == 'report':
        fill(PAGE, dict(stylegan=table(json.loads(RESULTS.read_text())['rows'])))
    else:
        run(args.work.resolve(), args.backbone, args.judge)

if __name__ == '__main__':
    main()
