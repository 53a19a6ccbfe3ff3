"""The scripts of benchmarks/ and tools/: they import nothing of tests/, all load, and pages name them as they are run."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for folder in ('benchmarks', 'tools') for path in (ROOT / folder).rglob('*.py'))
PAGES = [*ROOT.glob('[!C]*.md'), *ROOT.glob('docs/*.md'), ROOT / 'CONTRIBUTING.md', ROOT / 'reference_host' / 'README.md',
         ROOT / 'spider_plugin' / 'demo' / 'assets' / 'ATTRIBUTION.md', ROOT / 'benchmarks' / 'gpu_all.sh', *SCRIPTS]
TEST_MODULES = {'tests'} | {path.stem for path in (ROOT / 'tests').rglob('*.py')}

def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield '.' * node.level + (node.module or '')

def module_of(path):
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')

#----------------------------------------------------------------------------

@pytest.mark.parametrize('path', SCRIPTS, ids=module_of)
def test_scripts_import_nothing_of_the_tests(path):
    assert not [name for name in imports(path) if name.startswith('.') or name.partition('.')[0] in TEST_MODULES]

def test_every_benchmark_loads():
    """All in one process, from the root, as `python -m` finds them; none may do its work when it is only imported."""
    names = [module_of(path) for path in SCRIPTS if path.parts[-2] != 'tools']
    program = f'import importlib\nfor name in {names!r}: importlib.import_module(name)'
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_name_scripts_that_exist(page):
    text = page.read_text(encoding='utf-8')
    paths = re.findall(r'(?<![\w/])((?:benchmarks|tools)/[\w/]+\.(?:py|sh))\b', text)
    modules = re.findall(r'(?<![\w/.])((?:benchmarks|tools)\.\w[\w.]*\w)', text)
    assert not [name for name in paths if not (ROOT / name).is_file()]
    assert not [name for name in modules if not (found := ROOT / name.replace('.', '/')).is_dir()
                and not found.with_suffix('.py').is_file()]
    assert not re.findall(r'python3? (?:benchmarks|tools)/', text)

#----------------------------------------------------------------------------
