"""Reads a host's pickle without executing anything in it.

A host pickle names functions to call and carries the source code of its classes. Here every name is looked up in a fixed
table of stand-ins that only hold data; persistent objects become `PersistentRecord`s whose source stays a string. The plugin's
machine (snapshots/pickle_machine.py) follows the pickle's instructions, and can call nothing else.
"""

import contextlib
import io
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files import checksum
from spider_plugin.files.recognise import IMPORT, Foreign, Kind, check_network_file
from spider_plugin.snapshots.class_names import MAX_CLASS, in_its_place, may_stay_inert, of_tensorflow
from spider_plugin.snapshots.pickle_machine import ENTRY, SLOT, Damaged, Forbidden, PickleMachine, StandIn, checked_key
from spider_plugin.snapshots.plain_data import check_plain

MAX_ENTRIES  = 100_000  # Most modules and tensors of one network, because a pickle can make modules contain each other.
MAX_NAME     = 1000     # Most letters in the dotted name of a tensor.
_PLAIN_BYTES = 1 << 25  # Bytes that the plain data of any file may take where each reference counts as a copy.

#----------------------------------------------------------------------------
# The result of reading.

@dataclass(eq=False)
class PersistentRecord:
    """An inert record of an object that was pickled with its class; `module_src` is text that is never executed.

    Modules that a pickle holds by the name of their class become records too. Then `class_name` is dotted, `module_src` is empty,
    and the arguments of the constructor are unknown."""

    class_name:  str
    module_src:  str
    init_args:   tuple = ()
    init_kwargs: dict  = field(default_factory=dict)
    state:       dict  = field(default_factory=dict)

    def state_dict(self):
        """Return the tensors by dotted name, as `torch.nn.Module.state_dict()` of the live module does, on the cpu.

        Raises SpiderError for modules without an end, and for one tensor by so many names that copies of all would fill the
        memory."""
        tensors, stack, entries = {}, [('', self.state)], 0
        while stack:
            prefix, state = stack.pop()
            own = [*state.get('_parameters', {}).items(), *state.get('_buffers', {}).items()]
            modules = state.get('_modules', {})
            entries += 1 + len(own) + len(modules)
            if entries > MAX_ENTRIES or len(prefix) > MAX_NAME:
                raise SpiderError(f'{self.class_name} holds more than {MAX_ENTRIES} modules, or they hold each other; '
                                  'its pickle is damaged.')
            leave_out = state.get('_non_persistent_buffers_set', ())
            for name, value in own:
                if isinstance(value, torch.Tensor) and name not in leave_out:
                    tensors[prefix + name] = value
            for name, module in reversed(modules.items()):
                if isinstance(module, PersistentRecord):
                    stack.append((f'{prefix}{name}.', module.state))
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
        if sum(tensor.nbytes for tensor in tensors.values()) > 4 * sum(storages.values()) + (1 << 20):
            raise SpiderError(f'{self.class_name} names the same tensors too often; its pickle is damaged.')
        return tensors

class HeldRecord(PersistentRecord):
    """A record of an object whose class is in no table; it is held, and nothing is built from it."""

def _checked_state(machine, state):
    groups = [state.get(key, {}) for key in ('_parameters', '_buffers', '_modules')] if isinstance(state, dict) else [None]
    if not all(isinstance(group, dict) for group in groups):
        raise Damaged('a module state of unknown form')
    machine.budget.spend(ENTRY * sum(map(len, [state, *groups])))
    names = [name for group in groups for name in group]
    if not all(isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable() for name in names):
        raise Damaged('a module state of unknown form')
    if not isinstance(state.get('_non_persistent_buffers_set', set()), set):
        raise Damaged('a module state of unknown form')
    return state

#----------------------------------------------------------------------------
# Stand-ins, which replace the names in a host pickle. They take the machine, whose budget they use, and the arguments of the real
# functions.

def _of_kind(value, *kinds):
    """Return the value. Raises Damaged unless its type is exactly one of these: others can be asked for a length or for
    their items, too, but those cost more than they say."""
    if type(value) not in kinds:
        raise Damaged(f'a {type(value).__name__} in place of a {kinds[0].__name__}')
    return value

def _dict(machine, items=()):
    items = _of_kind(items, list, tuple, dict)
    machine.budget.spend(ENTRY * len(items))
    pairs = items.items() if isinstance(items, dict) else [_of_kind(pair, tuple, list) for pair in items]
    return {checked_key(key): value for key, value in pairs}

def _set(machine, items=()):
    items = _of_kind(items, list, tuple, set)
    machine.budget.spend(ENTRY * len(items))
    return {checked_key(item) for item in items}

def _size(machine, sizes=()):
    sizes = _of_kind(sizes, tuple, list)
    machine.budget.spend(SLOT * len(sizes))
    return tuple(sizes)

def _persistent(machine, meta):
    state = _checked_state(machine, _of_kind(meta, dict)['state'])
    if meta['type'] != 'class' or not all(isinstance(meta[key], str) for key in ('class_name', 'module_src')):
        raise Damaged('a persistent object of unknown form')
    if not re.fullmatch(rf'[A-Za-z_][\w.]{{0,{MAX_CLASS - 1}}}', meta['class_name'], re.ASCII):
        raise Damaged('a class name of unknown form')
    args, kwargs = state.get('_init_args', ()), state.get('_init_kwargs', {})
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise Damaged('a persistent object of unknown form')
    return PersistentRecord(
        class_name  = meta['class_name'],
        module_src  = meta['module_src'],
        init_args   = args,
        init_kwargs = kwargs,
        state       = {key: value for key, value in state.items() if key not in ('_init_args', '_init_kwargs')},
    )

def _by_reference(class_name, kind=PersistentRecord, held=''):
    def make(machine, *args):
        machine.budget.spend(5 * ENTRY)
        return kind(class_name=class_name, module_src='', init_args=args)
    return StandIn(make, held)

def _encoded(machine, text, encoding):
    """Bytes, as protocols below 3 write them."""
    if _of_kind(encoding, str) != 'latin1':
        raise Damaged('bytes of another encoding')
    machine.budget.spend(len(_of_kind(text, str)))
    return text.encode('latin1')

_OBJECT = object()      # the class `object` of a pickle

def _reconstructed(machine, cls, base, state):
    """An object as protocols 0 and 1 make one before it has a state."""
    if not isinstance(cls, StandIn) or base is not _OBJECT or state is not None:
        raise Damaged('an object of unknown form')
    return cls.make(machine)

#----------------------------------------------------------------------------
# Tensors. A storage is a file inside the pickle in torch's legacy format, which is five pickles, a count and the numbers.

_MAGIC, _PROTOCOL = 0x1950a86a20f9469cfc6c, 1001
STORAGES = {('torch', f'{name}Storage'): dtype for name, dtype in (
    ('Float', torch.float32), ('Double', torch.float64), ('Half', torch.float16), ('BFloat16', torch.bfloat16),
    ('Byte', torch.uint8), ('Char', torch.int8), ('Short', torch.int16), ('Int', torch.int32), ('Long', torch.int64),
    ('Bool', torch.bool))}

def _storage(machine, data):
    """Return the numbers of a storage as a one-dimensional tensor."""
    if type(data) is not bytes:
        raise Damaged('a storage of unknown form')
    machine.budget.spend(2 * len(data))     # the numbers are read, and copied to where they can be written
    inner = PickleMachine(io.BytesIO(data), len(data), _storage_type, fill, persistent=tuple, budget=machine.budget)
    magic, protocol, _system, (kind, dtype, key, _location, count, view), keys = [inner.load() for _ in range(5)]
    known = (magic, protocol, kind, view) == (_MAGIC, _PROTOCOL, 'storage', None)
    if not known or type(key) is not str or type(keys) is not list or keys != [key]:
        raise Damaged('a storage of unknown form')
    if int.from_bytes(inner.read(8), 'little') != count or len(data) - inner.position != count * dtype.itemsize:
        raise Damaged('a storage of the wrong length')
    numbers = bytearray(inner.read(count * dtype.itemsize))
    return torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty([0], dtype=dtype)

def _storage_type(module, name):
    if (module, name) not in STORAGES:
        raise Forbidden(f'{module}.{name}')
    return STORAGES[module, name]

def _tensor(machine, storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    size, stride = _of_kind(size, tuple), _of_kind(stride, tuple)
    if _of_kind(storage, torch.Tensor).ndim != 1 or not storage.is_contiguous():
        raise Damaged('a tensor whose storage is another tensor')
    ranks = len(size) == len(stride) <= 8
    if not ranks or not all(type(number) is int and 0 <= number < 1 << 48 for number in (offset, *size, *stride)):
        raise Damaged('a tensor of impossible shape')
    last = offset + sum((s - 1) * t for s, t in zip(size, stride))
    if 0 not in size and (last >= len(storage) or math.prod(size) > len(storage)):
        raise Damaged('a tensor larger than its storage')
    machine.budget.spend(math.prod(size) * storage.itemsize)
    return storage.as_strided(size, stride, offset if 0 not in size else 0)

def _parameter(machine, data, requires_grad=True, hooks=None):
    return _of_kind(data, torch.Tensor)

#----------------------------------------------------------------------------
# Arrays of numpy. Their elements may be booleans, integers, floats, complex numbers, bytes and unicode strings, but not objects
# or structures.

class _Dtype:
    """A numpy.dtype whose byte order is set later by its state."""

    def __init__(self, code):
        if not isinstance(code, str) or not re.fullmatch(r'[biufcSU][1-9]\d{0,3}', code):
            raise Damaged(f'numpy dtype {ascii(code)[:40]}')
        self.code, self.order = code, '='

    def numpy(self):
        return np.dtype(self.order + self.code)

class _Array(np.ndarray):
    """A numpy.ndarray whose shape and numbers are set later by its state."""

def _new_array(machine, cls, shape, code):
    return np.ndarray.__new__(_Array, (0,), dtype=np.uint8)

def _numbers(machine, data, dtype, shape):
    """(bytes, dtype, shape) of an array. Raises Damaged unless the bytes are as many as the shape needs."""
    data, dtype, shape = _of_kind(data, bytes), _of_kind(dtype, _Dtype).numpy(), _of_kind(shape, tuple)
    if len(shape) > 8 or not all(type(number) is int and 0 <= number < 1 << 48 for number in shape):
        raise Damaged('an array of impossible shape')
    if math.prod(shape) * dtype.itemsize != len(data):
        raise Damaged('an array of the wrong length')
    machine.budget.spend(len(data))
    return data, dtype, shape

def _array_of_dill(machine, make, args, state, attributes=None):
    """An array as dill writes one: the call of numpy's reduction, and its state."""
    if not any(make is GLOBALS[f'{core}.multiarray', '_reconstruct'] for core in ('numpy.core', 'numpy._core')):
        raise Damaged('an array that numpy does not make')
    array = make.make(machine, *_of_kind(args, tuple))
    fill(machine, array, state)
    return array

def _array_from_buffer(machine, data, dtype, shape, order):
    data, dtype, shape = _numbers(machine, data, dtype, shape)
    return np.frombuffer(data, dtype=dtype).reshape(shape, order='F' if order == 'F' else 'C')

def _numpy_scalar(machine, dtype, data):
    dtype, data = _of_kind(dtype, _Dtype).numpy(), _of_kind(data, bytes)
    if len(data) != dtype.itemsize:
        raise Damaged('a numpy scalar of the wrong length')
    return np.frombuffer(data, dtype=dtype)[0]

#----------------------------------------------------------------------------
# Objects whose state follows them in the pickle.

def fill(machine, obj, state):
    """Give a new object its state. Raises Damaged for objects that take none, and for states of unknown form."""
    if isinstance(obj, HeldRecord):
        with contextlib.suppress(Damaged):      # its class may have a state of any form
            obj.state = _checked_state(machine, state)
    elif isinstance(obj, dict) and isinstance(state, dict) and set(state) == {'_metadata'}:
        pass        # versions of the modules, which torch keeps at a dict of tensors
    elif isinstance(obj, PersistentRecord) and not obj.module_src and not obj.state:
        obj.state = _checked_state(machine, state)
    elif isinstance(obj, _Dtype):
        order = _of_kind(state, tuple)[1]
        obj.order = order if _of_kind(order, str) in ('<', '>') else '='
    elif isinstance(obj, _Array):
        _version, shape, dtype, fortran, data = _of_kind(state, tuple)
        data, dtype, shape = _numbers(machine, data, dtype, shape)
        obj.__setstate__((1, shape, dtype, _of_kind(fortran, bool, int) == 1, data))
    else:
        raise Damaged(f'a state for a {type(obj).__name__}')

#----------------------------------------------------------------------------
# The table of names.

GLOBALS = {
    ('collections', 'OrderedDict'):                                StandIn(_dict),
    ('dnnlib.util', 'EasyDict'):                                   StandIn(_dict),
    ('builtins', 'set'):                                           StandIn(_set),
    ('__builtin__', 'set'):                                        StandIn(_set),
    ('_codecs', 'encode'):                                         StandIn(_encoded),
    ('copy_reg', '_reconstructor'):                                StandIn(_reconstructed),
    ('copyreg', '_reconstructor'):                                 StandIn(_reconstructed),
    ('__builtin__', 'object'):                                     _OBJECT,
    ('builtins', 'object'):                                        _OBJECT,
    ('collections', 'defaultdict'):                                StandIn(lambda machine, factory=None: {}),
    ('builtins', 'list'):                                          None, # Used only as an argument of defaultdict,
    ('builtins', 'dict'):                                          None, # as are these.
    ('builtins', 'int'):                                           None,
    ('builtins', 'float'):                                         None,
    ('argparse', 'Namespace'):                                     _by_reference('argparse.Namespace', HeldRecord),
    ('torch', 'device'):                                           _by_reference('torch.device', HeldRecord),
    ('dill._dill', '_create_array'):                               StandIn(_array_of_dill),
    ('torch', 'Size'):                                             StandIn(_size),
    ('torch._utils', '_rebuild_parameter'):                        StandIn(_parameter),
    ('torch._utils', '_rebuild_tensor_v2'):                        StandIn(_tensor),
    ('torch.storage', '_load_from_bytes'):                         StandIn(_storage),
    ('torch_utils.persistence', '_reconstruct_persistent_obj'):    StandIn(_persistent),
    ('training.training_loop', 'MyEnsemble'):                      _by_reference('training.training_loop.MyEnsemble'),
    ('numpy', 'dtype'):                                            StandIn(lambda machine, code, *_flags: _Dtype(code)),
    ('numpy', 'ndarray'):                                          None, # Used only as an argument of _reconstruct.
}
for _core in ('numpy.core', 'numpy._core'):
    GLOBALS[f'{_core}.multiarray', 'scalar'] = StandIn(_numpy_scalar)
    GLOBALS[f'{_core}.multiarray', '_reconstruct'] = StandIn(_new_array)
    GLOBALS[f'{_core}.numeric', '_frombuffer'] = StandIn(_array_from_buffer)
for _dtype in ('float16', 'bfloat16', 'float32', 'float64', 'uint8', 'int8', 'int16', 'int32', 'int64', 'bool'):
    GLOBALS['torch', _dtype] = getattr(torch, _dtype)

for _path in ('PosixPath', 'PurePosixPath', 'WindowsPath', 'PureWindowsPath'):
    GLOBALS['pathlib', _path] = GLOBALS['pathlib._local', _path] = _by_reference(f'pathlib.{_path}', HeldRecord)

# Packages whose modules are pickled by the name of their class. Every name in them makes a record. Projected GAN's networks are
# of this kind, including the feature network in its D.
RECORDED = ('torch.nn.modules.', 'torch.nn.utils.spectral_norm.', 'torch.ao.nn.', 'torchvision.transforms.', 'timm.',
            'pg_modules.')

class _TensorFlow(Forbidden):
    """A network of a TensorFlow host."""

def resolve(module, name):
    """Return the stand-in of a name in a pickle. Raises Forbidden."""
    module = in_its_place(module)
    if (module, name) in GLOBALS:
        return GLOBALS[module, name]
    if of_tensorflow(module):
        raise _TensorFlow(f'{module}.{name}')
    if may_stay_inert(module, name):
        known = f'{module}.'.startswith(RECORDED)
        return _by_reference(f'{module}.{name}', *(() if known else (HeldRecord, f'{module}.{name}')))
    raise Forbidden(f'{module}.{name}')

#----------------------------------------------------------------------------
# Public functions.

def read_pickle(path):
    """Return the contents of the host pickle at `path`, a dict whose persistent objects are `PersistentRecord`s; tensors on cpu.

    Nothing in the file is executed or imported, and memory stays within a few times the file's size. Raises SpiderError if the
    file is missing, damaged or changed since it was written, holds no networks, or names anything that no network needs; Foreign
    if it is recognised as another kind of file. A network alone counts as G_ema, three in a tuple as G, D and G_ema."""
    path = Path(path)
    check_network_file(path)
    try:
        with checksum.checked(path) as (file, size):
            contents = PickleMachine(file, size, resolve, fill, inert=HeldRecord).load()
        check_plain([contents], parts_of_record, plain_bytes(size))
    except checksum.Changed:
        raise
    except OSError as error:
        raise SpiderError(f'Cannot read {path} ({error.strerror or error}); check the path.') from error
    except _TensorFlow as error:
        raise Foreign(path, TENSORFLOW) from error
    except Forbidden as error:
        raise SpiderError(f'{path} names {_reason(error)}, which no network pickle needs, so it was not opened; '
                          'use a snapshot written by a StyleGAN2/3-style host.') from error
    except Exception as error: # Damaged or hostile bytes can raise errors of any type.
        raise SpiderError(f'{path} is not a complete network pickle ({_reason(error)}); copy or download it again.') from error
    return networks_in(contents, PersistentRecord, path)

TENSORFLOW = Kind('tensorflow', 'a TensorFlow snapshot', 'convert it with the legacy.py of NVlabs/stylegan3, then use the result')

def networks_in(contents, kind, path):
    """Return {name: network} of what a pickle holds: a dict as it is, a network of this type alone as G_ema, and three in a tuple
    as G, D and G_ema. Raises SpiderError for anything else.

    Networks in a dict that is the only one with networks in an outer dict count as in that; G, D and G_ema are found by other
    usual names, too; and a network that torch wraps, as DataParallel does, is the one inside."""
    contents = _unwrapped(contents, kind)
    if isinstance(contents, dict):
        found = {name: _unwrapped(network, kind) for name, network in contents.items()}
        inner = [value for value in found.values() if isinstance(value, dict) and _named(value, kind)]
        if len(inner) == 1 and not _named(found, kind):
            found |= {name: _unwrapped(network, kind) for name, network in inner[0].items()}
        return found | _named(found, kind)
    if isinstance(contents, kind):
        return dict(G_ema=contents)
    if isinstance(contents, (tuple, list)) and len(contents) == 3:
        networks = [_unwrapped(network, kind) for network in contents]
        if all(isinstance(network, kind) for network in networks):
            return dict(zip(('G', 'D', 'G_ema'), networks))
    raise SpiderError(f'{path} is neither a dict of networks nor a network; use a snapshot written by a StyleGAN2/3-style host.')

# {network: its other names in public code, in small letters}
OTHER_NAMES = {
    'G_ema': ('g_ema', 'gs', 'generator_ema', 'ema_generator', 'netg_ema', 'g_avg', 'ema'),
    'G':     ('g', 'generator', 'netg'),
    'D':     ('d', 'discriminator', 'netd'),
}
_WRAPPERS = {       # {class: the name in it of the network that it wraps}
    'DataParallel': 'module', 'DistributedDataParallel': 'module', 'AveragedModel': 'module', 'OptimizedModule': '_orig_mod'}

def _unwrapped(value, kind):
    """Return the network that a wrapper of torch holds, a record or a module of this type; any other value as it is."""
    for _ in _WRAPPERS:     # they lie in each other, but not for ever
        name = getattr(value, 'class_name', type(value).__name__) if isinstance(value, kind) else ''
        inside = _WRAPPERS.get(name.rpartition('.')[2])
        modules = getattr(value, 'state', None) or vars(value) if inside else {}
        wrapped = modules.get('_modules', {}).get(inside)
        if not isinstance(wrapped, kind):
            break
        value = wrapped
    return value

def _named(contents, kind):
    """Return {'G', 'D', 'G_ema': network} of those that a dict has, by these names or by others."""
    bare = {name: _unwrapped(value, kind) for name, value in contents.items() if isinstance(name, str)}
    found = {}
    for wanted, others in OTHER_NAMES.items():
        names = [wanted] if wanted in bare else [name for other in others for name in bare if name.lower() == other]
        networks = [bare[name] for name in names if isinstance(bare[name], kind)]
        found |= {wanted: networks[0]} if networks else {}
    return found

def plain_bytes(size):
    """Return how many bytes the plain data of a file of this size may take where each reference counts as a copy."""
    return _PLAIN_BYTES + 4 * size

def parts_of_record(value):
    """Return what a record refers to; None for any other value. The networks in its state are looked at by themselves."""
    return [value.init_args, value.init_kwargs, value.state] if isinstance(value, PersistentRecord) else None

def _reason(error):
    return shown(str(error) or type(error).__name__)

def generator_record(path, key='G_ema'):
    """Return the `PersistentRecord` of the generator in the host pickle at `path`. Raises SpiderError if it has none."""
    return record_in(read_pickle(path), key, path)

def record_in(contents, key, path):
    """Return the `PersistentRecord` at `key` in the result of `read_pickle(path)`. Raises SpiderError if it has none."""
    return network_in(contents, key, PersistentRecord, path)

def network_in(contents, key, kind, path):
    """Return the network of this type at `key` of {name: network}. Without a G_ema, the average over training, its G is taken,
    and a line on stderr says so. Raises SpiderError where there is neither."""
    if isinstance(contents.get(key), kind):
        return contents[key]
    if key == 'G_ema' and isinstance(contents.get('G'), kind):
        print(f'{shown(path)} holds no G_ema, the average of its generator over training; its G is used.', file=sys.stderr)
        return contents['G']
    names = ', '.join(shown(name, 40) for name, value in list(contents.items())[:20] if isinstance(value, kind))
    holds = f'no network {key}, but {names}' if names else f'no {key} and no other network'
    remedy = 'use a snapshot written by a StyleGAN2/3-style host'
    if not names and any(_is_state(value) for value in [contents, *contents.values()]):
        holds, remedy = 'tensors without their networks, a state dict', IMPORT.replace('{path}', str(path))
    raise SpiderError(f'{path} holds {holds}; {remedy}.')

def _is_state(value):
    return isinstance(value, dict) and any(isinstance(tensor, torch.Tensor) and tensor.ndim > 1 for tensor in value.values())
