"""What a change touches: a metric two files, a host's shim one, an option two beside its test. Each is made in a copy of the
tree, and works there. (The table's other two, a mapping kind and a generator, are those of the example package.)"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spider_plugin import registry

ROOT = Path(__file__).resolve().parents[1]

class Tree:
    """A copy of the tree in `path`; `touched` is what has another content there, or is new."""

    def __init__(self, path):
        self.path = path
        unwanted = shutil.ignore_patterns('__pycache__', 'assets', 'csrc')
        for name in ('spider_plugin', 'torch_utils_ext', 'reference_host', 'configs', 'patches', 'docs'):
            shutil.copytree(ROOT / name, path / name, ignore=unwanted)

    def add(self, file, text):
        (self.path / file).write_text(text, encoding='utf-8')

    def edit(self, file, *changes):
        """changes: (text that is in the file once, text in its place)."""
        text = (self.path / file).read_text(encoding='utf-8')
        for before, after in changes:
            assert text.count(before) == 1, f'{file} has {text.count(before)} times {before!r}'
            text = text.replace(before, after)
        (self.path / file).write_text(text, encoding='utf-8')

    @property
    def touched(self):
        files = (path for path in self.path.rglob('*') if path.is_file() and '__pycache__' not in path.parts)
        names = (path.relative_to(self.path).as_posix() for path in files)
        return sorted(name for name in names if not (ROOT / name).is_file()
                      or (ROOT / name).read_bytes() != (self.path / name).read_bytes())

    def run(self, *command, cwd=None):
        """What `python COMMAND` prints there."""
        done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd or self.path, text=True, capture_output=True,
                              env=dict(os.environ, PYTHONPATH=str(self.path), COLUMNS='200'))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, done.stderr

@pytest.fixture
def tree(tmp_path):
    tree = Tree(tmp_path / 'tree')
    assert tree.touched == []
    return tree

#----------------------------------------------------------------------------
# A metric: its file, and its name among those that register.

METRIC = '''"""Mean brightness of generated images."""

import torch

from spider_plugin import registry

@registry.metrics.register('brightness')
def brightness(opts):
    """{'brightness': mean of 8 images, in [-1, 1]}"""
    z = torch.randn([8, opts.G.z_dim], device=opts.device)
    return {'brightness': float(opts.G(z, torch.zeros([8, opts.G.c_dim], device=opts.device)).mean())}
'''

def test_a_metric(tree, make_snapshot, make_zip, tmp_path):
    assert 'brightness' not in registry.metrics
    tree.add('spider_plugin/hosts/brightness.py', METRIC)
    tree.edit('spider_plugin/registry.py', ("'spider_plugin.hosts.sid_metric'", "'spider_plugin.hosts.sid_metric', "
                                            "'spider_plugin.hosts.brightness'"))
    assert len(tree.touched) == 2
    data = make_zip(tmp_path / 'data.zip', n=8)
    printed, _ = tree.run('-m', 'spider_plugin.cli', 'metrics', '--metrics=brightness', f'--network={make_snapshot()}',
                          f'--data={data}', '--gpus=1', '--threads=1', '--verbose=0', cwd=tmp_path)
    result = json.loads(printed[printed.index('{"'):].splitlines()[0])
    assert result['metric'] == 'brightness' and -1 < result['results']['brightness'] < 1

#----------------------------------------------------------------------------
# A shim: a row.

ROW = '''SHIMS = [
    Shim(name='old_name', where='old_host', asks=lambda module: not hasattr(module, 'new_name'),
         reason='this torch calls it by its new name', needed=lambda: True,
         apply=lambda module: setattr(module, 'new_name', module.old_name)),
'''

def test_a_shim(tree, tmp_path):
    tree.edit('spider_plugin/hosts/shims/stack.py', ('SHIMS = [\n', ROW))
    assert len(tree.touched) == 1
    (tmp_path / 'old_host.py').write_text('old_name = 7\n')
    script = tmp_path / 'script.py'
    script.write_text('import spider_plugin.hosts.hook, old_host; print(old_host.new_name)\n')
    printed, said = tree.run(script, cwd=tmp_path)
    assert printed == '7\n'
    assert said == 'spider-plugin: shim old_name: this torch calls it by its new name (SPIDER_SHIMS=off)\n'

#----------------------------------------------------------------------------
# An option: its group's file, which has the edit too, and the page of the group; and its test, of which this is one.

OPTION = '''OPTIONS = [
    Option('--disc-seed',       int,    0,          'INT', 'Seed of its random projections', GROUP),
'''

@pytest.mark.slow
def test_an_option(tree, make_zip, tmp_path):
    tree.edit('spider_plugin/options/discriminator.py', ('OPTIONS = [\n', OPTION),
              ("embed=options['disc_embed'],", "embed=options['disc_embed'], seed=options['disc_seed'],"))
    row = '| `--disc-embed` |'
    tree.edit('docs/projected.md', (row, f'| `--disc-seed` | 0 | seed of its random projections |\n{row}'))
    assert len(tree.touched) == 2
    train = ['-m', 'spider_plugin.cli', 'train']
    assert '--disc-seed INT' in tree.run(*train, '--help')[0]
    data = make_zip(tmp_path / 'data.zip', n=8)
    options = [f'--data={data}', '--outdir=runs', '--cfg=stylegan2', '--batch=4', '--gamma=1', '--dry-run', '--disc=projected',
               '--disc-backbone=random']
    for given, seed in (([], 0), (['--disc-seed=3'], 3)):
        printed, _ = tree.run(*train, *options, *given, cwd=tmp_path)
        assert json.JSONDecoder().raw_decode(printed[printed.index('{\n'):])[0]['D_kwargs']['seed'] == seed

#----------------------------------------------------------------------------
