"""Events that end a run and that no code here raises: memory runs out, the disk is full, a data worker is killed. They become one
sentence that names what helps."""

import contextlib
import errno
import functools
import re
import shutil
import signal
import sys
import threading

import click

from training.runtime import SpiderError

#----------------------------------------------------------------------------

MEMORY  = ('out of memory', 'DefaultCPUAllocator', 'not enough memory', 'std::bad_alloc', 'ALLOC_FAILED', 'MemoryError',
           'Cannot allocate memory', 'Unable to allocate', "can't start new thread")
WORKER  = re.compile(r'DataLoader worker \(pid.*(killed by signal|exited unexpectedly)')
SHARED  = re.compile('unable to (?:allocate|open|write to|mmap|resize).*shared memory|out of shared memory|by signal: Bus error')
SYSTEM  = {getattr(errno, name) for name in ('ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EACCES', 'EPERM', 'EIO', 'ESTALE', 'ENXIO',
           'ENODEV', 'ENAMETOOLONG', 'ELOOP', 'EMFILE', 'ENFILE', 'EBUSY', 'ENOTCONN', 'EREMOTEIO') if hasattr(errno, name)}
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
    if isinstance(err, OSError) and err.errno in SYSTEM:
        return of_the_system(err, trains)
    if isinstance(err, RuntimeError) and SHARED.search(text):
        return (f'--workers: the processes that load images have too little shared memory{shared_words()}; use --workers=0, or '
                'give the container more (docker run --shm-size=1g)')
    if isinstance(err, RuntimeError) and WORKER.search(text):
        return (f'--workers: a process that loads images was ended from outside, as the system does where memory runs out '
                f'({short(text)}); use fewer --workers or free some memory, then continue with --resume')
    if out_of_memory(err):
        return f'memory ran out ({short(text) or type(err).__name__}); {TRAIN if trains else OTHER}'
    return None

def of_the_system(err, trains):
    """A sentence about what the system refuses: a full or failing disk, rights, too many open files."""
    if err.errno in (errno.EMFILE, errno.ENFILE):
        return f'too many files are open ({err.strerror}); raise the limit (`ulimit -n 4096`), or use fewer --workers'
    if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        where = err.filename or ('a file of the run' if trains else 'a file')
        remedy = 'then continue with --resume' if trains else 'or choose another place'
        return f'{"--outdir: " if trains else ""}{where} cannot be written ({err.strerror}); free some space there, {remedy}'
    return f'{err.filename or "a file"} cannot be used ({err.strerror}); mend its rights or its disk, or give another place'

def shared_words():
    """How large /dev/shm is, for a sentence."""
    try:
        return f' (/dev/shm has {shutil.disk_usage("/dev/shm").total / 1e6:.1f} MB)'
    except OSError:
        return ''

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

def tool(main):
    """Decorator of the main() of a script that is one process: it ends in one sentence, and after a signal that asks it to stop
    nothing half written is left."""
    @functools.wraps(main)
    def run(*args, **kwargs):
        print_anything()
        with explained(trains=False), unwound_by_signals():
            return main(*args, **kwargs)
    return run

@contextlib.contextmanager
def unwound_by_signals():
    """Within: SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that files are tidied. One that was
    ignored before, as nohup does, stays ignored."""
    def leave(signum, _frame):
        sys.exit(128 + signum)
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for signum in [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]:
            if signal.getsignal(signum) is signal.SIG_DFL:
                previous[signum] = signal.signal(signum, leave)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

def print_anything():
    """Lets this process print letters that the encoding of its output lacks, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')

#----------------------------------------------------------------------------
