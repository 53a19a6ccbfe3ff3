"""The checks of a checkout for `spider doctor`.

The files of the checkout are parsed, not imported. Its train.py is run with --help and the plugin attached, in a separate
process, because that needs most of what training needs to start."""

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
from spider_plugin.hosts.doctor_scripts import examine_options, examine_scripts
from spider_plugin.hosts.finding import Finding, last_line
from spider_plugin.hosts.line import NotUnderstood, plugin_statements
from spider_plugin.hosts.shims import stack

# {package: what pip calls it}, where that is another name; `clip` on PyPI is something else.
PIP_NAMES = dict(PIL='Pillow', cv2='opencv-python', skimage='scikit-image', sklearn='scikit-learn', yaml='PyYAML',
                 OpenGL='PyOpenGL', ffmpeg='ffmpeg-python', skvideo='scikit-video', gin='gin-config', absl='absl-py',
                 cleanfid='clean-fid', hydra='hydra-core', git='GitPython', dotenv='python-dotenv',
                 clip='git+https://github.com/openai/CLIP.git')
TIMEOUT = 120   # Seconds that a host may take for its --help; some load their networks' libraries over slow file systems.

_SHIM = re.compile(r'^spider-plugin: shim (\w+): (.*?)(?: \(SPIDER_SHIMS=off\))?$', re.MULTILINE)

_COPIES = 'import json, metrics.detectors as d; print(json.dumps(d.copies("inception")))'

#----------------------------------------------------------------------------

class Checkout:
    """A folder with a train.py."""

    def __init__(self, root, scripts):
        self.root, self.scripts, self._starts_well = root, scripts, False

    @property
    def compiles(self):
        return (self.root / 'torch_utils' / 'custom_ops.py').is_file()

    @contextlib.contextmanager
    def asking(self):
        """Run the processes whose output `examine` reads, and end them on exit."""
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
        self.environment = os.environ | dict(PYTHONPATH=os.pathsep.join(paths), PYTHONWARNINGS='ignore',
                                             PYTHONDONTWRITEBYTECODE='1')
        return subprocess.Popen([sys.executable, *args], cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace')

    def examine(self, options=True):
        """Yield the Findings, in the order host, attached, packages, train.py, shims, detector, scripts, options.

        options: whether to try the options of the plugin by dry iterations, which takes seconds for each."""
        modules = {name: module for name, module in self._modules() if module.is_python}
        yield self._recognised(modules)
        yield self._attached()
        yield from self._packages(modules)
        yield from self._starts()
        yield self._detector(modules)
        yield from examine_scripts(self, modules)
        if options and self._starts_well:
            yield from examine_options(self.root, self.environment)

    def _modules(self):
        """Yield (dotted name, Script) for the .py files in the checkout and in its folders."""
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
            return Finding('attached', error.message.split(';')[0], 'correct that, then run `spider attach`')
        attached = [script.name for script in wanted if plugin_statements(script.source)]
        missing = [script.name for script in wanted if script.name not in attached]
        stale = [name for name in attached if skew(self.scripts[name].path)]
        if not attached:
            return Finding('attached', f'no; run `spider attach {self.root}`, or start training by `spider run '
                                       f'{self.root / "train.py"}`')
        if stale:
            return Finding('attached', f'the line in {", ".join(stale)} is of another version', f'`spider attach {self.root}`')
        if missing:
            return Finding('attached', f'{", ".join(attached)}, but not {", ".join(missing)}', f'`spider attach {self.root}`')
        return Finding('attached', ', '.join(attached))

    #------------------------------------------------------------------------

    def _packages(self, modules):
        """Yield Findings for packages that modules of training import and that are not installed, except those of a shim."""
        for package, name in sorted(self.missing(modules, ['train', 'calc_metrics']).items()):
            yield Finding('package', f'{name.replace(".", "/")}.py imports {package}, which is not installed',
                          f'pip install {self.pip_name(package)}')

    @staticmethod
    def pip_name(package):
        return PIP_NAMES.get(package, package)

    def ask_help(self, path):
        """Return (exit code or None if it takes too long, stdout, stderr) of a script's --help with the plugin."""
        process = self._start('-m', 'spider_plugin.hosts.run', str(path), '--help')
        try:
            out, err = process.communicate(timeout=TIMEOUT)
            return process.returncode, out, err
        except subprocess.TimeoutExpired:
            return None, '', ''
        finally:
            process.kill()
            process.wait()

    def missing(self, modules, starts):
        """Return {package that is not installed: module that imports it}, for what the modules `starts` import."""
        reached, queue, missing = set(), list(starts), {}
        while queue:
            if (name := queue.pop()) in modules and name not in reached:
                reached.add(name)
                wanted = set(_imports(modules[name].tree)) | set(_named_classes(modules[name].tree))
                queue += [part for part in wanted if part in modules]
                for package in {part.partition('.')[0] for part in _imports(modules[name].tree)} - {'pkg_resources'}:
                    if not (self.root / package).is_dir() and package not in modules and not _installed(package):
                        missing.setdefault(package, name)
        return missing

    def _starts(self):
        """Yield Findings about the run of train.py --help and the shims that it applied."""
        try:
            out, err = self._help.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            yield Finding('train.py', f'--help takes more than {TIMEOUT} seconds', 'find out what it waits for')
            return
        if self._help.returncode != 0:
            yield Finding('train.py', f'--help fails with the plugin ({last_line(err)})',
                          'correct that first; install a missing module by pip')
        elif '--spider-source' not in out:
            yield Finding('train.py', 'starts, but lists no options of the plugin',
                          'use a host whose train.py is a click command')
        else:
            self._starts_well = True
            yield Finding('train.py', 'starts with the plugin and lists its options')
        shims = _SHIM.findall(err)
        if os.environ.get('SPIDER_SHIMS') == 'off':
            yield Finding('shims', 'off by SPIDER_SHIMS')
            return
        if not shims:
            yield Finding('shims', '--help needs none')
        for name, reason in shims:
            yield Finding('shims', f'{name}, applied automatically: {reason}')
        for shim in _launch_shims():
            yield Finding('shims', f'{shim.name}, applied automatically to a config that needs it: {shim.reason}')

    def _detector(self, modules):
        """Return the Finding about the metrics' detector. Files are looked for, but nothing is loaded."""
        if value := os.environ.get('SPIDER_DETECTOR'):
            return Finding('detector', f'{value}, by SPIDER_DETECTOR')
        paths = self._copies_of_lookup() if self._copies else _downloads(modules.get('metrics.kernel_inception_distance'))
        if paths is None:
            return Finding('detector', 'not known for this host')
        if not paths:
            return Finding('detector', 'is not on this machine; the host downloads it with the first metric')
        return Finding('detector', paths[0])

    def _copies_of_lookup(self):
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError, IndexError):
            return json.loads(self._copies.communicate(timeout=TIMEOUT)[0].splitlines()[-1])
        return None

def _imports(tree):
    """Yield the dotted names that importing a module imports, with `from` names appended; optional imports are left out."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)

def _named_classes(tree):
    """Yield the modules of the dotted class names among a module's strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r'\w+(\.\w+)+', node.value):
            yield node.value.rpartition('.')[0]

def _launch_shims():
    """Return the shims for configs that this stack needs. A run of --help cannot show them."""
    with contextlib.suppress(ImportError): # Without torch; another Finding says so.
        return [shim for shim in stack.SHIMS if shim.where == 'launch' and shim.needed()]
    return []

def _installed(package):
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(package) is not None
    return False

def _downloads(metric):
    """Return the files in the host's cache for the URLs in the metric's module; None if there are no URLs."""
    urls = [] if metric is None else [node.value for node in ast.walk(metric.tree) if isinstance(node, ast.Constant)
                                      and isinstance(node.value, str) and re.match(r'https?://', node.value)]
    if not urls:
        return None
    cache = Path(os.environ.get('DNNLIB_CACHE_DIR') or Path.home() / '.cache' / 'dnnlib', 'downloads')
    return [str(path) for url in urls for path in sorted(cache.glob(hashlib.md5(url.encode()).hexdigest() + '_*'))]

#----------------------------------------------------------------------------
