"""Training runs as processes of their own, stopped and continued, for test_resume_exact.py and test_stopping.py."""

import json
import os
import pathlib
import subprocess
import sys
import threading

import torch

HOST = pathlib.Path(__file__).parents[2] / 'reference_host'
TINY = ['--batch=8', '--gamma=1', '--cbase=64', '--cmax=8', '--threads=1', '--snap=1']
TIMES = ('Timing/', 'Resources/', 'timestamp', 'Spider/source_share')   # In stats.jsonl; equal runs differ in them.

STYLEGAN2 = ['--cfg=stylegan2', '--map-depth=1', '--target=-0.9', '--style-mixing=0.9', '--workers=1']  # p moves.
CASES = {
    'stylegan2': STYLEGAN2,
    'ranks':     [*STYLEGAN2, '--gpus=2'],
    'pggan':     ['--cfg=pggan', '--pg-kimg=0.3', '--aug=noaug', '--workers=0'],                    # Fades from 0.3 kimg on.
    'dcgan':     ['--cfg=dcgan', '--spider-source=strokes', '--target=-0.9', '--workers=2'],        # Its skip is learned.
}

DIVERGES = ['--map-depth=16', '--style-mixing=0', '--glr=10', '--dlr=10', '--workers=0']    # Within some ten iterations.

def case_of(name, data, *more):
    """(arguments, command) of a training run of CASES."""
    launcher = ['-m', 'spider_plugin.hosts.run'] if name in ('pggan', 'dcgan') else []
    return [*TINY, f'--data={data}', '--kimg=0.16', *CASES[name], *more], (sys.executable, *launcher, HOST / 'train.py')

def start(*args, command=(sys.executable, HOST / 'train.py'), **popen):
    """A process that trains; its output, both streams, is a pipe of text."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    return subprocess.Popen([str(arg) for arg in (*command, *args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, env=dict(env, OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1'), **popen)

def train(*args, code=0, **kwargs):
    """Trains until the end; returns the output."""
    process = start(*args, **kwargs)
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == code, output
    return output

def wait_for(process, words):
    """Reads the output up to a line with the words in it; returns it. The rest is read by nobody's waiting."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return ''.join(lines)
    raise AssertionError(f'no "{words}" in the output:\n{"".join(lines)}')

def drain(process):
    """Reads on in the background, so that the process never waits for a reader; returns the list of lines."""
    lines = []
    threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True).start()
    return lines

#----------------------------------------------------------------------------

def only_run(outdir):
    run_dir, = pathlib.Path(outdir).iterdir()
    return run_dir

def stats(run_dir):
    """stats.jsonl without times. JSON without NaN is required."""
    def refuse(word):
        raise AssertionError(f'{word} is not JSON')
    lines = [json.loads(line, parse_constant=refuse) for line in (run_dir / 'stats.jsonl').read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(TIMES)} for line in lines]

def weights(snapshot):
    """{name: tensor} of all networks of a snapshot."""
    import legacy
    with open(snapshot, 'rb') as f:
        data = legacy.load_network_pkl(f)
    return {f'{key}.{name}': tensor for key in ('G', 'D', 'G_ema', 'augment_pipe') if data[key] is not None
            for name, tensor in [*data[key].named_parameters(), *data[key].named_buffers()]}

def check_equal(first, second):
    """Two runs ended with the same bits: weights, statistics, ticks in the log."""
    names = [max(path.name for path in run_dir.glob('network-snapshot-*.pkl')) for run_dir in (first, second)]
    assert names[0] == names[1]
    actual, expected = weights(first / names[0]), weights(second / names[1])
    assert actual.keys() == expected.keys()
    differ = [name for name, tensor in actual.items() if not torch.equal(tensor, expected[name])]
    assert not differ, differ
    assert stats(first) == stats(second)
    assert ticks(first) == ticks(second)

def ticks(run_dir):
    """[number of the tick, kimg so far] of the log's lines of ticks."""
    lines = [line.split() for line in (run_dir / 'log.txt').read_text().splitlines() if line.startswith('tick ')]
    return [[line[1], line[2].partition('/')[0]] for line in lines]
