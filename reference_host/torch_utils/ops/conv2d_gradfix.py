"""Convolutions under the names that network code of hosts uses. torch's convolutions are twice differentiable."""

import contextlib

from torch.nn.functional import conv2d, conv_transpose2d

__all__ = ['conv2d', 'conv_transpose2d', 'no_weight_gradients']

enabled = False # Callers set it; it has no effect here.

@contextlib.contextmanager
def no_weight_gradients(disable=True):
    """Hint that gradients of weights are not wanted within this context. It has no effect; torch computes only used ones."""
    yield
