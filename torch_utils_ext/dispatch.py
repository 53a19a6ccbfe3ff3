"""Runs an op of torch_utils_ext by its kernels, or by its reference if there are none.

This module is portable: it travels inside snapshots and imports only the standard library. A snapshot that is opened without
torch_utils_ext installed computes with the references."""

import importlib
import os

#----------------------------------------------------------------------------

def run_op(name, reference, *args):
    """Return the result of the op `name` on `args`, by a kernel if one serves the call, else by `reference(*args)`.

    torch_utils_ext.backend decides, counts the calls, and prints once why a kernel is not used. TORCH_UTILS_EXT=off skips it."""
    backend = _kernel_backend()
    return reference(*args) if backend is None else backend.run(name, reference, args)

#----------------------------------------------------------------------------
# The module that owns the kernels, which reads TORCH_UTILS_EXT itself, or None. The result is kept if it cannot change.

_backend_lookup = []

def _kernel_backend():
    if _backend_lookup and _backend_lookup[0] is not None:
        return _backend_lookup[0]
    mode = os.environ.get('TORCH_UTILS_EXT', 'auto')
    if mode == 'off':
        return None
    if not _backend_lookup:
        try:
            _backend_lookup.append(importlib.import_module('torch_utils_ext.backend'))
        except Exception as error:  # the package may be missing or broken, because a snapshot carries this module without it
            _backend_lookup.append(None)
            if mode == 'require':
                _backend_lookup.clear()
                raise RuntimeError('TORCH_UTILS_EXT=require, but torch_utils_ext cannot be imported here') from error
    if _backend_lookup[0] is None and mode == 'require':
        raise RuntimeError('TORCH_UTILS_EXT=require, but torch_utils_ext cannot be imported here')
    return _backend_lookup[0]

#----------------------------------------------------------------------------
