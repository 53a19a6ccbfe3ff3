"""The source text of a bundle: portable modules joined into one module that a host's pickle can carry.

A host's snapshot embeds the source of the module in which a class was defined, and nothing of what that module imports. Portable
code is written once, in readable files; a bundle joins a portable module with those that it imports, drops these imports, and
lets the host's `torch_utils.persistence` decorate the classes. Importing `spider_plugin.bundles.<name>` makes the bundle `<name>`
(names.py)."""

from spider_plugin import __version__
from spider_plugin.bundles.names import FEATURES, BundleName, declared_module, kind_module
from spider_plugin.bundles.parts import join, not_portable, package_of

#----------------------------------------------------------------------------

def bundle_source(name):
    """Source text of the bundle `name`. Raises KeyError where there is none of that name, ValueError where its modules cannot be
    joined: a SpiderError where names of them clash."""
    name = BundleName.parse(name)
    modules = [FEATURES[feature].module for feature in name.features] or [declared_module(name.declared)]
    kind = kind_module(name.kind)
    imported = kind if kind is not None and not_portable(kind) else None
    if kind is not None and not imported:
        modules.append(kind)
    parts = join(modules, taken=_names_taken(name, imported))
    text = [_header(name, parts, imported)]
    for part in parts:
        text.append(f'\n# {part.module}\n\n{part.text}')
    classes = [c for part in parts for c in part.classes]
    if imported:
        text.append(_IMPORTED_KIND.format(module=imported, kind=name.kind))
    text.append('\n# Classes that pickles refer to.\n\n')
    text += [f'{c} = persistence.persistent_class({c})\n' for c in classes]
    if name.host:
        text.append(_network(name))
    return ''.join(text)

_HEADER = '''"""Portable module of the spider plugin {version} (MIT licence), snapshot format 1. Made by joining its parts; see
the plugin's spider_plugin/bundles/source.py."""

{packages}{future}from torch_utils import persistence
{host}'''

_PACKAGES = '# Packages: '      # a line of the source: of what, beside the plugin, it was made, and what must be installed

def _header(name, parts, imported):
    """imported: the module of a mapping kind that stays in its package, or None."""
    packages = {package_of(module) for module in (*(part.module for part in parts), imported) if module}.union(
        *(part.needs for part in parts)) - {'spider_plugin', 'torch_utils_ext'}
    futures = sorted(set().union(*(part.futures for part in parts)))
    return _HEADER.format(
        version=__version__, packages=f'{_PACKAGES}{", ".join(sorted(packages))}\n\n' if packages else '',
        future=f'from __future__ import {", ".join(futures)}\n\n' if futures else '',
        host=f'import {name.host} as _host\n' if name.host else '')

def packages_stated(source):
    """The packages that the source of a bundle names, 'a, b'; '' where it names none."""
    return next((line.removeprefix(_PACKAGES) for line in source.splitlines()[:8] if line.startswith(_PACKAGES)), '')

def _names_taken(name, imported):
    """Names that the text binds around its parts."""
    classes = [part[0] for feature in name.features for part in FEATURES[feature].parts]
    return ['persistence', *(['_host', name.class_name, *classes] if name.host else []), *(['_installed'] if imported else [])]

# A mapping kind whose module is not portable stays in its package; snapshots open where that package and the plugin are.

_IMPORTED_KIND = '''
import {module}
from spider_plugin.portable.source import mapping as _installed
MAPPING_INPUTS[{kind!r}] = _installed.MAPPING_INPUTS[{kind!r}]
'''

def _network(name):
    """Text of the classes of a network with features, over those of `_host`."""
    text, attributes = [], []
    for part in (part for feature in name.features for part in FEATURES[feature].parts):
        class_name, mixin, base, attribute = part
        text.append(_class(class_name, [mixin, base.format(mapping=name.mapping or 'MappingNetwork')], [('host', '_host')]))
        attributes.append((attribute, class_name))
    mixins = [f'{FEATURES[feature].label}{name.network}Mixin' for feature in name.features]
    return ''.join(text) + _class(name.class_name, [*mixins, f'_host.{name.network}'], attributes)

def _class(name, bases, attributes):
    body = ''.join(f'    {attribute} = {value}\n' for attribute, value in attributes)
    return f'\nclass {name}({", ".join(bases)}):\n{body}\n{name} = persistence.persistent_class({name})\n'

#----------------------------------------------------------------------------
