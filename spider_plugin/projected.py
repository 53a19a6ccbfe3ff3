"""Projected GAN's discriminator as a torch module for anybody's training: `spider_plugin.ProjectedDiscriminator`."""

from spider_plugin.networks import projected
from spider_plugin.networks.backbones import prepare_backbone

class ProjectedDiscriminator(projected.ProjectedDiscriminator):
    """The same as networks/projected.py's, for a backbone `NAME` or `NAME:PATH`, whose weights it finds or downloads.

    ProjectedDiscriminator(c_dim, img_resolution, img_channels, backbone='tf_efficientnet_lite0', **the others' keywords)."""

    def __init__(self, c_dim, img_resolution, img_channels, backbone='tf_efficientnet_lite0', **kwargs):
        name, weights = prepare_backbone(backbone)
        super().__init__(c_dim, img_resolution, img_channels, backbone=name, weights=weights, **kwargs)
