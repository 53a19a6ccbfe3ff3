"""Run directories: their numbers and names, which one --resume means, and what is tidied in one that continues."""

import contextlib
import itertools
import json
import math
import os
import re

import dnnlib
from training import files, state
from training.runtime import SpiderError

LOGS    = ('log.txt', 'stats.jsonl')    # Cut back to a state's position, line by line of time.
OPTIONS = 'training_options.json'
GIVEN   = 'launch_options.json'         # What the user gave, of all options of train.py.

#----------------------------------------------------------------------------
# Making one.

def check_outdir(outdir):
    """Raises SpiderError unless runs can be put into outdir, which need not exist yet."""
    parent = os.path.abspath(outdir)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        raise SpiderError(f'--outdir: {outdir} cannot be written because {parent} is not a writable folder; choose another')

def numbered(outdir):
    """{number: name} of the folders in outdir that begin with a number."""
    names = sorted(os.listdir(outdir)) if os.path.isdir(outdir) else []
    return {int(match.group()): name for name in names if (match := re.match(r'\d+', name))}

def next_run_dir(outdir, desc):
    """outdir/00000-desc, with the number after the highest one that is there."""
    return os.path.join(outdir, f'{max(numbered(outdir), default=-1) + 1:05d}-{desc}')

def make(outdir, desc):
    """Makes outdir/00000-desc with a number that no other run has, and returns it. Raises SpiderError."""
    try:
        os.makedirs(outdir, exist_ok=True)
        first = max(numbered(outdir), default=-1) + 1
        return next(filter(None, (claim(outdir, f'{number:05d}', desc) for number in itertools.count(first))))
    except OSError as err:
        raise SpiderError(f'--outdir: no run can be put into {outdir} ({err.strerror}); choose another folder') from err

def claim(outdir, number, desc):
    """Makes outdir/NUMBER-desc; None if another run has the number.

    Of runs that start at the same moment, the one that makes the folder NUMBER may look at the others, and name it."""
    claimed, run_dir = os.path.join(outdir, number), os.path.join(outdir, f'{number}-{desc}')
    try:
        os.mkdir(claimed)
    except FileExistsError:
        return None
    if any(name.startswith(f'{number}-') for name in os.listdir(outdir)):
        os.rmdir(claimed)
        return None
    os.rename(claimed, run_dir)
    return run_dir

def record(run_dir, config, given):
    """Writes the options into a run directory; they are whole or not there."""
    write_json(os.path.join(run_dir, GIVEN), given)
    write_json(os.path.join(run_dir, OPTIONS), config)

def write_json(fname, value):
    files.write_whole(fname, lambda f: f.write(json.dumps(value, indent=2, default=str).encode()))

def plain(value):
    """The value as write_json() and read_json() hand it on."""
    return json.loads(json.dumps(value, default=str))

def read_json(fname):
    try:
        with open(fname, encoding='utf-8') as f:
            return json.load(f, object_hook=dnnlib.EasyDict)
    except (OSError, ValueError) as err:
        raise SpiderError(f'--resume: {fname} cannot be read ({err}); start a new run') from err

#----------------------------------------------------------------------------
# Finding one.

def find(resume, outdir):
    """The run directory that --resume means, or None where it means a new run: without one, with a network pickle or its
    URL, and with `latest` as long as outdir holds no run. Raises SpiderError."""
    if resume == 'latest':
        runs = numbered(outdir) if outdir is not None else {}
        paths = [os.path.join(outdir, runs[number]) for number in sorted(runs, reverse=True)]
        return next((path for path in paths if os.path.isfile(os.path.join(path, OPTIONS))), None)
    if resume is None or not os.path.isdir(resume):
        return None
    if not os.path.isfile(os.path.join(resume, OPTIONS)):
        raise SpiderError(f'--resume: {resume} holds no {OPTIONS}, so it is no run; give a run directory, a network pickle, or '
                          'latest for the newest run of --outdir')
    return resume

def snapshots_of(run_dir):
    """Names of the network pickles, oldest first."""
    return sorted(name for name in os.listdir(run_dir) if re.fullmatch(r'network-snapshot-[0-9]+\.pkl', name))

def state_to_continue(run_dir):
    """Path of the state from which a run continues; None where it was interrupted before its first snapshot.

    Raises SpiderError where there are snapshots, but no state."""
    path = state.newest(run_dir)
    if path is None and (kept := snapshots_of(run_dir)):
        raise SpiderError(f'--resume: {run_dir} has no usable training state, so it cannot be continued; start a new run from '
                          f'its last snapshot with --resume={os.path.join(run_dir, kept[-1])}')
    return path

#----------------------------------------------------------------------------
# Keeping one tidy.

PATIENCE = 30   # Seconds in which the processes of a run that was just stopped may end.

def alone(run_dir):
    """Within this context no other process trains in the directory. Raises SpiderError where one does and goes on."""
    return files.locked(os.path.join(run_dir, '.lock'), PATIENCE,
                        f'--resume: another process trains in {run_dir}; wait for its end, or stop it')

def tidy(run_dir, state_file, whole_log=False):
    """Cuts the logs of a run back to a state, None for its beginning, and removes what dead processes left half written.

    whole_log: leave log.txt, as a record. Of log.txt only ticks are cut, with what follows them: what came between the state
    and the next tick was said after the state, but belongs to it."""
    files.remove_leftovers(run_dir)
    found = None if state_file is None else state.load(state_file)
    sizes = {} if found is None else found['report']['logs']
    for name in LOGS:
        path = os.path.join(run_dir, name)
        if os.path.isfile(path) and not (whole_log and name == 'log.txt'):
            cut(path, sizes.get(name, 0), keep_until=b'tick ' if name == 'log.txt' and found else None)
    for name in os.listdir(run_dir):
        if re.fullmatch(r'metric-.+\.jsonl', name):
            cut_scores(os.path.join(run_dir, name), -1 if found is None else found['at']['nimg'])

def cut(path, size, keep_until=None):
    """Cuts a file to `size` bytes, or later, before the first line that begins with keep_until."""
    with open(path, 'r+b') as f:
        f.seek(size)
        if keep_until is not None:
            size += sum(map(len, lines_before(f, keep_until)))
        f.truncate(size)

def lines_before(f, prefix):
    for line in f:
        if line.startswith(prefix) or not line.endswith(b'\n'):
            return
        yield line

def cut_scores(path, nimg):
    """Removes the scores of later than `nimg` images from a file of scores."""
    kept = []
    with open(path, encoding='utf-8') as f:
        for line in f:
            with contextlib.suppress(ValueError): # The last line may be half written.
                if (json.loads(line).get('cur_nimg') or 0) <= nimg:
                    kept.append(line)
    files.write_whole(path, lambda f: f.write(''.join(kept).encode()))

def best_snapshot(run_dir, metric, rises):
    """Name of the snapshot with the best value of a metric, its first number, of those that are there; None without any.

    rises: is a larger value a better one?"""
    there, scores = snapshots_of(run_dir), {}
    with contextlib.suppress(FileNotFoundError), open(os.path.join(run_dir, f'metric-{metric}.jsonl'), encoding='utf-8') as f:
        for line in map(json.loads, f):
            value = next(iter(line['results'].values()))
            if line['snapshot_pkl'] in there and value is not None and math.isfinite(value):
                scores[line['snapshot_pkl']] = -value if rises else value
    return min(scores, key=scores.get, default=None)

def untrained_and_best(run_dir, metric, rises):
    """(value of a metric, its first number, before training, best one after it); None where one of them is not known.

    rises: is a larger value a better one?"""
    start, later = None, []
    with contextlib.suppress(FileNotFoundError), open(os.path.join(run_dir, f'metric-{metric}.jsonl'), encoding='utf-8') as f:
        for line in map(json.loads, f):
            value = next(iter(line['results'].values()))
            if line.get('cur_nimg') == 0:
                start = value
            elif value is not None and math.isfinite(value):
                later.append(value)
    return None if start is None or not later else (start, max(later) if rises else min(later))

def prune(run_dir, keep, best=None):
    """Removes all but the newest `keep` snapshots and `best`, with their states; keep=None removes none."""
    old = snapshots_of(run_dir)[:-keep] if keep is not None else []
    for name in [name for name in old if name != best]:
        for path in (state.path_of(os.path.join(run_dir, name)), os.path.join(run_dir, name)):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)

#----------------------------------------------------------------------------
