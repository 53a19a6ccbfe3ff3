"""A disk that is full, read-only or gone ends in one sentence, with nothing half written under a final name."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files import cache
from spider_plugin.files.cache import allocated, atomic_dir, atomic_file, check_space
from spider_plugin.sources import prepare
from spider_plugin.sources.prepare import prepare_source

FULL = OSError(errno.ENOSPC, 'No space left on device')

@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 KiB; the test is skipped where none can be mounted."""
    path = tmp_path / 'disk'
    path.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=100k', 'tmpfs', str(path)], capture_output=True).returncode:
        pytest.skip('mounting needs root')
    yield path
    subprocess.run(['umount', str(path)], check=True)

@pytest.fixture
def no_space(monkeypatch):
    """A disk on which 1000 bytes are free."""
    usage = type('usage', (), dict(free=1000))
    monkeypatch.setattr(cache.shutil, 'disk_usage', lambda path: usage)

#----------------------------------------------------------------------------

def test_space_is_looked_at_before_a_source_is_prepared(no_space, make_zip, tmp_path, spider_cache, monkeypatch):
    monkeypatch.setattr(prepare, '_dataset_blocks', lambda *args: pytest.fail('images were read'))
    with pytest.raises(SpiderError, match=r'sources/\.\S+ has 0\.0 MB free, but images.npy needs 0\.0 MB') as caught:
        prepare_source(make_zip(tmp_path / 'full.zip', n=9, seed=301))
    assert '\n' not in caught.value.message
    assert not list((spider_cache / 'sources').glob('full-*')) and not list((spider_cache / 'sources').glob('.full-*'))

def test_a_bank_on_a_small_disk(small_disk, make_zip, tmp_path):
    """In a process of its own: a map of a sparse file would end it by SIGBUS."""
    data = make_zip(tmp_path / 'a.zip', n=300, res=16)
    code = f'from spider_plugin.sources.prepare import prepare_source; prepare_source({data!r})'
    done = subprocess.run([sys.executable, '-c', code], env=dict(os.environ, SPIDER_CACHE_DIR=str(small_disk)), text=True,
                          capture_output=True)
    assert done.returncode == 1, done
    assert 'MB free, but images.npy needs 0.2 MB' in done.stderr.splitlines()[-1]
    (digest,) = [path for path in small_disk.rglob('*') if path.is_file()]
    assert digest.parent.name == 'checks' and len(json.loads(digest.read_text())['sha256']) == 64

def test_space_is_taken_before_it_is_used(tmp_path):
    with allocated(tmp_path / 'x', 1 << 20) as file:
        assert os.stat(tmp_path / 'x').st_blocks * 512 >= 1 << 20
        file.write(bytes(1 << 20))
    with pytest.raises(SpiderError, match='became 3 bytes long instead of 4'), allocated(tmp_path / 'y', 4) as file:
        file.write(b'abc')

def test_too_much_is_refused(tmp_path):
    check_space(tmp_path, 1)
    with pytest.raises(SpiderError, match='MB free, but the file needs 1000000000000.0 MB'):
        check_space(tmp_path, 10 ** 18)

@pytest.mark.parametrize('error', [FULL, OSError(errno.EROFS, 'Read-only file system'), OSError(errno.EFBIG, 'File too large'),
                                   RuntimeError('[enforce fail] . PytorchStreamWriter failed writing file data/0')])
@pytest.mark.parametrize('write', [atomic_dir, atomic_file])
def test_a_refusal_while_writing(write, error, tmp_path):
    with pytest.raises(SpiderError, match=r'Cannot write .*final.* MB free') as caught, write(tmp_path / 'final'):
        raise error
    assert '\n' not in caught.value.message and os.listdir(tmp_path) == []

@pytest.mark.parametrize('error', [FileNotFoundError(errno.ENOENT, 'No such file', 'set.zip'), RuntimeError('bug')])
def test_other_errors_pass(error, tmp_path):
    with pytest.raises(type(error)), atomic_dir(tmp_path / 'final'):
        raise error

def test_torch_on_a_full_disk(small_disk):
    for target in (small_disk / 'x.pt',):
        with pytest.raises(SpiderError, match='Cannot write'), atomic_file(target) as temp:
            torch.save(torch.zeros([100_000]), temp)
    assert os.listdir(small_disk) == []

#----------------------------------------------------------------------------
# A directory of the cache that is damaged is prepared anew; a bank that is cut is said, whenever that happens.

@pytest.mark.parametrize('damage', [
    lambda path: (path / 'images.npy').write_bytes(b''),
    lambda path: os.truncate(path / 'images.npy', 1000),
    lambda path: os.truncate(path / 'images.npy', 5),
    lambda path: (path / 'images.npy').unlink(),
    lambda path: np.save(path / 'images.npy', np.zeros([9, 3, 8, 8], np.uint8)),
    lambda path: (path / 'bank.json').write_text('{'),
    lambda path: (path / 'bank.json').unlink(),
])
def test_a_damaged_directory_is_prepared_anew(damage, make_zip, tmp_path, capsys):
    spec = make_zip(tmp_path / 'again.zip', n=9, seed=302)
    first = prepare_source(spec)
    images = Path(first.path, 'images.npy').read_bytes()
    damage(Path(first.path))
    assert prepare_source(spec) == first and 'is damaged, so the source is prepared anew' in capsys.readouterr().err
    assert Path(first.path, 'images.npy').read_bytes() == images
    prepare_source(spec)
    assert capsys.readouterr().err == ''
