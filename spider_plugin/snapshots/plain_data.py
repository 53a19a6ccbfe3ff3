"""Plain data of a pickle, which are texts, numbers, lists, tuples and dicts, within limits.

A file of some hundred bytes can hold a tuple of two references to a tuple of two references and so on. It takes little memory,
but to print, copy, compare or hash it takes for ever. Each value is looked at once here, and counted as often as the pickle
refers to it."""

import sys

import numpy as np

from spider_plugin.snapshots.pickle_machine import Damaged

MAX_DEPTH  = 64         # of containers in containers
_REFERENCE = 32         # bytes of a number, None, or a reference to a network

def check_plain(roots, children, budget):
    """Raise Damaged for values that hold themselves, are nested more than MAX_DEPTH deep, or take more than `budget` bytes where
    each reference to a value counts as a copy of it.

    roots:      list of values.
    children:   value -> list of roots that it refers to, such as the parts of a network; None for plain data. Each of these is
                looked at once, and may refer to itself.
    budget:     bytes of all roots together."""
    todo, seen = list(roots), set()
    while todo:
        root = todo.pop()
        if id(root) in seen:
            continue
        seen.add(id(root))
        further = children(root)
        if further is not None:
            todo.extend(further)
            continue
        budget -= _unfolded(root, children, todo, budget)

def _unfolded(root, children, todo, budget):
    """Bytes of a root where each reference counts as a copy; networks in it go to `todo`."""
    sizes, depths, open_ = {}, {}, set()        # by id of a container
    stack = [(root, False)]
    while stack:
        value, finished = stack.pop()
        key = id(value)
        if finished:
            parts = _parts(value)
            sizes[key] = _REFERENCE + sum(_size(part, sizes) for part in parts)
            depths[key] = 1 + max((depths.get(id(part), 0) for part in parts), default=0)
            open_.discard(key)
            if sizes[key] > budget:
                raise Damaged('plain data without an end')
            if depths[key] > MAX_DEPTH:
                raise Damaged('lists in lists without an end')
        elif key in open_:
            raise Damaged('a list that holds itself')
        elif key not in sizes and _parts(value) is not None:
            open_.add(key)
            stack.append((value, True))
            stack.extend((part, False) for part in _parts(value))
        elif children(value) is not None:
            todo.append(value)
    return _size(root, sizes)

def _parts(value):
    """The values in a container, a list; None for any other value."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, tuple, set)) else None

def _size(value, sizes):
    if id(value) in sizes:
        return sizes[id(value)]
    return _REFERENCE + (sys.getsizeof(value) if isinstance(value, (str, bytes, np.ndarray, np.generic)) else 0)
