"""Finds the generator in the contents of a checkpoint, by the names and shapes of its tensors: `find_networks`.

A checkpoint may be a state dict, a dict of state dicts, or a dict of modules, with a prefix before each name where the network
was part of a larger one. Networks that are known and not read are refused by their name."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.snapshots import rosinality
from spider_plugin.snapshots.families import network_family
from spider_plugin.snapshots.records import MAX_ENTRIES, HeldRecord, PersistentRecord
from spider_plugin.snapshots.state_dicts import Found, Unfit, stylegan2, stylegan3

# Entries of a checkpoint by their usual names, the preferred first.
EMA = ('g_ema', 'G_ema', 'generator_ema', 'netG_ema', 'ema', 'params_ema', 'model_ema')
RAW = ('g', 'G', 'generator', 'netG', 'gen', 'params', 'state_dict', 'model', 'model_state_dict', 'net')
D   = ('d', 'D', 'discriminator', 'netD', 'disc')

# A tensor that only this network has, by the end of its name.
_MARKS = {
    'stylegan3':  'synthesis.input.freqs',
    'stylegan2':  'synthesis.b4.const',
    'rosinality': rosinality.MARK,
}

_NAMES = dict(stylegan3='StyleGAN3', stylegan2='StyleGAN2', rosinality='StyleGAN2 of rosinality')

# Networks that are recognised, so that the sentence can name them: (a pattern for the names of their tensors, what they are).
_NOT_READ = (
    (r'GAN\.|G\.initial_block|(S|SE|GE|G)\.(net|blocks)\.', 'a StyleGAN2 of lucidrains/stylegan2-pytorch, another function than '
     'NVlabs\' StyleGAN2'),
    (r'(G|GE|D)\.(initial_conv|layers|latent_to_image|out_conv)\.', 'a generator of lucidrains/lightweight-gan'),
    (r'style_convs\.\d+\.modulated_conv\.|stylegan_decoder\.', 'a StyleGAN2 of BasicSR or GFPGAN'),
    (r'style_mapping\.\d+\.|convs\.\d+\.conv\.weight_orig', 'a StyleGAN2 of MMGeneration'),
    (r'mapping\.dense\d+\.|synthesis\.layer\d+\.', 'a StyleGAN of GenForce'),
    (r'generator\.progression\.|g_synthesis\.|g_mapping\.', 'a StyleGAN of 2019'),
    (r'synthesis\.init\.init\.\d', 'a FastGAN of Projected GAN, whose .pkl is read'),
    (r'(module\.)?(init\.init\.\d|feat_\d+\.\d|se_\d+\.main)', 'a FastGAN of its authors'),
    (r'scaleLayers\.|toRGBLayers\.', 'a progressive GAN'),
    (r'model\.diffusion_model\.|down_blocks\.\d+\.|input_blocks\.\d+\.', 'a diffusion model'),
    (r'quantize\.embedding|first_stage_model\.', 'an autoencoder'),
    (r'.*rendering|.*triplane|.*decoder\.net\.', 'a generator that draws from cameras'),
)

@dataclasses.dataclass(frozen=True)
class Networks:
    """What a checkpoint holds.

    generator:      Found, or a record that a known class can be built for.
    entry:          where in the file it was found, '' for the whole file.
    raw:            the generator without the average over training, of the same kind; None where there is none.
    discriminator:  {name of NVlabs: tensor}; {} where there is none."""

    generator:      Any
    entry:          str
    raw:            Any = None
    discriminator:  dict = dataclasses.field(default_factory=dict)

def find_networks(contents: Any, path: object, key: str | None = None) -> Networks:
    """Return the Networks in the contents of a checkpoint; `path` is for messages.

    key:    the entry that is the generator; default the first of EMA, RAW that is there, else the whole file.
    Raises SpiderError for contents without a generator that is read."""
    entry, value = _chosen(contents, path, key)
    average = contents.get('latent_avg') if isinstance(contents, Mapping) else None
    generator = _network(value, average, entry, path)
    raw, name = None, _first(contents, RAW)
    if entry in EMA and name is not None:
        with contextlib.suppress(SpiderError):      # something else of a usual name
            raw = _network(contents[name], average, name, path)
    return Networks(generator, entry, raw, _discriminator(contents))

def _chosen(contents, path, key):
    """(entry, its value) of the generator."""
    if isinstance(contents, Mapping) and key is not None:
        if key not in contents:
            raise SpiderError(f'{path} has no entry {shown(key, 60)}; give --key one of: {_entries(contents)}.')
        return key, contents[key]
    name = _first(contents, EMA) or _first(contents, RAW)
    if name is None and _is_state(contents):
        return '', contents
    name = name or _first(contents, list(contents) if isinstance(contents, Mapping) else [])
    if name is None:
        raise SpiderError(f'{path} holds no tensors of a network; give a checkpoint of a generator.')
    return name, contents[name]

def _first(contents, names):
    """The first of these entries that is a network or a state dict; None where none is."""
    if not isinstance(contents, Mapping):
        return None
    return next((name for name in names if _is_state(contents.get(name))), None)

def _is_state(value):
    """Whether it is a network or a state dict."""
    if isinstance(value, PersistentRecord):
        return True
    return isinstance(value, Mapping) and any(isinstance(tensor, torch.Tensor) and tensor.ndim > 1 for tensor in value.values())

def _entries(contents):
    return ', '.join(shown(name, 40) for name in list(contents)[:20]) or 'none'

#----------------------------------------------------------------------------

def _network(value, average, entry, path):
    """Found, or a record of a known family. Raises SpiderError."""
    if isinstance(value, PersistentRecord):
        if not isinstance(value, HeldRecord) and network_family(value) is not None:
            return value
        value = value.state_dict()
    where = f'{path}, entry {shown(entry, 40)},' if entry else f'{path}'
    tensors = {name: tensor for name, tensor in value.items() if isinstance(name, str) and isinstance(tensor, torch.Tensor)} \
        if isinstance(value, Mapping) else {}
    if not tensors or len(tensors) > MAX_ENTRIES:
        raise SpiderError(f'{where} holds no named tensors; save the state dict of the generator, and import that.')
    family, prefix = _marked(tensors)
    if family is None:
        raise SpiderError(f'{where} holds {_described(tensors)}; `spider import` reads StyleGAN2 and StyleGAN3 by the names of '
                          'NVlabs, and StyleGAN2 by those of rosinality.')
    inner = {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        if family == 'rosinality':
            found = stylegan2(rosinality.generator(inner, average))
            return dataclasses.replace(found, kwargs=found.kwargs | dict(conv_clamp=None))
        return (stylegan2 if family == 'stylegan2' else stylegan3)(inner)
    except Unfit as error:
        raise SpiderError(f'{where} looks like a {_NAMES[family]}, but {shown(error)}; import a checkpoint of the stock '
                          'network.') from error

def _marked(tensors):
    """(key of _MARKS, the prefix of its names), (None, '') for other tensors."""
    for family, mark in _MARKS.items():
        for name in tensors:
            if name == mark or name.endswith(f'.{mark}'):
                return family, name.removesuffix(mark)
    return None, ''

def _described(tensors):
    for pattern, what in _NOT_READ:
        if any(re.match(pattern, name) for name in tensors):
            return f'{what}, which is not read'
    return f'tensors such as {shown(next(iter(tensors)), 80)}, of no network that is known here'

def _discriminator(contents):
    """{name of NVlabs: tensor} of a discriminator that is known; {} for none and for any other: a resume starts it afresh."""
    name = _first(contents, D)
    if name is None:
        return {}
    value = contents[name]
    tensors = value.state_dict() if isinstance(value, PersistentRecord) else dict(value)
    tensors = {str(name).removeprefix('module.'): tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if 'b4.out.weight' in tensors:
        return tensors
    try:
        return rosinality.discriminator(tensors)
    except Unfit:
        return {}

def found_of_card(tensors: Mapping[str, torch.Tensor], card: Any) -> PersistentRecord | None:
    """Return the record that a card of `spider export` describes; None where it is no such card, or of a network fed from a
    source, which a card does not hold whole."""
    network = card.get('network') if isinstance(card, dict) and card.get('format') == 1 else None
    if not isinstance(network, dict):
        return None
    name, kwargs, args = network.get('class_name'), network.get('init_kwargs'), network.get('init_args')
    if not isinstance(name, str) or not isinstance(kwargs, dict) or not isinstance(args, list):
        return None
    if kwargs.get('spider') is not None:
        return None
    record = PersistentRecord(name[:200], '', tuple(args), kwargs, dict(_buffers=dict(tensors)))
    return record if network_family(record) is not None else None

def flat_record(found: Found) -> PersistentRecord:
    """Return a record of a generator whose tensors have dotted names."""
    return PersistentRecord('Generator', '', (), dict(found.kwargs), dict(_buffers=dict(found.tensors)))
