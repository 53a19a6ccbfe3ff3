"""Faster Projected GAN in attached checkouts, on one rank and on two, with the random feature network; then resume, metrics and
pictures by the hosts' own scripts."""

import json
from pathlib import Path

import pytest
import torch

from spider_plugin.snapshots.records import generator_record, read_pickle

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent

CONFIG = dict(total_kimg=0.008, kimg_per_tick=0.004, image_snapshot_ticks=1, network_snapshot_ticks=1)
FASTER = ['--dsc', '--disc=projected', '--disc-backbone=random', '--spider-mapping=residual']
HOSTS = {   # options, values for the config, packages that the host wants
    'stylegan3':             (['--cfg=fastgan', '--gamma=1', '--mbstd-group=2', '--cbase=1024'], {}, ['psutil']),
    'stylegan2-ada-pytorch': (['--cfg=fastgan_lite'], {'G_kwargs.ngf': 8}, ['psutil']),
    'projected-gan':         (['--cfg=spider-fastgan', '--cbase=1024'], {}, ['psutil', 'timm', 'dill']),
}

PROJECTIONS = {f'feature_network.scratch.layer{i}_{what}.{kind}' for i in range(4) for what in ('ccm', 'csm.out_conv')
               for kind in ('weight', 'bias')}

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('data')
    make_zip(path / 'D.zip', n=24, res=64, seed=1)
    make_zip(path / 'S.zip', n=40, res=32, seed=2)
    return path

@pytest.fixture(scope='module')
def trained(train_attached, data):
    """trained(host, *options, ranks=1, config={}), each run once."""
    runs = {}
    def train(host, *options, ranks=1, config=None):
        key = host, options, ranks, str(config)
        if key not in runs:
            args, values, needs = HOSTS[host]
            runs[key] = train_attached(
                host, data / 'D.zip', *args, *FASTER, f'--spider-source={data}/S.zip', *options, ranks=ranks, needs=needs,
                config={**CONFIG, **values, **(config or {})})
        return runs[key]
    return train

def snapshot(run_dir):
    return sorted(run_dir.glob('network-snapshot*.pkl'))[-1]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('ranks', [1, 2])
@pytest.mark.parametrize('host', HOSTS)
def test_features_stay_and_the_rest_moves(host, ranks, trained):
    run_dir, seen, out, _ = trained(host, ranks=ranks)
    assert 'projected, standard heads on random' in out and 'DSC layers:' in out and 'Spider source:       S' in out
    for rank in seen:
        assert rank['class_name'] == 'FastGANGenerator' and rank['finite'] and not rank['still'] and not rank['no_grad']
        D = rank['D']
        assert D['class_name'] == 'ProjectedDiscriminator' and D['finite'] and len(D['params']) > 20
        assert D['features'][0] == D['features'][1] and not set(D['params']) & set(D['still'])
        assert {name for name in D['still'] if not name.endswith('weight_u')} == PROJECTIONS    # u of one row is 1
        assert {'key', 'fetch'} == {use for use, stack in rank['uses'] if 'accumulate_gradients' in stack}
    assert len({rank['weights'] for rank in seen}) == 1     # and the host compares all tensors of its ranks at a snapshot
    G = generator_record(snapshot(run_dir), key='G')
    assert G.init_kwargs['dsc']['order'] == 'depthwise' and 'synthesis.feat_64.1.pointwise.weight_orig' in G.state_dict()

@pytest.mark.parametrize('host, ranks', [('stylegan3', 1), ('stylegan3', 2), ('stylegan2-ada-pytorch', 1), ('projected-gan', 1)])
def test_steady_training_with_variety_and_three_heads(host, ranks, trained):
    run_dir, seen, out, _ = trained(host, '--steady', '--disc-maps=3', '--spider-variety=0.5', ranks=ranks)
    assert 'falling to 0 in 2 steps' in out and 'heads on 3 of 4 maps of random' in out and 'Spider variety:' in out
    assert all(rank['finite'] and rank['D']['finite'] for rank in seen) and len({rank['weights'] for rank in seen}) == 1
    assert not any('mini_discs.0.' in name for name in generator_record(snapshot(run_dir), key='D').state_dict())

# stylegan2-ada-pytorch has no --cbase, and a network that the test made tiny behind the options' backs is not the one whose
# tensors they compare: it trains at full width here.

@pytest.mark.parametrize('host, width', [('stylegan3', {}), ('stylegan2-ada-pytorch', {'G_kwargs.ngf': 128}),
                                         ('projected-gan', {})])
def test_a_snapshot_is_resumed(host, width, trained):
    """Every tensor is copied; with learning rates of zero, the result equals the input."""
    first = snapshot(trained(host, config=width or None)[0])
    still = {'G_opt_kwargs.lr': 0.0, 'D_opt_kwargs.lr': 0.0}
    run_dir, (rank,), out, _ = trained(host, f'--resume={first}', config=width | still)
    before, after = read_pickle(first), read_pickle(snapshot(run_dir))
    for network, names in (('G', rank['params']), ('D', rank['D']['params'])):
        there, here = before[network].state_dict(), after[network].state_dict()
        assert len(names) > 20 and all(torch.equal(there[name], here[name]) for name in names)
        assert f'{network}: {len(there)} of {len(there)} tensors copied' in out

@pytest.mark.parametrize('host', HOSTS)
def test_metrics_and_pictures(host, trained, attached, checkout, run, toy_metric, data, tmp_path):
    """Pictures can also be drawn without the plugin."""
    path = snapshot(trained(host)[0])
    tiny = json.dumps(dict(backbone='timm' in HOSTS[host][2]))
    done = run(['calc_metrics.py', f'--network={path}', '--metrics=toy', f'--data={data}/D.zip'], attached(host), [toy_metric],
               SPIDER_DEVICE='cpu', SPIDER_TINY=tiny)
    assert done.returncode == 0 and '"metric": "toy"' in done.stdout, done.stdout + done.stderr
    found = {}
    for how in ('without', 'with'):
        done = run([HERE / 'snapshot_harness.py', how, checkout(host), path, tmp_path / how], tmp_path, plugin=how == 'with')
        assert done.returncode == 0, done.stdout + done.stderr
        found[how] = torch.load(tmp_path / how / 'results.pt')['images']
        assert len(list((tmp_path / how).glob('*.png'))) == 3 and found[how].isfinite().all()
    assert (found['with'] - found['without']).abs().max() < 1e-5    # by the kernels, and by their references
