"""The reference host's scripts read a snapshot without running the code in it, and only --trust-pickle runs it."""

import os
import pickle
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / 'reference_host'

@pytest.fixture(scope='module')
def space(tmp_path_factory, make_zip):
    """A folder with evil.pkl, which writes the file `canary` when Python's unpickler reads it, and images."""
    path = tmp_path_factory.mktemp('evil')
    H = types.SimpleNamespace(**runpy.run_path(str(ROOT / 'tests' / 'snapshots' / 'hostile_pickles.py')))
    source = f'open({str(path / "canary")!r}, "w")\n'
    networks = {key: H.generator(H.sizes(), source) for key in ('G', 'D', 'G_ema')}
    (path / 'evil.pkl').write_bytes(H.whole(H.dict_of(**networks, augment_pipe=pickle.NONE, training_set_kwargs=H.dict_of(
        class_name=H.text('os.mkdir'), path=H.text(str(path / 'canary'))))))
    make_zip(path / 'data.zip', n=4, res=16)
    return path

SCRIPTS = {
    'gen_images.py':    ['--network=evil.pkl', '--seeds=0', '--outdir=out'],
    'gen_video.py':     ['--network=evil.pkl', '--seeds=0,1', '--output=out.gif'],
    'calc_metrics.py':  ['--network=evil.pkl', '--metrics=none'],
    'train.py':         ['--resume=evil.pkl', '--outdir=runs', '--cfg=stylegan2', '--data=data.zip', '--gpus=1', '--batch=4',
                         '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=1', '--metrics=none', '--kimg=1', '--snap=1'],
}

def run(space, script, *more):
    (space / 'canary').unlink(missing_ok=True)
    env = dict(os.environ, PYTHONPATH=str(ROOT), SPIDER_CACHE_DIR=str(space / 'cache'), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, HOST / script, *SCRIPTS[script], *more], cwd=space, env=env, capture_output=True,
                          text=True)

@pytest.mark.parametrize('script', SCRIPTS)
def test_no_script_runs_it(script, space):
    done = run(space, script)
    assert not (space / 'canary').exists()
    assert done.returncode == 2 and 'evil.pkl' in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr

def test_trust_pickle_runs_it(space):
    run(space, 'gen_images.py', '--trust-pickle')
    assert (space / 'canary').exists()
