"""Projected GAN's discriminator as a torch module for anybody's training: `spider_plugin.ProjectedDiscriminator`."""

from spider_plugin.portable.discriminator import projected
from spider_plugin.weights import prepare_backbone

class ProjectedDiscriminator(projected.ProjectedDiscriminator):
    """The discriminator of portable/discriminator/projected.py for a feature network `NAME` or `NAME:PATH`, whose weights it
    finds or downloads.

    ProjectedDiscriminator(c_dim, img_resolution, img_channels, backbone='tf_efficientnet_lite0', **the others' keywords)."""

    def __init__(self, c_dim, img_resolution, img_channels, backbone='tf_efficientnet_lite0', **kwargs):
        name, weights = prepare_backbone(backbone)
        super().__init__(c_dim, img_resolution, img_channels, backbone=name, weights=weights, **kwargs)
