"""The collapse alarm: it warns of images that are all the same, of a saturated D and of a recall that falls, once, and of nothing
else; it leaves training as it is."""

import math

import numpy as np
import pytest
import torch

from training.collapse import D_TICKS, TICKS, CollapseWatch, variance

class Blobs(torch.nn.Module):
    """A generator of images whose colours are the latents, times a spread. In training it draws random numbers."""

    def __init__(self, spread=1.0):
        super().__init__()
        self.spread = spread
        self.calls = 0

    def forward(self, z, c, noise_mode='random'):
        assert not self.training and noise_mode == 'const'
        self.calls += 1
        images = (z[:, :3, None, None] * self.spread / 2).expand(-1, -1, 16, 16)
        return images + 1e-9 * torch.randn_like(images) * np.random.rand()

@pytest.fixture
def watch():
    generator = torch.Generator().manual_seed(0)
    reals = torch.randint(0, 256, [64, 3, 1, 1], generator=generator, dtype=torch.uint8).expand(-1, -1, 16, 16).numpy()
    z = torch.randn([32, 4], generator=generator)
    return CollapseWatch(reals, z.split(8), torch.zeros([32, 0]).split(8))

def ticks(watch, spread, count, real=0.5, fake=-0.5):
    return [words for _ in range(count) if (words := watch.see_tick(real, fake, Blobs(spread))) is not None]

def test_variance_is_that_over_images():
    images = torch.tensor([1.0, -1.0])[:, None, None, None].expand(-1, 3, 16, 16)
    assert variance(images) == 1 and variance(images[:1].expand(5, -1, -1, -1)) == 0
    assert variance(torch.randn([64, 3, 32, 32])) < 0.1 # Noise of single pixels is no variety.

def test_lively_training_is_quiet(watch):
    for spread in (0.1, 0.3, 1.0, 0.6, 1.2, 0.5):
        assert ticks(watch, spread, 5) == []

def test_a_slow_start_is_no_collapse(watch):
    """Early on all images look alike, yet not equal."""
    assert ticks(watch, 0.08, 50) == []

@pytest.mark.parametrize('spread', [0.0, 0.05, 0.15])
def test_images_that_become_alike(watch, spread):
    assert ticks(watch, 1.0, 5) == []
    assert ticks(watch, spread, TICKS - 1) == []
    words, = ticks(watch, spread, 20) # Once.
    assert words.startswith('generated images hardly differ any more') and '--glr' in words and '\n' not in words
    assert ticks(watch, 1.0, 3) == [] and len(ticks(watch, spread, 20)) == 1 # It has recovered and collapses again.

def test_a_constant_generator_from_the_start(watch):
    assert len(ticks(watch, 0.0, TICKS)) == 1

@pytest.mark.parametrize('real, fake, meaning', [(1.0, -1.0, 'is certain of every image'), (0.999, 0.998, 'does not tell'),
                                                 (-1.0, 1.0, 'does not tell')])
def test_saturated_signs(watch, real, fake, meaning):
    assert ticks(watch, 1.0, D_TICKS - 1, real, fake) == []
    words, = ticks(watch, 1.0, 20, real, fake)
    assert words.startswith('the signs of D are saturated') and meaning in words

@pytest.mark.parametrize('real, fake', [(0.98, -0.98), (1.0, -0.9), (0.2, -1.0), (math.nan, math.nan)])
def test_other_signs_are_quiet(watch, real, fake):
    assert ticks(watch, 1.0, 50, real, fake) == []

def test_recall_that_falls(watch):
    see = lambda value: watch.see_metric({'pr1k3_precision': 0.9, 'pr1k3_recall': value})
    assert [see(value) for value in (0.0, 0.01, 0.004, 0.3, 0.2, 0.12)] == [None] * 6
    assert see(0.05).startswith('pr1k3_recall has fallen to 0.050 from 0.300') and see(0.01) is None
    assert see(0.25) is None and see(0.0) is not None
    assert watch.see_metric({'fid1k': 300.0}) is None

def test_training_goes_on_as_without_it(watch):
    G = Blobs().train()
    torch.manual_seed(0)
    np.random.seed(0)
    straight = torch.rand([3]), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    watch.see_tick(0, 0, G)
    assert torch.equal(torch.rand([3]), straight[0]) and np.random.rand() == straight[1] and G.training and G.calls == 4

def test_it_continues_with_a_run(watch):
    ticks(watch, 1.0, 3)
    ticks(watch, 0.0, TICKS - 1)
    other = CollapseWatch(np.zeros([2, 3, 8, 8], np.uint8), watch.z, watch.c)
    other.real = watch.real
    other.load_state_dict(watch.state_dict())
    assert len(ticks(other, 0.0, 1)) == 1
    again = CollapseWatch(np.zeros([2, 3, 8, 8], np.uint8), watch.z, watch.c)
    again.load_state_dict(other.state_dict())
    assert ticks(again, 0.0, 5) == []

#----------------------------------------------------------------------------
