"""Tensor operations of the spider plugin. Importing this package builds nothing; docs/ops.md tells the rest."""

from torch_utils_ext.backend import load, status

__all__ = ['load', 'status']
