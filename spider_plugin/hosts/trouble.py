"""Events that end a command and that no code of the plugin raises: memory runs out, the disk is full, a data worker is killed.
They become one sentence with the option that helps. Nothing heavy is imported here."""

import errno
import importlib.util
import os
import re
import shutil
from collections.abc import Collection

from spider_plugin.errors import MEMORY, out_of_memory

_WORKER = re.compile(r'DataLoader worker \(pid.*(killed by signal|exited unexpectedly)')
_SHARED = re.compile('unable to (?:allocate|open|write to|mmap|resize).*shared memory|out of shared memory|by signal: Bus error')

def _numbers(*names: str) -> set[int]:
    return {getattr(errno, name) for name in names if hasattr(errno, name)}

_DISK   = _numbers('ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS')
_SYSTEM = _numbers('EACCES', 'EPERM', 'EIO', 'ESTALE', 'ENXIO', 'ENODEV', 'ENAMETOOLONG', 'ELOOP', 'EBUSY', 'ENOTCONN',
                    'EREMOTEIO')
_FILES  = _numbers('EMFILE', 'ENFILE')

def sentence(error: BaseException, options: Collection[str] = ()) -> str | None:
    """Return a sentence about an error, or None for one that needs its traceback.

    options: names of the command's parameters, from which the remedy is chosen."""
    if getattr(error, 'for_user', False):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        where = error.filename or 'the folder of the outputs or the cache'
        return (f'Cannot write {os.fspath(where)!s} ({error.strerror}); free space there, or give another place (--outdir, '
                'SPIDER_CACHE_DIR).')
    if isinstance(error, OSError) and error.errno in _FILES:
        return f'Too many files are open ({error.strerror}); raise the limit (`ulimit -n 4096`), or use fewer --workers.'
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        where = error.filename or 'A file'
        return (f'{os.fspath(where)!s} cannot be used ({error.strerror}); mend its rights or its disk, or give another place.')
    # Spawned ranks send their tracebacks as text; its last line is the error.
    spawned = type(error).__name__ == 'ProcessRaisedException'
    text = (str(error).strip().splitlines() or [''])[-1] if spawned else str(error)
    if spawned and 'SourceLost: ' in text:
        return text.partition('SourceLost: ')[2]
    if _SHARED.search(text):
        return (f'The processes that load images have too little shared memory{shared_memory()}; use --workers=0, or give the '
                'container more (docker run --shm-size=1g).')
    if _WORKER.search(text):
        return ('A process that loads images was ended from outside, as the system does where memory runs out '
                f'({_short(text)}); use fewer --workers, or free some memory.')
    if out_of_memory(error) or spawned and any(words in text for words in MEMORY):
        return f'Memory ran out ({_short(text) or type(error).__name__}); {_remedy(options)}.'
    return None

def missing_package(error: ModuleNotFoundError, script: str) -> str | None:
    """Return a sentence about a package that a script of a host imports and that is not installed; None where another module is
    missing, such as one of the host's own."""
    from spider_plugin.hosts.doctor_checkout import PIP_NAMES
    package = (error.name or '').partition('.')[0]
    folder = os.path.dirname(script)
    own = any(os.path.exists(os.path.join(folder, name)) for name in (package, f'{package}.py'))
    if not package or own or importlib.util.find_spec(package) is not None:
        return None
    return (f'{os.path.basename(script)} imports {package}, which is not installed; `pip install '
            f'{PIP_NAMES.get(package, package)}` (`spider doctor {folder}` lists all that is missing).')

def shared_memory() -> str:
    """Return how large /dev/shm is, for a sentence; '' where there is none."""
    try:
        return f' (/dev/shm has {shutil.disk_usage("/dev/shm").total / 1e6:.1f} MB)'
    except OSError:
        return ''

def _remedy(options: Collection[str]) -> str:
    if 'batch_gpu' in options:
        return 'use a smaller --batch-gpu, or a smaller --batch, smaller networks or fewer --workers'
    for name, words in (('batch',       'use a smaller --batch, smaller networks or more --gpus'),
                        ('max_images',  'use a smaller --max-images, or fewer sources at a time'),
                        ('seeds',       'give fewer --seeds at a time'),
                        ('metrics',     'evaluate fewer --metrics, or smaller ones, at a time')):
        if name in options:
            return words
    return 'free some memory, or use a machine with more'

def _short(text: str) -> str:
    """Return what an error says, on one line."""
    line = ' '.join(text.split()).rstrip('.')
    line = re.sub(r'^.*?(?=DefaultCPUAllocator|CUDA out of memory|DataLoader worker)', '', line)
    return line[:120]
