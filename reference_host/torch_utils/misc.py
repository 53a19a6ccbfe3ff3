"""Helpers around modules, samplers and ranks."""

import contextlib
import functools
import re
import warnings

import numpy as np
import torch

#----------------------------------------------------------------------------
# Tensors.

nan_to_num = torch.nan_to_num

@functools.lru_cache(maxsize=1024)
def _constant(data, data_shape, shape, dtype, device, memory_format):
    tensor = torch.as_tensor(np.array(data).reshape(data_shape), dtype=dtype, device=device)
    tensor = tensor if shape is None else tensor.expand(shape)
    return tensor.contiguous(memory_format=memory_format)

def constant(value, shape=None, dtype=None, device=None, memory_format=None):
    """Return a tensor of value (number, sequence or array) that is made once and then shared, so do not write to it."""
    value = np.asarray(value)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    device = torch.device('cpu') if device is None else torch.device(device)
    memory_format = torch.contiguous_format if memory_format is None else memory_format
    shape = None if shape is None else tuple(shape)
    return _constant(tuple(value.flatten().tolist()), value.shape, shape, dtype, device, memory_format)

def assert_shape(tensor, ref_shape):
    """Raise AssertionError unless tensor has the shape ref_shape, whose None entries match any size."""
    assert tensor.ndim == len(ref_shape) and all(ref in (None, size) for size, ref in zip(tensor.shape, ref_shape)), \
        f'Shape is {list(tensor.shape)}, expected {list(ref_shape)}.'

def profiled_function(fn):
    """Decorate a function so that the profiler shows its calls under its name."""
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        with torch.autograd.profiler.record_function(fn.__name__):
            return fn(*args, **kwargs)
    return wrapper

@contextlib.contextmanager
def suppress_tracer_warnings():
    """Suppress torch.jit.TracerWarning within this context."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        yield

#----------------------------------------------------------------------------
# Sampler.

class InfiniteSampler(torch.utils.data.Sampler):
    """An endless sampler of the indices of dataset, of which each rank takes every num_replicas-th.

    Every epoch holds every index once. The order of an epoch is that of the one before with each index moved by up to
    window_size epochs, so that an item is repeated no sooner than after 1 - window_size epochs. window_size=0 repeats one order.
    The ranks together begin with index number `start` of that sequence, which does not depend on num_replicas.
    """

    def __init__(self, dataset, rank=0, num_replicas=1, shuffle=True, seed=0, window_size=0.5, start=0):
        if len(dataset) == 0 or not 0 <= rank < num_replicas or not 0 <= window_size <= 1:
            raise ValueError('InfiniteSampler needs a dataset with items, 0 <= rank < num_replicas and 0 <= window_size <= 1.')
        self.num_items, self.rank, self.num_replicas = len(dataset), rank, num_replicas
        self.shuffle, self.seed, self.window_size, self.start = shuffle, seed, window_size, start

    def __iter__(self):
        rng = np.random.RandomState(self.seed)
        order = rng.permutation(self.num_items) if self.shuffle else np.arange(self.num_items)
        epochs, skip = divmod(self.start + self.rank, self.num_items)
        for _ in range(epochs):
            order = self._next_order(order, rng)
        while True:
            yield from order[skip :: self.num_replicas].tolist()
            skip = (skip - self.num_items) % self.num_replicas
            order = self._next_order(order, rng)

    def _next_order(self, order, rng):
        if not self.shuffle:
            return order
        window = self.window_size * self.num_items
        return order[np.argsort(np.arange(self.num_items) + rng.uniform(0, window, self.num_items), kind='stable')]

#----------------------------------------------------------------------------
# Parameters and buffers.

def params_and_buffers(module):
    """Return a list of all parameters, then all buffers."""
    return [tensor for _, tensor in named_params_and_buffers(module)]

def named_params_and_buffers(module):
    """Return a list of (name, tensor) of all parameters, then all buffers."""
    return list(module.named_parameters()) + list(module.named_buffers())

def not_finite(module):
    """Return the name of a parameter or buffer that holds an infinity or NaN; None where all are finite."""
    for name, tensor in named_params_and_buffers(module):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None

@torch.no_grad()
def copy_params_and_buffers(src_module, dst_module, require_all=False):
    """Copy the parameters and buffers of dst_module by name from src_module; with require_all, it must have all of them.

    Shapes must be equal; nothing is broadcast. Raises ValueError before anything is copied.
    """
    src, dst = dict(named_params_and_buffers(src_module)), dict(named_params_and_buffers(dst_module))
    missing = [name for name in dst if name not in src]
    if require_all and missing:
        raise ValueError(f'The source module lacks {", ".join(missing)}.')
    check_shapes(src_module, dst_module)
    for name in dst.keys() & src.keys():
        dst[name].copy_(src[name])

def check_shapes(src_module, dst_module):
    """Raise ValueError where a parameter or buffer of dst_module has another shape than that of its name in src_module."""
    src, dst = dict(named_params_and_buffers(src_module)), dict(named_params_and_buffers(dst_module))
    differ = [name for name in dst if name in src and src[name].shape != dst[name].shape]
    if differ:
        shapes = ', '.join(f'{name} {list(src[name].shape)} -> {list(dst[name].shape)}' for name in differ)
        raise ValueError(f'Tensors of the source module have other shapes: {shapes}.')

#----------------------------------------------------------------------------
# Ranks.

@contextlib.contextmanager
def ddp_sync(module, sync):
    """Within this context, a DistributedDataParallel module exchanges gradients only if sync is true."""
    distributed = isinstance(module, torch.nn.parallel.DistributedDataParallel)
    with module.no_sync() if distributed and not sync else contextlib.nullcontext():
        yield

def check_ddp_consistency(module, ignore_regex=None):
    """Raise AssertionError if a parameter or buffer differs from that of rank 0; NaNs are equal to each other.

    Tensors whose full name 'ClassName.path.of.tensor' matches ignore_regex are not compared.
    """
    for name, tensor in named_params_and_buffers(module):
        name = f'{type(module).__name__}.{name}'
        if ignore_regex is not None and re.fullmatch(ignore_regex, name):
            continue
        mine = tensor.detach()
        theirs = mine.clone()
        torch.distributed.broadcast(tensor=theirs, src=0)
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num()), f'{name} differs between ranks.'

#----------------------------------------------------------------------------
# Summary.

def print_module_summary(module, inputs, max_nesting=3, skip_redundant=True):
    """Run module on inputs, print a table of its submodules down to max_nesting, and return the outputs.

    Every parameter and buffer is counted at the first module that uses it. skip_redundant leaves out rows that
    count nothing and repeat the output of the row before.
    """
    calls, depth = [], 0 # calls: (depth at the call, module, its output tensors)

    def enter(mod, args):
        nonlocal depth
        depth += 1

    def leave(mod, args, outputs):
        nonlocal depth
        depth -= 1
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        calls.append((depth, mod, [t for t in outputs if isinstance(t, torch.Tensor)]))

    hooks = [hook for mod in module.modules()
             for hook in (mod.register_forward_pre_hook(enter), mod.register_forward_hook(leave))]
    try:
        result = module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()

    names = {mod: name or '<top-level>' for name, mod in module.named_modules()}
    seen, table, previous = set(), [], None
    for level, mod, outputs in calls:
        if level > max_nesting:
            continue
        params, buffers = ([t for t in tensors if id(t) not in seen] for tensors in (mod.parameters(), mod.buffers()))
        seen.update(map(id, params + buffers))
        if skip_redundant and not params and not buffers and previous == list(map(id, outputs)):
            continue
        previous = list(map(id, outputs))
        count = [str(sum(t.numel() for t in tensors)) if tensors else '-' for tensors in (params, buffers)]
        shapes = ' + '.join(str(list(t.shape)) for t in outputs) or '-'
        dtypes = ' + '.join(str(t.dtype).removeprefix('torch.') for t in outputs) or '-'
        table.append([names[mod], *count, shapes, dtypes])
    totals = [str(sum(int(row[i]) for row in table if row[i] != '-')) for i in (1, 2)]
    _print_table(type(module).__name__, [['', 'parameters', 'buffers', 'output', 'dtype'], *table, ['total', *totals, '', '']])
    return result

def _print_table(title, rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    print(f'\n{title}')
    for row in rows:
        print('  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(flush=True)

#----------------------------------------------------------------------------
