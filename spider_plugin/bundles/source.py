"""Bundles: portable modules joined into one module source that a host's pickle can carry.

A host's snapshot embeds the source of the module in which a class was defined, and nothing of what that module imports.
So that portable code is written once, in readable files, a bundle joins a portable module with those that it imports, drops
these imports, and lets the host's `torch_utils.persistence` decorate the classes. Importing `spider_plugin.bundles.<name>`
makes the bundle `<name>`: one of RECIPES, or features over a host's module, in the order of FEATURES:

    dcgan                                             DCGANGenerator, DCGANDiscriminator
    dcgan_paper                                       RadfordGenerator, RadfordDiscriminator
    pggan                                             PGGANGenerator, PGGANDiscriminator
    fastgan                                           FastGANGenerator
    projected                                         ProjectedDiscriminator
    spider_on_training__networks_stylegan2            SpiderGenerator over training.networks_stylegan2.Generator
    spider_dsc_on_training__networks_stylegan3        SpiderDSCGenerator over training.networks_stylegan3.Generator
    mapped_on_pg_modules__networks_fastgan__Dummy     SpiderGenerator over pg_modules.networks_fastgan.Generator, whose mapping
                                                      network is the Dummy of that module: every mapping kind but `residual`
"""

import ast
import dataclasses
import importlib.util
from pathlib import Path

from spider_plugin import __version__

#----------------------------------------------------------------------------
# The tables.

RECIPES = {     # bundles without a host: their module
    'dcgan':       'spider_plugin.portable.generators.dcgan',
    'dcgan_paper': 'spider_plugin.portable.generators.dcgan_paper',
    'pggan':       'spider_plugin.portable.generators.pggan',
    'fastgan':     'spider_plugin.portable.generators.fastgan',
    'projected':   'spider_plugin.portable.discriminator.projected',
}

@dataclasses.dataclass(frozen=True)
class Feature:
    """Something that a generator has and the host's own has not.

    label:  its part of the generator's class name; the mixin of the generator is LABELGeneratorMixin.
    module: the portable module that it needs.
    parts:  (class, its mixin, the host's class it is over, attribute of the generator that it is): parts of the network. Each
            has the host's module as `host`."""

    label:  str
    module: str
    parts:  tuple

_MAPPING, _SYNTHESIS = (f'Spider{part}' for part in ('Mapping', 'Synthesis'))

FEATURES = {    # in the order in which they lie over each other, the outermost first
    'spider': Feature('Spider', 'spider_plugin.portable.source.spider', (
        (_MAPPING,   f'{_MAPPING}Mixin',   'MappingNetwork',   'mapping_class'),
        (_SYNTHESIS, f'{_SYNTHESIS}Mixin', 'SynthesisNetwork', 'synthesis_class'))),
    'mapped': Feature('Spider', 'spider_plugin.portable.source.spider', (
        (_MAPPING,   f'{_MAPPING}Mixin',   '{mapping}',        'mapping_class'),)),
    'dsc':    Feature('DSC',    'spider_plugin.portable.layers.dsc', (
        ('DSCLayer',  'dsc_layer_mixin(_host)',  'SynthesisLayer', 'dsc_layer'),)),
    'fast':   Feature('Fast',   'spider_plugin.portable.layers.modconv', (
        ('FastLayer', 'fast_layer_mixin(_host)', 'SynthesisLayer', 'fast_layer'),)),
}

_OURS    = ('spider_plugin', 'torch_utils_ext')
_PACKAGE = 'spider_plugin.bundles.'

#----------------------------------------------------------------------------
# Names.

def class_with(class_name, feature, mapping=None):
    """Dotted name of the generator that has a feature more: `pkg.mod.Generator` and 'spider' ->
    `spider_plugin.bundles.spider_on_pkg__mod.SpiderGenerator`, this and 'dsc' -> `...spider_dsc_on_pkg__mod.SpiderDSCGenerator`.

    mapping: for 'mapped', the class of the host's mapping network in the same module.
    Raises ValueError where the host's class is not called Generator."""
    features, module, there = _parse(class_name)
    features = [name for name in FEATURES if name in (*features, feature)]
    bundle = f'{"_".join(features)}_on_{module}' + ''.join(f'.{name}' for name in (mapping or there,) if name)
    return f'{_PACKAGE}{bundle.replace(".", "__")}.{_generator_name(features)}'

def host_class(class_name):
    """(features, the host's class under them): the way back from class_with; ([], class_name) for a host's own."""
    features, module, _ = _parse(class_name)
    return features, f'{module}.Generator'

def features_named(name):
    """Features of a generator by the name of its class, `SpiderDSCGenerator` -> ['spider', 'dsc'], [] for `Generator`; None for
    the name of no generator that a bundle makes."""
    choices = [[]]
    for feature in ('spider', 'dsc', 'fast'):
        choices += [[*chosen, feature] for chosen in choices]
    return next((chosen for chosen in choices if _generator_name(chosen) == name), None)

def spider_class_name(host_class_name, mapping=None):
    """The Spider generator over a host's; mapping: name of the class of its mapping network in the same module, where the
    module has not StyleGAN's MappingNetwork and SynthesisNetwork."""
    return class_with(host_class_name, 'spider' if mapping is None else 'mapped', mapping)

def _generator_name(features):
    return ''.join(FEATURES[name].label for name in features) + 'Generator'

def _parse(class_name):
    """(features, module of the host, class of its mapping network or None)."""
    module, _, name = class_name.rpartition('.')
    if module.startswith(_PACKAGE) and '_on_' in module:
        return _parse_bundle(module[len(_PACKAGE):])
    if name != 'Generator' or not module:
        raise ValueError(f'nothing of ours goes over {class_name}: expected a class named Generator in a module')
    return [], module, None

def _parse_bundle(name):
    features, _, module = name.partition('_on_')
    features, module = features.split('_'), module.replace('__', '.')
    if 'mapped' not in features:
        return features, module, None
    module, _, mapping = module.rpartition('.')
    return features, module, mapping

#----------------------------------------------------------------------------
# Source.

def bundle_source(name):
    """Source text of the bundle `name`. Raises KeyError where there is none of that name."""
    if '_on_' in name:
        features, module, mapping = _parse_bundle(name)
        wanted, host_import = [FEATURES[feature].module for feature in features], f'import {module} as _host\n'
    else:
        features, wanted, host_import = [], [RECIPES[name]], ''
    text = [_HEADER.format(version=__version__, host_import=host_import)]
    classes = []
    for part in _portable_parts(wanted):
        text.append(f'\n# {part.module}\n\n{part.text}')
        classes += part.classes
    text.append('\n# Classes that pickles refer to.\n\n')
    text += [f'{c} = persistence.persistent_class({c})\n' for c in classes]
    if features:
        text.append(_generator(features, mapping))
    return ''.join(text)

_HEADER = '''"""Portable module of the spider plugin {version} (MIT licence), snapshot format 1. Made by joining its parts; see
the plugin's spider_plugin/bundles/source.py."""

from torch_utils import persistence
{host_import}'''

def _generator(features, mapping):
    """Text of the classes of a generator with these features, over those of `_host`."""
    text, attributes = [], []
    for part in (part for feature in features for part in FEATURES[feature].parts):
        name, mixin, base, attribute = part
        text.append(_class(name, [mixin, f'_host.{base.format(mapping=mapping)}'], [('host', '_host')]))
        attributes.append((attribute, name))
    mixins = [f'{FEATURES[feature].label}GeneratorMixin' for feature in features]
    return ''.join(text) + _class(_generator_name(features), [*mixins, '_host.Generator'], attributes)

def _class(name, bases, attributes):
    body = ''.join(f'    {attribute} = {value}\n' for attribute, value in attributes)
    return f'\nclass {name}({", ".join(bases)}):\n{body}\n{name} = persistence.persistent_class({name})\n'

#----------------------------------------------------------------------------
# Portable modules: a module's text without its docstring and its imports of ours, and the classes that pickles may refer to,
# which are all but mixins and functions of autograd.

@dataclasses.dataclass(frozen=True)
class _Part:
    module:  str
    text:    str
    classes: list

def _portable_parts(modules):
    """Those modules and what they import of ours, each once and after what it imports."""
    parts = {}
    def add(module):
        if module in parts:
            return
        text = Path(importlib.util.find_spec(module).origin).read_text(encoding='utf-8')
        tree = ast.parse(text)
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] in _OURS]
        for node in imports:
            if any(alias.asname for alias in node.names):
                raise ValueError(f'{module} gives a name of {node.module} another name, which is lost where they are joined')
            add(node.module)
        parts[module] = _Part(module, _without(text, imports, ast.get_docstring(tree) and tree.body[0]), _classes(tree))
    for module in modules:
        add(module)
    return parts.values()

def _without(text, nodes, docstring):
    drop = {line for node in [*nodes, *([docstring] if docstring else [])] for line in range(node.lineno, node.end_lineno + 1)}
    return '\n'.join(line for i, line in enumerate(text.splitlines(), start=1) if i not in drop).strip() + '\n'

def _classes(tree):
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.endswith('Mixin')
            and not any(ast.unparse(base).endswith('Function') for base in node.bases)]

#----------------------------------------------------------------------------
