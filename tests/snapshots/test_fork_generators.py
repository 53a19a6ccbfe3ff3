"""Generators of forks under --trust-pickle, whose calls and results differ from those of the hosts: drawn from, or one sentence.

Also arguments of forks, which the known class does not have, and images that a source cannot have."""

import importlib
import pickle
import sys

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.generate.command import generate
from spider_plugin.neighbors.features import open_set
from spider_plugin.snapshots import families
from spider_plugin.snapshots.rebuild import load_generator, without_unused
from spider_plugin.snapshots.records import generator_record
from spider_plugin.sources.prepare import prepare_source
from tests.snapshots.readers import LIKE

MODULE = '''
import torch

class Plain(torch.nn.Module):
    z_dim, c_dim, img_resolution, img_channels = 4, 0, 16, 3
    height = width = 16

    def __init__(self, **kwargs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.1, 1, 4))
        vars(self).update(kwargs)

    def image(self, z):
        return torch.tanh((z * self.weight).sum(1))[:, None, None, None].repeat(1, self.img_channels, self.height, self.width)

    def forward(self, z, c, **kwargs):
        return self.image(z)

class NoTruncation(Plain):
    def forward(self, z, c):
        return self.image(z)

class Single(Plain):        # a layer that takes float32 alone
    def forward(self, z, c, **kwargs):
        assert z.dtype == torch.float32
        return self.image(z)

class Tuple(Plain):
    def forward(self, z, c, **kwargs):
        return z, self.image(z), self.image(z)[:, :, ::2]

class Dict(Plain):
    def forward(self, z, c, **kwargs):
        return {'feature': z, 'image': self.image(z)}

class Words(Plain):
    def forward(self, z, c, **kwargs):
        return {'feature': z}

class Batchless(Plain):
    def forward(self, z, c, **kwargs):
        return self.image(z)[0]

class Broken(Plain):
    def forward(self, z, c, **kwargs):
        return self.image(z)[:, 9]

class Unlabelled(Plain):
    def forward(self, z, c=None, **kwargs):
        return self.image(z)
'''

@pytest.fixture
def fork(tmp_path, monkeypatch):
    """fork('Plain', ...) -> path of a pickle of a made-up fork's generator."""
    (tmp_path / 'madeup_fork.py').write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module('madeup_fork')
    def write(name, **kwargs):
        path = tmp_path / 'fork.pkl'
        path.write_bytes(pickle.dumps(dict(G=None, D=None, G_ema=getattr(module, name)(**kwargs))))
        return str(path)
    yield write
    monkeypatch.delitem(sys.modules, 'madeup_fork')

def expected(seed):
    z = torch.from_numpy(np.random.RandomState(seed).randn(1, 4)).to(torch.float32)
    return int((torch.tanh((z * torch.linspace(0.1, 1, 4)).sum()) * 127.5 + 128).byte())

@pytest.mark.parametrize('name', ['Plain', 'NoTruncation', 'Single', 'Tuple', 'Dict', 'Unlabelled'])
def test_it_is_drawn_from(name, fork, tmp_path):
    path = fork(name)
    [file] = generate(path, [3], tmp_path / 'out', trust=True)
    assert np.unique(np.asarray(PIL.Image.open(file))).tolist() == [expected(3)]
    source = prepare_source(path, bank=20, trust=True)
    assert (source.num_images, source.channels, source.resolution) == (20, 3, 16)
    open_set(path, max_images=200, like=LIKE, trust=True).open_images()

REFUSED = {
    'Words':        (dict(), 'gives dict for 1 latents, no images'),
    'Batchless':    (dict(), r'gives \[3, 16, 16\] for 1 latents, no images'),
    'Broken':       (dict(), 'cannot be drawn from .IndexError: '),
    'cameras':      (dict(rendering_kwargs={'depth': 1}, c_dim=25), 'holds a Plain, which draws from cameras'),
    'no z_dim':     (dict(z_dim=None), 'does not say how long its latents and labels are'),
}

@pytest.mark.parametrize('name', REFUSED)
def test_it_is_refused_in_one_sentence(name, fork, tmp_path):
    kwargs, words = REFUSED[name]
    path = fork(name if name[0].isupper() else 'Plain', **kwargs)
    for use in (lambda: generate(path, [0], tmp_path / 'out', trust=True), lambda: prepare_source(path, bank=4, trust=True)):
        with pytest.raises(SpiderError, match=words) as caught:
            use()
        assert caught.value.message.startswith(path) and caught.value.message.isprintable()
    assert not (tmp_path / 'out').exists()

def test_options_that_a_generator_does_not_have(fork, tmp_path):
    with pytest.raises(SpiderError, match='--trunc=0.5: .* takes no truncation; leave the option out'):
        generate(fork('NoTruncation'), [0], tmp_path / 'out', trunc=0.5, trust=True)
    for option in (dict(walk='w'), dict(stages=True)):
        with pytest.raises(SpiderError, match=f'--{next(iter(option))}: .* without a mapping and a synthesis network'):
            generate(fork('Plain'), [0, 1], tmp_path / 'out', trust=True, **option)

def test_images_of_another_shape(fork, tmp_path):
    for shape, words in ((dict(width=8), 'draws images of 8x16, and square ones are needed'),
                         (dict(img_channels=4), 'draws images of 4 channels, and 1 or 3 are needed'),
                         (dict(img_channels=2), 'draws images of 2 channels')):
        with pytest.raises(SpiderError, match=words):
            prepare_source(fork('Plain', **shape), bank=4, trust=True)
    [file] = generate(fork('Plain', width=8), [0], tmp_path / 'out', trust=True)
    assert PIL.Image.open(file).size == (8, 16)

def test_online_is_refused_before_images_are_rendered(fork, capfd):
    with pytest.raises(SpiderError, match='--spider-bank=online runs a known class .*; give a number of images'):
        prepare_source(fork('Plain'), bank='online', trust=True)
    assert 'Preparing' not in capfd.readouterr().err

def test_four_channels_of_a_known_class(make_snapshot):
    path = make_snapshot(channels=4)
    for channels, words in ((3, 'has 4 channels, but 3 are needed'), (None, 'has 4 channels, but 1 or 3 are needed')):
        with pytest.raises(SpiderError, match=words):
            prepare_source(path, bank=4, channels=channels)

#----------------------------------------------------------------------------
# Arguments of forks.

def snapshot_with(make_snapshot, tmp_path, **kwargs):
    with open(make_snapshot(), 'rb') as file:
        data = pickle.load(file)
    G = data['G_ema']
    G._init_kwargs.update(kwargs)
    path = tmp_path / 'fork.pkl'
    path.write_bytes(pickle.dumps(data))
    return str(path), G

OFF = [dict(mapping_kwargs=dict(num_layers=2, freeze_layers=0, freeze_embed=False)), dict(pretrained=None),
       dict(extra_layers=0, gates=False)]

@pytest.mark.parametrize('kwargs', OFF, ids=str)
def test_features_of_a_fork_that_are_off_are_left_out(kwargs, make_snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 8)
    path, G = snapshot_with(make_snapshot, tmp_path, **kwargs)
    z = torch.randn([2, 16])
    assert torch.equal(load_generator(path)(z, None, noise_mode='const'), G(z, None, noise_mode='const'))
    source = prepare_source(path, bank='online')
    assert source.online

ON = [dict(mapping_kwargs=dict(num_layers=2, freeze_layers=3)), dict(gates=True), dict(pretrained='vgg')]

@pytest.mark.parametrize('kwargs', ON, ids=str)
def test_features_of_a_fork_that_are_on_are_named(kwargs, make_snapshot, tmp_path, monkeypatch):
    path, _ = snapshot_with(make_snapshot, tmp_path, **kwargs)
    with pytest.raises(SpiderError, match="unexpected keyword argument '.*; set PYTHONPATH to the checkout that wrote it, or"):
        load_generator(path)
    monkeypatch.setattr('spider_plugin.snapshots.rebuild.checkout_may_help', lambda: False)   # a checkout is on the path
    with pytest.raises(SpiderError, match="unexpected keyword argument '.*; pass --trust-pickle if you trust the file.$"):
        load_generator(path)

def test_an_argument_that_is_needed_is_not_left_out():
    def build(kwargs):
        assert 'off' not in kwargs and 'on' in kwargs
    def strict(kwargs):
        if 'off' in kwargs:
            raise TypeError("f() got an unexpected keyword argument 'off'")
        build(kwargs)
    assert without_unused(dict(on=1, off=0), strict) == dict(on=1)
    with pytest.raises(TypeError):
        without_unused(dict(on=1, off=2), strict)

def test_arguments_of_a_forks_own_generator_stay_where_they_are(make_snapshot, monkeypatch):
    record = generator_record(make_snapshot())
    record.init_kwargs = dict(z_dim=16, c_dim=0, w_dim=16, square=True, img_resolution=16, img_channels=3, mapping_kwargs={},
                              synthesis_kwargs=dict(channel_base=256, channel_max=16))
    monkeypatch.setattr(families, '_is_here', lambda module: module == 'training.networks')
    known = families.known_class(record, 'human.pkl')
    assert known.kwargs['square'] is True and 'square' not in known.kwargs['synthesis_kwargs']
    assert known.kwargs['synthesis_kwargs']['channel_base'] == 256

def test_a_camera_is_named(make_snapshot):
    record = generator_record(make_snapshot())
    record.class_name = 'TriPlaneGenerator'
    record.init_kwargs['rendering_kwargs'] = {}
    with pytest.raises(SpiderError, match='holds a TriPlaneGenerator, which draws from cameras .*`spider export`'):
        families.known_class(record, 'camera.pkl')

def test_commands_arm_the_shims(monkeypatch):
    armed = []
    monkeypatch.setattr('spider_plugin.hosts.shims.stack.arm', lambda: armed.append(1))
    monkeypatch.setattr('spider_plugin.generate.command.generate', lambda *args, **kwargs: [])
    cli.main(['generate', '--network=x.pkl', '--outdir=o'], standalone_mode=False)
    assert armed == [1]
