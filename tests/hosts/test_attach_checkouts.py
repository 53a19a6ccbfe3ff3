"""`spider attach` and `spider detach` on copies of the checkouts under SPIDER_HOSTS, and on one of the reference host."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from spider_plugin.hosts.attach import attach, detach, detach_source, patch
from spider_plugin.resources import resource_dir

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = {
    'stylegan3':            ['train.py', 'calc_metrics.py', 'gen_images.py', 'gen_video.py', 'avg_spectra.py', 'visualizer.py'],
    'stylegan2-ada-pytorch': ['train.py', 'calc_metrics.py', 'projector.py', 'style_mixing.py', 'generate.py'],
    'projected-gan':        ['train.py', 'calc_metrics.py', 'gen_images.py', 'gen_video.py'],
    'reference_host':       patch()['scripts'],
}

@pytest.fixture(params=SCRIPTS)
def checkout(request, tmp_path):
    """A copy of a checkout that is not attached; its folder has the host's name."""
    name, copy = request.param, tmp_path / request.param
    source = resource_dir(name) if name == 'reference_host' else pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, name)
    if not (source / 'train.py').is_file():
        pytest.skip(f'needs a checkout as $SPIDER_HOSTS/{name}')
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns('__pycache__'))
    if name == 'reference_host':
        for script in SCRIPTS[name]:
            (copy / script).write_bytes(detach_source((copy / script).read_bytes()))
    return copy

def contents(tree):
    """{path: (bytes, mode)} of all files in a tree."""
    return {path.relative_to(tree).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
            for path in tree.rglob('*') if path.is_file() and '__pycache__' not in path.parts}

def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}

SPELLINGS = {
    'as it is':         lambda source: source,
    'CRLF':             lambda source: source.replace(b'\n', b'\r\n'),
    'mixed endings':    lambda source: source.replace(b'\n', b'\r\n', 5),
    'BOM':              lambda source: b'\xef\xbb\xbf' + source,
    'no last newline':  lambda source: source.rstrip(b'\n'),
    'all':              lambda source: b'\xef\xbb\xbf' + source.rstrip(b'\n').replace(b'\n', b'\r\n'),
}

@pytest.mark.parametrize('spelling', SPELLINGS)
def test_detach_restores_the_tree(checkout, spelling):
    scripts = SCRIPTS[checkout.name]
    for number, name in enumerate(scripts):
        (checkout / name).write_bytes(SPELLINGS[spelling]((checkout / name).read_bytes()))
        (checkout / name).chmod([0o644, 0o755, 0o444][number % 3]) # Read-only files are attached, and stay read-only.
    before = contents(checkout)
    done = attach(checkout)
    after = contents(checkout)
    assert [line.split()[1].strip(',') for line in done if line.startswith('Attached')] == scripts
    assert changed(before, after) == set(scripts)
    for name in scripts:
        assert after[name][1] == before[name][1] and after[name][0].count(patch()['line']) == 1
    attach(checkout)
    assert contents(checkout) == after
    detach(checkout)
    assert contents(checkout) == before

def test_detach_after_an_edit(checkout):
    script = checkout / 'train.py'
    edit = lambda source: b'# Mine.\n' + source.replace(b'\nimport ', b'\nimport sys\nimport ', 1) + b'\n# The end.'
    wanted = edit(script.read_bytes())
    attach(checkout)
    script.write_bytes(edit(script.read_bytes()))
    detach(checkout)
    assert script.read_bytes() == wanted

def test_help_shows_our_options(checkout):
    stock = run(checkout)
    attach(checkout)
    attached = run(checkout)
    if attached.returncode != 0: # A package that the host wants and nobody mends.
        module = attached.stderr.rstrip().splitlines()[-1]
        assert stock.returncode != 0 and module.startswith('ModuleNotFoundError') and 'pkg_resources' not in module
        pytest.skip(f'this environment lacks what the host imports: {module}')
    assert 'Spider options:' in attached.stdout and '--spider-source' in attached.stdout
    assert '--spider-source' not in stock.stdout

def run(checkout):
    """train.py --help, from the checkout's own folder, as a user starts it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('SPIDER_')}
    paths = os.pathsep.join(filter(None, [os.environ.get('PYTHONPATH'), str(ROOT)]))
    env |= dict(PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE='1', PYTHONWARNINGS='ignore')
    return subprocess.run([sys.executable, 'train.py', '--help'], cwd=checkout, env=env, capture_output=True, text=True)
