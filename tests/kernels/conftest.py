"""Libraries of the kernel tests."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))      # cases

@pytest.fixture(scope='session')
def emulated():
    """The CUDA kernels on this CPU."""
    from benchmarks.common.kernels import abi, builds
    if shutil.which('g++') is None:
        pytest.skip('no g++ to build the emulation of CUDA with')
    return abi.Library(builds.emulated())
