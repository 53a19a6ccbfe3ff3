"""Resizing by area averages. An output pixel is the mean of the input area that it covers, fractions of pixels included."""

import numpy as np

def resize_area(images, size):
    """Resize uint8 images [N, C, R, R] to uint8 [N, C, size, size]."""
    resolution = images.shape[-1]
    if resolution == size:
        return images
    edges = np.arange(size + 1) * (resolution / size)
    pixels = np.arange(resolution)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = (np.clip(overlap, 0, None) * (size / resolution)).astype(np.float32)      # [size, R], rows sum to 1
    return np.rint(weights @ images.astype(np.float32) @ weights.T).astype(np.uint8)
