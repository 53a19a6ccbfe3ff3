"""Compiles the CUDA kernels by NVRTC, the compiler in a library that torch's wheels bring, where there is no nvcc.

The launchers are built by g++ (target 'driver' of build.py) and name the kernels they use; NVRTC compiles these for the
architecture of each visible device; the launchers then call them through the CUDA driver. No CUDA toolkit takes part."""

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch_utils_ext import build

KERNELS = build.SOURCES / 'kernels'
DRIVER = 'libcuda.so.1'

# What the program needs beside the kernels: <stdint.h>, which NVRTC lacks, and CUDA's types by the names in the launchers' text.
_STDINT = '''
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned uint32_t; typedef unsigned long long uint64_t;
typedef unsigned long uintptr_t;
'''
_NAMES = '''
namespace emulation { typedef half_t Half; typedef bfloat16_t BFloat16; }
using namespace tux;
'''

#----------------------------------------------------------------------------
# The wheels of CUDA.

def wheel_roots() -> list[Path]:
    """The folders of NVIDIA's wheels beside torch, such as .../nvidia/cu13 or .../nvidia/cuda_nvrtc, newest first."""
    spec = importlib.util.find_spec('nvidia')
    places = list(spec.submodule_search_locations or []) if spec else []
    return [path for place in places for path in sorted(Path(place).iterdir(), reverse=True) if path.is_dir()]

def _roots() -> list[Path]:
    named = [Path(os.environ[name]) for name in ('CUDA_HOME', 'CUDA_PATH') if os.environ.get(name)]
    return [*named, *wheel_roots(), Path('/usr/local/cuda')]

def compiler() -> Path | None:
    """The library of NVRTC, or None where there is none: in CUDA_HOME, in torch's wheels, or in /usr/local/cuda."""
    found = [path for root in _roots() for lib in ('lib', 'lib64') for path in sorted((root / lib).glob('libnvrtc.so.*'))]
    return found[0] if found else None

def _include() -> Path:
    for root in _roots():
        if (root / 'include' / 'cuda_fp16.h').is_file():
            return root / 'include'
    raise build.BuildError('NVRTC lacks cuda_fp16.h (pip install nvidia-cuda-runtime brings it)')

@functools.cache
def _library(path: str) -> ctypes.CDLL:
    for builtins in Path(path).parent.glob('libnvrtc-builtins.so.*'):
        ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)     # NVRTC looks for them by name only
    nvrtc = ctypes.CDLL(path)
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return nvrtc

#----------------------------------------------------------------------------

def image(expressions: Sequence[str], arch: str) -> tuple[bytes, dict[str, str]]:
    """Return the machine code of kernels, and {expression: name in it}; compiled where the cache lacks it.

    expressions: instances of the templates in csrc/kernels/, such as 'tux::epilogue_kernel<float, 4>'.
    arch:        architecture of the device, such as '90'.
    Raises BuildError with NVRTC's last lines."""
    path = compiler()
    if path is None:
        raise build.BuildError('there is neither nvcc nor the library of NVRTC, which torch wheels for CUDA bring')
    nvrtc, include = _library(str(path)), _include()
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    headers = {path.name: path.read_text(encoding='utf-8') for path in sorted(KERNELS.glob('*.h'))}
    expressions = sorted(set(expressions))
    parts = [arch, f'{major.value}.{minor.value}', _STDINT, _NAMES, *expressions, *headers, *headers.values()]
    digest = hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:24]

    def make(folder: Path) -> None:
        cubin, names = _compile(nvrtc, headers, expressions, arch, include)
        (folder / 'kernels.cubin').write_bytes(cubin)
        (folder / 'names.json').write_text(json.dumps(names), encoding='utf-8')
    folder = build.cached(f'nvrtc-{arch}-{digest}', 'names.json', make)
    return (folder / 'kernels.cubin').read_bytes(), json.loads((folder / 'names.json').read_text(encoding='utf-8'))

def _compile(nvrtc: ctypes.CDLL, headers: dict[str, str], expressions: Iterable[str], arch: str,
             include: Path) -> tuple[bytes, dict[str, str]]:
    def check(code: int) -> None:
        if code:
            raise build.BuildError(f'NVRTC failed: {nvrtc.nvrtcGetErrorString(code).decode()}')
    headers = dict(headers, **{'stdint.h': _STDINT})
    source = ''.join(f'#include "{name}"\n' for name in headers) + _NAMES
    strings = lambda texts: (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])
    program = ctypes.c_void_p()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b'kernels.cu', len(headers),
                                   strings(list(headers.values())), strings(list(headers))))
    try:
        for expression in expressions:
            check(nvrtc.nvrtcAddNameExpression(program, expression.encode()))
        options = [f'--gpu-architecture=sm_{arch}', '--std=c++17', f'-I{include}']
        if code := nvrtc.nvrtcCompileProgram(program, len(options), strings(options)):
            log = _bytes(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode(errors='replace').strip('\0\n')
            tail = '\n'.join(log.splitlines()[-20:])
            why = nvrtc.nvrtcGetErrorString(code).decode()
            raise build.BuildError(f'NVRTC failed for sm_{arch}: {why}; its last lines:\n{tail}')
        names = {}
        for expression in expressions:
            lowered = ctypes.c_char_p()
            check(nvrtc.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(lowered)))
            names[expression] = (lowered.value or b'').decode()
        return _bytes(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), names
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

def _bytes(size_of, get, program) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.raw

#----------------------------------------------------------------------------

def library(archs: Sequence[str], driver: str = DRIVER) -> Path:
    """Return the path of the launchers' library, opened and ready to launch on devices of these architectures.

    driver: the library of the CUDA driver. Raises BuildError."""
    path = build.library('driver')
    launchers = ctypes.CDLL(str(path))
    launchers.tux_driver_open.restype = launchers.tux_driver_expression.restype = ctypes.c_char_p
    launchers.tux_driver_image.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    expressions = [launchers.tux_driver_expression(i).decode() for i in range(launchers.tux_driver_count())]
    for arch in archs:
        code, names = image(expressions, arch)
        launchers.tux_driver_image(int(arch), code, len(code))
        for i, expression in enumerate(expressions):
            launchers.tux_driver_symbol(i, names[expression].encode())
    if why := launchers.tux_driver_open(driver.encode()):
        raise build.BuildError(f'the CUDA driver cannot be opened: {why.decode()}')
    return path

#----------------------------------------------------------------------------
