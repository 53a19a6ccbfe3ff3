"""Shims that let public hosts run on a current Python stack without changes to their files.

`arm()` registers the shims and imports nothing. A shim is applied when the host imports or launches what the shim is for, and a
probe shows that this stack lacks what the host needs. The process that the user started names it in one line on stderr. Spawned
ranks and DataLoader workers import the host's script again, which arms the shims there. SPIDER_SHIMS=off turns all of them
off."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import sys
import types
import warnings
from collections.abc import Callable

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import imports
from spider_plugin.hosts.shims import numpy_names, torch_calls
from spider_plugin.hosts.shims.cpu_device import is_host_name

@dataclasses.dataclass(frozen=True)
class Shim:
    name:   str
    reason: str                         # One sentence.
    where:  str | Callable[[str], bool] # The module whose import may need the shim, or a function that says for a name whether
                                        # it is meant; or `launch` for a training config, `command` for a command.
    asks:   Callable[[object], bool]    # Whether this module, or config, uses what the shim is for.
    needed: Callable[[], bool]          # Whether this stack lacks it; a probe, which imports the libraries it tests.
    apply:  Callable[[object], None]    # Applies the shim to the module or config.

#----------------------------------------------------------------------------

def arm():
    """Register all shims. Idempotent. Raises SpiderError if SPIDER_SHIMS is neither on nor off."""
    if not enabled():
        return
    for shim in SHIMS:
        if shim.where == shim.name:
            imports.provide(shim.where, _USE[shim.name])
        elif shim.where not in ('launch', 'command'):
            imports.after_import(shim.where, _USE[shim.name])

def enabled():
    value = os.environ.get('SPIDER_SHIMS', 'on')
    if value not in ('on', 'off'):
        raise SpiderError(f'SPIDER_SHIMS={value} is not a known value; set it to off, or leave it out.')
    return value == 'on'

def mend_launch(c):
    """Apply the shims for a config that is about to be launched.

    The modules that the config names are imported here, so that the process that the user started prints the names of the shims
    that its ranks will need."""
    if not enabled():
        return
    for key in ('G_kwargs', 'D_kwargs'):
        with contextlib.suppress(Exception): # If it cannot be imported, the host will report the error.
            importlib.import_module(c[key]['class_name'].rpartition('.')[0])
    for shim in SHIMS:
        if shim.where == 'launch':
            _USE[shim.name](c)

_named = set()

def _use(shim, subject):
    if shim.asks(subject) and shim.needed():
        shim.apply(subject)
        if shim.name not in _named and not imports.in_child():
            print(f'spider-plugin: shim {shim.name}: {shim.reason} (SPIDER_SHIMS=off)', file=sys.stderr)
        _named.add(shim.name)

#----------------------------------------------------------------------------
# Setuptools no longer ships pkg_resources. The module made here has only parse_version, so code that tries other names and can do
# without them still works.

def _fill_pkg_resources(module):
    from torch.torch_version import TorchVersion
    def missing(name):
        kind = AttributeError if name.startswith('__') else ImportError # Python expects AttributeError for special names.
        raise kind(f'cannot import name {name!r} from pkg_resources, for which spider-plugin stands in')
    module.parse_version, module.__getattr__ = TorchVersion, missing

#----------------------------------------------------------------------------
# click reads the default of an option as it reads a text, and its bool takes no number; hosts write default=0.

def _click_refuses_numbers():
    import click
    try:
        click.BOOL.convert(0, None, None)
    except Exception:   # of a type that differs between versions
        return True
    return False

def _numbers_for_bool(command):
    import click
    return [param for param in command.params if isinstance(param.type, click.types.BoolParamType)
            and type(param.default) in (int, float)]

def _cast_defaults(command):
    for param in _numbers_for_bool(command):
        param.default = bool(param.default)

def mend_command(command):
    """Apply the shims for a click command of a host, which is being made."""
    if enabled():
        for shim in SHIMS:
            if shim.where == 'command':
                _USE[shim.name](command)

#----------------------------------------------------------------------------
# torch's Sampler no longer takes a data source, which the sampler of hosts passes.

def _sampler_refuses():
    from torch.utils.data import Sampler
    try:
        Sampler(None)
    except TypeError:
        return True
    return False

def _sampler_of_host_refuses(misc):
    try:
        misc.InfiniteSampler(dataset=[0])
    except AttributeError:
        return False
    except TypeError:
        return True
    return False

def _widen_sampler(_misc):
    from torch.utils.data import Sampler
    Sampler.__init__ = lambda self, data_source=None: None

#----------------------------------------------------------------------------
# torch's Adam takes only betas of one type; hosts write [0, 0.99].

_OPTIMIZERS = ('G_opt_kwargs', 'D_opt_kwargs')

def _adam_refuses():
    import torch
    try:
        torch.optim.Adam([torch.zeros([])], betas=[0, 0.99])
    except ValueError:
        return True
    return False

def _has_integer_betas(c):
    return any(isinstance(beta, int) for key in _OPTIMIZERS for beta in c.get(key, {}).get('betas', ()))

def _cast_betas(c):
    for key in _OPTIMIZERS:
        if 'betas' in c.get(key, {}):
            c[key]['betas'] = [float(beta) for beta in c[key]['betas']]

#----------------------------------------------------------------------------
# DistributedDataParallel used to start all ranks from the buffers of rank 0. With broadcast_buffers=False they now stay
# different, and hosts that pass that compare the buffers of ranks before each snapshot.

def _ddp_leaves_buffers():
    from torch.distributed.utils import _sync_module_states
    return 'broadcast_buffers' in inspect.signature(_sync_module_states).parameters

def _start_from_equal_buffers(_training_loop):
    import torch
    DDP = torch.nn.parallel.DistributedDataParallel
    stock_init = DDP.__init__
    @functools.wraps(stock_init)
    def init(self, module, *args, broadcast_buffers=True, **kwargs):
        if not broadcast_buffers:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
        stock_init(self, module, *args, broadcast_buffers=broadcast_buffers, **kwargs)
    DDP.__init__ = init

#----------------------------------------------------------------------------
# Hosts print a summary of G and D, for which these run once, in training mode, on tensors of torch.empty. Memory that nobody
# wrote can hold NaN, and these then stay in running means for good.

def _summarises_unwritten_memory(training_loop):
    loop = inspect.unwrap(getattr(training_loop, 'training_loop', None))
    return isinstance(loop, types.FunctionType) and {'empty', 'print_module_summary'} <= set(loop.__code__.co_names)

def _summarise_finite_numbers(training_loop):
    import torch
    misc = training_loop.misc
    stock = misc.print_module_summary
    @functools.wraps(stock)
    def print_module_summary(module, inputs, *args, **kwargs):
        finite = [torch.nan_to_num(x, 0.0, 0.0, 0.0).clamp(-1, 1) if torch.is_tensor(x) and x.is_floating_point() else x
                  for x in inputs]
        return stock(module, finite, *args, **kwargs)
    misc.print_module_summary = print_module_summary

#----------------------------------------------------------------------------
# timm's EfficientNet has its first activation inside bn1, so the act1 that hosts read can be an identity.

def _no_act1():
    from timm.models.efficientnet import EfficientNet
    return 'act1' not in EfficientNet.__init__.__code__.co_names and not hasattr(EfficientNet, 'act1')

def _add_act1(_projector):
    import torch
    from timm.models.efficientnet import EfficientNet
    EfficientNet.act1 = torch.nn.Identity()

#----------------------------------------------------------------------------
# SciPy 1.18 drops `disp` of sqrtm; with disp=False it returned the root and an estimate of its error.

def _no_disp():
    import scipy.linalg
    return 'disp' not in inspect.signature(scipy.linalg.sqrtm).parameters

def _wrap_sqrtm(_fid):
    import scipy.linalg
    stock = scipy.linalg.sqrtm
    @functools.wraps(stock)
    def sqrtm(A, disp=True, **kwargs):
        root = stock(A, **kwargs)
        return root if disp else (root, float('nan'))
    scipy.linalg.sqrtm = sqrtm

def _mentions(module, word):
    """Return whether the word is a keyword, or part of a string, in a function of the module or in what it extends."""
    codes = [inspect.unwrap(obj).__code__ for obj in vars(module).values() if type(obj) is types.FunctionType]
    return any(word in const for code in codes for const in code.co_consts if isinstance(const, str | tuple))

#----------------------------------------------------------------------------
# The hosts' operators of 2020 fall back to torch's, which now have the features they were made for, and warn at every call.

def _ignore_fallback(_gradfix):
    warnings.filterwarnings('ignore', message=r'(grid_sample|conv2d)_gradfix not supported on PyTorch')

def _gradfix(operator):
    return Shim(name=f'{operator}_gradfix', where=f'torch_utils.ops.{operator}_gradfix',
                reason=f'the host warns at every call that it uses the {operator} of this torch; these warnings are not shown',
                asks=lambda module: _mentions(module, 'not supported on PyTorch'), needed=lambda: True, apply=_ignore_fallback)

#----------------------------------------------------------------------------

SHIMS = [
    Shim(name='pkg_resources', where='pkg_resources', asks=lambda module: True,
         reason='setuptools no longer ships it, and the host compares versions with it',
         needed=lambda: imports.find_elsewhere('pkg_resources') is None, apply=_fill_pkg_resources),
    Shim(name='bool_defaults', where='command', asks=_numbers_for_bool,
         reason='click no longer takes a number as the default of a bool, and the host writes one',
         needed=_click_refuses_numbers, apply=_cast_defaults),
    Shim(name='sampler', where='torch_utils.misc', asks=_sampler_of_host_refuses,
         reason='the base class of torch\'s samplers no longer takes the dataset that the host gives it',
         needed=_sampler_refuses, apply=_widen_sampler),
    Shim(name='betas', where='launch', asks=_has_integer_betas,
         reason='torch\'s Adam no longer takes integers among its betas, and the host writes 0',
         needed=_adam_refuses, apply=_cast_betas),
    Shim(name='buffers', where='training.training_loop', asks=lambda module: _mentions(module, 'broadcast_buffers'),
         reason='torch no longer starts ranks with equal buffers, which the host checks at every snapshot',
         needed=_ddp_leaves_buffers, apply=_start_from_equal_buffers),
    Shim(name='summary', where='training.training_loop', asks=_summarises_unwritten_memory,
         reason='the host runs its networks once on memory that nobody wrote, and NaN there would stay in their running means',
         needed=lambda: True, apply=_summarise_finite_numbers),
    Shim(name='act1', where='pg_modules.projector', asks=lambda module: hasattr(module, '_make_efficientnet'),
         reason='timm\'s EfficientNet has its first activation inside its normalisation, where the host does not look',
         needed=_no_act1, apply=_add_act1),
    Shim(name='sqrtm', where='metrics.frechet_inception_distance', asks=lambda module: _mentions(module, 'disp'),
         reason='scipy\'s sqrtm no longer takes disp, which the host\'s FID passes',
         needed=_no_disp, apply=_wrap_sqrtm),
    Shim(name='percentile', where='metrics.perceptual_path_length',
         asks=lambda module: hasattr(module, 'np') and _mentions(module, 'interpolation'),
         reason='numpy\'s percentile no longer takes interpolation, which the host\'s path lengths pass',
         needed=numpy_names.percentile_refuses, apply=numpy_names.give_percentile),
    *map(_gradfix, ('grid_sample', 'conv2d')),
    Shim(name='grid_sample', where=is_host_name, asks=torch_calls.asks_for_grid_sample,
         reason='torch gives operators by name in another form, and the host takes the second derivative of grid_sample from one',
         needed=torch_calls.torch_returns_a_pair, apply=torch_calls.give_operations),
    Shim(name='weight_gradient', where=is_host_name, asks=torch_calls.asks_for_weight_gradient,
         reason='torch no longer has the operator from which the host takes gradients of convolutions',
         needed=torch_calls.cuda_lacks_weight_gradient, apply=torch_calls.give_operations),
    Shim(name='alone', where=torch_calls.may_exchange, asks=torch_calls.exchanges_alone,
         reason='the host exchanges tensors between processes where there may be one, which torch refuses',
         needed=lambda: True, apply=torch_calls.let_alone),
    Shim(name='copies', where='training.training_loop', asks=torch_calls.resumes_with_gradients,
         reason='the host copies a snapshot into parameters that require gradients, which torch refuses',
         needed=lambda: True, apply=torch_calls.copy_without_gradients),
    Shim(name='numpy_names', where='numpy', asks=numpy_names.lacking, needed=lambda: True, apply=numpy_names.supply,
         reason='numpy no longer has names that the host\'s files use, such as np.int'),
]
_USE = {shim.name: functools.partial(_use, shim) for shim in SHIMS}

#----------------------------------------------------------------------------
