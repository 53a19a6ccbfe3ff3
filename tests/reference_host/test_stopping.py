"""Signals: a run ends after its iteration with a snapshot and a state, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
import training_runs as runs

from training import stopping

TRAIN = [*runs.TINY, '--cfg=stylegan2', '--map-depth=1', '--kimg=100', '--tick=0.04', '--snap=1000']
DEADLINE = 120  # Seconds within which everything has ended.

#----------------------------------------------------------------------------
# One process.

@pytest.fixture
def ended(monkeypatch):
    """Exit codes with which the process would have ended."""
    codes = []
    monkeypatch.setattr(stopping.os, '_exit', codes.append)
    return codes

def test_a_copy_of_a_signal_is_no_second_one(ended, monkeypatch):
    clock = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr(stopping.time, 'monotonic', lambda: next(clock))
    killed = []
    monkeypatch.setattr(stopping.os, 'kill', lambda pid, signum: killed.append((pid, signum)))
    listener = stopping.Listener(lambda: [7])
    for signum, codes, passed in ((signal.SIGTERM, [], [(7, signal.SIGTERM)]), (signal.SIGINT, [], [(7, signal.SIGTERM)]),
                                  (signal.SIGINT, [130], [(7, signal.SIGTERM), (7, signal.SIGKILL)])):
        listener.hear(signum)
        assert ended == codes and killed == passed and listener.signum == signal.SIGTERM

def test_listening_ends_and_ignored_signals_stay_ignored():
    before = signal.getsignal(signal.SIGTERM)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.Listener():
            assert stopping.requested() == 0
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopping.requested() == 0
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopping.requested() == signal.SIGTERM
        assert stopping.requested() == 0 and signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGHUP, hangup)

#----------------------------------------------------------------------------
# Runs.

def descendants(pid):
    """Numbers of the processes below one."""
    found = subprocess.run(['ps', '-A', '-o', 'pid=,ppid='], capture_output=True, text=True, check=True).stdout.split()
    below, rows = {pid}, list(zip(map(int, found[::2]), map(int, found[1::2])))
    for _ in rows:
        below |= {child for child, parent in rows if parent in below}
    return below - {pid}

def is_running(pid):
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')

def all_gone(pids):
    deadline = time.monotonic() + DEADLINE
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not left

def stop(tmp_path, data, signum, *args, group=False, command=(sys.executable, runs.HOST / 'train.py'), wait=True):
    """Starts training and sends a signal in the middle of it; returns the exit code, the rest of the output, and whether no
    process is left."""
    process = runs.start(f'--outdir={tmp_path}', f'--data={data}', *TRAIN, *args, command=command, start_new_session=True)
    try:
        runs.wait_for(process, 'tick 1 ')
        family = descendants(process.pid)
        (os.killpg if group else os.kill)(process.pid, signum)
        rest = process.communicate(timeout=DEADLINE)[0]
        return process.returncode, rest, all_gone(family)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

def check_saved(tmp_path, output, name):
    """The run has a state newer than its start, and says where."""
    run_dir = runs.only_run(tmp_path)
    newest = max(run_dir.glob('training-state-*.pt'))
    assert newest.name > 'training-state-000000000.pt' and newest.with_name(f'network-snapshot-{newest.stem[15:]}.pkl').is_file()
    assert f'Stopped by {name} at ' in output and f'--resume={run_dir}' in output and 'Traceback' not in output
    return run_dir

@pytest.mark.slow
def test_terminated_with_workers_in_its_group(tmp_path, data):
    """As by a scheduler, which signals every process; then the run goes on, and a hangup stops it, whose terminal is gone."""
    code, output, gone = stop(tmp_path, data, signal.SIGTERM, '--workers=2', group=True)
    assert code == 143 and gone
    run_dir = check_saved(tmp_path, output, 'SIGTERM')

    process = runs.start(f'--resume={run_dir}', start_new_session=True)
    runs.wait_for(process, 'Continuing from')
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=DEADLINE) == 129
    assert 'Stopped by SIGHUP' in (run_dir / 'log.txt').read_text()

def test_interrupt_of_the_parent_of_two_ranks(tmp_path, data):
    code, output, gone = stop(tmp_path, data, signal.SIGINT, '--gpus=2', '--workers=0')
    assert code == 130 and gone
    check_saved(tmp_path, output, 'SIGINT')

SPIDER = (sys.executable, '-m', 'spider_plugin.cli', 'train')

@pytest.mark.slow
def test_the_command_passes_signals_on(tmp_path, data):
    code, output, gone = stop(tmp_path, data, signal.SIGTERM, '--workers=0', command=SPIDER)
    assert code == 143 and gone
    check_saved(tmp_path, output, 'SIGTERM')

@pytest.mark.slow
def test_the_command_leaves_no_orphan(tmp_path, data):
    """Killed, it cannot pass anything on; its run ends all the same, with a state."""
    code, output, gone = stop(tmp_path, data, signal.SIGKILL, '--workers=0', command=SPIDER)
    assert code == -signal.SIGKILL and gone
    check_saved(tmp_path, output, 'SIGTERM')

@pytest.mark.slow
def test_a_dead_parent_of_two_ranks(tmp_path, data):
    _code, output, gone = stop(tmp_path, data, signal.SIGKILL, '--gpus=2', '--workers=0')
    assert gone and 'Stopped by' in output

@pytest.mark.slow
def test_interrupt_of_a_group_of_ranks(tmp_path, data):
    """^C reaches the parent and the ranks, and the parent passes it on."""
    code, output, gone = stop(tmp_path, data, signal.SIGINT, '--gpus=2', '--workers=1', group=True)
    assert code == 130 and gone
    check_saved(tmp_path, output, 'SIGINT')

@pytest.mark.slow
def test_torchrun(tmp_path, data):
    command = (sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', runs.HOST / 'train.py')
    code, output, gone = stop(tmp_path, data, signal.SIGTERM, '--workers=0', command=command)
    assert code != 0 and gone and 'Stopped by SIGTERM' in output
    assert max(runs.only_run(tmp_path).glob('training-state-*.pt')).name > 'training-state-000000000.pt'

#----------------------------------------------------------------------------
