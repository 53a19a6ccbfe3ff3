"""The checksum at the end of a pickle, which pickle and hosts ignore and our tools check.

    PICKLE  '\\nspider-sha256 '  64 hex digits  '\\n'       the sha256 of the bytes of PICKLE

It goes wherever the file goes, unlike one in a file beside it. It tells damage; it is no signature, since whoever changes the
bytes can change it as well. A pickle without one is read as it is."""

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from spider_plugin.errors import SpiderError
from spider_plugin.files.whole import WholeFile

_RECORD = re.compile(rb'\nspider-sha256 ([0-9a-f]{64})\n')
_LENGTH = 80    # bytes of a record
_BLOCK  = 1 << 20

class Changed(SpiderError):
    """A pickle that has changed since it was written."""

def record(digest) -> bytes:
    """Return the record for a hashlib digest of the pickle before it."""
    return b'\nspider-sha256 %s\n' % digest.hexdigest().encode()

@contextlib.contextmanager
def checked(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield a file with the bytes of the pickle at `path`, and their number. They are hashed as they are read, the rest at last.

    Raises Changed where they differ from the checksum, also in place of an error of the body, and OSError."""
    with open(path, 'rb', buffering=0) as file:
        size, wanted = _split(file)
        hashed = _HashedReader(file, size)
        try:
            yield io.BufferedReader(hashed if wanted else file, _BLOCK), size
        except Exception as error:
            if wanted and hashed.finished() != wanted:
                raise Changed(_words(path)) from error
            raise
        if wanted and hashed.finished() != wanted:
            raise Changed(_words(path))

def check(path: str | Path) -> bool:
    """Return whether the pickle at `path` has a checksum. Raises Changed where its bytes differ from it, and OSError."""
    with open(path, 'rb', buffering=0) as file:
        size, wanted = _split(file)
        if wanted and _HashedReader(file, size).finished() != wanted:
            raise Changed(_words(path))
    return bool(wanted)

def _split(file):
    """Return (bytes of the pickle, hex digest of its record or None); the file is at its beginning."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(size - _LENGTH, 0))
    match = _RECORD.fullmatch(file.read(_LENGTH))
    file.seek(0)
    return (size - _LENGTH, match[1].decode()) if match else (size, None)

def _words(path):
    return (f'{path} has changed since it was written: its bytes do not have the sha256 at its end; copy or download it again, '
            'or take another snapshot.')

class _HashedReader(io.RawIOBase):
    """The first `size` bytes of an unbuffered file, hashed as they are read."""

    def __init__(self, file, size):
        self._file, self._left, self._digest = file, size, hashlib.sha256()

    def readable(self):
        return True

    def readinto(self, buffer):
        count = self._file.readinto(memoryview(buffer)[: self._left])
        self._digest.update(memoryview(buffer)[:count])
        self._left -= count
        return count

    def finished(self):
        """Return the hex digest of all bytes, after reading the rest."""
        buffer = bytearray(_BLOCK)
        while self.readinto(buffer):
            pass
        return self._digest.hexdigest()

#----------------------------------------------------------------------------

class PickleFile(WholeFile):
    """A pickle that is there whole or not at all, and ends in its checksum."""

    def _open(self, path):
        return _HashedFile(path, 'wb')

    def _end(self):
        self.raw.write_checksum()

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
            super().write(record(self._digest))
