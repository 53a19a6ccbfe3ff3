"""Kernels for the tests: built once per machine and sources, in a cache of their own that outlives the session."""

import getpass
import tempfile
from pathlib import Path

import pytest

from torch_utils_ext import backend, build

_opened = []     # what serves CPU tensors now

@pytest.fixture(scope='session')
def kernel_cache():
    """Directory of built kernels; keys are hashes of the sources, so nothing stale is ever found in it."""
    path = Path(tempfile.gettempdir(), f'torch_utils_ext-{getpass.getuser()}')
    path.mkdir(exist_ok=True)
    return path

@pytest.fixture(params=['cpu', pytest.param('emulated', marks=pytest.mark.slow)])
def require_kernels(request, kernel_cache, monkeypatch):
    """TORCH_UTILS_EXT=require with built kernels: those for the CPU, or the CUDA kernels through the emulation of CUDA.

    Yields a function: kernel calls of an op so far."""
    monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
    if _opened != [request.param]:
        with monkeypatch.context() as patch:
            patch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))
            path = build.library(request.param)
            assert backend.load('cpu', path) is True, backend.status()['libraries']['cpu']
        _opened[:] = [request.param]
    return lambda op: backend.status()['kernel_calls'].get(op, 0)
