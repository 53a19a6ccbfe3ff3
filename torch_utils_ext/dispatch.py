"""Runs an op of torch_utils_ext by its kernels, or by its reference if there are none.

This module is portable: it travels inside snapshots and imports only torch and the standard library. A snapshot that is opened
without torch_utils_ext installed computes with the references."""

import importlib
import os

import torch

#----------------------------------------------------------------------------

def run_op(name, reference, *args):
    """Return the result of the op `name` on `args`, by a kernel if one serves the call, else by `reference(*args)`.

    torch_utils_ext.backend decides, counts the calls, and prints once why a kernel is not used. TORCH_UTILS_EXT=off skips it."""
    return _backend[0].run(name, reference, args) if _has_backend() else reference(*args)

#----------------------------------------------------------------------------
# The module that owns the kernels, which reads TORCH_UTILS_EXT itself; None if it cannot be imported. The list is empty before
# the first op. A graph of torch.compile asks whether there is one when it is made.

_backend = []

@torch.compiler.assume_constant_result
def _has_backend():
    if _backend and _backend[0] is not None:
        return True
    mode = os.environ.get('TORCH_UTILS_EXT', 'auto')
    if mode == 'off':
        return False
    if not _backend:
        try:
            _backend.append(importlib.import_module('torch_utils_ext.backend'))
        except Exception as error:  # the package may be missing or broken, because a snapshot carries this module without it
            _backend.append(None)
            if mode == 'require':
                _backend.clear()
                raise RuntimeError('TORCH_UTILS_EXT=require, but torch_utils_ext cannot be imported here') from error
    if _backend[0] is None and mode == 'require':
        raise RuntimeError('TORCH_UTILS_EXT=require, but torch_utils_ext cannot be imported here')
    return _backend[0] is not None

#----------------------------------------------------------------------------
