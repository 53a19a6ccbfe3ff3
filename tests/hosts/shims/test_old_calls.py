"""Shims for calls of earlier torch and numpy, on modules that are written for the test."""

import importlib.util
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spider_plugin.hosts.shims import cpu_device, numpy_names, stack, torch_calls

SHIMS = {shim.name: shim for shim in stack.SHIMS}

@pytest.fixture
def module(tmp_path):
    """module(source) -> a module of that source, from a file."""
    def load(source):
        path = tmp_path / f'host{len(list(tmp_path.iterdir()))}.py'
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made
    return load

#----------------------------------------------------------------------------
# Second derivatives by operators that are got by name. Forks call the operator, unpack it, or index it.

GRID = '''
import torch

enabled = False

def grid_sample(image, grid):
    return First.apply(image, grid) if enabled else torch.nn.functional.grid_sample(image, grid, align_corners=False)

class First(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, grid):
        ctx.save_for_backward(image, grid)
        return torch.nn.functional.grid_sample(image, grid, align_corners=False)

    @staticmethod
    def backward(ctx, grad):
        return Second.apply(grad, *ctx.saved_tensors)

class Second(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad, image, grid):
        GET torch._C._jit_get_operation('aten::grid_sampler_2d_backward')
        ctx.save_for_backward(grid)
        return USE(grad, image, grid, 0, 0, FalseMASK)

    @staticmethod
    def backward(ctx, grad, _):
        return First.apply(grad, *ctx.saved_tensors), None, None
'''

LAZY = """
    import torch
    import functools
    import types

    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            raise ImportError(name)

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError('not bound')

        def __getattr__(self, name):
            raise RuntimeError('not bound')

    lazy, proxy, part = Lazy('tensorflow'), Proxy(), functools.partial(print, 1)

    @functools.lru_cache
    def kept():
        return torch._C._jit_get_operation('aten::grid_sampler_2d_backward')
"""

@pytest.mark.parametrize('name', [shim.name for shim in stack.SHIMS if shim.where not in ('command', 'launch')])
def test_objects_of_a_host_are_asked_for_nothing(module, name):
    """A module that is imported late would be imported, and may not be installed."""
    host = module(LAZY)
    asked = SHIMS[name].asks(host)
    cpu_device.mend_globals(vars(host))
    assert asked or name != 'grid_sample'       # which is asked for in a function with a decorator

@pytest.mark.parametrize('get, use, mask, works', [
    ('op =', 'op', '', False), ('op =', 'op', ', (True, True)', False), ('op =', 'op[0]', ', (True, True)', True),
    ('op, _ =', 'op', ', (True, True)', True), ('op, _ =', 'op', '', False)])
def test_grid_sample_is_differentiated_twice(module, get, use, mask, works):
    host = module(GRID.replace('GET', get).replace('USE', use).replace('MASK', mask))
    shim = SHIMS['grid_sample']
    assert shim.needed() and shim.asks(host) is not works and host.enabled is False
    shim.apply(host)
    host.enabled = True
    image = torch.randn([2, 3, 8, 8], dtype=torch.float64, requires_grad=True)
    grid = torch.rand([2, 5, 5, 2], dtype=torch.float64) * 2 - 1
    own, ref = (torch.autograd.grad(f(image, grid).cos().sum(), [image], create_graph=True)[0]
                for f in (host.grid_sample, lambda x, grid: F.grid_sample(x, grid, align_corners=False)))
    assert torch.equal(own, ref)
    assert torch.autograd.gradgradcheck(lambda x: host.grid_sample(x, grid), [image])
    assert torch.nn.functional is F and not hasattr(torch._C._jit_get_operation, '__wrapped__')

CONV = '''
import torch

def weight_gradient(name, shape, grad, image):
    return torch._C._jit_get_operation(name)(shape, grad, image, [1, 1], [2, 2], [1, 1], 1, False, False)

def name_of(transpose):
    return 'aten::cudnn_convolution_transpose_backward_weight' if transpose else 'aten::cudnn_convolution_backward_weight'
'''

def test_gradients_of_convolution_weights(module):
    host, shim = module(CONV), SHIMS['weight_gradient']
    assert shim.asks(host) and not shim.asks(module(f'{CONV}\ndef f():\n    return torch.__version__'))
    shim.apply(host)
    for name, conv, shape in (('convolution', F.conv2d, [4, 3, 3, 3]),
                              ('convolution_transpose', F.conv_transpose2d, [3, 4, 3, 3])):
        image, weight = torch.randn([2, 3, 8, 8]), torch.randn(shape, requires_grad=True)
        out = conv(image, weight, stride=2, padding=1)
        grad = torch.randn_like(out)
        expected, = torch.autograd.grad(out, [weight], grad)
        actual = host.weight_gradient(f'aten::cudnn_{name}_backward_weight', shape, grad, image)
        torch.testing.assert_close(actual, expected)

def test_modules_that_do_none_of_this_are_left_alone(module):
    for source in ('import torch\n', 'x = 1\n', 'import torch\nname = "aten::grid_sampler_2d_backward"\n'):
        assert not any(SHIMS[name].asks(module(source)) for name in ('grid_sample', 'weight_gradient', 'alone'))

#----------------------------------------------------------------------------
# torch.distributed with one process.

UNGUARDED = '''
import torch
import torch.distributed as dist

def loop(x, num_gpus=1):
    torch.distributed.all_reduce(x)
    torch.distributed.barrier()
    parts = [torch.zeros_like(x)]
    torch.distributed.all_gather(parts, x)
    return x, parts[0], torch.distributed.get_rank(), dist.get_world_size()
'''

def test_exchanges_of_one_process(module):
    host, shim = module(UNGUARDED), SHIMS['alone']
    assert shim.asks(host)
    with pytest.raises((ValueError, RuntimeError)):
        host.loop(torch.ones([2]))
    shim.apply(host)
    x, part, rank, size = host.loop(torch.ones([2]))
    assert x.tolist() == part.tolist() == [1, 1] and (rank, size) == (0, 1)
    assert not torch.distributed.is_initialized() and host.torch.distributed.is_initialized is torch.distributed.is_initialized

@pytest.mark.parametrize('source', [
    'def f(x, num_gpus):\n    if num_gpus > 1:\n        torch.distributed.all_reduce(x)\n',
    'def f(x, world_size):\n    if world_size == 1:\n        return\n    torch.distributed.broadcast(x, src=0)\n',
    'def f(x):\n    assert x\n    return torch.distributed.is_initialized() and torch.distributed.get_rank()\n',
    'def f(x):\n    torch.distributed.init_process_group("gloo")\n'])
def test_a_condition_on_the_processes_is_enough(module, source):
    assert not SHIMS['alone'].asks(module(f'import torch\n{source}'))

#----------------------------------------------------------------------------
# A snapshot that is copied into parameters which require gradients.

RESUMES = '''
import copy
import torch
import types

def construct_class_by_name(width):
    return torch.nn.Linear(width, width)

def copy_params_and_buffers(src, dst):
    for name, tensor in dst.named_parameters():
        tensor.copy_(dict(src.named_parameters())[name].detach()).requires_grad_(tensor.requires_grad)

misc = types.SimpleNamespace(copy_params_and_buffers=copy_params_and_buffers)

def training_loop(data):
    G = construct_class_by_name(2).requires_grad_(False)
    G_ema = copy.deepcopy(G)
    head = construct_class_by_name(2)HELD
    for name, module in [('G', G), ('G_ema', G_ema)NAMED]:
        misc.copy_params_and_buffers(data[name], module)
    return G, head
'''

def test_a_snapshot_is_copied_into_what_requires_gradients(module):
    shim, data = SHIMS['copies'], dict.fromkeys(('G', 'G_ema', 'head'), torch.nn.Linear(2, 2))
    host = module(RESUMES.replace('HELD', '').replace('NAMED', ", ('head', head)"))
    assert shim.asks(host) and shim.where == 'training.training_loop'
    with pytest.raises(RuntimeError, match='leaf Variable'):
        host.training_loop(data)
    shim.apply(host)
    G, head = host.training_loop(data)
    assert torch.equal(head.weight, data['head'].weight) and head.weight.requires_grad and not G.weight.requires_grad

def test_networks_that_require_no_gradients_or_are_not_copied_need_no_such_shim(module):
    for held, named in (('.requires_grad_(False)', ", ('head', head)"), ('', '')):
        assert not SHIMS['copies'].asks(module(RESUMES.replace('HELD', held).replace('NAMED', named)))

#----------------------------------------------------------------------------

def test_both_views_of_torch_in_either_order(module, monkeypatch):
    """SPIDER_DEVICE=cpu and a shim."""
    monkeypatch.setattr(torch.Tensor, 'pin_memory', torch.Tensor.pin_memory)
    monkeypatch.setattr(torch.Tensor, 'cuda', torch.Tensor.cuda)
    monkeypatch.setattr(torch.nn.Module, 'cuda', torch.nn.Module.cuda)
    first, last = module(UNGUARDED), module(UNGUARDED)
    torch_calls.let_alone(first)
    cpu_device.mend_globals(vars(first))
    cpu_device.mend_globals(vars(first))
    cpu_device.mend_globals(vars(last))
    torch_calls.let_alone(last)
    for host in (first, last):
        assert host.loop(torch.ones([2]))[2] == 0 and host.torch.device('cuda', 0).type == 'cpu'
        assert host.torch.distributed.init_process_group is not torch.distributed.init_process_group
        assert host.torch.cuda.max_memory_allocated() == 0 and host.torch.cuda.set_device(0) is None
        with host.torch.cuda.stream(host.torch.cuda.Stream()):
            assert torch.ones([1]).cuda().device.type == 'cpu'

#----------------------------------------------------------------------------

def test_names_that_numpy_had(tmp_path, monkeypatch):
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / 'a.py').write_text('x = np.int(3), np.float32(2), numpy.cumproduct([1])\ny = torch.np.integer')
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    numpy_names.named_by_host.cache_clear()
    old = types.ModuleType('numpy')
    old.float32, old.cumprod, old.prod = np.float32, np.cumprod, np.prod
    shim = SHIMS['numpy_names']
    assert shim.asks(old) == ['cumproduct', 'int']
    shim.apply(old)
    assert old.int is int and old.cumproduct is np.cumprod and not hasattr(old, 'product') and shim.asks(old) == []
    monkeypatch.setattr(sys, 'path', sys.path[1:])
    numpy_names.named_by_host.cache_clear()

def test_percentiles_as_path_lengths_ask_for_them(module):
    text = 'import numpy as np\ndef compute_ppl(x):\n    return np.percentile(x, 40, interpolation="higher")\n'
    shim, host, new = SHIMS['percentile'], module(text), module(text.replace('interpolation', 'method'))
    assert shim.asks(host) and not shim.asks(new) and not shim.asks(module('x = 1\n'))
    if shim.needed():
        with pytest.raises(TypeError):
            host.compute_ppl([1, 2, 3])
    shim.apply(host)
    assert host.compute_ppl([1, 2, 3, 9]) == 3 and host.np.percentile([1, 2], 50) == 1.5 and host.np is not np

def test_numbers_as_defaults_of_bools():
    """`--flag`, type=bool, default=0: the host's own command line."""
    import click
    options = [click.Option(['--flag'], type=bool, default=0), click.Option(['--n'], type=int, default=1)]
    command = click.Command('train')
    command.params = [*options, click.Option(['--yes'], type=bool)]     # the hook, where it is installed, mends those of __init__
    shim = SHIMS['bool_defaults']
    assert [param.name for param in shim.asks(command)] == ['flag']
    shim.apply(command)
    assert not shim.asks(command) and command.make_context('train', []).params == dict(flag=False, n=1, yes=None)
    assert isinstance(shim.needed(), bool)

#----------------------------------------------------------------------------
