"""The arrows of docs/architecture.md: who may import whom, in every module, and what an import of the plugin costs.

An arrow is an import statement anywhere in a module. One inside a function counts, because it ties two folders as much as one
at the top does and only hides a circle until it runs; one under TYPE_CHECKING counts, because a reader follows it as well.
Modules that a registry or a config names in a string are no arrows: the string is data, which an entry point may replace. The
package's own `__init__`, the public API, may import from anywhere where that does not run at its import: inside its functions,
and under TYPE_CHECKING. It is the only exception."""

import ast
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ('spider_plugin', 'torch_utils_ext')

#----------------------------------------------------------------------------
# The walker.

@dataclasses.dataclass(frozen=True)
class Arrow:
    """`module` imports `target` (a module where it is one of the walked, else the name as written) in line `line`; `lazy` where
    this does not run with the module; `names` where names of the target are imported, `relative` by a name with leading dots."""

    module:   str
    target:   str
    line:     int
    lazy:     bool
    names:    bool = False
    relative: bool = False

    def __str__(self):
        return f'{self.module}:{self.line} imports {self.target}'

def modules_of(root, *packages):
    """{dotted name: path} of every module under `root` in these packages."""
    found = {}
    for path in sorted(path for package in packages for path in (root / package).rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    assert found, f'no modules of {packages} in {root}'
    return found

def arrows_of(modules):
    """Every import of these modules."""
    trees = {name: ast.parse(path.read_text('utf-8')) for name, path in modules.items()}
    return [arrow for name, tree in trees.items() for arrow in _arrows(name, tree, modules, lazy=False)]

def _arrows(name, node, modules, lazy):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Arrow(name, alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            parent = name.split('.')[: -child.level + (modules[name].name == '__init__.py') or None] if child.level else []
            origin = '.'.join([*parent, *([child.module] if child.module else [])])
            for target in sorted({t if (t := f'{origin}.{alias.name}') in modules else origin for alias in child.names}):
                yield Arrow(name, target, child.lineno, lazy, names=target == origin, relative=child.level > 0)
        else:
            yield from _arrows(name, child, modules, lazy or _runs_later(child))

def _runs_later(node):
    typing = isinstance(node, ast.If) and ast.unparse(node.test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING') and not node.orelse
    return typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)

def circle(edges):
    """Nodes of a circle among the edges [(from, to), ...], the first one again at its end; None where there is none."""
    ways, done = {}, set()
    for start, end in sorted(edges):
        ways.setdefault(start, []).append(end)
    def walk(node, trail):
        if node in trail:
            return [*trail[trail.index(node):], node]
        if node in done:
            return None
        done.add(node)
        return next((found for end in ways.get(node, ()) if (found := walk(end, [*trail, node]))), None)
    return next((found for node in ways if (found := walk(node, []))), None)

def node(module, depth=2):
    """The folder that holds a module; a module at a package's root stands for itself. Of portable/, its folders."""
    depth += module.startswith('spider_plugin.portable.')
    return '.'.join(module.split('.')[:depth])

def lazy_api(arrow):
    return arrow.module == 'spider_plugin' and arrow.lazy

def edges_of(arrows):
    """Arrows between nodes."""
    inner = [arrow for arrow in arrows if arrow.target.split('.')[0] in PACKAGES and not lazy_api(arrow)]
    return {(node(arrow.module), node(arrow.target)) for arrow in inner if node(arrow.module) != node(arrow.target)}

#----------------------------------------------------------------------------
# The rules, as functions from modules to what breaks them.

RING_2 = {'sources', 'portable', 'bundles', 'snapshots', 'training', 'neighbors', 'metrics', 'generate', 'report', 'files'}
RING_3 = {'hosts', 'options', 'automatic', 'demo', 'cli'}

PORTABLE = 'spider_plugin.portable'
OPS      = ('torch_utils_ext.ops', 'torch_utils_ext.dispatch')
PLAIN    = {*sys.stdlib_module_names, 'torch', 'numpy'}
OPTIONAL = {'spider_plugin.portable.discriminator.feature_networks': 'timm'} # inside a function, for networks that only timm has

def under(module, *packages):
    return any(f'{module}.'.startswith(f'{package}.') for package in packages)

def part(module):
    """The folder or file of spider_plugin that a module is in, '' for the package itself."""
    return (module.split('.') + [''])[1] if under(module, 'spider_plugin') else None

def relative_faults(arrows):
    """Relative imports: a bundle could not join them, and a reader cannot search for them."""
    return (str(arrow) for arrow in arrows if arrow.relative)

def portable_faults(arrows):
    """Imports of portable/ that a bundle could not carry. What it imports of the plugin must be names at the top of the module:
    those statements alone are joined."""
    for arrow in (arrow for arrow in arrows if under(arrow.module, PORTABLE)):
        if under(arrow.target, PORTABLE, *OPS):
            allowed = arrow.names and not arrow.lazy
        else:
            allowed = arrow.target.split('.')[0] in PLAIN or arrow.lazy and OPTIONAL.get(arrow.module) == arrow.target
        if not allowed:
            yield str(arrow)

def op_faults(arrows):
    """torch_utils_ext knows tensors: it imports nothing of the plugin. Its ops, which travel in bundles, import torch, the
    standard library, each other and the dispatcher, which finds the backend by name where there is one."""
    for arrow in arrows:
        if under(arrow.module, *OPS):
            if not (under(arrow.target, *OPS) or arrow.target.split('.')[0] in PLAIN):
                yield str(arrow)
        elif under(arrow.module, 'torch_utils_ext') and under(arrow.target, 'spider_plugin'):
            yield str(arrow)

def ring_faults(arrows):
    """Arrows from ring 2, and from the single modules at the root that everyone uses, to ring 3."""
    for arrow in arrows:
        if under(arrow.module, 'spider_plugin') and part(arrow.module) not in RING_3 and part(arrow.target) in RING_3:
            if not lazy_api(arrow):
                yield str(arrow)

def api_faults(arrows):
    """Imports of the plugin, or of what is heavy, that the package's `__init__` does at its top."""
    for arrow in arrows:
        if arrow.module == 'spider_plugin' and not arrow.lazy and arrow.target.split('.')[0] not in sys.stdlib_module_names:
            yield str(arrow)

#----------------------------------------------------------------------------
# The rules hold.

@pytest.fixture(scope='module')
def arrows():
    return arrows_of(modules_of(ROOT, *PACKAGES))

def test_folders_form_no_circle(arrows):
    found = circle(edges_of(arrows))
    assert found is None, ' -> '.join(found)

RULES = [relative_faults, portable_faults, op_faults, ring_faults, api_faults]

@pytest.mark.parametrize('faults', RULES, ids=lambda rule: rule.__name__)
def test_rule(faults, arrows):
    assert list(faults(arrows)) == []

def test_every_folder_is_in_a_ring():
    """A folder that nobody put into a ring would be bound by no rule."""
    folders = {path.parent.name for path in (ROOT / 'spider_plugin').glob('*/__init__.py')}
    assert folders == (RING_2 | RING_3) - {'cli'}
    page = (ROOT / 'docs' / 'architecture.md').read_text('utf-8')
    assert [name for name in sorted(folders) if f'{name}/' not in page] == []

@pytest.mark.parametrize('package', [path.parent.relative_to(ROOT).as_posix() for name in PACKAGES
                                     for path in sorted((ROOT / name).rglob('__init__.py'))])
def test_a_folder_says_its_trade(package):
    """One sentence; where `__init__` has code too, in the first paragraph."""
    tree = ast.parse((ROOT / package / '__init__.py').read_text('utf-8'))
    said, _, more = (ast.get_docstring(tree) or '').partition('\n\n')
    assert len(re.findall(r'[.!?](?=\s|$)', said)) == 1 and said.endswith('.'), said
    assert not more or len(tree.body) > 1, f'{package} says more than a sentence, and has nothing to say it of'

def test_the_reference_host_knows_no_plugin():
    """But for the attached line, which is the same in each script that has it."""
    attached = 'spider_plugin.hosts.hook'
    found = [arrow for arrow in arrows_of(modules_of(ROOT, 'reference_host')) if under(arrow.target, *PACKAGES)]
    assert {arrow.target for arrow in found} == {attached}
    lines = {arrow.module: (ROOT / f'{arrow.module.replace(".", "/")}.py').read_text('utf-8').splitlines()[arrow.line - 1]
             for arrow in found}
    assert 'reference_host.train' in lines and len(set(lines.values())) == 1

def test_benchmarks_need_no_tests():
    """Neither by name nor by a path that they put on sys.path."""
    modules, helpers = modules_of(ROOT, 'benchmarks'), {path.stem for path in (ROOT / 'tests').rglob('*.py')}
    own = {path.stem for path in modules.values()}
    faults = [str(arrow) for arrow in arrows_of(modules) if arrow.target.split('.')[0] in {'tests', *helpers} - own]
    for name, path in modules.items():
        texts = [item.value for item in ast.walk(ast.parse(path.read_text('utf-8')))
                 if isinstance(item, ast.Constant) and isinstance(item.value, str) and '\n' not in item.value]
        faults += [f'{name} names {text!r}' for text in texts if 'tests' in re.split(r'[/\\]', text)]
    assert faults == []

#----------------------------------------------------------------------------
# What an import costs: a host's script pays it in every rank, a shell at every `spider --help`.

IMPORTED = 'import sys; {code}; print(*sorted({{name.partition(".")[0] for name in sys.modules}}))'

def imported_by(code):
    done = subprocess.run([sys.executable, '-c', IMPORTED.format(code=code)], capture_output=True, text=True, check=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    return set(done.stdout.splitlines()[-1].split())

@pytest.mark.parametrize('code', [
    'import spider_plugin', 'import spider_plugin.hosts.hook',
    'from spider_plugin.cli import main; main(["--help"], standalone_mode=False)'])
def test_torch_is_not_imported(code):
    found = imported_by(code)
    assert 'spider_plugin' in found and not found & {'torch', 'scipy', 'PIL', 'requests'}

def test_torch_would_be_seen():
    assert 'torch' in imported_by('import spider_plugin.portable.source.key')

#----------------------------------------------------------------------------
# The walker and the rules see what they are for.

@pytest.fixture
def made_up(tmp_path):
    """made_up({path: text, ...}) -> arrows of a package of that name and form."""
    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            for folder in [path.parent, *path.parent.parents]:
                if folder.is_relative_to(tmp_path) and folder != tmp_path:
                    (folder / '__init__.py').touch()
        return arrows_of(modules_of(tmp_path, *{name.split('/')[0] for name in files}))
    return make

ONE, OTHER = 'spider_plugin/sources/a.py', 'spider_plugin/snapshots/b.py'

@pytest.mark.parametrize('back', [
    'from spider_plugin.sources import a', 'import spider_plugin.sources.a as x',
    'def f():\n    from spider_plugin.sources.a import y',
    'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from spider_plugin.sources.a import y'])
def test_a_circle_is_found(back, made_up):
    there = 'from spider_plugin.snapshots.b import x'
    assert circle(edges_of(made_up({ONE: there, OTHER: ''}))) is None
    found = circle(edges_of(made_up({ONE: there, OTHER: back})))
    assert found[0] == found[-1] and set(found) == {'spider_plugin.sources', 'spider_plugin.snapshots'}

def test_a_long_circle_is_found_and_the_lazy_api_is_none(made_up):
    files = {'spider_plugin/errors.py': '', 'spider_plugin/files/a.py': 'from spider_plugin.errors import E',
             'spider_plugin/weights.py': 'from spider_plugin.files import a\nfrom spider_plugin import __version__'}
    lazy = {'spider_plugin/__init__.py': 'from typing import TYPE_CHECKING\n'
                                         'if TYPE_CHECKING:\n    from spider_plugin import weights as weights\n'
                                         'def __getattr__(name):\n    from spider_plugin import weights'}
    arrows = made_up(files | lazy)
    assert circle(edges_of(arrows)) is None and not list(api_faults(arrows)) and not list(ring_faults(arrows))
    eager = made_up({'spider_plugin/__init__.py': 'from spider_plugin import weights'})
    assert set(circle(edges_of(eager))) == {'spider_plugin', 'spider_plugin.weights'} and list(api_faults(eager))
    longer = made_up({'spider_plugin/errors.py': 'from spider_plugin.weights import w'})
    assert circle([edge for edge in edges_of(longer) if 'spider_plugin' not in edge])[0] == 'spider_plugin.errors'

@pytest.mark.parametrize('text, allowed', [
    ('import math, numpy as np\nfrom torch.nn import functional', True),
    ('from torch_utils_ext.ops.depthwise import depthwise\nfrom torch_utils_ext.dispatch import run_op', True),
    ('from spider_plugin.portable.layers.dsc import x', True),
    ('import scipy', False), ('def f():\n    import timm', False), ('from torch_utils_ext.backend import status', False),
    ('from spider_plugin.errors import SpiderError', False), ('import spider_plugin.portable.layers.dsc', False),
    ('def f():\n    from spider_plugin.portable.layers.dsc import x', False), ('import torch_utils', False),
    ('from spider_plugin.portable.layers import dsc', False)])
def test_forbidden_imports_of_portable_are_found(text, allowed, made_up):
    arrows = made_up({'spider_plugin/portable/source/x.py': text, 'spider_plugin/portable/layers/dsc.py': ''})
    assert bool(list(portable_faults(arrows))) != allowed

def test_forbidden_imports_of_rings_are_found(made_up):
    up = 'from spider_plugin.options import table\nfrom spider_plugin import cli, hosts'
    arrows = made_up({ONE: up, 'spider_plugin/errors.py': 'import spider_plugin.demo.run', 'spider_plugin/cli.py': up,
                      'spider_plugin/options/table.py': 'from spider_plugin import cli', 'spider_plugin/hosts/x.py': ''})
    assert list(ring_faults(arrows)) == ['spider_plugin.errors:1 imports spider_plugin.demo.run',
                                         'spider_plugin.sources.a:1 imports spider_plugin.options.table',
                                         'spider_plugin.sources.a:2 imports spider_plugin.cli',
                                         'spider_plugin.sources.a:2 imports spider_plugin.hosts']
    arrows = made_up({'torch_utils_ext/build.py': 'from spider_plugin.files import cache',
                      'torch_utils_ext/ops/op.py': 'import ninja'})
    assert list(op_faults(arrows)) == ['torch_utils_ext.build:1 imports spider_plugin.files',
                                       'torch_utils_ext.ops.op:1 imports ninja']

@pytest.mark.parametrize('text, target', [
    ('from . import b', 'spider_plugin.sources'), ('from .c import d', 'spider_plugin.sources.c'),
    ('from ..files import cache', 'spider_plugin.files')])
def test_relative_imports_are_found(text, target, made_up):
    arrows = made_up({ONE: text, 'spider_plugin/sources/__init__.py': 'from .a import f'})
    assert {arrow.target for arrow in arrows} == {target, 'spider_plugin.sources.a'}
    assert len(list(relative_faults(arrows))) == 2

#----------------------------------------------------------------------------
