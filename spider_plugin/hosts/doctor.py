"""`spider doctor`: what this machine and a checkout have, what they lack, and the remedy, a line each.

A checkout is looked at as text, and its train.py is asked for its --help with the plugin attached, in a process of its own:
what that needs is what training needs first."""

import ast
import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import spider_plugin
from spider_plugin.errors import UserError
from spider_plugin.files.cache import cache_dir
from spider_plugin.hosts import compat
from spider_plugin.hosts.attach import NotUnderstood, Script, attachable, our_statements, read_checkout, skew

PYTHON = (3, 10)
PACKAGES = {    # Oldest version of each, as in pyproject.toml.
    'torch':        '2.6',
    'numpy':        '1.26',
    'scipy':        '1.11',
    'click':        '8.1',
    'requests':     '2.31',
    'pyspng':       '0.1.2',
    'Pillow':       '10.1',
    'ninja':        '1.11',
}
ENVIRONMENT = ('SPIDER_CACHE_DIR', 'SPIDER_DETECTOR', 'SPIDER_DEVICE', 'SPIDER_HOSTS', 'SPIDER_LOAD_PLUGINS', 'SPIDER_SHIMS')
PIP_NAMES = dict(PIL='Pillow', cv2='opencv-python', skimage='scikit-image', sklearn='scikit-learn', yaml='PyYAML')
TIMEOUT = 120   # Seconds that a host may take for its --help; some load their networks' libraries over slow file systems.

@dataclasses.dataclass(frozen=True)
class Finding:
    topic:  str
    text:   str
    remedy: str | None = None   # What to do about it; None where all is well.

    def __str__(self):
        return f'{"FIX" if self.remedy else "ok":<5s}{self.topic:<13s}{self.text}' + (f': {self.remedy}' if self.remedy else '')

def examine(directory=None):
    """Yields a Finding for each thing to know about this machine and, if given, about the checkout in a folder.

    Raises UserError where the folder holds no train.py."""
    if directory is None:
        yield from examine_stack()
        yield from examine_surroundings()
        return
    host = Checkout(Path(directory).absolute(), read_checkout(directory))
    with host.asking(): # While its processes run, the rest is looked at.
        yield from examine_stack(host)
        yield from examine_surroundings()
        yield from host.examine()

#----------------------------------------------------------------------------
# The stack.

def examine_stack(host=None):
    """Python, packages, device, compiler."""
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
    """'2.13.0+cpu' -> (2, 13, 0)."""
    return tuple(map(int, re.match(r'\d+(\.\d+)*', version).group().split('.')))

def _device():
    """(whether there is a cuda device, Finding)."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return False, Finding('device', f'torch cannot be imported ({_first_line(error)})', 'install torch again')
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return True, Finding('device', f'cuda {torch.version.cuda}: {", ".join(names)}')
    if shutil.which('nvidia-smi') and _succeeds('nvidia-smi', '-L'):
        return False, Finding('device', f'torch {torch.__version__} does not see the GPU of this machine',
                              'install a torch built for a CUDA version that the driver knows')
    if torch.backends.mps.is_available():
        return False, Finding('device', 'mps for the embedded host; other hosts want cuda, or SPIDER_DEVICE=cpu')
    return False, Finding('device', 'cpu: the embedded host takes it as it is, other hosts with SPIDER_DEVICE=cpu')

def _succeeds(*command):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    return False

def _compiler(wanted):
    """wanted: whether the host at hand will compile for the device at hand."""
    compilers = filter(None, (os.environ.get('CXX'), 'c++', 'g++', 'clang++', 'cl'))
    cuda_home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    found = {'C++ compiler': next(filter(None, map(shutil.which, compilers)), None),
             'nvcc': shutil.which('nvcc') or shutil.which('nvcc', path=os.path.join(cuda_home, 'bin')),
             'ninja': shutil.which('ninja') or shutil.which('ninja', path=os.path.dirname(sys.executable))}
    missing = [name for name, path in found.items() if path is None]
    if wanted and missing:
        return Finding('compiler', f'the host compiles operators for cuda, and there is no {", no ".join(missing)}',
                       'install them, or its training is slow or fails')
    text = ', '.join(f'{name} {path or "none"}' for name, path in found.items())
    return Finding('compiler', f'{text}; spider-plugin compiles nothing, a host may on cuda')

#----------------------------------------------------------------------------
# What the plugin finds around it.

def examine_surroundings():
    """The plugin itself, its cache, its environment variables."""
    yield Finding('plugin', f'spider-plugin {spider_plugin.__version__} in {Path(spider_plugin.__file__).parent}')
    try:
        root = cache_dir()
    except UserError as error:
        yield Finding('cache', f'{error.message.split(";")[0]}', 'free it, or set SPIDER_CACHE_DIR to another folder')
    else:
        sizes = [size for path in root.rglob('*') if (size := _size(path)) is not None]
        yield Finding('cache', f'{root}, {len(sizes)} files, {_gib(sum(sizes))}; {_gib(shutil.disk_usage(root).free)} free')
    for name in sorted(name for name in os.environ if name.startswith('SPIDER_')):
        yield _variable(name, os.environ[name])

def _size(path):
    with contextlib.suppress(OSError): # Another process may have taken it away.
        return path.stat().st_size if path.is_file() else None

def _gib(size):
    return f'{size / 2 ** 30:.2f} GiB'

def _variable(name, value):
    setting = f'{name}={value}'
    if name not in ENVIRONMENT:
        return Finding('environment', f'{setting}, which spider-plugin does not know')
    if name == 'SPIDER_DEVICE' and value not in ('', 'cpu'):
        return Finding('environment', setting, 'only cpu means something; unset it')
    if name == 'SPIDER_SHIMS' and value not in ('on', 'off'):
        return Finding('environment', setting, 'only off means something; unset it')
    if name == 'SPIDER_DETECTOR' and '://' not in value and os.sep in value and not os.path.isfile(value):
        return Finding('environment', f'{setting} does not exist', 'name a TorchScript file, or unset it')
    return Finding('environment', setting)

#----------------------------------------------------------------------------
# A checkout.

_SHIM = re.compile(r'^spider-plugin: shim (\w+): (.*?)(?: \(SPIDER_SHIMS=off\))?$', re.MULTILINE)

_COPIES = 'import json, metrics.detectors as d; print(json.dumps(d.copies("inception")))'

class Checkout:
    """A folder with a train.py."""

    def __init__(self, root, scripts):
        self.root, self.scripts = root, scripts

    @property
    def compiles(self):
        return (self.root / 'torch_utils' / 'custom_ops.py').is_file()

    @contextlib.contextmanager
    def asking(self):
        """While its scripts are asked, in processes of their own."""
        self._help = self._start('-m', 'spider_plugin.hosts.run', str(self.root / 'train.py'), '--help')
        self._copies = self._start('-c', _COPIES) if (self.root / 'metrics' / 'detectors.py').is_file() else None
        try:
            yield
        finally:
            for process in filter(None, (self._help, self._copies)):
                process.kill()
                process.communicate()

    def _start(self, *args):
        package = str(Path(spider_plugin.__file__).resolve().parents[1])
        paths = filter(None, [os.environ.get('PYTHONPATH'), package])
        env = os.environ | dict(PYTHONPATH=os.pathsep.join(paths), PYTHONWARNINGS='ignore', PYTHONDONTWRITEBYTECODE='1')
        return subprocess.Popen([sys.executable, *args], cwd=self.root, env=env, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace')

    def examine(self):
        """Recognised, packages, attached, starts, shims, detector."""
        modules = {name: module for name, module in self._modules() if module.is_python}
        yield self._recognised(modules)
        yield self._attached()
        yield from self._packages(modules)
        yield from self._starts()
        yield self._detector(modules)

    def _modules(self):
        """(dotted name, Script) of the .py files in the checkout and in its folders."""
        for path in sorted([*self.root.glob('*.py'), *self.root.glob('*/*.py'), *self.root.glob('*/*/*.py')]):
            with contextlib.suppress(OSError):
                yield '.'.join(path.relative_to(self.root).with_suffix('').parts), Script(path)

    #------------------------------------------------------------------------

    def _recognised(self, modules):
        try:
            self.scripts['train.py'].check_training()
        except NotUnderstood as error:
            return Finding('host', f'train.py {error}', 'use a host like NVlabs/stylegan3, or one made by `spider init`')
        generators = [name for name, module in modules.items()
                      if any(isinstance(node, ast.ClassDef) and node.name == 'Generator' for node in module.tree.body)]
        return Finding('host', f'{self.root}, generators in {", ".join(generators) or "no module"}')

    def _attached(self):
        try:
            wanted = attachable(self.scripts)
        except UserError as error:
            return Finding('attached', error.message.split(';')[0], 'repair that, then `spider attach`')
        attached = [script.name for script in wanted if our_statements(script.source)]
        missing = [script.name for script in wanted if script.name not in attached]
        stale = [name for name in attached if skew(self.scripts[name].path)]
        if not attached:
            return Finding('attached', f'no; `spider attach {self.root}`, or `spider run {self.root / "train.py"}` as it is')
        if stale:
            return Finding('attached', f'the line in {", ".join(stale)} is of another version', f'`spider attach {self.root}`')
        if missing:
            return Finding('attached', f'{", ".join(attached)}, but not {", ".join(missing)}', f'`spider attach {self.root}`')
        return Finding('attached', ', '.join(attached))

    #------------------------------------------------------------------------

    def _packages(self, modules):
        """What the modules that training can reach import and nobody has; one that a shim stands in for is not missing."""
        reached, queue, missing = set(), ['train', 'calc_metrics'], {}
        while queue:
            if (name := queue.pop()) in modules and name not in reached:
                reached.add(name)
                wanted = set(_imports(modules[name].tree)) | set(_named_classes(modules[name].tree))
                queue += [part for part in wanted if part in modules]
                for package in {part.partition('.')[0] for part in _imports(modules[name].tree)} - {'pkg_resources'}:
                    if not (self.root / package).is_dir() and package not in modules and not _installed(package):
                        missing.setdefault(package, name)
        for package, name in sorted(missing.items()):
            yield Finding('package', f'{name.replace(".", "/")}.py imports {package}, which is not installed',
                          f'pip install {PIP_NAMES.get(package, package)}')

    def _starts(self):
        """How train.py --help went, and the shims that it took."""
        try:
            out, err = self._help.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            yield Finding('train.py', f'--help takes more than {TIMEOUT} seconds', 'look at what it waits for')
            return
        if self._help.returncode != 0:
            yield Finding('train.py', f'--help fails with the plugin ({_last_line(err)})',
                          'repair that first; a missing module is installed by pip')
        elif '--spider-source' not in out:
            yield Finding('train.py', 'starts, but has no options of ours', 'use a host whose train.py is a click command')
        else:
            yield Finding('train.py', 'starts with the plugin and lists our options')
        shims = _SHIM.findall(err)
        if os.environ.get('SPIDER_SHIMS') == 'off':
            yield Finding('shims', 'off by SPIDER_SHIMS')
            return
        if not shims:
            yield Finding('shims', '--help needs none')
        for name, reason in shims:
            yield Finding('shims', f'{name}, applied by itself: {reason}')
        for shim in _launch_shims():
            yield Finding('shims', f'{shim.name}, applied by itself to a config that asks for it: {shim.reason}')

    def _detector(self, modules):
        """Where the features of metrics come from; files are looked for, nothing is loaded."""
        if value := os.environ.get('SPIDER_DETECTOR'):
            return Finding('detector', f'{value}, where the host has --detector')
        paths = self._copies_of_lookup() if self._copies else _downloads(modules.get('metrics.kernel_inception_distance'))
        if paths is None:
            return Finding('detector', 'cannot be looked up in this host')
        if not paths:
            return Finding('detector', 'is not on this machine; the host downloads it with the first metric')
        return Finding('detector', paths[0])

    def _copies_of_lookup(self):
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError, IndexError):
            return json.loads(self._copies.communicate(timeout=TIMEOUT)[0].splitlines()[-1])
        return None

def _imports(tree):
    """Dotted names that a module imports when it is imported, with those that may be names in them; none that it can miss."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)

def _named_classes(tree):
    """Modules of the dotted class names among a module's strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r'\w+(\.\w+)+', node.value):
            yield node.value.rpartition('.')[0]

def _launch_shims():
    """Shims that no --help asks for, as a config does, of those that this stack needs."""
    with contextlib.suppress(ImportError): # No torch: said already.
        return [shim for shim in compat.SHIMS if shim.where == 'launch' and shim.needed()]
    return []

def _installed(package):
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(package) is not None
    return False

def _downloads(metric):
    """Files of the host's cache that hold what the metric's module names by URL; None where it names nothing."""
    urls = [] if metric is None else [node.value for node in ast.walk(metric.tree) if isinstance(node, ast.Constant)
                                      and isinstance(node.value, str) and re.match(r'https?://', node.value)]
    if not urls:
        return None
    cache = Path(os.environ.get('DNNLIB_CACHE_DIR') or Path.home() / '.cache' / 'dnnlib', 'downloads')
    return [str(path) for url in urls for path in sorted(cache.glob(hashlib.md5(url.encode()).hexdigest() + '_*'))]

def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]

def _last_line(text):
    return (text.strip() or 'no message').splitlines()[-1]

#----------------------------------------------------------------------------
