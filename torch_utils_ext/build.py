"""Builds the kernels by ninja, a shared library per target, into a cache whose keys are hashes of all inputs of the build.

A key covers the sources, the flags, the compiler's version, the processor if the flags have `-march=native`, and torch's version
for the binding. A library appears in the cache complete or not at all (by renaming a directory), one process builds while
the others wait, and a process that dies does not block the next one. Importing this module builds nothing."""

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from torch_utils_ext.cache_root import cache_root

try:
    import fcntl
except ImportError:     # Windows has other locks, and its torch is built by another compiler
    fcntl = None    # type: ignore[assignment]

SOURCES = Path(__file__).parent / 'csrc'
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
    'bind':      dict(sources='bind.cpp',        includes=['bind/*']),
}

_CXX_FLAGS = ['-std=c++17', '-O3', '-fPIC', '-fopenmp', '-fvisibility=default', '-ffp-contract=fast', '-fno-math-errno',
              '-fno-trapping-math', '-w']

def command_of(target, arch=None):
    """Return (compile, link), the argument lists up to the file names.

    arch:   architecture of a CUDA device, such as '90'.
    Raises BuildError if there is no compiler."""
    if target == 'cuda':
        nvcc = _program('NVCC', 'nvcc')
        arch = arch or visible_cuda_arch()
        base = [nvcc, f'-gencode=arch=compute_{arch},code=sm_{arch}', '-O3', '-std=c++17', '-Xcompiler=-fPIC']
        return base + ['-c'], base + ['-shared', '-cudart=static']
    cxx = _program('CXX', 'g++')
    if target == 'bind':
        import torch
        root = Path(torch.__file__).parent
        abi = int(torch.compiled_with_cxx11_abi())
        flags = ['-std=c++20', '-O1', '-fPIC', '-w', f'-D_GLIBCXX_USE_CXX11_ABI={abi}', f'-I{root}/include',
                 f'-I{root}/include/torch/csrc/api/include']
        return [cxx, *flags, '-c'], [cxx, '-shared', '-fPIC', f'-L{root}/lib', '-lc10', '-ltorch_cpu', '-ldl']
    native = ['-march=native'] if target == 'cpu' else []
    return [cxx, *_CXX_FLAGS, *native, '-c'], [cxx, *_CXX_FLAGS, *native, '-shared']

def visible_cuda_arch():
    """Return the architecture of the first visible CUDA device, such as '90'. Raises BuildError if there is none."""
    import torch
    if not torch.cuda.is_available():
        raise BuildError('no CUDA device is visible')
    return '{}{}'.format(*torch.cuda.get_device_capability())

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

def key_of(target, arch=None):
    """Return the hash of all inputs of the target's library. Raises BuildError if there is no compiler or no source."""
    compile_command, link_command = command_of(target, arch)
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

def library(target, arch=None):
    """Return the path of the target's shared library; build it if the cache lacks it. Raises BuildError."""
    if fcntl is None:
        raise BuildError('kernels are built on Linux and macOS only')
    key = key_of(target, arch)
    root = cache_root() / 'kernels'
    path = root / key / f'{target}.so'
    if path.is_file():
        return path
    if key in _failures:
        raise BuildError(_failures[key])
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_builder(root / f'{key}.lock') as others_failure:
            if not path.is_file():
                if others_failure:
                    raise BuildError(others_failure)
                _build(target, arch, root, key)
    except OSError as error:
        _failures[key] = f'cannot write {root} ({error.strerror}); set SPIDER_CACHE_DIR'
        raise BuildError(_failures[key]) from error
    except BuildError as error:
        _failures[key] = str(error)
        raise
    return path

# Holds the lock of one key. The operating system's lock ends with the process that holds it. A builder that fails leaves its text
# in the lock file for processes that waited for it; a process that starts later tries again.

@contextlib.contextmanager
def _only_builder(lock):
    started = time.time()
    with open(lock, 'a+', encoding='utf-8') as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.time() - started > WAIT_SECONDS:
                    raise BuildError(f'another process has been building for {WAIT_SECONDS} seconds (it holds {lock})') from error
                time.sleep(0.1)
        file.seek(0)
        said = file.read()
        waited = time.time() - started > 0.1 and os.fstat(file.fileno()).st_mtime >= started
        try:
            yield said if waited else ''
        except BuildError as error:
            file.truncate(0)
            file.write(str(error))
            file.flush()
            raise

def _build(target, arch, root, key):
    for stale in root.glob('.*.building'):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(stale, ignore_errors=True)
    compile_command, link_command = command_of(target, arch)
    ninja, (sources, _) = _ninja(), _files(target)
    temp = Path(tempfile.mkdtemp(prefix=f'.{key}.', suffix='.building', dir=root))
    try:
        quote = lambda words: ' '.join(str(w).replace('$', '$$').replace(' ', '\\ ') for w in words)
        place = lambda path: str(path).replace('$', '$$').replace(' ', '$ ').replace(':', '$:')
        libraries = [w for w in link_command if w.startswith(('-L', '-l'))]
        link = [w for w in link_command if w not in libraries]
        lines = ['rule compile', f'  command = {quote(compile_command)} $in -o $out',
                 'rule link', f'  command = {quote(link)} $in -o $out {quote(libraries)}']
        objects = [f'{path.stem}.o' for path in sources]
        lines += [f'build {o}: compile {place(path)}' for o, path in zip(objects, sources)]
        lines += [f'build {target}.so: link {" ".join(objects)}', '']
        (temp / 'build.ninja').write_text('\n'.join(lines), encoding='utf-8')
        done = subprocess.run([ninja, '-C', str(temp)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors='replace', check=False)
        if done.returncode:
            tail = '\n'.join(done.stdout.strip().splitlines()[-20:])
            raise BuildError(f'{compile_command[0]} failed on {target}; its last lines:\n{tail}')
        for path in temp.glob('*.o'):
            path.unlink()
        temp.chmod(0o755)
        try:
            temp.rename(root / key)
        except OSError:
            if not (root / key / f'{target}.so').is_file():     # an older, incomplete directory has that name
                shutil.rmtree(root / key, ignore_errors=True)
                temp.rename(root / key)
    finally:
        shutil.rmtree(temp, ignore_errors=True)

#----------------------------------------------------------------------------
