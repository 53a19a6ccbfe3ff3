"""Attached checkouts that are killed, and that continue: what their runs leave, and that --save-state ends with the bits of a run
that nobody interrupted, as far as the loop allows."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from spider_plugin.snapshots.records import read_pickle

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

# Ticks of one iteration, each with a snapshot. Without lazy regularization an iteration does not depend on its number; a fresh
# residual refuses path lengths in every iteration.
TICKS = dict(kimg_per_tick=0.004, image_snapshot_ticks=None, network_snapshot_ticks=1, G_reg_interval=None, D_reg_interval=None)
SMALL = ['--cbase=256', '--cmax=16']
ADA = {'G_kwargs.mapping_kwargs.num_layers': 2, 'G_kwargs.synthesis_kwargs.channel_base': 256, 'D_kwargs.channel_base': 256,
       'G_kwargs.synthesis_kwargs.channel_max': 16, 'D_kwargs.channel_max': 16}
HOSTS = {   # options, values for the config, packages that the host wants
    'stylegan3':             (['--cfg=stylegan2', '--map-depth=2', '--gamma=1', '--mbstd-group=2', *SMALL,
                               '--spider-source=strokes'],
                              {'ada_interval': 1, 'ada_kimg': 1, 'loss_kwargs.pl_weight': 0}, ['psutil']),
    'stylegan2-ada-pytorch': (['--cfg=auto', '--gamma=1'], dict(ADA, ada_interval=1, ada_kimg=1), ['psutil']),
    'projected-gan':         (['--cfg=stylegan2', *SMALL], {}, ['psutil', 'timm', 'dill']),
}

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    return make_zip(tmp_path_factory.mktemp('data') / 'D16.zip', n=24, res=16, seed=1)

@pytest.fixture
def start(attached, data, tmp_path):
    """start(host, kimg, *options, **entries of SPIDER_TINY) -> the process that trains in tmp_path/runs; its output is in
    tmp_path/out.txt."""
    def popen(host, kimg, *options, **more):
        args, config, needs = HOSTS[host]
        for package in needs:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f'{host} needs {package}')
        tiny = dict(config={**TICKS, **config, 'total_kimg': kimg}, log=str(tmp_path / 'rank'), backbone='timm' in needs, **more)
        env = dict(os.environ, SPIDER_DEVICE='cpu', SPIDER_TINY=json.dumps(tiny), PYTHONDONTWRITEBYTECODE='1',
                   PYTHONPATH=os.pathsep.join(map(str, filter(None, [ROOT, os.environ.get('PYTHONPATH')]))))
        command = [sys.executable, 'train.py', f'--outdir={tmp_path / "runs"}', f'--data={data}', '--gpus=1', '--batch=4',
                   '--kimg=1', '--workers=1', '--metrics=none', *args, *options]
        with open(tmp_path / 'out.txt', 'w') as out:
            return subprocess.Popen(command, cwd=attached(host), env=env, stdout=out, stderr=subprocess.STDOUT)
    return popen

@pytest.fixture
def train(start, tmp_path):
    """train(host, kimg, *options) -> (the newest run directory, what was printed)."""
    def finish(*args):
        code, out = start(*args).wait(), (tmp_path / 'out.txt').read_text()
        assert code == (3 if 'Restart: exit with code 3' in out else 0), out    # projected-gan's word for an unfinished kimg
        return max((tmp_path / 'runs').iterdir()), out
    return finish

def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)

def leftovers(runs):
    return list(runs.glob('*/*.tmp'))

@pytest.mark.parametrize('host', HOSTS)
def test_a_kill_in_the_middle_of_a_save(host, start, train, tmp_path):
    """The snapshot before it stays whole under their common name, and the next start removes the half of this one."""
    process = start(host, 1, '--save-state', hang=str(tmp_path / 'half'))
    wait_for(tmp_path / 'half', process)
    process.kill()
    process.wait()
    run_dir, = (tmp_path / 'runs').iterdir()
    snapshot, = run_dir.glob('*.pkl')
    temp, = leftovers(tmp_path / 'runs')
    assert temp.name.startswith(snapshot.name) and 0 < temp.stat().st_size < snapshot.stat().st_size
    assert read_pickle(snapshot)['G'].state_dict()
    process = start(host, 1)
    while leftovers(tmp_path / 'runs') and process.poll() is None:
        time.sleep(0.05)
    gone = not leftovers(tmp_path / 'runs')
    process.kill()
    process.wait()
    assert gone and read_pickle(snapshot)['G'].state_dict()

def networks(run_dir):
    """{name: tensor} of G, D and the average of G in the newest snapshot of a run."""
    data = read_pickle(max(run_dir.glob('network-snapshot*.pkl')))
    return {key: data[key].state_dict() for key in ('G', 'D', 'G_ema')}

def differ(first, second):
    return [name for name in first if not torch.equal(first[name], second[name])]

def state_of(run_dir):
    return torch.load(max(run_dir.glob('training-state*.pt')), weights_only=True)

@pytest.mark.parametrize('host', HOSTS)
def test_a_run_continues(host, train, tmp_path):
    straight, _ = train(host, 0.016, '--save-state')
    expected, state = networks(straight), state_of(straight)
    (tmp_path / 'runs').rename(tmp_path / 'straight')
    first, _ = train(host, 0.008, '--save-state')
    before = networks(first)
    resume = [] if host == 'projected-gan' else [f'--resume={max(first.glob("network-snapshot*.pkl"))}']
    left = 0.008 if host == 'stylegan2-ada-pytorch' else 0.016      # Its images are counted from 0.
    second, out = train(host, left, '--save-state', *resume)
    assert 'Continuing from ' in out and 'Anew: ' in out
    actual, now = networks(second), state_of(second)
    assert len(differ(before['G'], expected['G'])) > 10
    assert not differ(actual['G'], expected['G']) and not differ(actual['D'], expected['D'])
    assert now['at']['shown'] == state['at']['shown'] == 16 and now['augment_p'] == state['augment_p']
    assert torch.equal(now['random']['torch'], state['random']['torch'])
    if host != 'stylegan2-ada-pytorch': # Without its count the average of G begins anew.
        assert now['at'] == state['at'] and not differ(actual['G_ema'], expected['G_ema'])

@pytest.mark.parametrize('host', ['stylegan3', 'stylegan2-ada-pytorch'])
def test_a_run_of_one_rank_continues_with_two(host, train):
    """The host compares its ranks before each snapshot, so both have the state."""
    first, _ = train(host, 0.008, '--save-state')
    second, out = train(host, 0.016, '--save-state', '--gpus=2', f'--resume={max(first.glob("network-snapshot*.pkl"))}')
    assert out.count('Continuing from ') == 1 and 'Anew: random numbers, ' in out
    now = state_of(second)
    assert now['random'] is None and now['at']['shown'] == (24 if host == 'stylegan2-ada-pytorch' else 16)
    steps = {int(moments['step']) for moments in now['optimizers']['D']['state'].values()}
    assert steps == {now['at']['shown'] // 4}

def test_source_and_state_follow_together(train, monkeypatch):
    options, *rest = HOSTS['stylegan3']
    first, _ = train('stylegan3', 0.008, '--save-state')
    plain = [option for option in options if not option.startswith('--spider')]
    monkeypatch.setitem(HOSTS, 'stylegan3', (plain, *rest))
    _, out = train('stylegan3', 0.012, '--save-state', f'--resume={max(first.glob("network-snapshot*.pkl"))}')
    assert len(plain) < len(options) and 'Spider resume:       as in the snapshot, ' in out and 'Continuing from ' in out
