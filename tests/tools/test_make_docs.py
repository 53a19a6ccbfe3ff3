"""docs/api.md and docs/options.md say what the code says."""

import dataclasses
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import spider_plugin
from spider_plugin.options.table import OPTIONS

ROOT = Path(__file__).resolve().parents[2]

@pytest.fixture(scope='module')
def make_docs():
    spec = importlib.util.spec_from_file_location('make_docs', ROOT / 'tools' / 'make_docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

@pytest.mark.parametrize('name', ['docs/api.md', 'docs/options.md'])
def test_pages_are_what_the_code_says(make_docs, name):
    assert (ROOT / name).read_text(encoding='utf-8') == make_docs.PAGES[name](), 'run python -m tools.make_docs'

def test_every_public_name_and_option_is_there(make_docs):
    api, options = make_docs.api_page(), make_docs.options_page()
    for name in spider_plugin.PUBLIC:
        assert f'\n### `{name}' in api
    for option in OPTIONS:
        assert f'\n### `{option.name}' in options and ' '.join(option.help.partition('  [default')[0].split()[:4]) in options
    assert 'Default: 0 for FastGAN' in options and 'Default: `depthwise`.' in options and '[default' not in options

def test_public_functions_are_annotated_and_documented(make_docs):
    for name, thing in [entry for names in make_docs.API.values() for entry in names]:
        function = vars(thing).get('__init__') if inspect.isclass(thing) else thing
        if function is not None:
            signature = inspect.signature(function)
            types = [p.annotation for key, p in signature.parameters.items() if key != 'self']
            types.append(signature.return_annotation)
            assert inspect.Signature.empty not in types or dataclasses.is_dataclass(thing), name
        assert thing.__doc__.strip().endswith('.'), name

def test_a_page_that_is_behind_fails_the_check(tmp_path, make_docs, monkeypatch):
    monkeypatch.setattr(make_docs, 'ROOT', tmp_path)
    (tmp_path / 'docs').mkdir()
    with pytest.raises(SystemExit, match=r'docs/api\.md and docs/options\.md: not what the code says'):
        make_docs.main(['--check'])
    assert not list((tmp_path / 'docs').iterdir())
    make_docs.main([])
    make_docs.main(['--check'])
    (tmp_path / 'docs' / 'api.md').write_text('older')
    with pytest.raises(SystemExit, match=r'docs/api\.md: not'):
        make_docs.main(['--check'])

def test_the_script_runs_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / 'tools' / 'make_docs.py'), '--check'], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
