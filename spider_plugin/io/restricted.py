"""Reads a host's pickle without executing anything in it.

A host pickle names functions to call and carries the source code of its classes. Here every name is looked up in a fixed
table of stand-ins that only hold data; persistent objects become `PersistentRecord`s whose source stays a string.
"""

import io
import math
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from spider_plugin.errors import UserError

MAX_MODULES = 10_000 # More than any network has; a pickle can tie modules into knots.

#----------------------------------------------------------------------------
# What comes back.

@dataclass(eq=False)
class PersistentRecord:
    """One object that was pickled with its class: inert, `module_src` is text that nobody runs.

    Plain torch.nn modules are recorded likewise, with an empty `module_src`."""

    class_name:  str
    module_src:  str
    init_args:   tuple = ()
    init_kwargs: dict  = field(default_factory=dict)
    state:       dict  = field(default_factory=dict)

    def state_dict(self):
        """Tensors by dotted name, as `torch.nn.Module.state_dict()` of the live module would give them (on cpu)."""
        tensors, stack, visited = {}, [('', self.state)], 0
        while stack:
            prefix, state = stack.pop()
            visited += 1
            if visited > MAX_MODULES:
                raise UserError(f'{self.class_name} holds more than {MAX_MODULES} modules; its pickle is damaged.')
            leave_out = state.get('_non_persistent_buffers_set', ())
            for name, value in [*state.get('_parameters', {}).items(), *state.get('_buffers', {}).items()]:
                if isinstance(value, torch.Tensor) and name not in leave_out:
                    tensors[prefix + name] = value
            for name, module in reversed(state.get('_modules', {}).items()):
                if isinstance(module, PersistentRecord):
                    stack.append((f'{prefix}{name}.', module.state))
        return tensors

class _Frozen(type):
    """Classes that a pickle cannot patch."""

    def __setattr__(cls, name, value):
        raise pickle.UnpicklingError(f'assignment to {cls.__name__}.{name}')

class _ModuleRecord(PersistentRecord, metaclass=_Frozen):
    """Base of the stand-ins for torch.nn.modules classes."""

    qualified_name = ''

    def __new__(cls, *args):
        self = super().__new__(cls)
        PersistentRecord.__init__(self, class_name=cls.qualified_name, module_src='')
        return self

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        self.state = _checked_state(state)

def _checked_state(state):
    groups = [state.get(key, {}) for key in ('_parameters', '_buffers', '_modules')] if isinstance(state, dict) else [None]
    if not all(isinstance(group, dict) and all(isinstance(name, str) for name in group) for group in groups):
        raise pickle.UnpicklingError('a module state of unknown form')
    return state

#----------------------------------------------------------------------------
# Stand-ins: what the names in a host pickle are replaced by. They take the arguments that the real ones would get.

def _persistent(meta):
    state = _checked_state(meta['state'])
    if meta['type'] != 'class' or not all(isinstance(meta[key], str) for key in ('class_name', 'module_src')):
        raise pickle.UnpicklingError('a persistent object of unknown form')
    return PersistentRecord(
        class_name  = meta['class_name'],
        module_src  = meta['module_src'],
        init_args   = tuple(state.get('_init_args', ())),
        init_kwargs = dict(state.get('_init_kwargs', {})),
        state       = {key: value for key, value in state.items() if key not in ('_init_args', '_init_kwargs')},
    )

def _storage(data):
    """Nested pickle of one torch storage in torch's legacy format."""
    if data[:2] == b'PK': # A zip may expand to any size; storages inside a pickle never are one.
        raise pickle.UnpicklingError('a zipped storage')
    storage = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError('a storage of unknown form')
    return storage

def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    size, stride = tuple(size), tuple(stride)
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise pickle.UnpicklingError('a tensor of impossible shape')
    room = storage._untyped_storage.nbytes() // storage.dtype.itemsize
    last = offset + sum((s - 1) * t for s, t in zip(size, stride))
    if math.prod(size) > 0 and (last >= room or math.prod(size) > room):
        raise pickle.UnpicklingError('a tensor larger than its storage')
    return torch.empty([0], dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)

def _parameter(data, requires_grad=True, hooks=None):
    return data

class _Dtype(metaclass=_Frozen):
    """numpy.dtype: booleans, integers, floats, complex numbers, byte and unicode strings; no objects, no structures."""

    __slots__ = ('code', 'order')

    def __init__(self, code, align=False, copy=False):
        if not isinstance(code, str) or not re.fullmatch(r'[biufcSU]\d{1,8}', code):
            raise pickle.UnpicklingError(f'numpy dtype {code!r}')
        self.code, self.order = code, '='

    def __setstate__(self, state):
        self.order = state[1] if state[1] in ('<', '>') else '='

    def numpy(self):
        return np.dtype(self.order + self.code)

class _Array(np.ndarray):
    """numpy.ndarray whose pickled bytes may only be numbers or strings."""

    def __setstate__(self, state):
        _version, shape, dtype, fortran, data = state
        super().__setstate__((1, tuple(shape), _Dtype.numpy(dtype), bool(fortran), bytes(data)))

def _new_array(cls, shape, code):
    return np.ndarray.__new__(_Array, (0,), dtype=np.uint8)

def _array_from_buffer(data, dtype, shape, order):
    return np.frombuffer(data, dtype=_Dtype.numpy(dtype)).reshape(shape, order=order)

def _numpy_scalar(dtype, data):
    dtype = _Dtype.numpy(dtype)
    if len(data) != dtype.itemsize:
        raise pickle.UnpicklingError('a numpy scalar of the wrong length')
    return np.frombuffer(data, dtype=dtype)[0]

class _Call:
    """A function that a pickle can call and cannot change."""

    __slots__ = ('_call',)

    def __init__(self, function):
        object.__setattr__(self, '_call', function)

    def __call__(self, *args):
        return self._call(*args)

    def __setattr__(self, name, value):
        raise pickle.UnpicklingError('assignment to a function')

    def __setstate__(self, state):
        raise pickle.UnpicklingError('assignment to a function')

#----------------------------------------------------------------------------
# The table of names.

GLOBALS = {
    ('collections', 'OrderedDict'):                                dict,
    ('dnnlib.util', 'EasyDict'):                                   dict,
    ('builtins', 'set'):                                           set,
    ('torch', 'Size'):                                             tuple,
    ('torch._utils', '_rebuild_parameter'):                        _Call(_parameter),
    ('torch._utils', '_rebuild_tensor_v2'):                        _Call(_tensor),
    ('torch.storage', '_load_from_bytes'):                         _Call(_storage),
    ('torch_utils.persistence', '_reconstruct_persistent_obj'):    _Call(_persistent),
    ('numpy', 'dtype'):                                            _Dtype,
    ('numpy', 'ndarray'):                                          None, # Only ever an argument of _reconstruct.
}
for _core in ('numpy.core', 'numpy._core'):
    GLOBALS[f'{_core}.multiarray', 'scalar'] = _Call(_numpy_scalar)
    GLOBALS[f'{_core}.multiarray', '_reconstruct'] = _Call(_new_array)
    GLOBALS[f'{_core}.numeric', '_frombuffer'] = _Call(_array_from_buffer)
for _dtype in ('float16', 'bfloat16', 'float32', 'float64', 'uint8', 'int8', 'int16', 'int32', 'int64', 'bool'):
    GLOBALS['torch', _dtype] = getattr(torch, _dtype)

class _Forbidden(pickle.UnpicklingError):
    pass

class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in GLOBALS:
            return GLOBALS[module, name]
        if module.startswith('torch.nn.modules.'):
            return _Frozen(_ModuleRecord.__name__, (_ModuleRecord,), {'qualified_name': f'{module}.{name}'})
        raise _Forbidden(f'{module}.{name}')

#----------------------------------------------------------------------------
# Public functions.

def read_pickle(path):
    """Contents of the host pickle at `path`: a dict whose persistent objects are `PersistentRecord`s, tensors on cpu.

    Nothing in the file is executed or imported. Raises UserError where the file is missing, damaged, no dict, or names
    anything outside the table above."""
    path = Path(path)
    try:
        with open(path, 'rb') as file:
            contents = _Unpickler(file).load()
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror or error}); check the path.') from error
    except _Forbidden as error:
        raise UserError(f'{path} asks for {error}, which no network pickle needs, so it was not opened; '
                        'use a snapshot written by a StyleGAN2/3-style host.') from error
    except Exception as error: # Damaged or hostile bytes can raise anything; nothing of ours is in this block.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f'{path} is not a whole network pickle ({reason}); copy or download it again.') from error
    if not isinstance(contents, dict):
        raise UserError(f'{path} holds no dict of networks; use a snapshot written by a StyleGAN2/3-style host.')
    return contents

def generator_record(path, key='G_ema'):
    """The `PersistentRecord` of the generator in the host pickle at `path`. Raises UserError where it has none."""
    record = read_pickle(path).get(key)
    if not isinstance(record, PersistentRecord):
        raise UserError(f'{path} holds no persistent {key}; use a snapshot written by a StyleGAN2/3-style host.')
    return record
