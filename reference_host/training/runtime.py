"""What every script of this tree needs: the device, the threads, reproducible random numbers, errors a user can fix."""

import contextlib
import os
import random

import click
import numpy as np
import torch

#----------------------------------------------------------------------------

class SpiderError(click.ClickException):
    """One sentence on stderr that names the option or file and the remedy; exit code 2."""

    exit_code = 2

    def __init__(self, message):
        # A DataLoader worker hands its exception over as a traceback in text: keep the sentence at its end.
        super().__init__(printable(message.rsplit('SpiderError: ', 1)[-1].strip()))

def printable(text, limit=2000):
    """A text for one line of a terminal: what it would obey or hide is escaped, and it is cut. Names of files hold anything."""
    line = ''.join(letter if letter.isprintable() else letter.encode('unicode_escape', 'surrogatepass').decode()
                   for letter in text[:limit])
    return line if len(line) <= limit else line[: limit - 3] + '...'

@contextlib.contextmanager
def named(option):
    """Prefixes the sentence of a SpiderError raised inside with the name of the option that caused it."""
    try:
        yield
    except SpiderError as err:
        raise SpiderError(f'{option}: {err.message}') from err

#----------------------------------------------------------------------------

def pick_device(index=0):
    """The accelerator that this process uses, CUDA device `index` or MPS, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device('cuda', index)
    return torch.device('mps' if torch.backends.mps.is_available() else 'cpu')

def memory_gib():
    """Memory that this process has now, in GiB; NaN where the system does not say."""
    try:
        with open('/proc/self/statm') as f:
            return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**30
    except (OSError, ValueError, IndexError, AttributeError):
        return float('nan')

def pick_threads(threads=None, ranks=1):
    """CPU threads for torch in each of the `ranks` of this machine, None for torch's own choice.

    Without --threads: where the CPU does the work and OMP_NUM_THREADS does not say, at most 8, because on small networks
    more of them only get in each other's way, and no more than there are cores, because then they do so twentyfold."""
    if threads is not None or torch.cuda.is_available() or 'OMP_NUM_THREADS' in os.environ:
        return threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(min(cores // ranks, 8), 1)

def pin_threads(threads=None, ranks=1):
    """Applies pick_threads() to this process, says so, and returns it."""
    threads = pick_threads(threads, ranks)
    if threads is not None:
        torch.set_num_threads(threads)
    print(f'CPU threads: {torch.get_num_threads()} (set with --threads)')
    return threads

#----------------------------------------------------------------------------

@contextlib.contextmanager
def seeded(seed, device):
    """Runs its body from fixed states of the global generators of torch, numpy and Python, and puts the old ones back after."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    mps_state = torch.mps.get_rng_state() if device.type == 'mps' else None
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            if mps_state is not None:
                torch.mps.set_rng_state(mps_state)

#----------------------------------------------------------------------------
