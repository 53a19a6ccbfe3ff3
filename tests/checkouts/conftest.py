"""Checkouts of public hosts, from the folder that SPIDER_HOSTS names."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch

HERE = pathlib.Path(__file__).parent
ROOT = pathlib.Path(__file__).parents[2]
HARNESS = HERE / 'harness.py'
REFERENCE_HOST = ROOT / 'reference_host'

@pytest.fixture(scope='session')
def stylegan3():
    """Folder of a checkout of NVlabs/stylegan3."""
    path = pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, 'stylegan3')
    if not (path / 'training' / 'networks_stylegan2.py').is_file():
        pytest.skip('needs a checkout of NVlabs/stylegan3 as $SPIDER_HOSTS/stylegan3')
    return path

@pytest.fixture(scope='session')
def reference_host():
    return REFERENCE_HOST

@pytest.fixture
def run_in(tmp_path):
    """run_in(host folder, call, **arguments) -> result of the harness's function, in a process that sees only that host."""
    def run(host_dir, call, harness=HARNESS, **arguments):
        job, result = tmp_path / 'job.pt', tmp_path / 'result.pt'
        torch.save(dict(call=call, **arguments), job)
        env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        done = subprocess.run([sys.executable, harness, host_dir, job, result], env=env, cwd=tmp_path, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return torch.load(result)
    return run

#----------------------------------------------------------------------------
# Their own scripts, in a copy of each checkout that is attached; training_harness.py watches from inside.

@pytest.fixture(scope='session')
def checkout():
    """checkout(host) -> its folder."""
    def find(host):
        path = pathlib.Path(os.environ.get('SPIDER_HOSTS') or os.devnull, host)
        if not (path / 'train.py').is_file():
            pytest.skip(f'needs a checkout as $SPIDER_HOSTS/{host}')
        return path
    return find

@pytest.fixture(scope='session')
def attached(checkout, tmp_path_factory):
    """attached(host) -> the folder of an attached copy."""
    from spider_plugin.hosts.line import attach_source
    copies = {}
    def attach(host):
        if host not in copies:
            source, copy = checkout(host), tmp_path_factory.mktemp('hosts') / host
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns('.git', 'media', 'docs'))
            for name in ('harness.py', 'training_harness.py'):
                shutil.copy(HERE / name, copy / name)
            for name in ('train.py', 'calc_metrics.py'):
                script = copy / name
                text = attach_source(script.read_bytes())
                line = next(line for line in text.splitlines(keepends=True) if b'# attaches spider-plugin' in line)
                script.write_bytes(text.replace(line, line + b'import training_harness\n'))
            copies[host] = copy     # noted once it is there: where it is missing, every test that asks is skipped
        return copies[host]
    return attach

@pytest.fixture(scope='session')
def run():
    """run(command, folder, more folders of modules, plugin=True, **environment) -> the finished process."""
    def start(command, cwd, paths=(), plugin=True, **environment):
        paths = [*paths, *([ROOT] if plugin else []), *filter(None, [os.environ.get('PYTHONPATH')])]
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)), PYTHONDONTWRITEBYTECODE='1', **environment)
        return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=env, text=True, capture_output=True)
    return start

@pytest.fixture(scope='session')
def train_attached(attached, run, tmp_path_factory):
    """train_attached(host, data, *options, ranks=1, config={}, needs=()) -> (run directory, [what each rank saw], stdout, stderr)

    config: values for the config by dotted name; needs: packages that the host needs."""
    def train(host, data, *options, ranks=1, config=None, needs=()):
        for package in needs:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f'{host} needs {package}')
        out = tmp_path_factory.mktemp('run')
        tiny = json.dumps(dict(config=config or {}, log=str(out / 'rank'), backbone='timm' in needs))
        done = run(['train.py', f'--outdir={out / "runs"}', f'--data={data}', f'--gpus={ranks}', '--batch=4', '--kimg=1',
                    '--workers=1', '--metrics=none', *options], attached(host), SPIDER_DEVICE='cpu', SPIDER_TINY=tiny)
        expected = 3 if 'Restart: exit with code 3' in done.stdout else 0   # projected-gan's word for an unfinished kimg
        assert done.returncode == expected, done.stdout + done.stderr
        seen = [json.loads((out / f'rank-{rank}.json').read_text()) for rank in range(ranks)]
        return next((out / 'runs').iterdir()), seen, done.stdout, done.stderr
    return train

TOY = '''
import torch
from spider_plugin import registry

@registry.metrics.register('toy')
def toy(opts):
    z = torch.randn([4, opts.G.z_dim], generator=torch.Generator().manual_seed(0)).to(opts.device)
    return dict(toy=float(opts.G(z, torch.zeros([4, opts.G.c_dim])).square().mean()))
'''

@pytest.fixture
def toy_metric(tmp_path):
    """Folder of an installed package that extends the plugin with a metric, `toy`."""
    info = tmp_path / 'toy_plugin-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text('[spider_plugin]\ntoy = toy_plugin\n')
    (tmp_path / 'toy_plugin.py').write_text(TOY)
    return tmp_path
