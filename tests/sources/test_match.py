"""Sources that are moved to the mean and covariance of the target."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.match import GaussianTransport
from spider_plugin.sources.prepare import is_dataset, prepare_source

#----------------------------------------------------------------------------

def smooth(seed, mean, contrast, n=2000, channels=3, resolution=8):
    """Correlated images well inside the range of pixels, uint8 [n, channels, resolution, resolution]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn([channels, channels], generator=generator)
    x = torch.randn([n, channels, resolution + 2, resolution + 2], generator=generator)
    x = F.avg_pool2d(torch.einsum('ij,njhw->nihw', mix, x), 3, stride=1)
    return (mean + contrast * x / x.std()).round().clamp(0, 255).to(torch.uint8).numpy()

def moments(images):
    x = images.reshape(len(images), -1).astype(np.float64)
    return x.mean(axis=0), np.cov(x.T)

@pytest.mark.parametrize('channels', [1, 3])
def test_moved_images_have_the_targets_moments(channels):
    source, target = smooth(0, 80, 20, channels=channels), smooth(1, 150, 15, channels=channels)
    moved = GaussianTransport(source, target)(source)
    assert moved.dtype == np.uint8 and moved.shape == source.shape
    (mean, covariance), (wanted, wanted_covariance) = moments(moved), moments(target)
    assert np.abs(mean - wanted).max() < 0.5
    assert np.linalg.norm(covariance - wanted_covariance) < 0.05 * np.linalg.norm(wanted_covariance)

def test_equal_sets_do_not_move():
    images = smooth(2, 128, 20)
    assert np.abs(GaussianTransport(images, images)(images).astype(int) - images).max() <= 2    # the floor of the covariance

def test_a_negative_is_inverted():
    """Dark on light becomes light on dark; the transport keeps as much of each image as the target's contrast allows."""
    target = smooth(3, 60, 15, channels=1)
    target[:, :, 2:6, 2:6] += 100
    negative = 255 - target
    moved = GaussianTransport(negative, target)(negative)
    assert moved[:, :, 3:5, 3:5].mean() > moved[:, :, 0, 0].mean() + 50

@pytest.mark.parametrize('resolution', [32, 64])
def test_detail_beyond_16_pixels_keeps_its_place_and_takes_the_targets_contrast(resolution):
    source, target = smooth(4, 120, 10, n=200, resolution=resolution), smooth(5, 120, 20, n=200, resolution=resolution)
    moved = GaussianTransport(source, target)(source)
    detail = lambda x: (lambda t: t - F.interpolate(F.avg_pool2d(t, resolution // 16), size=resolution, mode='bilinear'))(
        torch.from_numpy(x).double())
    before, after, wanted = detail(source), detail(moved), detail(target)
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.75
    assert after.std().item() == pytest.approx(wanted.std().item(), rel=0.1)

def test_one_flat_image_moves_to_the_targets_mean():
    target = smooth(6, 140, 20)
    flat = np.full([4, 3, 8, 8], 30, np.uint8)
    moved = GaussianTransport(flat, target)(flat)
    assert np.abs(moved.astype(float) - target.mean(axis=0)).max() <= 1

#----------------------------------------------------------------------------

def test_prepared_banks_record_it_and_have_separate_directories(make_zip, tmp_path):
    source, target = make_zip(tmp_path / 'S.zip', n=60, res=16, seed=1), make_zip(tmp_path / 'T.zip', n=60, res=16, seed=2)
    other = make_zip(tmp_path / 'other.zip', n=60, res=16, seed=3)
    plain, moved, again, elsewhere = (prepare_source(source, match=match) for match in (None, target, target, other))
    assert moved.path == again.path and len({plain.path, moved.path, elsewhere.path}) == 3
    assert moved.identity['transform'].endswith('moved to the mean and covariance of T')
    images = [np.load(f'{x.path}/images.npy') for x in (plain, moved)]
    wanted = np.stack([ImageDataset(target).image(i) for i in range(60)]).mean(axis=0)
    off = [np.abs(x.mean(axis=0) - wanted).mean() for x in images]
    assert off[1] < 0.5 * off[0]

@pytest.mark.parametrize('spec, images', [('S.zip', True), ('cifar10', True), ('celeba:here', True), ('https://a/b.zip', True),
                                          ('G.pkl', False), ('https://a/G.pkl#sha256=0', False), ('noise', False),
                                          ('covariance:S.zip', False)])
def test_specs_of_datasets(spec, images):
    assert is_dataset(spec) == images

def test_a_grey_source_and_a_coloured_target(make_zip, tmp_path):
    with pytest.raises(SpiderError, match='is grey, but colour images are needed'):
        prepare_source(make_zip(tmp_path / 'S.zip', channels=1), match=make_zip(tmp_path / 'T.zip'))
