"""More than 150 hostile pickles, through the functions by which commands read one: nothing executes, and each ends in one
sentence or in a network of a known class, within ten seconds and 512 MiB. hostile_corpus.py makes them, hostile_doors.py opens
them."""

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
MIB  = 512

def corpus():
    sys.path.insert(0, str(HERE))
    try:
        return runpy.run_path(str(HERE / 'hostile_corpus.py'))['corpus']('canary')
    finally:
        sys.path.remove(str(HERE))

CASES = list(corpus())

def open_all(folder, *mode, parts=1):
    """{case: result} of all pickles; each of `parts` processes takes its share."""
    found = {}
    for part in range(parts):
        place = folder / str(part)
        place.mkdir()
        env = dict(os.environ, PYTHONPATH=str(ROOT), SPIDER_CACHE_DIR=str(place / 'out'))
        command = [sys.executable, HERE / 'hostile_doors.py', place, str(part), str(parts), *mode]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        found |= json.loads((place / 'results.json').read_text())
    return found

def check(result):
    assert not result['canary'] and not result['events'], result['events']
    assert result['mib'] <= MIB
    for door, said in result['outcomes'].items():
        assert said == 'returned' or said.startswith('SpiderError: '), (door, said)
        assert said.isprintable() and len(said) < 2100, door

@pytest.fixture(scope='module')
def results(tmp_path_factory):
    return open_all(tmp_path_factory.mktemp('corpus'))

@pytest.mark.parametrize('case', CASES)
def test_a_hostile_pickle_ends_in_one_sentence(case, results):
    check(results[case])

def test_there_are_enough_and_they_are_refused(results):
    refused = [case for case, result in results.items()
               if any(said.startswith('SpiderError: ') for said in result['outcomes'].values())]
    assert len(CASES) == len(results) >= 150 and len(refused) >= 150

@pytest.mark.slow
def test_every_door(tmp_path):
    for case, result in open_all(tmp_path, 'all', parts=4).items():
        assert len(result['outcomes']) > 8, case
        check(result)
