"""`spider demo` builds two datasets, trains twice side by side, and writes summary.json and report.html.

Both runs are the reference host's train.py, started as a user would start it. Their options differ only in the source."""

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import spider_plugin
from spider_plugin.demo import analysis, data, report
from spider_plugin.errors import Failure, SpiderError
from spider_plugin.files.cache import atomic_file
from spider_plugin.options.dcgan import PRESET
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.rebuild import load_generator

MARKER  = '.spider-demo'    # a folder that holds this file is an earlier demo and may be replaced
PARTS   = ('data', 'runs', 'cache', 'summary.json', 'report.html')
METRIC  = 'fid1k'
BATCH   = 32
FULL    = dict(images=4000, samples=1000, iterations=1200, tick=50, snap=2)  # tick: iterations to a progress line,
QUICK   = dict(images=1000, samples=400,  iterations=150,  tick=25, snap=2)  # snap: ticks to a score and a snapshot
SHARED  = dict(cfg='dcgan', gpus=1, batch=BATCH, gamma=0.5, aug='noaug', metrics=METRIC, detector='demo', workers=0)
SPIDER  = {'spider-mapping': 'residual', 'spider-match': 'covariance', 'spider-embed': 4}

class RunFailed(Failure):
    """A run ended with an error; its last lines are in the message."""

#----------------------------------------------------------------------------

def run_demo(outdir, seed=0, threads=1, quick=False):
    """Run the demo, and return the dict that is written to summary.json.

    outdir:     new or empty folder, or that of an earlier demo, which is replaced.
    seed:       seed of data, initialisation and training.
    threads:    CPU threads of each of the two runs.
    quick:      take under a minute, on less data and with rougher curves.
    Raises SpiderError for errors that the user can correct, and RunFailed if a run ends with an error."""
    start, plan, outdir = time.time(), QUICK if quick else FULL, Path(outdir).absolute()
    prepare_outdir(outdir)
    print(f'Building {plan["images"]} neon digits (target) and as many crayon digits (source) ...', flush=True)
    target, source = data.build_datasets(outdir / 'data', seed=seed, n=plan['images'])
    runs = dict(baseline=Run('baseline', outdir, plan, command(outdir, 'baseline', plan, seed, threads, target)),
                spider=Run('spider', outdir, plan, command(outdir, 'spider', plan, seed, threads, target, source)))
    built = time.time()
    train(runs.values(), environment(outdir, threads))
    trained = time.time()
    print('Drawing samples and writing the report ...', flush=True)
    pictures = draw(runs, seed, plan)
    summary = summarise(runs, pictures, plan, seed, threads, quick)
    summary['seconds'] = dict(data=built - start, training=trained - built, analysis=time.time() - trained,
                              total=time.time() - start)
    write(outdir / 'summary.json', json.dumps(summary, indent=2))
    write(outdir / 'report.html', report.render(summary, pictures))
    print(closing_words(summary, outdir), flush=True)
    return summary

def write(path, text):
    with atomic_file(path) as temp:
        temp.write_text(text, encoding='utf-8')

#----------------------------------------------------------------------------
# The folder.

def prepare_outdir(outdir):
    """Make `outdir`, or remove an earlier demo from it. Raises SpiderError if it holds anything else."""
    try:
        if outdir.is_dir() and any(outdir.iterdir()) and not (outdir / MARKER).is_file():
            raise SpiderError(f'--outdir={outdir} has content that is not a demo; give a new folder.')
        outdir.mkdir(parents=True, exist_ok=True)
        (outdir / MARKER).write_text('Written by `spider demo`, which may replace the files beside this one.\n')
        for path in (outdir / name for name in PARTS):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise SpiderError(f'--outdir={outdir} cannot be written ({error.strerror}); give another folder.') from error

#----------------------------------------------------------------------------
# The two runs.

def command(outdir, name, plan, seed, threads, target, source=None):
    """Return the command line of a run; with a source it differs only in the --spider-* options."""
    kimg = BATCH / 1000
    options = dict(SHARED, outdir=outdir / 'runs' / name, data=target, kimg=plan['iterations'] * kimg,
                   tick=plan['tick'] * kimg, snap=plan['snap'], seed=seed, threads=threads)
    options['metric-at-start'] = 'true'
    if source is not None:
        options |= {'spider-source': source, **SPIDER}
    script = resource_dir('reference_host') / 'train.py'
    return [sys.executable, '-m', 'spider_plugin.hosts.run', str(script), *(f'--{k}={v}' for k, v in options.items())]

def environment(outdir, threads):
    """Return the environment of a run, that of this process with caches in the demo's folder and the plugin on the path."""
    package = str(Path(spider_plugin.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS=str(threads),
                SPIDER_CACHE_DIR=str(outdir / 'cache'), DNNLIB_CACHE_DIR=str(outdir / 'cache' / 'host'))

class Run:
    """A training run in a separate process, observed through the files that it writes."""

    def __init__(self, name, outdir, plan, command):
        self.name, self.iterations, self.command = name, plan['iterations'], command
        self.folder = outdir / 'runs' / name
        self.log = self.folder / 'log.txt'
        self.process = None

    def start(self, env):
        self.folder.mkdir(parents=True)
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(self.command, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, start_new_session=True)

    def terminate(self):
        """Ask the process and its children to end."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM) if os.name == 'posix' else self.process.terminate()

    def wait(self, seconds=5):
        """Wait for the end of the process, and kill it after some seconds."""
        if self.process is not None:
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def is_done(self):
        """Return whether the process has ended. Raises RunFailed if it ended with an error."""
        code = self.process.poll()
        if code:
            lines = self.log.read_text(encoding='utf-8', errors='replace').strip().splitlines()[-15:]
            raise RunFailed(f'the {self.name} run ended with code {code}; the end of {self.log}:\n  ' + '\n  '.join(lines))
        return code == 0

    def lines(self, name):
        """Return the complete lines of a JSONL file of the run directory, decoded."""
        paths = sorted(self.folder.glob(f'*/{name}'))
        text = paths[-1].read_text(encoding='utf-8') if paths else ''
        return [json.loads(line) for line in text[: text.rfind('\n') + 1].splitlines()]

    def curve(self):
        """Return the scores so far as [[iteration, score], ...]."""
        return [[round(line['cur_nimg'] / BATCH), line['results'][METRIC]] for line in self.lines(f'metric-{METRIC}.jsonl')]

    def progress(self):
        """Return (iterations so far, seconds of training so far)."""
        stats = self.lines('stats.jsonl')
        if not stats:
            return 0, 0.0
        return round(stats[-1]['Progress/kimg']['mean'] * 1000 / BATCH), stats[-1]['Timing/total_sec']['mean']

    def describe(self):
        done, seconds = self.progress()
        curve = self.curve()
        eta = f'about {seconds / done * (self.iterations - done):4.0f} s left' if done else 'starting'
        score = f'score {curve[-1][1]:8.1f} at iteration {curve[-1][0]}' if curve else ''
        return f'{self.name:<10s}{done:>6d}/{self.iterations} iterations   {eta:<20s}{score}'

    def snapshots(self):
        """Return the snapshots as {iteration: path}, in order."""
        found = {}
        for line in self.lines(f'metric-{METRIC}.jsonl'):
            found[round(line['cur_nimg'] / BATCH)] = sorted(self.folder.glob('*'))[0] / line['snapshot_pkl']
        return found

def train(runs, env):
    """Run both side by side and show their progress. No process is left running if this ends with an error."""
    runs, display = list(runs), Display()
    try:
        for run in runs:
            run.start(env)
        while not all([run.is_done() for run in runs]):
            display.show([run.describe() for run in runs])
            time.sleep(0.5)
        display.show([run.describe() for run in runs], last=True)
    finally:
        for run in runs:
            run.terminate()
        for run in runs:
            run.wait()

class Display:
    """Two progress lines, redrawn on a terminal; elsewhere, a new line for each new score."""

    def __init__(self):
        self.terminal, self.shown = sys.stdout.isatty(), []

    def show(self, lines, last=False):
        if self.terminal:
            sys.stdout.write(f'\x1b[{len(self.shown)}A' * bool(self.shown) + ''.join(f'\r\x1b[K{x}\n' for x in lines))
            self.shown = lines
        else:
            new = [line for line in lines if 'score' in line and line.partition('score')[2] not in self.shown]
            self.shown += [line.partition('score')[2] for line in new]
            sys.stdout.write(''.join(f'{line}\n' for line in new))
        sys.stdout.flush()

#----------------------------------------------------------------------------
# Pictures and numbers.

def draw(runs, seed, plan, shown=8, stages=5):
    """Return samples of the last snapshots, and of `stages` snapshots during training, from the same latents.

    returns     uint8 tensors [N, 3, 32, 32]: 'spider', 'sources', 'baseline', 'target' (the training set), 'fresh' (target
                images of another seed), and {'spider_stages', 'baseline_stages': {iteration: images}}."""
    n = plan['samples']
    z = torch.randn([n, PRESET['z_dim']], generator=torch.Generator().manual_seed(seed + 1))
    pictures = dict(target=data.target_images(plan['images'], seed), fresh=data.target_images(n, seed + 1))
    for name, run in runs.items():
        snapshots = run.snapshots()
        iterations = list(snapshots)
        picked = sorted({iterations[round(i * (len(iterations) - 1) / (stages - 1))] for i in range(stages)})
        networks = {i: load_generator(str(snapshots[i])) for i in picked}
        pictures[f'{name}_stages'] = {i: sample(G, z[:shown]) for i, G in networks.items()}
        final = networks[picked[-1]]
        pictures[name] = sample(final, z)
        if final.source is not None:
            pictures['sources'] = to_uint8(final.source.sample(z))
    return pictures

@torch.no_grad()
def sample(G, z):
    return torch.cat([to_uint8(G(part, None)) for part in z.split(100)])

def to_uint8(images):
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)

def summarise(runs, pictures, plan, seed, threads, quick):
    """Return the content of summary.json, except the seconds."""
    curves = {name: run.curve() for name, run in runs.items()}
    ratio, is_bound = analysis.iterations_ratio(**curves)
    detector = torch.jit.load(str(resource_dir('reference_host') / 'metrics' / 'demo_detector.pt'))
    features = {name: analysis.detector_features(detector, pictures[name])
                for name in ('spider', 'sources', 'baseline', 'target', 'fresh')}
    reference = {name: analysis.frechet_distance(features[key], features['target'])
                 for name, key in dict(fresh_target='fresh', source='sources').items()}
    return dict(
        format=1, seed=seed, quick=quick, metric=METRIC,
        **{name: dict(curve=curve, best=min(s for i, s in curve if i > 0), final=curve[-1][1],
                      seconds=runs[name].progress()[1])
           for name, curve in curves.items()},
        iterations_ratio=ratio, iterations_ratio_is_upper_bound=is_bound,
        identity_score=curves['spider'][0][1], reference_scores=reference,
        copy_check=analysis.copy_check(pictures, features),
        settings=dict(SHARED, **plan, threads=threads, spider=SPIDER),
        versions=dict({name: importlib.metadata.version(name) for name in ('torch', 'numpy')},
                      spider_plugin=spider_plugin.__version__, python=platform.python_version(),
                      machine=f'{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs'),
        attribution=data.ATTRIBUTION)

def closing_words(summary, outdir):
    spider, baseline = summary['spider']['final'], summary['baseline']['final']
    return (f'After {summary["settings"]["iterations"]} iterations the score (lower is better) is {spider:.0f} from crayon '
            f'digits and {baseline:.0f} from noise; the source images alone score {summary["identity_score"]:.0f}.\n'
            f'This is one seed. Read {outdir / "report.html"} ({summary["seconds"]["total"]:.0f} s).')

#----------------------------------------------------------------------------
