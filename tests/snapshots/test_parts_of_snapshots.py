"""What people publish of a snapshot: the network alone, a tuple, G or G_ema without the others. A generator that is whole is
drawn from at every door, and what is missing is named."""

import pickle

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots import host_door
from spider_plugin.snapshots.import_file import import_file
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import read_pickle, record_in
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
    'g_ema':        lambda G: {'g_ema': G, 'd': torch.nn.Linear(1, 1)},
    'Gs':           lambda G: {'G': torch.nn.Linear(1, 1), 'D': torch.nn.Linear(1, 1), 'Gs': G},
    'generator_ema': lambda G: {'generator': torch.nn.Linear(1, 1), 'generator_ema': G, 'discriminator': None},
    'netG_ema':     lambda G: {'netG': torch.nn.Linear(1, 1), 'netG_ema': G, 'netD': torch.nn.Linear(1, 1)},
    'inner':        lambda G: {'step': 5, 'networks': {'G': G, 'G_ema': G}, 'options': {'lr': 0.1}},
    'inner of other names': lambda G: {'state': {'g_ema': G}},
    'wrapped':      lambda G: {'G_ema': torch.nn.DataParallel(G)},
    'wrapped, bare': lambda G: torch.nn.DataParallel(G),
    'wrapped twice': lambda G: {'ema': torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(G))},
    'wrapped, tuple': lambda G: (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), torch.nn.DataParallel(G)),
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

def test_a_generator_of_another_name_counts_as_g(part, capsys, tmp_path, whole):
    path = tmp_path / 'generator.pkl'
    path.write_bytes(pickle.dumps({'generator': whole}))
    z = torch.randn([2, 16])
    for trust in (False, True):
        assert torch.equal(load_generator(path, trust=trust)(z, None, noise_mode='const'), whole(z, None, noise_mode='const'))
    assert 'holds no G_ema' in capsys.readouterr().err
    READERS['export'](part('g_ema'))
    assert record_in(read_pickle(part('g_ema')), 'g_ema', 'x') is not None      # --key takes the name that the file has

@pytest.mark.parametrize('contents', [
    lambda state: state, lambda state: {'G_ema': state}, lambda state: {'G': state, 'D': state}, lambda state: {'model': state}])
def test_tensors_without_their_networks_are_named(contents, whole, tmp_path):
    """A state dict that pickle wrote; `spider import` reads it."""
    path = tmp_path / 'state.pkl'
    path.write_bytes(pickle.dumps(contents(whole.state_dict())))
    for door in ('load', 'trust', 'source', 'neighbors', 'generate'):
        words = f'holds tensors without their networks, a state dict; run `spider import {path} --out'
        with pytest.raises(SpiderError, match=words):
            READERS[door](str(path))
    import_file(path, tmp_path / 'network.pkl')
    z = torch.randn([2, 16])
    assert torch.equal(load_generator(tmp_path / 'network.pkl')(z, None, noise_mode='const'), whole(z, None, noise_mode='const'))

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
