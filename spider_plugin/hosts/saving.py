"""Pickles that a host's training loop saves are there whole or not at all.

Hosts write a snapshot under its final name; a process that is killed meanwhile leaves a truncated file there. In a training loop
that calls `open`, the name gets the function below, which serves binary writing of a *.pkl by a temporary file beside it, and
ends the pickle by a checksum (files/checksum.py), which hosts ignore."""

import builtins
import contextlib
import hashlib
import io
import os
import re
import time
from pathlib import Path

from spider_plugin.files import checksum

LOOP_MODULE = 'training.training_loop'
TEMPORARY   = re.compile(r'.+\.pkl\.[0-9]+\.tmp')
LEFTOVER    = 3600      # Seconds after which a temporary file belongs to nobody.

def save_whole(loop):
    """Give a host's training loop, a module, the `open` of this one, unless it has a name `open` already."""
    if not hasattr(loop, 'open'):
        loop.open = open_whole

def open_whole(file, mode='r', *args, **kwargs):
    """open(), but a *.pkl opened by mode 'wb' gets its checksum and its name when it is closed, with all of it on the disk."""
    if mode != 'wb' or not os.fspath(file).endswith('.pkl'):
        return builtins.open(file, mode, *args, **kwargs)
    _remove_leftovers(Path(file).parent.parent)
    return _WholeFile(file)

class _WholeFile(io.BufferedWriter):
    """A file that becomes `path` by close(), but not when its `with` block ends by an exception or nobody closes it."""

    def __init__(self, path):
        self._path, self._temp = os.fspath(path), f'{os.fspath(path)}.{os.getpid()}.tmp'
        super().__init__(_HashedFile(self._temp, 'wb'))

    def close(self):
        if self.closed:
            return
        try:
            self.flush()
            self.raw.write_checksum()
            os.fsync(self.fileno())
        except OSError:
            self._discard()
            raise
        super().close()
        os.replace(self._temp, self._path)

    def _discard(self):
        self.raw.close()
        os.remove(self._temp)

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.close()
        elif not self.closed:
            self._discard()

    def __del__(self):
        if not self.closed:
            self._discard()

class _HashedFile(io.FileIO):
    """An unbuffered file that hashes what is written."""

    def __init__(self, *args):
        super().__init__(*args)
        self._digest, self._count = hashlib.sha256(), 0

    def write(self, data):
        count = super().write(data)
        self._digest.update(memoryview(data)[:count])
        self._count += count
        return count

    def write_checksum(self):
        """End the file by the record of its checksum, unless parts of it were written over, which this hash does not know."""
        if self._count == self.tell():
            super().write(checksum.record(self._digest))

def _remove_leftovers(outdir):
    """Remove the temporary files of killed processes, to which nobody has written for an hour, from the runs in a directory."""
    for path in outdir.glob('*/*.tmp'):
        with contextlib.suppress(OSError):  # Other processes clean up, too.
            if TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFTOVER:
                path.unlink()
