"""`spider doctor` checks this machine and a checkout, and prints a line with the remedy for each fault.

This module checks the machine; doctor_checkout.py checks a checkout."""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import spider_plugin
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import cache_dir
from spider_plugin.hosts.attach import read_checkout
from spider_plugin.hosts.doctor_checkout import Checkout
from spider_plugin.hosts.finding import Finding, first_line
from torch_utils_ext import nvrtc

PYTHON = (3, 10)
PACKAGES = {    # Oldest version of each, as in pyproject.toml.
    'torch':        '2.6',
    'numpy':        '1.26',
    'scipy':        '1.11',
    'click':        '8.1',
    'requests':     '2.31',
    'pyspng':       '0.1.2',
    'Pillow':       '10.1',
    'filelock':     '3.12',
    'ninja':        '1.11',
}
ENVIRONMENT = ('SPIDER_CACHE_DIR', 'SPIDER_DETECTOR', 'SPIDER_DEVICE', 'SPIDER_DRY_RUN', 'SPIDER_HOSTS', 'SPIDER_LOAD_PLUGINS',
               'SPIDER_MAX_DOWNLOAD', 'SPIDER_NVCC', 'SPIDER_SHIMS')

def examine(directory=None, options=True):
    """Yield the Findings about this machine and, if given, about the checkout in a folder.

    options: whether to try the options of the plugin by dry iterations.
    Raises SpiderError if the folder holds no train.py."""
    if directory is None:
        yield from examine_stack()
        yield from examine_surroundings()
        return
    folder = Path(directory).absolute()     # its scripts are started in it
    host = Checkout(folder, read_checkout(folder))
    with host.asking(): # The host's processes run during the other checks.
        yield from examine_stack(host)
        yield from examine_surroundings()
        yield from host.examine(options)

#----------------------------------------------------------------------------
# The Python stack.

def examine_stack(host=None):
    """Yield the Findings about Python, packages, device and compiler."""
    yield _versioned('Python', platform.python_version(), '.'.join(map(str, PYTHON)), 'make an environment with a newer one')
    for name, oldest in PACKAGES.items():
        yield _versioned(name, _version(name), oldest, f"pip install '{name}>={oldest}'")
    setuptools = _version('setuptools')
    has_resources = importlib.util.find_spec('pkg_resources') is not None
    yield Finding('setuptools', f'{setuptools or "none"}, {"with" if has_resources else "without"} pkg_resources')
    cuda, device = _device()
    yield device
    yield _compiler(cuda and host is not None and host.compiles)

def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

def _versioned(name, version, oldest, remedy):
    if version is None:
        return Finding(name, 'is not installed', remedy)
    if _release(version) < _release(oldest):
        return Finding(name, f'{version} is older than {oldest}', remedy)
    return Finding(name, version)

def _release(version):
    """Return the release of a version as a tuple, such as (2, 13, 0) of '2.13.0+cpu'."""
    return tuple(map(int, re.match(r'\d+(\.\d+)*', version).group().split('.')))

def _device():
    """Return (whether there is a cuda device, Finding)."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return False, Finding('device', f'torch cannot be imported ({first_line(error)})', 'install torch again')
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return True, Finding('device', f'cuda {torch.version.cuda}: {", ".join(names)}')
    if shutil.which('nvidia-smi') and _succeeds('nvidia-smi', '-L'):
        return False, Finding('device', f'torch {torch.__version__} does not see the GPU of this machine',
                              'install a torch built for a CUDA version that the driver knows')
    if torch.backends.mps.is_available():
        return False, Finding('device', 'mps for the embedded host; other hosts need cuda or SPIDER_DEVICE=cpu')
    return False, Finding('device', 'cpu; the embedded host runs on it, other hosts need SPIDER_DEVICE=cpu')

def _succeeds(*command):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    return False

def _compiler(wanted):
    """Return the Finding about compilers; `wanted` says whether the host will compile operators for the device."""
    compilers = filter(None, (os.environ.get('CXX'), 'c++', 'g++', 'clang++', 'cl'))
    cuda_home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    found = {'C++ compiler': next(filter(None, map(shutil.which, compilers)), None),
             'nvcc': shutil.which(os.environ.get('NVCC') or 'nvcc') or shutil.which('nvcc', path=os.path.join(cuda_home, 'bin')),
             'ninja': shutil.which('ninja') or shutil.which('ninja', path=os.path.dirname(sys.executable))}
    missing = [name for name, path in found.items() if path is None]
    found['NVRTC'] = nvrtc.compiler()
    if wanted and missing:
        return Finding('compiler', f'the host compiles operators for cuda, but there is no {", no ".join(missing)}',
                       'install them, because without them its training is slow or fails')
    text = ', '.join(f'{name} {path or "none"}' for name, path in found.items())
    return Finding('compiler', f'{text}; spider-plugin builds its kernels with these at first use, for cuda by nvcc or '
                   'else by NVRTC, and where one is missing, plain torch takes their place; a host may compile on cuda')

#----------------------------------------------------------------------------
# The plugin, its cache and its environment variables.

def examine_surroundings():
    """Yield the Findings about the plugin, its cache and its environment variables."""
    yield Finding('plugin', f'spider-plugin {spider_plugin.__version__} in {Path(spider_plugin.__file__).parent}')
    try:
        root = cache_dir()
    except SpiderError as error:
        yield Finding('cache', f'{error.message.split(";")[0]}', 'free it, or set SPIDER_CACHE_DIR to another folder')
    else:
        sizes = [size for path in root.rglob('*') if (size := _size(path)) is not None]
        yield Finding('cache', f'{root}, {len(sizes)} files, {_gib(sum(sizes))}; {_gib(shutil.disk_usage(root).free)} free')
    yield from _shared_memory()
    for name in sorted(name for name in os.environ if name.startswith('SPIDER_')):
        yield _variable(name, os.environ[name])

def _shared_memory(path='/dev/shm', least=64 << 20):
    """Yield the Finding about the memory through which processes that load images hand them over, where the system has it."""
    with contextlib.suppress(OSError):
        total = shutil.disk_usage(path).total
        if total < least:
            yield Finding('shm', f'{path} has {total / 1e6:.1f} MB, too little for processes that load images',
                          'train with --workers=0, or start the container with --shm-size=1g')
        else:
            yield Finding('shm', f'{path} has {_gib(total)}')

def _size(path):
    with contextlib.suppress(OSError): # Another process may have removed it.
        return path.stat().st_size if path.is_file() else None

def _gib(size):
    return f'{size / 2 ** 30:.2f} GiB'

def _variable(name, value):
    setting = f'{name}={value}'
    if name not in ENVIRONMENT:
        return Finding('environment', f'{setting}, which spider-plugin does not know')
    if name == 'SPIDER_DEVICE' and value not in ('', 'cpu'):
        return Finding('environment', setting, 'the only valid value is cpu; unset it')
    if name in ('SPIDER_DRY_RUN', 'SPIDER_SHIMS') and value not in ('on', 'off'):
        return Finding('environment', setting, 'the only valid value is off; unset it')
    if name == 'SPIDER_DETECTOR' and '://' not in value and os.sep in value and not os.path.isfile(value):
        return Finding('environment', f'{setting} does not exist', 'name a TorchScript file, or unset it')
    return Finding('environment', setting)

#----------------------------------------------------------------------------
