"""--cfg=dcgan and --cfg=dcgan_paper."""

from spider_plugin import registry
from spider_plugin.options.generators import IMAGE, NO_STYLES, VECTOR, PluginGenerator, put_networks

MODULE, PAPER_MODULE = 'spider_plugin.portable.generators.dcgan', 'spider_plugin.portable.generators.dcgan_paper'

#----------------------------------------------------------------------------
# Rates are those of the tuned baseline, and the published ones; --glr and --dlr win over them.

PRESET       = dict(z_dim=100, glr=2e-3, dlr=2e-2, betas=[0.5, 0.99])
PAPER_PRESET = dict(z_dim=100, glr=2e-4, dlr=2e-4, betas=[0.5, 0.999])

def edit_dcgan(c, given, host):
    from spider_plugin.portable.generators.dcgan import dcgan_resolutions
    put_networks(c, given, host, cfg='dcgan', module=MODULE, G='DCGANGenerator', D='DCGANDiscriminator', preset=PRESET,
                 resolutions=dcgan_resolutions)

def edit_dcgan_paper(c, given, host):
    from spider_plugin.portable.generators.dcgan_paper import dcgan_paper_resolutions
    put_networks(c, given, host, cfg='dcgan_paper', module=PAPER_MODULE, G='RadfordGenerator', D='RadfordDiscriminator',
                 preset=PAPER_PRESET, resolutions=dcgan_paper_resolutions)

registry.generators.register('dcgan')(PluginGenerator(
    edit_dcgan, MODULE, 'DCGANGenerator', source=frozenset({VECTOR, IMAGE}), learn_skip=True, latent=False,
    refuses=NO_STYLES))

registry.generators.register('dcgan_paper')(PluginGenerator(
    edit_dcgan_paper, PAPER_MODULE, 'RadfordGenerator', source=frozenset({VECTOR}), mapping='paper-16x32',
    refuses=NO_STYLES | dict(mbstd_group='whose discriminator has no minibatch statistics')))

#----------------------------------------------------------------------------
