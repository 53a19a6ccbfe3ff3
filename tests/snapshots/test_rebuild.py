"""Generators rebuilt without executing their pickle are the ones that were pickled."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import load_generator, rebuild_generator
from spider_plugin.snapshots.records import generator_record
from spider_plugin.sources.prepare import prepare_source

def outputs(G, n=6):
    z = torch.randn([n, G.z_dim], generator=torch.Generator().manual_seed(0))
    c = torch.eye(max(G.c_dim, 1))[torch.arange(n) % max(G.c_dim, 1)][:, : G.c_dim]
    with torch.no_grad():
        return G(z, c, truncation_psi=0.7, noise_mode='const')

def unpickled(path):
    with open(path, 'rb') as file:
        return pickle.load(file)['G_ema'].eval()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('plugin', [{}, dict(dcgan=True), dict(pggan=True)], ids=str)
@pytest.mark.parametrize('c_dim', [0, 3])
def test_plain_generator_is_equal(make_snapshot, c_dim, plugin):
    path = make_snapshot(c_dim=c_dim, **plugin)
    G = load_generator(path)
    assert not G.training and not any(p.requires_grad for p in G.parameters())
    assert torch.equal(outputs(G), outputs(unpickled(path)))
    assert torch.equal(outputs(G), outputs(load_generator(path, trust=True)))

@pytest.mark.parametrize('mapping, plugin', [
    ('residual', ''), ('encoder', ''), ('whitened', ''), ('paper-23x23', ''), ('residual', 'dcgan'),
    ('encoder', 'dcgan'), ('paper-16x32', 'dcgan'), ('residual', 'pggan'), ('paper-16x32', 'pggan')])
def test_spider_generator_draws_from_the_bank_in_its_pickle(make_snapshot, mapping, plugin, tmp_path):
    z_dim = 512 if mapping.startswith('paper') else 64
    source = prepare_source('strokes', size=16, bank=50)
    spider = dict(mapping=mapping, source=source.path, embed=1)
    path = make_snapshot(spider=spider, z_dim=z_dim, **{plugin: True} if plugin else {})
    G, reference = load_generator(path), unpickled(path)
    assert torch.equal(outputs(G), outputs(reference))
    assert len(G.source) == 50 and G.source.identity == source.identity
    record = generator_record(path)
    record.init_kwargs['spider']['source'] = str(tmp_path / 'gone')
    assert torch.equal(outputs(rebuild_generator(record, path)), outputs(reference))

def test_nothing_in_the_pickle_runs(make_snapshot):
    path = make_snapshot()
    with open(path, 'rb') as file:
        data = file.read()
    assert b'import torch\n' in data
    with open(path, 'wb') as file:
        file.write(data.replace(b'import torch\n', b'import tosch\n'))     # source that cannot be executed
    with pytest.raises(ModuleNotFoundError):
        unpickled(path)
    before = set(sys.modules)
    load_generator(path)
    assert not any(name.startswith('_imported_module_') for name in set(sys.modules) - before)

#----------------------------------------------------------------------------

def test_what_does_not_fit_is_refused(make_snapshot):
    path = make_snapshot()
    unknown = generator_record(path)
    unknown.class_name = 'Popen'
    with pytest.raises(SpiderError, match='holds a Popen, which is not a known class'):
        rebuild_generator(unknown, path)
    other_shape = generator_record(path)
    other_shape.init_kwargs['z_dim'] = 17
    with pytest.raises(SpiderError, match='does not fit training.networks_stylegan2.Generator'):
        rebuild_generator(other_shape, path)
    other_option = generator_record(path)
    other_option.init_kwargs['no_such_option'] = 1
    with pytest.raises(SpiderError, match='no_such_option'):
        rebuild_generator(other_option, path)
    unknown_network = generator_record(path)
    unknown_network.state = {}
    with pytest.raises(SpiderError, match='is not a known class'):
        rebuild_generator(unknown_network, path)

@pytest.mark.parametrize('changed', [
    dict(images=torch.zeros([4, 3, 16, 16])), dict(labels=torch.full([50], 1 << 40)), dict(labels=torch.full([50], -1)),
    dict(labels=torch.zeros([3], dtype=torch.int64)), dict(mean_image=torch.zeros([1, 3, 1, 1])), dict(embed=1 << 60),
    dict(identity='x'), dict(noise='x'), dict(classes=['x']),
    dict(classes=[1 << 40]), None], ids=str)
def test_a_source_of_unknown_form_is_refused(make_snapshot, changed, tmp_path):
    path = make_snapshot(spider=dict(mapping='encoder', source=prepare_source('strokes', size=16, bank=50).path))
    record = generator_record(path)
    if changed is None:
        del record.state['source']      # what is in the directory of that name here is none of the snapshot's
    else:
        record.state['source'].state.update(changed)
    with pytest.raises(SpiderError, match='source'):
        rebuild_generator(record, path)

def test_nested_synthesis_kwargs_are_flattened(make_snapshot):
    record = generator_record(make_snapshot())
    keys = ('channel_base', 'channel_max', 'num_fp16_res')
    record.init_kwargs['synthesis_kwargs'] = {key: record.init_kwargs.pop(key) for key in keys}
    assert outputs(rebuild_generator(record, 'a.pkl')).shape == (6, 3, 16, 16)

@pytest.mark.parametrize('dcgan', [False, True])
def test_a_process_without_a_host_rebuilds(make_snapshot, dcgan, tmp_path):
    """As `spider demo` and `spider generate` do, with nothing but the plugin on the path."""
    code = ('import sys; from spider_plugin.snapshots.rebuild import load_generator; '
            'print(type(load_generator(sys.argv[1])).__name__)')
    done = subprocess.run([sys.executable, '-c', code, make_snapshot(dcgan=dcgan)], cwd=tmp_path, capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2])))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ('DCGANGenerator' if dcgan else 'Generator')

def test_the_bundle_of_a_class_that_names_another_module(make_generator, prepared):
    """As the decorator of NVlabs' hosts leaves it, which a cascade in their checkouts meets."""
    import sys

    from spider_plugin.snapshots.rebuild import _bundle_of
    own = type(make_generator(prepared('bank')))
    decorated = type('SpiderGenerator', (own,), {'__module__': 'torch_utils.persistence'})
    assert _bundle_of(decorated) is _bundle_of(own) is sys.modules[own.__module__]
