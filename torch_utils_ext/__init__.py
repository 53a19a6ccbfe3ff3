"""Tensor operations of the spider plugin, described in docs/ops.md; importing this package builds nothing."""

__all__ = ['load', 'status']

def __getattr__(name):
    if name in __all__:     # in a module that imports torch, which the attached line must not do
        from torch_utils_ext import backend
        return getattr(backend, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
