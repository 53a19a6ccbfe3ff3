"""`spider_plugin.ProjectedDiscriminator`, Projected GAN's discriminator as a torch module for any training loop."""

from spider_plugin.errors import SpiderError
from spider_plugin.portable.discriminator import projected
from spider_plugin.weights import prepare_backbone

class ProjectedDiscriminator(projected.ProjectedDiscriminator):
    """Projected GAN's discriminator (Sauer et al. 2021): a frozen feature network, frozen random projections, four small heads.

    c_dim:          classes; labels are one-hot. 0: unconditional.
    img_resolution: side of the images in pixels. Below 224 they are resized to 224, and to a multiple of 32 above.
    img_channels:   1 or 3; grey images become RGB.
    backbone:       feature network, `NAME` or `NAME:PATH` as of --disc-backbone; its weights are found or downloaded. `random`
                    needs none.
    heads:          'standard', or 'separable' (a fourteenth of the parameters).
    augment:        DiffAugment of every image that goes in.
    feature_resolution: side at which the feature network sees the images, a multiple of 32, at least 128; None: as above.
    embed:          whether a pickle carries the feature network, or names its file only.
    precision:      of the frozen part on cuda, in D's phase of training: 'float32', 'float16' or 'bfloat16'.
    seed:           of the random projections.
    maps:           how many of the four projected maps have a head, from the coarsest on.

    forward(img [N, C, H, W] in [-1, 1], c [N, c_dim] or None where c_dim is 0, parts=1) -> logits [N, 25 for each head at
    256 pixels], float32, of which a loss takes the mean over all. parts: batches of equal length that img consists of, fakes
    and reals for example, so that batch norm in the heads sees each on its own.
    Raises SpiderError where the feature network or its weights are not to be had, and for arguments out of range; ValueError
    where labels are missing."""

    def __init__(self, c_dim: int, img_resolution: int, img_channels: int, backbone: str = 'tf_efficientnet_lite0', *,
                 heads: str = 'standard', augment: bool = True, feature_resolution: int | None = None, embed: bool = True,
                 precision: str = 'float32', seed: int = 0, maps: int = 4) -> None:
        name, weights = prepare_backbone(backbone)
        try:
            super().__init__(c_dim, img_resolution, img_channels, backbone=name, weights=weights, heads=heads, augment=augment,
                             feature_resolution=feature_resolution, embed=embed, precision=precision, seed=seed, maps=maps)
        except ValueError as error:
            raise SpiderError(f'ProjectedDiscriminator: {error}.') from error
