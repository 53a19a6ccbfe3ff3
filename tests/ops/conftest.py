"""Kernels for the tests: built once per machine and sources, in a cache of their own that outlives the session."""

import getpass
import os
import tempfile
from pathlib import Path

import pytest

from torch_utils_ext import backend

@pytest.fixture(scope='session')
def kernel_cache():
    """Directory of built kernels; keys are hashes of the sources, so nothing stale is ever found in it."""
    path = Path(tempfile.gettempdir(), f'torch_utils_ext-{getpass.getuser()}')
    path.mkdir(exist_ok=True)
    return path

@pytest.fixture
def require_kernels(kernel_cache, monkeypatch):
    """TORCH_UTILS_EXT=require with built CPU kernels. Yields a function: kernel calls of an op so far."""
    monkeypatch.setenv('TORCH_UTILS_EXT', 'require')
    if backend._loaded.get('cpu') is not True:
        with monkeypatch.context() as patch:
            patch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))
            assert backend.load('cpu') is True, backend.status()['libraries']['cpu']
    yield lambda op: backend.status()['kernel_calls'].get(op, 0)
    assert os.environ['TORCH_UTILS_EXT'] == 'require'
