"""Work on every file of a set before a run starts: by some threads, with progress, and once for the same files.

This file is the same in the plugin, in files/pictures/, and in the reference host, in training/pictures/, which runs without the
plugin; a test compares the bytes."""

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_THREADS = 4        # at most: each may decode an image of 89 megapixels, which takes some 20 bytes a pixel
_AHEAD   = 4        # results for each thread that may wait to be taken

def in_order(function: Callable[[Any], Any], items: Sequence[Any], say: Callable[[int, float], object] | None = None,
             seconds: float = 3.0) -> Iterator[Any]:
    """Yield function(item) for each item in their order, by as many threads as there are cores, four at most.

    say:    called with the number of results and the seconds since the start, every `seconds` seconds.
    What function raises is raised at its place."""
    start = shown = time.monotonic()
    for done, result in enumerate(_results(function, items), start=1):
        yield result
        if say is not None and (now := time.monotonic()) - shown > seconds and done < len(items):
            shown = now
            say(done, now - start)

def _results(function, items):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    threads = min(cores, _THREADS)
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix='check')
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= threads * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

def key_of(*parts: Any) -> str:
    """Return the hex digest of what decides a result: the version of the rules, names, sizes and times of files."""
    return hashlib.sha256(repr(parts).encode('utf-8', 'surrogateescape')).hexdigest()

def recall(folder: str | os.PathLike | None, key: str) -> dict | None:
    """Return what remember() kept in a folder for a key, or None."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        with open(os.path.join(os.fspath(folder or ''), f'{key}.json'), encoding='utf-8') as file:
            found = json.load(file)
        return found if folder is not None and isinstance(found, dict) else None
    return None

def remember(folder: str | os.PathLike | None, key: str, result: dict) -> None:
    """Keep a result in a folder, whole or not at all. A folder that cannot be written is let be: the work is done again then."""
    if folder is None:
        return
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        handle, temp = tempfile.mkstemp(dir=folder, suffix='.tmp')
        try:
            with os.fdopen(handle, 'w', encoding='utf-8') as file:
                json.dump(result, file)
            os.replace(temp, os.path.join(folder, f'{key}.json'))
        except OSError:
            os.remove(temp)
