"""metrics/: the distance, the statistics and their cache, detectors, repeatable scores."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from metrics import detectors, metric_main, metric_utils
from metrics import frechet_inception_distance as fid
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Stand-ins.

class Pooled(torch.nn.Module):
    """A detector of twelve features, the image pooled to 2x2."""
    def forward(self, img: torch.Tensor, return_features: bool = False):
        pooled = torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 128, 2).flatten(1)
        return pooled if return_features else pooled[:, :1]

class Plain(torch.nn.Module):
    """A detector without the keyword that published detectors have."""
    def forward(self, img: torch.Tensor):
        return img.to(torch.float32).mean([2, 3])

class Flat(torch.nn.Module):
    """A generator of images with one random value per channel."""
    z_dim, c_dim, img_resolution, img_channels = 3, 0, 16, 3
    def forward(self, z, c, noise_mode='random'):
        noise = torch.randn_like(z) * 0.01 if noise_mode == 'random' else 0
        return ((z + noise) * 0.2)[:, :, None, None].expand(-1, -1, 16, 16)

def save_script(module, path):
    torch.jit.script(module).save(str(path))
    return str(path)

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))

@pytest.fixture
def options(make_zip, tmp_path):
    """Arguments of calc_metric for 40 real images of 16x16."""
    return dict(G=Flat(), detector=save_script(Pooled(), tmp_path / 'pooled.pt'), device=torch.device('cpu'),
                dataset_kwargs=dict(class_name='training.dataset.ImageFolderDataset',
                                    path=make_zip(tmp_path / 'set.zip', n=40)))

def opts_of(**kwargs):
    return metric_utils.MetricOptions(**kwargs)

#----------------------------------------------------------------------------
# Distance.

def test_distance_of_gaussians_in_closed_form():
    rng = np.random.RandomState(0)
    mean1, mean2 = rng.randn(2, 6)
    var1, var2 = rng.rand(2, 6) + 0.1
    turn = np.linalg.qr(rng.randn(6, 6))[0] # Covariances that commute: S = Q diag(v) Q^T.
    truth = np.square(mean1 - mean2).sum() + np.square(np.sqrt(var1) - np.sqrt(var2)).sum()
    actual = fid.frechet_distance(mean1, turn @ np.diag(var1) @ turn.T, mean2, turn @ np.diag(var2) @ turn.T)
    assert actual == pytest.approx(truth, rel=1e-12)

@pytest.mark.parametrize('samples', [20, 500]) # 20: covariances of rank 19 in 64 dimensions.
def test_distance_against_eigenvalues_of_the_product(samples):
    rng = np.random.RandomState(1)
    x, y = rng.randn(samples, 64) @ rng.randn(64, 64), rng.randn(samples, 64) @ rng.randn(64, 64) + 1
    cov1, cov2 = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    root = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real.sum()
    truth = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(cov1) + np.trace(cov2) - 2 * root
    assert fid.frechet_distance(x.mean(0), cov1, y.mean(0), cov2) == pytest.approx(truth, rel=1e-6)

def test_distance_to_itself_is_zero():
    x = np.random.RandomState(2).randn(30, 50)
    assert fid.frechet_distance(x.mean(0), np.cov(x.T), x.mean(0), np.cov(x.T)) == pytest.approx(0, abs=1e-10)

#----------------------------------------------------------------------------
# Statistics.

def test_statistics_of_batches_are_those_of_the_whole(tmp_path):
    x = (np.random.RandomState(0).randn(103, 5) + 1e3).astype(np.float32) # A mean far from zero costs no digits.
    stats = metric_utils.FeatureStats(capture_all=True, capture_mean_cov=True, max_items=100)
    for batch in np.array_split(x, 7):
        stats.append(batch)
    assert stats.is_full() and stats.num_items == 100
    stats.save(tmp_path / 'stats.npz')
    for each in (stats, metric_utils.FeatureStats.load(tmp_path / 'stats.npz'), stats.reduce(capture_all=True,
                                                                                            capture_mean_cov=True)):
        mean, cov = each.get_mean_cov()
        assert np.array_equal(each.get_all(), x[:100])
        np.testing.assert_allclose(mean, x[:100].astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(cov, np.cov(x[:100].astype(np.float64).T, bias=True), rtol=1e-9, atol=1e-12)

def real_stats(options, **kwargs):
    return metric_utils.compute_feature_stats_for_dataset(
        opts_of(**options), detector_url=options['detector'], detector_kwargs=dict(return_features=True), **kwargs)

def test_cache_is_used_and_its_key_holds_what_matters(options, make_zip, tmp_path, monkeypatch):
    def runs(change=None, **kwargs):
        """Return whether these options need the detector."""
        calls = []
        original = metric_utils.run_detector
        monkeypatch.setattr(metric_utils, 'run_detector', lambda *args: calls.append(1) or original(*args))
        real_stats(options if change is None else dict(options, **change), **dict(dict(capture_all=True), **kwargs))
        monkeypatch.setattr(metric_utils, 'run_detector', original)
        return bool(calls)

    def dataset(**kwargs):
        return dict(dataset_kwargs=dict(options['dataset_kwargs'], **kwargs))

    assert runs() and not runs()
    assert not runs(dataset(random_seed=7)) # No subset, so the seed does not matter.
    shutil.copytree(tmp_path, tmp_path / 'moved', ignore=shutil.ignore_patterns('cache'))
    assert not runs(dict(detector=str(tmp_path / 'moved/pooled.pt'))) # Only the contents of the files matter.
    assert not runs(dataset(path=str(tmp_path / 'moved/set.zip')))
    assert runs(dataset(xflip=True)) and runs(dataset(max_size=9)) and runs(dataset(max_size=9, random_seed=1))
    assert runs(dict(detector=save_script(Plain(), tmp_path / 'plain.pt')))
    make_zip(tmp_path / 'set.zip', n=40, seed=1) # Other images under the same name.
    assert runs() and not runs()
    for name in os.listdir(tmp_path / 'cache/gan-metrics'):
        (tmp_path / 'cache/gan-metrics' / name).write_bytes(b'damaged')
    assert runs() and not runs()
    assert runs(dict(cache=False))

def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a.get_mean_cov(), b.get_mean_cov(), strict=True))

def test_one_pass_serves_all_kinds_and_sizes(options, monkeypatch):
    images = []
    original = metric_utils.run_detector
    monkeypatch.setattr(metric_utils, 'run_detector', lambda *args: images.append(len(args[1])) or original(*args))

    few = real_stats(options, capture_mean_cov=True, max_items=9) # A size without a cached entry;
    assert sum(images) == 9 and few.num_items == 9
    moments = real_stats(options, capture_mean_cov=True)          # it is not taken for that of all,
    assert sum(images) == 49 and moments.num_items == 40
    features = real_stats(options, capture_all=True)              # a pass over all images gives their features,
    part = real_stats(options, capture_all=True, max_items=9)     # and those of other sizes.
    more = real_stats(options, capture_all=True, max_items=10)
    assert sum(images) == 49 and features.get_all().shape == (40, 12) and more.get_all().shape == (10, 12)
    assert same(moments, features.reduce(capture_mean_cov=True)) and same(few, part.reduce(capture_mean_cov=True))
    chosen = metric_utils.subset_indices(40, 9)
    assert np.array_equal(part.get_all(), features.get_all()[chosen]) and chosen[-1] > 9 # Not the first nine.
    assert real_stats(options, capture_mean_cov=True, max_items=1000).num_items == 40 and sum(images) == 49

def test_features_that_are_large_are_kept_only_on_request(options, monkeypatch, tmp_path):
    monkeypatch.setattr(metric_utils, 'KEEP_BELOW', 40 * 12 * 4 - 1)
    kinds = lambda: sorted(name.rsplit('-', 1)[1] for name in os.listdir(tmp_path / 'cache/gan-metrics'))
    real_stats(options, capture_mean_cov=True)
    assert kinds() == ['meancov.npz']
    real_stats(options, capture_all=True)
    assert kinds() == ['features.npz', 'meancov.npz']

def test_unwritable_cache_costs_only_time(options, tmp_path, capsys):
    (tmp_path / 'cache').write_text('a file in the way')
    assert real_stats(options, capture_all=True).num_items == 40
    assert 'cannot be kept' in capsys.readouterr().out

#----------------------------------------------------------------------------
# Detectors.

def test_detector_sees_rgb_bytes_and_gets_only_its_keywords(make_zip, tmp_path):
    path = make_zip(tmp_path / 'grey.zip', n=4, channels=1)
    kwargs = dict(dataset_kwargs=dict(class_name='training.dataset.ImageFolderDataset', path=path), cache=False,
                  device=torch.device('cpu'))
    pooled = real_stats(dict(kwargs, detector=save_script(Pooled(), tmp_path / 'pooled.pt')), capture_all=True).get_all()
    plain = real_stats(dict(kwargs, detector=save_script(Plain(), tmp_path / 'plain.pt')), capture_all=True).get_all()
    assert pooled.shape == (4, 12) and plain.shape == (4, 3)
    assert np.array_equal(plain[:, 0], plain[:, 2]) and plain.max() > 1
    module, images = Pooled(), torch.zeros([2, 3, 4, 4], dtype=torch.uint8)
    assert metric_utils.run_detector(module, images, dict(return_features=True, other=1)).shape == (2, 12)

def test_check_metrics(options, tmp_path):
    metric_main.check_metrics(['fid1k', 'fid5k', 'fid50k_full'], options['detector'], 16)
    metric_main.check_metrics([], None, 16)
    (tmp_path / 'text.pt').write_text('no network')
    for metrics, detector, word in (
            (['fid1k', 'fix'], options['detector'], '--metrics: fix is unknown'),
            (['fid1k'], None, '--detector'), (['fid1k'], 'demo', '32x32'),
            (['fid1k'], str(tmp_path / 'none.pt'), 'none.pt'), (['fid1k'], str(tmp_path / 'text.pt'), 'text.pt')):
        with pytest.raises(SpiderError) as info:
            metric_main.check_metrics(metrics, detector, 16)
        assert word in info.value.message and '\n' not in info.value.message

def test_demo_detector_takes_its_resolution():
    if not os.path.isfile(detectors.DEMO_DETECTOR):
        pytest.skip('this checkout has no demo detector')
    metric_main.check_metrics(['fid1k'], 'demo', 32)
    images = torch.randint(256, [3, 1, 32, 32], dtype=torch.uint8)
    features = metric_utils.run_detector(metric_utils.get_feature_detector('demo'), images, dict(return_features=True))
    assert features.dtype == torch.float32 and features.ndim == 2 and len(features) == 3

#----------------------------------------------------------------------------
# Scores.

def test_fid_of_a_known_generator_repeats_and_leaves_the_random_state_alone(options):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = metric_main.calc_metric('fid1k', **options)  # Computes the statistics of the dataset,
    second = metric_main.calc_metric('fid1k', **options) # and reads them.
    assert first.results == second.results and first.results['fid1k'] > 0
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])

    real = real_stats(options, capture_all=True).get_all().astype(np.float64)
    fake = metric_utils.compute_feature_stats_for_generator(
        opts_of(**options), detector_url=options['detector'], detector_kwargs=dict(return_features=True),
        capture_all=True, max_items=1000).get_all().astype(np.float64)
    truth = fid.frechet_distance(real.mean(0), np.cov(real.T, bias=True), fake.mean(0), np.cov(fake.T, bias=True))
    assert first.results['fid1k'] == pytest.approx(truth, rel=1e-9)
    levels = 128 + 127.5 * 0.2 * np.array([-3, 3]) # z of three standard deviations, in the bytes of an image.
    assert abs(fake.mean() * 128 - 128) < 3 and levels[0] < fake.mean(0).min() * 128 and fake.std(0).max() * 128 < 30

def test_labels_of_generated_images_come_from_the_dataset(options, make_zip, tmp_path):
    seen = []
    class Labelled(Flat):
        c_dim = 4
        def forward(self, z, c):
            seen.append(c)
            return super().forward(z, c)
    path = make_zip(tmp_path / 'labelled.zip', n=10, labels=[i % 2 + 2 for i in range(10)])
    options['dataset_kwargs'].update(path=path, use_labels=True)
    options.update(G=Labelled())
    metric_main.calc_metric('fid1k', **options)
    counts = torch.cat(seen).sum(0)
    assert counts[:2].sum() == 0 and counts[2:].min() > 300

@pytest.mark.parametrize('change', [lambda img: img[:, :, :8], lambda img: img[0], lambda img: {'image': img}],
                         ids=['not square', 'no batch', 'a dict'])
def test_images_that_metrics_cannot_take_are_refused_in_a_sentence(options, change):
    class Odd(Flat):
        def forward(self, z, c):
            return change(super().forward(z, c))
    options.update(G=Odd())
    with pytest.raises(Exception, match='--network: its generator gives .*, and metrics need square images; use a'):
        metric_main.calc_metric('fid1k', **options)

def test_registered_metric_is_evaluated_and_reported(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(metric_main, '_metric_dict', dict(metric_main._metric_dict))

    @metric_main.register_metric
    def two(opts):
        return dict(two=opts.G.z_dim - 1)

    metric_main.check_metrics(['two'], None, 16) # It needs no detector.
    result = metric_main.calc_metric('two', **dict(options, detector=None))
    metric_main.report_metric(result, run_dir=str(tmp_path), snapshot_pkl=str(tmp_path / 'net.pkl'), cur_nimg=8000)
    line = json.loads((tmp_path / 'metric-two.jsonl').read_text())
    assert line == json.loads(capsys.readouterr().out)
    assert line['results'] == dict(two=2.0) and line['metric'] == 'two' and line['num_gpus'] == 1
    assert line['snapshot_pkl'] == 'net.pkl' and line['cur_nimg'] == 8000 and line['timestamp'] > 0

#----------------------------------------------------------------------------
