"""Networks that other hosts pickle: look-alikes of their records, read, named and matched with a class that is here."""

import pickle
import sys
import types

import pytest
import torch
from torch.nn.utils import spectral_norm

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots import families as families
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.families import known_class, network_family
from spider_plugin.snapshots.rebuild import load_generator, rebuild_generator
from spider_plugin.snapshots.records import PersistentRecord, generator_record, read_pickle

def class_in(monkeypatch, module, name, base=torch.nn.Module, **members):
    """A class that pickles as module.name."""
    parts = module.split('.')
    for i in range(len(parts)):
        part = '.'.join(parts[: i + 1])
        if i == len(parts) - 1 or part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, sys.modules[part] if part in sys.modules else types.ModuleType(part))
    cls = type(name, (base,), dict(members, __module__=module, __qualname__=name))
    monkeypatch.setattr(sys.modules[module], name, cls, raising=False)
    return cls

def dump(path, **contents):
    with open(path, 'wb') as file:
        pickle.dump(contents, file)
    return path

#----------------------------------------------------------------------------
# projected-gan: FastGAN by reference, spectral normalisation, a feature network of timm in D.

@pytest.fixture
def fastgan(monkeypatch, tmp_path):
    """(path of a snapshot, its G)"""
    with monkeypatch.context() as patch: # Reading finds none of these classes.
        G, D = fastgan_networks(patch)
        progress = dict(cur_nimg=torch.LongTensor([64]), best_fid=9999)
        return dump(tmp_path / 'fastgan.pkl', G=G, D=D, G_ema=G, progress=progress), G

def fastgan_networks(monkeypatch):
    fastgan_class = class_in(monkeypatch, 'pg_modules.networks_fastgan', 'Generator')
    synthesis_class = class_in(monkeypatch, 'pg_modules.networks_fastgan', 'FastganSynthesis')
    init_class = class_in(monkeypatch, 'pg_modules.blocks', 'InitLayer')
    feature_class = class_in(monkeypatch, 'timm.models._efficientnet_blocks', 'InvertedResidual')
    G = fastgan_class()
    G.z_dim, G.c_dim, G.w_dim, G.img_resolution, G.img_channels = 8, 0, 0, 256, 3
    G.synthesis, G.synthesis.init = synthesis_class(), init_class()
    G.synthesis.init.init = torch.nn.Sequential(
        spectral_norm(torch.nn.ConvTranspose2d(8, 64, 4, bias=False)), torch.nn.BatchNorm2d(64))
    G.synthesis.feat_8 = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), spectral_norm(torch.nn.Conv2d(32, 64, 3)))
    G.synthesis.init.init(torch.randn([2, 8, 1, 1])) # A step of the power iteration.
    D = feature_class()
    D.act, D.conv = torch.nn.ReLU6(), torch.nn.Conv2d(3, 4, 3)
    return G, D

def test_fastgan(fastgan, tmp_path):
    path, G = fastgan
    contents = read_pickle(path)
    record = contents['G_ema']
    assert record.class_name == families.FASTGAN and network_family(record) == 'fastgan'
    assert contents['D'].class_name == 'timm.models._efficientnet_blocks.InvertedResidual'
    assert contents['progress']['cur_nimg'].tolist() == [64]
    expected, tensors = G.state_dict(), record.state_dict()
    assert list(tensors) == list(expected) and all(torch.equal(tensors[name], value) for name, value in expected.items())
    export(path, tmp_path / 'g.pt')
    assert list(torch.load(tmp_path / 'g.pt', weights_only=True)) == list(expected)
    with pytest.raises(SpiderError, match='holds a fastgan generator, which this host does not have'):
        load_generator(path)

def test_fastgan_is_matched_with_a_class_of_its_checkout(fastgan, monkeypatch):
    path, _ = fastgan
    monkeypatch.setattr(families, '_is_here', lambda module: module == 'pg_modules.networks_fastgan')
    known = known_class(generator_record(path), path)
    class_name, kwargs = known.class_name, known.kwargs
    assert class_name == families.FASTGAN
    assert kwargs == dict(z_dim=8, c_dim=0, w_dim=0, img_resolution=256, img_channels=3, ngf=2, cond=0,
                          synthesis_kwargs=dict(lite=True))

#----------------------------------------------------------------------------
# stylegan2-ada-pytorch: synthesis_kwargs nested, other defaults.

def test_stylegan2_ada(make_snapshot, monkeypatch):
    record = generator_record(make_snapshot())
    synthesis = record.state['_modules']['synthesis'].state['_modules']
    for block in synthesis.values():
        for layer in block.state['_modules'].values():
            if 'conv_clamp' in layer.state:
                layer.state['conv_clamp'] = None # the default there
    synthesis['b16'].state['use_fp16'] = True
    record.init_kwargs = dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3, mapping_kwargs=dict(num_layers=2),
                              synthesis_kwargs=dict(channel_base=256, channel_max=16))
    known = known_class(record, 'ada.pkl')
    class_name, kwargs = known.class_name, known.kwargs
    assert class_name == 'training.networks_stylegan2.Generator'
    assert kwargs['channel_base'] == 256 and kwargs['num_fp16_res'] == 1 and kwargs['conv_clamp'] is None
    assert rebuild_generator(record, 'ada.pkl').synthesis.b8.conv1.conv_clamp is None
    record.init_kwargs['fused_modconv_default'] = 'inference_only' # as stylegan3 and projected-gan write
    monkeypatch.setattr(families, '_is_here', lambda module: module == 'training.networks')
    known = known_class(record, 'ada.pkl')
    class_name, kwargs = known.class_name, known.kwargs
    assert class_name == 'training.networks.Generator' and set(kwargs) == {
        'z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs', 'synthesis_kwargs'}
    assert kwargs['synthesis_kwargs'] == dict(channel_base=256, channel_max=16, num_fp16_res=1, conv_clamp=None)

def test_projected_gan_has_stylegan2_elsewhere(make_snapshot, monkeypatch):
    record = generator_record(make_snapshot())
    monkeypatch.setattr(families, '_is_here', lambda module: module == 'pg_modules.networks_stylegan2')
    assert known_class(record, 'pg.pkl').class_name == 'pg_modules.networks_stylegan2.Generator'
    record.class_name = 'SpiderGenerator'
    assert known_class(record, 'pg.pkl').class_name == \
        'spider_plugin.bundles.spider_on_pg_modules__networks_stylegan2.SpiderGenerator'

def test_the_reference_host_stands_in_where_a_checkout_lacks_the_family(make_snapshot, monkeypatch):
    path = make_snapshot()
    expected = load_generator(path)
    checkout = types.ModuleType('training')
    for name in [name for name in sys.modules if name.split('.')[0] == 'training']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'training', checkout) # a host without any of the modules in the table
    monkeypatch.setattr(families, '_is_here', lambda module: False)
    with pytest.raises(SpiderError, match='which this host does not have'):
        known_class(generator_record(path), path)
    monkeypatch.setattr(families, '_is_here', lambda module: sys.modules.get('training') is not checkout)
    G = load_generator(path)
    assert sys.modules['training'] is checkout and 'training.networks_stylegan2' not in sys.modules
    z = torch.randn([2, 16])
    assert torch.equal(G(z, None, noise_mode='const'), expected(z, None, noise_mode='const'))
    assert torch.equal(load_generator(path)(z, None, noise_mode='const'), expected(z, None, noise_mode='const'))

#----------------------------------------------------------------------------
# The public Spider GAN code: a module by reference that joins two generators, and transforms of torchvision.

def test_spider_authors_snapshot(make_snapshot, monkeypatch, tmp_path):
    networks = []
    for res in (32, 16):
        with open(make_snapshot(res=res), 'rb') as file:
            networks.append(pickle.load(file)['G_ema'])
    ensemble = class_in(monkeypatch, 'training.training_loop', 'MyEnsemble')()
    ensemble.InputG_full, ensemble.G_ema_full = networks
    mode = class_in(monkeypatch, 'torchvision.transforms.functional', 'InterpolationMode', object,
                    __reduce__=lambda self: (type(self), ('bilinear',)))
    mode.__init__ = lambda self, *args: None
    resize = class_in(monkeypatch, 'torchvision.transforms.transforms', 'Resize')
    ensemble.transform = resize()
    ensemble.transform.interpolation, ensemble.transform.size, ensemble.z_dim = mode(), (16, 32), 16
    path = dump(tmp_path / 'authors.pkl', G=networks[1], D=None, G_ema=networks[1], G_full=ensemble, training_set_kwargs={})
    record = read_pickle(path)['G_full']
    assert record.class_name == 'training.training_loop.MyEnsemble'
    assert list(record.state_dict()) == list(ensemble.state_dict())
    transform = record.state['_modules']['transform']
    assert transform.state['size'] == (16, 32) and transform.state['interpolation'].init_args == ('bilinear',)
    assert generator_record(path).init_kwargs['img_resolution'] == 16
    with pytest.raises(SpiderError, match='G_ema draws from images of another generator'):
        load_generator(path)
    export(path, tmp_path / 'g.pt')
    assert set(torch.load(tmp_path / 'g.pt', weights_only=True)) == set(ensemble.state_dict())
    assert '"InputG_full": {\n' in (tmp_path / 'g.json').read_text()
    export(path, tmp_path / 'only.pt', key='G_ema')
    assert set(torch.load(tmp_path / 'only.pt', weights_only=True)) == set(networks[1].state_dict())

#----------------------------------------------------------------------------

def test_a_network_cannot_be_larger_than_its_file(make_snapshot):
    path = make_snapshot()
    for changed in (dict(channel_base=1 << 20, channel_max=1 << 14), dict(z_dim=1 << 19), dict(img_resolution=1 << 14),
                    dict(mapping_kwargs=dict(num_layers=1000)), dict(conv_clamp=1e30)):
        record = generator_record(path)
        record.init_kwargs.update(changed)
        if 'conv_clamp' in changed:
            record.state['_modules']['synthesis'].state['_modules']['b4'].state['_modules']['conv1'].state.update(changed)
        with pytest.raises(SpiderError, match='does not fit'):
            rebuild_generator(record, path)

def test_what_is_in_no_table():
    for record in (PersistentRecord('Popen', ''), PersistentRecord('Generator', ''), PersistentRecord('os.Generator', '')):
        with pytest.raises(SpiderError, match='is not a known class'):
            known_class(record, 'a.pkl')
