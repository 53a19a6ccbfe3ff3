"""The demo's two training runs: processes beside each other, observed through the files that they write."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import spider_plugin
from spider_plugin.errors import Failure
from spider_plugin.resources import resource_dir

SCORE, RECALL = 'fid1k', 'pr1k3'

class RunFailed(Failure):
    """A run ended with an error; its last lines are in the message."""

#----------------------------------------------------------------------------

def command(pair, outdir, name, plan, seed, threads, target, source=None):
    """Return the command line of a run.

    pair:   the Pair of demo/pairs.py; plan: its `full` or `quick`; target, source: paths of datasets."""
    kimg = pair.batch / 1000
    options = dict(pair.options, outdir=outdir / 'runs' / name, data=target, gpus=1, batch=pair.batch, workers=0,
                   kimg=plan['iterations'] * kimg, tick=plan['tick'] * kimg, snap=plan['snap'], metrics=f'{SCORE},{RECALL}',
                   detector=pair.detector, seed=seed, threads=threads)
    options['metric-at-start'] = 'true'
    options |= pair.noise if source is None else {'spider-source': source, **pair.spider}
    script = resource_dir('reference_host') / 'train.py'
    flags = [f'--{name}' if value is True else f'--{name}={value}' for name, value in options.items()]
    return [sys.executable, '-m', 'spider_plugin.hosts.run', str(script), *flags]

def environment(outdir, threads):
    """Return the environment of a run, that of this process with caches in the demo's folder and the plugin on the path."""
    package = str(Path(spider_plugin.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS=str(threads),
                SPIDER_CACHE_DIR=str(outdir / 'cache'), DNNLIB_CACHE_DIR=str(outdir / 'cache' / 'host'))

class Run:
    """A training run in a separate process, observed through the files that it writes.

    plan: dict with the `iterations` of the run; batch: images of an iteration."""

    def __init__(self, name, outdir, plan, batch, command=None):
        self.name, self.iterations, self.batch, self.command = name, plan['iterations'], batch, command
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

    def curve(self, metric=SCORE, value=SCORE):
        """Return the scores so far as [[iteration, score], ...]; value: which number of the metric."""
        return [[round(line['cur_nimg'] / self.batch), line['results'][value]] for line in self.lines(f'metric-{metric}.jsonl')]

    def recall(self):
        """Return the recall so far as [[iteration, recall], ...]."""
        return self.curve(RECALL, f'{RECALL}_recall')

    def progress(self):
        """Return (iterations so far, seconds of training so far)."""
        stats = self.lines('stats.jsonl')
        if not stats:
            return 0, 0.0
        return round(stats[-1]['Progress/kimg']['mean'] * 1000 / self.batch), stats[-1]['Timing/total_sec']['mean']

    def describe(self):
        done, seconds = self.progress()
        curve = self.curve()
        eta = f'about {seconds / done * (self.iterations - done):4.0f} s left' if done else 'starting'
        score = f'score {curve[-1][1]:8.1f} at iteration {curve[-1][0]}' if curve else ''
        return f'{self.name:<10s}{done:>6d}/{self.iterations} iterations   {eta:<20s}{score}'

    def snapshots(self):
        """Return the snapshots as {iteration: path}, in order."""
        found = {}
        for line in self.lines(f'metric-{SCORE}.jsonl'):
            found[round(line['cur_nimg'] / self.batch)] = sorted(self.folder.glob('*'))[0] / line['snapshot_pkl']
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
