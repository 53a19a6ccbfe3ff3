"""Tensor operations of the spider plugin, described in docs/ops.md; importing this package builds nothing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_utils_ext.backend import load as load
    from torch_utils_ext.backend import status as status

__all__ = ['load', 'status']

def __getattr__(name: str) -> Any:
    if name in __all__:     # of a module that imports torch, which the attached line must not
        from torch_utils_ext import backend
        return getattr(backend, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
