"""Convolutions by the names that network code asks for. torch's own are twice differentiable."""

import contextlib

from torch.nn.functional import conv2d, conv_transpose2d

__all__ = ['conv2d', 'conv_transpose2d', 'no_weight_gradients']

enabled = False # Callers switch it; it changes nothing here.

@contextlib.contextmanager
def no_weight_gradients(disable=True):
    """A hint that gradients of weights are not wanted within. torch leaves out what nothing asks for anyway."""
    yield
