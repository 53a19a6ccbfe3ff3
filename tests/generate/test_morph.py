"""Images between two images have no ghosts, and those of a generator are drawn by it."""

import pytest
import torch

from spider_plugin.generate.between import Between, slerp
from spider_plugin.generate.morph import Morph
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.parents import rendered_latents
from spider_plugin.sources.prepare import prepare_source

def disc(x, y, radius=5, size=32):
    """A white disc on black, float32 [1, 3, size, size]."""
    places = torch.arange(size) + 0.5
    inside = (places[None] - x).square() + (places[:, None] - y).square() < radius ** 2
    return (inside.float() * 2 - 1).expand(1, 3, -1, -1).clone()

def bright(image):
    return int((image[0, 0] > 0.5).sum())

def test_a_disc_moves():
    """A cross-fade has two discs of half the brightness in the middle."""
    a, b = disc(11, 11), disc(19, 18)
    morph, area = Morph(a, b), bright(a)
    assert bright(torch.lerp(a, b, 0.5)) < 0.4 * area
    assert bright(morph(0.5)) > 0.6 * area
    middle = (morph(0.5)[0, 0] + 1) / 2
    places = torch.arange(32) + 0.5
    assert (middle.sum(dim=0) @ places / middle.sum() - 15).abs() < 1.5

def test_it_begins_and_ends_at_the_images_and_has_no_jump():
    a, b = disc(11, 11), -disc(19, 18, 7)
    morph = Morph(a, b)
    assert torch.equal(morph(0.0), a) and torch.equal(morph(1.0), b)
    frames = [morph(i / 20) for i in range(21)]
    steps = [float((x - y).abs().mean()) for x, y in zip(frames, frames[1:])]
    assert max(steps) < 0.25 * float((a - b).abs().mean())
    assert all(frame.isfinite().all() and frame.abs().max() <= 1.001 for frame in frames)

@pytest.mark.parametrize('channels, size', [(1, 16), (3, 8)])
def test_small_and_grey_images_and_flat_ones(channels, size):
    flat = torch.full([1, channels, size, size], 0.25)
    assert (Morph(flat, flat)(0.5) - flat).abs().max() < 1e-5
    assert Morph(flat, torch.rand_like(flat))(0.3).shape == flat.shape

def test_of_a_generator_it_is_what_it_draws_from_latents_between(make_snapshot):
    """Where its snapshot is found and its images were not moved; else the images are."""
    parent = make_snapshot()
    child = make_snapshot(spider=dict(mapping='residual', source=prepare_source(parent, bank=50).path, embed=1))
    source, G = load_generator(child).source, load_generator(parent)
    between, keys = Between(source, child), torch.tensor([[3.0, 0.0], [9.0, 0.0]])
    z = rendered_latents(50, G.z_dim)
    drawn = G(slerp(z[3:4], z[9:10], 0.5), torch.zeros([1, 0]), noise_mode='const').clamp(-1, 1)
    assert torch.allclose(between(keys[:1], keys[1:], 0.5), drawn, atol=1e-5)
    source.identity = source.identity | dict(match='0' * 64)
    moved = Between(source, child)(keys[:1], keys[1:], 0.5)
    assert torch.equal(moved, Morph(source.fetch(keys[:1]), source.fetch(keys[1:]))(0.5))
