"""The demo's data: checked assets, equal bytes for equal arguments, disjoint halves."""

import hashlib
import io
import json
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin.demo import data
from spider_plugin.errors import SpiderError
from spider_plugin.sources.dataset import ImageDataset

def test_assets_are_unaltered_and_small():
    sizes = {name: len(data.read_asset(name)) for name in data.ASSET_SHA256}
    assert max(sizes['digits.npz'], sizes['brick.png']) < 100_000 and sum(sizes.values()) < 2_000_000
    text = (data.ASSETS / 'ATTRIBUTION.md').read_text(encoding='utf-8')
    assert all(name in text for name in data.ASSET_SHA256)
    assert all(words in text for words in ('CC BY 4.0', 'CC0', 'NASA', 'NOAA', 'public domain', 'LICENSE.basemap'))
    assert 'Jeffrey Whitaker' in (data.ASSETS / 'LICENSE.basemap').read_text(encoding='utf-8')

@pytest.mark.parametrize('content', [b'something else', None])
def test_an_altered_or_missing_asset_is_named(content, tmp_path, monkeypatch):
    if content is not None:
        (tmp_path / 'brick.png').write_bytes(content)
    monkeypatch.setattr(data, 'ASSETS', tmp_path)
    with pytest.raises(SpiderError, match='brick.png'):
        data.read_asset('brick.png')

def test_zips_are_deterministic_and_follow_the_seed(tmp_path):
    digests = {}
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        paths = data.build_datasets(tmp_path / name, seed=seed, n=12)
        digests[name] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert digests['a'] == digests['b']
    assert not set(digests['a']) & set(digests['c'])
    assert digests['a'][0] != digests['a'][1]

def test_zips_are_datasets_of_the_hosts_format(tmp_path):
    target, source = data.build_datasets(tmp_path, seed=3, n=12)
    for path, images in ((target, data.target_images(12, 3)), (source, data.source_images(12, 3))):
        dataset = ImageDataset(str(path))
        assert (dataset.num_images, dataset.resolution, dataset.channels, dataset.labels) == (12, 32, 3, None)
        assert np.array_equal(dataset.image(7), images[7].numpy())
        with zipfile.ZipFile(path) as archive:
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
            assert json.loads(archive.read('dataset.json')) == {'labels': None}
            assert PIL.Image.open(io.BytesIO(archive.read('00000/img00000000.png'))).mode == 'RGB'

def test_no_scan_is_in_both_halves():
    arrays = np.load(io.BytesIO(data.read_asset('digits.npz')))
    order = np.random.default_rng(0).permutation(len(arrays['labels']))
    middle = len(order) // 2
    halves = data.load_digits()
    assert torch.equal(halves['A'][1], torch.from_numpy(arrays['labels'][order[:middle]]).long())
    assert len(halves['A'][0]) + len(halves['B'][0]) == len(arrays['labels']) == 1797
    scans = arrays['images'].reshape(len(order), -1)
    assert not {row.tobytes() for row in scans[order[:middle]]} & {row.tobytes() for row in scans[order[middle:]]}

def test_a_mosaic_puts_four_tiles_in_reading_order():
    tiles = torch.arange(4).float().reshape(4, 1, 1, 1).expand(4, 1, 16, 16) / 4
    image = data.mosaic(tiles, torch.tensor([[0, 1, 2, 3]]))[0, 0]
    assert [image[y, x].item() for y, x in ((0, 0), (0, 31), (31, 0), (31, 31))] == [0, 0.25, 0.5, 0.75]

def test_styles_differ_as_described():
    neon, crayon = data.target_images(64).float(), data.source_images(64).float()
    corners = lambda x: x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners(crayon) < 12 < corners(neon)             # black against a wall
    assert neon.amax(dim=(1, 2, 3)).min() > 200
