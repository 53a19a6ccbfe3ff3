"""examples/own_loop: training scripts with argparse and with hydra, in a loop of their own, get the plugin by edit_config."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    return make_zip(tmp_path_factory.mktemp('data') / 'set.zip', n=24, res=16)

def run(script, cwd, *args):
    paths = [str(ROOT), str(ROOT / 'reference_host')]
    return subprocess.run([sys.executable, str(ROOT / 'examples' / 'own_loop' / script), *args], cwd=cwd, text=True,
                          capture_output=True, timeout=300, env=os.environ | dict(PYTHONPATH=os.pathsep.join(paths),
                                                                                  OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'))

ARGPARSE = dict(script='train_argparse.py', data='--data={}', source='--spider-source=strokes', wrong='--spider-sorce=strokes')
HYDRA    = dict(script='train_hydra.py', data='data={}', source='+spider.spider_source=strokes',
                wrong='+spider.spider_sorce=strokes')

@pytest.fixture(params=[ARGPARSE, HYDRA], ids=['argparse', 'hydra'])
def way(request):
    if request.param is HYDRA:
        if importlib.util.find_spec('hydra') is None:
            pytest.skip('hydra-core is in the test extra, and not installed here')
    return request.param

def test_it_trains_from_a_source(way, data, tmp_path):
    done = run(way['script'], tmp_path, way['data'].format(data), way['source'])
    assert done.returncode == 0, done.stderr
    assert 'step 4 of 4: SpiderGenerator' in done.stdout and 'Spider source:' in done.stdout
    state = torch.load(tmp_path / 'generator.pt', weights_only=True)
    assert all(bool(value.isfinite().all()) for value in state.values())

@pytest.mark.slow
def test_a_wrong_option_is_one_sentence(way, data, tmp_path):
    done = run(way['script'], tmp_path, way['data'].format(data), way['wrong'])
    assert done.returncode != 0 and not (tmp_path / 'generator.pt').exists()
    assert 'spider-sorce' in done.stderr.replace('_', '-').splitlines()[-1] or 'spider_sorce' in done.stderr
    assert 'step 1' not in done.stdout

@pytest.mark.slow
def test_without_an_option_it_is_the_host(way, data, tmp_path):
    done = run(way['script'], tmp_path, way['data'].format(data))
    assert 'step 4 of 4: Generator' in done.stdout, done.stderr
