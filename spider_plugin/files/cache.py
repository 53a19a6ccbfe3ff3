"""The cache directory, and files and directories that appear complete or not at all."""

import contextlib
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
        yield temp
        temp.chmod(0o666 & ~_umask())
        temp.replace(final)
    finally:
        temp.unlink(missing_ok=True)

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

def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
