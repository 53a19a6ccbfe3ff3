"""Kernels by NVRTC and the CUDA driver. Launches go to a driver that runs on the emulation of CUDA (fake_driver.cpp); NVRTC
itself compiles for four architectures where its library is (pip install nvidia-cuda-nvrtc nvidia-cuda-runtime)."""

import ctypes
import re
import shutil
from pathlib import Path

import cases
import pytest
import torch

from benchmarks.common.kernels import abi, builds
from torch_utils_ext import build, nvrtc

HERE = Path(__file__).parent
DTYPES = [torch.float32, torch.float16, torch.bfloat16]

pytestmark = pytest.mark.skipif(shutil.which('g++') is None, reason='no g++ to build the launchers with')

def expressions():
    launchers = ctypes.CDLL(str(build.library('driver')))
    launchers.tux_driver_expression.restype = ctypes.c_char_p
    return [launchers.tux_driver_expression(i).decode() for i in range(launchers.tux_driver_count())]

def in_words(names, archs):
    """An image for the fake driver: the text that an ELF file begins with, and the names."""
    return b'\x7fELF ' + ' '.join(names).encode(), dict(zip(names, names))

@pytest.fixture(scope='module')
def fake_driver():
    units = [*sorted((builds.CSRC / 'cuda').glob('*.cu')), HERE / 'fake_driver.cpp',
             *[builds.CSRC / 'emulation' / f'{name}.cpp' for name in ('machine', 'fiber')]]
    flags = ['-O1', '-w', '-I', builds.CSRC, '-include', HERE / 'fake_driver.h', '-x', 'c++']

    def make(scratch):
        for unit in units:
            builds.run([*builds.CXX, *flags, '-c', unit, '-o', scratch / f'{unit.stem}.o'])
        builds.run(['g++', '-shared', *scratch.glob('*.o'), '-o', scratch / 'libcuda.so'])
    parts = [*builds.sources(), HERE / 'fake_driver.h', HERE / 'fake_driver.cpp', builds.version('g++')]
    return builds.cached(parts, make) / 'libcuda.so'

def private_copy(path, tmp_path):
    """A library is opened once in a process; a copy of it has a state of its own."""
    return Path(shutil.copy(path, tmp_path / f'{tmp_path.name}.so'))

#----------------------------------------------------------------------------

def test_launchers_name_every_kernel_for_every_type():
    named = expressions()
    kernels = {name for path in (builds.CSRC / 'kernels').glob('*.h')
               for name in re.findall(r'__global__ void[^(]*\([^)]*\)\s*(\w+)\(', path.read_text())}
    assert len(kernels) > 7
    for kernel in kernels:
        types = {text for name in named if name.startswith(f'tux::{kernel}<') for text in re.findall(r'<([\w:]+)', name)}
        assert types >= ({'float'} if kernel.startswith('sum_') else {'float', 'emulation::Half', 'emulation::BFloat16'}), kernel
        assert 'double' not in types

def test_a_machine_without_a_driver_says_so(monkeypatch):
    monkeypatch.setattr(nvrtc, 'image', lambda names, arch: in_words(names, arch))
    with pytest.raises(build.BuildError, match='CUDA driver cannot be opened: .*libno-such-driver'):
        nvrtc.library(['90'], driver='libno-such-driver.so')

def test_a_machine_without_any_compiler_says_so(monkeypatch):
    monkeypatch.setattr(nvrtc, 'compiler', lambda: None)
    with pytest.raises(build.BuildError, match='neither nvcc nor the library of NVRTC'):
        nvrtc.library(['90'])

@pytest.mark.slow
def test_launches_equal_the_reference(fake_driver, monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, 'image', lambda names, arch: in_words(names, arch))
    path = private_copy(build.library('driver'), tmp_path)
    monkeypatch.setattr(build, 'library', lambda target: path)
    library = abi.Library(nvrtc.library(['90'], driver=str(fake_driver)))
    for op in cases.OPS:
        for dtype in DTYPES:
            for shape in [*cases.SHAPES, (1, 70, 16, 20)]:
                cases.outputs(op, library, dtype, shape)

@pytest.mark.slow
def test_a_device_that_no_image_is_for_is_an_error(fake_driver, monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, 'image', lambda names, arch: in_words(names, arch))
    path = private_copy(build.library('driver'), tmp_path)
    monkeypatch.setattr(build, 'library', lambda target: path)
    library = abi.Library(nvrtc.library(['80'], driver=str(fake_driver)))
    with pytest.raises(abi.KernelError, match='no kernel image'):
        cases.outputs('depthwise', library, torch.float32, (1, 1, 4, 4))

#----------------------------------------------------------------------------

needs_nvrtc = pytest.mark.skipif(nvrtc.compiler() is None, reason='no library of NVRTC')

@pytest.mark.slow
@needs_nvrtc
@pytest.mark.parametrize('arch', ['80', '90', '100', '120'])
def test_nvrtc_compiles_every_kernel(arch):
    code, names = nvrtc.image(expressions(), arch)
    assert code.startswith(b'\x7fELF') and set(names) == set(expressions())
    assert all(name.encode() in code for name in names.values())

@pytest.mark.slow
@needs_nvrtc
def test_launches_find_what_nvrtc_compiled(fake_driver, monkeypatch, tmp_path):
    """The symbols of a real image, each the kernel that its launcher means."""
    real = nvrtc.image
    def named(names, arch):
        symbols = real(names, arch)[1]
        return in_words(list(symbols.values()), arch)[0], symbols
    monkeypatch.setattr(nvrtc, 'image', named)
    path = private_copy(build.library('driver'), tmp_path)
    monkeypatch.setattr(build, 'library', lambda target: path)
    library = abi.Library(nvrtc.library(['90'], driver=str(fake_driver)))
    for op in cases.OPS:
        for dtype in DTYPES:
            cases.outputs(op, library, dtype, (2, 3, 8, 16))
            cases.outputs(op, library, dtype, (2, 3, 5, 7))
