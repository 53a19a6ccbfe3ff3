"""Hostile pickles execute nothing, and end in one sentence within bounded memory and time (hostile_pickles.py)."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('resource') # The limit of memory needs a Unix.

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CASES = list(runpy.run_path(str(HERE / 'hostile_pickles.py'))['cases']('canary'))

# Networks that only the class here would make too large; as tensors they are small and whole.
WHOLE = {'live module source', 'network of 4 TB', 'network of 16 GB', 'network without end', 'image of 2^20 pixels'}

def run(folder, *mode):
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run([sys.executable, HERE / 'hostile_process.py', folder, *mode], env=env, check=True)
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

def test_the_canary_sings_for_the_reader_of_python(tmp_path):
    sang = run(tmp_path, 'control')
    assert len(sang) >= 18 and all(sang.values()), sang
