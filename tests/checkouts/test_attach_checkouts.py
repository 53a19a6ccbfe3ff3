"""`spider attach` and `spider detach` on copies of the checkouts under SPIDER_HOSTS, and on one of the reference host."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from spider_plugin.hosts.attach import attach, detach
from spider_plugin.hosts.line import detach_source, patch
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
    """Return {path: (bytes, mode)} of all files in a tree."""
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

def test_help_shows_the_options_of_the_plugin(checkout):
    stock = run(checkout, '--help')
    attach(checkout)
    attached = run(checkout, '--help')
    skip_where_packages_are_missing(attached)
    assert 'Spider options:' in attached.stdout and '--spider-source' in attached.stdout
    assert '--spider-source' not in stock.stdout

DRY = {
    'stylegan3':             ['--cfg=stylegan2', '--gpus=1', '--batch=4', '--gamma=1'],
    'stylegan2-ada-pytorch': ['--cfg=auto', '--gpus=1'],
    'projected-gan':         ['--cfg=stylegan2', '--gpus=1', '--batch=4'],
    'reference_host':        ['--cfg=stylegan2', '--gpus=1', '--batch=4', '--gamma=1'],
}

def test_a_dry_run_shows_the_edited_config(checkout, make_zip, tmp_path):
    make_zip(tmp_path / 'target.zip', n=8, res=16)
    make_zip(tmp_path / 'source.zip', n=8, res=16, seed=1)
    attach(checkout)
    shown = run(checkout, f'--outdir={tmp_path / "out"}', f'--data={tmp_path / "target.zip"}', *DRY[checkout.name], '--dry-run',
                f'--spider-source={tmp_path / "source.zip"}')
    skip_where_packages_are_missing(shown)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    config = json.loads(shown.stdout[shown.stdout.index('{\n') : shown.stdout.index('\n}\n') + 2])
    assert config['G_kwargs']['class_name'].startswith('spider_plugin.bundles.')
    assert config['G_kwargs']['spider']['mapping'] == 'residual' and not (tmp_path / 'out').exists()

def skip_where_packages_are_missing(process):
    """Skip the test if packages that the host needs are missing and no shim replaces them."""
    reason = (process.stderr.rstrip().splitlines() or [''])[-1]
    if process.returncode != 0 and reason.startswith('ModuleNotFoundError') and 'pkg_resources' not in reason:
        pytest.skip(f'this environment lacks what the host imports: {reason}')

def run(checkout, *args):
    """Run train.py from the checkout's folder, as a user does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('SPIDER_') or name == 'SPIDER_CACHE_DIR'}
    paths = os.pathsep.join(filter(None, [os.environ.get('PYTHONPATH'), str(ROOT)]))
    env |= dict(PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE='1', PYTHONWARNINGS='ignore')
    return subprocess.run([sys.executable, 'train.py', *args], cwd=checkout, env=env, capture_output=True, text=True)
