"""Tensor operations of the spider plugin.

Importing this package builds nothing; docs/ops.md tells the rest."""

__all__ = ['load', 'status']

def __getattr__(name):
    if name in __all__:     # of a module that imports torch, which the attached line must not
        from torch_utils_ext import backend
        return getattr(backend, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
