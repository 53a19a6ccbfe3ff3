"""What a residual has learned, in the host's statistics: the factor of the source in the pixels, and the gain of the source.

The report is put around the residual of a bundle when the bundle is loaded, so it is never part of a snapshot."""

import functools
import importlib

NAMES = dict(source_skip_gain='Spider/skip', source_gain='Spider/gain')     # parameter -> its name in stats.jsonl

def watch(bundle):
    """Let the residual of a bundle that has just been imported report its learned gains at each training step of G.

    Hosts sum statistics over ranks by their names, so every rank registers a name when it builds a network that has it. A gain
    that is fixed is a buffer, and is in no statistic."""
    residual = getattr(bundle, 'ResidualMixin', None)
    try:
        stats = importlib.import_module('torch_utils.training_stats')
    except ImportError:
        return      # No host is on the path, so there is no training.
    if residual is None:
        return
    attach, image = residual.attach_gains, residual.source_image
    @functools.wraps(attach)
    def attach_gains(self, *args, **kwargs):
        attach(self, *args, **kwargs)
        for name in NAMES.keys() & self._parameters.keys():
            stats.report(NAMES[name], [])
    @functools.wraps(image)
    def source_image(self, ws):
        for name in NAMES.keys() & self._parameters.keys():
            gain = getattr(self, name)
            if gain.requires_grad and self.training and _trains():
                stats.report(NAMES[name], gain)
        return image(self, ws)
    residual.attach_gains, residual.source_image = attach_gains, source_image

def _trains():
    import torch
    return torch.is_grad_enabled()

#----------------------------------------------------------------------------
