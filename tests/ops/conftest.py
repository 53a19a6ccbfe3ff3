"""Kernels for the tests of the ops."""

import pytest

@pytest.fixture(params=['cpu', pytest.param('emulated', marks=pytest.mark.slow)])
def require_kernels(request, open_kernels):
    """Set TORCH_UTILS_EXT=require, and return a function of an op, its kernel calls so far."""
    return open_kernels(request.param)
