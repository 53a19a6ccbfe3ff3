"""--recompute: blocks of G and D are computed again in the backward pass, so that only their inputs are kept from the forward
pass (gradient checkpointing, Chen et al. 2016).

Snapshots are not affected. `recomputing` builds the host's class, and its changes to the blocks are kept in this process, not in
the network. So copies of the network, G_ema and snapshots among them, are the same as without it.

torch's non-reentrant form is used, which is correct for derivatives of any order, as R1 and path length need them."""

import functools
import importlib
import weakref

import torch
from torch.utils.checkpoint import checkpoint

_recomputed = weakref.WeakSet()     # blocks of this process whose forward is computed again
_patched = set()                    # their classes

#----------------------------------------------------------------------------

def recomputing(recomputed_class, **kwargs):
    """Return the network `recomputed_class(**kwargs)`, a dotted name, whose blocks are computed again in the backward pass."""
    module, _, name = recomputed_class.rpartition('.')
    network = getattr(importlib.import_module(module), name)(**kwargs)
    for block in recomputable(network):
        _patch(type(block))
        _recomputed.add(block)
    return network

def recomputable(network):
    """Return the children of a synthesis network, or of a discriminator, that hold convolutions and no moving statistics.

    Batch norm and spectral norm move their statistics in each forward pass, so a block with one of them would move them twice."""
    blocks = getattr(network, 'synthesis', network).children()
    return [block for block in blocks if _has_images(block) and not _moves_statistics(block)]

def _has_images(block):
    return any(p.ndim == 4 for p in block.parameters())

def _moves_statistics(block):
    buffers = [name.rpartition('.')[2] for name, _ in block.named_buffers()]
    return any(name.startswith(('running_', 'num_batches', 'weight_u', 'weight_v')) or name in ('u', 'v') for name in buffers)

#----------------------------------------------------------------------------
# A class's forward is replaced once. It recomputes only blocks in _recomputed, and only if gradients are needed and the block has
# no hooks, because a hook set for one pass (the residual's constant) is gone when the block is computed again. Averages that a
# forward pass moves (update_emas) are not moved again by the second computation.

def _has_hooks(block):
    return any(module._forward_pre_hooks or module._forward_hooks for module in block.modules())

def _patch(cls):
    if cls in _patched:
        return
    _patched.add(cls)
    stock = cls.forward
    @functools.wraps(stock)
    def forward(self, *args, **kwargs):
        if self not in _recomputed or not torch.is_grad_enabled() or _has_hooks(self):
            return stock(self, *args, **kwargs)
        passes = []
        def run(*args, **kwargs):
            if passes and kwargs.get('update_emas'):
                kwargs = dict(kwargs, update_emas=False)
            passes.append(True)
            return stock(self, *args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, **kwargs)
    cls.forward = forward

#----------------------------------------------------------------------------
