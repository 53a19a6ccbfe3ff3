"""Builds the kernels by ninja, a shared library per target, into a cache whose keys are hashes of all inputs of the build.

The CUDA kernels are built for the architecture of each visible device, with the intermediate form of the newest for others.

A key covers the sources, the flags, the compiler's version, the processor if the flags have `-march=native`, and torch's version
for the binding. A library appears in the cache complete or not at all (by renaming a directory), one process builds while
the others wait, and a process that dies does not block the next one. Importing this module builds nothing."""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from torch_utils_ext.cache_root import cache_root

SOURCES = Path(__file__).parent / 'csrc'
POSIX = sys.platform != 'win32'     # torch for Windows is built by a compiler that the targets do not know
WAIT_SECONDS = 600      # longest wait for another process's build; a build takes half a minute
STALE_SECONDS = 3600    # an unfinished directory this old is from a process that died

class BuildError(RuntimeError):
    """A target cannot be built; the message is a line with the reason, then the compiler's last lines, if there are any."""

#----------------------------------------------------------------------------
# Targets: sources, their includes, and the compiler's command.

TARGETS = {
    'cpu':       dict(sources='cpu/*.cpp',       includes=['cpu/*.h']),
    'cuda':      dict(sources='cuda/*.cu',       includes=['cuda/*', 'kernels/*']),
    'emulated':  dict(sources='emulation/*.cpp', includes=['emulation/*', 'kernels/*', 'cuda/*']),
    'driver':    dict(sources='driver/*.cpp',    includes=['driver/*', 'cuda/*', 'kernels/*', 'emulation/*.h']),
    'bind':      dict(sources='bind.cpp',        includes=['bind/*', 'cpu/abi_cpu.h']),
}

_CXX_FLAGS = ['-std=c++17', '-O3', '-fPIC', '-fopenmp', '-fvisibility=default', '-ffp-contract=fast', '-fno-math-errno',
              '-fno-trapping-math', '-w']

def command_of(target, archs=None):
    """Return (compile, link), the argument lists up to the file names.

    archs:  architectures of CUDA devices, such as ['86', '90']; default: those of the visible devices.
    Raises BuildError if there is no compiler."""
    if target == 'cuda':
        nvcc = _program('NVCC', 'nvcc')
        archs = sorted(archs or visible_cuda_archs(), key=int)
        codes = [f'-gencode=arch=compute_{arch},code=sm_{arch}' for arch in archs]
        codes.append(f'-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}')
        base = [nvcc, *codes, '-O3', '-std=c++17', '-Xcompiler=-fPIC']
        return base + ['-c'], base + ['-shared', '-cudart=static', *_libraries_of(nvcc)]
    cxx = _program('CXX', 'g++')
    if target == 'bind':
        import torch
        root = Path(torch.__file__).parent
        abi = int(torch.compiled_with_cxx11_abi())
        flags = ['-std=c++20', '-O1', '-fPIC', '-w', f'-D_GLIBCXX_USE_CXX11_ABI={abi}', f'-I{root}/include',
                 f'-I{root}/include/torch/csrc/api/include']
        return [cxx, *flags, '-c'], [cxx, '-shared', '-fPIC', f'-L{root}/lib', '-lc10', '-ltorch_cpu', '-ldl']
    if target == 'driver':
        flags = ['-std=c++17', '-O1', '-fPIC', '-w', '-DTUX_DRIVER']
        return [cxx, *flags, '-c'], [cxx, '-shared', '-fPIC', '-ldl']
    native = ['-march=native'] if target == 'cpu' else []
    return [cxx, *_CXX_FLAGS, *native, '-c'], [cxx, *_CXX_FLAGS, *native, '-shared']

def visible_cuda_archs():
    """Return the architectures of the visible CUDA devices, such as ['86', '90']. Raises BuildError if there is none."""
    import torch
    if not torch.cuda.is_available():
        raise BuildError('no CUDA device is visible')
    devices = range(torch.cuda.device_count())
    return sorted({'{}{}'.format(*torch.cuda.get_device_capability(device)) for device in devices}, key=int)

def has_nvcc():
    """Return whether there is an nvcc, on the PATH or named by NVCC."""
    return shutil.which(os.environ.get('NVCC') or 'nvcc') is not None

def _libraries_of(nvcc):
    """Return where nvcc's linker finds the CUDA runtime; the nvcc of NVIDIA's wheels looks into lib64, which they call lib."""
    root = Path(nvcc).resolve().parent.parent
    return [f'-L{root}/lib'] if not (root / 'lib64').is_dir() and (root / 'lib' / 'libcudart_static.a').is_file() else []

def _program(variable, default):
    name = os.environ.get(variable) or default
    path = shutil.which(name)
    if path is None:
        raise BuildError(f'no compiler: {name} is not on the PATH (set {variable} to name another)')
    return path

def _ninja():
    path = shutil.which('ninja')
    if path is None:
        with contextlib.suppress(ImportError):
            import ninja
            path = shutil.which('ninja', path=ninja.BIN_DIR)
    if path is None:
        raise BuildError('ninja is not installed (pip install ninja)')
    return path

#----------------------------------------------------------------------------
# The cache.

def _files(target):
    spec = TARGETS[target]
    sources = sorted(SOURCES.glob(spec['sources']))
    if not sources:
        raise BuildError(f'there are no sources of {target} ({SOURCES}/{spec["sources"]})')
    includes = {SOURCES / 'abi.h'}.union(*(SOURCES.glob(pattern) for pattern in spec['includes']))
    return sources, sorted(path for path in includes if path.is_file())

@functools.cache
def _compiler_identity(program, native):
    """Return text with the compiler's version and, if native, the macros that identify the processor."""
    asked = [[program, '--version']]
    if native:
        asked.append([program, '-march=native', '-dM', '-E', '-x', 'c', os.devnull])
    return '\n'.join(subprocess.run(a, capture_output=True, text=True, check=False).stdout for a in asked)

def key_of(target, archs=None):
    """Return the hash of all inputs of the target's library. Raises BuildError if there is no compiler or no source."""
    compile_command, link_command = command_of(target, archs)
    digest = hashlib.sha256()
    parts = compile_command + link_command + [_compiler_identity(compile_command[0], '-march=native' in compile_command)]
    if target == 'bind':
        import torch
        parts.append(torch.__version__)
    for files in _files(target):
        for path in files:
            parts += [path.relative_to(SOURCES).as_posix(), path.read_text(encoding='utf-8')]
    for part in parts:
        digest.update(part.encode() + b'\0')
    return f'{target}-{digest.hexdigest()[:24]}'

#----------------------------------------------------------------------------

_failures = {}      # key -> text of a failed build, which this process does not try again

def library(target, archs=None):
    """Return the path of the target's shared library; build it if the cache lacks it. Raises BuildError."""
    file = f'{target}.so'
    return cached(key_of(target, archs), file, lambda folder: _build(target, archs, folder)) / file

def cached(key, file, make):
    """Return the folder of that key in the cache, which make(folder) fills with `file` if it is not there. Raises BuildError."""
    if not POSIX:
        raise BuildError('kernels are built on Linux and macOS only')
    root = cache_root() / 'kernels'
    if (root / key / file).is_file():
        return root / key
    if key in _failures:
        raise BuildError(_failures[key])
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_builder(root / f'{key}.lock') as others_failure:
            if not (root / key / file).is_file():
                if others_failure:
                    raise BuildError(others_failure)
                _fill(root, key, file, make)
    except OSError as error:
        _failures[key] = f'cannot write {root} ({error.strerror}); set SPIDER_CACHE_DIR'
        raise BuildError(_failures[key]) from error
    except BuildError as error:
        _failures[key] = str(error)
        raise
    return root / key

# Holds the lock of one key, which ends with the process that holds it. A builder that fails leaves its text for processes that
# waited for it; a process that starts later tries again.

@contextlib.contextmanager
def _only_builder(path):
    started = time.time()
    why = path.with_suffix('.failed')
    try:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=WAIT_SECONDS)
        except NotImplementedError:     # a file system without such locks
            lock = SoftFileLock(path.with_suffix('.held'))
            lock.acquire(timeout=WAIT_SECONDS)
    except Timeout as error:
        raise BuildError(f'another process has been building for {WAIT_SECONDS} seconds (it holds {path})') from error
    try:
        waited = time.time() - started > 0.1 and why.is_file() and why.stat().st_mtime >= started
        yield why.read_text(encoding='utf-8') if waited else ''
    except BuildError as error:
        why.write_text(str(error), encoding='utf-8')
        raise
    finally:
        lock.release()

def _fill(root, key, file, make):
    """Let make() fill a folder beside, which then appears under its key complete."""
    for stale in root.glob('.*.building'):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(stale, ignore_errors=True)
    temp = Path(tempfile.mkdtemp(prefix=f'.{key}.', suffix='.building', dir=root))
    try:
        make(temp)
        temp.chmod(0o755)
        try:
            temp.rename(root / key)
        except OSError:
            if not (root / key / file).is_file():   # an older, incomplete directory has that name
                shutil.rmtree(root / key, ignore_errors=True)
                temp.rename(root / key)
    finally:
        shutil.rmtree(temp, ignore_errors=True)

def _build(target, archs, folder):
    """Build the target's library in the folder."""
    compile_command, link_command = command_of(target, archs)
    ninja, (sources, _) = _ninja(), _files(target)
    quote = lambda words: ' '.join(str(w).replace('$', '$$').replace(' ', '\\ ') for w in words)
    place = lambda path: str(path).replace('$', '$$').replace(' ', '$ ').replace(':', '$:')
    libraries = [w for w in link_command if w.startswith(('-L', '-l'))]
    link = [w for w in link_command if w not in libraries]
    lines = ['rule compile', f'  command = {quote(compile_command)} $in -o $out',
             'rule link', f'  command = {quote(link)} $in -o $out {quote(libraries)}']
    objects = [f'{path.stem}.o' for path in sources]
    lines += [f'build {o}: compile {place(path)}' for o, path in zip(objects, sources)]
    lines += [f'build {target}.so: link {" ".join(objects)}', '']
    (folder / 'build.ninja').write_text('\n'.join(lines), encoding='utf-8')
    done = subprocess.run([ninja, '-C', str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors='replace', check=False)
    if done.returncode:
        tail = '\n'.join(done.stdout.strip().splitlines()[-20:])
        raise BuildError(f'{compile_command[0]} failed on {target}; its last lines:\n{tail}')
    for path in folder.glob('*.o'):
        path.unlink()

#----------------------------------------------------------------------------
