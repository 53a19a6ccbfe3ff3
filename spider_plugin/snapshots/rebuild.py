"""Live generators from host pickles, without executing what the pickles carry.

A pickle is read into inert records (snapshots/records.py). What a record calls its class is only a name: a table gives it a class
that is already on this machine (snapshots/families.py). That class is built with the recorded arguments, and given the recorded
tensors, all of them, with equal shapes."""

import contextlib
import importlib
import io
import os
import pickle
import re
import sys

import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files import checksum
from spider_plugin.files.recognise import Foreign, check_network_file
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.class_names import of_tensorflow
from spider_plugin.snapshots.families import (
    add_host_to_path,
    checkout_may_help,
    class_named,
    known_class,
    lacks_family,
    network_family,
    without_source,
)
from spider_plugin.snapshots.records import (
    TENSORFLOW,
    HeldRecord,
    PersistentRecord,
    network_in,
    networks_in,
    read_pickle,
    record_in,
)
from spider_plugin.snapshots.sizes import check_size

#----------------------------------------------------------------------------

def load_generator(path: str, key: str = 'G_ema', trust: bool = False) -> torch.nn.Module:
    """Return the generator in the host pickle at `path`: a module in eval mode on the cpu that needs no gradient.

    key:    which network of the pickle, 'G_ema' or 'G'.
    trust:  unpickle as hosts do, which runs code that the file carries.
    Raises SpiderError where the file has none, or one whose class is not in the table."""
    if trust:
        generator = network_in(unpickle(path), key, torch.nn.Module, path)
    else:
        generator = rebuild_generator(_record_fed_with_noise(path, key), path)
    check_finite(generator.state_dict(), path)
    return generator.eval().requires_grad_(False)

def check_finite(tensors, path, network='generator'):
    """Raise SpiderError if a number in {name: tensor} is not finite, as after training that diverged; `path` is for messages."""
    if (name := not_finite(tensors)) is not None:
        raise SpiderError(f'{path} is of training that diverged: {name} of its {network} is not finite; take an earlier '
                          'snapshot.')

def not_finite(tensors):
    """Return the name of the first of {name: tensor} that holds an infinity or NaN; None where all are finite."""
    return next((name for name, tensor in tensors.items()
                 if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all())), None)

def _record_fed_with_noise(path, key):
    contents = read_pickle(path)
    if 'G_full' in contents and key == 'G_ema':
        raise SpiderError(f'{path} is of the public Spider GAN code, whose {key} draws from images of another generator, not '
                          'from noise; give a snapshot of that generator, or one that the plugin wrote.')
    return record_in(contents, key, path)

def rebuild_generator(record, path, remedy=None):
    """The module that a record describes; `path` is for messages, and so is `remedy`, where a checkout is none."""
    with host_with(network_family(record)):
        known = known_class(record, path)
        _check_parts(record, path)
        generator_class, tensors = _import_class(known.class_name, path), record.state_dict()
        try:
            kwargs = fitting_arguments(record, known, path)
            generator = generator_class(*record.init_args, **kwargs, **_embedded_source(record, generator_class))
            generator.load_state_dict(tensors, strict=True)
        except Exception as error:  # a host's class can raise errors of any type for arguments that it was not made for
            checkout = 'set PYTHONPATH to the checkout that wrote it, or ' if checkout_may_help() else ''
            raise SpiderError(f'{path}: its {record.class_name} does not fit {known.class_name} ({shown(error)}); '
                              f'{remedy or f"{checkout}pass --trust-pickle if you trust the file"}.') from error
    return generator

def fitting_arguments(record, known, path):
    """Return the arguments of the Known class with which a trial of it succeeds. Raises what its constructor raises, ValueError
    for a larger network than the file fills, and SpiderError."""
    bare, tensors = _import_class(known.bare_class, path), record.state_dict()
    return without_unused(known.kwargs, lambda kwargs: check_size(bare, record.init_args, kwargs, tensors))

def _check_parts(record, path):
    """Raise SpiderError for a network with a part whose class is in no table: the known class would leave out what that does."""
    stack, seen = [record], set()
    while stack:
        module = stack.pop()
        if isinstance(module, HeldRecord):
            raise SpiderError(f'{path}: its {record.class_name} has a part of the class {module.class_name}, which is not a '
                              'known class; set PYTHONPATH to the checkout that wrote it, and pass --trust-pickle if you trust '
                              'the file.')
        if id(module) not in seen:
            seen.add(id(module))
            stack.extend(part for part in module.state.get('_modules', {}).values() if isinstance(part, PersistentRecord))

def without_unused(kwargs, build):
    """Return the arguments with which build(kwargs) succeeds: as they are, or without some that its class does not know and that
    are off (0, False or None), as forks write for features of their own. Raises what build raises."""
    while True:
        try:
            build(kwargs)
            return kwargs
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            fewer = unknown and _without_off(kwargs, unknown[1])
            if not fewer or fewer == kwargs:
                raise
            kwargs = fewer

def _without_off(kwargs, name):
    """The arguments without those of this name that are off, in nested dicts as well."""
    return {key: _without_off(value, name) if isinstance(value, dict) else value for key, value in kwargs.items()
            if key != name or (value is not None and value is not False and value != 0)}

def _import_class(class_name, path):
    module, _, name = class_name.rpartition('.')
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpiderError(f'{path} needs {class_name}, which is not here ({error}); set PYTHONPATH to the checkout '
                          'that wrote it.') from error

def prepared_generator(path, info):
    """The generator in a prepared directory (sources/prepare.py); `info` is its generator.json.

    Whatever path the file names, the source of a Spider generator is the one inside the directory. Raises SpiderError."""
    kwargs = dict(info['init_kwargs'])
    try:
        generator_class = class_named(info['class_name'])
        if isinstance(kwargs.get('spider'), dict):
            kwargs['spider'] = dict(kwargs['spider'], source=os.path.join(path, 'source'))
        tensors = torch.load(os.path.join(path, 'weights.pt'), map_location='cpu', weights_only=True)
        check_size(class_named(without_source(info['class_name'])), (), kwargs, tensors)
        generator = generator_class(**kwargs)
        generator.load_state_dict(tensors)
        if (info['z_dim'], info['c_dim']) != (generator.z_dim, getattr(generator, 'c_dim', 0)):
            raise ValueError('latents or classes of another length')
        with torch.no_grad():   # some arguments are used no earlier
            generator.eval()(torch.zeros([1, info['z_dim']]), torch.zeros([1, info['c_dim']]), noise_mode='const')
    except Exception as error:  # a class can raise errors of any type for arguments that it was not made for
        raise SpiderError(f'{path} holds no generator that can be built ({shown(error)}); remove that directory and start again '
                          'with --spider-source, which prepares it anew.') from error
    return generator

#----------------------------------------------------------------------------
# A checkout may lack the family that a source generator is of. The reference host has the StyleGANs; while its class is built,
# its modules go by the names that the checkout's have otherwise.

_reference_modules = {}
_SHARED_NAMES = ('training', 'torch_utils', 'dnnlib', 'spider_plugin.bundles')

def _shared_modules():
    return {name: module for name, module in sys.modules.items() if f'{name}.'.startswith(tuple(f'{n}.' for n in _SHARED_NAMES))}

@contextlib.contextmanager
def host_with(family):
    """Within this context, the modules are those of a host that has this family, for building and pickling its networks."""
    if not lacks_family(family):
        yield
        return
    checkout, folder = _shared_modules(), str(resource_dir('reference_host'))
    _exchange(checkout, _reference_modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        _reference_modules.update(_shared_modules())
        _exchange(_reference_modules, checkout)

def _exchange(out, into):
    for name in out:
        sys.modules.pop(name, None)
    sys.modules.update(into)

#----------------------------------------------------------------------------
# The way around.

class _OnCpu(pickle.Unpickler):
    """Python's unpickler, by which tensors that were pickled on a GPU come to the CPU."""

    def find_class(self, module, name):
        if (module, name) == ('torch.storage', '_load_from_bytes'):
            return lambda data: torch.load(io.BytesIO(data), map_location='cpu', weights_only=False)
        return super().find_class(module, name)

def unpickle(path):
    """Contents of the host pickle at `path`, read as hosts do. Runs code that the file carries."""
    add_host_to_path()
    check_network_file(path)
    try:
        checksum.check(path)
        with open(path, 'rb') as file:
            contents = _OnCpu(file).load()
    except checksum.Changed:
        raise
    except OSError as error:
        raise SpiderError(f'Cannot read {path} ({error.strerror}); check the path.') from error
    except ModuleNotFoundError as error:
        if of_tensorflow(str(error.name)):
            raise Foreign(path, TENSORFLOW) from error
        raise SpiderError(f'{path} needs the package {shown(error.name)}, which cannot be imported here; install it, or set '
                          'PYTHONPATH to the checkout that wrote the file.') from error
    except Exception as error:      # code that the file carries ran here
        raise SpiderError(f'{path} cannot be unpickled ({type(error).__name__}: {shown(error)}); set PYTHONPATH to the '
                          'checkout that wrote it.') from error
    return networks_in(contents, torch.nn.Module, path)

#----------------------------------------------------------------------------
# A Spider generator draws from the bank that its pickle carries, whatever directory its arguments name.

def embedded_bank_state(record):
    """Return the state of the record's source (images, labels, identity, ...), or None where it has no source."""
    source = record.state.get('source')
    return source.state if isinstance(source, PersistentRecord) and source.class_name == 'ImageBank' else None

def checked_bank_state(record):
    """The same, with what ImageBank relies on checked. Raises ValueError."""
    state = embedded_bank_state(record)
    if state is None:
        return None
    images, labels, mean = state.get('images'), state.get('labels'), state.get('mean_image')
    whole = _is_tensor(images, torch.uint8, 4) and _is_tensor(mean, torch.float32, 4) and mean.shape == (1, *images.shape[1:])
    if labels is not None:  # one count for each class up to the largest is made of them
        whole = whole and _is_tensor(labels, torch.int64, 1) and len(labels) == len(images) and \
            (len(labels) == 0 or 0 <= labels.min() <= labels.max() < 1 << 20)
    identity, noise, embed, classes = [state.get(name) for name in ('identity', 'noise', 'embed', 'classes')]
    described = isinstance(identity, dict) and isinstance(noise, float) and isinstance(embed, int) and 0 <= embed < 1 << 20
    whole = whole and images.shape[1] in (1, 3) and images.shape[2] == images.shape[3] <= 1 << 13
    if classes is not None:
        described = described and isinstance(classes, list) and len(classes) < 1 << 20 and \
            all(isinstance(label, int) and -1 <= label < 1 << 20 for label in classes)
    if not whole or not described:
        raise ValueError('source images of unknown form')
    return dict(images=images, labels=labels, mean_image=mean, identity=identity, noise=noise, embed=embed,
                classes=classes)

def _is_tensor(value, dtype, ndim):
    return isinstance(value, torch.Tensor) and value.dtype == dtype and value.ndim == ndim

def _bundle_of(generator_class):
    """The module of a generator's bundle. The decorator of most hosts gives the class a module of its own name, so that of the
    class under it counts."""
    modules = (sys.modules.get(cls.__module__) for cls in generator_class.__mro__)
    return next(module for module in modules if hasattr(module, 'ImageBank'))

def _embedded_source(record, generator_class):
    """{'source': the bank that the pickle carries}, of the generator's own bundle; {} for a generator without a source."""
    state = checked_bank_state(record)
    if state is None:
        if record.init_kwargs.get('spider') is not None:
            raise ValueError('it has no source')    # the path that it names is another machine's
        return {}
    bundle = _bundle_of(generator_class)
    bank = bundle.ImageBank.__new__(bundle.ImageBank)
    bank.__setstate__(state)
    return dict(source=bank)

#----------------------------------------------------------------------------
