"""--cfg values beside a host's own: generators of ours with the discriminator, rates and loss that they need, a module each.

An entry of registry.generators is an OwnGenerator. A host that has a configuration of that name keeps it, ours is then
spider-NAME."""

import dataclasses
from collections.abc import Callable

from spider_plugin.errors import SpiderError

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class OwnGenerator:
    """edit(c, given, host): puts the networks, their rates and loss into the host's config `c`; `given` holds the names of the
                parameters that the user set. Raises SpiderError.
    mappings:   the kinds of --spider-mapping that its class takes by its `spider` argument, the default first; none for a
                generator that takes no source.
    learn_skip: whether its residual can learn the factor of the source in pixels (`learn_skip` in `spider`).
    dsc:        whether its class takes a `dsc` argument as portable/layers/dsc.py describes it, and has layers with
                `dw_weight`."""

    edit:     Callable
    mappings: tuple[str, ...] = ()
    learn_skip: bool = False
    dsc:      bool = False

#----------------------------------------------------------------------------
# For convolutional networks without a style for each layer.

NO_STYLES = {'map_depth': '--map-depth', 'freezed': '--freezed', 'style_mixing': '--style-mixing', 'pl_weight': '--pl-weight'}

def put_networks(c, given, host, *, cfg, G, D, preset, resolutions):
    """Puts networks of ours, their sizes and their rates into the config; the loss runs without path length and style mixing.

    cfg:        the name after --cfg.
    G, D:       dotted class names.
    preset:     z_dim, glr, dlr, betas. --glr and --dlr win over the rates.
    resolutions: raises ValueError for a resolution of images that the networks cannot have.
    Raises SpiderError."""
    if host.loss_keyword('style_mixing_prob') is None:
        raise SpiderError(f'--cfg={cfg} needs the loss of StyleGAN2, and this host trains with {c["loss_kwargs"]["class_name"]}; '
                          'use a configuration of its own.')
    for key in sorted(given & set(NO_STYLES)):
        raise SpiderError(f'{NO_STYLES[key]} has no effect with --cfg={cfg}; leave it out.')
    try:
        resolutions(host.target.resolution)
    except ValueError as error:
        raise SpiderError(f'--cfg={cfg} cannot draw the images of --data: {error}; resize them.') from error
    stock, new = c['D_kwargs'], type(c['G_kwargs'])
    sizes = {key: stock[key] for key, option in (('channel_base', 'cbase'), ('channel_max', 'cmax')) if option in given}
    c['G_kwargs'] = new(class_name=G, z_dim=preset['z_dim'], **sizes)
    c['D_kwargs'] = new(class_name=D, **sizes)
    if 'mbstd_group' in given:
        c['D_kwargs']['mbstd_group_size'] = stock['epilogue_kwargs']['mbstd_group_size']
    for network, option in (('G', 'glr'), ('D', 'dlr')):
        c[f'{network}_opt_kwargs']['betas'] = list(preset['betas'])
        if option not in given:
            c[f'{network}_opt_kwargs']['lr'] = preset[option]
    c['loss_kwargs'].update(style_mixing_prob=0, pl_weight=0)
    c['G_reg_interval'] = None

#----------------------------------------------------------------------------
