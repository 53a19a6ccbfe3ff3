"""metrics/: scores of generators whose scores are known."""

import numpy as np
import pytest
import torch

from metrics import equivariance, metric_main, metric_utils
from metrics import inception_score as score
from metrics import kernel_inception_distance as kid
from metrics import perceptual_path_length as ppl
from metrics import precision_recall as pr
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Stand-ins.

class Pooled(torch.nn.Module):
    """A detector of twelve features, or four class probabilities."""
    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
        pooled = torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 64, 2).flatten(1)
        return pooled if return_features else pooled[:, :4].softmax(dim=1)

class Pixels(torch.nn.Module):
    """A detector like LPIPS; differences of its features are those of pixels in [0, 255], over the root of their number."""
    def forward(self, img: torch.Tensor, resize_images: bool = True, return_lpips: bool = False):
        assert return_lpips and not resize_images
        return img.flatten(1) / float(img[0].numel()) ** 0.5

class Flat(torch.nn.Module):
    """A generator of images of one grey, the first number of w, where w is 2 z."""
    z_dim, c_dim, img_resolution, img_channels = 3, 0, 16, 1

    def __init__(self):
        super().__init__()
        self.synthesis = self.draw

    def mapping(self, z, c):
        return 2 * z[:, None].repeat(1, 2, 1)

    def draw(self, ws, noise_mode, force_fp32):
        assert noise_mode == 'const' and force_fp32
        return ws[:, 0, :1, None, None].expand(-1, 1, 16, 16)

    def forward(self, z, c):
        return self.draw(self.mapping(z, c), 'const', True)

class Waves(torch.nn.Module):
    """An equivariant generator of a few plane waves, drawn exactly for every movement of the input.

    Positions are as in StyleGAN3, x to the right and y down, in widths of the image from its middle."""
    z_dim, c_dim, img_resolution, img_channels = 8, 0, 64, 3

    class Synthesis(torch.nn.Module):
        def __init__(self, cycles, error):
            super().__init__()
            self.input = torch.nn.Module()
            self.input.register_buffer('transform', torch.eye(3))
            angles = torch.arange(8) * 0.7
            self.waves = cycles * torch.stack([angles.cos(), angles.sin()])
            self.error = error

        def forward(self, ws, noise_mode, force_fp32):
            axis = (torch.arange(64) + 0.5) / 64 - 0.5
            points = torch.stack(torch.meshgrid(axis, axis, indexing='xy') + (torch.ones(64, 64),), dim=-1)
            moved = (points @ self.input.transform.T)[..., :2]
            phases = 2 * np.pi * (moved @ self.waves) + ws[:, 0, None, None]    # [N, H, W, 8]
            img = phases.cos().mean(dim=-1)[:, None].repeat(1, 3, 1, 1)
            return img + self.error * torch.ones_like(img) * (self.input.transform.sub(torch.eye(3)).abs().sum() > 0)

    def __init__(self, cycles=6, error=0):
        super().__init__()
        self.synthesis = self.Synthesis(cycles, error)

    def mapping(self, z, c):
        return 3 * z[:, None]

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))

def save_script(module, path):
    torch.jit.script(module).save(str(path))
    return str(path)

def opts_of(**kwargs):
    return metric_utils.MetricOptions(device=torch.device('cpu'), **kwargs)

#----------------------------------------------------------------------------
# The registry.

def test_names_of_the_public_hosts_and_their_sizes():
    names = set(metric_main.list_valid_metrics())
    assert names >= {'fid50k_full', 'kid50k_full', 'pr50k3_full', 'ppl2_wend', 'eqt50k_int', 'eqt50k_frac', 'eqr50k', 'fid50k',
                     'kid50k', 'pr50k3', 'is50k'}
    for kind in ('fid{}', 'kid{}', 'pr{}3', 'is{}', 'ppl{}_wend', 'eqt{}_int', 'eqt{}_frac', 'eqr{}'):
        assert {kind.format(size) for size in ('1k', '5k')} <= names

def test_results_have_the_keys_of_the_public_hosts(make_zip, tmp_path, monkeypatch):
    dataset_kwargs = dict(class_name='training.dataset.ImageFolderDataset', path=make_zip(tmp_path / 'set.zip', n=70))
    kwargs = dict(G=Flat(), detector=save_script(Pooled(), tmp_path / 'pooled.pt'), device=torch.device('cpu'),
                  dataset_kwargs=dataset_kwargs)
    monkeypatch.setattr(metric_main, 'METRICS', {
        name: (fn, {size: 60 for size in sizes}) for name, (fn, sizes) in metric_main.METRICS.items()})
    monkeypatch.setattr(metric_main, '_metric_dict', {})
    metric_main.register_all()
    keys = dict(fid50k_full=['fid50k_full'], kid50k_full=['kid50k_full'], is50k=['is50k_mean', 'is50k_std'],
                pr50k3_full=['pr50k3_full_precision', 'pr50k3_full_recall'])
    for metric, names in keys.items():
        first, second = [metric_main.calc_metric(metric, **kwargs) for _ in range(2)]
        assert list(first.results) == names and np.isfinite(list(first.results.values())).all()
        assert first.results == second.results and first.detector == 'pooled'

#----------------------------------------------------------------------------
# Distances and manifolds.

def test_kid_is_unbiased_and_grows_with_distance():
    rng = np.random.RandomState(0)
    values = [kid.squared_mmd(rng.randn(20, 4), rng.randn(20, 4)) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 2000 ** 0.5 and min(values) < 0 < max(values)
    x, y = rng.randn(300, 4), rng.randn(200, 4)
    near, far = [kid.kernel_distance(x, y + shift, num_subsets=5, max_subset_size=150) for shift in (0.5, 1)]
    assert 0 < near < far

def test_manifolds_in_the_plane():
    """Real points are a unit grid, so with k = 3 each inner ball has radius 1. Two of four generated points are inside."""
    axis = torch.arange(5.)
    real = torch.cartesian_prod(axis, axis)
    fake = torch.tensor([[2.2, 2.1], [0.4, 3.5], [9, 9], [-7, 0]])
    radii = pr.neighbour_distances(real, 3, block=4)
    assert radii[12] == 1 and radii[0] == pytest.approx(2 ** 0.5) and torch.equal(radii, pr.neighbour_distances(real, 3))
    for block in (1, 3, 100):
        assert pr.fraction_inside(fake, real, radii, block) == 0.5
    assert pr.precision_recall(real, real) == (1, 1) and pr.precision_recall(real, real + 100) == (0, 0)

def test_distances_stay_in_blocks(monkeypatch):
    sizes = []
    original = torch.cdist
    monkeypatch.setattr(torch, 'cdist', lambda a, b: sizes.append(len(a) * len(b)) or original(a, b))
    pr.precision_recall(torch.randn(90, 3), torch.randn(70, 3), block=16)
    assert max(sizes) == 256 and len(sizes) > 50

def test_inception_score_of_certain_and_of_uncertain_classes():
    certain = np.eye(5)[np.arange(100) % 5]
    assert score.inception_score(certain, num_splits=4) == pytest.approx((5, 0))
    assert score.inception_score(np.full([100, 5], 0.2), num_splits=4) == pytest.approx((1, 0))

def test_inception_score_needs_probabilities(tmp_path):
    class Plain(torch.nn.Module):
        def forward(self, img: torch.Tensor):
            return img.to(torch.float32).mean([2, 3])
    with pytest.raises(SpiderError, match='--detector: .*probabilities'):
        score.compute_is(opts_of(G=Flat(), detector=save_script(Plain(), tmp_path / 'plain.pt')), num_gen=64)

#----------------------------------------------------------------------------
# Path length.

def test_path_length_of_a_linear_generator(tmp_path):
    """Grey is 2 z_0, so its derivative along w' - w is 2 (z'_0 - z_0), and 127.5 times that in [0, 255]. The mean square is
    127.5^2 4 2 E z^2, without the share of the extremes that are cut off."""
    opts = opts_of(G=Flat(), detector=save_script(Pixels(), tmp_path / 'pixels.pt'))
    value = ppl.compute_ppl(opts, num_samples=4000, epsilon=1e-2, batch_size=50)
    draws = np.random.RandomState(0).randn(2, 100000)
    truth = ppl.trimmed_mean((127.5 * 2 * (draws[1] - draws[0])) ** 2)
    assert value == pytest.approx(truth, rel=0.1) and value == ppl.compute_ppl(opts, 4000, epsilon=1e-2, batch_size=50)
    assert ppl.to_detector(torch.zeros(1, 1, 512, 512)).shape == (1, 1, 256, 256)
    assert float(ppl.to_detector(torch.ones(1, 1, 8, 8)).mean()) == 255

def test_trimmed_mean_leaves_the_extremes_out():
    assert ppl.trimmed_mean(np.array([1e9, *[2.0] * 298, -1e9])) == 2

#----------------------------------------------------------------------------
# Equivariance.

EQ = dict(int=equivariance.shift_int, frac=equivariance.shift_frac, turn=equivariance.turn)

@pytest.mark.parametrize('movement, least', [('int', 100), ('frac', 55), ('turn', 50)])
def test_equivariant_generator(movement, least):
    """The only error is that of the reference's interpolation."""
    assert equivariance.compute_equivariance(opts_of(G=Waves()), EQ[movement], num_samples=12) > least

@pytest.mark.parametrize('movement', EQ)
def test_known_error_gives_its_psnr(movement):
    opts = opts_of(G=Waves(cycles=2, error=0.1)) # 10 log10(2^2 / 0.1^2) = 26 dB.
    assert equivariance.compute_equivariance(opts, EQ[movement], num_samples=8) == pytest.approx(26.02, abs=0.05)

@pytest.mark.parametrize('movement', EQ)
def test_generator_that_stays_put_scores_low(movement, monkeypatch):
    monkeypatch.setattr(equivariance, 'input_transform', lambda G: torch.eye(3))
    assert equivariance.compute_equivariance(opts_of(G=Waves()), EQ[movement], num_samples=12) < 25

def test_generator_without_a_movable_input_is_refused():
    for call in (lambda: equivariance.compute_equivariance(opts_of(G=Flat()), EQ['int'], 4),
                 lambda: metric_main.check_metrics(['eqr50k'], None, 16, get_G=Flat)):
        with pytest.raises(SpiderError, match='--metrics: equivariance') as info:
            call()
        assert '\n' not in info.value.message
    metric_main.check_metrics(['eqr50k', 'eqt1k_frac'], None, 16, get_G=Waves)
    metric_main.check_metrics(['eqr50k'], None, 16) # The generator is not known yet.

def test_filter_of_a_rotation_keeps_levels_and_what_both_grids_hold():
    """The spectrum of the filter at 4 samples per pixel is an octagon, the intersection of the unit square and the turned one."""
    f = equivariance.rotation_filter(equivariance.rotation(np.pi / 4), up=4)
    assert f.shape == (47, 47) and torch.allclose(f, f.flip(0).flip(1), atol=1e-6)
    assert torch.allclose(f[3::4, 3::4].sum(), torch.ones([]), atol=1e-5) # One phase, without the other fifteen.
    spectrum = torch.fft.fft2(f, s=[256, 256]).abs() / 16
    at = lambda x, y: float(spectrum[round(64 * y), round(64 * x)]) # Cycles per pixel.
    assert at(0, 0) == pytest.approx(1, abs=1e-3) and at(0.3, 0.1) == pytest.approx(1, abs=0.06)
    assert at(0.5, 0.5) < 0.05 and at(0.7, 0) < 0.1 # The corners of the square, and of the turned one.

#----------------------------------------------------------------------------
