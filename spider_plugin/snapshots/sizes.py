"""Bounds of the network that a file asks for.

A known class would build a network of any size. It is built without memory first, and this trial ends where it has more
parameters than the file holds numbers. The trial leaves a Spider generator's source out: it is of the host's class. Drawing takes
memory by the width of layers and the size of images, which few numbers in a file can make huge; that is bounded, too."""

import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

_SLACK   = 1 << 22      # numbers that a generator without its source may have and one with it may not
_DENSE   = 10           # times the parameters of a separable layer that it has while it is made, of a dense one with 9 taps
_NUMBER  = 1 << 20      # largest number among the arguments,
_LIMITS  = dict(        # but for those that loops, filters, latents and images are sized by
    img_resolution=1 << 13, num_layers=64, filter_size=64, lrelu_upsampling=4, margin_size=64, img_channels=16, z_dim=1 << 12,
    w_dim=1 << 14, c_dim=1 << 16, rank=64, num_fp16_res=64)
_LIST    = 64           # most items of a list among the arguments, a filter for example
_DRAWN   = 1 << 21      # bytes of a layer's output for one image that any file may ask for,
_EACH    = 1 << 10      # and how many more for each number that it holds
_BATCH   = 1 << 26      # bytes of a layer's output for a batch on a CPU

def check_size(generator_class, args, kwargs, tensors):
    """Raise ValueError where the arguments ask for a larger network than the tensors fill.

    args, kwargs:   of the generator without its source.
    tensors:        {name: tensor} of the file."""
    kwargs = {key: value for key, value in kwargs.items() if key != 'spider'}
    for name, number in _numbers(dict(kwargs, args=list(args))):
        if not abs(number) <= _LIMITS.get(name, _NUMBER):   # NaN fails as well
            raise ValueError(f'{name} is {number:g}')
    numbers = _numbers_in(tensors)
    left = _SLACK + (_DENSE if 'dsc' in kwargs else 1) * numbers
    def count(_module, _name, tensor):
        nonlocal left
        left -= tensor.numel() if tensor is not None else 0
        if left < 0:
            raise ValueError('more parameters than the file holds')
    handles = [register(count) for register in (register_module_parameter_registration_hook,
                                                register_module_buffer_registration_hook)]
    try:
        with _WithoutMemory():
            trial = generator_class(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    for name in ('z_dim', 'c_dim', 'img_resolution', 'img_channels'):   # given by position, or by default
        if not 0 <= getattr(trial, name, 0) <= _LIMITS[name]:
            raise ValueError(f'{name} is {getattr(trial, name)}')
    if _widest(tensors.values(), getattr(trial, 'img_resolution', 0)) > _DRAWN + _EACH * numbers:
        raise ValueError('larger images than so few numbers draw')

def batch_for(generator, most):
    """How many images to draw at a time, at most `most`; on a CPU fewer where layers are wide or images large."""
    parameters = list(generator.parameters())
    if any(parameter.device.type != 'cpu' for parameter in parameters):
        return most
    return max(1, min(most, _BATCH // max(_widest(parameters, generator.img_resolution), 1)))

def _widest(tensors, resolution):
    """Bytes of one image in the widest layer, as if that was at the full resolution."""
    return 4 * resolution ** 2 * max([max(tensor.shape[:2]) for tensor in tensors if tensor.ndim == 4], default=1)

def _numbers_in(tensors):
    """How many numbers a file holds; names for the same ones, and views that repeat them, do not count."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() // tensor.itemsize
                for tensor in tensors.values()}
    return sum(storages.values())

class _WithoutMemory(TorchFunctionMode):
    """Tensors that a checkpoint will fill have a shape only; filters and other constants are made."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        fresh = function in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
        return function(*args, **dict(kwargs or {}, **dict(device='meta') if fresh else {}))

def _numbers(value):
    """(name of the nearest argument, number) for each in nested dicts and lists. Raises ValueError for long lists."""
    stack, visited = [('', value)], 0
    while stack:
        name, item = stack.pop()
        visited += 1
        if visited > 10_000:
            raise ValueError('arguments without an end')
        if isinstance(item, dict):
            stack.extend(item.items())
        elif isinstance(item, (list, tuple)):
            if len(item) > _LIST:
                raise ValueError(f'{name} has {len(item)} items')
            stack.extend((name, part) for part in item)
        elif isinstance(item, (int, float)):
            yield name, item
