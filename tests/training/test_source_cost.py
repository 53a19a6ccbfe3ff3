"""The source's share of a training step, on a clock that the test sets."""

import sys
import types

import pytest
import torch

from spider_plugin.training import source_cost
from spider_plugin.training.source_cost import NAME, WINDOW, SourceClock, watch

@pytest.fixture
def clock(monkeypatch):
    """Return (list whose only entry is the time, list of reported shares, SourceClock)."""
    now, shares = [0.0], []
    monkeypatch.setattr(source_cost.time, 'perf_counter', lambda: now[0])
    return now, shares, SourceClock(shares.append)

def use(now, clock, seconds, rest):
    def fetch(_source, key):
        now[0] += seconds
        return key
    out = clock.call(fetch, 'source', torch.zeros([1]))
    now[0] += rest
    return out

def test_share_of_the_time_between_windows(clock):
    now, shares, clock = clock
    for _ in range(1 + 2 * WINDOW):
        use(now, clock, seconds=1.0, rest=3.0)
    assert shares == pytest.approx([0.25, 0.25])

def test_a_use_within_a_use_counts_once(clock):
    now, shares, clock = clock
    def fetch(_source, key):
        now[0] += 1
        use(now, clock, seconds=1.0, rest=0.0)
        return key
    for _ in range(1 + WINDOW):
        clock.call(fetch, 'source', torch.zeros([1]))
        now[0] += 2
    assert shares == pytest.approx([0.5], rel=0.02)

def test_metrics_discard_their_window_and_fakes_of_D_do_not(clock):
    now, shares, clock = clock
    for i in range(WINDOW):
        with torch.set_grad_enabled(i % 2 == 0):
            use(now, clock, seconds=1.0, rest=3.0)
    use(now, clock, seconds=1.0, rest=3.0)
    assert shares == pytest.approx([0.25])
    with torch.no_grad():
        for _ in range(2 * WINDOW - 1):     # the last of a window among them, but for one
            use(now, clock, seconds=100.0, rest=0.0)
    del shares[:]
    for _ in range(1 + WINDOW):
        use(now, clock, seconds=1.0, rest=1.0)
    assert shares == pytest.approx([0.5], rel=0.02)

def test_sources_of_a_bundle_are_watched(monkeypatch, capsys):
    reported, stats = [], types.ModuleType('torch_utils.training_stats')
    stats.report = lambda name, value: reported.append((name, value))
    for name in ('torch_utils', 'torch_utils.training_stats'):
        monkeypatch.setitem(sys.modules, name, stats)
    class ImageBank:
        def key(self, z, c=None):
            return z
        def fetch(self, key):
            return key + 1
    watch(types.SimpleNamespace(ImageBank=ImageBank))
    assert reported == [(NAME, [])]                                     # before any training, in every rank
    bank = ImageBank()
    for _ in range(WINDOW):
        assert torch.equal(bank.fetch(bank.key(torch.zeros([2]), None)), torch.ones([2]))
    assert len(reported) == 2 and 0 < reported[1][1] <= 1 and capsys.readouterr().out.count('of a training step') == 1
    for _ in range(WINDOW):
        bank.fetch(bank.key(torch.zeros([2]), None))
    assert len(reported) == 4 and not capsys.readouterr().out           # the log has the line once
