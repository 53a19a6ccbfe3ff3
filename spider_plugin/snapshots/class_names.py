"""Names in a pickle that the table of stand-ins does not hold: which of them may be there, as data that nobody looks at.

A snapshot can hold objects of a fork's own classes beside the network that is asked for: an augmentation, a schedule, options.
They become records that nothing is built from. Names of Python itself, and of packages that write programs into pickles, stay
refused, since a network needs none of them. Nothing is imported or called for any name."""

import re
import sys

MAX_CLASS = 200     # most letters in the name of a class

_CLOSED = {*sys.stdlib_module_names, '__builtin__', '__main__', 'copy_reg', 'dill', 'cloudpickle', 'joblib', 'spider_plugin',
           'torch_utils_ext'}

# Modules that forks keep in a package of their own, as models.stylegan.dnnlib.util.
_MOVED = ('torch_utils.persistence', 'dnnlib.util')

def may_stay_inert(module: str, name: str) -> bool:
    """Return whether `module.name` may be a class of something that is only held."""
    plain = re.fullmatch(rf'[A-Za-z_][\w.]{{0,{MAX_CLASS}}}', module, re.ASCII) and name.isidentifier() and len(name) <= MAX_CLASS
    return bool(plain) and module.split('.')[0] not in _CLOSED

def of_tensorflow(module: str) -> bool:
    """Return whether a name is of the TensorFlow versions of StyleGAN and of its predecessor."""
    return f'{module}.'.startswith(('dnnlib.tflib.', 'tfutil.')) or '.dnnlib.tflib.' in f'{module}.'

def in_its_place(module: str) -> str:
    """Return the name under which hosts know a module that a fork has moved; any other name unchanged."""
    return next((known for known in _MOVED if module.endswith(f'.{known}') and module.split('.')[0] not in _CLOSED), module)
