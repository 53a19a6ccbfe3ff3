"""Pretrained generators as sources: rendered into a bank, or run for every batch."""

import http.server
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.portable.source.bank import open_source
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources import obtain
from spider_plugin.sources.prepare import prepare_source
from spider_plugin.sources.resize import resize_area

def rendered(path, count, c=None):
    """Return the images that the bank must hold, drawn one by one."""
    G = load_generator(path)
    z = torch.randn([count, G.z_dim], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = G(z, torch.zeros([count, 0]) if c is None else c, noise_mode='const')
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

def test_bank_holds_rendered_images(make_snapshot):
    path = make_snapshot()
    prepared = prepare_source(path, bank=40)
    assert (prepared.num_images, prepared.resolution, prepared.channels, prepared.num_classes) == (40, 16, 3, 0)
    assert prepared.identity['name'] == 'network-snapshot-000001' and not prepared.online
    images = np.load(f'{prepared.path}/images.npy')
    assert np.abs(images.astype(int) - rendered(path, 40)).max() <= 1      # batches may round differently
    assert len({image.tobytes() for image in images}) == 40
    small = np.load(f'{prepare_source(path, bank=40, size=8).path}/images.npy')
    assert (small == resize_area(images, 8)).all()
    assert prepare_source(make_snapshot(seed=1), bank=40).path != prepared.path

def test_classes_of_a_conditional_generator_are_kept(make_snapshot):
    path = make_snapshot(c_dim=3)
    prepared = prepare_source(path, bank=30)
    with open(f'{prepared.path}/bank.json', encoding='utf-8') as file:
        labels = json.load(file)['labels']
    assert prepared.num_classes == 3 and set(labels) == {0, 1, 2}
    images = np.load(f'{prepared.path}/images.npy').astype(int)
    assert np.abs(images - rendered(path, 30, torch.eye(3)[labels])).max() <= 1

@pytest.mark.parametrize('dcgan', [False, True])
@pytest.mark.parametrize('kind', ['plain', 'spider'])
def test_online_source_is_the_generator(make_snapshot, kind, dcgan, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 32)
    inner = prepare_source('shapes', size=16, bank=20)
    spider = dict(mapping='residual', source=inner.path, embed=1) if kind == 'spider' else None
    path = make_snapshot(spider=spider, dcgan=dcgan)
    prepared = prepare_source(path, bank='online')
    assert prepared.online and prepared.num_images == 32
    source, G = open_source(prepared.path), load_generator(path)
    z = torch.randn([5, G.z_dim])
    with torch.no_grad():
        expected = G(z, torch.zeros([5, 0]), noise_mode='const').clamp(-1, 1)
    assert torch.equal(source.sample(z), expected)
    assert source.identity == prepared.identity

@pytest.mark.parametrize('count', [1, 3, 5])
def test_arguments_that_were_given_by_their_places(count, make_snapshot, monkeypatch, tmp_path):
    """As in a script that a person wrote; hosts give them by name."""
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 8)
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    names = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')
    kwargs = dict(G.init_kwargs)
    args = [kwargs.pop(name) for name in names[:count]]
    made = type(G)(*args, **kwargs)
    made.load_state_dict(G.state_dict())
    path = tmp_path / 'by-place.pkl'
    path.write_bytes(pickle.dumps(dict(G_ema=made)))
    source, z = open_source(prepare_source(str(path), bank='online').path), torch.randn([3, 16])
    with torch.no_grad():
        assert torch.equal(source.sample(z), G(z, torch.zeros([3, 0]), noise_mode='const').clamp(-1, 1))

@pytest.mark.parametrize('change', [
    lambda G: G.mapping.register_buffer('embed', torch.zeros(3)),
    lambda G: setattr(G.synthesis.b8.conv0, 'weight', torch.nn.Parameter(G.synthesis.b8.conv0.weight[:, :8])),
    lambda G: G.synthesis.b4.register_parameter('const', torch.nn.Parameter(torch.zeros(16, 8, 8)))])
def test_a_fork_of_a_known_name_is_refused_before_images_are_rendered(change, make_snapshot, tmp_path, capfd):
    """StyleGAN-XL's generator has the class name and most of the tensors of StyleGAN3's."""
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    change(G)
    path = tmp_path / 'fork.pkl'
    path.write_bytes(pickle.dumps(dict(G_ema=G)))
    with pytest.raises(SpiderError, match='--spider-bank=online runs a known class .*does not fit.*; give a number of images'):
        prepare_source(str(path), bank='online', trust=True)
    assert 'Preparing' not in capfd.readouterr().err

def test_cascade_without_embedded_source_cannot_be_online(make_snapshot, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 4)
    inner = prepare_source('shapes', size=16, bank=20)
    path = make_snapshot(spider=dict(mapping='residual', source=inner.path, embed=0))
    with pytest.raises(SpiderError, match='--spider-embed=0'):
        prepare_source(path, bank='online')

def test_refused_pickles(make_snapshot, tmp_path):
    with pytest.raises(SpiderError, match='is colour, but grey images are needed'):
        prepare_source(make_snapshot(), channels=1)
    (tmp_path / 'half.pkl').write_bytes(open(make_snapshot(), 'rb').read()[:5000])
    with pytest.raises(SpiderError, match='half.pkl'):
        prepare_source(str(tmp_path / 'half.pkl'))
    (tmp_path / 'empty.pkl').write_bytes(pickle.dumps({'G_ema': None}))
    with pytest.raises(SpiderError, match='empty.pkl'):
        prepare_source(str(tmp_path / 'empty.pkl'))

def test_url(make_snapshot, tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    path = Path(make_snapshot(seed=5))
    asked = []
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(path.parent))
        def log_message(self, *args):
            asked.append(self.path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/{path.name}'
        digest = sha256_of_file(path)
        with pytest.raises(SpiderError, match=f'--spider-source={url}.*not the published file'):
            prepare_source(f'{url}#sha256={"0" * 64}', bank=20)
        prepared = prepare_source(f'{url}#sha256={digest}', bank=20)
        count = len(asked)
        assert prepare_source(url, bank=20) == prepared == prepare_source(str(path), bank=20) and len(asked) == count
        with pytest.raises(SpiderError, match='64 hex digits'):
            prepare_source(f'{url}#sha256=12', bank=20)
        server.shutdown()

@pytest.mark.parametrize('end', ['..', '.', '.hidden', 'a' * 400, '%2e%2e', ''])
def test_the_name_in_a_url_stays_in_its_folder(end, monkeypatch):
    asked = []
    monkeypatch.setattr(obtain, 'download_once', lambda file, path, what: asked.append(path))
    path = Path(obtain.fetch(f'http://127.0.0.1/a/{end}'))
    assert asked == [path] and path.parent.parent.name == 'downloads' and path.name.strip('.') == path.name != ''
    assert len(path.name) <= 100
