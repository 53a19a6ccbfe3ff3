"""Resumes from a snapshot without unpickling it, by a plan of the tensors that fit and a pickle that holds only those.

A host copies tensors by name. For that it unpickles the snapshot in every rank, which runs the code that the file carries; if a
shape differs, it stops with an error or broadcasts. Here the restricted reader reads the snapshot in the parent process. Tensors
with the same name and shape as in the networks that will train are written to a pickle of bare `torch.nn.Module`s in the cache,
with what else a fork may resume: other networks, such as an average of D, and plain data, such as counters; the config makes the
host resume from it. The host treats it like a snapshot, and there is no code in it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file
from spider_plugin.snapshots.rebuild import not_finite
from spider_plugin.snapshots.records import PersistentRecord
from spider_plugin.snapshots.warm_start import fit_layers

FORMAT   = 5    # Version of the converted pickle.
NETWORKS = ('G', 'D', 'G_ema')
RUNNING  = ('running_mean', 'running_var')  # Statistics of norms, which training does not read.
MOST     = 100_000      # Most parts of an entry that is resumed beside networks.
SAID     = 3    # Most names in a list; the rest are counted.
LEAST    = 0.1  # Part of G's tensors below which a snapshot is of another architecture.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan for one network; `there` is the snapshot, `here` the network that will train."""

    network: str
    copied:  dict   # name -> tensor there, of the same shape as here.
    differ:  dict   # name -> (shape there, shape here) of tensors that are not copied.
    new:     list   # Names that exist only here; they keep their initial values.
    unused:  list   # Names that exist only there.
    afresh:  list   # Names of running statistics that are not finite there; they keep their initial values.
    cut:     dict = dataclasses.field(default_factory=dict)     # name -> (shape there, shape here) if only first rows are copied.

    def line(self, others='skipped'):
        """Return one line for the launch log; others: what becomes of tensors of other shapes."""
        total = len(self.copied) + len(self.differ) + len(self.new) + len(self.afresh)
        parts = [f'{len(self.copied)} of {total} tensors copied']
        if self.cut:
            rows = [f'{name} {there[0]} -> {here[0]}' for name, (there, here) in self.cut.items()]
            parts.append(f'{len(self.cut)} of them by their first rows: {_listed(rows)}')
        if self.differ:
            shapes = [f'{name} {list(there)} -> {list(here)}' for name, (there, here) in self.differ.items()]
            parts.append(f'{len(self.differ)} of other shapes {others}: {_listed(shapes)}')
        if self.new:
            parts.append(f'{len(self.new)} not in the file: {_listed(self.new)}')
        if self.afresh:
            parts.append(f'{len(self.afresh)} not finite in the file, from their initial values: {_listed(self.afresh)}')
        if self.unused:
            parts.append(f'{len(self.unused)} only in the file: {_listed(self.unused)}')
        return f'{self.network}: ' + '; '.join(parts)

    def is_of_another(self, here):
        """Return whether the snapshot is of another architecture than the module `here`, as the reference host tells: less than
        a tenth of its tensors have a counterpart, or none of its parameters."""
        found = [*self.copied, *self.differ]
        total = len(found) + len(self.new) + len(self.afresh)
        return len(found) < LEAST * total or not {name for name, _ in here.named_parameters()} & set(found)

def make_plan(network, there, here):
    """Return the Plan for a network.

    there:  {name: tensor} of the snapshot.
    here:   the module that will train. None if it cannot be built in this process; then all tensors count as fitting, and the
            host will check them."""
    afresh = [name for name, tensor in there.items() if _running(name) and not_finite({name: tensor})]
    there = {name: tensor for name, tensor in there.items() if name not in afresh}
    if here is None:
        return Plan(network, there, {}, [], [], afresh)
    kept = here.state_dict().keys()     # without constants, which a network makes anew
    shapes = {name: tensor.shape for name, tensor in [*here.named_parameters(), *here.named_buffers()] if name in kept}
    longer = [name for name in getattr(here, 'resume_first_rows', ()) if name in there and name in shapes
              and there[name].shape[1:] == shapes[name][1:] and len(there[name]) > shapes[name][0]]
    cut = {name: (tuple(there[name].shape), tuple(shapes[name])) for name in longer}
    there = there | {name: there[name][: shape[0]] for name, (_, shape) in cut.items()}
    common = [name for name in shapes if name in there]
    return Plan(network, cut=cut,
                copied = {name: there[name] for name in common if there[name].shape == shapes[name]},
                differ = {name: (tuple(there[name].shape), tuple(shapes[name])) for name in common
                          if there[name].shape != shapes[name]},
                new    = [name for name in shapes if name not in there and name not in afresh],
                afresh = [name for name in afresh if name in shapes],
                unused = [name for name in there if name not in shapes])

def _listed(names):
    return ', '.join(names[:SAID]) + (f' and {len(names) - SAID} more' if len(names) > SAID else '')

#----------------------------------------------------------------------------

def _running(name):
    return name.rpartition('.')[2] in RUNNING

def check_resumable(path, contents):
    """Return {network: {name: tensor}} of the result of read_pickle(path). Raises SpiderError if a number is not finite, except
    in running statistics: hosts can leave NaN there in a network that trains well."""
    states = {name: contents[name].state_dict() for name in NETWORKS if hasattr(contents.get(name), 'state_dict')}
    for name, tensors in states.items():
        if (bad := not_finite({key: tensor for key, tensor in tensors.items() if not _running(key)})) is not None:
            raise SpiderError(f'--resume={path} is of training that diverged: {bad} of its {name} is not finite; take an earlier '
                              'snapshot.')
    return states

def convert(path, contents, modules, fit=fit_layers):
    """Write the pickle to resume from. Return (its path, the plans by network, {separable layer: relative error of its fit to
    the snapshot's dense kernel}).

    path:       the snapshot; the pickle keeps its name, so that logs show what was resumed.
    contents:   the result of read_pickle(path), or of unpickling it under --trust-pickle.
    modules:    {'G': module, 'D': module or None}, the networks that will train.
    fit:        makes the tensors of a dense generator fit separable layers: (state, network) -> (state, {layer: error}).
    Raises SpiderError if no tensor of the generator fits."""
    states = check_resumable(path, contents)
    states.setdefault('G_ema', states.get('G', {}))
    states.setdefault('G', states['G_ema'])
    fits = {}
    for name in ('G', 'G_ema'):
        states[name], fits = fit(states[name], modules['G'])
    plans = {name: make_plan(name, states.get(name, {}), modules[name[0]]) for name in NETWORKS}
    if not any(parameter in plans['G'].copied for parameter, _ in modules['G'].named_parameters()):
        raise SpiderError(f'--resume={path}: no tensor of its G fits the networks of this run; resume from a snapshot of the '
                          'same architecture.')
    dsc = getattr(modules['G'], 'init_kwargs', {}).get('dsc')   # the fit of separable layers depends on it
    key = json.dumps([FORMAT, sha256_of_file(path), dsc, {name: sorted(plan.copied) for name, plan in plans.items()}])
    final = cache_dir('resume', hashlib.sha256(key.encode()).hexdigest()[:16]) / Path(path).name
    if final.is_file():
        os.utime(final)     # `spider cache` removes what nobody resumes any more
    else:
        data = plain_entries(contents) | other_networks(contents, modules) | \
            {name: module_of(plan.copied) for name, plan in plans.items()}
        pipe = contents.get('augment_pipe')
        probability = pipe.state_dict().get('p') if hasattr(pipe, 'state_dict') else None
        data.update(training_set_kwargs=None, augment_pipe=None if probability is None else module_of({'p': probability}))
        data['told'] = True     # the launch log has the plan, so the reference host says nothing of missing tensors
        with atomic_file(final) as temp, open(temp, 'wb') as file:
            pickle.dump(data, file)
    return str(final), plans, fits

def other_networks(contents, modules):
    """Return {name: bare module} of the other networks of a snapshot: of an average, such as D_ema, the tensors that fit the
    network that it is of; of those that cannot be built here, such as the heads of a contrastive loss, all."""
    others = {name: value.state_dict() for name, value in contents.items()
              if name not in NETWORKS and isinstance(value, PersistentRecord | torch.nn.Module)}
    return {name: module_of(make_plan(name, state, modules.get(name.removesuffix('_ema'))).copied)
            for name, state in others.items() if state}

class _NotPlain(Exception):
    pass

def plain_entries(contents):
    """Return the entries of a snapshot that are plain data: numbers, texts, tensors, and lists, tuples and dicts of these. Forks
    resume counters and optimizers from such entries. Others are left out, and so are those without an end."""
    entries = {}
    for name, value in contents.items():
        with contextlib.suppress(_NotPlain, RecursionError):
            entries[name] = _plain(value, [MOST])
    return entries

def _plain(value, left):
    """Return a copy of plain data; left: [how many more parts may be copied]. Raises _NotPlain."""
    left[0] -= 1
    if left[0] < 0:
        raise _NotPlain
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return value
    if isinstance(value, torch.Tensor) and value.nbytes <= value.untyped_storage().nbytes():
        return value.detach().clone()
    if isinstance(value, dict):
        return {_plain(key, left): _plain(part, left) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(part, left) for part in value)
    raise _NotPlain

def module_of(tensors):
    """Return a tree of bare modules with these tensors as buffers, by their dotted names."""
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
