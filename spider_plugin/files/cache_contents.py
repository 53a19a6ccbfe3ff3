"""What is in the cache: entries with their size, age and users; which of them to remove, and which are damaged."""

import contextlib
import dataclasses
import json
import os
import pickletools
import shutil
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from spider_plugin.errors import SpiderError
from spider_plugin.files import cache_uses
from spider_plugin.files.checksum import check as check_checksum
from torch_utils_ext.cache_root import cache_root

KINDS = {
    'sources':   'prepared source images',
    'carried':   'source images that a snapshot brought',
    'resume':    'what fits of a snapshot that a run started from',
    'datasets':  'named datasets, converted',
    'downloads': 'files from the web',
    'backbones': 'feature networks, prepared',
    'features':  'features of image sets',
    'neighbors': 'comparisons of image sets',
    'match':     'how strong a match to choose',
    'parents':   'where the generators of a cascade are',
    'checks':    'results of a look at all images of a set',
    'kernels':   'compiled ops',
}
LEFT     = 'left over'  # of processes that were killed
HOUR     = 3600         # seconds in which nothing is removed after it was last written
DAY      = 24 * HOUR
RESUME_DAYS = 7         # after which a converted snapshot that no run uses is removed

@dataclasses.dataclass(frozen=True)
class Entry:
    """name: below the cache; kind: of KINDS, LEFT, or the name of another folder; size in bytes; age: seconds since it was
    written or used; users: folders of runs, and commands that start one."""

    name:  str
    kind:  str
    size:  int
    age:   float
    users: tuple[str, ...]

def entries(only: str | None = None) -> list[Entry]:
    """Return all entries of the cache, those of a kind together; only: the folder to look into."""
    root, uses, found = cache_root(), cache_uses.uses(), []
    for folder in sorted(path for path in _children(root) if path.is_dir() and path.name != cache_uses.FOLDER
                         and only in (None, path.name)):
        for path in sorted(_children(folder)):
            name = f'{folder.name}/{path.name}'
            kind = LEFT if path.name.startswith('.') or path.name.endswith('.tmp') else folder.name
            size, written = _measure(path)
            found.append(Entry(name, kind, size, max(time.time() - written, 0), tuple(cache_uses.used_by(name, uses))))
    return found

def _children(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from folder.iterdir()

def _measure(path):
    """Return (bytes, time of the last use) of a file or a folder. Links are not followed."""
    size, last = 0, 0.0
    files = [path] if path.is_symlink() or not path.is_dir() else \
        [path, *(Path(root, name) for root, _, names in os.walk(path) for name in names)]
    for file in files:
        with contextlib.suppress(OSError):      # another process may remove it
            stat = file.lstat()
            size += stat.st_size if not file.is_dir() else 0
            last = max(last, stat.st_mtime)
    return size, last

#----------------------------------------------------------------------------

def choose(found: Sequence[Entry], kinds: Collection[str] = (), days: float | None = None,
           most: float | None = None) -> list[Entry]:
    """Return the entries to remove, the oldest first.

    kinds:  only entries of these; () for all.
    days:   those unused for longer.
    most:   bytes that may stay, of all entries of these kinds: the oldest go until the others fit.
    What a run or a command uses stays, as does what was written in the last hour."""
    wanted = sorted((entry for entry in found if not kinds or entry.kind in kinds), key=lambda entry: -entry.age)
    free = [entry for entry in wanted if not entry.users and entry.age > HOUR]
    gone = [entry for entry in free if days is not None and entry.age > days * DAY]
    if most is not None:
        left = sum(entry.size for entry in wanted) - sum(entry.size for entry in gone)
        for entry in free:
            if left > most and entry not in gone:
                gone.append(entry)
                left -= entry.size
    return gone

def remove(gone: Sequence[Entry], patience: float | None = None) -> list[Entry]:
    """Remove entries, of which those that a run has begun to use meanwhile stay; return the removed ones.

    patience: see cache_uses.removing(). Raises SpiderError where the disk refuses."""
    removed = []
    with cache_uses.removing(patience):
        uses = cache_uses.uses()
        for entry in gone:
            path = cache_root() / entry.name
            if cache_uses.used_by(entry.name, uses) or _measure(path)[1] > time.time() - min(entry.age, HOUR):
                continue
            aside = path.with_name(f'.{path.name}.{os.getpid()}.tmp')       # whole or not there, for others
            try:
                path.rename(aside)
                shutil.rmtree(aside) if aside.is_dir() and not aside.is_symlink() else aside.unlink()
            except FileNotFoundError:       # another command was faster
                continue
            except OSError as error:
                raise SpiderError(f'{path} cannot be removed ({error.strerror or error}); see who owns it.') from error
            removed.append(entry)
    return removed

def tidy_resume() -> None:
    """Remove converted snapshots that no run uses and that nobody has resumed for RESUME_DAYS."""
    with contextlib.suppress(SpiderError, OSError):
        remove(choose(entries('resume'), days=RESUME_DAYS), patience=0)

#----------------------------------------------------------------------------
# Damage.

def damage(entry: Entry) -> str | None:
    """Return which file of an entry is damaged and how, None where each can be read. Unknown endings are not looked at."""
    path = cache_root() / entry.name
    for file in sorted([path] if path.is_file() else path.rglob('*')):
        check = _CHECKS.get(file.suffix)
        if check is None or not file.is_file():
            continue
        try:
            check(file)
        except SpiderError as error:
            return f'{file.name}: {error.message}'
        except Exception as error:      # of readers, of any type
            return f'{file.name}: {type(error).__name__}'
    return None

def _check_json(file):
    json.loads(file.read_text(encoding='utf-8'))

def _check_array(file):
    np.load(file, mmap_mode='r', allow_pickle=False)        # which compares the size with the header

def _check_zip(file):
    with zipfile.ZipFile(file) as archive:
        if (bad := archive.testzip()) is not None:
            raise ValueError(bad)

def _check_pickle(file):
    check_checksum(file)
    with open(file, 'rb') as opened:
        for _ in pickletools.genops(opened):
            pass

_CHECKS = {'.json': _check_json, '.npy': _check_array, '.npz': _check_zip, '.zip': _check_zip, '.pt': _check_zip,
           '.pkl': _check_pickle}

#----------------------------------------------------------------------------
