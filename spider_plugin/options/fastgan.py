"""--cfg=fastgan and --cfg=fastgan_lite: the generator that Projected GAN is at its best with. The discriminator is the host's, or
that of --disc; rates are Projected GAN's."""

import functools

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.discriminator import FASTGAN
from spider_plugin.options.dsc import fuse_adam
from spider_plugin.options.generators import IMAGE, VECTOR, PluginGenerator, network_class

#----------------------------------------------------------------------------

PRESET = dict(z_dim=256, lr=2e-4, betas=[0.0, 0.99])
NGF_BASE = 128      # --cbase / NGF_BASE is the width; Projected GAN's 128 is a --cbase of 16384.
MODULE   = 'spider_plugin.portable.generators.fastgan'

_ONE_STYLE = 'which has no mapping network and one style'

def edit_fastgan(c, given, host, lite):
    from spider_plugin.portable.generators.fastgan import fastgan_widths
    cfg = 'fastgan_lite' if lite else 'fastgan'
    stock, new = _sizes(c['G_kwargs']), type(c['G_kwargs'])
    ngf = max(stock['channel_base'] // NGF_BASE, 1) if 'cbase' in given else 128
    channel_max = stock['channel_max'] if 'cmax' in given else None
    try:
        fastgan_widths(host.target.resolution, ngf, channel_max)
    except ValueError as error:
        raise SpiderError(f'--cfg={cfg} cannot draw the images of --data: {error}; resize them, or give a larger '
                          '--cbase.') from error
    c['G_kwargs'] = new(class_name=network_class(MODULE, 'FastGANGenerator'), z_dim=PRESET['z_dim'], ngf=ngf, lite=lite)
    if channel_max is not None:
        c['G_kwargs']['channel_max'] = channel_max
    _set_rate(c['G_opt_kwargs'], 'glr' in given)
    fuse_adam(c['G_opt_kwargs'])
    if host.loss_keyword('r1_gamma') is None:                   # a projected host's; --disc=projected sets rates itself
        _set_rate(c['D_opt_kwargs'], 'dlr' in given)
    for key in ('style_mixing_prob', 'pl_weight'):              # these need a style for each layer
        if host.loss_keyword(key) is not None:
            c['loss_kwargs'][key] = 0
    c['G_reg_interval'] = None

def _sizes(kwargs):
    """The options of a host's synthesis network, which stylegan2-ada-like hosts nest."""
    return {**kwargs, **kwargs.get('synthesis_kwargs', {})}

def _set_rate(options, rate_given):
    options['betas'] = list(PRESET['betas'])
    if not rate_given:
        options['lr'] = PRESET['lr']

for _name, _lite in (('fastgan', False), ('fastgan_lite', True)):
    registry.generators.register(_name)(PluginGenerator(
        functools.partial(edit_fastgan, lite=_lite), MODULE, 'FastGANGenerator', source=frozenset({VECTOR, IMAGE}), dsc=True,
        warm_start='spider_plugin.snapshots.warm_start_fastgan.fit_blocks', projected=FASTGAN,
        refuses=dict(map_depth=_ONE_STYLE, style_mixing=_ONE_STYLE, pl_weight=_ONE_STYLE)))

#----------------------------------------------------------------------------
