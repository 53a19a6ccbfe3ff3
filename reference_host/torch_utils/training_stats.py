"""Scalars that any training code can report, and their means over a tick and over all ranks.

    training_stats.report('Loss/G', loss)             # any shape, any number of times
    collector = training_stats.Collector(regex='.*')
    collector.update(); collector['Loss/G']           # mean since the previous update()

For each name (count, sum, sum of squares) is kept, so the values of ranks are combined by adding.
"""

import re

import numpy as np
import torch

import dnnlib

_rank        = 0
_sync_device = None     # where ranks exchange sums; None with a single process
_pending     = {}       # {name: float64 [3] on the device of the reported values}, since the last synchronisation
_cumulative  = {}       # {name: float64 [3] on the CPU}, over all ranks since the start

#----------------------------------------------------------------------------

def init_multiprocessing(rank, sync_device):
    """Set the rank of this process; call once before any report.

    sync_device: a device of torch.distributed's backend, None for one process.
    """
    global _rank, _sync_device
    _rank, _sync_device = rank, sync_device

def report(name, value):
    """Count every element of value (scalar, sequence, array or tensor) towards `name`, and return value.

    All ranks must report the same names at least once; an empty value registers a name and counts nothing.
    """
    elems = torch.as_tensor(value).detach().flatten()
    elems = (elems.cpu() if elems.device.type == 'mps' else elems).to(torch.float64) # MPS has no float64.
    sums = torch.stack([torch.ones_like(elems).sum(), elems.sum(), elems.square().sum()])
    _pending[name] = sums + _pending[name].to(sums.device) if name in _pending else sums
    return value

def report0(name, value):
    """Like report(), but only the value of rank 0 counts."""
    report(name, value if _rank == 0 else [])
    return value

def _synchronise():
    """Move the pending sums of all ranks into _cumulative."""
    names = sorted(_pending)
    if not names:
        return
    sums = torch.stack([_pending[name].cpu() for name in names])
    if _sync_device is not None:
        sums = sums.to(_sync_device)
        torch.distributed.all_reduce(sums)
        sums = sums.cpu()
    for name, value in zip(names, sums):
        _cumulative[name] = _cumulative.get(name, torch.zeros(3, dtype=torch.float64)) + value
        _pending[name] = torch.zeros(3, dtype=torch.float64) # The name stays registered in all ranks.

#----------------------------------------------------------------------------
# The statistics so far, to continue with them in another process.

def state():
    """(what all ranks have summed up, what this rank has reported since): two dicts {name: float64 [3] on the CPU}."""
    return tuple({name: value.cpu().clone() for name, value in sums.items()} for sums in (_cumulative, _pending))

def set_state(cumulative, pending):
    """Continue with what state() gave. Names that this process alone has registered stay registered."""
    registered = {name: torch.zeros(3, dtype=torch.float64) for name in _pending}
    for sums, values in ((_cumulative, cumulative), (_pending, registered | pending)):
        sums.clear()
        sums.update({name: value.clone() for name, value in values.items()})

#----------------------------------------------------------------------------

class Collector:
    """Means of the names that match regex, between calls of update().

    With keep_previous, a name without reports since the last update keeps its previous mean. With several processes,
    all ranks must call update() together.
    """

    def __init__(self, regex='.*', keep_previous=True):
        self._regex = re.compile(regex)
        self._keep_previous = keep_previous
        self._seen = {}     # {name: cumulative sums at the last update}
        self._delta = {}    # {name: sums between the last two updates}
        self.update()
        self._delta.clear()

    def state_dict(self):
        """What the means are of, as plain tensors; use it together with state()."""
        return dict(seen=dict(self._seen), delta=dict(self._delta))

    def load_state_dict(self, state):
        self._seen, self._delta = dict(state['seen']), dict(state['delta'])

    def names(self):
        return sorted(name for name in _cumulative | _pending if self._regex.fullmatch(name))

    def update(self):
        _synchronise()
        for name in self.names():
            delta = _cumulative[name] - self._seen.get(name, 0)
            if delta[0] > 0 or not self._keep_previous:
                self._delta[name] = delta
            self._seen[name] = _cumulative[name]

    def num(self, name):
        """Return the number of elements that were reported."""
        return int(self._delta[name][0]) if name in self._delta else 0

    def mean(self, name):
        """Return their mean; NaN without any."""
        return float(self._delta[name][1] / self._delta[name][0]) if self.num(name) else float('nan')

    def std(self, name):
        """Return their standard deviation (no correction of the degrees of freedom); NaN without any."""
        if self.num(name) == 0:
            return float('nan')
        n, total, squares = self._delta[name].tolist()
        return float(np.sqrt(max(squares / n - (total / n) ** 2, 0)))

    def as_dict(self):
        """Return {name: EasyDict(num, mean, std)}."""
        return dnnlib.EasyDict((name, dnnlib.EasyDict(num=self.num(name), mean=self.mean(name), std=self.std(name)))
                               for name in self.names())

    def __getitem__(self, name):
        return self.mean(name)

#----------------------------------------------------------------------------
