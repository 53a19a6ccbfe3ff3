"""Spider plugin: train GANs on small image sets from a friendly neighbour's images (arXiv 2305.07613)."""

__version__ = '0.2.0'

def __getattr__(name):
    if name == 'ProjectedDiscriminator':    # imports torch, which the attached line must not
        from spider_plugin.projected_discriminator import ProjectedDiscriminator
        return ProjectedDiscriminator
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
