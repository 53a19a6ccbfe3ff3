"""nvcc compiles the kernels for every architecture, without spills. Skipped without nvcc; under SPIDER_NVCC=require that is a
failure."""

import os
import re
import shutil

import pytest

from benchmarks.common.kernels import builds

# Real code for each architecture from two intermediate forms (bfloat16 conversions are instructions from sm_80 on), and PTX for
# those to come.
ARCHITECTURES = ['-gencode', 'arch=compute_75,code=sm_75',
                 '-gencode', 'arch=compute_80,code=[sm_80,sm_86,sm_89,sm_90,sm_100,sm_103,sm_120,compute_80]']

@pytest.fixture(autouse=True)
def nvcc():
    if shutil.which('nvcc') is None:
        if os.environ.get('SPIDER_NVCC') == 'require':
            pytest.fail('SPIDER_NVCC=require, but there is no nvcc on PATH')
        pytest.skip('no nvcc on PATH')

def check(built, architectures):
    said = (built / 'ptxas.txt').read_text()
    compiled = re.findall(r"Compiling entry function '(\w+)' for '(sm_\d+)'", said)
    for architecture in architectures:
        names = {name for name, arch in compiled if arch == architecture}
        for kernel in ['depthwise_kernel', 'depthwise_backward_kernel', 'depthwise_up2_kernel', 'depthwise_up2_backward_kernel',
                       'epilogue_kernel', 'epilogue_slope_kernel', 'channels_kernel', 'affine_glu_kernel', 'sum_rows_kernel',
                       'sum_slices_kernel']:
            assert any(re.search(rf'\d{kernel}I', name) for name in names), f'{kernel} is not compiled for {architecture}'
    spills = re.findall(r"entry function '(\w+)' for '(sm_\d+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads", said, re.S)
    assert len(spills) == len(compiled)
    assert not [spill for spill in spills if spill[2:] != ('0', '0')]

def test_compiles_without_spills():
    check(builds.device(['-arch=sm_90']), ['sm_90'])

@pytest.mark.slow
def test_every_architecture_compiles_without_spills():
    check(builds.device(ARCHITECTURES), re.findall(r'sm_\d+', ' '.join(ARCHITECTURES)))

def test_the_library_has_every_function_of_the_abi():
    """It opens without a driver, and has all functions that abi.h declares."""
    import ctypes
    handle = ctypes.CDLL(str(builds.device(['-arch=sm_90']) / 'device.so'))
    declared = set(re.findall(r'\b(tux_\w+)\(', (builds.CSRC / 'abi.h').read_text()))
    assert len(declared) > 15 and not [name for name in declared if not hasattr(handle, name)]
    assert handle.tux_abi_version() == int(re.search(r'TUX_ABI_VERSION (\d+)', (builds.CSRC / 'abi.h').read_text()).group(1))
