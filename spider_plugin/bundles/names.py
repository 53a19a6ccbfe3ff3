"""Names of bundles and of the classes in them; snapshots and configs hold these names.

    spider_on_training__networks_stylegan2            SpiderGenerator over training.networks_stylegan2.Generator
    spider_dsc_on_training__networks_stylegan3        SpiderDSCGenerator over training.networks_stylegan3.Generator
    fastdisc_on_training__networks_stylegan2          FastDiscriminator over training.networks_stylegan2.Discriminator
    mapped_on_pg_modules__networks_fastgan__Dummy     SpiderGenerator over pg_modules.networks_fastgan.Generator, whose mapping
                                                      network is the Dummy of that module: every mapping kind but `residual`
    spider_on_training__networks____maps__Mapper      SpiderGenerator over training.networks.Generator, whose mapping network is
                                                      the class that this module reaches as maps.Mapper
    dcgan                                             the classes of spider_plugin.portable.generators.dcgan
    my_package__net                                   the classes of my_package.net, which another package declares
    my_net__                                          those of my_net, a package of one module
    dcgan_with_palette                                dcgan, and the mapping kind `palette` of another package; of a kind's name,
                                                      H stands for "-" and U for "_"
    spider_with_palette_on_training__networks_stylegan2
"""

import dataclasses
import hashlib
import re

from spider_plugin import registry

PACKAGE   = 'spider_plugin.bundles.'
_PORTABLE = 'spider_plugin.portable.'

#----------------------------------------------------------------------------
# Features of a generator, or of a discriminator, over a host's.

@dataclasses.dataclass(frozen=True)
class Feature:
    """Something that a bundle adds to a host's network.

    label:   its part of the network's class name; the mixin of the network is LABELGeneratorMixin, or LABELDiscriminatorMixin.
    module:  the portable module that it needs.
    parts:   (class, its mixin, the class of the host's module `_host` it is over, attribute of the network that it is): parts of
             the network. Each has the host's module as `host`. {mapping} is the mapping network's class.
    network: 'Generator' or 'Discriminator'."""

    label:   str
    module:  str
    parts:   tuple
    network: str = 'Generator'

_MAPPING, _SYNTHESIS = (f'Spider{part}' for part in ('Mapping', 'Synthesis'))

FEATURES = {    # in the order in which they lie over each other, the outermost first
    'spider': Feature('Spider', f'{_PORTABLE}source.spider', (
        (_MAPPING,   f'{_MAPPING}Mixin',   '_host.{mapping}',        'mapping_class'),
        (_SYNTHESIS, f'{_SYNTHESIS}Mixin', '_host.SynthesisNetwork', 'synthesis_class'))),
    'mapped': Feature('Spider', f'{_PORTABLE}source.spider', (
        (_MAPPING,   f'{_MAPPING}Mixin',   '_host.{mapping}',        'mapping_class'),)),
    'dsc':    Feature('DSC',    f'{_PORTABLE}layers.dsc', (
        ('DSCLayer',  'dsc_layer_mixin(_host)',  '_host.SynthesisLayer', 'dsc_layer'),
        ('DSCToRGB',  'ToRGBMixin',              'to_rgb_layer(_host)',  'dsc_to_rgb'))),
    'fast':   Feature('Fast',   f'{_PORTABLE}layers.modconv', (
        ('FastLayer', 'fast_layer_mixin(_host)', '_host.SynthesisLayer', 'fast_layer'),
        ('FastToRGB', 'ToRGBMixin',              'to_rgb_layer(_host)',  'fast_to_rgb'))),
    'fastdisc': Feature('Fast', f'{_PORTABLE}layers.fast_conv', (
        ('FastConv2d', 'FastConv2dMixin',        '_host.Conv2dLayer',    'fast_conv2d'),), network='Discriminator'),
}

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class BundleName:
    """The parts of a bundle's name.

    features:   keys of FEATURES, over the module `host`; none for a declared network.
    host:       the host's module.
    mapping:    class of the host's mapping network, by the dotted path at which that module has it; None for MappingNetwork.
    declared:   bundle of a declared network, as `bundle_of` names it.
    kind:       a mapping kind of another package, whose module is joined; None for a kind of the plugin."""

    features: tuple = ()
    host:     str | None = None
    mapping:  str | None = None
    declared: str | None = None
    kind:     str | None = None

    @classmethod
    def parse(cls, text):
        """The parts of a name, without `spider_plugin.bundles.`. Raises KeyError for a name of another form."""
        head, over_host, host = text.partition('_on_')
        head, _, kind = head.partition('_with_')
        kind = _kind_named(kind) if kind else None
        if not over_host:
            return cls(declared=head, kind=kind)
        host, _, mapping = (part.replace('__', '.') for part in host.partition(_BELOW))
        features = tuple(head.split('_'))
        if not set(features) <= set(FEATURES):
            raise KeyError(text)
        if 'mapped' in features and not mapping:
            host, _, mapping = host.rpartition('.')
        return cls(features, host, mapping or None, kind=kind)

    def __str__(self):
        kind = f'_with_{_slug(self.kind)}' if self.kind else ''
        if self.declared:
            return self.declared + kind
        beside = 'mapped' in self.features and '.' not in (self.mapping or '')
        over = ('.' if beside else _BELOW).join(filter(None, (self.host, self.mapping))).replace('.', '__')
        return f'{"_".join(self.features)}{kind}_on_{over}'

    @property
    def network(self):
        """'Discriminator' or 'Generator'."""
        return 'Discriminator' if self.features and FEATURES[self.features[0]].network == 'Discriminator' else 'Generator'

    @property
    def class_name(self):
        """Name of the network's class over a host's: its features, in front of Generator or Discriminator."""
        return ''.join(FEATURES[name].label for name in self.features) + self.network

_BELOW = '____'     # between a module and the path of a class below it

def _slug(kind):
    return kind.replace('-', 'H').replace('_', 'U')

def _kind_named(slug):
    kind = slug.replace('H', '-').replace('U', '_')
    if kind not in registry.mappings:
        raise KeyError(f'no installed package has a mapping named {kind}')
    return kind

#----------------------------------------------------------------------------
# Generators over a host's.

def class_with(class_name, feature, mapping=None):
    """Dotted name of the generator that has a feature more: `pkg.mod.Generator` and 'spider' ->
    `spider_plugin.bundles.spider_on_pkg__mod.SpiderGenerator`, this and 'dsc' -> `...spider_dsc_on_pkg__mod.SpiderDSCGenerator`.

    mapping: path of the class of the host's mapping network in the same module, where it is not MappingNetwork.
    Raises ValueError where the host's class is not called Generator."""
    name = _parse_class(class_name)
    features = tuple(key for key in FEATURES if key in (*name.features, feature))
    name = dataclasses.replace(name, features=features, mapping=mapping or name.mapping)
    return f'{PACKAGE}{name}.{name.class_name}'

def host_class(class_name):
    """(features, the host's class under them): the way back from class_with; ([], class_name) for a host's own."""
    name = _parse_class(class_name)
    return list(name.features), f'{name.host}.Generator'

def features_named(name):
    """Features of a generator by the name of its class, `SpiderDSCGenerator` -> ['spider', 'dsc'], [] for `Generator`; None for
    the name of no generator that a bundle makes over a host's."""
    choices = [()]
    for feature in ('spider', 'dsc', 'fast'):
        choices += [(*chosen, feature) for chosen in choices]
    return next((list(chosen) for chosen in choices if BundleName(chosen).class_name == name), None)

def fast_discriminator(class_name):
    """Dotted name of the discriminator with fast layers over a host's. Raises ValueError if that is not called Discriminator."""
    name = BundleName(('fastdisc',), _module_of(class_name, 'Discriminator'))
    return f'{PACKAGE}{name}.{name.class_name}'

def spider_class_name(host_class_name, mapping=None, stylegan=None):
    """The Spider generator over a host's.

    mapping:    path of the class of its mapping network in the same module; None for MappingNetwork.
    stylegan:   whether its networks are like StyleGAN's; by default where that is the class."""
    if stylegan is None:
        stylegan = mapping is None
    return class_with(host_class_name, 'spider' if stylegan else 'mapped', mapping)

def can_be_named(path):
    """Return whether the path of a class can be a part of a bundle's name."""
    return all(part and '__' not in part and part.strip('_') == part for part in path.split('.'))

def _parse_class(class_name):
    module, _, name = class_name.rpartition('.')
    if module.startswith(PACKAGE) and '_on_' in module:
        return BundleName.parse(module[len(PACKAGE):])
    return BundleName(host=_module_of(class_name, 'Generator'))

def _module_of(class_name, network):
    module, _, name = class_name.rpartition('.')
    if name != network or not module:
        raise ValueError(f'a bundle cannot go over {class_name}: expected a class named {network} in a module')
    if '__' in module or '_.' in module or '._' in module:
        raise ValueError(f'a bundle cannot go over {class_name}: its module has two underscores, or one beside a dot')
    return module

#----------------------------------------------------------------------------
# Declared networks: entries of registry.generators and registry.discriminators.

def bundle_of(module):
    """Name of the bundle of a declared network's module: the last part of a portable module of the plugin's, else all of it with
    two underscores for a dot. Where that would be read in another way, a digest stands for the underscores."""
    if module.startswith(_PORTABLE):
        return module.rpartition('.')[2]
    name = module.replace('.', '__') if '.' in module else f'{module}__'
    if name.removesuffix('__').replace('__', '.') == module and not re.search('_(on|with)_', name):
        return name
    return f'{module.replace(".", "").replace("_", "")}__{hashlib.sha256(module.encode()).hexdigest()[:12]}'

def declared_class(module, name):
    """Dotted name of a declared network's class in its bundle."""
    return f'{PACKAGE}{bundle_of(module)}.{name}'

def declared_module(bundle):
    """The module of a declared network by its bundle. Raises KeyError where none is declared."""
    for network in (*registry.generators.values(), *registry.discriminators.values()):
        if network.module is not None and bundle_of(network.module) == bundle:
            return network.module
    raise KeyError(bundle)

def with_mapping_kind(class_name, kind):
    """The generator's class in a bundle that has the module of a mapping kind too; as it is for kinds of the plugin.

    Raises ValueError for a class that is in no bundle."""
    if kind_module(kind) is None:
        return class_name
    module, _, name = class_name.rpartition('.')
    if not module.startswith(PACKAGE):
        raise ValueError(f'{class_name} is not portable')
    bundle = dataclasses.replace(BundleName.parse(module[len(PACKAGE):]), kind=kind)
    return f'{PACKAGE}{bundle}.{name}'

def kind_module(kind):
    """The module of a mapping kind of another package, None for one of the plugin's and for no kind. Raises KeyError."""
    module = None if kind is None else registry.mappings[kind].module
    return None if module is None or module.startswith(_PORTABLE) else module

#----------------------------------------------------------------------------
