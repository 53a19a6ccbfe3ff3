"""Runs that are killed and continued end with the bits of a run that nobody interrupted."""

import os
import signal
import time

import pytest
import torch
import training_runs as runs

def kill_and_continue(outdir, args, command, moments):
    """Starts a run by one and the same command line again and again, and kills it at the moments: (line to wait for, seconds)."""
    for words, seconds in moments:
        process = runs.start(f'--outdir={outdir}', '--resume=latest', *args, command=command, start_new_session=True)
        runs.wait_for(process, words)
        runs.drain(process)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return runs.train(f'--outdir={outdir}', '--resume=latest', *args, command=command)

def check_case(tmp_path, data, case, moments, *more):
    args, command = runs.case_of(case, data, '--tick=0.04', *more)
    runs.train(f'--outdir={tmp_path}/straight', *args, command=command)
    output = kill_and_continue(tmp_path / 'killed', args, command, moments)
    run_dir = runs.only_run(tmp_path / 'killed')
    runs.check_equal(runs.only_run(tmp_path / 'straight'), run_dir)
    assert not list(run_dir.glob('*.tmp'))
    return run_dir, output

#----------------------------------------------------------------------------

def test_two_kills(tmp_path, data):
    """Augmentation that adapts, style mixing, path length, a data worker."""
    run_dir, output = check_case(tmp_path, data, 'stylegan2', [('tick 1 ', 0), ('tick 2 ', 0.1)], '--tick=0.024', '--kimg=0.072')
    assert 'Continuing from' in output and 'Fine-tuning' not in output
    assert os.readlink(run_dir / 'network-snapshot-latest') == 'network-snapshot-000000072.pkl'
    assert (run_dir / 'training-state-000000072.pt').is_file()

@pytest.mark.slow
def test_longer_with_other_ranks_and_fewer_snapshots(tmp_path, data):
    runs.train(f'--outdir={tmp_path}', *runs.TINY, f'--data={data}', '--tick=0.04', *runs.STYLEGAN2, '--kimg=0.08')
    run_dir = runs.only_run(tmp_path)
    output = runs.train(f'--resume={run_dir}', '--kimg=0.12', '--gpus=2', '--keep=2')
    assert 'The run had 1 ranks and has 2 now' in output and 'tick 3' in output and 'tick 2' not in output
    assert sorted(path.name for path in run_dir.glob('training-state-*')) == ['training-state-000000080.pt',
                                                                              'training-state-000000120.pt']
    error = runs.train(f'--resume={run_dir}', '--glr=0.1', code=2)
    assert error.strip().splitlines()[-1].startswith('Error: --glr: the run in') and 'Traceback' not in error

def test_divergence_stops_with_the_last_good_snapshot(tmp_path, data):
    args = [*runs.TINY, f'--data={data}', '--cfg=stylegan2', '--aug=noaug', '--tick=0.016', '--kimg=0.4', *runs.DIVERGES]
    error = runs.train(f'--outdir={tmp_path}/runs', *args, code=2)
    run_dir = runs.only_run(tmp_path / 'runs')
    sentence = error.strip().splitlines()[-1]
    assert sentence.startswith('Error: --on-nan: training diverged by ') and 'Traceback' not in error
    last = max(run_dir.glob('network-snapshot-*.pkl'))
    assert str(last) in sentence and all(tensor.isfinite().all() for tensor in runs.weights(last).values())
    assert runs.stats(run_dir)  # Strict JSON.

@pytest.mark.slow
def test_ten_resumes_see_every_image_as_often(tmp_path, data):
    """The last snapshot of ten runs in a row is that of one run, which has seen as many images."""
    args = [*runs.TINY, f'--data={data}', '--tick=0.016', *runs.STYLEGAN2]
    runs.train(f'--outdir={tmp_path}/straight', *args, '--kimg=0.16')
    for i in range(10):
        runs.train(f'--outdir={tmp_path}/parts', '--resume=latest', *args, f'--kimg={0.016 * (i + 1):.3f}')
    straight, parts = (runs.only_run(tmp_path / name) for name in ('straight', 'parts'))
    runs.check_equal(straight, parts)
    states = [torch.load(max(run_dir.glob('training-state-*.pt')), weights_only=True) for run_dir in (straight, parts)]
    assert [state['at']['shown'] for state in states] == [160, 160]

@pytest.mark.slow
def test_rollback(tmp_path, data):
    """Divergence for good: three times back, then the sentence."""
    args = [*runs.TINY, f'--data={data}', '--cfg=stylegan2', '--aug=noaug', '--tick=0.016', '--kimg=0.4', *runs.DIVERGES,
            '--on-nan=rollback']
    output = runs.train(f'--outdir={tmp_path}/runs', *args, code=2)
    assert output.count('Rolling back to') == 3 and output.strip().splitlines()[-1].startswith('Error: --on-nan: ')
    kimg = [line['Progress/kimg']['mean'] for line in runs.stats(runs.only_run(tmp_path / 'runs'))]
    assert kimg and kimg == sorted(set(kimg))   # What was rolled back is not there.

#----------------------------------------------------------------------------
