"""Modules of other packages in bundles: what can be joined, what stays in its package, and what clashes."""

import ast
import importlib
import itertools
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch

from spider_plugin import registry
from spider_plugin.bundles.names import BundleName, bundle_of, class_with, declared_class
from spider_plugin.bundles.parts import needed_packages, not_portable
from spider_plugin.bundles.source import bundle_source
from spider_plugin.errors import SpiderError
from spider_plugin.options.generators import PluginGenerator, needed_package, network_class
from spider_plugin.options.mappings import MappingKind
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.families import add_host_to_path

_numbers = itertools.count()

@pytest.fixture
def packages(tmp_path, monkeypatch):
    """packages({path: text}, name): writes a package of a new name; NAME in texts stands for it. Returns the name."""
    registry.load_plugins()
    before = [(kinds, kinds.registered()) for kinds in (registry.generators, registry.mappings)]
    add_host_to_path()
    monkeypatch.syspath_prepend(tmp_path)
    def write(files, name='pkg'):
        name = f'{name}{next(_numbers)}'
        for path, text in {'__init__.py': '', **files}.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(textwrap.dedent(text).replace('NAME', name), encoding='utf-8')
        importlib.invalidate_caches()
        return name
    yield write
    for kinds, entries in before:
        kinds.restore(entries)

def declare(module, name='mine', generator='Net'):
    registry.generators.register(name)(PluginGenerator(lambda *_: None, module, generator))
    return declared_class(module, generator)

def build(class_name):
    module, _, name = class_name.rpartition('.')
    return getattr(importlib.import_module(module), name)()

NET = '''
import torch
{}
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = {}
'''

#----------------------------------------------------------------------------
# What is joined.

def test_future_annotations_and_relative_imports_are_joined(packages):
    name = packages({'net.py': '"""A net."""\nfrom __future__ import annotations\n' + NET.format(
        'from .layers.own import Layer\n\ndef later(x: NotThere) -> NotThere: ...', 'Layer(3)'),
        'layers/__init__.py': '', 'layers/own.py': '''
            from __future__ import annotations
            import torch
            from ..sizes import SIZE
            class Layer(torch.nn.Linear):
                def __init__(self, n: Missing):
                    super().__init__(n, SIZE)
        ''', 'sizes.py': 'SIZE = 5\n'})
    assert not_portable(f'{name}.net') is None and needed_package(f'{name}.net', '--cfg=mine') == []
    net = build(declare(f'{name}.net'))
    source = bundle_source(bundle_of(f'{name}.net'))
    assert net.layer.weight.shape == (5, 3) and source.count('__future__') == 1 and f'# Packages: {name}\n' in source
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]

def test_names_that_a_package_passes_on_are_joined(packages):
    name = packages({'__init__.py': 'from .layers import Layer\n',
                     'layers.py': 'import torch\nclass Layer(torch.nn.Linear): ...\n',
                     'net.py': NET.format('from NAME import Layer', 'Layer(2, 3)')})
    assert build(declare(f'{name}.net')).layer.out_features == 3

def test_a_registration_and_what_only_it_uses_stay_out(packages):
    name = packages({'net.py': '''
        import json
        import click
        from spider_plugin import registry
        from spider_plugin.options.generators import PluginGenerator, put_networks
    ''' + textwrap.indent(NET.format('', 'torch.nn.Linear(2, 2)'), ' ' * 8) + '''
        WIDTH = click.IntRange(1, 8)
        def edit(c, given, host):
            put_networks(c, given, host)
        DECLARED = PluginGenerator(edit, __name__, 'Net')
        registry.generators.register('NAME')(DECLARED)
    '''})
    importlib.import_module(f'{name}.net')
    source = bundle_source(bundle_of(f'{name}.net'))
    assert needed_packages(f'{name}.net') == ['click']      # WIDTH needs it
    for word in ('registry', 'put_networks', 'DECLARED', 'def edit'):
        assert word not in source
    assert 'import json' in source and build(declared_class(f'{name}.net', 'Net')).layer is not None

def test_an_import_that_only_the_registration_uses_is_not_needed(packages):
    name = packages({'kind.py': '''
        import click
        from spider_plugin import registry
        from spider_plugin.options.mappings import MappingKind
        registry.mappings.register('NAME')(MappingKind(click.IntRange(4, 4).max * 4, 4, module=__name__))
    '''})
    assert needed_packages(f'{name}.kind') == [] and not_portable(f'{name}.kind') is None

def test_classes_that_cannot_be_extended_stay_as_they_are(packages):
    name = packages({'net.py': NET.format('''
import enum, typing
class Mode(enum.Enum):
    UP = 1
class Sizes(typing.NamedTuple):
    width: int = 4
''', 'torch.nn.Linear(Mode.UP.value, Sizes().width)')})
    assert build(declare(f'{name}.net')).layer.weight.shape == (4, 1)

#----------------------------------------------------------------------------
# What stays in its package, and what must be installed.

@pytest.mark.parametrize('statement, words', [
    ('import NAME.tools as tools',                  'imports NAME.tools as a module'),
    ('from NAME import tools',                      'imports tools of NAME, which does not define it'),
    ('from . import tools',                         'imports tools of NAME, which does not define it'),
    ('from .tools import Layer as Other',           'gives Layer of NAME.tools another name'),
    ('from .tools import *',                        'imports all of NAME.tools'),
    ('def f():\n    from .tools import Layer',      'imports NAME.tools inside a function or block'),
    ('from .missing import Layer',                  'NAME.missing has no source file'),
    ('from .circle import Layer',                   'imports itself by way of NAME.circle'),
    ('from spider_plugin.files.cache import cache_dir\nclass A:\n    x = cache_dir', "uses spider_plugin's cache_dir outside of"),
    ('import spider_plugin.nn',                     'imports spider_plugin.nn as a module'),
    ('from spider_plugin.portable.source import latent', 'imports latent of spider_plugin.portable.source, which does not'),
    ('HERE = __file__',                             'uses __file__, which a snapshot does not have'),
    ('class A(dict):\n    def __init__(self):\n        super(A, self).__init__()', 'calls super.. with arguments'),
    ('def filter(x): ...',                          'has a name filter, as Python has'),
    ('from .tools import Layer; WIDTH = 3',         'has two statements in line'),
    ('def f(:',                                     'is no Python of this version'),
])
def test_what_is_not_portable_says_why(packages, statement, words):
    name = packages({'net.py': f'import torch\n{statement}\n', 'tools.py': 'class Layer: ...\n',
                     'circle.py': 'from .net import Net\nclass Layer: ...\n'})
    assert words.replace('NAME', name).split('..')[0] in not_portable(f'{name}.net')
    assert network_class(f'{name}.net', 'Net') == f'{name}.net.Net'
    line, = needed_package(f'{name}.net', '--cfg=mine')
    assert line.startswith(f'Note: snapshots open only where {name} is installed: --cfg=mine is not portable, since {name}.')

@pytest.mark.parametrize('statement, needed', [
    ('import PIL.Image as image',                               ['PIL']),
    ('from PIL import Image',                                   ['PIL']),
    ('def f():\n    import PIL',                                ['PIL']),
    ('import torch.nn.functional as F, numpy as np, json',      []),
    ('try:\n    import no_such_package\nexcept ImportError:\n    no_such_package = None', []),
    ('from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such_package\n    from .net import Net', []),
])
def test_other_packages_are_needed_where_a_snapshot_is_opened(packages, statement, needed):
    name = packages({'net.py': NET.format(statement, 'torch.nn.Linear(2, 2)')})
    assert not_portable(f'{name}.net') is None and needed_packages(f'{name}.net') == needed
    assert build(declare(f'{name}.net')).layer is not None
    assert needed_package(f'{name}.net', '--cfg=mine') == [
        f'Note: snapshots open only where {module} can be imported, which --cfg=mine uses.' for module in needed]

OPEN = """
import sys
sys.path[:0] = sys.argv[1:3]
from spider_plugin.snapshots.rebuild import load_generator, unpickle
for read in (unpickle, load_generator):
    try:
        read(sys.argv[3])
    except ValueError as error:
        print(error)
"""

def test_a_snapshot_without_its_packages_is_one_sentence(packages, tmp_path):
    helper = packages({}, 'helper')
    name = packages({'net.py': NET.format(f'import {helper}', 'torch.nn.Linear(2, 2)')})
    net = build(declare(f'{name}.net'))
    assert needed_packages(f'{name}.net') == [helper]
    snapshot = tmp_path / 'net.pkl'
    snapshot.write_bytes(pickle.dumps(dict(G=net, G_ema=net)))
    host = resource_dir('reference_host')
    done = subprocess.run([sys.executable, '-c', OPEN, host.parent, host, snapshot], text=True, capture_output=True,
                          cwd=tmp_path.parent)
    assert done.returncode == 0, done.stderr
    unpickled, read = done.stdout.splitlines()
    assert f'net.pkl needs the package {helper}, which cannot be imported here; install it' in unpickled
    assert f'net.pkl holds a Net, which is not a known class; install {helper}, {name}, or pass --trust-pickle' in read

#----------------------------------------------------------------------------
# Names.

@pytest.mark.parametrize('files, kind, name, where', [
    ({'net.py': NET.format('from .a import x\nfrom .b import y\nSIZE = 3', '1'), 'a.py': 'x = 1\n', 'b.py': 'y = 2\nSIZE = 4\n'},
     None, 'SIZE', ('NAME.b', 'NAME.net')),
    ({'net.py': NET.format('from .a import x\nimport numpy as F', '1'), 'a.py': 'import torch.nn.functional as F\nx = 1\n'},
     None, 'F', ('NAME.a', 'NAME.net')),
    ({'net.py': NET.format('from spider_plugin.portable.layers.equalized import EqualLinear\n'
                           'if 1:\n    def EqualLinear(): ...', '1')},
     None, 'EqualLinear', ('spider_plugin.portable.layers.equalized', 'NAME.net')),
    ({'net.py': NET.format('persistence = 3', '1')}, None, 'persistence', ('the bundle itself', 'NAME.net')),
    ({'net.py': NET.format('', '1'), 'kind.py': 'Net = 3\n'}, 'kind', 'Net', ('NAME.net', 'NAME.kind')),
])
def test_names_that_clash_are_one_sentence(packages, files, kind, name, where):
    package = packages(files)
    class_name = f'{package}.net.Net'
    with pytest.raises(SpiderError) as caught:
        class_name = declare(f'{package}.net')
        network_class(f'{package}.net', 'Net')
        bundle = class_name.removeprefix('spider_plugin.bundles.').removesuffix('.Net')
        if kind:
            registry.mappings.register(package)(MappingKind(16, 4, module=f'{package}.kind'))
            bundle = f'{bundle}_with_{package}'
        importlib.import_module(f'spider_plugin.bundles.{bundle}')
    first, second = (module.replace('NAME', package) for module in where)
    assert caught.value.message == (f'The modules {first} and {second} both have the name {name} at their top level, for '
                                    f'different things, and a snapshot joins them; rename it in {second}.')

def test_the_same_import_is_no_clash(packages):
    name = packages({'net.py': NET.format('from .a import x\nfrom torch.nn import functional as F\n__all__ = ["Net"]', '1'),
                     'a.py': 'import torch.nn.functional as F\nx = 1\n__all__ = ["x"]\n'})
    assert build(declare(f'{name}.net')).layer == 1

def test_a_kind_over_a_host_does_not_take_the_names_of_the_bundle(packages):
    name = packages({'kind.py': 'class SpiderMapping: ...\n'})
    registry.mappings.register(name)(MappingKind(16, 4, module=f'{name}.kind'))
    with pytest.raises(SpiderError, match=f'the bundle itself and {name}.kind both have the name SpiderMapping'):
        bundle_source(f'spider_with_{name}_on_training__networks_stylegan2')

MODULES = ('dcgan', 'fastgan', 'my_net', 'my_net.net', 'my.net', 'my__net', 'my_.net', 'my._net', 'my.net_', 'a_on_b', 'a.on_b',
           'a_on.b', 'spider_on_training.networks', 'dcgan_with_palette', 'a_with.b', 'a.b_on_', 'a.b.c', 'a.b_c', 'a_b.c',
           'net__')

def test_a_bundle_has_one_name_whatever_the_package_is_called():
    own = [bundle_of(f'spider_plugin.portable.generators.{name}') for name in ('dcgan', 'fastgan', 'pggan')]
    names = [bundle_of(module) for module in MODULES]
    assert len({*own, *names}) == len(own) + len(names)
    for name in names:
        assert str(name).isidentifier() and BundleName.parse(name) == BundleName(declared=name)
    assert bundle_of('sketch_gan.net') == 'sketch_gan__net'

def test_kinds_of_similar_names_have_bundles_of_their_own(packages):
    for kind in ('my-kind', 'mykind', 'my_kind'):
        registry.mappings.register(kind)(MappingKind(16, 4, module='torch'))
    names = {kind: str(BundleName(declared='dcgan', kind=kind)) for kind in ('my-kind', 'mykind', 'my_kind')}
    assert {kind: BundleName.parse(name).kind for kind, name in names.items()} == {kind: kind for kind in names}

def test_a_host_module_that_a_name_cannot_hold_is_refused():
    with pytest.raises(ValueError, match='two underscores'):
        class_with('training.my__net.Generator', 'spider')

@pytest.mark.parametrize('package', ['dcgan', 'spider_on_net', 'two__underscores'])
def test_a_package_of_one_module_of_any_name_trains_its_class(packages, tmp_path, monkeypatch, package):
    (tmp_path / f'{package}.py').write_text(NET.format('', 'torch.nn.Linear(2, 3)'))
    importlib.invalidate_caches()
    class_name = declare(package)
    assert build(class_name).layer.weight.shape == torch.Size([3, 2])
    assert network_class(package, 'Net') == class_name
