"""The parts of the dry iteration's process: random images, the small config, its arguments."""

import inspect
import json
import types

import numpy as np
import pytest
import torch

from spider_plugin.hosts import dry_loop

def test_images_have_what_hosts_read(host):
    images = dry_loop.Images(16, 1, 3, path='x', use_labels=True, max_size=5)
    image, label = images[4]
    assert image.dtype == np.uint8 and image.shape == (1, 16, 16) and label.tolist() == [0, 1, 0] and label.dtype == np.float32
    assert images.has_labels and images.image_shape == [1, 16, 16] and images.get_details(4).raw_label == 1
    loader = torch.utils.data.DataLoader(dataset=images, batch_size=2)
    assert next(iter(loader))[0].shape == (2, 1, 16, 16)
    assert not dry_loop.Images(16, 3, 0).has_labels and dry_loop.Images(16, 3, 0)[0][1].shape == (0,)

def test_images_have_what_else_the_class_of_the_host_has(monkeypatch):
    """Methods, properties, static methods and values of its dataset, which use what theirs has."""
    import sys
    class Host:
        weight = 3
        def _get_raw_labels(self):
            if self._raw_labels is None:
                self._raw_labels = self._load_raw_labels()
                self._std = self._raw_labels.std(0)
            return self._raw_labels
        def get_label_std(self):
            return self._std.shape
        @property
        def classes(self):
            return self._count(self.label_dim)
        @staticmethod
        def _count(n):
            return n
        def get_pair(self, idx):
            return self._load_raw_image(idx).shape, self[idx][1].tolist(), self._raw_idx[idx]
    module = types.ModuleType('sets')
    module.Host = Host
    monkeypatch.setitem(sys.modules, 'sets', module)
    images = dry_loop.Images(16, 3, 2, host_class='sets.Host')
    assert (images.weight, images.get_label_std(), images.classes) == (3, (2,), 2)
    assert images.get_pair(3) == ((3, 16, 16), [0, 1], 3)
    for lacking in (lambda: images.other, lambda: dry_loop.Images(16, 3, 2).weight, lambda: images.__array__):
        assert not dry_loop.lacks(_error(lacking), {})

def test_the_small_config(host, tmp_path):
    nested = dict(class_name='training.networks_stylegan2.Generator', synthesis_kwargs=dict(channel_base=32768, channel_max=512),
                  dsc=dict(order='depthwise', rank=1, res=[64, 256]))
    c = dict(G_kwargs=nested, D_kwargs=dict(class_name='nets.D', channel_max=8, width=[1, 2]))
    dry_loop.shrink(c, str(tmp_path / 'source'))
    assert nested['synthesis_kwargs'] == dict(channel_base=2048, channel_max=32) and nested['dsc']['res'] == [0, 32]
    assert c['D_kwargs'] == dict(class_name='nets.D', channel_max=8, width=[1, 2])
    c = dict(D_kwargs=dict(channel_max=512), DHead_kwargs=dict(inplanes=512, dim=128), GHead_kwargs=None, seed=512,
             training_set_kwargs=dict(resolution=512))
    dry_loop.shrink(c, str(tmp_path / 'source'))
    assert c == dict(D_kwargs=dict(channel_max=32), DHead_kwargs=dict(inplanes=32, dim=128), GHead_kwargs=None, seed=512,
                     training_set_kwargs=dict(resolution=512))
    grown = dict(G_kwargs=dict(class_name='spider_plugin.portable.generators.pggan.PGGANGenerator'), D_kwargs={})
    dry_loop.shrink(grown, str(tmp_path / 'source'))
    assert grown['G_kwargs']['channel_max'] == 32   # which the class takes and the config leaves to it
    assert [dry_loop.small_side(side) for side in (8, 32, 256, 48)] == [8, 32, 32, 48]

def test_a_small_source(prepared):
    large, small, online = prepared('bank', res=64), prepared('bank', res=16), prepared('online', res=64)
    for path in (small, online):
        assert dry_loop.small_bank(dict(source=path), '') == path
    with open(f'{large}/bank.json') as file:
        info = json.load(file) | dict(labels=[i % 20 for i in range(50)])
    with open(f'{large}/bank.json', 'w') as file:
        json.dump(info, file)
    folder = dry_loop.small_bank(dict(source=large), f'{large}-small')
    with open(f'{folder}/bank.json') as file:
        assert sorted(json.load(file)['labels']) == list(range(20))
    assert np.load(f'{folder}/images.npy').shape == (20, 3, 32, 32)

def test_arguments_are_those_that_the_loop_has():
    def loop(run_dir, training_set_kwargs, batch_size, g_batch_gpu, total_kimg, seed=3, data_loader_kwargs=None, metrics=()):
        pass
    c = dict(training_set_kwargs=dict(class_name='x.Y', path='z'), batch_size=64, g_batch_gpu=8, metrics=['fid'], other=1,
             total_kimg=25000, seed=7)
    made = dry_loop.arguments(c, inspect.signature(loop).parameters, 'run', dict(resolution=32, channels=3, label_dim=0))
    data = dict(class_name='spider_plugin.hosts.dry_loop.Images', host_class='x.Y', path='z', resolution=32,
                channels=3, label_dim=0)
    assert made == dict(run_dir='run', batch_size=4, g_batch_gpu=4, total_kimg=0.002, seed=7, data_loader_kwargs={}, metrics=[],
                        training_set_kwargs=data)

def test_nothing_is_imported_for_an_optimizer():
    stub = dry_loop._Dynamo('torch._dynamo')
    assert stub.disable(len, True) is len and stub.graph_break() is None

def test_what_an_iteration_resumes_from(tmp_path, monkeypatch):
    """A pickle of the plugin's, without the tensors of networks where these are small; no other pickle is opened."""
    import pickle
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path))
    (tmp_path / 'resume' / 'key').mkdir(parents=True)
    path, other = tmp_path / 'resume' / 'key' / 'x.pkl', tmp_path / 'other.pkl'
    networks = ('G', 'D', 'G_ema', 'D_ema', 'head')
    contents = dict.fromkeys((*networks, 'augment_pipe'), torch.nn.Linear(2, 2))
    contents.update(progress=dict(nimg=torch.tensor(3)), x=None)
    for file in (path, other):
        file.write_bytes(pickle.dumps(contents))
    assert dry_loop.resumed(str(path), str(tmp_path), False) == str(path)
    assert dry_loop.resumed(str(other), str(tmp_path), True) is dry_loop.resumed(None, str(tmp_path), True) is None
    with open(dry_loop.resumed(str(path), str(tmp_path), True), 'rb') as file:
        small = pickle.load(file)
    assert sorted(small) == sorted(contents) and small['progress']['nimg'] == 3
    assert [list(small[name].state_dict()) for name in networks] == [[]] * 5 and len(small['augment_pipe'].state_dict()) == 2

def _error(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value

def test_an_assertion_without_text_is_named(tmp_path, monkeypatch):
    """By its statement, of any number of lines; an error that is raised has none."""
    (tmp_path / 'asserts.py').write_text('def one(x):\n    assert (x is not\n            None)\n\n'
                                         'def other(x):\n    raise AssertionError\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    import asserts
    assert dry_loop.asserted(_error(lambda: asserts.one(None))) == 'assert x is not None'
    assert dry_loop.asserted(_error(lambda: asserts.other(1))) == dry_loop.asserted(_error(lambda: int('x'))) == ''
    assert dry_loop.asserted(_error(lambda: exec('assert 0'))) == ''

def test_errors_that_name_an_object_of_the_plugin(host):
    from spider_plugin.portable.generators.dcgan import DCGANGenerator
    from spider_plugin.training.hinge import ProjectedHingeLoss
    name = 'spider_plugin.portable.generators.dcgan.DCGANGenerator'
    c = dict(G_kwargs=dict(class_name=name), D_kwargs=dict(class_name='nets.D'), metrics=[], batch_size=4)
    G = DCGANGenerator(z_dim=8, c_dim=0, img_resolution=32, img_channels=3)
    class D(torch.nn.Module):
        def forward(self, img):
            return img
    ours = [lambda: G.t_dim, lambda: DCGANGenerator(8, 0, img_size=32, img_channels=3), lambda: DCGANGenerator(8, 0)]
    theirs = [lambda: D().t_dim, lambda: D(width=3), lambda: int('x'), lambda: None.shape, lambda: G(torch.zeros([1, 9]), None)]
    assert [dry_loop.lacks(_error(call), c) for call in ours] == [True] * 3
    assert [dry_loop.lacks(_error(call), c) for call in theirs] == [False] * 5
    assert not dry_loop.lacks(_error(ours[1]), dict(c, G_kwargs=dict(class_name='nets.DCGANGenerator')))
    loss = dict(class_name=f'{ProjectedHingeLoss.__module__}.ProjectedHingeLoss')
    assert dry_loop.lacks(_error(lambda: ProjectedHingeLoss.accumulate_gradients(lambda_=1)), dict(c, loss_kwargs=loss))

@pytest.mark.parametrize('name', ['timm.models._builder', 'timm.models.helpers'])
def test_feature_networks_keep_random_weights(monkeypatch, name):
    """Nothing is downloaded for an iteration, whether timm was imported before it or will be."""
    import sys

    from spider_plugin.hosts import imports
    builder = types.ModuleType(name)
    builder.load_pretrained = lambda model, **kwargs: pytest.fail('downloads')
    monkeypatch.setitem(sys.modules, name, builder)
    monkeypatch.setattr(imports._finder, 'after', {})
    for changed in ('torch.utils.tensorboard', 'torch._dynamo'):
        monkeypatch.setitem(sys.modules, changed, types.ModuleType(changed))
    monkeypatch.setattr(dry_loop.cpu_device, 'GRID', 4)
    dry_loop._without_waiting()
    assert builder.load_pretrained(None, pretrained_cfg={}) is None
