"""`spider_plugin.ImageBank`: the bank of source images of portable/source/bank.py, made from a folder or from arrays."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.portable.source import bank
from spider_plugin.sources.prepare import prepare_source

class ImageBank(bank.ImageBank):
    """Images that a generator is fed in place of noise: z picks one, exactly, uniformly, and the same on every device.

    Made by `ImageBank.from_folder(path)`, `ImageBank.from_images(images)`, or ImageBank(path of a prepared source).

    sample(z, c=None) -> float32 [N, channels, resolution, resolution] in [-1, 1]; z [N, any] as drawn from a normal
                distribution, any dtype; c one-hot [N, classes] or None: with labels, a class draws from its own images.
    key(z, c=None) -> float32 [N, 2], the choice: index and noise seed;  fetch(key) -> the images of a choice.
    images:     uint8 [M, channels, resolution, resolution];  labels: int64 [M] or None;  len(bank) is M.
    mean_image: float32 [1, channels, resolution, resolution] in [-1, 1].
    identity:   dict of name, sha256, transform, licence.
    noise:      standard deviation of the Gaussian noise added to each image, in units of [-1, 1].
    embed:      most MiB of images that a pickle of the bank carries."""

    @classmethod
    def from_folder(cls, path: str | Path, *, size: int | None = None, match: str | Path | None = None,
                    noise: float = 0.0) -> 'ImageBank':
        """Return a bank of the images in a folder or zip; they are prepared once and kept in the cache.

        path:       square images of one size, all grey or all colour; labels in dataset.json; see docs/pictures.md.
                    Whatever `prepare_source` takes will do.
        size:       resolution, a power of two; default: that of the images, or the power of two below it.
        match:      folder or zip of the target, to whose mean and covariance the images are moved.
        noise:      see the class.
        Raises SpiderError naming the file or folder."""
        prepared = prepare_source(str(path), size=size, match=None if match is None else str(match))
        return cls(prepared.path, noise=noise)

    @classmethod
    def from_images(cls, images: np.ndarray[Any, Any] | torch.Tensor, identity: Mapping[str, str] | None = None,
                    labels: Sequence[int] | None = None, noise: float = 0.0, embed: int = 64,
                    classes: list[int] | None = None) -> 'ImageBank':
        """Return a bank of images in memory.

        images:     [M, C, R, R] with C = 1 or 3: uint8, or floats in [-1, 1], which are rounded to 8 bits.
        identity:   name, sha256, transform, licence; default: a name and the digest of the images.
        labels:     M class numbers from 0, or None.
        noise, embed: see the class.
        classes:    source class of each class of c, -1 for any; default: its own.
        Raises SpiderError for images of another kind or shape, floats in 0..1 among them."""
        images = torch.as_tensor(images)
        try:
            pixels = bank.as_pixels(images)
        except ValueError as error:
            raise SpiderError(f'{error}.') from error
        if identity is None:
            sha256 = hashlib.sha256(pixels.contiguous().numpy()).hexdigest()
            identity = dict(name='images', sha256=sha256, transform=f'{len(pixels)} images', licence='unknown')
        made: ImageBank = super().from_images(pixels, identity, labels=labels, noise=noise, embed=embed, classes=classes)
        return made
