"""The collapse alarm in attached hosts."""

import sys
import types

import pytest

from spider_plugin.training import collapse

@pytest.fixture
def collector(monkeypatch):
    """collector(real, fake) hands on a tick's statistics in the way of hosts, and returns what was handed on."""
    monkeypatch.delitem(sys.modules, 'training.collapse', raising=False)
    class Collector:
        def as_dict(self):
            return {'Loss/signs/real': types.SimpleNamespace(mean=self.signs[0]), 'Loss/signs/fake': types.SimpleNamespace(
                mean=self.signs[1])} if self.signs else {}
    stats = types.SimpleNamespace(Collector=Collector, _rank=0)
    collapse.watch_signs(stats)
    def tick(*signs, rank=0):
        stats._rank = rank
        found = Collector()
        found.signs = signs
        return found.as_dict()
    return tick

def test_saturated_signs_are_said_once(collector, capsys):
    for _ in range(collapse.TICKS - 1):
        assert collector(1.0, -1.0)['Loss/signs/real'].mean == 1.0
    assert capsys.readouterr().err == ''
    for _ in range(20):
        collector(1.0, -1.0)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('Warning: the signs of D are saturated')
    collector(0.5, -1.0)
    for _ in range(collapse.TICKS):
        collector(1.0, -1.0)
    assert len(capsys.readouterr().err.splitlines()) == 1

def test_other_ticks_are_quiet(collector, capsys, monkeypatch):
    for _ in range(50):
        collector(0.99, -1.0)
        collector(1.0, -1.0, rank=1)
        collector()
    monkeypatch.setitem(sys.modules, 'training.collapse', types.ModuleType('training.collapse')) # A host with an alarm.
    for _ in range(50):
        collector(1.0, -1.0)
    assert capsys.readouterr().err == ''

def test_hosts_without_statistics_stay():
    stats = types.ModuleType('training_stats')
    collapse.watch_signs(stats)
    assert not hasattr(stats, 'Collector')

def test_recall_that_falls(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'training.collapse', raising=False)
    got = []
    report = collapse.watch_recall(lambda result, run_dir: got.append((result, run_dir)))
    for value in (0.01, 0.4, 0.3, 0.05, 0.04):
        report(dict(results=dict(pr50k3_full_recall=value, pr50k3_full_precision=0.0)), run_dir='x')
    report(None, run_dir='y')
    line, = capsys.readouterr().err.splitlines()
    assert 'pr50k3_full_recall has fallen to 0.050 from 0.400' in line and len(got) == 6 and got[0][1] == 'x'

#----------------------------------------------------------------------------
