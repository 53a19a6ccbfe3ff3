"""Hostile pickles execute nothing, and end in one sentence within bounded memory and time: hostile_pickles.py assembles them by
hand, hostile_networks.py changes one thing in a snapshot of every network that can be trained."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from spider_plugin import registry

pytest.importorskip('resource') # The limit of memory needs a Unix.

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CASES = list(runpy.run_path(str(HERE / 'hostile_pickles.py'))['cases']('canary'))

# Networks that only their class would make too large; their tensors are small and complete.
WHOLE = {'live module source', 'network of 4 TB', 'network of 16 GB', 'network without end', 'image of 2^20 pixels'}

def run(folder, *mode):
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run([sys.executable, HERE / 'hostile_process.py', folder, *mode], env=env, check=True, timeout=900)
    return json.loads((folder / 'results.json').read_text())

@pytest.fixture(scope='module')
def results(tmp_path_factory):
    return run(tmp_path_factory.mktemp('hostile'))

@pytest.mark.parametrize('case', CASES)
def test_nothing_executes_and_one_sentence_ends_it(results, case):
    result = results[case]
    assert not result['canary'] and not result['events']
    assert result['load'].startswith('SpiderError 2: ')
    assert result['load'].count('; ') in (1, 2) and result['load'].isprintable()
    if case in WHOLE:
        assert result['export'] == 'returned list'
    else:
        assert result['export'].startswith('SpiderError 2: ') and result['export'].isprintable()
    assert result['mib'] < 400

def test_pythons_unpickler_writes_the_canary(tmp_path):
    sang = run(tmp_path, 'control')
    assert len(sang) >= 18 and all(sang.values()), sang

#----------------------------------------------------------------------------
# Every network: plugin generators and the host's, fed and not, with every feature.

CFGS = ['stylegan2', 'stylegan3-t', 'stylegan3-r', *sorted(registry.generators)]

def run_networks(every_network, folder, *mode):
    (folder / 'networks.json').write_text(json.dumps(every_network))
    return run(folder, 'networks', *mode)

@pytest.fixture(scope='module')
def network_results(every_network, tmp_path_factory):
    return run_networks(every_network, tmp_path_factory.mktemp('networks'))

UNCHANGED = {'whole', 'module sources, live', 'spider source /etc'}    # what is not looked at changes nothing

@pytest.mark.parametrize('cfg', CFGS)
def test_no_network_of_a_hostile_file_executes(cfg, network_results):
    found = {label.partition(': ')[2]: [] for label in network_results if label.startswith(f'{cfg} ')}
    assert {*UNCHANGED, 'name of another class', 'z_dim of 2^40', 'a source of text'} <= found.keys()
    for label, result in network_results.items():
        if label.startswith(f'{cfg} '):
            assert not result['canary'] and not result['events'] and result['mib'] < 400, (label, result)
            whole = result['load'].startswith('returned ') and result['load'].endswith('Generator')
            refused = result['load'].startswith('SpiderError 2: ') and result['load'].isprintable()
            assert whole if label.partition(': ')[2] in UNCHANGED else refused, (label, result)
            assert result['export'] == 'returned list' or result['export'].startswith('SpiderError 2: '), (label, result)

@pytest.mark.slow
def test_the_canary_sings_in_every_network(every_network, tmp_path):
    sang = run_networks(every_network, tmp_path, 'control')
    assert {label.partition(' ')[0] for label in sang} == set(CFGS) and all(sang.values()), sang
