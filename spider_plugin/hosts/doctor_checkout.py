"""What a checkout has and lacks, for `spider doctor`.

It is looked at as text, and its train.py is asked for its --help with the plugin attached, in a process of its own: what that
needs is what training needs first."""

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import spider_plugin
from spider_plugin.errors import SpiderError
from spider_plugin.hosts.attach import Script, attachable, skew
from spider_plugin.hosts.finding import Finding, last_line
from spider_plugin.hosts.line import NotUnderstood, our_statements
from spider_plugin.hosts.shims import stack

PIP_NAMES = dict(PIL='Pillow', cv2='opencv-python', skimage='scikit-image', sklearn='scikit-learn', yaml='PyYAML')
TIMEOUT = 120   # Seconds that a host may take for its --help; some load their networks' libraries over slow file systems.

_SHIM = re.compile(r'^spider-plugin: shim (\w+): (.*?)(?: \(SPIDER_SHIMS=off\))?$', re.MULTILINE)

_COPIES = 'import json, metrics.detectors as d; print(json.dumps(d.copies("inception")))'

#----------------------------------------------------------------------------

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
        except SpiderError as error:
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
            yield Finding('train.py', f'--help fails with the plugin ({last_line(err)})',
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
        return [shim for shim in stack.SHIMS if shim.where == 'launch' and shim.needed()]
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

#----------------------------------------------------------------------------
