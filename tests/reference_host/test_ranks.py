"""Several ranks, spawned, under torchrun, and as two "nodes" on this machine: their results, and their ends."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
import torch

from training import ranks
from training.runtime import SpiderError

HOST = pathlib.Path(__file__).parents[2] / 'reference_host'
JOBS = pathlib.Path(__file__).with_name('rank_jobs.py')
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run']
DEADLINE = 60 # Seconds within which a death has ended all ranks.

def start(args, **popen):
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    return subprocess.Popen([str(arg) for arg in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=dict(env, OMP_NUM_THREADS='1'), **popen)

def finish(process, code=0):
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, output
    return output

def job_args(tmp_path, func, num_ranks=None, patience=5, bounds=None, **kwargs):
    path = tmp_path / f'{func}.json'
    path.write_text(json.dumps(dict(bounds or {}, func=func, num_ranks=num_ranks, patience=patience, kwargs=kwargs)))
    return [JOBS, HOST, path]

def spawned(tmp_path, func, num_ranks=2, code=0, **kwargs):
    return finish(start([sys.executable, *job_args(tmp_path, func, num_ranks, **kwargs)]), code)

def nodes(args):
    """Both nodes of a torchrun over two of one rank each."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    return [start([*TORCHRUN, '--nnodes=2', f'--node-rank={node}', '--nproc-per-node=1', '--master-addr=127.0.0.1',
                   f'--master-port={port}', *args]) for node in (0, 1)]

#----------------------------------------------------------------------------
# Training.

@pytest.fixture(scope='module')
def options(tmp_path_factory, make_zip):
    """A config of train.py with all features in which ranks could differ: labels, augmentation, path length, style mixing."""
    path = tmp_path_factory.mktemp('ranks')
    make_zip(path / 'set.zip', n=24, res=16, labels=3)
    args = ['train.py', f'--outdir={path}/dry', f'--data={path}/set.zip', '--cfg=stylegan2', '--gpus=2', '--batch=8',
            '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=2', '--kimg=0.04', '--tick=0.02', '--snap=2', '--threads=1',
            '--cond=True', '--target=-0.99', '--workers=0', '--dry-run']
    output = finish(start([sys.executable, *args], cwd=HOST))
    return json.loads(output[output.index('{') : output.rindex('}') + 1])

def check_trained(out):
    """Check that ranks have equal weights, averages and augmentation, and had different images."""
    first, second = torch.load(out / '0.pt'), torch.load(out / '1.pt')
    for net in ('G', 'D', 'G_ema', 'augment_pipe'):
        assert first[net].keys() == second[net].keys()
        for name, tensor in first[net].items():
            assert torch.equal(tensor, second[net][name]), f'{net}.{name}'
    assert torch.equal(first['pl_mean'], second['pl_mean']) and first['pl_mean'] > 0
    assert first['G']['mapping.w_avg'].abs().max() > 0 and first['augment_pipe']['p'] > 0
    assert first['real'].shape == (4, 3, 16, 16)
    assert not torch.isclose(first['real'], second['real']).flatten(1).all(1).any()
    assert not torch.isclose(first['z'], second['z']).any(1).any()
    return first

@pytest.mark.parametrize('start_ranks', ['spawn', pytest.param('torchrun', marks=pytest.mark.slow)])
def test_training(tmp_path, options, start_ranks):
    run_dir = tmp_path / 'run'
    run_dir.mkdir()
    kwargs = dict(out=str(tmp_path), **dict(options, run_dir=str(run_dir), ada_interval=1))
    if start_ranks == 'spawn':
        output = spawned(tmp_path, 'train', **kwargs)
    else:
        output = finish(start([*TORCHRUN, '--standalone', '--nproc-per-node=2', *job_args(tmp_path, 'train', **kwargs)]))
    check_trained(tmp_path)
    assert output.count('tick 1 ') == 1 and 'Done.' in output # Rank 0 speaks for all.
    assert (run_dir / 'network-snapshot-000000040.pkl').is_file() and 'tick 2' in (run_dir / 'log.txt').read_text()

def test_gradients_of_a_batch_do_not_depend_on_the_ranks(tmp_path):
    for shares in (1, 2):
        spawned(tmp_path, 'gradients', num_ranks=shares, shares=shares, out=str(tmp_path))
    alone, both, other = [torch.load(tmp_path / name) for name in ('1-0.pt', '2-0.pt', '2-1.pt')]
    assert alone.keys() == both.keys() == other.keys() and len(alone) > 60
    for name, grad in alone.items():
        assert torch.equal(both[name], other[name])
        error = (both[name] - grad).abs().max() / grad.abs().max().clamp(min=1e-8)
        assert error <= 1e-5, (name, error)
    assert sum(bool(grad.any()) for grad in alone.values()) > 50

@pytest.mark.slow
def test_two_nodes_train(tmp_path, make_zip):
    make_zip(tmp_path / 'set.zip', n=16, res=16)
    args = [HOST / 'train.py', f'--outdir={tmp_path}/runs', f'--data={tmp_path}/set.zip', '--cfg=stylegan2', '--batch=8',
            '--gamma=1', '--cbase=64', '--cmax=8', '--map-depth=1', '--kimg=0.016', '--tick=0.016', '--snap=1', '--workers=0']
    first, second = nodes(args)
    assert 'Done.' in finish(first) and 'tick' not in finish(second)
    run_dir, = (tmp_path / 'runs').iterdir()
    assert 'gpus2' in run_dir.name and (run_dir / 'network-snapshot-000000016.pkl').is_file()
    assert json.loads((run_dir / 'training_options.json').read_text())['num_gpus'] == 2

#----------------------------------------------------------------------------
# What they say to each other.

def test_one_builds_and_all_agree(tmp_path):
    spawned(tmp_path, 'turns', path=str(tmp_path / 'built'))
    assert (tmp_path / 'built').read_text() == '0\n'

def test_statistics_and_equality(tmp_path):
    spawned(tmp_path, 'statistics', out=str(tmp_path))
    (zero, fine), (one, differs) = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    zero, one = json.loads(zero), json.loads(one)
    assert zero == one and zero['mean']['num'] == 3 and zero['mean']['mean'] == 3 and zero['rank 0']['mean'] == 7
    assert fine is None and differs == 'Linear.bias differs between ranks.'

def test_a_single_rank_needs_no_group():
    assert ranks.agree(3) == 3 and ranks.num_started() == 1
    tensor = torch.ones([2])
    ranks.average([tensor])
    ranks.copy_from_first([tensor])
    ranks.meet()
    with ranks.one_first():
        assert torch.equal(tensor, torch.ones([2]))

def test_refusals(monkeypatch):
    for name, value in dict(RANK=0, WORLD_SIZE=4, MASTER_ADDR='localhost', MASTER_PORT=1).items():
        monkeypatch.setenv(name, str(value))
    assert ranks.num_started() == 4
    with pytest.raises(SpiderError, match='--gpus: 4 ranks were started from outside'):
        ranks.check(2)

#----------------------------------------------------------------------------
# How they end.

def test_a_killed_rank_is_named(tmp_path):
    output = spawned(tmp_path, 'killed', code=1, victim=1)
    assert 'Error: rank 1 of 2' in output and 'SIGKILL' in output

def test_a_stopped_local_rank_is_named_and_ended(tmp_path):
    output = spawned(tmp_path, 'hangs', code=1, victim=1, pid_file=str(tmp_path / 'pid'))
    words, = [line for line in output.splitlines() if 'Error' in line]
    pid = int((tmp_path / 'pid').read_text())
    assert words.startswith(f'Error: rank 1 of 2 (process {pid}) gave no sign of life for 5 s') and '--resume' in words
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

@pytest.mark.slow
def test_a_rank_that_keeps_the_others_waiting_is_named_and_at_last_ended(tmp_path):
    output = spawned(tmp_path, 'waits', code=1, victim=0, bounds=dict(late=2, timeout=20))
    assert output.count('Warning: rank 0 (process') == 1 and 'has kept the other ranks waiting for 2 s' in output
    assert 'Error: rank 0 (process' in output and 'has kept the other ranks waiting for 10 s' in output

@pytest.mark.parametrize('kind, words', [
    ('memory', 'memory ran out'), pytest.param('diverged', '--on-nan: training diverged', marks=pytest.mark.slow)])
def test_events_of_a_local_rank_are_one_sentence(tmp_path, kind, words):
    output = spawned(tmp_path, 'raises', code=2, victim=1, kind=kind)
    assert words in output and [line for line in output.splitlines() if 'Error' in line or 'Traceback' in line] == \
        [line for line in output.splitlines() if line.startswith('Error: ')]

@pytest.mark.slow
def test_a_killed_rank_of_another_node_is_named(tmp_path):
    first, second = nodes(job_args(tmp_path, 'killed', victim=1))
    assert 'Error: rank 0 ends because rank 1 on' in finish(first, code=1)
    assert '-9' in finish(second, code=1) # torchrun's report.

def test_a_rank_that_hangs_is_named(tmp_path):
    first, second = nodes(job_args(tmp_path, 'hangs', victim=1, pid_file=str(tmp_path / 'pid')))
    try:
        assert 'Error: rank 0 ends because rank 1 on' in finish(first, code=1)
    finally:
        os.kill(int((tmp_path / 'pid').read_text()), signal.SIGKILL)
        assert '-9' in finish(second, code=1)

def test_an_error_of_the_user_stays_one_sentence(tmp_path):
    output = spawned(tmp_path, 'raises', code=2, victim=1, kind='user')
    assert [line for line in output.splitlines() if 'Error' in line] == ['Error: --data: bad; mend it']

def test_torchrun_passes_the_reason_on(tmp_path):
    first, second = nodes(job_args(tmp_path, 'raises', victim=1, kind='bug'))
    assert 'Error: rank 0 ends because rank 1 on' in (output := finish(first, code=1)) and 'failed: boom' in output
    finish(second, code=1)

#----------------------------------------------------------------------------
