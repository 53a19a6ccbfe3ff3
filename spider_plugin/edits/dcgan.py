"""--cfg=dcgan. The loss runs without path length and style mixing, which need a style for each layer."""

from spider_plugin import registry
from spider_plugin.edits.generators import OwnGenerator
from spider_plugin.errors import UserError

#----------------------------------------------------------------------------
# Rates are those of the tuned baseline; --glr and --dlr win over them.

PRESET = dict(z_dim=100, glr=2e-3, dlr=2e-2, betas=[0.5, 0.99])

_NOT_FOR_DCGAN = {'map_depth': '--map-depth', 'freezed': '--freezed', 'style_mixing': '--style-mixing',
                  'pl_weight': '--pl-weight'}

def edit_dcgan(c, given, host):
    from spider_plugin.networks.dcgan import dcgan_resolutions
    if host.loss_keyword('style_mixing_prob') is None:
        raise UserError(f'--cfg=dcgan needs the loss of StyleGAN2, and this host trains with {c["loss_kwargs"]["class_name"]}; '
                        'use a configuration of its own.')
    for key in sorted(given & set(_NOT_FOR_DCGAN)):
        raise UserError(f'{_NOT_FOR_DCGAN[key]} has no effect with --cfg=dcgan; leave it out.')
    try:
        dcgan_resolutions(host.target.resolution)
    except ValueError as error:
        raise UserError(f'--cfg=dcgan cannot draw the images of --data: {error}; resize them.') from error
    stock, new = c['D_kwargs'], type(c['G_kwargs'])
    sizes = {key: stock[key] for key, option in (('channel_base', 'cbase'), ('channel_max', 'cmax')) if option in given}
    c['G_kwargs'] = new(class_name='spider_plugin.bundles.dcgan.DCGANGenerator', z_dim=PRESET['z_dim'], **sizes)
    c['D_kwargs'] = new(class_name='spider_plugin.bundles.dcgan.DCGANDiscriminator', **sizes)
    if 'mbstd_group' in given:
        c['D_kwargs']['mbstd_group_size'] = stock['epilogue_kwargs']['mbstd_group_size']
    for network, option in (('G', 'glr'), ('D', 'dlr')):
        c[f'{network}_opt_kwargs']['betas'] = list(PRESET['betas'])
        if option not in given:
            c[f'{network}_opt_kwargs']['lr'] = PRESET[option]
    c['loss_kwargs'].update(style_mixing_prob=0, pl_weight=0)
    c['G_reg_interval'] = None

registry.generators.register('dcgan')(OwnGenerator(
    edit_dcgan, mappings=('residual', 'paper-16x32', 'paper-23x23', 'encoder', 'whitened')))

#----------------------------------------------------------------------------
