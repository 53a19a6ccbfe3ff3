"""`spider import` writes a network pickle of a checkpoint: of a state dict in .pt, .pth or .safetensors, or of a pickled module.

Nothing in the file is executed. The pickle is that of the host that is running (the reference host, or the checkout on the path),
so that generate, export, --spider-source, --resume and other hosts take it."""

import dataclasses
import os
import pickle
from pathlib import Path

import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.checksum import PickleFile
from spider_plugin.files.limits import parse_json, read_file
from spider_plugin.snapshots.checkpoints import read_checkpoint
from spider_plugin.snapshots.families import network_family
from spider_plugin.snapshots.foreign_networks import find_networks, flat_record, found_of_card
from spider_plugin.snapshots.rebuild import check_finite, host_with, rebuild_generator
from spider_plugin.snapshots.records import PersistentRecord
from spider_plugin.snapshots.resume_plan import module_of
from spider_plugin.snapshots.state_dicts import Found

_CARD    = 1 << 20      # most bytes of a card
_AVERAGE = 10_000       # latents whose mean w is taken where the file holds no average
_BLOCK   = 1000

@dataclasses.dataclass(frozen=True)
class Imported:
    """A network pickle that was written.

    path:       where.
    words:      the generator in words, for people.
    lines:      what was found where, and what the file does not say."""

    path:  str
    words: str
    lines: tuple

def import_file(path: str | os.PathLike[str], out: str | os.PathLike[str], key: str | None = None) -> Imported:
    """Write the network pickle `out` of the checkpoint `path`.

    key:    the entry of the file that is the generator; default g_ema and other usual names.
    Raises SpiderError, which names what the file is where it is none that is read."""
    path, out = Path(path), Path(out)
    if out.suffix != '.pkl':
        raise SpiderError(f'--out={out} does not end in .pkl; give a name that does.')
    if os.path.isdir(out):
        raise SpiderError(f'--out={out} is a folder; give the name of a file.')
    contents, notes = read_checkpoint(path)
    card = _record_of_card(path, contents, notes) if key is None else None
    if card is not None:
        generator, raw, discriminator, family = rebuild_generator(card, path), None, {}, network_family(card)
        lines = ['generator: by its card of `spider export`']
    else:
        found = find_networks(contents, path, key)
        generator, lines = _built(found.generator, path)
        family = found.generator.family if isinstance(found.generator, Found) else network_family(found.generator)
        lines = [f'generator: {found.entry or "the whole file"}', *lines]
        raw = None if found.raw is None else _built(found.raw, path)[0]
        discriminator = found.discriminator
        lines += ['G without the average over training: in the file'] if raw is not None else []
    check_finite(generator.state_dict(), path)
    lines.append(f'discriminator: {len(discriminator)} tensors' if discriminator else
                 'discriminator: none that is read, so --resume starts it afresh')
    data = dict(G=generator if raw is None else raw, D=module_of(discriminator), G_ema=generator, augment_pipe=None,
                training_set_kwargs=None)
    _write(out, family, {name: value.eval().requires_grad_(False) if isinstance(value, torch.nn.Module) else value
                         for name, value in data.items()})
    return Imported(str(out), _words(family, generator), tuple(lines))

def _write(out, family, data):
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with host_with(family), PickleFile(out) as file:
            pickle.dump(data, file)
    except OSError as error:
        raise SpiderError(f'Cannot write {out} ({error.strerror or error}); free the disk or give another --out.') from error

def _record_of_card(path, contents, notes):
    """The record that the card of `spider export` describes, which is in the file's notes or beside it; None without one."""
    if not isinstance(contents, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in contents.values()):
        return None
    try:
        text = notes['card'].encode() if 'card' in notes else read_file(path.with_suffix('.json'), _CARD)
        card = parse_json(text)
    except (OSError, ValueError):
        return None
    if 'card' not in notes and (not isinstance(card, dict) or card.get('file') != path.name):
        return None
    return found_of_card(contents, card)

_OTHER = 'import a checkpoint of the stock network'    # for tensors that do not fit it

def _built(found, path):
    """(the generator, lines about what the file does not say)."""
    if isinstance(found, PersistentRecord):
        return rebuild_generator(found, path, _OTHER), []
    assert isinstance(found, Found)
    generator, lines = rebuild_generator(flat_record(found), path, _OTHER), [f'assumed: {", ".join(found.assumed)}']
    if not found.averaged:
        lines.append(_set_average(generator))
    return generator, lines

@torch.no_grad()
def _set_average(generator):
    """Set the average of w, towards which truncation goes, to the mean over seeded latents; say so."""
    rng, total = torch.Generator().manual_seed(0), 0
    for _ in range(_AVERAGE // _BLOCK):
        z = torch.randn([_BLOCK, generator.z_dim], generator=rng)
        w = generator.mapping(z, torch.zeros([_BLOCK, generator.c_dim]))
        total = total + w[:, 0].sum(0)
    generator.mapping.w_avg.copy_(total / _AVERAGE)
    return f'average of w: not in the file, so the mean over {_AVERAGE} latents of seed 0'

def _words(family, generator):
    sizes = [f'{generator.img_channels} x {generator.img_resolution} x {generator.img_resolution}', f'z {generator.z_dim}',
             f'w {getattr(generator, "w_dim", 0)}']
    sizes += [f'{generator.c_dim} classes'] if generator.c_dim else []
    count = sum(tensor.numel() for tensor in generator.parameters())
    return f'{family}, {", ".join(sizes)}, {count} parameters'
