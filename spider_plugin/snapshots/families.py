"""The family of a network in a pickle, and the known class on this machine that may be built for it.

The class name in a record is only a name. Several hosts call their class Generator, so the tensors decide; the class is then
looked up in the host that is running: the checkout's on the path, else the reference host's, or a bundle. Two closed tables hold
the families: HOST_FAMILIES, and the declared generators in registry.generators."""

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from spider_plugin import registry
from spider_plugin.bundles.names import PACKAGE, BundleName, class_with, features_named, host_class, with_mapping_kind
from spider_plugin.bundles.source import packages_stated
from spider_plugin.errors import SpiderError, shown
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.drawing import CAMERAS
from spider_plugin.snapshots.fork_defaults import changed_defaults
from spider_plugin.snapshots.records import PersistentRecord

#----------------------------------------------------------------------------
# The table of hosts' families.

FASTGAN = 'pg_modules.networks_fastgan.Generator'    # pickled by reference

@dataclasses.dataclass(frozen=True)
class HostFamily:
    """modules:     where hosts keep its Generator, the preferred first.
    tensor:         name of a tensor that only this family has.
    mapping:        class of its mapping network in that module, where that is not StyleGAN's MappingNetwork.
    embedded:       whether the reference host has it.
    arguments:      record -> arguments that hosts have different defaults for, or that the pickle does not hold."""

    modules:    tuple
    tensor:     str
    mapping:    str | None = None
    embedded:   bool = True
    arguments:  Callable = lambda record: {}

@dataclasses.dataclass(frozen=True)
class Known:
    """A network in a pickle for which this machine has a known class.

    family:     key of HOST_FAMILIES, or the name of a declared generator.
    class_name: dotted name of the class, and `kwargs`, its keyword arguments, in the form that this class takes.
    bare_class: the class without the features of a Spider generator, which needs no source to be built."""

    family:     str
    class_name: str
    bare_class: str
    kwargs:     dict

def declared_generator(class_name):
    """(name, PluginGenerator) of the declared generator whose class is called so; None for any other."""
    return next(((name, declared) for name, declared in registry.generators.items()
                 if declared.module is not None and declared.generator == class_name), None)

def network_family(record):
    """Name of a declared generator, else a key of HOST_FAMILIES, which a Spider generator shares with its host; None for any
    other network."""
    if (found := declared_generator(record.class_name)) is not None:
        return found[0]
    if record.class_name == FASTGAN or features_named(record.class_name) is not None:
        return family_of_tensors(record.state_dict())
    return None

def family_of_tensors(names):
    """The host family that has a tensor of these names; None for none of them."""
    return next((name for name, family in HOST_FAMILIES.items() if family.tensor in names), None)

def known_class(record, path):
    """The Known for a record; `path` is for messages. Raises SpiderError for a network without a known class."""
    family = network_family(record)
    if family is None and 'rendering_kwargs' in record.init_kwargs:
        raise SpiderError(f'{path} holds a {record.class_name}, which {CAMERAS}.')
    if family is None:
        remedy = _install_packages(record) or ('give a snapshot of a StyleGAN2, StyleGAN3 or FastGAN generator or of a generator '
                                               'of the plugin')
        raise SpiderError(f'{path} holds a {record.class_name}, which is not a known class; {remedy}, or pass --trust-pickle if '
                          'you trust the file.')
    _check_arguments(record, path)
    add_host_to_path()
    if (found := declared_generator(record.class_name)) is not None:    # a checkout may have a family of the same name
        bare, kwargs = found[1].class_name, dict(record.init_kwargs)
        return Known(family, _with_kind(bare, record, path), bare, kwargs)
    module = host_module(family)
    if module is None:
        raise SpiderError(f'{path} holds a {family} generator, which this host does not have; set PYTHONPATH to the checkout '
                          'that wrote it.')
    names = {False: f'{module}.Generator', True: f'{module}.Generator'}     # with the source or without: dotted name
    for feature in features_named(record.class_name) or ():
        mapping = HOST_FAMILIES[family].mapping if feature == 'spider' else None
        names[True] = class_with(names[True], feature if mapping is None else 'mapped', mapping)
        names[False] = names[False] if feature == 'spider' else class_with(names[False], feature)
    return Known(family, _with_kind(names[True], record, path), names[False], _arguments(record, family, module))

def _check_arguments(record, path):
    """A source is read at one place, the keyword `spider`. Raises SpiderError for one by position, by its own name, or among the
    arguments of a part, and for anything but numbers by position, which no host passes."""
    nested = [value for value in record.init_kwargs.values() if isinstance(value, dict) and value is not
              record.init_kwargs.get('spider')]
    if not all(isinstance(value, (int, float)) for value in record.init_args) or 'source' in record.init_kwargs or \
            any(name in value for value in nested for name in ('spider', 'source')):
        raise SpiderError(f'{path} holds arguments that no host writes, a source in another place than `spider` for example; it '
                          'was not opened: use a snapshot from where you trust it.')

def _install_packages(record):
    """The remedy where a package is missing of which the snapshot says that it was made; '' where it says nothing."""
    packages = packages_stated(record.module_src)
    return packages and f'install {shown(packages, 80)}'

def _with_kind(class_name, record, path):
    """The class in a bundle that has the mapping kind of the snapshot."""
    spider = record.init_kwargs.get('spider')
    kind = spider.get('mapping') if isinstance(spider, dict) else None
    if kind is None:
        return class_name
    if kind not in registry.mappings:
        remedy = _install_packages(record) or 'install the package that adds it'
        raise SpiderError(f'{path} was trained with the mapping {shown(kind, 40)!r}, which no installed package has; {remedy}, '
                          'or pass --trust-pickle if you trust the file.')
    return with_mapping_kind(class_name, kind)

def without_source(name):
    """The class of the same network that needs no source to be built."""
    if '_on_' not in name:
        return name
    features, bare = host_class(name)
    for feature in [feature for feature in features if feature not in ('spider', 'mapped')]:
        bare = class_with(bare, feature)
    return bare

def class_named(name):
    """The class that a generator.json names. Raises SpiderError for any that is not in the two tables, which is not imported."""
    module, _, class_name = name.rpartition('.')
    try:
        known = _is_declared(name) or _is_of_host(name, module, class_name)
    except (KeyError, ValueError):
        known = False
    if not known:
        raise SpiderError(f'{shown(name)} is not a known class.')
    return getattr(importlib.import_module(module), class_name)

def _is_declared(name):
    """Whether it is the class of a declared generator, in its bundle with or without a mapping kind of another package."""
    kinds = (None, *registry.mappings)
    classes = [declared.class_name for declared in registry.generators.values() if declared.module is not None]
    return name in classes or any(name == with_mapping_kind(stock, kind) for stock in classes for kind in kinds
                                  if stock.startswith(PACKAGE))

def _is_of_host(name, module, class_name):
    """Whether it is a Generator of a family's module, or one with features over it."""
    modules = [known for family in HOST_FAMILIES.values() for known in family.modules]
    if not module.startswith(PACKAGE):
        return module in modules and class_name == 'Generator'
    bundle = BundleName.parse(module[len(PACKAGE):])
    mappings = [family.mapping for family in HOST_FAMILIES.values()]
    return bundle.host in modules and bundle.mapping in mappings and class_name == bundle.class_name and \
        bundle.network == 'Generator' and \
        name == f'{PACKAGE}{bundle}.{class_name}'

def host_module(family):
    """The module with this family's Generator in the host that is running, or None."""
    add_host_to_path()
    modules = HOST_FAMILIES[family].modules if family in HOST_FAMILIES else ()
    return next((module for module in modules if _is_here(module)), None)

def lacks_family(family):
    """Whether the host that is running lacks a family that the reference host has."""
    return family in HOST_FAMILIES and HOST_FAMILIES[family].embedded and host_module(family) is None

def add_host_to_path():
    """Makes `training`, `torch_utils` and `dnnlib` importable: a checkout's when one is on the path already."""
    if importlib.util.find_spec('torch_utils') is None:
        sys.path.append(str(resource_dir('reference_host')))

def checkout_may_help():
    """Return whether PYTHONPATH could lead to the modules of another checkout: not where a checkout is on the path already, nor
    in a host's script, whose folder comes first."""
    add_host_to_path()
    found = importlib.util.find_spec('torch_utils')
    folder = resource_dir('reference_host').resolve()
    reference = found is None or folder in [Path(place).resolve().parent for place in found.submodule_search_locations or ()]
    script = getattr(sys.modules.get('__main__'), '__file__', None)
    return reference and not (script and (Path(script).parent / 'torch_utils').is_dir())

def _file_of(module):
    """The file of a module that is not imported; None where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:     # not even its package
        return None
    return spec and spec.origin

def _is_here(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:     # not even its package
        return False

#----------------------------------------------------------------------------
# Arguments: as recorded, in the form that this host's class takes, with what this host's defaults may not be.

_NESTED = ('training.networks', 'pg_modules.networks_fastgan')  # their Generators take synthesis_kwargs as one dict
_OUTER  = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs', 'ngf', 'cond', 'spider', 'dsc')

def _arguments(record, family, module):
    kwargs, nested = dict(record.init_kwargs), dict(record.init_kwargs.get('synthesis_kwargs') or {})
    kwargs.pop('synthesis_kwargs', None)
    kwargs |= nested | HOST_FAMILIES[family].arguments(record)
    if record.class_name == 'Generator':    # a bundle is made of the plugin's own text
        kwargs |= changed_defaults(record.module_src, _file_of(module), kwargs)
    if module not in _NESTED:
        return kwargs
    kwargs.pop('fused_modconv_default', None)       # a matter of speed, which stylegan2-ada-pytorch does not know
    outer = set(_OUTER)
    if isinstance(record.init_kwargs.get('synthesis_kwargs'), dict):    # a fork's Generator may have arguments of its own
        outer |= record.init_kwargs.keys() - nested.keys()
    return dict({key: value for key, value in kwargs.items() if key in outer},
                synthesis_kwargs={key: value for key, value in kwargs.items() if key not in outer})

def _part(record, *names):
    """The module of a record by that path; an empty record where there is none."""
    for name in names:
        record = record.state.get('_modules', {}).get(name)
        if not isinstance(record, PersistentRecord):
            return PersistentRecord('', '')
    return record

def _block_options(record):
    """What stylegan2-ada-pytorch and stylegan3 have different defaults for, as the layers say."""
    options, synthesis = {}, _part(record, 'synthesis')
    blocks = [_part(synthesis, name).state for name in synthesis.state.get('_modules', {})]
    if blocks and all('use_fp16' in block for block in blocks):
        options['num_fp16_res'] = sum(bool(block['use_fp16']) for block in blocks)
    layer = _part(synthesis, 'b4', 'conv1').state
    if 'conv_clamp' in layer:
        options['conv_clamp'] = layer['conv_clamp']
    return options

def fastgan_options(record):
    """The arguments of a FastGAN generator, which its pickle does not hold, from its sizes; none for a record that holds them."""
    if record.class_name != FASTGAN:
        return {}
    tensors = record.state_dict()
    options = {key: record.state.get(key) for key in ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')}
    options['ngf'] = tensors['synthesis.init.init.0.weight_orig'].shape[1] // 32
    options['cond'] = int('synthesis.embed.weight' in tensors)
    options['lite'] = not {'synthesis.feat_8.5.weight_orig', 'synthesis.feat_8.conv2.weight_orig'} & tensors.keys()
    if options['cond']:
        options['num_classes'] = len(tensors['synthesis.embed.weight'])
    return options

#----------------------------------------------------------------------------

HOST_FAMILIES = {
    'stylegan2': HostFamily(('training.networks_stylegan2', 'pg_modules.networks_stylegan2', 'training.networks'),
                            'synthesis.b4.const', arguments=_block_options),
    'stylegan3': HostFamily(('training.networks_stylegan3',), 'synthesis.input.freqs'),
    'fastgan':   HostFamily(('pg_modules.networks_fastgan',), 'synthesis.init.init.0.weight_orig', mapping='DummyMapping',
                            embedded=False, arguments=fastgan_options),
}

#----------------------------------------------------------------------------
