"""--track: what is refused before a run, and what the config says."""

import importlib.util
import types

import click
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.options import track

LOOP = types.SimpleNamespace(loop_takes=lambda name: name == 'progress_fn')

@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: types.SimpleNamespace(origin='there'))

def test_the_config_names_the_trackers(installed):
    c = {}
    assert track.apply_track(c, dict(track=['wandb']), LOOP) == ['Trackers:            wandb']
    assert c == dict(spider_run=dict(track=['wandb'])) and track.apply_track(c, dict(track=None), LOOP) == []

def test_a_list_of_trackers():
    convert = track.Trackers().convert
    assert convert('tensorboard, wandb', None, None) == ['tensorboard', 'wandb'] == convert(['tensorboard', 'wandb'], None, None)
    for text in ('mlflow', '', 'wandb,wandb', 'wandb;tensorboard'):
        with pytest.raises(click.BadParameter, match='is not a list of tensorboard and wandb'):
            convert(text, None, None)

@pytest.mark.parametrize('spec', [None, types.SimpleNamespace(origin=None)])    # not there; a folder of that name
def test_a_missing_package(spec, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(SpiderError, match='--track=wandb needs the package wandb; run pip install wandb'):
        track.apply_track({}, dict(track=['wandb']), LOOP)

def test_hosts_that_cannot(installed, monkeypatch):
    with pytest.raises(SpiderError, match='--track finds no progress_fn'):
        track.apply_track({}, dict(track=['wandb']), types.SimpleNamespace(loop_takes=lambda name: False))
    monkeypatch.setattr(track, '_writes_events', lambda: True)
    with pytest.raises(SpiderError, match='writes events for TensorBoard .* anyway; leave it out'):
        track.apply_track({}, dict(track=['tensorboard']), LOOP)
    assert track.apply_track({}, dict(track=['wandb']), LOOP)
