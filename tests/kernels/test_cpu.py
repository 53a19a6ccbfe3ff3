"""The CPU kernels by the ABI, against the references in float64, with outputs that bypass the caches, at every vector width."""

import shutil

import cases
import pytest
import torch

from benchmarks.common.kernels import abi, builds
from torch_utils_ext import build

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
STREAMED = (2, 256, 32, 64)     # 2 MB of half precision
ODD_ROWS = (1, 320, 34, 100)     # as large, in rows that are no multiple of a vector

def check(library, op, dtype, shapes):
    for shape in shapes:
        for shared in [False, True]:
            cases.outputs(op, library, dtype, shape, shared)

@pytest.fixture(scope='module')
def library(kernel_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))
        return abi.Library(build.library('cpu'))

@pytest.mark.parametrize('op', cases.CPU_OPS)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_equals_the_reference(library, op, dtype):
    check(library, op, dtype, cases.SHAPES)

@pytest.mark.parametrize('op', cases.CPU_OPS)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_outputs_that_bypass_the_caches(library, op, dtype):
    cases.outputs(op, library, dtype, STREAMED)

@pytest.mark.slow
@pytest.mark.parametrize('width', ['x86-64', 'x86-64-v2', 'x86-64-v3', 'x86-64-v4'])
def test_other_vector_widths(width):
    """Vectors of 16, 32 and 64 bytes, where 8 values in half precision may fill one, as on other processors than this one."""
    if shutil.which('g++') is None:
        pytest.skip('no g++')
    needs = {'x86-64-v3': 'avx2', 'x86-64-v4': 'avx512f'}.get(width)
    if needs and not builds.processor_has(needs):
        pytest.skip(f'this processor lacks {needs}')
    library = abi.Library(builds.cpu(width))
    for op in cases.CPU_OPS:
        for dtype in DTYPES:
            check(library, op, dtype, [*cases.SHAPES, STREAMED, ODD_ROWS])
