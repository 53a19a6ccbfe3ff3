"""Files of a run that are there whole or not at all."""

import contextlib
import hashlib
import os
import re
import shutil
import time

try:
    import fcntl
except ImportError: # Not a POSIX system.
    fcntl = None

from training.runtime import SpiderError

CHECKSUM = b'\nspider-sha256 %s\n'
TORCH = ('PytorchStreamWriter', 'unexpected pos')  # How torch.save tells a full disk, by a RuntimeError.

#----------------------------------------------------------------------------

def write_whole(fname, write):
    """Calls write(f) with a binary file that gets the name `fname` when all of it is on the disk.

    Raises SpiderError where the disk refuses; a file that was there before stays."""
    temp = f'{fname}.{os.getpid()}.tmp'
    try:
        with open(temp, 'wb') as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temp, fname)
    except (OSError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not any(words in str(err) for words in TORCH):
            raise
        reason = getattr(err, 'strerror', None) or str(err).splitlines()[0]
        raise SpiderError(f'--outdir: {fname} cannot be written ({reason}; {free_words(os.path.dirname(fname))}); free some '
                          'space or mend the folder, then continue with --resume') from err
    finally:
        with contextlib.suppress(OSError):
            os.remove(temp)

class Checked:
    """A binary file to write a pickle to. finish() adds the checksum that the plugin's tools check and pickle ignores: see
    files/checksum.py of the plugin."""

    def __init__(self, f):
        self._f, self._digest = f, hashlib.sha256()

    def write(self, data):
        self._digest.update(data)
        return self._f.write(data)

    def finish(self):
        self._f.write(CHECKSUM % self._digest.hexdigest().encode())

def check_checksum(fname):
    """Raises SpiderError where the bytes of a pickle differ from the checksum at its end; a pickle need not have one."""
    length = len(CHECKSUM % bytes(64))
    left = os.path.getsize(fname) - length
    digest = hashlib.sha256()
    with open(fname, 'rb') as f:
        while left > 0 and (chunk := f.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        found = f.read()
    if re.fullmatch(CHECKSUM % b'[0-9a-f]{64}', found) and found != CHECKSUM % digest.hexdigest().encode():
        raise SpiderError(f'{fname} has changed since it was written; copy it again, or take another snapshot')

def check_space(folder, needed, what):
    """Raises SpiderError unless `needed` bytes are free on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder or '.').free
    except OSError as err:
        raise SpiderError(f'--outdir: {folder} cannot be written ({err.strerror}); mend the folder, then continue with '
                          '--resume') from err
    if needed > free:
        raise SpiderError(f'--outdir: {folder} has {free / 1e6:.1f} MB free, but {what} needs about {needed / 1e6:.1f} MB; free '
                          'some space, for example with --keep, then continue with --resume')

def free_words(folder):
    try:
        return f'{folder or "."} has {shutil.disk_usage(folder or ".").free / 1e6:.1f} MB free'
    except OSError:
        return f'{folder} is gone'

def sha256(fname):
    """The hex digest of a file."""
    digest = hashlib.sha256()
    with open(fname, 'rb') as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

def link(target, name):
    """Makes `name` a symbolic link to the file `target` beside it, where the file system has them."""
    temp = f'{name}.{os.getpid()}.tmp'
    with contextlib.suppress(OSError):
        os.symlink(os.path.basename(target), temp)
        os.replace(temp, name)

@contextlib.contextmanager
def locked(fname, patience, words):
    """Within: this process alone holds the lock of a file, which is made. It ends with the process, however that ends.

    Waits `patience` seconds for another process, then raises SpiderError with the words. Without effect where the system
    or the file system has no locks."""
    with open(fname, 'a') as f:
        deadline = time.monotonic() + patience
        while fcntl is not None:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    raise SpiderError(words) from None
                time.sleep(0.5)
                continue
            except OSError:
                pass
            break
        yield

def remove_leftovers(folder):
    """Removes the temporary files of processes that are gone. Call it before this process writes any."""
    for name in os.listdir(folder):
        match = re.fullmatch(r'.+\.(\d+)\.tmp', name)
        if match and (int(match.group(1)) == os.getpid() or not is_alive(int(match.group(1)))):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))

def is_alive(pid):
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError: # Somebody else's.
        pass
    return True

#----------------------------------------------------------------------------
