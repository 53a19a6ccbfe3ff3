"""Bundles: portable modules joined into one module source that a host's pickle can carry.

A host's snapshot embeds the source of the module in which a class was defined, and nothing of what that module imports.
So that portable code is written once, in readable files, a bundle concatenates the modules a class needs, drops their
imports of each other, and lets the host's `torch_utils.persistence` decorate the result. Importing
`spider_plugin.bundles.<name>` makes the bundle `<name>`:

    spider_on_training__networks_stylegan2            SpiderGenerator over training.networks_stylegan2.Generator
    mapped_on_pg_modules__networks_fastgan__Dummy     SpiderGenerator over pg_modules.networks_fastgan.Generator, whose mapping
                                                      network is the Dummy of that module: every mapping kind but `residual`
    dcgan                                             DCGANGenerator, DCGANDiscriminator
"""

import ast
import importlib.util
from pathlib import Path

from spider_plugin import __version__

_SOURCES = ['torch_utils_ext.ops.bit_hash', 'spider_plugin.sources.key', 'spider_plugin.sources.bank']
_RECIPES = {
    'spider': _SOURCES + ['spider_plugin.networks.mapping', 'spider_plugin.networks.spider'],
    'mapped': _SOURCES + ['spider_plugin.networks.mapping', 'spider_plugin.networks.spider'],
    'dcgan':  _SOURCES + ['spider_plugin.networks.mapping', 'spider_plugin.networks.dcgan'],
}
_OURS = ('spider_plugin', 'torch_utils_ext')

_HEADER = '''"""Portable module of the spider plugin {version} (MIT licence), snapshot format 1. Made by joining its parts; see
the plugin's spider_plugin/io/bundler.py."""

from torch_utils import persistence
{host_import}'''

_FOOTERS = {'spider': '''
class SpiderMapping(SpiderMappingMixin, _host.MappingNetwork):
    pass

class SpiderSynthesis(SpiderSynthesisMixin, _host.SynthesisNetwork):
    pass

SpiderMapping = persistence.persistent_class(SpiderMapping)
SpiderSynthesis = persistence.persistent_class(SpiderSynthesis)

class SpiderGenerator(SpiderGeneratorMixin, _host.Generator):
    mapping_class, synthesis_class = SpiderMapping, SpiderSynthesis

SpiderGenerator = persistence.persistent_class(SpiderGenerator)
''', 'mapped': '''
class SpiderMapping(SpiderMappingMixin, _host.{mapping}):
    pass

SpiderMapping = persistence.persistent_class(SpiderMapping)

class SpiderGenerator(SpiderGeneratorMixin, _host.Generator):
    mapping_class = SpiderMapping

SpiderGenerator = persistence.persistent_class(SpiderGenerator)
'''}

#----------------------------------------------------------------------------

def spider_class_name(host_class_name, mapping=None):
    """Dotted name of the Spider generator over a host's: `pkg.mod.Generator` -> `spider_plugin.bundles.spider_on_...`.

    mapping: name of the class of its mapping network in the same module, where the module has not StyleGAN's MappingNetwork
    and SynthesisNetwork.
    Raises ValueError where the host's class is not called Generator."""
    module, _, name = host_class_name.rpartition('.')
    if name != 'Generator' or not module:
        raise ValueError(f'no Spider generator for {host_class_name}: expected a class named Generator in a module')
    bundle = f'spider_on_{module}' if mapping is None else f'mapped_on_{module}.{mapping}'
    return f'spider_plugin.bundles.{bundle.replace(".", "__")}.SpiderGenerator'

#----------------------------------------------------------------------------

def bundle_source(name):
    """Source text of the bundle `name`. Raises KeyError where there is no such recipe."""
    recipe, _, host_module = name.partition('_on_')
    host_module, mapping = host_module.replace('__', '.'), None
    if recipe == 'mapped':
        host_module, _, mapping = host_module.rpartition('.')
    host_import = f'import {host_module} as _host\n' if host_module else ''
    parts = [_HEADER.format(version=__version__, host_import=host_import)]
    classes = []
    for module in _RECIPES[recipe]:
        text, names = _portable_part(module)
        parts.append(f'\n# {module}\n\n{text}')
        classes += names
    parts.append('\n# Classes that pickles refer to.\n\n')
    parts += [f'{c} = persistence.persistent_class({c})\n' for c in classes if not c.endswith('Mixin')]
    if recipe in _FOOTERS:
        parts.append(_FOOTERS[recipe].format(mapping=mapping))
    return ''.join(parts)

#----------------------------------------------------------------------------
# One module's text without its docstring and its imports of ours, and the names of its classes.

def _portable_part(module):
    text = Path(importlib.util.find_spec(module).origin).read_text(encoding='utf-8')
    tree = ast.parse(text)
    drop = set()
    for i, node in enumerate(tree.body):
        docstring = i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or (isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] in _OURS):
            drop.update(range(node.lineno, node.end_lineno + 1))
    lines = [line for i, line in enumerate(text.splitlines(), start=1) if i not in drop]
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    return '\n'.join(lines).strip() + '\n', classes

#----------------------------------------------------------------------------
