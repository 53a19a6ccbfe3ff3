"""--cfg values beside a host's own: generators of the plugin and of other packages, each by one declaration.

An entry of registry.generators is a PluginGenerator. A host that has a configuration of that name keeps it; the plugin's is then
spider-NAME."""

import dataclasses
from collections.abc import Callable, Mapping, Set

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.packages import (
    check_config,
    check_module,
    check_options,
    foreign,
    of_package,
    parts_with_a_class,
)
from spider_plugin.options.types import Option

# Uses of a source: a generator has some of them, a mapping kind needs one.

VECTOR  = 'vector'      # its mapping network takes a vector made from the source image in place of z
IMAGE   = 'image'       # its synthesis network takes the source image itself

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class ProjectedDefaults:
    """Heads, D's rate and the blur in pixels of --disc=projected for one family of generators."""

    heads:  str
    dlr:    float
    blur:   float

@dataclasses.dataclass(frozen=True)
class PluginGenerator:
    """The declaration of a generator.

    edit(c, given, host, **values): puts the networks, their rates and loss into the host's config `c`; `given` holds the names of
                the parameters that the user set, `values` the value of each of `options` by its key. Raises SpiderError.
    module:     dotted name of the module that holds its classes. Where that is portable (docs/write-a-plugin.md), the classes go
                into a bundle and snapshots open without the package; None: edit() names a class that snapshots refer to, and the
                generator is not built before training to see whether it can be.
    generator:  name of the generator's class in it. Pickles are recognised by this name.
    source:     {VECTOR, IMAGE} or a part of it: what its class does with the arguments `spider` and `source`; none for a
                generator that takes no source.
    mapping:    kind of --spider-mapping where the user gives none; None: residual for a generator that takes the image, else
                encoder.
    learn_skip: whether its residual can learn the factor of the source in pixels (`learn_skip` in `spider`).
    latent:     whether its fresh residual draws different images at one source image, by z.
    dsc:        whether its class takes a `dsc` argument as portable/layers/dsc.py describes it, and has layers with `dw_weight`.
    warm_start: dotted name of fit(state, network) -> (state, {layer: relative error}), which makes a dense snapshot's tensors
                fit separable layers, such as spider_plugin.snapshots.warm_start.fit_layers for modulated convolutions; None:
                a dense snapshot does not resume with --dsc.
    refuses:    {name of a parameter: why it cannot be used, a clause after "--NAME cannot be used with --cfg=...,"}.
    projected:  rates, heads and blur of --disc=projected; None: those of StyleGANs.
    options:    tuple of Option (options/types.py): options of this generator alone. Where the host has an option --NAME, this
                one is --spider-NAME on the command line; `values` has it by its key all the same."""

    edit:       Callable
    module:     str | None = None
    generator:  str = ''
    source:     Set[str] = frozenset()
    mapping:    str | None = None
    learn_skip: bool = False
    latent:     bool = True
    dsc:        bool = False
    warm_start: str | None = None
    refuses:    Mapping[str, str] = dataclasses.field(default_factory=dict)
    projected:  ProjectedDefaults | None = None
    options:    tuple[Option, ...] = ()

    @property
    def class_name(self):
        """Dotted name of the generator's class for a config; None without a module."""
        return None if self.module is None else network_class(self.module, self.generator)

    def check(self, name):
        """Raise SpiderError for values that cannot be, alone or beside the other generators; the registry calls it."""
        from spider_plugin.bundles.names import features_named
        what = f'generator {name!r}'
        check_module(what, self.module)
        if (self.module is None) != (not self.generator):
            raise SpiderError(f'The {what} has a module without a class, or a class without a module; give both, or none.')
        if not self.source <= {VECTOR, IMAGE}:
            raise SpiderError(f'The source of the {what} is {sorted(self.source)}; use VECTOR and IMAGE of {__name__}.')
        if wrong := [key for key in self.refuses if not key.isidentifier()]:
            raise SpiderError(f'The {what} refuses {wrong[0]!r}; give the name of a parameter, such as map_depth.')
        if self.generator and features_named(self.generator) is not None:
            raise SpiderError(f'The {what} has a class {self.generator}, as hosts have; give it another name, since snapshots '
                              'are recognised by it.')
        if self.options:    # the table of the plugin's options is not whole while its own generators register
            check_options(what, self.options)
        for other, declared in registry.generators.registered().items():
            if declared.generator == self.generator != '' and declared.module != self.module:
                raise SpiderError(f'The {what} has a class {self.generator}, as the generator {other!r} has; give it another '
                                  'name, since snapshots are recognised by it.')

def network_class(module, name):
    """Dotted name for a config of a class in a declared module: in its bundle, or in the module itself where that is not
    portable."""
    from spider_plugin.bundles.names import declared_class
    from spider_plugin.bundles.parts import not_portable
    return f'{module}.{name}' if not_portable(module) else declared_class(module, name)

def mapping_kinds(source):
    """Names of the mapping kinds for a generator that can do this with a source."""
    return [name for name, kind in registry.mappings.items() if kind.needs in source]

def default_mapping(source):
    """Name of the mapping kind for a generator that can do this with a source, where nobody says which."""
    return 'residual' if IMAGE in source else 'encoder'

#----------------------------------------------------------------------------

def apply_generator(c, options, given, host):
    """Puts the networks of --cfg into the config; lines for the launch log. Raises SpiderError."""
    if options['cfg'] is None:
        return []
    declared = registry.generators[options['cfg']]
    for key in sorted(given & set(declared.refuses)):
        raise SpiderError(f'--{key.replace("_", "-")} cannot be used with --cfg={options["cfg"]}, {declared.refuses[key]}; leave '
                          'it out.')
    what, before = f'--cfg={options["cfg"]}', parts_with_a_class(c)
    values = {option.key: options[option.key] for option in declared.options}
    if foreign(declared.module):
        with of_package(what):
            declared.edit(c, given, host, **values)
        check_config(c, before, what)
        _check_class(c, declared, what)
    else:
        declared.edit(c, given, host, **values)
    return needed_package(declared.module, what)

def _check_class(c, declared, what):
    name = c['G_kwargs']['class_name'].rpartition('.')[2]
    if declared.module is not None and name != declared.generator:
        raise SpiderError(f'{what} puts a {name} into the config, but declares the generator {declared.generator}; report it to '
                          'the author of its package.')

def needed_package(module, what):
    """A line where snapshots will need packages: that of a declared module which is not portable, or others that it imports."""
    from spider_plugin.bundles.parts import needed_packages, not_portable, package_of
    reason = module and not_portable(module)
    if reason:
        return [f'Note: snapshots open only where {package_of(module)} is installed: {what} is not portable, since {reason}.']
    needed = needed_packages(module) if module else []
    return [f'Note: snapshots open only where {" and ".join(needed)} can be imported, which {what} uses.'] if needed else []

#----------------------------------------------------------------------------
# For convolutional networks without a style for each layer.

_STYLES   = 'which has no style for each layer'
NO_STYLES = dict(map_depth='which has no mapping network of that kind', freezed='whose discriminator has other layers',
                 style_mixing=_STYLES, pl_weight=_STYLES)

def put_networks(c, given, host, *, cfg, module, G, D, preset, resolutions):
    """Puts networks of the plugin, their sizes and their rates into the config; the loss runs without path length and style
    mixing.

    cfg:        the name after --cfg.
    module:     dotted name of the declared module, and G, D: its classes.
    preset:     z_dim, glr, dlr, betas. --glr and --dlr win over the rates.
    resolutions: raises ValueError for a resolution of images that the networks cannot have.
    Raises SpiderError."""
    if host.loss_keyword('style_mixing_prob') is None:
        raise SpiderError(f'--cfg={cfg} needs the loss of StyleGAN2, and this host trains with {c["loss_kwargs"]["class_name"]}; '
                          'use a configuration of its own.')
    try:
        resolutions(host.target.resolution)
    except ValueError as error:
        raise SpiderError(f'--cfg={cfg} cannot draw the images of --data: {error}; resize them.') from error
    stock, new = c['D_kwargs'], type(c['G_kwargs'])
    sizes = {key: stock[key] for key, option in (('channel_base', 'cbase'), ('channel_max', 'cmax')) if option in given}
    c['G_kwargs'] = new(class_name=network_class(module, G), z_dim=preset['z_dim'], **sizes)
    c['D_kwargs'] = new(class_name=network_class(module, D), **sizes)
    if 'mbstd_group' in given:
        c['D_kwargs']['mbstd_group_size'] = stock['epilogue_kwargs']['mbstd_group_size']
    for network, option in (('G', 'glr'), ('D', 'dlr')):
        c[f'{network}_opt_kwargs']['betas'] = list(preset['betas'])
        if option not in given:
            c[f'{network}_opt_kwargs']['lr'] = preset[option]
    c['loss_kwargs'].update(style_mixing_prob=0, pl_weight=0)
    c['G_reg_interval'] = None

#----------------------------------------------------------------------------
