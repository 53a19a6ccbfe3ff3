"""--spider-match=auto: which strength is tried, what decides, and what is kept of it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.lineage import plain_identity
from spider_plugin.sources import match_choice
from spider_plugin.sources.match_choice import Choice, cached_choice, candidates, choose, patch_distance
from spider_plugin.sources.prepare import prepare_source

def blobs(seed, n=400, side=16, channels=1, width=5, level=140, dark=False):
    """Images with one round spot anywhere, uint8 [n, channels, side, side]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    at = rng.uniform(0, side, [n, 2, 1, 1])
    spot = np.exp(-((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2) / width) * rng.uniform(0.5, 1, [n, 1, 1])
    images = (level - 100 * spot if dark else level + 100 * spot) + rng.normal(0, 3, [n, side, side])
    return images.round().clip(0, 255).astype(np.uint8)[:, None].repeat(channels, axis=1)

def stripes(seed, n=400, side=16):
    rng = np.random.default_rng(seed)
    phase, slope = rng.uniform(0, 6, [2, n, 1, 1])
    y, x = np.mgrid[:side, :side]
    return (128 + 60 * np.sin(y + 0.2 * slope * x + phase)).round().astype(np.uint8)[:, None]

def pooled(images):
    return F.adaptive_avg_pool2d(images.float(), 4).flatten(1)

#----------------------------------------------------------------------------

def test_candidates_have_a_covariance_that_the_images_can_tell():
    assert candidates(3, 32, 4000) == [0, 1, 2, 4, 8, 16] and candidates(3, 32, 1000) == [0, 1, 2, 4, 8]
    assert candidates(1, 32, 100) == [0, 1, 2, 4] and candidates(3, 8, 4000) == [0, 1, 2, 4, 8]

def test_with_few_images_nothing_is_measured():
    choice = choose(blobs(0, n=79), blobs(1))
    assert (choice.strength, choice.distances) == (1, {}) and len(choice.lines()) == 1 and '79' in choice.lines()[0]

@pytest.mark.parametrize('detector', [None, pooled])
def test_a_close_source_is_moved_little(detector):
    """The same spots: no strength can be much nearer than none is."""
    choice = choose(blobs(0), blobs(1), detector)
    assert choice.strength <= 2 and len(choice.distances) == len(candidates(1, 16, 400))

@pytest.mark.parametrize('detector', [None, pooled])
def test_a_far_layout_is_moved_strongly(detector):
    assert choose(blobs(0), stripes(1), detector).strength >= 4

def chosen_by(monkeypatch, patches, features):
    """Return the choice where the strengths none, 1, 2, 4 and 8 are at these distances."""
    values, moments = iter(patches), iter(features)
    monkeypatch.setattr(match_choice, 'patch_distance', lambda a, b: next(values))
    monkeypatch.setattr(match_choice, 'fid', lambda a, b: type('Distance', (), dict(value=next(moments))))
    return choose(blobs(0, n=160), blobs(1, n=160), pooled)

def test_the_mean_decides(monkeypatch):
    """Patches alone would choose 8, the detector alone none; the detector counts twice."""
    choice = chosen_by(monkeypatch, [9, 2, 4, 4, 1.9], [10, 11, 20, 30, 50])
    assert choice.strength == 1 and choice.distances['1 x 1'] == [2, 11]
    assert 'lite1 and patches of 80 held-out images' in choice.lines()[0] and 'none 9, 10; 1 x 1 2, 11' in choice.lines()[1]

@pytest.mark.parametrize('nearest, strength', [(0.97, 0), (0.88, 0), (0.751, 0), (0.749, 1), (0.5, 1), (1.2, 0), (0, 1)])
def test_a_match_that_gains_little_is_left_out(monkeypatch, nearest, strength):
    choice = chosen_by(monkeypatch, [9, 9 * nearest, 20, 20, 20], [10, 10 * nearest, 20, 20, 20])
    assert choice.strength == strength
    assert ('since 1 x 1 is nearer to --data by less than a quarter' in choice.reason) == (0.75 <= nearest < 1)

def test_the_same_images_choose_the_same_again():
    a, b = choose(blobs(0), stripes(1)), choose(blobs(0), stripes(1))
    assert a == b

def test_patch_distance():
    images = blobs(0, side=32, channels=3)
    near, far = patch_distance(images, blobs(1, side=32, channels=3)), patch_distance(images, 255 - images)
    assert patch_distance(images, images) < near < 0.2 * far
    for side in (1, 4, 8):
        assert patch_distance(blobs(0, side=side), blobs(1, side=side)) > 0

def test_large_images_are_compared_at_64_pixels():
    assert match_choice.shrunk(blobs(0, n=2, side=128)).shape == (2, 1, 64, 64)
    assert choose(blobs(0, n=100, side=128), blobs(1, n=100, side=128)).distances

#----------------------------------------------------------------------------

def test_a_choice_is_made_once(monkeypatch):
    monkeypatch.setattr(match_choice, 'with_lite1', lambda: False)
    made = cached_choice(['a key', 1], lambda: blobs(0), lambda: stripes(1))
    assert isinstance(made, Choice) and "pip install 'spider-plugin[imagenet]' for" in made.reason
    assert cached_choice(['a key', 1], None, None) == made

def test_it_is_by_lite1_where_the_weights_are_installed(monkeypatch):
    seen = []
    monkeypatch.setattr(match_choice, 'with_lite1', lambda: True)
    monkeypatch.setattr(match_choice.detectors, 'identity_of', lambda name: 'digest of ' + name)
    monkeypatch.setattr(match_choice.detectors, 'open_detector', lambda name, device: seen.append(name) or pooled)
    made = cached_choice('another key', lambda: blobs(0, n=100), lambda: stripes(1, n=100))
    assert seen == ['lite1'] and all(len(row) == 2 for row in made.distances.values())

def test_it_is_by_the_detector_that_the_user_names(monkeypatch, tmp_path):
    """SPIDER_DETECTOR, and before it --detector; grey images, which the network sees in colour."""
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor):
            assert images.shape[1] == 3
            return torch.nn.functional.adaptive_avg_pool2d(images.to(torch.float32), 3).flatten(1)
    torch.jit.script(Mean()).save(str(tmp_path / 'mean.pt'))
    (tmp_path / 'text.pt').write_text('no network')
    sets = lambda: blobs(0, n=100), lambda: stripes(1, n=100)
    monkeypatch.setenv('SPIDER_DETECTOR', 'demo')
    named = cached_choice('a third key', *sets)
    given = cached_choice('a third key', *sets, str(tmp_path / 'mean.pt'))
    assert 'by demo and patches' in named.reason and 'by mean and patches' in given.reason
    assert named.lines()[1].startswith('Match distances:     patches, demo: ') and named.distances != given.distances
    for value, words in (('none.pt', '--detector=none.pt does not exist'), (str(tmp_path / 'text.pt'), 'is no TorchScript file')):
        with pytest.raises(SpiderError, match=words):
            cached_choice('a third key', *sets, value)

def test_prepared_sources_record_their_strength(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr(match_choice, 'with_lite1', lambda: False)
    source, target = make_zip(tmp_path / 'S.zip', n=120, res=16, seed=1), make_zip(tmp_path / 'T.zip', n=120, res=16, seed=2)
    strongest, four = (prepare_source(source, match=target, strength=strength) for strength in (16, 4))
    assert 'strength' not in strongest.identity and four.identity['strength'] == '4' and four.path != strongest.path
    assert four.identity['transform'].endswith('moved to the mean and covariance of T at 4 x 4 pixels')
    assert plain_identity(json.loads(json.dumps(four.identity)), 'a file') == four.identity
    chosen = prepare_source(source, match=target, strength=None)
    assert chosen.lines[0].startswith('Spider match:') and chosen.lines[1].startswith('Match distances:     patches: none ')
    assert strongest.lines == ()

def test_a_choice_can_be_no_match(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare.cached_choice', lambda *args: Choice(0, {}, 'by decree'))
    source, target = make_zip(tmp_path / 'S.zip', n=90, seed=1), make_zip(tmp_path / 'T.zip', n=90, seed=2)
    chosen = prepare_source(source, match=target, strength=None)
    assert chosen.path == prepare_source(source).path and chosen.lines == ('Spider match:        none, by decree',)

def test_the_strength_of_a_snapshot_is_kept(make_zip, tmp_path):
    """For the same images and target; a damaged entry is that of a snapshot without one."""
    source, target, other = (make_zip(tmp_path / f'{name}.zip', n=90, seed=i) for i, name in enumerate('STU'))
    before = prepare_source(source, match=target, strength=8)
    kept = prepare_source(source, match=target, strength=None, like=before.identity)
    assert kept.path == before.path and kept.lines == ('Spider match:        8 x 8, as in the snapshot',)
    plain = prepare_source(source)
    assert prepare_source(source, match=target, strength=None, like=plain.identity).path == plain.path
    anew = prepare_source(source, match=other, strength=None, like=before.identity)
    assert 'as in the snapshot' not in anew.lines[0]
    damaged = prepare_source(source, match=target, strength=None, like=dict(before.identity, strength='7'))
    assert damaged.path == prepare_source(source, match=target).path

def test_a_strength_that_is_none_of_them(make_zip, tmp_path):
    with pytest.raises(SpiderError, match='--spider-match=3 is none of 1, 2, 4, 8, 16; give one'):
        prepare_source(make_zip(tmp_path / 'S.zip'), match=make_zip(tmp_path / 'T.zip'), strength=3)
