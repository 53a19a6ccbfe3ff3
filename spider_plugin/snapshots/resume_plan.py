"""Resuming from a snapshot that nobody unpickles: a plan of what fits, and a pickle that holds only that.

A host copies tensors by name and unpickles the snapshot to do so, in every rank, running the code that it carries; where a
shape differs it breaks off, or broadcasts. Here the snapshot is read by the restricted reader, in the parent. What has the
same name and shape as in the networks that will train goes into a pickle of bare `torch.nn.Module`s in the cache, which the
host is told to resume from. It cannot tell the difference, and there is nothing in it to run."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file
from spider_plugin.snapshots.warm_start import fit_layers

FORMAT   = 2    # Of the converted pickle.
NETWORKS = ('G', 'D', 'G_ema')
SAID     = 3    # Names in a list before the rest is counted.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of one network; `there` is the snapshot, `here` the network that will train."""

    network: str
    copied:  dict   # name -> tensor there, of the shape that it has here.
    differ:  dict   # name -> (shape there, shape here): not copied.
    new:     list   # Names that are only here: they start as they are.
    unused:  list   # Names that are only there.
    cut:     dict = dataclasses.field(default_factory=dict)     # name -> (shape there, shape here): its first rows are copied.

    def line(self):
        """One line for the launch log."""
        parts = [f'{len(self.copied)} of {len(self.copied) + len(self.differ) + len(self.new)} tensors copied']
        if self.cut:
            rows = [f'{name} {there[0]} -> {here[0]}' for name, (there, here) in self.cut.items()]
            parts.append(f'{len(self.cut)} of them by their first rows: {_listed(rows)}')
        if self.differ:
            shapes = [f'{name} {list(there)} -> {list(here)}' for name, (there, here) in self.differ.items()]
            parts.append(f'{len(self.differ)} of other shapes skipped: {_listed(shapes)}')
        if self.new:
            parts.append(f'{len(self.new)} not in the file: {_listed(self.new)}')
        if self.unused:
            parts.append(f'{len(self.unused)} only in the file: {_listed(self.unused)}')
        return f'{self.network}: ' + '; '.join(parts)

def make_plan(network, there, here):
    """The Plan for a network. there: {name: tensor}; here: the module, None where it cannot be built beforehand: then
    everything counts as fitting, and the host finds out."""
    if here is None:
        return Plan(network, dict(there), {}, [], [])
    shapes = {name: tensor.shape for name, tensor in [*here.named_parameters(), *here.named_buffers()]}
    longer = [name for name in getattr(here, 'resume_first_rows', ()) if name in there and name in shapes
              and there[name].shape[1:] == shapes[name][1:] and len(there[name]) > shapes[name][0]]
    cut = {name: (tuple(there[name].shape), tuple(shapes[name])) for name in longer}
    there = there | {name: there[name][: ours[0]] for name, (_, ours) in cut.items()}
    common = [name for name in shapes if name in there]
    return Plan(network, cut=cut,
                copied = {name: there[name] for name in common if there[name].shape == shapes[name]},
                differ = {name: (tuple(there[name].shape), tuple(shapes[name])) for name in common
                          if there[name].shape != shapes[name]},
                new    = [name for name in shapes if name not in there],
                unused = [name for name in there if name not in shapes])

def _listed(names):
    return ', '.join(names[:SAID]) + (f' and {len(names) - SAID} more' if len(names) > SAID else '')

#----------------------------------------------------------------------------

def convert(path, contents, modules, fit=fit_layers):
    """Writes the pickle to resume from; returns (its path, the plans by network, {separable layer: relative error of its fit to
    the snapshot's dense kernel}).

    path:       the snapshot; its name stays, so that logs tell what was resumed.
    contents:   what read_pickle(path) gave, or what trusted unpickling did.
    modules:    {'G': module, 'D': module or None}: the networks as they will train.
    fit:        makes the tensors of a dense generator fit separable layers: (state, network) -> (state, {layer: error}).
    Raises SpiderError where nothing of the generator fits."""
    states = {name: contents[name].state_dict() for name in NETWORKS if hasattr(contents.get(name), 'state_dict')}
    states.setdefault('G_ema', states.get('G', {}))
    states.setdefault('G', states['G_ema'])
    fits = {}
    for name in ('G', 'G_ema'):
        states[name], fits = fit(states[name], modules['G'])
    plans = {name: make_plan(name, states.get(name, {}), modules[name[0]]) for name in NETWORKS}
    if not any(parameter in plans['G'].copied for parameter, _ in modules['G'].named_parameters()):
        raise SpiderError(f'--resume={path}: no tensor of its G fits the networks of this run; resume from a snapshot of the '
                          'same architecture.')
    dsc = getattr(modules['G'], 'init_kwargs', {}).get('dsc')   # what the tensors of separable layers are fitted to
    key = json.dumps([FORMAT, sha256_of_file(path), dsc, {name: sorted(plan.copied) for name, plan in plans.items()}])
    final = cache_dir('resume', hashlib.sha256(key.encode()).hexdigest()[:16]) / Path(path).name
    if not final.is_file():
        data = {name: _module_of(plan.copied) for name, plan in plans.items()}
        pipe = contents.get('augment_pipe')
        probability = pipe.state_dict().get('p') if hasattr(pipe, 'state_dict') else None
        data.update(training_set_kwargs=None, augment_pipe=None if probability is None else _module_of({'p': probability}))
        with atomic_file(final) as temp, open(temp, 'wb') as file:
            pickle.dump(data, file)
    return str(final), plans, fits

def _module_of(tensors):
    """A tree of bare modules with these tensors as buffers, by their dotted names."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split('.')
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module._modules[part]
        module.register_buffer(last, tensor.detach().clone())
    return root

#----------------------------------------------------------------------------
