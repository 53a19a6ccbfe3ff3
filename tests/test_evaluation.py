"""evaluate and rank_sources: the numbers of the metrics on the same features, and the order of `spider neighbors`."""

import warnings

import numpy as np
import pytest
import torch

from spider_plugin import SpiderError, evaluate, metrics, rank_sources
from spider_plugin.evaluation import ModuleDetector
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.detector import HostDetector
from spider_plugin.sources.dataset import ImageDataset

class Pooling(torch.nn.Module):
    """A detector of 12 features."""

    def __init__(self, scale=64.0):
        super().__init__()
        self.register_buffer('scale', torch.tensor(scale))
        self.calls = 0

    def forward(self, images):
        assert images.dtype == torch.uint8 and not self.training
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1) / self.scale

class Painter(torch.nn.Module):
    """Images [N, 3, 8, 8] of the latents' first 12 entries, and of the class."""

    def __init__(self, c_dim=0, noise=0.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.3))
        self.z_dim, self.c_dim, self.noise, self.seen = 16, c_dim, noise, []

    def forward(self, z, c):
        assert not self.training
        self.seen.append((z, c))
        images = (z[:, :12] * self.gain).tanh().reshape(-1, 3, 2, 2).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return images + self.noise * torch.randn_like(images)

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))

@pytest.fixture
def data(make_zip, tmp_path):
    return make_zip(tmp_path / 'data.zip', n=120, res=8, seed=1)

def features_of(images):
    return Pooling().eval()(images).numpy()

def test_equals_the_metrics_on_the_same_features(data):
    generator = Painter().train()
    scores = evaluate(generator, data, detector=Pooling(), seed=3, batch=50, quiet=True)
    z = torch.cat([z for z, _ in generator.seen])
    assert list(scores) == ['sid', 'fid', 'kid'] and generator.training and z.shape == (120, 16)
    assert [c.shape for _, c in generator.seen] == [(50, 0), (50, 0), (20, 0)]
    with torch.no_grad():
        fakes = features_of((generator.eval()(z, None) * 127.5 + 128).clamp(0, 255).to(torch.uint8))
    dataset = ImageDataset(data)
    reals = features_of(torch.from_numpy(np.stack([dataset.image(i) for i in range(120)])))
    assert scores['fid'] == metrics.fid(fakes, reals) and scores['kid'] == metrics.kid(fakes, reals)
    assert scores['sid'].as_dict() == metrics.sid.sid(fakes, reals).as_dict()

def test_the_seed_decides_and_the_process_is_left_alone(data):
    run = lambda seed: evaluate(Painter(noise=0.1), data, ['kid'], detector=Pooling(), seed=seed, quiet=True)['kid']
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert run(0) == run(0) != run(1) and torch.equal(torch.get_rng_state(), state)

def test_labels(data):
    generator = Painter(c_dim=3)
    evaluate(generator, data, ['fid'], detector=Pooling(), num_images=300, quiet=True)
    c = torch.cat([c for _, c in generator.seen])
    assert c.shape == (300, 3) and (c.sum(dim=1) == 1).all() and (c.sum(dim=0) > 60).all()
    generator.seen.clear()
    evaluate(generator, data, ['fid'], detector=Pooling(), labels=torch.tensor([[0, 1, 0], [0, 0, 1]]), quiet=True)
    c = torch.cat([c for _, c in generator.seen])
    assert c[:, 0].sum() == 0 and (c[:, 1:].sum(dim=0) > 20).all()

def test_a_snapshot_and_the_cache(data, make_snapshot):
    detector, path = Pooling(), make_snapshot(dcgan=True)
    first = evaluate(path, data, ['fid'], detector=detector, num_images=64, quiet=True)
    once = detector.calls
    assert evaluate(path, data, ['fid'], detector=detector, num_images=64, quiet=True) == first
    assert detector.calls - once < once         # those of the data are in the cache
    other = evaluate(path, data, ['fid'], detector=Pooling(scale=32.0), num_images=64, quiet=True)
    assert other['fid'].value == pytest.approx(4 * first['fid'].value, rel=1e-3)     # another detector, other features

def test_a_named_detector_and_arrays_of_features(make_zip, tmp_path):
    """The demo's network, by the embedded host's lookup, needs no download; a data set may be an .npz of its features."""
    class Large(Painter):
        def forward(self, z, c):
            return super().forward(z, c).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    path = make_zip(tmp_path / 'large.zip', n=60, res=32, seed=2)
    scores = evaluate(Large(), path, ['fid'], detector='demo', quiet=True)
    network = HostDetector('demo')
    dataset = ImageDataset(path)
    reals = network(torch.from_numpy(np.stack([dataset.image(i) for i in range(60)]))).detach().numpy()
    np.savez(tmp_path / 'features.npz', features=reals)
    again = evaluate(Large(), tmp_path / 'features.npz', ['fid'], detector='demo', quiet=True)
    assert again['fid'].value == pytest.approx(scores['fid'].value, rel=1e-4)
    with pytest.raises(SpiderError, match='features of an image, but the detector gives 12'):
        evaluate(Large(), tmp_path / 'features.npz', ['fid'], detector=Pooling(), quiet=True)

def test_the_detector_of_the_environment(data, make_zip, tmp_path, monkeypatch):
    source = make_zip(tmp_path / 'a.zip', n=100, res=8, seed=7)
    monkeypatch.setenv('SPIDER_DETECTOR', 'demo')
    here, given = (rank_sources(data, [source], detector=detector, quiet=True)[0] for detector in (None, 'demo'))
    assert here == given and here.detector == 'demo'
    monkeypatch.setenv('SPIDER_DETECTOR', 'nowhere.pt')
    with pytest.raises(SpiderError, match='nowhere.pt does not exist'):
        evaluate(Painter(), data, ['fid'], quiet=True)

def test_ranks_are_those_of_neighbors(data, make_zip, tmp_path):
    sources = [make_zip(tmp_path / f'{name}.zip', n=100, res=8, seed=seed) for seed, name in ((7, 'a'), (8, 'b'))] + ['strokes']
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        ranked = rank_sources(data, sources, by='kid', detector=Pooling(), max_images=100, quiet=True)
    summary = find_neighbors(data, sources, ModuleDetector(Pooling()), by='kid', max_images=100, quiet=True)
    assert [(r.source, r.rank, r.tied) for r in ranked] == [(e['source'], e['rank'], e['tied']) for e in summary['sources']]
    assert all((r.kid.value, r.kid.ci95, r.sid.value) == (e['kid']['value'], e['kid']['ci95'], e['sid']['value'])
               for r, e in zip(ranked, summary['sources'], strict=True))
    assert {*summary['warnings'], *summary['notes']} <= {str(w.message) for w in said} and summary['warnings']
    assert repr(ranked[0]).startswith(f'RankedSource(1{" (tied)" if ranked[0].tied else ""}: {ranked[0].source}, FID ')
    assert repr(ranked[0]).endswith(' by Pooling)')

def test_refusals(data):
    for call, words in (
            (lambda: evaluate(Painter(), data, ['fdi'], detector=Pooling()),        "'fdi' is unknown; choose from sid, fid"),
            (lambda: evaluate(Painter(), data, detector=Pooling(), num_images=10),  'num_images=10 is too few'),
            (lambda: evaluate(Painter(), data, detector=print),                     'detector must be a name, a file'),
            (lambda: evaluate(torch.nn.Linear(3, 3), data, detector=Pooling()),     'Linear has no z_dim'),
            (lambda: evaluate(Painter(), data, detector=Pooling(), labels=torch.ones([4, 2])), r'shape \[images, 0\]'),
            (lambda: rank_sources(data, ['noise'], by='mmd', detector=Pooling()),   "by='mmd' is unknown; use fid, kid")):
        with pytest.raises(SpiderError, match=words):
            call()
