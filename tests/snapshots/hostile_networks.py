"""Hostile snapshots of networks: `cases(canary, networks)`. Each is what a host writes of a network, with one thing changed.

networks: {cfg: [{options, refused, G_kwargs, D_kwargs}, ...]}, as tests/every_network.py lists them."""

import copy
import importlib
import json
import pickle
import pickletools
import struct

HUGE = 1 << 40

def cases(canary, networks, live=False):
    """(label, pickle) of everything; labels begin with the cfg, and end with `live` where the changed thing is code. Of each cfg,
    what is fed with noise, with the first mapping, and with every feature; the latter has all arguments changed.

    live: only those whose code Python's own reader runs."""
    for cfg, found in networks.items():
        accepted = [network for network in found if not network['refused']]
        fed = [network for network in accepted if network['G_kwargs'].get('spider')]
        for label, network in {f'{cfg} {" ".join(one["options"])}': one for one in (accepted[0], fed[0], fed[-1])}.items():
            contents = snapshot(network)
            line = f'open({canary!r}, "w")  # {label}\n'    # another one in each: hosts run a source once in a process
            yield f'{label}: module sources, live', with_sources(dump(contents), line)
            if not live:
                yield from ((f'{label}: {name}', pickled) for name, pickled in other_names(contents))
            if not live and network is fed[-1]:
                yield from ((f'{label}: {name}', pickled) for name, pickled in other_arguments(contents))

def snapshot(network):
    """What a host pickles, but for sizes: the tables of classes, not of numbers, are looked at."""
    small = {key: 16 for key in ('z_dim', 'w_dim') if key in network['G_kwargs'] and not is_paper(network)}
    G = build(dict(network['G_kwargs'], **small))
    return dict(G_ema=G, D=network['D_kwargs'] and build(network['D_kwargs']))

def is_paper(network):
    return network['G_kwargs'].get('spider', {}).get('mapping', '').startswith('paper')

def build(kwargs):
    kwargs = dict(c_dim=0, img_resolution=16, img_channels=3) | kwargs
    module, _, name = kwargs.pop('class_name').rpartition('.')
    return getattr(importlib.import_module(module), name)(**kwargs).eval().requires_grad_(False)

#----------------------------------------------------------------------------

def other_names(contents):
    yield 'whole', dump(contents)
    name = type(contents['G_ema']).__name__
    other = 'DCGANGenerator' if 'PGGAN' in name else 'PGGANGenerator'
    yield 'name of another class', dump(contents).replace(text(name), text(other))
    yield 'name of a module', dump(contents).replace(text(name), text('os.system'))

def other_arguments(contents):
    G = contents['G_ema']
    stock = copy.deepcopy(G._init_kwargs)
    for path in numbers(stock):
        G._init_kwargs = copy.deepcopy(stock)
        put(G._init_kwargs, path, HUGE)
        yield f'{".".join(path)} of 2^40', dump(contents)
    G._init_kwargs = dict(stock, no_such_option=1)
    yield 'an unknown argument', dump(contents)
    G._init_kwargs = stock
    if stock.get('spider'):
        for key, value in dict(mapping='os.system', source='/etc').items():
            G._init_kwargs = dict(stock, spider=dict(stock['spider'], **{key: value}))
            yield f'spider {key} {value}', dump(contents)
        G._init_kwargs = stock
        source = G.source
        G.source = '/etc'
        yield 'a source of text', dump(contents)
        G.source = source
        mean, source.mean_image = source.mean_image, source.mean_image[:, :1, :1, :1].expand(-1, 3, 1 << 20, 1 << 20)
        yield 'a mean image of 4 TB', dump(contents)
        source.mean_image = mean

def dump(contents):
    return pickle.dumps(contents, protocol=3)   # whose strings are never in frames

def text(string):
    return pickle.BINUNICODE + struct.pack('<I', len(string.encode())) + string.encode()

def with_sources(pickled, line):
    """The pickle, with a line of code before every module source in it."""
    sources = {arg for opcode, arg, _ in pickletools.genops(pickled) if opcode.name == 'BINUNICODE' and '\nimport ' in arg}
    assert sources
    for source in sources:
        pickled = pickled.replace(text(source), text(line + source))
    return pickled

def numbers(kwargs, path=()):
    """Paths to the numbers that decide on sizes, in nested dicts."""
    for key, value in kwargs.items():
        if isinstance(value, dict) and key != 'spider':
            yield from numbers(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key)

def put(kwargs, path, value):
    for key in path[:-1]:
        kwargs = kwargs[key]
    kwargs[path[-1]] = value

def from_file(canary, path, live):
    with open(path, encoding='utf-8') as file:
        return list(cases(canary, json.load(file), live))
