"""examples/own_loop: training scripts with argparse, hydra and gin, in a loop of their own, get the plugin by edit_config."""

import importlib.util
import os
import re
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

# name: (package, script, words for the data, for a source, for an option that has a letter too few, for a value that is none)
WAYS = {
    'argparse': ('argparse', 'train_argparse.py', '--data={}', '--spider-source={}', '--spider-sorce=strokes',
                 '--spider-noise=-1'),
    'hydra':    ('hydra', 'train_hydra.py', 'data={}', '+spider.spider_source={}', '+spider.spider_sorce=strokes',
                 '+spider.spider_noise=-1'),
    'gin':      ('gin', 'train_gin.py', "run.data='{}'", "spider.spider_source='{}'", "spider.spider_sorce='strokes'",
                 'spider.spider_noise=-1'),
}

@pytest.fixture(params=WAYS)
def way(request):
    package, *words = WAYS[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f'{package} is in the test extra, and not installed here')
    return dict(zip(('script', 'data', 'source', 'wrong', 'value'), words))

def test_it_trains_from_a_source(way, data, tmp_path):
    done = run(way['script'], tmp_path, way['data'].format(data), way['source'].format('strokes'))
    assert done.returncode == 0, done.stderr
    assert 'step 4 of 4: SpiderGenerator' in done.stdout and 'Spider source:' in done.stdout
    state = torch.load(tmp_path / 'generator.pt', weights_only=True)
    assert all(bool(value.isfinite().all()) for value in state.values())

@pytest.mark.slow
def test_what_cannot_be_used_is_one_sentence(way, data, tmp_path):
    """An option that does not exist, a value out of range, a source that is not there, options that need another one."""
    source = way['source'].format('strokes')
    for args, named in (([way['wrong']], 'spider.sorce'), ([way['value'], source], 'spider.noise'),
                        ([way['source'].format('no-such-file.zip')], 'no-such-file.zip'),
                        ([way['value'].replace('-1', '0.5')], 'spider.noise')):
        done = run(way['script'], tmp_path, way['data'].format(data), *args)
        *before, last = done.stderr.splitlines()
        assert done.returncode != 0 and not (tmp_path / 'generator.pt').exists() and 'step 1' not in done.stdout
        assert last.startswith('Error: ') and re.search(named, last) and 'Traceback' not in done.stderr, done.stderr

@pytest.mark.slow
def test_without_an_option_it_is_the_host(way, data, tmp_path):
    done = run(way['script'], tmp_path, way['data'].format(data))
    assert 'step 4 of 4: Generator' in done.stdout, done.stderr
