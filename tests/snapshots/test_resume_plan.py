"""The plan of a resume, and the pickle that holds only the tensors that fit."""

import importlib
import pickle
import pickletools
import types

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import add_host_to_path
from spider_plugin.snapshots.records import read_pickle
from spider_plugin.snapshots.resume_plan import MOST, check_resumable, convert, make_plan, other_networks, plain_entries

@pytest.fixture
def generator():
    """generator(**kwargs) -> the reference host's StyleGAN2 generator, of the size of make_snapshot's."""
    add_host_to_path()
    networks = importlib.import_module('training.networks_stylegan2')
    def make(z_dim=16, c_dim=0, img_resolution=16):
        return networks.Generator(z_dim=z_dim, c_dim=c_dim, w_dim=16, img_resolution=img_resolution, img_channels=3,
                                  channel_base=256, channel_max=16, num_fp16_res=0, mapping_kwargs=dict(num_layers=2))
    return make

#----------------------------------------------------------------------------

def test_plan_compares_names_and_shapes():
    here = torch.nn.Module()
    here.a, here.b = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3, bias=False)
    there = {'a.weight': torch.ones(3, 2), 'a.bias': torch.ones(1), 'c': torch.ones(2)} # [1] would broadcast.
    plan = make_plan('G', there, here)
    assert list(plan.copied) == ['a.weight'] and plan.differ == {'a.bias': ((1,), (3,))}
    assert plan.new == ['b.weight'] and plan.unused == ['c']
    assert plan.line() == ('G: 1 of 3 tensors copied; 1 of other shapes skipped: a.bias [1] -> [3]; 1 not in the file: b.weight; '
                           '1 only in the file: c')
    assert make_plan('D', there, None).line() == 'D: 3 of 3 tensors copied'

def test_constants_that_a_network_makes_anew_are_no_tensors_of_a_snapshot():
    here = torch.nn.Linear(1, 1)
    here.register_buffer('constant', torch.ones(2), persistent=False)
    plan = make_plan('G', here.state_dict() | {'constant': torch.zeros(2)}, here)
    assert list(plan.copied) == ['weight', 'bias'] and not plan.new and plan.unused == ['constant']

def test_running_statistics_that_are_not_finite_start_afresh():
    here = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    statistics = {'1.running_mean': torch.tensor([1, float('nan')]), '1.running_var': torch.full([2], float('inf'))}
    there = here.state_dict() | statistics
    contents = dict(G=types.SimpleNamespace(state_dict=lambda: there))
    assert check_resumable('x.pkl', contents) == dict(G=there)
    plan, unbuilt = make_plan('G', there, here), make_plan('G', there, None)
    assert plan.afresh == unbuilt.afresh == list(statistics) and not plan.new and not plan.unused
    assert plan.line() == ('G: 5 of 7 tensors copied; 2 not finite in the file, from their initial values: 1.running_mean, '
                           '1.running_var')
    assert '1.running_mean' not in plan.copied | unbuilt.copied
    there['1.weight'] = torch.tensor([float('nan'), 1])
    with pytest.raises(SpiderError, match='1.weight of its G is not finite'):
        check_resumable('x.pkl', contents)

def test_what_forks_resume_beside_the_networks():
    """Counters, optimizers and settings, as plain data; modules, and objects of other classes, are left out."""
    endless = []
    endless.append(endless)
    doubled = [0]
    for _ in range(40):
        doubled = [doubled, doubled]
    kept = dict(cur_nimg=4000, best_fid=9999.5, told='no', run=None, pair=(1, [2.5, 'x']), seen=np.float64(3),
                progress=dict(cur_nimg=torch.tensor([7]), p=torch.tensor([0.25])),
                G_opt_state=dict(state={0: dict(step=torch.tensor(3.0), exp_avg=torch.ones(2))},
                                 param_groups=[dict(lr=0.1, params=[0])]))
    left = dict(diffusion=torch.nn.Linear(1, 1), other=types.SimpleNamespace(a=1), nested=dict(a=[torch.nn.Linear(1, 1)]),
                endless=endless, wide=torch.ones(1).expand(1 << 40), sets={1, 2})
    found = plain_entries(kept | left)
    assert sorted(found) == sorted(kept) and found['progress']['cur_nimg'] == 7 and found['pair'] == (1, [2.5, 'x'])
    assert found['G_opt_state']['param_groups'] == kept['G_opt_state']['param_groups']
    assert found['progress']['p'] is not kept['progress']['p'] and pickle.loads(pickle.dumps(found))['seen'] == 3
    assert plain_entries(dict(doubled=doubled, after=1)) == dict(after=1)
    assert plain_entries(dict(long=[0] * (MOST + 1))) == {}

def test_other_networks_of_a_fork(make_snapshot):
    """An average of D by what fits D; those that cannot be built here whole; nothing of objects without tensors."""
    contents, D = read_pickle(make_snapshot()), torch.nn.Linear(2, 2)
    contents.update(D_ema=torch.nn.Linear(2, 3), head=torch.nn.Sequential(torch.nn.Linear(1, 3)), empty=torch.nn.ReLU(),
                    optimizer=types.SimpleNamespace(state_dict=dict), average=contents['G'])
    found = other_networks(contents, dict(G=None, D=D))
    assert sorted(found) == ['D_ema', 'average', 'head'] and list(found['D_ema'].state_dict()) == []
    assert torch.equal(found['head'].state_dict()['0.weight'], contents['head'][0].weight)
    assert found['average'].state_dict().keys() == contents['G'].state_dict().keys()
    contents['D_ema'] = torch.nn.Linear(2, 2)
    assert list(other_networks(contents, dict(G=None, D=D))['D_ema'].state_dict()) == ['weight', 'bias']

def test_the_pickle_that_the_host_reads(make_snapshot, generator):
    path, G = make_snapshot(seed=3), generator()
    contents = read_pickle(path)
    contents.update(progress=dict(nimg=torch.tensor([5])), G_opt_state=[1.5])
    converted, plans, _ = convert(path, contents, dict(G=G, D=None))
    with open(converted, 'rb') as file:
        found = pickle.load(file)
    assert found['progress']['nimg'] == 5 and found['G_opt_state'] == [1.5] and found['told'] is True
    assert converted.endswith('network-snapshot-000001.pkl') and converted != path
    assert not plans['G'].differ and not plans['G'].new and not plans['G'].unused

    names = {arg for op, arg, _ in pickletools.genops(open(converted, 'rb').read()) if op.name in ('GLOBAL', 'STACK_GLOBAL')}
    assert b'torch_utils.persistence' not in open(converted, 'rb').read() and len(names) <= 1
    import legacy
    from torch_utils import misc
    with open(converted, 'rb') as file:
        data = legacy.load_network_pkl(file)
    misc.copy_params_and_buffers(data['G_ema'], G, require_all=True)
    with open(path, 'rb') as file:
        stock = pickle.load(file)['G_ema']
    for name, tensor in stock.state_dict().items():
        assert torch.equal(tensor, G.state_dict()[name])
    assert convert(path, contents, dict(G=G, D=None))[0] == converted # Kept.

@pytest.mark.parametrize('change, differ, new', [
    (dict(z_dim=8),             ['mapping.fc0.weight'], []),
    (dict(c_dim=3),             ['mapping.fc0.weight'], ['mapping.embed.weight', 'mapping.embed.bias']),
    (dict(img_resolution=32),   [], ['synthesis.b32.conv0.weight'])])
def test_other_sizes(make_snapshot, generator, change, differ, new):
    _, plans, _ = convert(make_snapshot(), read_pickle(make_snapshot()), dict(G=generator(**change), D=None))
    assert list(plans['G'].differ) == differ and set(new) <= set(plans['G'].new) and len(plans['G'].copied) > 20

def test_nothing_fits(make_snapshot):
    path = make_snapshot()
    with pytest.raises(SpiderError, match='--resume=.*same architecture'):
        convert(path, read_pickle(path), dict(G=torch.nn.Linear(2, 2), D=None))

#----------------------------------------------------------------------------
