"""Training states: all that a run needs beside a snapshot to go on as if nobody had interrupted it.

The state of network-snapshot-XXXXXX.pkl is training-state-XXXXXX.pt. It holds tensors and plain data only, is read without
unpickling anything else, and names the snapshot by its sha256: the weights are in there. docs/resume.md lists its entries."""

import json
import os
import random
import re

import numpy as np
import torch

import dnnlib
from torch_utils import misc, training_stats
from training import files, loading, ranks, snapshots
from training.runtime import SpiderError

FORMAT = 1

#----------------------------------------------------------------------------
# What is in a state.

def start(nimg):
    """Where a run is that begins at `nimg` images."""
    return dnnlib.EasyDict(
        nimg        = nimg,     # Images so far.
        shown       = 0,        # Images taken from the dataset: nimg without those of another run.
        batch       = 0,        # Iterations so far.
        tick        = 0,        # Ticks so far,
        tick_nimg   = nimg,     # and images at the last one.
        named       = -1)       # Images at the last tick or snapshot; -1 = none.

def gather(run, evaluate):
    """The state of a run, for save(); all ranks call it.

    run: networks, phases, loss, augment, report, training_set, at and device, as training_loop() has them.
    evaluate: are metrics due at this snapshot?"""
    total, pending = training_stats.state()
    return dict(
        format      = FORMAT,
        at          = dict(run.at),
        evaluate    = evaluate,
        optimizers  = {name: opt.state_dict() for name, opt in optimizers(run.phases).items()},
        loss        = run.loss.state_dict() if hasattr(run.loss, 'state_dict') else {},
        augment     = run.augment.signs.state_dict() if run.augment.active() else None,
        stats       = total,
        report      = run.report.state_dict(),
        dataset     = dataset_identity(run.training_set),
        source      = source_identity(run.networks.G),
        ranks       = ranks.gather(dict(random=random_state(run.device), stats=pending)))

def restore(run, state, reseed=0):
    """Puts the parts of a run where gather() found them; all ranks call it. The snapshot is read for the weights.

    reseed: not 0 = draw other random numbers than the run drew from here on before. Raises SpiderError."""
    check_identity(run, state)
    restore_networks(run.networks, state)
    for name, opt in optimizers(run.phases).items():
        opt.load_state_dict(state['optimizers'][name])
    if hasattr(run.loss, 'load_state_dict'):
        run.loss.load_state_dict(state['loss'])
    if run.augment.active() and state['augment'] is not None:
        run.augment.signs.load_state_dict(state['augment'])
    run.report.load_state_dict(state['report'])
    restore_ranks(run, state, reseed)

def restore_networks(networks, state):
    source = snapshots.load_networks(state['snapshot'], option='--resume')
    for name, module in networks.items():
        if module is not None:
            try:
                misc.copy_params_and_buffers(source[name], module, require_all=True)
            except ValueError as err:
                raise SpiderError(f'--resume: {name} of {state["snapshot"]} does not fit the run ({str(err)[:160]}); was another '
                                  'version of the code used?') from err

def restore_ranks(run, state, reseed):
    """Statistics that the ranks have not exchanged yet, and random numbers, which other ranks than before draw anew."""
    mine, rank = state['ranks'], run.rank
    if len(mine) == run.num_gpus:
        pending = mine[rank]['stats']
    else: # Rank 0 reports what all of the others had, too.
        print(f'The run had {len(mine)} ranks and has {run.num_gpus} now: the order of the images goes on, random numbers start '
              'anew')
        pending = {name: sum(other['stats'][name] for other in mine) * (rank == 0) for name in mine[0]['stats']}
    training_stats.set_state(state['stats'], pending)
    if len(mine) == run.num_gpus and not reseed:
        set_random_state(mine[rank]['random'], run.device)
    else:
        seed = loading.seed_of(run.seed, run.num_gpus, rank, run.at.nimg, reseed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        random.seed(seed)

def optimizers(phases):
    """{'G': the optimizer of its phases, 'D': ...}."""
    return {phase.name[0]: phase.opt for phase in phases}

#----------------------------------------------------------------------------
# Random numbers.

def random_state(device):
    """That of all global generators that training draws from, as tensors and plain data."""
    kind, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    state = dict(torch=torch.get_rng_state(), python=[version, torch.tensor(numbers), gauss],
                 numpy=[kind, torch.from_numpy(keys.astype(np.int64)), *rest])
    if device.type in ('cuda', 'mps'):
        module = getattr(torch, device.type)
        state[device.type] = module.get_rng_state(*[device] * (device.type == 'cuda'))
    return state

def set_random_state(state, device):
    """Raises nothing where the state is that of another kind of device: its generator keeps the seed of the run."""
    version, numbers, gauss = state['python']
    kind, keys, *rest = state['numpy']
    random.setstate((version, tuple(numbers.tolist()), gauss))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'])
    if device.type in state:
        module = getattr(torch, device.type)
        module.set_rng_state(state[device.type], *[device] * (device.type == 'cuda'))

#----------------------------------------------------------------------------
# Which data it was.

def dataset_identity(training_set):
    return dict(images=len(training_set), fingerprint=getattr(training_set, 'fingerprint', None))

def source_identity(G):
    """Identity of the image source of a generator of the plugin, as JSON; None without one."""
    identity = getattr(getattr(G, 'source', None), 'identity', None)
    return None if identity is None else json.dumps(identity, sort_keys=True, default=str)

def check_identity(run, state):
    """Raises SpiderError where images are missing or the source is another one; says so where the files differ."""
    before, now = state['dataset'], dataset_identity(run.training_set)
    if before['images'] != now['images']:
        raise SpiderError(f'--resume: the run was trained on {before["images"]} images, and {now["images"]} are there; give it '
                          'those back, or fine-tune its last snapshot on these (--resume=PKL)')
    if before['fingerprint'] != now['fingerprint']:
        print('The files of the dataset are not those of before by their time or checksum.')
    if state['source'] != source_identity(run.networks.G):
        raise SpiderError('--resume: the image source is not the one that the run was trained with; restore the source, or '
                          'fine-tune the last snapshot (--resume=PKL)')

#----------------------------------------------------------------------------
# Files.

def path_of(snapshot):
    """'.../network-snapshot-000010.pkl' -> '.../training-state-000010.pt'."""
    folder, name = os.path.split(snapshot)
    return os.path.join(folder, f'training-state-{snapshots.digits(name)}.pt')

def save(state, snapshot):
    """Writes the state beside its snapshot, which must be there already."""
    state = dict(state, snapshot=os.path.basename(snapshot), sha256=files.sha256(snapshot))
    files.write_whole(path_of(snapshot), lambda f: torch.save(state, f))

def load(fname):
    """The state in a file, with the path of its snapshot as `snapshot`. Raises SpiderError where it is of no use."""
    try:
        state = torch.load(fname, map_location='cpu', weights_only=True)
        version, name, digest = state['format'], os.path.basename(state['snapshot']), state['sha256']
    except Exception as err: # A damaged file can fail anywhere.
        reason = (str(err).strip() or type(err).__name__).splitlines()[0][:160]
        raise SpiderError(f'{fname} cannot be read as a training state ({reason})') from err
    if version != FORMAT:
        raise SpiderError(f'{fname} has format {version}, this version reads {FORMAT}')
    snapshot = os.path.join(os.path.dirname(fname), name)
    if not os.path.isfile(snapshot):
        raise SpiderError(f'{fname} belongs to {name}, which is not there')
    if files.sha256(snapshot) != digest:
        raise SpiderError(f'{fname} belongs to another {name} than the one beside it')
    return dict(state, snapshot=snapshot)

def newest(run_dir):
    """Path of the newest state of a run that is whole and has its snapshot, or None; says which ones it passes over."""
    for name in sorted(os.listdir(run_dir), reverse=True):
        if re.fullmatch(r'training-state-[0-9]+\.pt', name):
            try:
                load(os.path.join(run_dir, name))
                return os.path.join(run_dir, name)
            except SpiderError as err:
                print(f'Left out: {err.message}.')
    return None

#----------------------------------------------------------------------------
