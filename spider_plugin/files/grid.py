"""Images in a grid, as one PNG."""

import os
from typing import Any

import PIL.Image

from spider_plugin.files.cache import atomic_file

def save_grid(path: str | os.PathLike[str], images: Any, columns: int, rows: int) -> None:
    """Write images uint8 [columns * rows, C, H, W], C of 1 or 3, as one PNG, which is there whole or not at all."""
    _, channels, height, width = images.shape
    grid = images.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(rows * height, columns * width, channels)
    with atomic_file(path) as temp:
        PIL.Image.fromarray(grid[:, :, 0] if channels == 1 else grid).save(temp, format='png')
