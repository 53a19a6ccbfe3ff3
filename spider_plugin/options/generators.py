"""--cfg values beside a host's own: generators of the plugin and of other packages, each by one declaration.

An entry of registry.generators is a PluginGenerator. A host that has a configuration of that name keeps it; the plugin's is then
spider-NAME."""

import dataclasses
from collections.abc import Callable, Mapping

from spider_plugin import registry
from spider_plugin.errors import SpiderError

# Uses of a source: a generator has some of them, a mapping kind needs one.

VECTOR  = 'vector'      # its mapping network takes a vector made from the source image in place of z
IMAGE   = 'image'       # its synthesis network takes the source image itself

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class PluginGenerator:
    """The declaration of a generator.

    edit(c, given, host): puts the networks, their rates and loss into the host's config `c`; `given` holds the names of the
                parameters that the user set. Raises SpiderError.
    module:     dotted name of the module that holds its classes. Where that is portable (docs/write-a-plugin.md), the classes go
                into a bundle and snapshots open without the package; None: edit() names a class that snapshots refer to.
    generator:  name of the generator's class in it. Pickles are recognised by this name.
    source:     {VECTOR, IMAGE} or a part of it: what its class does with the arguments `spider` and `source`; none for a
                generator that takes no source.
    mapping:    kind of --spider-mapping where the user gives none; None: residual for a generator that takes the image, else
                encoder.
    learn_skip: whether its residual can learn the factor of the source in pixels (`learn_skip` in `spider`).
    dsc:        whether its class takes a `dsc` argument as portable/layers/dsc.py describes it, and has layers with `dw_weight`.
    warm_start: dotted name of fit(state, network) -> (state, {layer: relative error}), which makes a dense snapshot's tensors
                fit separable layers; None: that of modulated convolutions (snapshots/warm_start.py).
    refuses:    {name of a parameter: why it cannot be used, a clause after "--NAME cannot be used with --cfg=...,"}.
    projected:  rates, heads and blur of --disc=projected (ProjectedDefaults in discriminator.py); None: those of StyleGANs."""

    edit:       Callable
    module:     str | None = None
    generator:  str = ''
    source:     frozenset[str] = frozenset()
    mapping:    str | None = None
    learn_skip: bool = False
    dsc:        bool = False
    warm_start: str | None = None
    refuses:    Mapping[str, str] = dataclasses.field(default_factory=dict)
    projected:  object = None

    @property
    def class_name(self):
        """Dotted name of the generator's class for a config; None without a module."""
        return None if self.module is None else network_class(self.module, self.generator)

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
    declared.edit(c, given, host)
    return needed_package(declared.module, f'--cfg={options["cfg"]}')

def needed_package(module, what):
    """A line where snapshots will need the package of a declared module."""
    from spider_plugin.bundles.parts import not_portable
    reason = module and not_portable(module)
    return [f'Note: snapshots open only where {module.partition(".")[0]} is installed: {what} is not portable, since {reason}.'] \
        if reason else []

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
