"""The public ops on the emulated CUDA kernels, through the binding: gradients and gradients of gradients in float64."""

import getpass
import tempfile
from pathlib import Path

import cases
import pytest
import torch

from benchmarks.common.kernels import builds
from torch_utils_ext import backend
from torch_utils_ext.ops.affine_glu import affine_glu
from torch_utils_ext.ops.depthwise import depthwise, depthwise_weight_grad
from torch_utils_ext.ops.depthwise_up2 import (
    depthwise_up2,
    depthwise_up2_epilogue,
    depthwise_up2_transpose,
    depthwise_up2_weight_grad,
)
from torch_utils_ext.ops.epilogue import epilogue

@pytest.fixture(autouse=True, scope='module')
def emulated_ops():
    """The emulated library serves CPU tensors; a call that no kernel serves is an error."""
    before = backend._loaded.get('cpu')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_UTILS_EXT', 'require')
        patch.setenv('SPIDER_CACHE_DIR', str(Path(tempfile.gettempdir(), f'torch_utils_ext-{getpass.getuser()}')))
        assert backend.load('cpu', path=builds.emulated()) is True, backend.status()['libraries']['cpu']
        yield
        if before is True:
            backend.load('cpu')
        else:
            backend._loaded.pop('cpu')      # the next call opens the library for the CPU

def draws(*shapes):
    draw = cases.Draw(torch.float64)
    return [draw(*shape).requires_grad_() for shape in shapes]

LRELU = dict(act='lrelu', gain=1.5, clamp=1.25)
CASES = {
    'depthwise': (depthwise, [(2, 2, 3, 4), (2, 2, 3, 3)]),
    'depthwise shared': (depthwise, [(2, 2, 3, 4), (1, 2, 3, 3)]),
    'depthwise_weight_grad': (depthwise_weight_grad, [(2, 2, 3, 4), (2, 2, 3, 4)]),
    'depthwise_up2': (depthwise_up2, [(2, 2, 3, 2), (2, 2, 4, 3, 3)]),
    'depthwise_up2_epilogue': (lambda x, k, n, b: depthwise_up2_epilogue(x, k, n, b, **LRELU),
                               [(2, 2, 3, 2), (2, 2, 4, 3, 3), (2, 1, 6, 4), (2,)]),
    'depthwise_up2_epilogue shared': (depthwise_up2_epilogue, [(2, 2, 3, 2), (1, 2, 4, 3, 3)]),
    'depthwise_up2_transpose': (depthwise_up2_transpose, [(1, 2, 6, 4), (1, 2, 4, 3, 3)]),
    'depthwise_up2_weight_grad': (depthwise_up2_weight_grad, [(1, 2, 3, 2), (1, 2, 6, 4)]),
    'epilogue': (lambda x, d, n, b: epilogue(x, d, n, b, **LRELU), [(2, 2, 3, 4), (2, 2), (2, 1, 3, 4), (2,)]),
    'epilogue shared noise': (lambda x, n, b: epilogue(x, None, n, b, gain=2.0), [(2, 2, 3, 4), (1, 1, 3, 4), (2,)]),
    'epilogue of bias': (lambda x, b: epilogue(x, None, None, b, **LRELU), [(2, 2, 3, 4), (2,)]),
    'affine_glu': (affine_glu, [(2, 4, 3, 2), (4,), (4,), (2, 1, 3, 2)]),
    'affine_glu plain': (affine_glu, [(2, 4, 3, 2)]),
}

@pytest.mark.parametrize('name', CASES)
def test_gradients_of_gradients(name):
    function, shapes = CASES[name]
    before = sum(backend.status()['kernel_calls'].values())
    references = sum(backend.status()['reference_calls'].values())
    inputs = draws(*shapes)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    assert sum(backend.status()['kernel_calls'].values()) > before
    assert sum(backend.status()['reference_calls'].values()) == references

#----------------------------------------------------------------------------
