"""The operators of the equivariance metrics do to images what those of NVlabs/stylegan3 do."""

import pathlib

import pytest
import torch

HARNESS = pathlib.Path(__file__).with_name('metrics_harness.py')

@pytest.fixture
def equivariance(reference_host, monkeypatch):
    """metrics.equivariance of the reference host."""
    monkeypatch.syspath_prepend(str(reference_host))
    from metrics import equivariance
    assert pathlib.Path(equivariance.__file__).is_relative_to(reference_host)
    return equivariance

def test_operators(stylegan3, run_in, equivariance):
    torch.manual_seed(0)
    images = torch.nn.functional.avg_pool2d(torch.randn(2, 3, 66, 66), 3, 1)
    results = run_in(stylegan3, 'theirs', harness=HARNESS, images=images, whole=[(3, -5), (-8, 2)],
                     shifts=[(3.3, -5.6), (-7.1, 0.25), (2.0, -3.0)], angles=[0.3, -2.0, 0.7853981633974483])
    ours = dict(apply_integer_translation=lambda shift: equivariance.translate_int(images, *shift),
                apply_fractional_translation=lambda shift: equivariance.translate_frac(images, *shift),
                apply_fractional_rotation=lambda angle: equivariance.rotate(images, angle),
                apply_fractional_pseudo_rotation=lambda angle: equivariance.pseudo_rotate(images, angle))
    assert len(results) == 11
    for (name, movement), (theirs, mask) in results.items():
        moved, known = ours[name](movement)
        both = known * mask[0, 0]
        assert both.sum() > 0.6 * 64 * 64 and both.sum() > 0.95 * max(known.sum(), mask[0, 0].sum())
        assert ((moved - theirs) * both).abs().max() < 2e-5, (name, movement)
        assert (images * both).abs().max() > 1
