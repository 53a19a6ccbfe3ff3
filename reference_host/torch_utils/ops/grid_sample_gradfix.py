"""Bilinear sampling with derivatives of any order for its input. Some versions of torch lack the second derivative."""

import itertools

import torch
import torch.nn.functional as F

enabled = False # Callers set it; it has no effect here.

#----------------------------------------------------------------------------

def grid_sample(input, grid):
    """Sample input [N, C, H, W] at grid [N, H', W', 2] of the same dtype; returns [N, C, H', W'], with zeros outside.

    grid holds (x, y); -1 and 1 are the outer borders of the first and the last pixel. If the grid needs gradients, this is
    torch's function, with the derivatives that torch has.
    """
    if grid.requires_grad:
        return _torch_grid_sample(input, grid)
    if input.device.type in ('cpu', 'cuda'):
        return _Sampling.apply(input, grid, None)
    return four_corners(input, grid)

def four_corners(input, grid):
    """Return grid_sample() by differentiable parts, for MPS, where torch's function has no gradient in some versions."""
    n, c, h, w = input.shape
    size = torch.tensor([w, h], device=grid.device)
    position = ((grid + 1) * size - 1) / 2 # In pixels.
    output = 0
    for corner in itertools.product([0, 1], [0, 1]):
        pixel = position.floor() + torch.tensor(corner, device=grid.device)
        weight = (1 - (position - pixel).abs()).prod(dim=-1) * ((pixel >= 0) & (pixel < size)).all(dim=-1)
        x, y = pixel.long().clamp(min=0).minimum(size - 1).unbind(dim=-1)
        index = (y * w + x).reshape(n, 1, -1).expand(-1, c, -1)
        output = output + input.flatten(2).gather(2, index).reshape(n, c, *weight.shape[1:]) * weight.unsqueeze(1)
    return output

#----------------------------------------------------------------------------

class _Sampling(torch.autograd.Function):
    """y = S x, or x' = S^T y' if `shape`, that of x', is given.

    S holds the weights of a grid and is constant, so each of the two functions is the derivative of the other."""

    @staticmethod
    def forward(ctx, x, grid, shape):
        ctx.save_for_backward(grid)
        ctx.other_shape = x.shape if shape is None else None
        return _torch_grid_sample(x, grid) if shape is None else _transposed(x, grid, shape)

    @staticmethod
    def backward(ctx, grad):
        grid, = ctx.saved_tensors
        return _Sampling.apply(grad, grid, ctx.other_shape), None, None

def _torch_grid_sample(x, grid):
    return F.grid_sample(x, grid, mode='bilinear', padding_mode='zeros', align_corners=False)

def _transposed(y, grid, shape):
    """Return S^T y. torch's backward pass takes an input whose values matter only for the gradient of the grid."""
    unused = y.new_zeros([]).expand(shape)
    bilinear, zeros, align_corners, wanted = 0, 0, False, [True, False]
    return torch.ops.aten.grid_sampler_2d_backward(y, unused, grid, bilinear, zeros, align_corners, wanted)[0]

#----------------------------------------------------------------------------
