"""Calls of torch that hosts write in the way of earlier versions. A module of the host gets another view of torch, by the name
`torch`, as under SPIDER_DEVICE=cpu (cpu_device.py); torch itself stays as it is."""

import ast
import functools
import inspect
import textwrap
import types

from spider_plugin.hosts.shims.cpu_device import View

#----------------------------------------------------------------------------
# torch._C._jit_get_operation(name) returned an operator; it returns (operator, names of its overloads). Hosts take their second
# derivatives of grid_sample and of convolutions from these operators.

GET = '_jit_get_operation'
GRID_SAMPLE, CONV, CONV_TRANSPOSE = ('aten::grid_sampler_2d_backward', 'aten::cudnn_convolution_backward_weight',
                                     'aten::cudnn_convolution_transpose_backward_weight')

class Operation(tuple):
    """An operator that can be called, unpacked and indexed, as each version of torch had it."""

    def __new__(cls, function):
        self = super().__new__(cls, (function, ['']))
        self.function = function
        return self

    def __call__(self, *args):
        return self.function(*args)

def _grid_sample_backward(grad_output, input, grid, mode, padding, align, mask=(True, True)):
    import torch
    return torch.ops.aten.grid_sampler_2d_backward(grad_output, input, grid, mode, padding, align, list(mask))

def _weight_gradient(transposed, shape, grad_output, input, padding, stride, dilation, groups, *_flags):
    import torch
    weight = torch.zeros([1] * len(shape), dtype=input.dtype, device=input.device).expand(tuple(shape))
    return torch.ops.aten.convolution_backward(grad_output, input, weight, None, stride, padding, dilation, transposed,
                                               [0] * len(stride), groups, [False, True, False])[1]

_OPERATIONS = {GRID_SAMPLE: _grid_sample_backward, CONV: functools.partial(_weight_gradient, False),
               CONV_TRANSPOSE: functools.partial(_weight_gradient, True)}

def get_operation(name):
    """Return the operator of a name, which can be called."""
    import torch
    return Operation(_OPERATIONS[name]) if name in _OPERATIONS else torch._C._jit_get_operation(name)

def asks_for_grid_sample(module):
    """Return whether a module gets the derivative of grid_sample by name and cannot use what this torch returns."""
    names, texts = _words(module)
    return GET in names and GRID_SAMPLE in texts and not _second_derivative_works(module)

def asks_for_weight_gradient(module):
    """Return whether a module gets the gradient of a convolution's weight by name, whichever torch there is."""
    names, texts = _words(module)
    knows_versions = 'convolution_backward' in names or any('version' in name.lower() or 'pytorch' in name for name in names)
    return GET in names and bool({CONV, CONV_TRANSPOSE} & texts) and not knows_versions

def _words(module):
    """Return (names, texts) in a module's code."""
    codes = list(_codes(module))
    return ({name for code in codes for name in code.co_names},
            {const for code in codes for const in code.co_consts if isinstance(const, str)})

def _codes(module):
    """Yield the code of a module's functions and of its classes' methods, and all code inside it."""
    stack = [obj.__code__ for owner in [module, *(obj for obj in vars(module).values() if _is_of(obj, module, type))]
             for obj in map(_function, vars(owner).values()) if _is_of(obj, module, types.FunctionType)]
    while stack:
        code = stack.pop()
        yield code
        stack += [const for const in code.co_consts if isinstance(const, types.CodeType)]

# Objects of a host are asked for nothing: some modules, such as wandb, hold others that are imported when they are asked.

def _function(obj):
    """Return the function in a method and in its decorators."""
    if type(obj) in (staticmethod, classmethod):
        obj = obj.__func__
    while (inner := inspect.getattr_static(obj, '__wrapped__', None)) is not None:
        obj = inner
    return obj

def _is_of(obj, module, kind):
    return issubclass(type(obj), kind) and obj.__module__ == module.__name__

def _second_derivative_works(module):
    """Return whether the host's grid_sample can be differentiated twice, with its own operator on."""
    import torch
    if not callable(getattr(module, 'grid_sample', None)):
        return False
    enabled = getattr(module, 'enabled', None)
    try:
        module.enabled = True
        image = torch.ones([1, 1, 4, 4], requires_grad=True)
        with torch.enable_grad():
            grad, = torch.autograd.grad(module.grid_sample(image, torch.zeros([1, 2, 2, 2])).square().sum(), [image],
                                        create_graph=True)
            torch.autograd.grad(grad.sum(), [image])
        return True
    except Exception:   # whichever the host's copy ends in on this torch
        return False
    finally:
        module.enabled = enabled

def torch_returns_a_pair():
    import torch
    return not callable(torch._C._jit_get_operation('aten::relu'))

def cuda_lacks_weight_gradient():
    """Return whether there is a GPU, without which hosts use torch's own convolutions, and torch returns a pair."""
    import torch
    return torch.cuda.is_available() and torch_returns_a_pair()

def give_operations(module):
    module.torch = View(module.torch, _C=View(module.torch._C, **{GET: get_operation}))

#----------------------------------------------------------------------------
# Hosts copy a snapshot into networks in place, outside of no_grad, which torch refuses for parameters that require gradients.
# Their G and D do not at that time; networks that a fork adds may.

COPY, MAKE, HELD = 'copy_params_and_buffers', 'construct_class_by_name', 'requires_grad_(False)'

def resumes_with_gradients(training_loop):
    """Return whether a loop copies a snapshot into networks whose parameters require gradients."""
    try:
        tree = ast.parse(inspect.getsource(training_loop))
    except (OSError, TypeError, SyntaxError):
        return False
    made = {target.id for node in ast.walk(tree) if isinstance(node, ast.Assign) and MAKE in (text := ast.unparse(node.value))
            and HELD not in text for target in node.targets if isinstance(target, ast.Name)}
    copied = [node.iter for node in ast.walk(tree) if isinstance(node, ast.For) and COPY in ast.unparse(node)]
    return any(isinstance(node, ast.Name) and node.id in made for part in copied for node in ast.walk(part))

def copy_without_gradients(training_loop):
    import torch
    misc = training_loop.misc
    setattr(misc, COPY, torch.no_grad()(getattr(misc, COPY)))

#----------------------------------------------------------------------------
# torch.distributed without a process group: with one process, some loops exchange all the same.

_ALONE = dict(get_rank=lambda *args, **kwargs: 0, get_world_size=lambda *args, **kwargs: 1)
_EXCHANGES = ('all_reduce', 'broadcast', 'barrier', 'reduce', 'broadcast_object_list', 'all_gather', 'all_gather_object',
              'get_rank', 'get_world_size', 'destroy_process_group')
_GUARDS = ('num_gpus', 'world_size', 'is_initialized', 'is_available', 'num_replicas', 'num_processes', 'distributed', 'ddp')

def may_exchange(name):
    """Return whether a module of that name runs in training with any number of processes; helpers elsewhere have the condition on
    it where they are called."""
    return name.startswith('training.')

def exchanges_alone(module):
    """Return whether a module calls torch.distributed where no condition on the number of processes is around it."""
    if not any({'distributed', 'dist'} & set(code.co_names) for code in _codes(module)):
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(module)))
    except (OSError, TypeError, SyntaxError):
        return False
    return any(_unguarded(node, False) for node in tree.body)

def _unguarded(node, guarded):
    """Return whether there is such a call in a node; guarded: whether a condition is around it."""
    if isinstance(node, ast.FunctionDef) and (_makes_group(node) or any(
            isinstance(part, ast.If) and _is_guard(part) and isinstance(part.body[-1], ast.Return) for part in node.body)):
        return False
    if isinstance(node, ast.Call) and not guarded and isinstance(node.func, ast.Attribute) and node.func.attr in _EXCHANGES \
            and ast.unparse(node.func.value) in ('torch.distributed', 'dist', 'distributed'):
        return True
    guarded = guarded or _is_guard(node)
    return any(_unguarded(child, guarded) for child in ast.iter_child_nodes(node))

def _makes_group(function):
    return any(isinstance(node, ast.Attribute) and node.attr == 'init_process_group' for node in ast.walk(function))

def _is_guard(node):
    tests = node.values if isinstance(node, ast.BoolOp) else []
    if isinstance(node, ast.If | ast.IfExp | ast.Assert):
        tests = [node.test]
    return any(word in ast.unparse(test) for test in tests for word in _GUARDS)

def let_alone(module):
    """Give a module a torch.distributed that does nothing where there is no process group."""
    import torch
    stock = torch.distributed
    def alone(name):
        def call(*args, **kwargs):
            if stock.is_initialized():
                return getattr(stock, name)(*args, **kwargs)
            if name.startswith('all_gather'):
                parts, own = args[:2]
                parts[0] = own.clone() if hasattr(own, 'clone') else own
            return _ALONE.get(name, lambda *_args, **_kwargs: None)()
        return call
    calls = {name: alone(name) for name in _EXCHANGES}
    if isinstance(getattr(module, 'torch', None), types.ModuleType | View):
        module.torch = View(module.torch, distributed=View(module.torch.distributed, **calls))
    for name in ('dist', 'distributed'):
        if getattr(module, name, None) is stock:
            setattr(module, name, View(stock, **calls))

#----------------------------------------------------------------------------
