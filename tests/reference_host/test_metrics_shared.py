"""Several metrics of one generator: one pass over generated images, and the numbers of separate passes."""

import numpy as np
import pytest
import torch

from metrics import metric_main, metric_utils
from training.runtime import SpiderError

#----------------------------------------------------------------------------

class Pooled(torch.nn.Module):
    """A detector of twelve features, or four class probabilities."""
    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        pooled = torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 64, 2).flatten(1)
        return pooled if return_features else pooled[:, :4].softmax(dim=1)

class Other(torch.nn.Module):
    """A detector of three features."""
    def forward(self, img: torch.Tensor, return_features: bool = False):
        return img.to(torch.float32).mean([2, 3])

class Counting(torch.nn.Module):
    """A generator of images with one random value per channel, that counts them and their labels."""
    z_dim, img_resolution, img_channels = 3, 16, 3

    def __init__(self, c_dim=0):
        super().__init__()
        self.c_dim, self.drawn = c_dim, []

    def __deepcopy__(self, memo):
        return self

    def forward(self, z, c):
        self.drawn.append(len(z))
        shift = c @ torch.linspace(-1, 1, self.c_dim)[:, None] if self.c_dim else 0
        return ((z + torch.randn_like(z) * 0.01 + shift) * 0.2)[:, :, None, None].expand(-1, -1, 16, 16)

@pytest.fixture
def options(make_zip, tmp_path, monkeypatch):
    """options(c_dim) -> arguments of calc_metric for 300 real images of 16x16; pr has another detector than fid, kid and is."""
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    for name, module in dict(pooled=Pooled(), other=Other()).items():
        torch.jit.script(module).save(str(tmp_path / f'{name}.pt'))
    monkeypatch.setattr(metric_main, 'detector_of', lambda metric, detector: str(
        tmp_path / ('other.pt' if metric.startswith('pr') else 'pooled.pt')) if metric != 'plain' else None)
    def make(c_dim=0):
        path = make_zip(tmp_path / f'set{c_dim}.zip', n=300, labels=[i % 3 for i in range(300)] if c_dim else None)
        return dict(G=Counting(c_dim), device=torch.device('cpu'), dataset_kwargs=dict(
            class_name='training.dataset.ImageFolderDataset', path=path, use_labels=c_dim > 0, xflip=c_dim > 0))
    return make

@pytest.fixture
def looked(monkeypatch):
    """Images that each detector saw, of generated ones: 64 in a batch."""
    counts, stock = {}, metric_utils.run_detector
    def run_detector(detector, images, kwargs):
        features = stock(detector, images, kwargs)
        counts[features.shape[1]] = counts.get(features.shape[1], 0) + len(images)
        return features
    monkeypatch.setattr(metric_utils, 'run_detector', run_detector)
    return counts

def scores(metrics, shared, **kwargs):
    kwargs['shared'] = metric_main.share(metrics, **kwargs) if shared else None
    return {metric: metric_main.calc_metric(metric, **kwargs).results for metric in metrics}

DRAWN = 16 * 64 # Batches of 64 that hold 1000 images.

def test_one_pass_gives_the_numbers_of_separate_passes(options, looked):
    metrics = ['fid1k', 'kid1k', 'pr1k3', 'is1k']
    opts = options()
    apart = scores(metrics, shared=False, **opts)
    assert sum(opts['G'].drawn) == len(metrics) * DRAWN
    opts['G'].drawn.clear()
    looked.clear()
    assert scores(metrics, shared=True, **opts) == apart
    assert sum(opts['G'].drawn) == DRAWN
    # Real features are in the cache now; a detector saw each generated image once, for features and for probabilities.
    assert looked == {12: DRAWN, 3: DRAWN, 4: DRAWN + 2}

def test_sizes_share_the_largest_pass(options, looked):
    opts = options()
    apart = scores(['fid1k', 'kid5k', 'fid5k'], shared=False, **opts)
    opts['G'].drawn.clear()
    assert scores(['fid1k', 'kid5k', 'fid5k'], shared=True, **opts) == apart
    assert sum(opts['G'].drawn) == 79 * 64 # 5000, and not 1000 + 2 * 5000.

def test_labels_of_mirrored_sets_are_drawn_apart(options, monkeypatch):
    """fid50k draws labels from the mirrored set of training, which is twice as long, so that its images are others."""
    for name, fn in (('fid50k', 'fid'), ('kid50k', 'kid')):
        def metric(opts, name=name, fn=fn):
            opts.dataset_kwargs.update(metric_main.real_images(name, opts.dataset_kwargs))
            return getattr(metric_main, fn)(opts, name, max_real=None, num_gen=600)
        metric.generated = dict(metric_main.GENERATED[getattr(metric_main, fn)], max_items=600)
        monkeypatch.setitem(metric_main._metric_dict, name, metric)
    metrics, opts = ['fid50k', 'kid50k', 'fid1k', 'kid1k'], options(3)
    apart = scores(metrics, shared=False, **opts)
    opts['G'].drawn.clear()
    assert scores(metrics, shared=True, **opts) == apart
    assert sum(opts['G'].drawn) == 10 * 64 + DRAWN

def test_metrics_that_say_nothing_draw_their_own(options, monkeypatch):
    def plain(opts):
        stats = metric_utils.compute_feature_stats_for_generator(opts, detector_url=metric_main.detector_of('fid1k', None),
                                                                 detector_kwargs={}, capture_all=True, max_items=10)
        return dict(plain=stats.get_all().mean())
    monkeypatch.setitem(metric_main._metric_dict, 'plain', plain)
    opts = options()
    found = scores(['fid1k', 'plain', 'kid1k'], shared=True, **opts)
    assert sum(opts['G'].drawn) == DRAWN + 64 and np.isfinite(found['plain']['plain'])
    assert metric_main.share(['fid1k', 'plain'], **opts) is None

def test_an_error_of_one_detector_is_that_of_its_metric(options, monkeypatch):
    stock = metric_utils.get_feature_detector
    def get(url, **kwargs):
        if 'other' in url:
            raise SpiderError('--detector: other.pt is gone; give another')
        return stock(url, **kwargs)
    opts = options()
    apart = scores(['fid1k', 'kid1k'], shared=False, **opts)
    monkeypatch.setattr(metric_utils, 'get_feature_detector', get)
    opts['shared'] = metric_main.share(['fid1k', 'pr1k3', 'kid1k'], **opts)
    assert metric_main.calc_metric('fid1k', **opts).results == apart['fid1k']
    with pytest.raises(SpiderError, match='other.pt is gone'):
        metric_main.calc_metric('pr1k3', **opts)
    assert metric_main.calc_metric('kid1k', **opts).results == apart['kid1k']

def test_scores_of_other_networks_than_the_published_have_a_label(options, tmp_path, monkeypatch):
    opts = options()
    assert metric_main.calc_metric('fid1k', **opts).label == 'fid1k (pooled)'
    published = metric_main.detectors.detector_identity(str(tmp_path / 'pooled.pt'))
    monkeypatch.setitem(metric_main.detectors.PUBLIC['inception'], 'sha256', published) # A copy of it under another name.
    assert 'label' not in metric_main.calc_metric('fid1k', **opts)
    assert all(map(metric_main.detectors.is_published, ('inception', 'vgg16'))) and not metric_main.detectors.is_published('demo')

#----------------------------------------------------------------------------
# Statistics that are not defined.

@pytest.mark.parametrize('metric, least', [('fid1k', 2), ('kid50k', 2), ('pr1k3', 4), ('is1k', 0), ('eqr1k', 0)])
def test_sets_too_small_for_a_metric_are_refused(metric, least):
    metric_main.check_num_real([metric], max(least, 1), 'set.zip')
    if least:
        with pytest.raises(SpiderError, match=f'^--metrics: {metric} is not defined for fewer than {least} real images, and '
                                              'set.zip has (one image|3 images); give a larger --data'):
            metric_main.check_num_real([metric], least - 1, 'set.zip')

def test_a_value_that_is_not_defined_is_null(tmp_path, capsys):
    from training import run_dir
    (tmp_path / 'network-snapshot-000001.pkl').touch()
    for cur_nimg, value in ((0, float('nan')), (1, float('inf'))):
        metric_main.report_metric(dict(metric='kid1k', results=dict(kid1k=value)), run_dir=str(tmp_path), cur_nimg=cur_nimg,
                                  snapshot_pkl=str(tmp_path / 'network-snapshot-000001.pkl'))
    assert capsys.readouterr().out.count('"kid1k": null') == 2
    assert run_dir.best_snapshot(str(tmp_path), 'kid1k', rises=False) is None
    assert run_dir.untrained_and_best(str(tmp_path), 'kid1k', rises=False) is None

#----------------------------------------------------------------------------
