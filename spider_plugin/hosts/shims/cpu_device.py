"""SPIDER_DEVICE=cpu lets a host that is written for cuda devices run on the CPU.

In the host's modules, the name `torch` becomes a view of torch. The torch package itself, and other modules' use of it, do not
change. In this view

    torch.device('cuda', rank)                  is the cpu
    torch.cuda.is_available()                   is False; Event uses the clock; functions for devices, streams and memory do
                                                nothing, or return 0
    torch.distributed.init_process_group        takes gloo for every backend
    torch.nn.parallel.DistributedDataParallel   ignores device_ids

and the changes for the whole process are that Tensor.pin_memory(), Tensor.cuda() and Module.cuda() return what they are
called on. Training uses float32, because hosts cannot
train with less on a CPU, and its sample grid has 4 x 4 images, because drawing the usual thousand takes a minute there."""

import contextlib
import functools
import inspect
import os
import sys
import time
import types
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import imports

GRID = 4

def requested():
    """Return whether SPIDER_DEVICE is cpu. Raises SpiderError for any other value."""
    value = os.environ.get('SPIDER_DEVICE')
    if value not in (None, '', 'cpu'):
        raise SpiderError(f'SPIDER_DEVICE={value} is not a known value; set it to cpu, or leave it out.')
    return value == 'cpu'

def arm():
    """Register the view for the host's modules. Idempotent."""
    if requested():
        imports.after_import(is_host_name, mend_module)

def is_host_name(name):
    """Return whether a module of that name may be in the folder of the host."""
    return _lies_in(imports.host_folder(), name.partition('.')[0])

@functools.cache
def _lies_in(folder, top):
    return os.path.isfile(os.path.join(folder, f'{top}.py')) or os.path.isdir(os.path.join(folder, top))

#----------------------------------------------------------------------------

def mend_module(module):
    file = getattr(module, '__file__', None)
    if file is not None and Path(file).absolute().is_relative_to(imports.host_folder()) and not _ours(module.__name__):
        mend_globals(vars(module))

def _ours(name):
    return name.partition('.')[0] in ('spider_plugin', 'torch_utils_ext')

def mend_globals(names):
    """Put the view into the namespace of a host's module or script; default arguments that are cuda devices become the cpu."""
    if isinstance(names.get('torch'), types.ModuleType):
        names['torch'] = _view()
    elif isinstance(names.get('torch'), View) and not names['torch'].rests_on(_view()):     # that of a shim
        names['torch'] = names['torch'].over(_view())
    if 'torch' in names:
        for obj in list(names.values()):
            if type(obj) is types.FunctionType and obj.__defaults__:
                obj.__defaults__ = tuple(map(_on_cpu, obj.__defaults__))
    if 'setup_snapshot_image_grid' in names and 'training_loop' in names:
        names['setup_snapshot_image_grid'] = small_grid(names['setup_snapshot_image_grid'])

def mend_launch(c):
    """Switch half precision off in a config, because some hosts use it on any device, and so the clamp that goes with it, unless
    the host's layers need one."""
    for part in (c.get('G_kwargs', {}), c.get('D_kwargs', {})):
        for kwargs in (part, part.get('synthesis_kwargs', {})):
            if 'num_fp16_res' in kwargs:
                kwargs.update(num_fp16_res=0)
                if not _required(part.get('class_name'), 'conv_clamp'):
                    kwargs.update(conv_clamp=None)

def _required(class_name, argument):
    """Return whether a class beside that of a network, or beside one that it extends, has an argument without a default."""
    try:
        from spider_plugin.hosts.capabilities import import_name
        modules = {sys.modules[cls.__module__] for cls in import_name(class_name).__mro__[:-1]}
    except Exception:   # of a host's code; the host will report it
        return False
    classes = {cls for module in modules if is_host_name(module.__name__) for obj in vars(module).values()
               if issubclass(type(obj), type) for cls in obj.__mro__ if cls.__module__ == module.__name__}
    arguments = [inspect.signature(cls.__init__).parameters.get(argument) for cls in classes if '__init__' in vars(cls)]
    return any(found is not None and found.default is found.empty for found in arguments)

#----------------------------------------------------------------------------
# The view.

class View:
    """A module in which some names are replaced."""

    def __init__(self, module, **names):
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name):
        return getattr(self._module, name)

    def rests_on(self, module):
        return self is module or isinstance(self._module, View) and self._module.rests_on(module)

    def over(self, module):
        """Return a view with the same names, of those modules that another view has in place of its own."""
        names = {name: value.over(getattr(module, name)) if isinstance(value, View) else value
                 for name, value in vars(self).items() if name != '_module'}
        return View(module, **names)

@functools.cache
def _view():
    import torch
    torch.Tensor.pin_memory = lambda self, *args, **kwargs: self
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    distributed, parallel = torch.distributed, torch.nn.parallel
    def device(*args, **kwargs):
        return _on_cpu(torch.device(*args, **kwargs))
    def init_process_group(backend=None, *args, **kwargs):
        return distributed.init_process_group('gloo', *args, **kwargs)
    def data_parallel(module, device_ids=None, **kwargs):
        return parallel.DistributedDataParallel(module, **kwargs)
    data_parallel = _stand_in(parallel.DistributedDataParallel, data_parallel)
    return View(torch, device=_stand_in(torch.device, device), cuda=View(torch.cuda, **_CUDA),
                 distributed=View(distributed, init_process_group=init_process_group),
                 nn=View(torch.nn, parallel=View(parallel, DistributedDataParallel=data_parallel)))

def _stand_in(real, make):
    """Return a class whose instances are those of `real`, and whose calls return make(...)."""
    class Type(type):
        def __call__(cls, *args, **kwargs):
            return make(*args, **kwargs)
        def __instancecheck__(cls, obj):
            return isinstance(obj, real)
    return Type(real.__name__, (), {})

def _on_cpu(obj):
    """Return the cpu for a cuda device, and any other object unchanged."""
    import torch
    return torch.device('cpu') if isinstance(obj, torch.device) and obj.type == 'cuda' else obj

class _Event:
    cuda_event = 1 # Hosts test it to see whether the event is initialised.

    def __init__(self, **kwargs):
        self._time = 0.0

    def record(self, stream=None):
        self._time = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return 1000 * (end._time - self._time)

def _nothing(*args, **kwargs):
    return None

class _Stream(contextlib.nullcontext):
    def __getattr__(self, name):
        return _nothing

def _zero(*args, **kwargs):
    return 0

_CUDA = dict(is_available=lambda: False, Event=_Event, current_stream=_nothing, synchronize=_nothing, Stream=_Stream,
             stream=_Stream, set_device=_nothing, empty_cache=_nothing, ipc_collect=_nothing, current_device=_zero,
             get_device_name=lambda *args: 'cpu', get_device_capability=lambda *args: (0, 0), nvtx=_Stream(),
             **dict.fromkeys(('reset_peak_memory_stats', 'reset_max_memory_allocated'), _nothing),
             **dict.fromkeys(('memory_allocated', 'max_memory_allocated', 'memory_reserved', 'max_memory_reserved',
                              'utilization', 'temperature', 'power_draw'), _zero))

#----------------------------------------------------------------------------

def small_grid(setup):
    """Return the host's setup function of the sample grid, cut to the top left corner of the grid.

    setup(...) -> ((columns, rows), images, labels), row by row."""
    def small(*args, **kwargs):
        (columns, rows), images, labels = setup(*args, **kwargs)
        picks = [row * columns + column for row in range(min(GRID, rows)) for column in range(min(GRID, columns))]
        return (min(GRID, columns), min(GRID, rows)), images[picks], labels[picks]
    return small

#----------------------------------------------------------------------------
