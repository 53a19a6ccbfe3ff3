"""The demo's maps: windows of land, determinism, two different parts of the world, datasets in the hosts' format."""

import hashlib

import numpy as np
import pytest
import torch

from spider_plugin.demo import maps
from spider_plugin.sources.dataset import ImageDataset

NAMES = ('satellite.jpg', 'relief.jpg')

@pytest.mark.parametrize('name', NAMES)
def test_windows_are_pieces_of_the_map_with_some_land(name):
    image, _ = maps.load_map(name)
    everywhere = np.lib.stride_tricks.sliding_window_view(image, [maps.WINDOW, maps.WINDOW], axis=(0, 1))
    for window in maps.windows(name, 20, 0, maps.WINDOW).numpy():
        ys, xs = np.where((everywhere[..., 0, 0] == window[:, 0, 0]).all(axis=2))
        assert any(np.array_equal(everywhere[y, x], window) for y, x in zip(ys, xs, strict=True))
        red, blue = window[0].astype(int), window[2].astype(int)
        assert (blue > red + maps.BLUE[name]).mean() < maps.WATER

def test_smaller_images_are_means_of_the_same_windows():
    full, half = maps.target_images(8, 3), maps.target_images(8, 3, resolution=maps.WINDOW // 2)
    means = torch.nn.functional.avg_pool2d(full.float(), 2).round().to(torch.uint8)
    assert half.shape == (8, 3, 16, 16) and (half.int() - means.int()).abs().max() <= 1

def test_images_follow_the_seed_and_more_of_them_begin_alike():
    few, many = maps.source_images(5, 1), maps.source_images(9, 1)
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, maps.source_images(5, 2))
    assert len({image.numpy().tobytes() for image in maps.target_images(200)}) == 200

def test_land_and_water_have_the_colours_of_their_maps():
    target, source = maps.target_images(300).float(), maps.source_images(300).float()
    assert target.mean() < 100 < 130 < source.mean()                    # satellite images are dark
    assert target.std(dim=0).mean() > 30 and source.std(dim=0).mean() > 30

def test_zips_are_datasets_of_the_hosts_format(tmp_path):
    digests = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in maps.build_datasets(tmp_path / name, seed, n=6)]
               for name, seed in (('a', 0), ('b', 0), ('c', 1))]
    assert digests[0] == digests[1] and not set(digests[0]) & set(digests[2])
    for path, images in ((tmp_path / 'a' / 'satellite.zip', maps.target_images(6)),
                         (tmp_path / 'a' / 'relief.zip', maps.source_images(6))):
        dataset = ImageDataset(str(path))
        assert (dataset.num_images, dataset.resolution, dataset.channels) == (6, maps.WINDOW, 3)
        assert np.array_equal(dataset.image(4), images[4].numpy())
