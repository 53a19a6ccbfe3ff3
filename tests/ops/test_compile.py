"""The ops in graphs of torch.compile: one node of the kernel each, eager's values and gradients, and no graph made anew."""

import pytest
import torch
import torch._dynamo as dynamo

from torch_utils_ext import backend, dispatch
from torch_utils_ext.ops.affine_glu import affine_glu
from torch_utils_ext.ops.conv3x3 import conv3x3, conv3x3_down2, conv3x3_up2
from torch_utils_ext.ops.conv4x4 import conv4x4_down2
from torch_utils_ext.ops.depthwise import depthwise, depthwise_backward, depthwise_weight_grad
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2,
    depthwise_up2_backward,
    depthwise_up2_transpose,
    depthwise_up2_weight_grad,
)
from torch_utils_ext.ops.epilogue import epilogue

def _randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

CASES = {   # name of the node: (function, shapes of its inputs)
    'depthwise': (depthwise, [(2, 3, 5, 8), (2, 3, 3, 3)]),
    'depthwise_weight_grad': (depthwise_weight_grad, [(2, 3, 5, 8), (2, 3, 5, 8)]),
    'depthwise_backward': (depthwise_backward, [(2, 3, 5, 8), (2, 3, 3, 3), (2, 3, 5, 8)]),
    'depthwise_up2': (depthwise_up2, [(2, 3, 5, 8), (2, 3, 4, 3, 3)]),
    'depthwise_up2_transpose': (depthwise_up2_transpose, [(2, 3, 10, 16), (2, 3, 4, 3, 3)]),
    'depthwise_up2_weight_grad': (depthwise_up2_weight_grad, [(2, 3, 5, 8), (2, 3, 10, 16)]),
    'depthwise_up2_backward': (depthwise_up2_backward, [(2, 3, 5, 8), (2, 3, 4, 3, 3), (2, 3, 10, 16)]),
    'epilogue': (lambda x, d, z, b: epilogue(x, d, z, b, 'lrelu', gain=1.5, clamp=1.3),
                 [(2, 3, 5, 8), (2, 3), (2, 1, 5, 8), (3,)]),
    'affine_glu': (affine_glu, [(2, 6, 5, 8), (6,), (6,), (2, 1, 5, 8)]),
}

TAPS = [0.1, 0.3, 0.4, 0.25]
ON_CPUS = {
    'conv3x3': (conv3x3, [(2, 3, 4, 8), (5, 3, 3, 3)]),
    'conv3x3_down2': (lambda x, w: conv3x3_down2(x, w, TAPS), [(2, 3, 4, 8), (5, 3, 3, 3)]),
    'conv4x4_down2': (conv4x4_down2, [(2, 3, 4, 8), (5, 3, 4, 4)]),
    'conv3x3_up2': (lambda y, w: conv3x3_up2(y, w, TAPS), [(2, 5, 4, 8), (5, 3, 3, 3)]),
}

class Graphs:
    """A backend of torch.compile that runs graphs as they are and keeps them."""

    def __init__(self):
        self.made = []

    def __call__(self, graph, inputs):
        self.made.append(graph)
        return graph

    def nodes(self):
        """Return the names of ops of torch_utils_ext in the graphs."""
        found = [str(node.target) for graph in self.made for node in graph.graph.nodes if node.op == 'call_function']
        return [name.partition('torch_utils_ext.')[2].partition('.')[0] for name in found if 'torch_utils_ext' in name]

@pytest.fixture
def graphs():
    dynamo.reset()
    yield Graphs()
    dynamo.reset()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('name', CASES)
def test_an_op_is_one_node_with_the_gradients_of_eager(require_kernels, graphs, name):
    check(name, *CASES[name], graphs)

@pytest.mark.parametrize('name', ON_CPUS)
def test_so_is_an_op_that_only_cpus_have(open_kernels, graphs, name):
    open_kernels('cpu')
    check(name, *ON_CPUS[name], graphs)

def check(name, fn, shapes, graphs):
    def values(fn):
        inputs = [_randn(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
        out = fn(*inputs)
        sum(o.square().sum() for o in (out if isinstance(out, tuple) else [out])).backward()
        return out, [t.grad for t in inputs]
    expected = values(fn)
    torch.testing.assert_close(values(torch.compile(fn, backend=graphs, fullgraph=True)), expected, rtol=0, atol=0)
    assert graphs.nodes() == [name] and len(graphs.made) == 1
    torch.testing.assert_close(values(torch.compile(fn, backend='aot_eager', fullgraph=True)), expected, rtol=0, atol=0)

def test_no_graph_is_made_anew(require_kernels, graphs):
    compiled = torch.compile(lambda x, k, b: epilogue(depthwise(x, k), bias=b, act='lrelu'), backend=graphs, fullgraph=True)
    for seed in range(5):
        compiled(_randn(2, 3, 5, 8, seed=seed), _randn(2, 3, 3, 3), _randn(3))
        epilogue(_randn(2, 3, 5, 8), act='lrelu')   # counts
    assert len(graphs.made) == 1 and sorted(graphs.nodes()) == ['depthwise', 'epilogue']

def test_the_first_op_of_a_process_may_be_in_a_graph(require_kernels, graphs, monkeypatch):
    monkeypatch.setattr(dispatch, '_backend', [])
    torch.compile(depthwise, backend=graphs, fullgraph=True)(_randn(2, 3, 5, 8), _randn(2, 3, 3, 3))
    assert graphs.nodes() == ['depthwise'] and dispatch._backend == [backend]

def test_a_graph_has_the_reference_where_no_kernel_serves(require_kernels, graphs, monkeypatch):
    monkeypatch.setenv('TORCH_UTILS_EXT', 'off')
    x, k = _randn(2, 3, 5, 8), _randn(2, 3, 3, 3)
    torch.compile(depthwise, backend=graphs, fullgraph=True)(x, k)
    monkeypatch.setenv('TORCH_UTILS_EXT', 'auto')
    dynamo.reset()
    torch.compile(epilogue, backend=graphs, fullgraph=True)(x[:0])     # no pixels
    dynamo.reset()
    monkeypatch.setitem(backend._loaded, 'cpu', 'no compiler')
    assert torch.equal(torch.compile(depthwise, backend=graphs, fullgraph=True)(x, k), depthwise(x, k))
    assert len(graphs.made) == 3 and graphs.nodes() == []

def test_a_graph_says_so_where_a_kernel_is_required(require_kernels, graphs):
    with pytest.raises(Exception, match=r'TORCH_UTILS_EXT=require, but no kernel serves epilogue.*shape \[0, 3, 5, 8\]'):
        torch.compile(epilogue, backend=graphs)(_randn(0, 3, 5, 8))

#----------------------------------------------------------------------------
