"""The cache directory, and files and directories that appear complete or not at all."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from spider_plugin.errors import SpiderError
from torch_utils_ext.cache_root import cache_root

def cache_dir(*parts):
    """Return the directory for `parts` below the cache root, as a Path; create it where it is missing.

    Raises SpiderError if it cannot be written."""
    path = cache_root().joinpath(*parts)
    with _writable(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    return path

@contextlib.contextmanager
def atomic_dir(final):
    """Yield a new directory beside `final` that becomes `final` on success and is removed on failure.

    If `final` exists by then, it is kept and the new one is removed, so two processes may prepare the same directory."""
    final = Path(final)
    with _writable(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temp = Path(tempfile.mkdtemp(prefix=f'.{final.name}.', dir=final.parent))
    try:
        with _written(final):
            yield temp
            temp.chmod(0o777 & ~_umask())
            if not final.is_dir():
                try:
                    temp.rename(final)
                except OSError:
                    if not final.is_dir():
                        raise
    finally:
        shutil.rmtree(temp, ignore_errors=True)

@contextlib.contextmanager
def atomic_file(final):
    """Yield the path of a new file beside `final` that replaces `final` on success and is removed on failure."""
    final = Path(final)
    with _writable(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, temp = tempfile.mkstemp(prefix=f'.{final.name}.', suffix=final.suffix, dir=final.parent)
        os.close(handle)
    temp = Path(temp)
    try:
        with _written(final):
            yield temp
            temp.chmod(0o666 & ~_umask())
            temp.replace(final)
    finally:
        with contextlib.suppress(OSError):      # the folder may have become read-only
            temp.unlink(missing_ok=True)

def check_space(folder, needed, what='the file'):
    """Raise SpiderError unless `needed` bytes are free on the disk of `folder`, which exists."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SpiderError(f'{folder} has {free / 1e6:.1f} MB free, but {what} needs {needed / 1e6:.1f} MB; free space there, or '
                          'set SPIDER_CACHE_DIR to a larger disk if this is the cache.')

@contextlib.contextmanager
def allocated(path, size):
    """Yield a new binary file of `size` bytes whose space on the disk is taken, so that a later write cannot fail for want of it.

    Raises SpiderError where the space is not there, and where another number of bytes was written."""
    check_space(Path(path).parent, size, Path(path).name)
    with open(path, 'wb') as file:
        if hasattr(os, 'posix_fallocate'):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):   # file systems that cannot
                    raise
        yield file
        if file.tell() != size:
            raise SpiderError(f'{path} became {file.tell()} bytes long instead of {size}; start again.')

def sha256_of_file(path):
    """Return the lower-case hex digest of the file's bytes."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

@contextlib.contextmanager
def _writable(path):
    try:
        yield
    except OSError as error:
        raise SpiderError(f'Cannot write {path} ({error.strerror}); '
                          'free it, or set SPIDER_CACHE_DIR if this is the cache.') from error

_TORCH    = ('PytorchStreamWriter', 'unexpected pos')     # how torch.save tells a full disk
_REFUSALS = {getattr(errno, name) for name in ('ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EIO', 'ESTALE') if hasattr(errno, name)}

@contextlib.contextmanager
def _written(final):
    """Turn errors of the disk that the body writes to into a SpiderError. Errors about files that it reads pass unchanged."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        refused = getattr(error, 'errno', None) in _REFUSALS or any(words in str(error) for words in _TORCH)
        if not refused and final.parent.is_dir():
            raise
        reason = getattr(error, 'strerror', None) or 'the disk refuses the data'
        raise SpiderError(f'Cannot write {final} ({reason}; {_free(final.parent)}); free space there, give another place, or set '
                          'SPIDER_CACHE_DIR if this is the cache.') from error

def _free(folder):
    try:
        return f'{folder} has {shutil.disk_usage(folder).free / 1e6:.1f} MB free'
    except OSError:
        return f'{folder} is gone'

def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
