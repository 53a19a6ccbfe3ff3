"""Builds of csrc/ for tests and benchmarks, kept in a directory of the user under the system's temporary one, by hashes of their
inputs."""

import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.common.paths import ROOT

CSRC = ROOT / 'torch_utils_ext' / 'csrc'
CXX = ['g++', '-std=c++17', '-fPIC', '-Wall', '-Wextra', '-Wno-unknown-pragmas']
SANITIZE = ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer']

#----------------------------------------------------------------------------

def sources(csrc=CSRC):
    """Return the sources of the builds."""
    return [csrc / 'abi.h', *sorted(path for room in ['kernels', 'cuda', 'emulation'] for path in (csrc / room).iterdir())]

def version(compiler):
    return subprocess.run([compiler, '--version'], check=True, capture_output=True, text=True).stdout

def cached(parts, make):
    """Return a directory that make(directory) has filled, now or earlier from the same parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(data).to_bytes(8, 'big') + data)
    root = Path(tempfile.gettempdir()) / f'spider-kernel-builds-{os.getuid()}'
    root.mkdir(mode=0o700, exist_ok=True)
    assert root.stat().st_uid == os.getuid(), f'{root} belongs to someone else'
    path = root / digest.hexdigest()[:24]
    if not path.exists():
        scratch = Path(tempfile.mkdtemp(dir=root))
        try:
            make(scratch)
            os.rename(scratch, path)
        except OSError:     # somebody else was first
            if not path.exists():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return path

def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f'{" ".join(map(str, command))}\n{done.stdout}{done.stderr}'
    return done.stdout + done.stderr

#----------------------------------------------------------------------------

def emulated(flags=('-O1', '-Werror'), csrc=CSRC):
    """Return the library of csrc/emulation/*.cpp, the CUDA kernels for a CPU."""
    units = sorted((csrc / 'emulation').glob('*.cpp'))

    def make(scratch):
        objects = [scratch / f'{unit.stem}.o' for unit in units]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda unit, made: run([*CXX, *flags, '-I', csrc, '-c', unit, '-o', made]), units, objects))
        run(['g++', '-shared', *flags, *objects, '-o', scratch / 'emulated.so'])
    return cached([version('g++'), *flags, *sources(csrc)], make) / 'emulated.so'

def cpu(width, csrc=CSRC):
    """Return the library of csrc/cpu/*.cpp for processors of one level: x86-64, x86-64-v2, -v3, -v4."""
    flags = ['-O3', '-fopenmp', f'-march={width}']
    units = sorted((csrc / 'cpu').glob('*.cpp'))
    parts = [version('g++'), *flags, csrc / 'abi.h', *sorted((csrc / 'cpu').iterdir())]
    return cached(parts, lambda scratch: run(['g++', '-std=c++17', '-fPIC', '-w', '-shared', *flags, *units,
                                              '-o', scratch / 'cpu.so'])) / 'cpu.so'

def processor_has(flag):
    return flag in Path('/proc/cpuinfo').read_text().split()

def device(architectures, csrc=CSRC):
    """Return a directory with csrc/cuda/*.cu as device.so, and the output of ptxas in ptxas.txt.

    architectures: arguments of nvcc."""
    units = sorted((csrc / 'cuda').glob('*.cu'))
    common = ['nvcc', '-std=c++17', '-O3', *architectures, '-Xcompiler', '-fPIC']

    def make(scratch):
        command = [*common, '-Xptxas', '-v', '-c']
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda unit: run([*command, unit, '-o', scratch / f'{unit.stem}.o']), units))
        run([*common, '-shared', '-cudart', 'static', *scratch.glob('*.o'), '-o', scratch / 'device.so'])
        (scratch / 'ptxas.txt').write_text(''.join(said))
    return cached([version('nvcc'), *architectures, *sources(csrc)], make)

def cubins(architecture, csrc=CSRC):
    """Return a directory with the machine code of csrc/cuda/*.cu, a .cubin each, and the output of ptxas in ptxas.txt.

    architecture: such as '90'."""
    units = sorted((csrc / 'cuda').glob('*.cu'))

    def make(scratch):
        command = ['nvcc', '-std=c++17', '-O3', f'-arch=sm_{architecture}', '-Xptxas', '-v', '-cubin']
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda unit: run([*command, unit, '-o', scratch / f'{unit.stem}.cubin']), units))
        (scratch / 'ptxas.txt').write_text(''.join(said))
    return cached([version('nvcc'), 'cubin', architecture, *sources(csrc)], make)

#----------------------------------------------------------------------------
# python -m benchmarks.common.kernels.builds prints the library for this machine's GPU, or the emulated one where there is none.

def for_this_machine():
    """(path, device)"""
    import torch
    if not torch.cuda.is_available():
        return emulated(), 'cpu'
    major, minor = torch.cuda.get_device_capability()
    return device([f'-arch=sm_{major}{minor}']) / 'device.so', 'cuda'

if __name__ == '__main__':
    print(*for_this_machine())
