"""The labels of a dataset.json: names matched to pictures, values checked, class ids made into classes.

    {"labels": [[file name, class or vector], ...]}     or "labels": null, or [], for none

Every function raises ValueError with the second half of a sentence, which begins where the file is named: `has no label for ...`.

This file is the same in the plugin, in files/pictures/, and in the reference host, in training/pictures/, which runs without the
plugin; a test compares the bytes."""

import collections
import dataclasses
import json
import os
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST_CLASSES = 1 << 16      # of a dataset: a label is as many numbers
_SHOWN       = 8            # rows of a table of classes in a line

@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of pictures, in their order.

    values:     int64 [N] of classes from 0, or float32 [N, k] of vectors.
    class_ids:  the number that each class has in the file, where these are ids; None where they are the classes."""

    values:    np.ndarray
    class_ids: list[int] | None = None

#----------------------------------------------------------------------------
# The file.

def parse(data: bytes) -> tuple[dict, list[tuple[str, Any]]]:
    """Return (all entries, [(name with forward slashes, label), ...]) of a dataset.json; [] where it has no labels."""
    try:
        entries = json.loads(data)
        pairs = _pairs(entries)
    except (ValueError, RecursionError) as error:
        reason = 'it is nested too deeply' if isinstance(error, RecursionError) else ' '.join(str(error).split())
        raise ValueError(f'is not {{"labels": [[file name, class or vector], ...]}} ({reason[:160]}); correct it, or remove it '
                         'to use the images without labels') from error
    if len({posixpath.normpath(name) for name, _ in pairs}) < len(pairs):
        raise ValueError('has two labels for one image; leave one of them out')
    return entries, pairs

def _pairs(entries):
    """Return the labels as pairs; a table {file name: label} counts as its pairs, as in hosts. Raises ValueError."""
    if not isinstance(entries, dict):
        raise ValueError(f'it is a {type(entries).__name__}, not a table with an entry "labels"')
    labels = entries.get('labels') or []
    if not isinstance(labels, (list, dict)):
        raise ValueError(f'its "labels" are a {type(labels).__name__}')
    pairs = labels.items() if isinstance(labels, dict) else labels
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f'entry {i + 1} of its "labels" is {ascii(pair)[:80]}')
    return [(name.replace('\\', '/'), label) for name, label in pairs]

#----------------------------------------------------------------------------
# Names.

def match(pairs: Sequence[tuple[str, Any]], names: Sequence[str]) -> tuple[list[Any], collections.Counter[str]]:
    """Return (the label of each picture, None for none; how many names were matched by what else than their letters).

    A picture takes the label of its own name. Those that find none are compared without `./` and slashes of the other kind, then
    without the folders that all names of a side are in, then by letters of any case, then without the ending. A name that fits
    several is nobody's."""
    left = dict(pairs)
    slashed = [name.replace('\\', '/') for name in names]
    found = [left.pop(name, None) for name in slashed]
    missing = [i for i, label in enumerate(found) if label is None]
    by: collections.Counter[str] = collections.Counter()
    if not missing or not left:
        return found, by
    tops = _top(list(left)), _top([slashed[i] for i in missing])
    for way, key in _WAYS.items():
        theirs = _unique({name: key(name, tops[0]) for name in left})
        mine = _unique({i: key(slashed[i], tops[1]) for i in missing})
        for key_, i in mine.items():
            if key_ in theirs:
                found[i] = left.pop(theirs[key_])
                by[way] += 1
        missing = [i for i in missing if found[i] is None]
    return found, by

def _unique(keys):
    """Return {key: what has it} of the keys that one alone has."""
    counts = collections.Counter(keys.values())
    return {key: owner for owner, key in keys.items() if counts[key] == 1}

def _top(names):
    """Return the folders that all names are in, 'a/b/' or ''."""
    folders = [posixpath.normpath(name).lstrip('/').split('/')[:-1] for name in names]
    return ''.join(f'{part}/' for part in os.path.commonprefix(folders))

def _plain(name, top):
    return posixpath.normpath(name).lstrip('/')

def _below(name, top):
    return _plain(name, top)[len(top):]

_WAYS: dict[str, Callable[[str, str], str]] = {
    'written with other slashes or dots': _plain,
    'in other folders': _below,
    'in capitals or small letters': lambda name, top: _below(name, top).casefold(),
    'with another ending': lambda name, top: os.path.splitext(_below(name, top))[0].casefold(),
}

def tell_match(by: collections.Counter[str], where: str) -> str | None:
    """Return a line about names that were matched by more than their letters, None for none."""
    said = [f'{by[way]} {way}' for way in _WAYS if by[way]]
    return f'Names in {where} that are otherwise those of images: {", ".join(said)}' if said else None

def missing_words(found: Sequence[Any], names: Sequence[str]) -> str:
    """Return the beginning of a sentence about the pictures without a label, of which there are some."""
    first = names[next(i for i, label in enumerate(found) if label is None)]
    count = sum(label is None for label in found)
    return f'has no label for {first}' + (f' and {count - 1} more' if count > 1 else '') + f' of the {len(names)} images'

#----------------------------------------------------------------------------
# Values.

def to_labels(values: Sequence[Any], class_ids: Sequence[int] | None = None, number: bool = True) -> Labels:
    """Return the labels of all pictures, of which none is None. Classes may be written as 0.0.

    class_ids:  the ids of the classes in their order, where a run has them from its beginning.
    number:     give ids the classes 0 to n - 1 in their order. Numbers are ids where one is beyond MOST_CLASSES, or where more
                than half of those up to the largest stand for no image: a label is as long as the largest."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):     # vectors of several lengths, numbers that no array holds
        array = np.array(None)
    with np.errstate(invalid='ignore'):     # infinity is no integer
        usable = array.ndim in (1, 2) and array.size > 0 and array.dtype.kind in 'iuf' and \
            (array.ndim == 2 or (array % 1 == 0).all())
    if not usable:
        raise ValueError('must give each image an integer class, or each a vector of equally many numbers')
    return _classes(array, class_ids, number) if array.ndim == 1 else Labels(_vectors(array))

def _classes(array, class_ids, number):
    if array.min() < 0:
        raise ValueError('has a negative class; number the classes from 0')
    if array.max() >= 2 ** 53:
        raise ValueError(f'has the class {array.max():g}, which is too large to be exact; number the classes from 0')
    array = array.astype(np.int64)
    ids = np.unique(array)
    if class_ids is not None:
        place = {class_id: i for i, class_id in enumerate(class_ids)}
        if unknown := [int(i) for i in ids if int(i) not in place]:
            raise ValueError(f'has the class {unknown[0]}, which is none of the {len(class_ids)} that the run began with; give '
                             'the images that it began with')
        return Labels(np.array([place[i] for i in array.tolist()], dtype=np.int64), list(class_ids))
    if len(ids) > MOST_CLASSES:
        raise ValueError(f'has {len(ids)} classes; give at most {MOST_CLASSES}')
    if number and (ids[-1] >= MOST_CLASSES or 2 * len(ids) < ids[-1] + 1):
        return Labels(np.searchsorted(ids, array).astype(np.int64), ids.tolist())
    if ids[-1] >= MOST_CLASSES:
        raise ValueError(f'has the class {ids[-1]}; number the classes from 0 to at most {MOST_CLASSES - 1}, as dataset_tool.py '
                         'does')
    return Labels(array)

def _vectors(array):
    if array.shape[1] > MOST_CLASSES:
        raise ValueError(f'has vectors of {array.shape[1]} numbers; give at most {MOST_CLASSES}')
    with np.errstate(over='ignore'):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError('has a label that is NaN or infinite; correct it')
    return array

def tell_classes(class_ids: Sequence[int] | None, where: str) -> str | None:
    """Return a line with the table of classes, its beginning where it is long; None where the classes are no ids."""
    if class_ids is None:
        return None
    rows = ', '.join(f'{i}={class_id}' for i, class_id in enumerate(class_ids[:_SHOWN]))
    more = f' and {len(class_ids) - _SHOWN} more' if len(class_ids) > _SHOWN else ''
    return f'Class ids in {where} are numbered in their order, class=id: {rows}{more}'

def num_classes(labels: Labels) -> int:
    """Return how many classes there are, or numbers in a vector."""
    if labels.values.ndim == 2:
        return labels.values.shape[1]
    return len(labels.class_ids) if labels.class_ids is not None else int(labels.values.max()) + 1 if len(labels.values) else 0
