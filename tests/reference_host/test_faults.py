"""Things that happen to a run while it trains: each ends it with one sentence, and leaves nothing half written."""

import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest
import training_runs as runs

from training import files, ranks, snapshots, trouble
from training.report import Reporter, size_of
from training.runtime import SpiderError

TRAIN = [*runs.TINY, '--cfg=stylegan2', '--map-depth=1', '--tick=0.04']

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    return make_zip(tmp_path_factory.mktemp('data') / 'set.zip', n=24, res=16)

def last_line(output, code, process):
    assert process.returncode == code and 'Traceback' not in output, output
    return output.strip().splitlines()[-1]

def happens(tmp_path, data, act, *args, code=2):
    """Starts a long run, lets something happen after its first tick, and returns its last line."""
    process = runs.start(f'--outdir={tmp_path}/runs', f'--data={data}', *TRAIN, '--kimg=100', *args)
    try:
        runs.wait_for(process, 'tick 1 ')
        act(process)
        output, _ = process.communicate(timeout=120)
        return last_line(output, code, process)
    finally:
        process.kill()

def children(pid):
    found = subprocess.run(['ps', '-A', '-o', 'pid=,ppid='], capture_output=True, text=True, check=True).stdout.split()
    return [int(child) for child, parent in zip(found[::2], found[1::2]) if int(parent) == pid]

#----------------------------------------------------------------------------
# Runs.

def test_a_killed_worker_is_named(tmp_path, data):
    line = happens(tmp_path, data, lambda process: os.kill(max(children(process.pid)), signal.SIGKILL), '--workers=1')
    assert line.startswith('Error: --workers: ') and 'memory' in line and '--resume' in line

@pytest.mark.parametrize('workers', [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_dataset_that_is_cut(tmp_path, make_zip, workers):
    data = make_zip(tmp_path / 'cut.zip', n=24, res=16)
    line = happens(tmp_path, data, lambda process: os.truncate(data, 0), f'--workers={workers}')
    assert line.startswith('Error: ') and 'cut.zip' in line

@pytest.mark.slow
def test_a_bank_that_is_cut(tmp_path, data, make_zip, spider_cache):
    source = make_zip(tmp_path / 'faulty.zip', n=200, res=32, seed=9)
    def cut(process):
        for path in (spider_cache / 'sources').glob('faulty-*/images.npy'):
            os.truncate(path, 1000)
    line = happens(tmp_path, data, cut, '--workers=0', f'--spider-source={source}')
    assert line.startswith('Error: ') and 'images.npy has been cut to 1000 bytes' in line and '--spider-source' in line

@pytest.mark.slow
def test_an_outdir_that_is_removed(tmp_path, data):
    def remove(process):
        run_dir = runs.only_run(tmp_path / 'runs')
        run_dir.rename(tmp_path / 'gone')
    line = happens(tmp_path, data, remove, '--workers=0')
    assert line.startswith('Error: --outdir: ') and '--resume' in line

@pytest.fixture
def disk(tmp_path):
    path = tmp_path / 'disk'
    path.mkdir()
    def mount(size):
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(path)], capture_output=True).returncode:
            pytest.skip('mounting needs root')
        return path
    yield mount
    subprocess.run(['umount', str(path)])

@pytest.mark.parametrize('size', [
    *(pytest.param(size, marks=pytest.mark.slow) for size in ('16k', '300k')), '1100k'])
def test_a_small_disk(disk, data, size):
    """It takes the options and not the images; the images and not the first snapshot; and that one, but not the second."""
    outdir = disk(size)
    process = runs.start(f'--outdir={outdir}', f'--data={data}', *TRAIN, '--kimg=0.2', '--workers=0')
    output, _ = process.communicate(timeout=120)
    line = last_line(output, 2, process)
    assert line.startswith('Error: --outdir: ') and str(outdir) in line and 'MB free' in line
    whole = [path.name for path in outdir.glob('*/*') if path.suffix in ('.pkl', '.pt', '.tmp')]
    assert len(whole) % 2 == 0 and not any(name.endswith('.tmp') for name in whole) # Pairs of snapshot and state.

@pytest.mark.slow
def test_too_little_memory(tmp_path, data):
    """The process may map 4 GB; the batch needs much more."""
    command = ['bash', '-c', 'ulimit -v 4000000; exec "$@"', 'sh', sys.executable, runs.HOST / 'train.py']
    process = runs.start(f'--outdir={tmp_path}', f'--data={data}', *TRAIN, '--kimg=100', '--workers=0', '--batch=32768',
                         '--cbase=16384', '--cmax=512', command=command)
    output, _ = process.communicate(timeout=200)
    assert '--batch-gpu' in last_line(output, 2, process)

#----------------------------------------------------------------------------
# Metrics.

class Failing:
    """A Reporter as far as evaluate() needs one."""
    def __init__(self, num_gpus):
        self.run = types.SimpleNamespace(num_gpus=num_gpus, at=types.SimpleNamespace(nimg=5000),
                                         networks=types.SimpleNamespace(G_ema=None))
        self.metrics, self.metric_kwargs, self.training_set_kwargs, self.said = ['odd1k', 'odd2k'], {}, {}, []
        self.warn = self.said.append
        self.is_leader, self.folder = True, '.'
    evaluate, metric_failed = Reporter.evaluate, Reporter.metric_failed

@pytest.mark.parametrize('error', [ZeroDivisionError('nothing\nat all'), MemoryError(), KeyError(3),
                                   SpiderError('--detector: gone')])
def test_a_metric_that_fails_is_said(error, monkeypatch):
    monkeypatch.setattr('metrics.metric_main.calc_metric', lambda **kwargs: (_ for _ in ()).throw(error))
    report = Failing(1)
    report.evaluate('000005')
    assert [words.split()[0] for words in report.said] == ['odd1k', 'odd2k'] and not any('\n' in words for words in report.said)
    assert 'training goes on without it' in report.said[0] and 'network-snapshot-000005.pkl' in report.said[0]

def test_a_metric_that_fails_in_one_of_several_ranks(monkeypatch):
    monkeypatch.setattr('metrics.metric_main.calc_metric', lambda **kwargs: 1 / 0)
    with pytest.raises(SpiderError, match='--metrics: odd1k failed at 5 kimg .*ZeroDivisionError.* is saved, and --resume'):
        Failing(2).evaluate('000005')

def test_a_metric_that_fails_ends_no_run(tmp_path, data):
    """The detector is a file that does not fit, which shows only when it is used."""
    import torch
    class Odd(torch.nn.Module):
        def forward(self, x):
            return x.reshape(-1, 7)[:2]
    torch.jit.script(Odd()).save(str(tmp_path / 'odd.pt'))
    output = runs.train(f'--outdir={tmp_path}/runs', f'--data={data}', *TRAIN, '--kimg=0.04', '--workers=0', '--metrics=fid1k',
                        f'--detector={tmp_path}/odd.pt')
    assert 'Warning: fid1k failed at 0.04 kimg' in output and 'Done.' in output

def test_a_detector_that_is_missing_is_said_before_work(tmp_path, data):
    output = runs.train(f'--outdir={tmp_path}/runs', f'--data={data}', *TRAIN, '--kimg=0.04', '--workers=0', '--metrics=fid1k',
                        f'--detector={tmp_path}/none.pt', code=2)
    assert 'Error: --detector: ' in output and not (tmp_path / 'runs').exists()

#----------------------------------------------------------------------------
# Parts.

def test_space_is_looked_at(tmp_path):
    files.check_space(tmp_path, 1, 'the snapshot')
    with pytest.raises(SpiderError, match='--outdir: .* MB free, but the snapshot needs about 1000000000000.0 MB'):
        files.check_space(tmp_path, 10 ** 18, 'the snapshot')
    with pytest.raises(SpiderError, match='--outdir: .*gone cannot be written'):
        files.check_space(tmp_path / 'gone', 1, 'the snapshot')

def test_the_size_of_a_snapshot_is_about_right(tmp_path, data):
    """Counted from the tensors before anything is written."""
    runs.train(f'--outdir={tmp_path}', f'--data={data}', *TRAIN, '--kimg=0.04', '--workers=0')
    import torch

    from training import state
    run_dir = runs.only_run(tmp_path)
    path = pathlib.Path(state.newest(run_dir))
    networks = snapshots.load_networks(str(max(run_dir.glob('*.pkl'))), option='')
    run = types.SimpleNamespace(networks=types.SimpleNamespace(values=lambda: [networks[key] for key in ('G', 'D', 'G_ema',
                                'augment_pipe')], G=networks['G']))
    size = size_of(run, torch.load(path, weights_only=True))
    written = path.stat().st_size + max(run_dir.glob('*.pkl')).stat().st_size
    assert 0.5 * written < size < 1.5 * written

def test_pictures_are_written_whole(tmp_path, monkeypatch):
    import numpy as np
    def fail(picture, f, format):
        f.write(b'half')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('PIL.Image.Image.save', fail)
    with pytest.raises(SpiderError, match='fakes.png cannot be written .No space left'):
        snapshots.save_image_grid(np.zeros([1, 3, 8, 8]), tmp_path / 'fakes.png', drange=[-1, 1], grid_size=(1, 1))
    assert os.listdir(tmp_path) == []

class Sentence(Exception):
    for_user = True

@pytest.mark.parametrize('error, words', [
    (RuntimeError('DataLoader worker (pid 5) is killed by signal: Killed. '), '--workers: .*memory'),
    (RuntimeError('[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can\'t allocate memory'),
     'memory ran out .*--batch-gpu'),
    (RuntimeError('CUDA out of memory. Tried to allocate'), 'memory ran out .*--batch-gpu'),
    (MemoryError(), 'memory ran out .MemoryError.*--batch-gpu'),
    (OSError(28, 'No space left on device', '/x/stats.jsonl'), '--outdir: /x/stats.jsonl cannot be written'),
    (Sentence('the bank is cut; start again'), 'the bank is cut; start again')])
def test_sentences(error, words):
    with pytest.raises(SpiderError, match=words), trouble.explained(trains=True):
        raise error

def test_bugs_keep_their_traceback():
    for error in (ValueError('x'), RuntimeError('shapes differ'), FileNotFoundError(2, 'No such file', 'x')):
        with pytest.raises(type(error)), trouble.explained(trains=True):
            raise error

def test_lost_connections_are_no_failed_metric():
    error = RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer')
    assert ranks.lost_connection(error)
    with pytest.raises(RuntimeError, match='gloo'):
        Failing(2).metric_failed('fid', '0', error)

#----------------------------------------------------------------------------
