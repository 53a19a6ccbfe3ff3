"""Who uses the cache: runs, by the folders that they are in, and processes that are about to start one.

A run names what it uses of the cache, so that `spider cache` knows what to keep. A process that looks for something in the cache
and is about to use it holds the lock of the cache together with others of its kind; whoever removes something holds it alone."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir
from spider_plugin.files.whole import HOST
from torch_utils_ext.cache_root import cache_root

try:
    import fcntl
except ImportError:     # not a POSIX system: without locks
    fcntl = None        # type: ignore[assignment]

FOLDER   = 'uses'       # in the cache
PATIENCE = 30           # seconds that whoever removes waits for those who start
_AWAY    = 30 * 86400   # seconds after which a process on another machine counts as gone
_START   = 'resume'     # what a run needs only until its first snapshot

@dataclasses.dataclass(frozen=True)
class Use:
    """entries: names below the cache, such as sources/faces-0123; run: the folder of the run, None for a process that starts
    one; running: whether the process that trains is alive."""

    entries: frozenset[str]
    run:     str | None
    running: bool

#----------------------------------------------------------------------------
# The lock.

@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Within: nothing is removed from the cache by `spider cache`."""
    with _lock(shared=True, patience=PATIENCE):
        yield

@contextlib.contextmanager
def removing(patience: float | None = None) -> Iterator[None]:
    """Within: this process alone holds the lock. Raises SpiderError where one that starts a run keeps it for longer than
    `patience` seconds, PATIENCE by default."""
    with _lock(shared=False, patience=PATIENCE if patience is None else patience):
        yield

@contextlib.contextmanager
def _lock(shared, patience):
    with open(cache_dir() / '.lock', 'a+') as file:
        deadline = time.monotonic() + patience
        while fcntl is not None:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    raise SpiderError(f'The cache {cache_root()} is in use by a command that starts or removes something; try '
                                      'again when it is done.') from None
                time.sleep(0.2)
                continue
            except OSError:     # a file system without locks
                pass
            break
        yield

#----------------------------------------------------------------------------
# What is used.

def named_in(config: Any) -> set[str]:
    """Return the entries of the cache that a config, a tree of dicts and lists, names, by paths below the cache or in it."""
    root, found = cache_root(), set()
    def walk(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for item in value:
                walk(item)
        elif isinstance(value, (str, os.PathLike)) and '\0' not in os.fspath(value):
            parts = _below(root, os.fspath(value))
            if len(parts) >= 2 and (root / parts[0] / parts[1]).exists():
                found.add(f'{parts[0]}/{parts[1]}')
    walk(config)
    return found

def _below(root, text):
    path = Path(text)
    if path.is_absolute():
        return path.relative_to(root).parts if path.is_relative_to(root) else ()
    return () if len(text) > 1000 or '..' in path.parts else path.parts

def hold(entries: Collection[str], run: str | os.PathLike[str] | None = None) -> None:
    """Note that this process uses entries of the cache from now on: for a run, or to start one.

    The note of a run stays; the other one counts as long as the process lives."""
    name = f'{HOST}-{os.getpid()}' if run is None else hashlib.sha256(os.path.realpath(run).encode()).hexdigest()[:32]
    if not entries:
        return
    note = dict(entries=sorted(entries), run=None if run is None else os.path.realpath(run), host=HOST, pid=os.getpid())
    with contextlib.suppress(SpiderError, OSError):     # a cache that cannot be written is not one that grows
        with atomic_file(cache_dir(FOLDER) / f'{name}.json') as temp:
            temp.write_text(json.dumps(note), encoding='utf-8')
        for entry in entries:
            os.utime(cache_root() / entry)

def uses() -> list[Use]:
    """Return what runs and processes use; notes of runs whose folder is gone, and of processes that have ended, are removed."""
    found = []
    for path in sorted((cache_root() / FOLDER).glob('*.json')):
        try:
            note = json.loads(path.read_text(encoding='utf-8'))
            run, entries = note['run'], {str(entry) for entry in note['entries']}
            running = _alive(note['host'], note['pid'], path)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not running and (run is None or not os.path.isdir(run)):
            with contextlib.suppress(OSError):
                path.unlink()
            continue
        if not running and _has_snapshot(run):
            entries = {entry for entry in entries if not entry.startswith(f'{_START}/')}
        found.append(Use(frozenset(entries), run, running))
    return found

def _alive(host, pid, path):
    if host != HOST or os.name != 'posix':
        return time.time() - path.stat().st_mtime < _AWAY
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:     # somebody else's
        pass
    return True

def _has_snapshot(run):
    try:
        return any(re.fullmatch(r'network-snapshot-(?!0+\.)[0-9]+\.pkl', name) for name in os.listdir(run))
    except OSError:
        return False

def used_by(entry: str, found: Iterable[Use]) -> list[str]:
    """Return who uses an entry: folders of runs, and 'a command that starts a run'."""
    return [use.run or 'a command that starts a run' for use in found if entry in use.entries]

#----------------------------------------------------------------------------
