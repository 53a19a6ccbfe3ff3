"""docs/hosts.md says what the tried checkouts did."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from spider_plugin.hosts.option_table import verdict

ROOT = Path(__file__).resolve().parents[2]

@pytest.fixture(scope='module')
def host_table():
    spec = importlib.util.spec_from_file_location('host_table', ROOT / 'tools' / 'host_table.py')
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)     # dataclasses look it up
    spec.loader.exec_module(module)
    return module

def test_the_page_is_made_of_the_results(host_table):
    results = json.loads((ROOT / 'docs' / 'hosts.json').read_text(encoding='utf-8'))
    assert (ROOT / 'docs' / 'hosts.md').read_text(encoding='utf-8') == host_table.page(results), 'run python -m tools.host_table'
    assert set(results) <= {fork.name for fork in host_table.FORKS}
    assert all(entry['commit'] and set(entry['found']) == set(host_table.COLUMNS) for entry in results.values())

def test_what_a_launch_prints_becomes_a_cell():
    say = verdict
    assert say('Spider source: x\nDry iteration:  1.0 s\nDry run; exiting.') == 'yes'
    assert say('Note: the dry iteration says nothing: it cannot be made.\nDry run; exiting.') == 'note: it cannot be made.'
    assert say('lines\n--dsc cannot be used; leave it out.') == 'no: --dsc cannot be used; leave it out.'

def test_equal_reasons_have_one_number(host_table):
    fork, other = host_table.FORKS[:2]
    found = dict.fromkeys(host_table.COLUMNS, 'yes')
    refused = found | {'dcgan': 'no: why'}
    text = host_table.page({fork.name: dict(commit='abc of 2023-01-01', found=refused),
                            other.name: dict(commit='def of 2022-01-01', found=refused | {'stock': 'note: how'})})
    assert text.count('no [1]') + text.count('no [2]') == 2 and text.count('`why`') == 1 and '? [2]' in text
