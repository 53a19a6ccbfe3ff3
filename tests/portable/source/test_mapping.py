"""Mapping inputs: the paper's against a naive reference, whitening's statistics, the encoder's shapes."""

import numpy as np
import pytest
import torch

from spider_plugin.portable.source.bank import ImageBank
from spider_plugin.portable.source.encoder import SourceEncoder
from spider_plugin.portable.source.mapping import WhitenedInput, build_input

def _bank(images):
    return ImageBank.from_images(images, {'name': 'test', 'sha256': '', 'transform': '', 'licence': ''})

#----------------------------------------------------------------------------
# Written from the description of the public code, pixel by pixel: grey mean, bilinear with half-pixel centres and no
# antialiasing, row-major, first 512.

def _naive_paper_vector(image, height, width):
    grey = image.double().mean(dim=0).numpy()
    rows, cols = grey.shape
    out = np.zeros([height, width])
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            sx = min(max((x + 0.5) * cols / width - 0.5, 0), cols - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, cols - 1)
            fy, fx = sy - y0, sx - x0
            out[y, x] = ((grey[y0, x0] * (1 - fx) + grey[y0, x1] * fx) * (1 - fy)
                         + (grey[y1, x0] * (1 - fx) + grey[y1, x1] * fx) * fy)
    return out.flatten()[:512]

@pytest.mark.parametrize('kind, height, width', [('paper-16x32', 16, 32), ('paper-23x23', 23, 23)])
@pytest.mark.parametrize('channels', [1, 3])
def test_paper_mapping_equals_the_reference(kind, height, width, channels):
    images = torch.randint(0, 256, [4, channels, 32, 32], dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = _bank(images)
    x = source.sample(torch.randn([4, 512]))
    vector = build_input(kind, source, 512)(x)
    reference = torch.tensor(np.stack([_naive_paper_vector(image, height, width) for image in x]))
    assert vector.shape == (4, 512) and (vector - reference).abs().max() < 1e-6

def test_paper_mapping_keeps_one_image_a_batch():
    source = _bank(torch.zeros([2, 3, 32, 32], dtype=torch.uint8))
    assert build_input('paper-23x23', source, 512)(source.sample(torch.zeros([1, 512]))).shape == (1, 512)

def test_paper_mapping_needs_512():
    with pytest.raises(ValueError, match='z_dim=64'):
        build_input('paper-16x32', _bank(torch.zeros([2, 3, 32, 32], dtype=torch.uint8)), 64)

def test_unknown_mapping_lists_the_known():
    with pytest.raises(ValueError, match='paper-23x23'):
        build_input('flat', _bank(torch.zeros([2, 3, 32, 32], dtype=torch.uint8)), 512)

#----------------------------------------------------------------------------

def test_whitened_input_has_unit_covariance():
    g = torch.Generator().manual_seed(0)
    basis = torch.randn([40, 3 * 8 * 8], generator=g)
    images = (torch.randn([3000, 40], generator=g) @ basis).reshape(-1, 3, 8, 8) * 0.02
    v = WhitenedInput(images, z_dim=64)(images)
    assert v.shape == (3000, 64)
    cov = torch.cov(v.T)
    assert torch.allclose(cov[:40, :40], torch.eye(40), atol=1e-3)
    assert (v[:, 40:] == 0).all() and v.mean(dim=0).abs().max() < 1e-4

def test_whitened_input_of_a_constant_source_is_zero():
    images = torch.full([100, 1, 8, 8], 0.25)
    assert (WhitenedInput(images, z_dim=16)(images).abs() < 1e-4).all()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('resolution, channels, width', [(8, 1, 8), (16, 3, 32), (32, 3, 20), (128, 4, 512)])
def test_encoder_reaches_4x4(resolution, channels, width):
    images = torch.randn([2, channels, resolution, resolution])
    features = SourceEncoder(resolution, channels, out_channels=width)(images)
    assert features.shape == (2, width, 4, 4)
    assert 0.3 < features.square().mean() < 3

@pytest.mark.parametrize('resolution', [4, 12, 20])
def test_encoder_refuses_other_sizes(resolution):
    with pytest.raises(ValueError, match=str(resolution)):
        SourceEncoder(resolution, 3, out_channels=8)

def test_encoder_input_is_learned():
    source = _bank(torch.randint(0, 256, [8, 3, 16, 16], dtype=torch.uint8))
    module = build_input('encoder', source, 100)
    out = module(source.sample(torch.randn([5, 100])))
    out.square().sum().backward()
    assert out.shape == (5, 100) and all(p.grad.abs().sum() > 0 for p in module.parameters())
