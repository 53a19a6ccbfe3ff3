"""`spider_plugin.ProjectedDiscriminator`, Projected GAN's discriminator as a torch module for any training loop."""

from spider_plugin.portable.discriminator import projected
from spider_plugin.weights import prepare_backbone

class ProjectedDiscriminator(projected.ProjectedDiscriminator):
    """The discriminator of portable/discriminator/projected.py, which finds or downloads the weights of its feature network.

    backbone:   `NAME` or `NAME:PATH`, as in --disc-backbone.
    Other arguments are those of the base class."""

    def __init__(self, c_dim, img_resolution, img_channels, backbone='tf_efficientnet_lite0', **kwargs):
        name, weights = prepare_backbone(backbone)
        super().__init__(c_dim, img_resolution, img_channels, backbone=name, weights=weights, **kwargs)
