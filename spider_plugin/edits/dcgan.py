"""--cfg=dcgan."""

from spider_plugin import registry
from spider_plugin.edits.generators import OwnGenerator, put_networks

#----------------------------------------------------------------------------
# Rates are those of the tuned baseline; --glr and --dlr win over them.

PRESET = dict(z_dim=100, glr=2e-3, dlr=2e-2, betas=[0.5, 0.99])

def edit_dcgan(c, given, host):
    from spider_plugin.networks.dcgan import dcgan_resolutions
    put_networks(c, given, host, cfg='dcgan', G='spider_plugin.bundles.dcgan.DCGANGenerator',
                 D='spider_plugin.bundles.dcgan.DCGANDiscriminator', preset=PRESET, resolutions=dcgan_resolutions)

registry.generators.register('dcgan')(OwnGenerator(
    edit_dcgan, mappings=('residual', 'paper-16x32', 'paper-23x23', 'encoder', 'whitened')))

#----------------------------------------------------------------------------
