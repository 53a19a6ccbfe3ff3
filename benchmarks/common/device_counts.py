"""Counts of the operations that a GPU would run, without a GPU.

A step runs on fake tensors of the device cuda:0, which have shapes and no data, so every branch on the device is that of a GPU.
Kernels of torch_utils_ext are counted as kernels where the binding is loaded (`with_kernels`), else as their references.

    counts = DeviceCounts()
    network = counts.on_device(network)
    counts.of(lambda: network(counts.randn(16, 256)).square().sum().backward())         # {ops, bytes, copies, syncs}
"""

import collections
import contextlib
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

HOST, DEVICE = torch.device('cpu'), torch.device('cuda', 0)

#----------------------------------------------------------------------------
# What is no launch of a kernel: views, and memory that is only reserved.

_VIEWS = frozenset('''
    alias as_strided chunk detach diagonal expand flatten lift_fresh movedim narrow permute reshape _reshape_alias select slice
    split split_with_sizes squeeze t transpose unbind unflatten unfold unsqueeze unsafe_chunk unsafe_split _unsafe_view view
    view_as_real empty empty_like empty_strided new_empty new_empty_strided is_same_size resize_ sym_numel sym_size
    _has_same_storage_numel
    '''.split())

class DeviceCounts(FakeTensorMode):
    """A mode in which tensors are fake, and in which operations on those of the device are counted by name.

    ops:    launches, an operation that is no view counting as one.
    bytes:  of an operation, those of its inputs and outputs, each once; what it overwrites counts as read and written. A tensor
            expanded from a smaller one counts as the smaller.
    copies: from the host to the device; those of Python numbers block, and end the capture of a graph.
    syncs:  results that the host waits for: item(), a branch on a tensor, copies to the host. A branch is taken as if the tensor
            were true, a number is that of the buffer that holds it, else 1. A shape that depends on data is an error."""

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.ops, self.bytes = collections.Counter(), collections.Counter()
        self.copies, self.syncs, self._depth = 0, 0, 0
        self._numbers = {}      # id of a fake tensor that stands for a single number -> (number, the fake tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:   # asked by torch's C++, which refuses cuda in a build without it
            return HOST
        name = func._schema.name.partition('::')[2]
        if kwargs.get('device') == HOST and _asked_by_cpp(name, args):
            kwargs = dict(kwargs, device=DEVICE)
        outermost, self._depth = self._depth == 0, self._depth + 1
        try:
            if name == '_local_scalar_dense':
                result = self._numbers.get(id(args[0]), (args[0].dtype == torch.bool or 1,))[0]
            else:
                result = super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._depth -= 1
        if outermost and name not in _VIEWS and not func._schema.name.startswith(('prim::', 'profiler::')):
            self._count(name, _tensors((args, kwargs)), _tensors(result))
        return result

    def _count(self, name, inputs, results):
        here, there = _on_device(inputs), _on_device(results)
        if not here and not there:
            return
        if name in ('_to_copy', 'copy_'):
            self.copies += len(here) < len(inputs)
            self.syncs += len(there) < len(results)
        self.syncs += name == '_local_scalar_dense'
        self.ops[name] += 1
        written = [t for t in there if name.endswith('_') or all(t is not i for i in here)]
        self.bytes[name] += sum(map(_bytes, [*here, *written]))

    #------------------------------------------------------------------------

    def on_device(self, network):
        """Replace the tensors of a network's modules by fake ones on the device, and return it."""
        for module in network.modules():
            for tensors in (module._parameters, module._buffers, vars(module)):
                for name, t in tensors.items():
                    if isinstance(t, torch.Tensor):
                        tensors[name] = self._like(t)
        return network

    def _like(self, t):
        with self:
            moved = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=DEVICE)
            moved = torch.nn.Parameter(moved, t.requires_grad) if isinstance(t, torch.nn.Parameter) else moved
        if t.ndim == 0:
            self._numbers[id(moved)] = t.item(), moved
        return moved

    def randn(self, *shape):
        with self:
            return torch.randn(shape, device=DEVICE)

    def of(self, step):
        """Run step() and return its counts as {ops, bytes, copies, syncs}."""
        self.ops.clear()
        self.bytes.clear()
        self.copies = self.syncs = 0
        with self, _python_sees_the_device(self):
            step()
        return dict(ops=self.ops.total(), bytes=self.bytes.total(), copies=self.copies, syncs=self.syncs)

#----------------------------------------------------------------------------
# torch's C++ is told that tensors are on the host, so Python's questions and requests are answered here.

def _asked_by_cpp(name, args):
    """Return whether the host was named because C++ takes a tensor to be there."""
    return name == 'scalar_tensor' or (name == '_to_copy' or name.startswith('new_')) and bool(_on_device(args[:1]))

def _python_sees_the_device(counts):
    """Return a context in which fake tensors say where they are, and copies to the host that Python asks for are counted."""
    def to(t, *args, **kwargs):
        if args and isinstance(args[0], torch.Tensor):      # C++ takes both to be on the host
            return torch.Tensor.to(t, *args[1:], **dict(kwargs, device=args[0].device, dtype=args[0].dtype))
        named = [a for a in (*args[:1], kwargs.get('device')) if isinstance(a, str | torch.device)]
        counts.syncs += bool(_on_device([t])) and HOST in map(torch.device, named)
        return torch.Tensor.to(t, *args, **kwargs)

    def counted(method):
        def to_host(t, *args, **kwargs):
            counts.syncs += len(_on_device([t]))
            return method(t, *args, **kwargs)
        return to_host
    requests = {name: counted(getattr(torch.Tensor, name)) for name in ('cpu', 'numpy', 'tolist')}
    return mock.patch.multiple(FakeTensor, to=to, is_cpu=property(lambda t: t.device == HOST),
                               is_cuda=property(lambda t: t.device == DEVICE), **requests)

def _tensors(tree):
    return [t for t in torch.utils._pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]

def _on_device(tensors):
    return [t for t in tensors if isinstance(t, torch.Tensor) and t.device == DEVICE]

def _bytes(t):
    return t.untyped_storage().nbytes() if 0 in t.stride() else t.numel() * t.element_size()

#----------------------------------------------------------------------------

@contextlib.contextmanager
def with_kernels(used=True):
    """Let calls on fake tensors of the device be served by kernels, which only need shapes here, or by references.

    The binding is built at its first use."""
    from torch_utils_ext import backend, build
    if used and not hasattr(torch.ops.torch_utils_ext, '_open'):
        torch.ops.load_library(str(build.library('bind')))
    before = dict(backend._loaded)
    backend._loaded['cuda'] = used or 'counted as references'
    try:
        yield
    finally:
        backend._loaded.clear()
        backend._loaded.update(before)

#----------------------------------------------------------------------------
