"""The demo's numbers, on curves and images with known answers."""

import pytest
import torch

from spider_plugin.demo import analysis
from spider_plugin.resources import resource_dir

BASELINE = [[0, 5000.0], [100, 1000.0], [200, 400.0], [300, 100.0], [400, 120.0]]

def test_iterations_to_a_score_interpolate_its_logarithm():
    assert analysis.iterations_to([[0, 1.0], [100, 1000.0], [200, 10.0]], 100) == pytest.approx(150)
    assert analysis.iterations_to(BASELINE, 100) == 300
    assert analysis.iterations_to(BASELINE, 99) is None
    assert analysis.iterations_to([[0, 1.0], [50, 7.0]], 7.5) == 50     # iteration 0 does not count

@pytest.mark.parametrize(['spider', 'ratio', 'is_bound'], [
    ([[0, 300.0], [100, 1000.0], [200, 10.0]], 150 / 300, False),
    ([[0, 300.0], [100, 90.0], [200, 10.0]],   100 / 300, True),
    ([[0, 50.0], [100, 200.0], [200, 101.0]],  None,      False),
    (BASELINE,                                 1.0,       False),
])
def test_iterations_ratio(spider, ratio, is_bound):
    assert analysis.iterations_ratio(BASELINE, spider) == (ratio and pytest.approx(ratio), is_bound)

def test_frechet_distance_of_known_gaussians():
    x = torch.randn([20000, 4], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert analysis.frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert analysis.frechet_distance(x, x + 3) == pytest.approx(4 * 9)
    assert analysis.frechet_distance(x, 2 * x) == pytest.approx(4, rel=0.05)    # sum of (2 - 1)^2 + mean term

def test_the_best_score_is_of_training_and_not_of_the_source():
    assert analysis.best_after_start(BASELINE) == [300, 100.0]
    assert analysis.best_after_start([[0, 5.0], [10, 9.0], [20, 8.0]]) == [20, 8.0]

@pytest.mark.parametrize(['spider', 'adds', 'reached'], [
    ([[0, 300.0], [100, 150.0], [200, 160.0]], True, 100.0),
    ([[0, 300.0], [100, 420.0], [200, 105.0]], True, 150.0),
    ([[0, 300.0], [100, 400.0], [200, 290.0]], True, None),
    ([[0, 300.0], [100, 300.0], [200, 310.0]], False, None)])
def test_what_training_adds_counts_from_the_untrained_source(spider, adds, reached):
    assert analysis.adds_to_source(spider) == adds
    goal = analysis.reached_goal(BASELINE, spider)
    assert goal == dict(score=pytest.approx(210), spider=reached and pytest.approx(reached),
                        baseline=pytest.approx(analysis.iterations_to(BASELINE, 210)))

def test_nearest_images_are_found_by_pixels():
    x = torch.randint(0, 256, [30, 3, 8, 8], dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(analysis.nearest(x[order] // 2 * 2, x), order)

def test_copy_check_tells_copies_from_others():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, [60, 3, 32, 32], dtype=torch.uint8, generator=generator)
    images = dict(sources=x[:20], redrawn=x[:20], target=x[20:40], fresh=x[40:50], baseline=x[50:])
    def check(spider):
        sets = dict(images, spider=spider)
        return analysis.copy_check(sets, {name: x.flatten(1)[:, :96].double() for name, x in sets.items()})
    copies, stolen = check(images['sources']), check(images['target'])['pixels']
    assert copies['pixels']['sample_to_own_source'] == copies['features']['sample_to_own_source'] == 0
    assert copies['pixels']['sample_to_another_source'] == pytest.approx((2 * 256 ** 2 / 12) ** 0.5, rel=0.02)
    assert copies['pixels']['sample_to_other_latent'] == 0 < copies['pixels']['sample_to_another_sample']
    assert stolen['sample_to_nearest_target'] == 0 < stolen['fresh_target_to_nearest_target']

def test_the_embedded_detector_ranks_sets_correctly():
    """Other mosaics of the target's scans score far better than the source, blur or scrambled pixels."""
    from spider_plugin.demo import data
    path = resource_dir('reference_host') / 'metrics' / 'demo_detector.pt'
    assert path.stat().st_size < 1_500_000
    detector = torch.jit.load(str(path))
    target = data.target_images(400)
    features = analysis.detector_features(detector, target)
    assert features.shape == (400, 64) and detector(target[:2], return_features=False).shape == (2, 52)
    score = lambda images: analysis.frechet_distance(analysis.detector_features(detector, images), features)
    fresh, source = score(data.target_images(400, seed=1)), score(data.source_images(400))
    blurred = score(torch.nn.functional.avg_pool2d(target.float(), 5, 1, 2).to(torch.uint8))
    assert 10 * fresh < min(source, blurred)
