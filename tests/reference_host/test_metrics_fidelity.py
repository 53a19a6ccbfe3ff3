"""metrics/: the same numbers as torch-fidelity's, on fixed features and with the same random subsets."""

import importlib

import numpy as np
import pytest
import torch

from metrics import detectors
from metrics import frechet_inception_distance as fid
from metrics import inception_score as score
from metrics import kernel_inception_distance as kid
from metrics import precision_recall as pr
from metrics.feature_stats import FeatureStats

#----------------------------------------------------------------------------

pytestmark = pytest.mark.alone      # torch-fidelity imports torchvision

@pytest.fixture
def fidelity(torchvision):
    pytest.importorskip('tqdm')
    return pytest.importorskip('torch_fidelity')

@pytest.fixture(scope='module')
def features():
    """Generated and real features [N, F] of different spread and location, with a few directions that hardly vary."""
    rng = np.random.RandomState(0)
    mix = rng.randn(24, 24) * np.logspace(0, -3, 24)
    return rng.randn(1500, 24) @ mix + 0.4, rng.randn(1200, 24) @ (mix + 0.2 * rng.randn(24, 24))

def close(actual, expected):
    assert actual == pytest.approx(expected, rel=1e-6, abs=0) and abs(expected) > 1e-3

#----------------------------------------------------------------------------

def test_fid(fidelity, features):
    """The distance from features. torch-fidelity divides covariances by N - 1, the hosts and the reference host by N."""
    expected = importlib.import_module('torch_fidelity.metric_fid')
    actual = []
    for x in features:
        x = x.astype(np.float32)
        stats = FeatureStats(capture_mean_cov=True)
        for batch in np.array_split(x, 9):
            stats.append(batch)
        mean, cov = stats.get_mean_cov()
        actual.append((mean, cov * len(x) / (len(x) - 1)))
    truth = expected.fid_statistics_to_metric(*[
        expected.fid_features_to_statistics(torch.from_numpy(x.astype(np.float32).astype(np.float64))) for x in features],
        verbose=False)
    close(fid.frechet_distance(*actual[0], *actual[1]), truth[fidelity.KEY_METRIC_FID])

@pytest.mark.parametrize('size', [100, 500])
def test_kid_on_its_subsets(fidelity, features, size):
    expected = importlib.import_module('torch_fidelity.metric_kid')
    truth = expected.kid_features_to_metric(*map(torch.from_numpy, features), kid_subsets=10, kid_subset_size=size, rng_seed=7,
                                          verbose=False)
    actual = [kid.kernel_distance(*features, num_subsets=10, max_subset_size=size, seed=seed) for seed in (7, 8)]
    close(actual[0], truth[fidelity.KEY_METRIC_KID_MEAN])
    assert actual[1] != pytest.approx(actual[0], rel=1e-4) # Other subsets.

@pytest.mark.parametrize('nhood_size, block', [
    (3, 170), *(pytest.param(*other, marks=pytest.mark.slow) for other in ((3, 8192), (5, 4)))])
def test_precision_recall(fidelity, nhood_size, block):
    expected = importlib.import_module('torch_fidelity.metric_prc')
    rng = np.random.RandomState(0)
    fake, real = torch.from_numpy(rng.randn(400, 12) * 0.9 + 0.3), torch.from_numpy(rng.randn(350, 12))
    truth = expected.prc_features_to_metric(fake, real, prc_neighborhood=nhood_size, prc_batch_size=100, save_cpu_ram=False,
                                          verbose=False)
    precision, recall = pr.precision_recall(real, fake, nhood_size, block)
    close(precision, truth[fidelity.KEY_METRIC_PRECISION])
    close(recall, truth[fidelity.KEY_METRIC_RECALL])
    assert 0.1 < precision < 0.97 and 0.1 < recall < 0.97 and precision != recall

def test_inception_score(fidelity, features):
    expected = importlib.import_module('torch_fidelity.metric_isc')
    logits = torch.from_numpy(features[0])
    truth = expected.isc_features_to_metric(logits, splits=10, shuffle=False)
    mean, std = score.inception_score(logits.softmax(dim=1).numpy(), num_splits=10)
    close(mean, truth[fidelity.KEY_METRIC_ISC_MEAN])
    close(std, truth[fidelity.KEY_METRIC_ISC_STD])

#----------------------------------------------------------------------------

def test_the_network_of_torch_fidelity_as_a_detector(fidelity, tmp_path, monkeypatch):
    """torch-fidelity's Inception network, with random weights in place of the checkpoint that it downloads."""
    module = importlib.import_module('torch_fidelity.feature_extractor_inceptionv3')
    path = tmp_path / detectors.PUBLIC['inception'].checkpoints[0]
    monkeypatch.setattr(torch.nn.Module, 'load_state_dict', lambda self, state: None)
    torch.save({}, path)
    truth = module.FeatureExtractorInceptionV3('net', ['2048', 'logits_unbiased', 'logits'],
                                               feature_extractor_weights_path=str(path))
    monkeypatch.undo()
    torch.save(truth.state_dict(), path)
    detector = detectors.get_feature_detector(str(path))
    images = torch.randint(256, [2, 1, 32, 32], dtype=torch.uint8)
    features, unbiased, logits = truth(images.repeat([1, 3, 1, 1]))
    assert torch.equal(detectors.run_detector(detector, images, dict(return_features=True)), features)
    assert torch.equal(detectors.run_detector(detector, images, dict(no_output_bias=True)), unbiased.softmax(dim=1))
    assert torch.equal(detectors.run_detector(detector, images, {}), logits.softmax(dim=1))

#----------------------------------------------------------------------------
