"""A minimal host with the attached line, packages that extend the plugin, and processes with and without the plugin."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from spider_plugin.resources import resource_dir

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(Path(__file__).parent))     # forks.py
ATTACH = json.loads((resource_dir('patches') / 'attach.json').read_text())

#----------------------------------------------------------------------------
# The host: a click command that builds c and launches, a registry of metrics, and a child that prints what it has.

_TRAIN = '''"""A host."""
LINE

import json
import multiprocessing
import os
import sys

import click

from metrics import metric_main

def subprocess_fn(c):
    hooked = hasattr(click.core.Command.__init__, 'spider_plugin')
    print(json.dumps(dict(c=c, metrics=metric_main.list_valid_metrics(), hooked=hooked, torch='torch' in sys.modules,
                          child=__name__)), flush=True)

def launch_training(c, desc, outdir, dry_run):
    os.makedirs(os.path.join(outdir, desc))
    with open(os.path.join(outdir, desc, 'training_options.json'), 'w') as file:
        json.dump(c, file)
    process = multiprocessing.get_context('spawn').Process(target=subprocess_fn, args=(c,))
    process.start()
    process.join()
    raise SystemExit(process.exitcode)

def SETUP(data, cfg, detector):
    c = dict(cfg=cfg, detector=detector,
             G_kwargs=dict(class_name='nets.Generator'), D_kwargs=dict(class_name='nets.Discriminator'),
             G_opt_kwargs=dict(lr=1.0), D_opt_kwargs=dict(lr=1.0), loss_kwargs={},
             training_set_kwargs=dict(class_name='data.Data', path=data))
    return f'{cfg}-run', c

@click.command()
@click.option('--outdir', required=True)
@click.option('--data', required=True)
@click.option('--cfg', type=click.Choice(['stylegan2', 'tiny']), default='tiny')
@click.option('--glr', type=float)
@click.option('--detector')
@click.option('--code', type=int, default=0)
def main(outdir, data, cfg, glr, detector, code):
    """Train."""
    if code:
        raise SystemExit(code)
    desc, c = SETUP(data=data, cfg=cfg, detector=detector)
    LAUNCH(c=c, desc=desc, outdir=outdir, dry_run=False)

if __name__ == '__main__':
    main()
'''

_METRICS = '''
_metrics = {}

def register_metric(fn):
    _metrics[fn.__name__] = fn
    return fn

def is_valid_metric(name):
    return name in _metrics

def list_valid_metrics():
    return list(_metrics)

@register_metric
def fid(opts):
    return dict(fid=1.0)
'''

@pytest.fixture
def fake_host(tmp_path):
    """fake_host(line=..., launch=..., setup=...) writes the host and returns the path of its train.py.

    launch and setup are the names of the functions that get the config and make it."""
    def write(line=ATTACH['line'], launch='launch_training', setup='make_config'):
        tree = tmp_path / 'host'
        (tree / 'metrics').mkdir(parents=True, exist_ok=True)
        (tree / 'metrics' / '__init__.py').write_text('')
        (tree / 'metrics' / 'metric_main.py').write_text(_METRICS)
        script = _TRAIN.replace('LINE', line).replace('LAUNCH', launch).replace('SETUP', setup)
        (tree / 'train.py').write_text(script.replace('def launch_training', f'def {launch}'))
        return tree / 'train.py'
    return write

#----------------------------------------------------------------------------
# Another author's package, as pip would leave it on the path.

@pytest.fixture
def toy_plugin(tmp_path):
    """Directory for PYTHONPATH with a package that registers a metric `toy` (the network's resolution), a `fid`, --cfg=toynet."""
    path = tmp_path / 'site'
    info = path / 'toy_plugin-1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[spider_plugin]\ntoy = toy_plugin\n')
    (path / 'toy_plugin.py').write_text(textwrap.dedent('''
        from spider_plugin import registry
        from spider_plugin.options.generators import PluginGenerator

        @registry.metrics.register('toy')
        def measure(opts):
            return dict(toy=opts.G.img_resolution)

        def edit(c, given, host):
            c['G_kwargs'] = dict(class_name='toy_plugin.Net')

        registry.generators.register('toynet')(PluginGenerator(edit))

        @registry.metrics.register('fid')
        def other_fid(opts):
            return dict(fid=0.0)
    '''))
    return path

#----------------------------------------------------------------------------
# Processes. An installed plugin is hidden by finders that do not see it.

_HIDE = '''
import runpy, sys
class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] == 'spider_plugin' else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Hidden, sys.meta_path)
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition('/')[0]
runpy.run_path(sys.argv[0], run_name='__main__')
'''

@pytest.fixture
def python():
    """python(*args, plugin=True, paths=(), cwd=None, **environment) -> CompletedProcess with text output."""
    def run(*args, plugin=True, paths=(), cwd=None, **environment):
        env = {key: value for key, value in os.environ.items() if not key.startswith('SPIDER_') or key == 'SPIDER_CACHE_DIR'}
        env |= {'PYTHONPATH': os.pathsep.join(map(str, [*paths, ROOT])), 'PYTHONWARNINGS': 'ignore', **environment}
        command = [sys.executable, *([] if plugin else ['-c', _HIDE]), *map(str, args)]
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
    return run
