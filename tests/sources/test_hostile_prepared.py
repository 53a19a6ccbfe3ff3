"""Damaged or altered files of prepared sources end in one sentence; fuzz/bank_json.py tries more of them."""

import json

import numpy as np
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.portable.source.bank import SourceLost, open_source
from spider_plugin.sources import parents
from spider_plugin.sources.prepare import prepare_source

def altered(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))

BANKS = {
    'no dict':              '[1]',
    'no labels':            '{"identity": {}}',
    'an identity of text':  '{"identity": "x", "labels": null}',
    'too few labels':       '{"identity": {}, "labels": [1]}',
    'a class of text':      json.dumps(dict(identity={}, labels=['x'] * 50)),
    'a class below zero':   json.dumps(dict(identity={}, labels=[-1] * 50)),
    'a huge class':         json.dumps(dict(identity={}, labels=[1 << 40] * 50)),
    'nested without end':   '[' * 100_000,
}

@pytest.mark.parametrize('name', BANKS)
def test_bank(name, prepared, tmp_path):
    path = prepared('bank')
    (tmp_path / path / 'bank.json').write_text(BANKS[name])
    with pytest.raises(SourceLost, match=r'start again with --spider-source'):
        open_source(path)

@pytest.mark.parametrize('array', [np.zeros([4, 8], np.uint8), np.zeros([2, 3, 8, 8]), np.zeros([2, 3, 8, 4], np.uint8),
                                   np.zeros([2, 2, 8, 8], np.uint8), np.zeros([2], dtype=[('x', np.uint8)])], ids=str)
def test_images_of_another_kind(array, prepared, tmp_path):
    path = prepared('bank')
    np.save(tmp_path / path / 'images.npy', array)
    with pytest.raises(SourceLost):
        open_source(path)

GENERATOR = 'training.networks_stylegan2.Generator'
HUGE      = dict(class_name=GENERATOR, init_kwargs=dict(z_dim=4, c_dim=0, w_dim=4096, img_resolution=8192, img_channels=3))

@pytest.mark.parametrize('entries', [dict(init_kwargs=dict(a=1)), dict(init_kwargs=[]), dict(class_name=3), dict(z_dim='x'),
                                     dict(identity=None), HUGE], ids=str)
def test_generator(entries, prepared, tmp_path):
    path = prepared('online')
    altered(tmp_path / path / 'generator.json', **entries)
    with pytest.raises((SourceLost, SpiderError), match='start again with --spider-source'):
        open_source(path)

def test_a_changed_description_is_prepared_anew(make_zip, tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    data = make_zip(tmp_path / 'set.zip', n=6, labels=3)
    described = tmp_path / prepare_source(data).path / 'bank.json'
    whole = described.read_bytes()
    altered(described, labels=[0] * 6)
    prepare_source(data)
    assert described.read_bytes() == whole

@pytest.mark.parametrize('text', ['', '[]', '{"path": 3}', '{"path": "a\\u0000b"}', '[' * 100_000])
def test_a_damaged_note_of_a_parent_is_no_note(text, tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path))
    (tmp_path / 'parents').mkdir()
    note = tmp_path / 'parents' / f'{"0" * 64}.json'
    note.write_text(text)
    with pytest.raises(SpiderError, match='--parent'):
        parents.find_parent(dict(name='x', sha256='0' * 64), tmp_path / 'y.pkl')
    parents.remember_parent(tmp_path / 'x.pkl', '0' * 64)
    assert json.loads(note.read_text()) == dict(path=str(tmp_path / 'x.pkl'))
