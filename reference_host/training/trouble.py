"""Events that end a run and that no code here raises: memory runs out, the disk is full, a data worker is killed. They become one
sentence that names what helps."""

import contextlib
import errno
import re

import click

from training.runtime import SpiderError

#----------------------------------------------------------------------------

MEMORY  = ('out of memory', 'DefaultCPUAllocator', 'not enough memory', 'std::bad_alloc', 'ALLOC_FAILED', 'MemoryError',
           'Cannot allocate memory', 'Unable to allocate', "can't start new thread")
WORKER  = re.compile(r'DataLoader worker \(pid.*(killed by signal|exited unexpectedly)')
DISK    = {getattr(errno, name) for name in ('ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS') if hasattr(errno, name)}
TRAIN   = 'use a smaller --batch-gpu, or a smaller --batch, smaller networks or fewer --workers'
OTHER   = 'use fewer ranks, fewer or smaller --metrics, or free some memory'

#----------------------------------------------------------------------------

def out_of_memory(err):
    """Does an error say that memory ran out, that of the machine or of a GPU?"""
    if isinstance(err, MemoryError) or isinstance(err, OSError) and err.errno == errno.ENOMEM:
        return True
    return isinstance(err, RuntimeError) and any(words in str(err) for words in MEMORY)

def sentence(err, trains):
    """A sentence about an error, or None for one that needs its traceback; trains: is it from training, whose options help?"""
    text = ' '.join(str(err).split()).rstrip('.')
    if getattr(err, 'for_user', False): # Of a plugin, which cannot know the classes of this host.
        return text
    if isinstance(err, OSError) and err.errno in DISK:
        where = err.filename or 'a file of the run'
        return f'--outdir: {where} cannot be written ({err.strerror}); free some space there, then continue with --resume'
    if isinstance(err, RuntimeError) and WORKER.search(text):
        return (f'--workers: a process that loads images was ended from outside, as the system does where memory runs out '
                f'({short(text)}); use fewer --workers or free some memory, then continue with --resume')
    if out_of_memory(err):
        return f'memory ran out ({short(text) or type(err).__name__}); {TRAIN if trains else OTHER}'
    return None

def short(text):
    return re.sub(r'^.*?(?=DefaultCPUAllocator|CUDA out of memory|DataLoader worker \(pid)', '', text)[:120]

@contextlib.contextmanager
def explained(trains):
    """Raises an error of the body as a SpiderError of one sentence, where there is one for it."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as err:
        if (words := sentence(err, trains)) is None:
            raise
        raise SpiderError(words) from err

#----------------------------------------------------------------------------
