"""Tensor operations of the spider plugin. Importing this package builds nothing.

TORCH_UTILS_EXT=auto|require|off chooses between kernels, built at the first call, and the plain torch references."""

from torch_utils_ext.backend import status

__all__ = ['status']
