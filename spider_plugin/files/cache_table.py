"""`spider cache`: the entries of the cache as a table, and what is removed or damaged, in lines."""

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence

from spider_plugin.errors import SpiderError, printable
from spider_plugin.files import cache_contents
from spider_plugin.files.cache_contents import DAY, HOUR, KINDS, Entry
from spider_plugin.files.progress import Progress
from torch_utils_ext.cache_root import cache_root

Say = Callable[[str], object]

def show(kinds: Collection[str], as_json: bool, say: Say) -> None:
    """Say what is in the cache, as a table of entries and sums, or as JSON."""
    found = _entries(kinds)
    if as_json:
        say(json.dumps([dataclasses.asdict(entry) for entry in found], indent=2))
        return
    say(f'{cache_root()}: {len(found)} entries, {size_words(sum(entry.size for entry in found))}')
    for kind in dict.fromkeys(entry.kind for entry in found):
        rows = [entry for entry in found if entry.kind == kind]
        words = f' ({KINDS[kind]})' if kind in KINDS else ''
        say(f'\n{kind}{words}: {len(rows)}, {size_words(sum(entry.size for entry in rows))}')
        width = max(len(entry.name) for entry in rows)
        for entry in rows:
            users = f'  used by {", ".join(entry.users)}' if entry.users else ''
            say(printable(f'  {entry.name:<{width}s}  {size_words(entry.size):>9s}  {age_words(entry.age):>11s}{users}'))

def prune(kinds: Collection[str], days: float | None, most: float | None, dry_run: bool, say: Say) -> None:
    """Remove entries unused for `days` days, or the oldest until `most` gigabytes are left, and say which."""
    if days is None and most is None:
        raise SpiderError('spider cache prune needs to know what to remove; give --unused-for=30, for example, or --max-size=5.')
    gone = cache_contents.choose(_entries(kinds), days=days, most=None if most is None else most * 1e9)
    _say_removed(gone if dry_run else cache_contents.remove(gone), 'Would remove' if dry_run else 'Removed', say)

def verify(kinds: Collection[str], remove: bool, say: Say) -> list[Entry]:
    """Say which entries are damaged; return those that stay."""
    found = _entries(kinds)
    progress, damaged = Progress('Checking the cache', len(found)), []
    for done, entry in enumerate(found, start=1):
        if (words := cache_contents.damage(entry)) is not None:
            damaged.append(entry)
            say(printable(f'{entry.name} is damaged ({words})'))
        progress.update(done)
    say(f'Looked at {len(found)} entries, {len(damaged)} of them damaged'
        + ('; --remove removes those that no run uses' if damaged and not remove else ''))
    removed = cache_contents.remove([entry for entry in damaged if not entry.users]) if remove else []
    if removed:
        _say_removed(removed, 'Removed', say)
    return [entry for entry in damaged if entry not in removed]

def _entries(kinds: Collection[str]) -> Sequence[Entry]:
    found = cache_contents.entries()
    for kind in kinds:
        if kind not in KINDS and kind not in {entry.kind for entry in found}:
            raise SpiderError(f'{kind} is no kind of entry; choose from {", ".join(KINDS)}.')
    return [entry for entry in found if not kinds or entry.kind in kinds]

def _say_removed(gone, words, say):
    for entry in gone:
        say(printable(f'{words} {entry.name} ({size_words(entry.size)}, {age_words(entry.age)})'))
    say(f'{words} {len(gone)} entries, {size_words(sum(entry.size for entry in gone))}')

def size_words(size: float) -> str:
    """Return bytes for people: '3.2 MB'."""
    units = ['B', 'kB', 'MB', 'GB']
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f'{size:.0f} {units[0]}' if size >= 100 else f'{size:.3g} {units[0]}'

def age_words(seconds: float) -> str:
    """Return a time for people: '3 days ago'."""
    for unit, length in (('day', DAY), ('hour', HOUR), ('minute', 60)):
        if (number := int(seconds // length)) > 0:
            return f'{number} {unit}{"s" * (number > 1)} ago'
    return 'just now'
