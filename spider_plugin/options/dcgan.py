"""--cfg=dcgan and --cfg=dcgan_paper."""

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.generators import OwnGenerator, put_networks

#----------------------------------------------------------------------------
# Rates are those of the tuned baseline, and the published ones; --glr and --dlr win over them.

PRESET       = dict(z_dim=100, glr=2e-3, dlr=2e-2, betas=[0.5, 0.99])
PAPER_PRESET = dict(z_dim=100, glr=2e-4, dlr=2e-4, betas=[0.5, 0.999])

def edit_dcgan(c, given, host):
    from spider_plugin.portable.generators.dcgan import dcgan_resolutions
    put_networks(c, given, host, cfg='dcgan', G='spider_plugin.bundles.dcgan.DCGANGenerator',
                 D='spider_plugin.bundles.dcgan.DCGANDiscriminator', preset=PRESET, resolutions=dcgan_resolutions)

def edit_dcgan_paper(c, given, host):
    from spider_plugin.portable.generators.dcgan_paper import dcgan_paper_resolutions
    if 'mbstd_group' in given:
        raise SpiderError('--mbstd-group has no effect with --cfg=dcgan_paper; leave it out.')
    put_networks(c, given, host, cfg='dcgan_paper', G='spider_plugin.bundles.dcgan_paper.RadfordGenerator',
                 D='spider_plugin.bundles.dcgan_paper.RadfordDiscriminator', preset=PAPER_PRESET,
                 resolutions=dcgan_paper_resolutions)

registry.generators.register('dcgan')(OwnGenerator(
    edit_dcgan, mappings=('residual', 'paper-16x32', 'paper-23x23', 'encoder', 'whitened'), learn_skip=True))
registry.generators.register('dcgan_paper')(OwnGenerator(
    edit_dcgan_paper, mappings=('paper-16x32', 'paper-23x23', 'encoder', 'whitened')))

#----------------------------------------------------------------------------
