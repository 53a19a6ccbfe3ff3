"""Pickles that carry the source code of their classes.

An instance of a class under `@persistent_class` is pickled together with the source of the module that defines the
class, so that it can be opened after that module has changed or is gone. The imports of the module are not pickled.
The record in the pickle is version 6 of the format that StyleGAN-style codebases share, so each can read the other's pickles.
"""

import copy
import inspect
import linecache
import pickle
import sys
import types
import uuid

import numpy as np
import torch

import dnnlib

_version         = 6        # version of the record, checked on reading
_decorators      = set()    # classes made by persistent_class()
_import_hooks    = []       # functions meta -> meta, called in order for every object read
_module_sources  = {}       # {module: source}
_source_modules  = {}       # {source: module}

#----------------------------------------------------------------------------

def persistent_class(orig_class):
    """Decorate a class so that pickles of its instances carry their module's source and their constructor's arguments.

    Every class whose instances are pickled needs it, including submodules and subclasses. `obj.init_args` and
    `obj.init_kwargs` are copies of the arguments that the object was made with.
    Pickling an instance of an undecorated subclass raises pickle.PicklingError, because the record would name the decorated
    base, and the subclass would be lost silently.
    """
    if is_persistent(orig_class):
        return orig_class
    module = sys.modules[orig_class.__module__]

    class Decorator(orig_class):
        _orig_module_src = _module_source(module)
        _orig_class_name = orig_class.__name__

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = copy.deepcopy((args, kwargs))
            if type(self) is Decorator:
                _check_pickleable(self.__reduce__())

        @property
        def init_args(self):
            return copy.deepcopy(self._init_args)

        @property
        def init_kwargs(self):
            return dnnlib.EasyDict(copy.deepcopy(self._init_kwargs))

        def __reduce__(self):
            if type(self) not in _decorators:
                raise pickle.PicklingError(f'{type(self).__qualname__} extends a persistent class: decorate it with '
                                           'persistence.persistent_class too, or its own code is not saved.')
            reduced = super().__reduce__()
            if reduced[0] is _reconstruct_persistent_obj: # A decorated base, or this class, made the record.
                return reduced
            state = reduced[2] if len(reduced) > 2 else {}
            return _reconstruct_persistent_obj, (dict(
                type='class', version=_version, module_src=self._orig_module_src, class_name=self._orig_class_name, state=state),)

    Decorator.__name__ = orig_class.__name__
    Decorator.__qualname__ = orig_class.__qualname__
    Decorator.__doc__ = orig_class.__doc__
    Decorator.__module__ = orig_class.__module__
    _decorators.add(Decorator)
    return Decorator

def is_persistent(obj):
    """Return True for a class under persistent_class, and for an instance of one (not of its undecorated subclasses)."""
    return (obj if isinstance(obj, type) else type(obj)) in _decorators

def import_hook(hook):
    """Call `hook(meta) -> meta` for every persistent object that is read.

    meta is an EasyDict with type, version, module_src, class_name and state; a hook may edit it to update old source.
    """
    _import_hooks.append(hook)
    return hook

#----------------------------------------------------------------------------

def _reconstruct_persistent_obj(meta):
    """Rebuild an object; pickle calls this. It executes the source that the record carries."""
    meta = dnnlib.EasyDict(meta, state=dnnlib.EasyDict(meta['state']))
    for hook in _import_hooks:
        meta = hook(meta)
    if meta.version != _version or meta.type != 'class':
        raise pickle.UnpicklingError(f'Persistent object of type "{meta.type}", version {meta.version}; '
                                     f'this code reads type "class", version {_version}.')
    cls = persistent_class(getattr(_module_from_source(meta.module_src), meta.class_name))
    obj = cls.__new__(cls)
    if callable(getattr(obj, '__setstate__', None)):
        obj.__setstate__(meta.state)
    else:
        obj.__dict__.update(meta.state)
    return obj

def _module_source(module):
    """Return the source of a module, from its file, from linecache, or from a loader that has no file."""
    if module not in _module_sources:
        try:
            source = inspect.getsource(module)
        except (OSError, TypeError):
            source = module.__spec__.loader.get_source(module.__spec__.name) if module.__spec__ else None
            if source is None:
                raise
        _module_sources[module] = source
        _source_modules[source] = module
    return _module_sources[module]

def _module_from_source(source):
    """Return the live module that has this source, else a new one made from it. Tracebacks show its lines."""
    if source not in _source_modules:
        module = types.ModuleType('_imported_module_' + uuid.uuid4().hex)
        module.__file__ = f'<{module.__name__}>'
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
        sys.modules[module.__name__] = module
        _module_sources[module] = source # Set before the source runs, because the decorators in it need it.
        try:
            exec(compile(source, module.__file__, 'exec'), module.__dict__)
        except BaseException:
            del sys.modules[module.__name__], _module_sources[module], linecache.cache[module.__file__]
            raise
        _source_modules[source] = module
    return _source_modules[source]

#----------------------------------------------------------------------------

def _check_pickleable(obj):
    """Raise the error that pickle would raise for obj, without the cost of pickling tensors and persistent objects."""
    pickle.dumps(list(_unproven(obj)))

def _unproven(obj):
    """Yield the parts of obj that are not primitives, arrays, tensors or persistent objects, which were checked when made."""
    if isinstance(obj, dict):
        yield from _unproven(list(obj.items()))
    elif isinstance(obj, (list, tuple, set)):
        for item in obj:
            yield from _unproven(item)
    elif type(obj) not in _PLAIN and not is_persistent(obj):
        yield obj

_PLAIN = {type(None), bool, int, float, str, bytes, bytearray, np.ndarray, torch.Tensor, torch.nn.Parameter}

#----------------------------------------------------------------------------
