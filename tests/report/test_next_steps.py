"""The commands that a page names work, on a run of the reference host with a source."""

import os
import shlex
import subprocess
import sys

import pytest

from spider_plugin.report.runs import read_run
from spider_plugin.report.tables import next_steps
from spider_plugin.resources import resource_dir

ROOT = resource_dir('patches').parent

def spider(command, cwd):
    """Run a command line that begins with `spider`; return its output."""
    program, *args = shlex.split(command)
    assert program == 'spider'
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-m', 'spider_plugin.cli', *args], cwd=cwd, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout

@pytest.mark.slow
def test_the_commands_of_a_page(make_zip, tmp_path):
    for name, seed in (('target', 0), ('source', 1)):
        make_zip(tmp_path / f'{name}.zip', n=1000, res=32, seed=seed)
    spider('spider train --outdir=a/runs --cfg=dcgan --data=target.zip --batch=8 --gamma=1 --cbase=64 --cmax=8 --threads=1 '
           '--kimg=0.032 --tick=0.016 --snap=1 --workers=0 --metrics=fid1k --detector=demo --spider-source=source.zip', tmp_path)
    folder, = (tmp_path / 'a' / 'runs').iterdir()
    steps = dict(next_steps(read_run(folder)))
    assert list(steps) == ['Draw from it', 'Score it', 'Go on']
    drawn = spider(steps['Draw from it'], tmp_path)
    assert 'seed0000-source.png' in drawn and (folder / 'drawn' / 'grid.png').is_file()
    assert 'fid1k' in spider(steps['Score it'], tmp_path)
    assert 'Continuing the run' in spider(steps['Go on'], tmp_path)
    assert read_run(folder).kimg == pytest.approx(0.064)
    spider(f'spider report {shlex.quote(str(folder))}', tmp_path)
