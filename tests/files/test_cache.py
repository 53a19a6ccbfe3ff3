"""The cache directory and atomic writes."""

import hashlib
import os

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_dir, atomic_file, cache_dir, sha256_of_file

def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('SPIDER_CACHE_DIR', raising=False)
    monkeypatch.delenv('DNNLIB_CACHE_DIR', raising=False)
    assert cache_dir('a', 'b') == tmp_path / 'home' / '.cache' / 'spider_plugin' / 'a' / 'b'
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'dnnlib'))
    assert cache_dir() == tmp_path / 'dnnlib' / 'spider_plugin'
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'own'))
    assert cache_dir('x') == tmp_path / 'own' / 'x'
    assert (tmp_path / 'own' / 'x').is_dir()

def test_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('not a directory')
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'file'))
    with pytest.raises(SpiderError, match='SPIDER_CACHE_DIR') as caught:
        cache_dir('x')
    assert caught.value.exit_code == 2

def test_atomic_dir(tmp_path):
    final = tmp_path / 'sub' / 'final'
    with pytest.raises(RuntimeError), atomic_dir(final) as temp:
        (temp / 'x').write_text('half')
        raise RuntimeError
    assert os.listdir(final.parent) == []
    with atomic_dir(final) as temp:
        (temp / 'x').write_text('first')
        assert not final.exists()
    assert (final / 'x').read_text() == 'first'
    with atomic_dir(final) as temp:
        (temp / 'x').write_text('second')
    assert (final / 'x').read_text() == 'first'
    assert os.listdir(final.parent) == ['final']

def test_atomic_file(tmp_path):
    final = tmp_path / 'sub' / 'f.json'
    with atomic_file(final) as temp:
        temp.write_text('old')
        assert not final.exists()
    with pytest.raises(RuntimeError), atomic_file(final) as temp:
        temp.write_text('half')
        raise RuntimeError
    assert final.read_text() == 'old'
    with atomic_file(final) as temp:
        assert temp.suffix == '.json'
        temp.write_text('new')
    assert final.read_text() == 'new'
    assert os.listdir(final.parent) == ['f.json']

def test_sha256_of_file(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / 'f').write_bytes(data)
    assert sha256_of_file(tmp_path / 'f') == hashlib.sha256(data).hexdigest()
