"""spider_plugin.ImageBank: from a folder, from arrays, and which arrays it refuses."""

import zipfile

import numpy as np
import pytest
import torch

from spider_plugin import ImageBank, SpiderError, prepare_source

def test_from_folder_is_the_prepared_source(make_zip, tmp_path):
    path, target = make_zip(tmp_path / 'flies.zip', n=20, res=16), make_zip(tmp_path / 'target.zip', n=30, res=16, seed=3)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / 'flies')
    for kwargs in (dict(), dict(size=8), dict(match=target)):
        bank = ImageBank.from_folder(tmp_path / 'flies', **kwargs)
        prepared = prepare_source(path, **kwargs)
        assert bank.identity == prepared.identity and len(bank) == 20 and bank.resolution == kwargs.get('size', 16)
        assert torch.equal(bank.images, torch.from_numpy(np.load(f'{prepared.path}/images.npy')))
    assert bank.sample(torch.randn([5, 64])).shape == (5, 3, 16, 16)

def test_from_images_takes_bytes_and_signed_floats():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    bank = ImageBank.from_images(pixels.numpy(), labels=[0, 1, 1, 0])
    assert isinstance(bank, ImageBank) and torch.equal(bank.images, pixels) and bank.labels.tolist() == [0, 1, 1, 0]
    assert set(bank.identity) == {'name', 'sha256', 'transform', 'licence'}
    for dtype in (torch.float32, torch.float64):
        same = ImageBank.from_images(pixels.to(dtype) / 127.5 - 1)
        assert torch.equal(same.images, pixels) and same.identity == bank.identity
    assert ImageBank.from_images(255 - pixels).identity['sha256'] != bank.identity['sha256']

@pytest.mark.parametrize('images, words', [
    (torch.rand([4, 3, 8, 8]),                          'look like floats in 0..1'),
    (np.ones([4, 3, 8, 8]),                             'look like floats in 0..1'),
    (torch.rand([4, 3, 8, 8]) * 255,                    'not floats from'),
    (torch.full([4, 3, 8, 8], float('nan')),            'not floats from nan'),
    (torch.full([4, 3, 8, 8], 7),                       r'not torch\.int64'),
    (torch.zeros([4, 8, 8, 3], dtype=torch.uint8),      r'not \[4, 8, 8, 3\]'),
    (torch.zeros([0, 3, 8, 8], dtype=torch.uint8),      r'not \[0, 3, 8, 8\]'),
])
def test_from_images_refuses_other_images(images, words):
    with pytest.raises(SpiderError, match=words) as caught:
        ImageBank.from_images(images)
    assert '\n' not in caught.value.message and caught.value.message.endswith('.')
