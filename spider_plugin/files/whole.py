"""Files that are there whole or not at all, also where their process is killed: a file gets its name when it is closed.

Until then it is NAME.HOST-PID.tmp beside its place, so that a later process knows when it belongs to nobody any more."""

import contextlib
import io
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

HOST     = socket.gethostname()
LEFTOVER = 3600     # Seconds after which a temporary file of a process on another machine belongs to nobody.

_TEMPORARY = re.compile(r'.+\.(?:pkl|pt)\.(.+)-([0-9]+)\.tmp')

class WholeFile(io.BufferedWriter):
    """A file that becomes `path` by close(), but not when its `with` block ends by an exception or nobody closes it.

    then:   called with the path when the file is there.
    Raises OSError where the disk refuses; a file that was there before stays."""

    def __init__(self, path: str | os.PathLike[str], then: Callable[[str], object] = lambda path: None) -> None:
        self._path, self._then = os.fspath(path), then
        self._temp = f'{self._path}.{HOST}-{os.getpid()}.tmp'
        super().__init__(self._open(self._temp))

    def _open(self, path: str) -> io.RawIOBase:
        return io.FileIO(path, 'wb')

    def _end(self) -> None:
        """Write what comes last."""

    def close(self) -> None:
        if self.closed:
            return
        try:
            self.flush()
            self._end()
            os.fsync(self.fileno())
        except OSError:
            self._discard()
            raise
        super().close()
        os.replace(self._temp, self._path)
        self._then(self._path)

    def _discard(self) -> None:
        self.raw.close()
        os.remove(self._temp)

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.close()
        elif not self.closed:
            self._discard()

    def __del__(self) -> None:
        if not self.closed:
            self._discard()

def remove_leftovers(outdir: Path) -> None:
    """Remove the temporary files of processes that are gone from the runs in a directory.

    Of processes on other machines, those to which nobody has written for an hour count as gone."""
    for path in outdir.glob('*/*.tmp'):
        match = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):  # Other processes clean up, too.
            if match and _is_gone(path, match[1], int(match[2])):
                path.unlink()

def _is_gone(path: Path, host: str, pid: int) -> bool:
    """Return whether the process that wrote a temporary file has ended."""
    if host != HOST or os.name != 'posix':
        return time.time() - path.stat().st_mtime > LEFTOVER
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:     # Somebody else's.
        pass
    return False
