"""Whether a graph for another runtime is being traced, which has no kernels and no bits of floats.

This module is portable: it travels inside snapshots and imports only torch."""

import torch

def exporting() -> bool:
    """Return whether torch.export or torch.jit.trace traces this call."""
    traced = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)   # older versions tell them from no other graph
    return bool(torch.jit.is_tracing() or traced())

#----------------------------------------------------------------------------
