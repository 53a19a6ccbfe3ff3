"""What people publish of a snapshot: the network alone, a tuple, G or G_ema without the others. A generator that is whole is
drawn from at every door, and what is missing is named."""

import pickle

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots import host_door
from spider_plugin.snapshots.rebuild import load_generator
from tests.snapshots.readers import READERS

@pytest.fixture(scope='module')
def whole(make_snapshot):
    with open(make_snapshot(), 'rb') as file:
        return pickle.load(file)['G_ema']

PARTS = {
    'bare':         lambda G: G,
    'tuple':        lambda G: (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), G),
    'list':         lambda G: [torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), G],
    'G_ema':        lambda G: {'G_ema': G},
    'G_ema, G None': lambda G: {'G': None, 'D': None, 'G_ema': G},
    'G':            lambda G: {'G': G},
    'G, G_ema None': lambda G: {'G': G, 'G_ema': None},
    'G_ema and words': lambda G: {'G_ema': G, 'name': 'cats', 'kimg': 5000},
}

@pytest.fixture
def part(whole, tmp_path):
    def write(name):
        path = tmp_path / f'{name.replace(" ", "-")}.pkl'
        path.write_bytes(pickle.dumps(PARTS[name](whole)))
        return str(path)
    return write

@pytest.mark.parametrize('name', PARTS)
def test_a_whole_generator_is_drawn_from_at_every_door(name, part, whole, capsys):
    path, z = part(name), torch.randn([2, 16])
    for trust in (False, True):
        G = load_generator(path, trust=trust)
        assert torch.equal(G(z, None, noise_mode='const'), whole(z, None, noise_mode='const'))
    assert ('holds no G_ema' in capsys.readouterr().err) == name.startswith('G,') or name == 'G'
    for door in ('source', 'neighbors', 'generate', 'host'):
        READERS[door](path)
    assert torch.equal(host_door.load_generator(path)(z, None, noise_mode='const'), whole(z, None, noise_mode='const'))

def test_export_names_the_networks(part):
    READERS['export'](part('bare'))
    READERS['export'](part('tuple'))
    with pytest.raises(SpiderError, match='holds no network G_ema; give --key one of: G.'):
        READERS['export'](part('G'))

@pytest.mark.parametrize('name, missing', [('G_ema', 'no G and no D'), ('G', 'no D and no G_ema'), ('bare', 'no G and no D')])
def test_plain_resume_names_what_is_missing(name, missing, part):
    with pytest.raises(SpiderError, match=f'holds {missing}; give a network-snapshot'):
        host_door.read_networks(part(name))

@pytest.mark.parametrize('contents', [(1, 2, 3), [], 'text', 5, None, ({}, {}, {})], ids=str)
def test_anything_else_is_refused(contents, tmp_path):
    path = tmp_path / 'other.pkl'
    path.write_bytes(pickle.dumps(contents))
    for trust in (False, True):
        with pytest.raises(SpiderError, match='neither a dict of networks nor a network'):
            load_generator(path, trust=trust)

def test_a_dict_without_a_generator_says_what_it_holds(whole, tmp_path):
    path = tmp_path / 'other.pkl'
    path.write_bytes(pickle.dumps(dict(D=whole, extra=whole)))
    for trust in (False, True):
        with pytest.raises(SpiderError, match='holds no network G_ema, but D, extra; use'):
            load_generator(path, trust=trust)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(SpiderError, match='holds no G_ema and no other network; use'):
        load_generator(path)
