"""What every script of this tree needs: the device, the threads, reproducible random numbers, errors a user can fix."""

import contextlib
import os

import click
import numpy as np
import torch

#----------------------------------------------------------------------------

class UserError(click.ClickException):
    """One sentence on stderr that names the option or file and the remedy; exit code 2."""

    exit_code = 2

    def __init__(self, message):
        # A DataLoader worker hands its exception over as a traceback in text: keep the sentence at its end.
        super().__init__(message.rsplit('UserError: ', 1)[-1].strip())

@contextlib.contextmanager
def named(option):
    """Prefixes the sentence of a UserError raised inside with the name of the option that caused it."""
    try:
        yield
    except UserError as err:
        raise UserError(f'{option}: {err.message}') from err

#----------------------------------------------------------------------------

def parse_list(text):
    """'a,b' -> ['a', 'b']; None, '' and 'none' -> []. A type for click options."""
    if isinstance(text, list):
        return text
    if text is None or text.lower() in ('', 'none'):
        return []
    return [item.strip() for item in text.split(',')]

def pick_device(rank=0):
    """The accelerator of this rank, or the CPU where there is none."""
    return torch.device('cuda', rank) if torch.cuda.is_available() else torch.device('cpu')

def pick_threads(threads=None):
    """CPU threads for torch, None for its own choice: without --threads, at most 8 where the CPU does the work and
    OMP_NUM_THREADS does not say, because on small networks more of them only get in each other's way."""
    if threads is not None or torch.cuda.is_available() or 'OMP_NUM_THREADS' in os.environ:
        return threads
    return min(os.cpu_count() or 1, 8)

#----------------------------------------------------------------------------

@contextlib.contextmanager
def seeded(seed, device):
    """Runs its body from fixed states of torch's and numpy's global generators, and puts the old states back after."""
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)

#----------------------------------------------------------------------------
