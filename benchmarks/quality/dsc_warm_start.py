"""Dense, separable and warm-started separable StyleGAN2 at demo scale: score against CPU-seconds, and what the fit is worth.

    python -m benchmarks.quality.dsc_warm_start run       # three seeds of each arm, then the fits; resumable
    python -m benchmarks.quality.dsc_warm_start report    # the tables of docs/dsc.md from the JSON

Every run is the reference host's own train.py through the attached line, on the demo's neon digits with its crayon digits as the
source and the residual mapping, which trains stably at this scale; options, rates and number of iterations are those of all arms.
The score is the Frechet distance of 1000 samples of G_ema on the demo's detector, outside of the training's clock: CPU-seconds
are the training process's, from its first iteration on, read at the end of each tick. Arms that resume start from the dense run
of their own seed, D and its optimised weights included. `random layers` is that with separable layers left as they are drawn:
what it lacks to `warm` is what the fit gives. The fits compare a generator right after the warm start with its dense one, before
any training: relative difference of the images, with and without the weights by styles and demodulation.
"""

import argparse
import importlib
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.common.page_parts import fill
from benchmarks.common.paths import ROOT

RESULTS = ROOT / 'benchmarks' / 'results' / 'dsc_warm_start.json'
PAGE = ROOT / 'docs' / 'dsc.md'

BATCH, EVERY, ITERATIONS, SAMPLES, IMAGES, SEEDS = 16, 64, 192, 1000, 4000, [50, 51, 52]
OPTIONS = {'cfg': 'stylegan2', 'cbase': 256, 'cmax': 16, 'map-depth': 2, 'style-mixing': 0, 'pl-weight': 0, 'gamma': 0.5,
           'glr': 0.01, 'dlr': 0.01, 'aug': 'noaug', 'metrics': 'none', 'batch': BATCH, 'snap': 1, 'threads': 1, 'workers': 0,
           'metric-at-start': 'true', 'spider-embed': 4, 'spider-mapping': 'residual', 'spider-match': 'none',
           'spider-skip': 'fixed'}
ARMS = {        # options, whether it resumes the dense run
    'dense':            ([], False),
    'DSC':              (['--dsc'], False),
    'DSC, warm':        (['--dsc'], True),
    'random layers':    (['--dsc'], True),
}
FITS, FITTED = [('depthwise', 1), ('depthwise', 2), ('pointwise', 1)], 250    # (order, rank), and samples of each

#----------------------------------------------------------------------------
# One run. The process is this script again, as `child`: train.py, with the fit left out where an arm wants none.

def child(fitted, arguments):
    if not fitted:
        import spider_plugin.snapshots.resume_plan
        spider_plugin.snapshots.resume_plan.fit_layers = lambda state, network: (state, {})
    from spider_plugin.resources import resource_dir
    sys.argv = [sys.argv[0], str(resource_dir('reference_host') / 'train.py'), *arguments]
    runpy.run_module('spider_plugin.hosts.run', run_name='__main__')

def train(work, arm, seed, iterations):
    """The run's folder; its file `clock` has [CPU-seconds at the first iteration, at the end of each tick ...]."""
    switches, resumes = ARMS[arm]
    outdir = work / 'runs' / f'{arm.replace(", ", "-").replace(" ", "-")}-{iterations}-seed{seed}'
    if (outdir / 'clock').is_file():
        return outdir
    outdir.mkdir(parents=True, exist_ok=True)
    kimg = BATCH / 1000
    options = OPTIONS | {'outdir': outdir, 'data': work / 'neon.zip', 'spider-source': work / 'crayon.zip', 'seed': seed,
                         'kimg': kimg * iterations, 'tick': kimg * EVERY}
    if resumes:
        options['resume'] = snapshots(train(work, 'dense', seed, iterations))[-1]
    command = [sys.executable, '-m', __spec__.name, 'child', str(int('random' not in arm)), *switches,
               *(f'--{key}={value}' for key, value in options.items())]
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1', SPIDER_CACHE_DIR=str(work / 'cache'),
               DNNLIB_CACHE_DIR=str(work / 'cache'))
    clock, now = [], 0.0
    with open(outdir / 'output.txt', 'w') as log, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        for line in process.stdout:
            log.write(line)
            before, now = now, _seconds(process.pid)
            if line.startswith('tick '):
                clock = (clock or [before]) + [now]
    if process.returncode != 0 or len(clock) != iterations // EVERY + 1:
        sys.exit(f'{outdir}/output.txt: the run failed')
    (outdir / 'clock').write_text(json.dumps(clock))
    return outdir

def _seconds(pid):
    """CPU-seconds of a process so far."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

def snapshots(outdir):
    return sorted(max(outdir.glob('*-gpus1-*')).glob('network-snapshot-*.pkl'))

#----------------------------------------------------------------------------
# Scores.

class Scorer:
    def __init__(self):
        from spider_plugin.demo.data import target_images
        from spider_plugin.metrics.distances import Moments
        from spider_plugin.resources import resource_dir
        self.detector = torch.jit.load(str(resource_dir('reference_host') / 'metrics' / 'demo_detector.pt'))
        self.reals = Moments(self.features(torch.as_tensor(target_images(IMAGES))))

    def features(self, images):
        from spider_plugin.demo.analysis import detector_features
        return detector_features(self.detector, images)

    def __call__(self, images):
        from spider_plugin.metrics.distances import Moments, fid
        return round(fid(Moments(self.features(quantised(images))), self.reals).value, 1)

def quantised(images):
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)

@torch.no_grad()
def draw(G, samples=SAMPLES):
    """[samples, C, R, R], the same latents and noise for each."""
    z = torch.randn([samples, G.z_dim], generator=torch.Generator().manual_seed(0))
    return torch.cat([G(part, torch.zeros([len(part), 0]), noise_mode='const') for part in z.split(250)])

def row(work, arm, seed, iterations, scorer):
    """One run: [[iteration, CPU-seconds, score], ...]"""
    from spider_plugin.snapshots.rebuild import load_generator
    outdir = train(work, arm, seed, iterations)
    path = outdir / 'curve.json'
    if not path.is_file():
        clock = json.loads((outdir / 'clock').read_text())
        curve = [[i * EVERY, round(seconds - clock[0], 2), scorer(draw(load_generator(snapshot).eval()))]
                 for i, (seconds, snapshot) in enumerate(zip(clock, snapshots(outdir), strict=True))]
        path.write_text(json.dumps(curve))
    return dict(arm=arm, seed=seed, curve=json.loads(path.read_text()))

def fit_rows(work, seed, iterations):
    """A dense generator beside separable ones right after the fit. All are made anew, so that their sources have the same images:
    a snapshot brings a part of its bank along."""
    from spider_plugin.bundles.names import class_with
    from spider_plugin.snapshots.rebuild import load_generator
    from spider_plugin.snapshots.warm_start import fit_layers
    found = load_generator(snapshots(train(work, 'dense', seed, iterations))[-1])
    class_name, state, rows = f'{type(found).__module__}.{type(found).__name__}', found.state_dict(), []

    def make(class_name, kwargs):
        module, _, name = class_name.rpartition('.')
        return getattr(importlib.import_module(module), name)(**kwargs)

    dense = make(class_name, found.init_kwargs)
    dense.load_state_dict(state)
    truth = draw(dense.eval(), FITTED)
    for order, rank in FITS:
        G = make(class_with(class_name, 'dsc'), found.init_kwargs | dict(dsc=dict(order=order, rank=rank, res=[0, 32])))
        for weighted in (True, False):
            fitted, errors = fit_layers(state, G, weighted)
            G.load_state_dict(fitted)
            error = (draw(G.eval(), FITTED) - truth).norm() / (truth - truth.mean(dim=0)).norm()
            rows.append(dict(seed=seed, order=order, rank=rank, weighted=weighted, layer_errors=errors, image_error=float(error)))
    return rows

#----------------------------------------------------------------------------

def run(work, iterations):
    import spider_plugin
    from spider_plugin.demo.data import build_datasets
    torch.set_num_threads(1)
    if not (work / 'neon.zip').is_file():
        work.mkdir(parents=True, exist_ok=True)
        build_datasets(work, n=IMAGES)
    scorer = Scorer()
    report = dict(environment=dict(device=f'{platform.machine()} cpu, one thread', python=platform.python_version(),
                                   torch=torch.__version__, spider_plugin=spider_plugin.__version__),
                  settings=dict(options=OPTIONS, iterations=iterations, samples=SAMPLES, images=IMAGES, seeds=SEEDS,
                                kernels=os.environ.get('TORCH_UTILS_EXT', 'auto'),
                                metric='Frechet distance on the detector of the demo'),
                  runs=[], fits=[])
    save = lambda: RESULTS.write_text(json.dumps(report, indent=1) + '\n')
    asked = [(arm, seed) for seed in SEEDS for arm in ('dense', 'DSC', 'DSC, warm')]    # the fits, and one arm more, come after
    for arm, seed in asked + [(None, seed) for seed in SEEDS] + [('random layers', seed) for seed in SEEDS]:
        if arm is None:
            report['fits'] += fit_rows(work, seed, iterations)
        else:
            report['runs'].append(row(work, arm, seed, iterations, scorer))
            print(time.strftime('%H:%M:%S'), arm, seed, report['runs'][-1]['curve'], flush=True)
        save()

#----------------------------------------------------------------------------

def reached(curve, score):
    """CPU-seconds to a score, between evaluations by interpolation; None where it is not reached."""
    for (_, t0, a), (_, t1, b) in zip(curve, curve[1:]):
        if a <= score:
            return t0
        if b <= score:
            return t0 + (t1 - t0) * (a - score) / (a - b)
    return None

def tables(report):
    curves = {(r['arm'], r['seed']): r['curve'] for r in report['runs']}
    seeds, end = sorted({seed for _, seed in curves}), report['settings']['iterations']
    at = range(0, end + 1, EVERY)
    lines = ['| arm | CPU-s | ' + ' | '.join(f'score @{i}' for i in at)
             + ' | per seed at the end | CPU-s to the score that *DSC, warm* starts with, per seed |',
             '|---' * (len(at) + 4) + '|']
    for arm in ARMS:
        mine = [curves[arm, seed] for seed in seeds if (arm, seed) in curves]
        if not mine:
            continue
        times = [reached(curves[arm, seed], curves['DSC, warm', seed][0][2]) for seed in seeds if (arm, seed) in curves]
        scores = [statistics.fmean(dict((i, s) for i, _, s in curve)[k] for curve in mine) for k in at]
        lines.append(f'| {arm} | {statistics.median(curve[-1][1] for curve in mine):.0f} | '
                     + ' | '.join(f'{s:.0f}' for s in scores) + ' | ' + ' '.join(f'{curve[-1][2]:.0f}' for curve in mine)
                     + ' | ' + ' '.join('never' if t is None else f'{t:.0f}' for t in times) + ' |')
    lines += ['', '| order | rank | image error after the fit, per seed | without weights |', '|---|---|---|---|']
    for order, rank in FITS:
        cell = lambda weighted, order=order, rank=rank: ' '.join(
            f'{r["image_error"]:.3f}' for r in report['fits']
            if (r['order'], r['rank'], r['weighted']) == (order, rank, weighted))
        lines.append(f'| {order} | {rank} | {cell(True)} | {cell(False)} |')
    return '\n'.join(lines) + '\n'

def write_page():
    fill(PAGE, {'warm start': tables(json.loads(RESULTS.read_text()))})

def main():
    if sys.argv[1:2] == ['child']:
        return child(sys.argv[2] == '1', sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['run', 'report'])
    parser.add_argument('--work', type=Path, default=ROOT / 'out' / 'dsc_warm_start', help='datasets and runs')
    parser.add_argument('--iterations', type=int, default=ITERATIONS)
    args = parser.parse_args()
    write_page() if args.what == 'report' else run(args.work.resolve(), args.iterations)

if __name__ == '__main__':
    main()
