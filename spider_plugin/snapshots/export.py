"""`spider export` writes a network of a host's pickle to files without pickled code: tensors here, graphs by export_graph.py.

    network.pt            {name: tensor}, for torch.load(..., weights_only=True)
    network.json          the card, which describes the network, its arguments, and the origin of its source images
    network-source.npz    the source images that a Spider snapshot carries, images uint8 [M, C, R, R], labels [M] if it has any

With `.safetensors` in place of `.pt`, the card is also in the file's metadata. Nothing in the pickle is executed."""

import json
import math
import os
import platform
from pathlib import Path

import numpy as np
import torch

from spider_plugin import __version__
from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.cache import atomic_file, sha256_of_file
from spider_plugin.snapshots import export_graph
from spider_plugin.snapshots.families import fastgan_options, network_family
from spider_plugin.snapshots.lineage import cascade_stages, describe_stages
from spider_plugin.snapshots.rebuild import check_finite, checked_bank_state, unpickle
from spider_plugin.snapshots.records import PersistentRecord, read_pickle
from spider_plugin.training import record as run_record

_FORMAT = 1

def export(path, out, key=None, trust=False):
    """Write the network at `key` of the host pickle at `path` to `out`, with its card and source images; return the paths.

    out:    a name that ends in .pt or .safetensors (tensors), .onnx or .ts (a graph that draws from z, with its card).
    key:    G_ema, G, D, ...; default G_full if there is one (from the public Spider GAN code), else G_ema.
    trust:  unpickle as hosts do, which runs code that the file carries.
    Raises SpiderError."""
    path, out = Path(path), Path(out)
    if out.suffix not in (*_WRITERS, *export_graph.KINDS):
        raise SpiderError(f'--out={out} ends neither in .pt or .safetensors (tensors) nor in .onnx or .ts (a graph that draws); '
                          'give a name that does.')
    if os.path.isdir(out):
        raise SpiderError(f'--out={out} is a folder; give the name of a file.')
    graph = out.suffix in export_graph.KINDS
    save = None if graph else _WRITERS[out.suffix]()
    record = _network(unpickle(path) if trust else read_pickle(path), key, path)
    tensors = _separate(record.state_dict(), path)
    check_finite(tensors, path, 'network')
    card = _card(record, tensors, path, out)
    def save_graph(temp):
        source = card['source'] or {}
        said = {name: str(source[name]) for name in ('name', 'sha256', 'licence') if source.get(name)}
        card['graph'] = export_graph.write_graph(path, temp, out.suffix, key, trust, {f'source_{name}': text for name, text in
                                                                                      said.items()})
    files = {
        out:                      save_graph if graph else lambda temp: save(tensors, temp, text),
        out.with_suffix('.json'): lambda temp: temp.write_text(json.dumps(card, indent=2) + '\n', encoding='utf-8'),
    }
    if not graph and card['source'] is not None and card['source']['images']:
        bank = out.with_name(f'{out.stem}-source.npz')
        card['source']['file'], arrays = bank.name, _bank_arrays(record, path)
        files[bank] = lambda temp: np.savez(temp, **arrays)
    text = json.dumps(card, indent=2) + '\n'
    for file, write in files.items():
        with atomic_file(file) as temp:
            try:
                write(temp)
            except SpiderError:
                raise
            except Exception as error: # Each of the writers raises other errors for a full disk.
                reason = getattr(error, 'strerror', None) or ' '.join(str(error).split())[:160]
                raise SpiderError(f'Cannot write {file} ({reason}); free the disk or give another --out.') from error
    return list(files)

def describe(path, name):
    """Return the card of the network of the host pickle at `path` that `export` would choose; `name` of the file that it is of.

    Raises SpiderError for a file that holds none, and for a network that is not finite."""
    path = Path(path)
    record = _network(read_pickle(path), None, path)
    tensors = record.state_dict()
    check_finite(tensors, path, 'network')
    return _card(record, tensors, path, Path(name))

#----------------------------------------------------------------------------
# Files.

def _pt_writer():
    return lambda tensors, path, card: torch.save(tensors, path)

def _safetensors_writer():
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise SpiderError("A .safetensors file needs the safetensors package; run pip install 'spider-plugin[safetensors]', or "
                          'give a name that ends in .pt.') from error
    return lambda tensors, path, card: save_file(tensors, path, metadata=dict(format='pt', card=card))

_WRITERS = {'.pt': _pt_writer, '.safetensors': _safetensors_writer}

def _separate(tensors, path):
    """Return contiguous copies of the tensors. Raises SpiderError if a file names one tensor so often that memory would end."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(tensor.nbytes for tensor in tensors.values()) > 4 * sum(storages.values()) + (1 << 20):
        raise SpiderError(f'{path} names the same tensors too often; it is damaged.')
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}

#----------------------------------------------------------------------------
# The network.

def _network(contents, key, path):
    """Return the record at `key`. A live module, from --trust-pickle, becomes a record."""
    networks = {name: value for name, value in contents.items() if isinstance(value, (PersistentRecord, torch.nn.Module))}
    key = key or ('G_full' if 'G_full' in networks else 'G_ema')
    if key not in networks:
        names = ', '.join(shown(name, 40) for name in list(networks)[:10]) or 'none'
        raise SpiderError(f'{path} holds no network {key}; give --key one of: {names}.')
    network = networks[key]
    if isinstance(network, torch.nn.Module):
        network = _live_record(network)
    if not network.state_dict():
        raise SpiderError(f'{path} holds no tensors at {key}; use a snapshot written by a StyleGAN2/3-style host.')
    return network

def _live_record(module):
    """Return the record that the restricted reader would make of a module."""
    state = {key: value for key, value in vars(module).items() if key != 'source'}
    state['_modules'] = {name: child and _live_record(child) for name, child in module._modules.items()}
    if hasattr(module, 'source') and hasattr(module.source, 'identity'):
        bank = getattr(module.source, 'bank', module.source)
        state['source'] = PersistentRecord('ImageBank', '', state=bank.__getstate__())
    cls, persistent = type(module), hasattr(module, 'init_kwargs')
    return PersistentRecord(
        class_name  = cls.__name__ if persistent else f'{cls.__module__}.{cls.__name__}',
        module_src  = '',
        init_args   = tuple(getattr(module, 'init_args', ())),
        init_kwargs = dict(getattr(module, 'init_kwargs', {})),
        state       = state,
    )

#----------------------------------------------------------------------------
# The card.

def _card(record, tensors, path, out):
    versions = dict(spider_plugin=__version__, torch=torch.__version__, numpy=np.__version__, python=platform.python_version())
    return dict(
        format     = _FORMAT,
        file       = out.name,
        tensors    = len(tensors),
        numbers    = sum(tensor.numel() for tensor in tensors.values()),
        network    = _describe(record, path),
        source     = _source(record, path),
        licence    = 'unknown, because snapshots do not record it; the licences of the code and data of its training apply',
        input      = dict(file=path.name, sha256=sha256_of_file(path)),
        run        = _run(path),
        versions   = versions,
    )

def _run(path):
    """Return what made the run in whose folder the snapshot lies: its source, match, mapping and the snapshot that it was resumed
    from, without paths of the machine; None where there is no record."""
    made = run_record.read(path)
    if made is None:
        return None
    resumed = os.path.basename(made['resumed']) if isinstance(made.get('resumed'), str) else None
    return _Plain(path).of(dict(source=made.get('source'), resumed=resumed))

_SIZES = dict(z_dim='z_dim', w_dim='w_dim', c_dim='c_dim', resolution='img_resolution', channels='img_channels')

def _describe(record, path, parts=True):
    kwargs = dict(record.init_kwargs) | fastgan_options(record)
    if isinstance(kwargs.get('spider'), dict):  # the path of the prepared source is private to that machine
        kwargs['spider'] = {key: value for key, value in kwargs['spider'].items() if key != 'source'}
    sizes = {name: record.state.get(key, kwargs.get(key)) for name, key in _SIZES.items()}
    described = dict(
        class_name  = record.class_name,
        family      = network_family(record),
        **{name: size if isinstance(size, int) else None for name, size in sizes.items()},
        init_args   = list(record.init_args),
        init_kwargs = kwargs,
    )
    if parts and record.class_name == 'training.training_loop.MyEnsemble':
        found = list(record.state.get('_modules', {}).items())[:10]
        described['parts'] = {name: _describe(part, path, parts=False) for name, part in found
                              if getattr(part, 'init_kwargs', None)}
    return _Plain(path).of(described)

class _Plain:
    """Turns values from a pickle into values for JSON, within limits, because a pickle can hold lists that contain themselves."""

    def __init__(self, path):
        self.path, self.left = path, 10_000

    def of(self, value, depth=0):
        self.left -= 1
        if self.left < 0 or depth > 20:
            raise SpiderError(f'{self.path} holds endless arguments; it is damaged.')
        if isinstance(value, dict):
            return {str(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, np.generic):
            return self.of(value.item(), depth + 1)
        if isinstance(value, (str, bool, int, type(None))) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return str(value)[:80] if isinstance(value, (float, torch.dtype)) else f'({type(value).__name__})'

#----------------------------------------------------------------------------
# The source that the snapshot carries.

def _bank(record, path):
    try:
        return checked_bank_state(record)
    except ValueError as error:
        raise SpiderError(f'{path} holds {error}; export it with the version that wrote it.') from error

def _source(record, path):
    """Return the name, sha256, transform, licence, match, mapping, noise and images of the source; None without one.

    If the source was rendered by a generator, there is also 'cascade'."""
    state, spider = _bank(record, path), record.init_kwargs.get('spider')
    if state is None:
        return None
    described = {key: state['identity'].get(key) for key in ('name', 'sha256', 'transform', 'licence')}
    stages = cascade_stages(state['identity'], path)
    if 'latents' in stages[0]:
        described['cascade'] = describe_stages(stages)
    match = 'covariance' if 'match' in state['identity'] else 'none'
    mapping = spider.get('mapping') if isinstance(spider, dict) else None
    return _Plain(path).of(described | dict(match=match, mapping=mapping, noise=state['noise'], images=len(state['images'])))

def _bank_arrays(record, path):
    state = _bank(record, path)
    return {name: state[name].numpy() for name in ('images', 'labels') if state[name] is not None}

#----------------------------------------------------------------------------
