"""~ is the home folder in every path of every command, also after the = of an option, where shells leave it; a URL is no folder
to write into."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.options.table import all_options
from spider_plugin.options.types import PathType, at_home
from spider_plugin.weights import prepare_backbone

ROOT  = Path(__file__).parents[1]
WORDS = ('DIR', 'FILE', 'PATH', 'ZIP', 'PKL', 'pkl', 'NPZ', 'SOURCE', 'RUN')    # in the metavar of a path

def is_path(param):
    return any(word in (param.metavar or '') for word in WORDS)

def paths_of(command):
    return [param for param in command.params if is_path(param)]

COMMANDS = {name: command for name, command in cli.main.commands.items() if paths_of(command)}

@pytest.mark.parametrize('name', COMMANDS)
def test_every_path_of_a_command_knows_the_home_folder(name):
    for param in paths_of(COMMANDS[name]):
        if param.name != 'walk' and not (param.metavar or '').startswith('NAME.['):     # names inside --outdir
            assert isinstance(param.type, PathType), param.name

def test_every_path_of_an_option_knows_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    paths = {option.name: option.type for option in all_options() if any(word in (option.metavar or '') for word in WORDS)}
    assert set(paths) == {'--spider-source', '--disc-backbone'} and isinstance(paths['--spider-source'], PathType)
    with pytest.raises(SpiderError, match=f'no file {tmp_path}/none.bin'):
        prepare_backbone('tf_efficientnet_lite0:~/none.bin')

@pytest.mark.parametrize('spec, at', [
    ('~/a', '{}/a'), ('~', '{}'), ('covariance:~/a b', 'covariance:{}/a b'), ('noise:~/x', 'noise:{}/x'), ('a~b', 'a~b'),
    ('./~/a', './~/a'), ('https://x/~me/y.pkl', 'https://x/~me/y.pkl'), ('C:\\x', 'C:\\x'), ('cifar10', 'cifar10')])
def test_at_home(spec, at, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert at_home(spec) == at.format(tmp_path)

@pytest.mark.parametrize('args', [
    ['generate', '--network=x.pkl', '--outdir=https://example.org/x'], ['export', 'x.pkl', '--out=s3://bucket/x.pt'],
    ['import', 'x.pt', '--out=gs://bucket/x.pkl'], ['init', 'https://example.org/x'], ['attach', 'https://example.org/x'],
    ['neighbors', 'noise', '--target=x', '--outdir=file:///x'], ['report', 'https://example.org/run']])
def test_a_url_is_no_path(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, args)
    assert result.exit_code == 2 and 'is a URL; give a path of this machine' in result.output and os.listdir(tmp_path) == []

#----------------------------------------------------------------------------
# Scripts of hosts.

SCRIPTS = ['train', 'calc_metrics', 'dataset_tool', 'gen_images', 'gen_video', 'projector', 'style_mixing']

@pytest.mark.parametrize('script', SCRIPTS)
def test_every_path_of_the_reference_host(host, script):
    types = importlib.import_module('training.option_types')
    module = importlib.import_module(script)
    (command,) = [value for value in vars(module).values() if isinstance(value, click.Command)]
    paths = [param for param in paths_of(command) if param.name not in ('spider_source', 'disc_backbone')]
    assert paths and all(isinstance(param.type, (types.PathType, PathType)) for param in paths)

def run(code, home, cwd):
    env = os.environ | dict(HOME=str(home), PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, *code], env=env, cwd=cwd, capture_output=True, text=True)

@pytest.mark.parametrize('script', ['reference', 'attached'])
def test_a_run_at_home(script, tmp_path, make_zip):
    home, work = tmp_path / 'home', tmp_path / 'work'
    home.mkdir(), work.mkdir()
    make_zip(home / 'd.zip', n=8, res=16)
    make_zip(home / 's.zip', n=8, res=16, seed=1)
    path = ROOT / 'reference_host' / 'train.py'
    if script == 'attached':    # a host whose options are plain strings
        path = tmp_path / 'train.py'
        path.write_text('import spider_plugin.hosts.hook\nimport click, json\n@click.command()\n'
                        '@click.option("--outdir", metavar="DIR")\n@click.option("--data", type=str)\n@click.option("--resume")\n'
                        'def main(**options):\n    print(json.dumps(options))\nmain()\n')
        done = run([path, '--outdir=~/runs', '--data=~/d.zip', '--resume=~/x.pkl'], home, work)
        assert json.loads(done.stdout) == dict(outdir=f'{home}/runs', data=f'{home}/d.zip', resume=f'{home}/x.pkl'), done.stderr
        return
    done = run([path, '--outdir=~/runs', '--data=~/d.zip', '--spider-source=~/s.zip', '--cfg=stylegan2', '--batch=4', '--gamma=1',
                '--cbase=64', '--cmax=8', '-n', '--spider-no-dry-run'], home, work)
    assert done.returncode == 0 and f'{home}/runs/00000-' in done.stdout, done.stderr
    assert os.listdir(work) == []
