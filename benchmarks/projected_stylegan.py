"""A trial, one seed: does a tiny StyleGAN2 get going before a projected discriminator, with the advice of its authors (separable
heads, blur, a higher rate of D: the defaults of --disc=projected) and without? The demo's neon digits at 64x64, random features.

    python benchmarks/projected_stylegan.py [--work DIR]      # two runs side by side, about 400 CPU-seconds each; resumable

Scores are fid1k on the demo's detector, which sees pixels in fours; they compare with each other only. This is too short for a
figure of quality."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from spider_plugin.demo import data
from spider_plugin.resources import resource_dir

ROOT     = Path(__file__).resolve().parents[1]
RESULTS  = ROOT / 'benchmarks' / 'results' / 'projected_stylegan.json'
ARMS     = {'as advised': [], 'as for FastGAN': ['--disc-heads=standard', '--disc-blur=0', '--dlr=0.0002']}
OPTIONS  = ['--cfg=stylegan2', '--cbase=2048', '--cmax=64', '--map-depth=2', '--disc=projected', '--disc-backbone=random',
            '--batch=8', '--gamma=1', '--seed=0', '--metrics=fid1k', '--metric-at-start=true', '--snap=1', '--threads=1',
            '--workers=0']
BATCH, ITERATIONS, EVERY = 8, 90, 30

class Halved(torch.nn.Module):
    """A detector of 32x32 on images of 64x64."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.avg_pool2d(images.to(torch.float32), 2)
        return self.detector(x.round().to(torch.uint8))

def prepare(work):
    work.mkdir(parents=True, exist_ok=True)
    images = data.target_images(2000, 0)
    data.write_zip(work / 'target.zip', images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    detector = torch.jit.load(str(resource_dir('reference_host') / 'metrics' / 'demo_detector.pt'))
    torch.jit.script(Halved(detector)).save(str(work / 'detector.pt'))

def start(work, arm, more):
    """The process of a run, or None where it has ended before."""
    outdir = work / arm.replace(' ', '-')
    if list(outdir.glob('*/metric-fid1k.jsonl')) and scores(work, arm)[-1][0] == ITERATIONS:
        return None
    outdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-m', 'spider_plugin.hosts.run', resource_dir('reference_host') / 'train.py', f'--outdir={outdir}',
               f'--data={work}/target.zip', f'--detector={work}/detector.pt', f'--kimg={BATCH * ITERATIONS / 1000}',
               f'--tick={BATCH * EVERY / 1000}', *OPTIONS, *more]
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), SPIDER_CACHE_DIR=str(work / 'cache'),
               DNNLIB_CACHE_DIR=str(work / 'cache'))
    with open(outdir / 'output.txt', 'w') as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)

def scores(work, arm):
    """[[iteration, score], ...] of the last run of an arm."""
    lines = max((work / arm.replace(' ', '-')).glob('*/metric-fid1k.jsonl')).read_text().splitlines()
    return [[entry['cur_nimg'] // BATCH, round(entry['results']['fid1k'], 1)] for entry in map(json.loads, lines)]

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'projected_stylegan', help='dataset and runs')
    work = parser.parse_args().work.resolve()
    prepare(work)
    for process in [start(work, arm, more) for arm, more in ARMS.items()]:
        if process is not None and process.wait():
            sys.exit(f'a run broke off; its output is in {work}')
    rows = [dict(arm=arm, options=more, curve=scores(work, arm)) for arm, more in ARMS.items()]
    settings = dict(options=OPTIONS, iterations=ITERATIONS, seed=0, torch=torch.__version__)
    RESULTS.write_text(json.dumps(dict(settings=settings, rows=rows), indent=1) + '\n')
    print(json.dumps(rows, indent=1))

if __name__ == '__main__':
    main()
