"""Bilinear sampling by the name that network code asks for."""

import torch.nn.functional as F

enabled = False # Callers switch it; it changes nothing here.

def grid_sample(input, grid):
    """input: [N, C, H, W], grid: [N, H', W', 2] in [-1, 1] -> [N, C, H', W'], zeros outside."""
    return F.grid_sample(input=input, grid=grid, mode='bilinear', padding_mode='zeros', align_corners=False)
