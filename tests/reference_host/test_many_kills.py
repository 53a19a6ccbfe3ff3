"""Fifty SIGKILLs at random moments: the run ends with the bits of one that nobody interrupted."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import training_runs as runs

KILLS  = 50
LENGTH = ['--tick=0.008', '--kimg=2.4']   # 300 ticks of one batch: more than the killed processes get through.

pytestmark = pytest.mark.slow

def wait_for_moment(process, rng):
    """Waits for a random moment in the life of a training process: while it starts, loads, trains or saves."""
    starts = rng.random() < 0.2
    for words in [] if starts else ['Continuing from', *rng.choice([[], ['tick '], ['tick ', 'tick ']])]:
        runs.wait_for(process, words)
    runs.drain(process)
    time.sleep((2 if starts else 0.3) * rng.random())

@pytest.mark.parametrize('case', runs.CASES)
def test_many_kills(tmp_path, data, case):
    args, command = runs.case_of(case, data, *LENGTH)
    runs.train(f'--outdir={tmp_path}/straight', *args, command=command)
    rng, args = random.Random(case), [f'--outdir={tmp_path}/killed', '--resume=latest', *args]
    process = runs.start(*args, command=command, start_new_session=True)
    runs.wait_for(process, 'tick 1 ')   # From here on there is a run to continue.
    for _ in range(KILLS):
        assert process.poll() is None, 'The run ended before its last kill.'
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = runs.start(*args, command=command, start_new_session=True)
        wait_for_moment(process, rng)
    assert process.wait(timeout=600) == 0
    check_ended(tmp_path)

def test_many_restarts_by_torchrun(tmp_path, data):
    """torchrun starts both ranks again when one of them was killed; the command line is that of a run to be continued."""
    args, command = runs.case_of('stylegan2', data, *LENGTH)
    runs.train(f'--outdir={tmp_path}/straight', *args, '--gpus=2', command=command)
    torchrun = (sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2',
                f'--max-restarts={KILLS}', command[-1])
    rng = random.Random('torchrun')
    process = runs.start(f'--outdir={tmp_path}/killed', '--resume=latest', *args, command=torchrun)
    runs.wait_for(process, 'tick 1 ')
    for _ in range(KILLS):
        ranks = children(process.pid)
        assert len(ranks) == 2, 'The run ended before its last kill.'
        os.kill(rng.choice(ranks), signal.SIGKILL)
        runs.wait_for(process, 'Continuing from')
        time.sleep(0.5 * rng.random())
    runs.drain(process)
    assert process.wait(timeout=600) == 0
    check_ended(tmp_path)

def children(pid):
    output = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True, text=True).stdout
    return sorted(int(word) for word in output.split())

def check_ended(tmp_path):
    run_dir = runs.only_run(tmp_path / 'killed')
    runs.check_equal(runs.only_run(tmp_path / 'straight'), run_dir)
    assert not list(run_dir.glob('*.tmp'))
