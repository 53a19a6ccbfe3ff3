"""Snapshots of attached hosts: a pickle has its name when it is whole."""

import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spider_plugin.files import whole
from spider_plugin.hosts import saving

LOOP = """
import pickle, sys
def save(path, data):
    with open(path, 'wb') as f:
        pickle.dump(data, f)
def log(path):
    with open(path, 'wt') as f:
        f.write('line')
def training_loop(run_dir='.', rank=0):
    save(run_dir + '/network-snapshot-000000.pkl', 'next')
"""
CHILD = """
import sys, time
from spider_plugin.hosts import saving
sys.path.insert(0, sys.argv[1])
import loop
saving.extend(loop)
class Slow:
    def __reduce__(self):
        print('half', flush=True)
        time.sleep(100)
loop.save(sys.argv[2], [b'first' * 100000, Slow()])
"""

@pytest.fixture
def loop(tmp_path, monkeypatch):
    (tmp_path / 'loop.py').write_text(LOOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'loop', raising=False)
    module = importlib.import_module('loop')
    saving.extend(module)
    return module

@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / 'runs' / '00000-stylegan2'
    path.mkdir(parents=True)
    return path

def test_a_whole_pickle_and_other_files(loop, run_dir):
    loop.save(run_dir / 'network-snapshot-000000.pkl', dict(G=1))
    loop.save(str(run_dir / 'network-snapshot-000000.pkl'), dict(G=2))  # Over the one before.
    loop.log(run_dir / 'log.txt')
    assert pickle.loads((run_dir / 'network-snapshot-000000.pkl').read_bytes()) == dict(G=2)
    assert sorted(os.listdir(run_dir)) == ['log.txt', 'network-snapshot-000000.pkl']

def test_an_error_leaves_what_was_there(loop, run_dir):
    path = run_dir / 'network-snapshot-000000.pkl'
    loop.save(path, 'before')
    with pytest.raises((AttributeError, pickle.PicklingError)):
        loop.save(path, [b'after' * 100000, lambda: None])
    assert pickle.loads(path.read_bytes()) == 'before' and os.listdir(run_dir) == [path.name]

def test_a_file_that_nobody_closes_gets_no_name(run_dir):
    saving.open_whole(run_dir / 'a.pkl', 'wb').write(b'half')
    assert not os.listdir(run_dir)

@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='needs SIGKILL')
def test_a_kill_while_saving(loop, run_dir):
    path = run_dir / 'network-snapshot-000000.pkl'
    command = [sys.executable, '-c', CHILD, os.path.dirname(loop.__file__), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'half\n'
        process.kill()
    left, = run_dir.iterdir()
    assert left.name == f'{path.name}.{whole.HOST}-{process.pid}.tmp'
    after = run_dir.parent / '00001-stylegan2'
    after.mkdir()
    loop.training_loop(str(after), rank=1)
    assert left.exists()    # Rank 0 tidies.
    loop.training_loop(str(after))
    assert not os.listdir(run_dir) and os.listdir(after) == [path.name]

def test_files_of_living_processes_and_of_other_machines_stay(loop, run_dir):
    names = [f'a.pkl.{whole.HOST}-{os.getpid()}.tmp', f'a.pkl.{whole.HOST}-{2 ** 22 + 1}.tmp', 'a.pkl.elsewhere-2-1.tmp',
             'b.pt.elsewhere-2-1.tmp', 'notes.tmp']
    for name in names:
        (run_dir / name).touch()
    hours_ago = (time.time() - 2 * whole.LEFTOVER,) * 2
    for name in names[:1] + names[3:]:
        os.utime(run_dir / name, hours_ago)
    whole.remove_leftovers(Path(run_dir.parent))
    assert {path.name for path in run_dir.iterdir()} == {names[0], names[2], names[4]}

HOOKED = """
import sys
from spider_plugin.hosts import hook
hook.install()
sys.path.insert(0, sys.argv[1])
from training import training_loop
training_loop.save(sys.argv[2], [])
print(training_loop.open.__module__)
"""

def test_the_hook_reaches_a_training_loop(tmp_path, run_dir):
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / '__init__.py').write_text('')
    (tmp_path / 'training' / 'training_loop.py').write_text(LOOP)
    done = subprocess.run([sys.executable, '-c', HOOKED, tmp_path, run_dir / 'a.pkl'], capture_output=True, text=True)
    assert done.stdout.strip() == saving.__name__, done.stderr
    assert pickle.loads((run_dir / 'a.pkl').read_bytes()) == []
