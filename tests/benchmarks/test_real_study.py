"""The study on real images: its marks and tables, runs that go on, and the record that docs/real-images.md is written from."""

import json

import numpy as np
import pytest
import torch

from benchmarks.convergence import real_method, real_study
from spider_plugin.portable.generators.fastgan import FastGANGenerator
from spider_plugin.portable.source.bank import ImageBank
from spider_plugin.projected_discriminator import ProjectedDiscriminator

def line(images, fd, arm='default', **more):
    return dict(pair='p', match=1, arm=arm, seed=0, images=images, cpu_seconds=images / 10, fd=fd, precision=0.5,
                recall=0.25) | more

FED = dict(own=0.1, latent=0.2)

def test_the_mark_is_a_share_of_the_untrained_source_and_a_start_below_it_does_not_count():
    curve = [line(0, 100, **FED), line(8, 80, **FED), line(16, 70, **FED), line(24, 60, **FED)]
    noise = [line(0, 900, 'gaussian'), line(16, 71, 'gaussian')]
    runs = real_study.curves([*curve[::-1], *noise])
    assert real_study.marks(runs) == {'p': pytest.approx(70)}
    assert real_study.images_to(curve, 70) == 16 and real_study.images_to(noise, 70) is None
    assert real_study.images_to([line(0, 60), line(8, 80)], 70) is None
    assert real_study.table(curve + noise).splitlines()[2:] == [
        '| p, 70 | default | 0 | 100 | 80 (8), 70 (16), 60 (24) | 16 | 0.60 | 0.25, 0.25 | 0.10 | 0.20 | 2 |',
        '| p, 70 | gaussian | 0 | none | 900 (0), 71 (16) | more than 16 | 0.71 | 0.25, 0.25 |  |  | 2 |']

def test_peers_of_two_widths_are_two_runs():
    curves = real_study.curves([line(0, 9, 'peer', fmap_max=width) for width in (16, 64)])
    assert list(curves) == [('p', 'peer, 16 maps', 0), ('p', 'peer, 64 maps', 0)]

def test_a_record_keeps_its_runs_and_takes_longer_ones():
    old = [line(0, 5), line(8, 4), *(line(images, 9, 'gaussian') for images in (0, 8, 16))]
    new = [line(0, 6), line(8, 3), line(0, 7, 'gaussian'), line(0, 1, 'covariance')]
    assert [(one['arm'], one['images'], one['fd']) for one in real_study.joined(old, new)] == [
        ('covariance', 0, 1), ('default', 0, 6), ('default', 8, 3), ('gaussian', 0, 9), ('gaussian', 8, 9), ('gaussian', 16, 9)]

def test_matches_are_compared_after_a_budget_that_all_runs_of_a_pair_have():
    near = [line(images, fd, arm, match=match) for arm, match, fds in (
        ('default', 0, (60, 55)), ('default, matched at 2', 2, (50, 40, 30)), ('default, matched at 16', 16, (90, 80)),
        ('steady', 0, (10, 1))) for images, fd in zip((0, 8, 16), fds)]
    far = [line(images, fd, arm, pair='q', match=match) for arm, match, fds in (
        ('default', 16, (20, 10)), ('default, not matched', 0, (90, 70))) for images, fd in zip((0, 8), fds)]
    drawn = [dict(cells=cells, network='dcgan', pair='r', arm=arm, curves=dict(neutral=[[0, 9], [600, end]]))
             for cells in ('controls', 'long') for arm, end in (('residual', 7), ('matched', 5), ('gaussian', 1))]
    choices = [dict(pair=pair, chosen='none' if pair == 'p' else '16 x 16') for pair in 'pqrs']
    assert real_study.matches_table(near + far, choices, drawn).splitlines()[2:] == [
        '| p | none | FastGAN-lite, 8 images | 60 -> 55 | 50 -> 40 | 90 -> 80 |',
        '| q | 16 x 16 | FastGAN-lite, 8 images | 90 -> 70 |  | 20 -> 10 |',
        '| r | 16 x 16 | dcgan, 600 iterations | 9 -> 7 |  | 9 -> 5 |']
    assert real_study.table(near).count('default') == 2

def test_the_page_has_the_tables_of_the_record():
    record = json.loads(real_study.RESULTS.read_text(encoding='utf-8'))
    page = (real_study.ROOT / 'docs' / 'real-images.md').read_text(encoding='utf-8')
    assert real_study.table(record['lines']) in page and real_study.sources_table(record['sources']) in page
    assert real_study.matches_table(record['lines'], *real_study.of_other_studies()) in page

# Runs.

@pytest.fixture
def small(monkeypatch):
    """A run of three steps by tiny networks with random features."""
    def networks(bank, resolution, seed, **_options):
        torch.manual_seed(seed)
        G = FastGANGenerator(16, 0, resolution, 3, ngf=2, lite=True, spider=dict(mapping='residual'), source=bank)
        D = ProjectedDiscriminator(0, resolution, 3, 'random', heads='separable', feature_resolution=128, maps=1)
        return G.train().requires_grad_(False), D.train().requires_grad_(False)
    pixels = torch.randint(256, [6, 3, 16, 16], generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    bank = ImageBank.from_images(pixels, dict(name='s', sha256='', transform='', licence=''))
    monkeypatch.setattr(real_method, 'BATCH', 2)
    monkeypatch.setattr(real_method, 'networks', networks)
    monkeypatch.setattr(real_method, 'judged', lambda _pair: (pixels, None))
    monkeypatch.setattr(real_method, 'source_images', lambda *_arguments: (pixels, 0))
    monkeypatch.setattr(real_method, 'score', lambda _judge, _G: dict(fd=1.0))
    return lambda: real_method.Run(pixels, bank, 0, 8)

def test_a_run_that_was_stopped_goes_on_to_the_same_weights(small, tmp_path):
    with real_method.one_thread_in_a_host():
        straight = small()
        for _ in range(3):
            straight.step()
        first = small()
        first.step()
        first.save(tmp_path / 'state.pt')
        torch.randn([7])
        second = small()
        second.load(tmp_path / 'state.pt')
        second.step()
        second.step()
    for name in ('G', 'D', 'average'):
        for a, b in zip(getattr(straight, name).parameters(), getattr(second, name).parameters(), strict=True):
            torch.testing.assert_close(a, b)
    assert second.nimg == 6 and not torch.equal(*(run.G.synthesis.to_big.weight_orig for run in (first, second)))

def test_an_evaluation_is_written_once_and_a_longer_run_goes_on(small, tmp_path):
    log, state = tmp_path / 'log.jsonl', tmp_path / 'state.pt'
    with real_method.one_thread_in_a_host():
        for images in (2, 2, 4):
            real_method.run('p', 'default', 0, 0, images, {0}, log, state)
    assert [one['images'] for one in real_method.lines_of(log)] == [0, 2, 4]

def test_a_source_is_moved_by_the_strength_that_is_asked_for():
    rng = np.random.default_rng(0)
    source, target = (torch.from_numpy(rng.integers(low, low + 60, [50, 3, 16, 16], dtype=np.uint8)) for low in (20, 150))
    assert real_method.moved(source, target, 0) == (source, 0)
    coarse, fine = (real_method.moved(source, target, strength)[0] for strength in (1, 16))
    assert not torch.equal(coarse, fine) and abs(float(coarse.float().mean() - target.float().mean())) < 2
