"""The passes of a host's metrics: images drawn once, and the network of SPIDER_DETECTOR. The host does as the public ones."""

import types

import numpy as np
import pytest
import torch

from spider_plugin import detectors
from spider_plugin.errors import SpiderError
from spider_plugin.hosts import passes

class FeatureStats:
    def __init__(self, capture_all=False, capture_mean_cov=False, max_items=None):
        self.capture_all, self.max_items, self.features, self.added = capture_all, max_items, np.zeros([0, 0]), []

    def is_full(self):
        return len(self.features) >= self.max_items

    def append(self, x):
        self.added.append(len(x))
        self.features = np.concatenate([self.features, x])[:self.max_items] if len(self.features) else x[:self.max_items]

    def append_torch(self, x, num_gpus, rank):
        self.append(x.numpy())

    def get_all(self):
        assert self.capture_all
        return self.features

class Painter(torch.nn.Module):
    z_dim, c_dim = 4, 0
    def __init__(self):
        super().__init__()
        self.register_buffer('gain', torch.ones([]))

@pytest.fixture
def host(monkeypatch):
    """metric_utils of a host; `drawn` counts images, `looked` the images of each network."""
    monkeypatch.delenv('SPIDER_DETECTOR', raising=False)
    monkeypatch.setenv(passes.SHARED, '')
    utils = types.SimpleNamespace(FeatureStats=FeatureStats, drawn=0, looked={})
    def get_feature_detector(url, device=None, num_gpus=1, rank=0, verbose=False):
        def detector(images, return_features=False, **_options):
            utils.looked[url] = utils.looked.get(url, 0) + len(images)
            return images.float().flatten(1)[:, :12] / 64
        return detector
    def for_generator(opts, detector_url, detector_kwargs, rel_lo=0, rel_hi=1, batch_size=64, **stats_kwargs):
        stats = FeatureStats(**stats_kwargs)
        detector = utils.get_feature_detector(url=detector_url, device='cpu', num_gpus=1, rank=0, verbose=False)
        while not stats.is_full():
            utils.drawn += batch_size
            images = torch.randint(256, [batch_size, 3, 4, 4], dtype=torch.uint8)
            stats.append_torch(detector(images, **detector_kwargs), num_gpus=1, rank=0)
        return stats
    def for_dataset(opts, detector_url, detector_kwargs, max_items=None, **stats_kwargs):
        return detector_url
    utils.get_feature_detector = get_feature_detector
    utils.compute_feature_stats_for_generator, utils.compute_feature_stats_for_dataset = for_generator, for_dataset
    passes.extend(utils)
    return utils

def options(**changes):
    return types.SimpleNamespace(**dict(G=Painter(), G_kwargs={}, dataset_kwargs={}, num_gpus=1, rank=0, device='cpu') | changes)

FEATURES = dict(return_features=True)

def stats_of(host, opts, url='inception.pkl', detector_kwargs=FEATURES, **kwargs):
    return host.compute_feature_stats_for_generator(opts=opts, detector_url=url, detector_kwargs=detector_kwargs,
                                                    **dict(dict(capture_all=True, max_items=100), **kwargs))

#----------------------------------------------------------------------------

def test_without_a_metric_of_the_plugin_a_host_draws_as_before(host):
    opts = options()
    for names in (['fid50k_full', 'kid50k_full'], ['sid1k'], []):
        passes.prepare(names)
        stats_of(host, opts)
        stats_of(host, opts)
    assert host.drawn == 6 * 128

def test_images_are_drawn_once_and_seen_once_by_each_network(host):
    opts = options()
    passes.prepare(['fid50k_full', 'sid1k', 'pr50k3'])
    fid = stats_of(host, opts, capture_all=False, capture_mean_cov=True)
    kid = stats_of(host, opts)
    few = stats_of(host, opts, max_items=70)
    pr = stats_of(host, opts, url='vgg16.pkl')
    lpips = stats_of(host, opts, url='vgg16.pkl', detector_kwargs=dict(return_lpips=True))
    assert host.drawn == 128 and host.looked == {'inception.pkl': 128, 'vgg16.pkl': 256}
    assert np.array_equal(fid.features, kid.features) and np.array_equal(few.features, kid.features[:70])
    assert np.array_equal(pr.features, kid.features) and np.array_equal(lpips.features, pr.features)
    assert fid.added == [64, 64] and kid.added == [64, 36]
    stats_of(host, opts, max_items=200)     # More than there are.
    assert host.drawn == 128 + 256

def test_another_network_labels_or_options_have_other_images(host):
    opts = options()
    passes.prepare(['fid50k_full', 'sid1k'])
    stats_of(host, opts)
    for change in (lambda: opts.G.gain.mul_(2), lambda: vars(opts).update(G=Painter()),
                   lambda: opts.G_kwargs.update(truncation_psi=0.5), lambda: opts.G.__dict__.update(c_dim=2)):
        change()
        stats_of(host, opts)
        before = host.drawn
        stats_of(host, opts)
        assert host.drawn == before     # The same again is shared.
    assert host.drawn == 5 * 128
    opts.dataset_kwargs.update(xflip=True)  # c_dim is 2 now, and labels come from the dataset.
    stats_of(host, opts)
    assert host.drawn == 6 * 128

def test_images_that_do_not_fit_are_drawn_again(host, monkeypatch):
    monkeypatch.setattr(passes, 'MOST_BYTES', 100 * 3 * 16)
    opts = options()
    passes.prepare(['fid50k_full', 'sid1k'])
    stats_of(host, opts), stats_of(host, opts)
    assert host.drawn == 128
    stats_of(host, opts, url='vgg16.pkl')
    assert host.drawn == 256

def test_what_is_kept_is_dropped_after_the_last_metric(host):
    def calc_metric(metric, opts):
        return dict(value=stats_of(host, opts))
    calc = passes.extend_calc_metric(calc_metric, host)
    passes.prepare(['fid50k_full', 'sid1k'])
    calc('fid50k_full', options())
    assert host.spider_passes.kept is not None
    assert 'label' not in calc('sid1k', options()) and host.spider_passes.kept is None

#----------------------------------------------------------------------------

def test_spider_detector_is_the_network_of_all_that_compares_features(host, monkeypatch, capsys):
    """Its features have a name of their own in the host's cache, and its scores a label."""
    monkeypatch.setenv('SPIDER_DETECTOR', 'demo')
    opts = options()
    calc = passes.extend_calc_metric(lambda metric, **kwargs: dict(value=stats_of(host, opts, **kwargs)), host)
    result = calc('fid50k_full', capture_all=False, capture_mean_cov=True)
    assert result['label'] == 'fid50k_full (demo)' and result['detector'] == 'demo'
    assert result['value'].features.shape == (100, 64)
    assert 'label' not in calc('is50k', detector_kwargs=dict(no_output_bias=True)) and host.looked == {'inception.pkl': 128}
    name = host.compute_feature_stats_for_dataset(opts=opts, detector_url='inception.pkl', detector_kwargs=FEATURES)
    assert name.startswith('demo-') and name != 'inception.pkl' and capsys.readouterr().out.count('SPIDER_DETECTOR=demo') == 1
    monkeypatch.setenv('SPIDER_DETECTOR', 'inception')
    assert 'label' not in calc('fid50k_full')

def test_a_detector_that_is_missing_is_said_before_the_work(host, monkeypatch):
    monkeypatch.setenv('SPIDER_DETECTOR', 'missing.pt')
    passes.prepare([])
    with pytest.raises(SpiderError, match='SPIDER_DETECTOR=missing.pt does not exist'):
        passes.prepare(['fid50k_full'])

def test_the_variable_has_one_name():
    assert passes.ENVIRONMENT == detectors.ENVIRONMENT

def test_the_reference_host_shares_by_itself():
    stock = lambda **kwargs: None
    utils = types.SimpleNamespace(SharedPass=object, compute_feature_stats_for_dataset=stock,
                                  compute_feature_stats_for_generator=stock)
    passes.extend(utils)
    assert utils.compute_feature_stats_for_generator is stock

#----------------------------------------------------------------------------
