"""Kernels for the tests of the ops."""

import pytest

@pytest.fixture(params=['cpu', pytest.param('emulated', marks=pytest.mark.slow)])
def require_kernels(request, open_kernels):
    """TORCH_UTILS_EXT=require; a function: kernel calls of an op so far."""
    return open_kernels(request.param)
