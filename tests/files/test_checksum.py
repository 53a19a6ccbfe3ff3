"""The checksum at the end of a pickle: it goes unnoticed by pickle, and tells any change of the bytes."""

import hashlib
import pickle

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.files import checksum

PICKLE = pickle.dumps(dict(x=bytes(range(256)) * 20_000))      # some blocks
SUMMED = PICKLE + checksum.record(hashlib.sha256(PICKLE))

@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / 'x.pkl'
        path.write_bytes(data)
        return path
    return write

@pytest.mark.parametrize('data', [SUMMED, PICKLE, b'', b'x' * 80, PICKLE + b'\nspider-sha256 ' + b'x' * 65])
@pytest.mark.parametrize('read', [0, 1, 1000, -1])
def test_unchanged_files_and_files_without_a_checksum(write, data, read):
    path = write(data)
    content = PICKLE if data is SUMMED else data
    with checksum.checked(path) as (file, size):
        assert size == len(content) and file.read(read) == (content if read < 0 else content[:read])
    assert checksum.check(path) == (data is SUMMED)

def test_pickle_does_not_see_it(write):
    with open(write(SUMMED), 'rb') as file:
        assert pickle.load(file) == pickle.loads(SUMMED) == pickle.loads(PICKLE)

@pytest.mark.parametrize('place', [0, 100, len(PICKLE) // 2, len(PICKLE) - 1, len(PICKLE) + 20])
def test_one_changed_byte(write, place):
    data = bytearray(SUMMED)
    data[place] = ord('e') if data[place] != ord('e') else ord('f')
    path = write(data)
    with pytest.raises(SpiderError, match='has changed since it was written'):
        checksum.check(path)
    with pytest.raises(SpiderError, match='has changed since it was written'), checksum.checked(path) as (file, _):
        file.read(10)
    with pytest.raises(SpiderError, match='has changed since it was written'), checksum.checked(path):
        raise ValueError('that the change caused')

def test_an_error_that_no_change_caused_stays(write):
    with pytest.raises(ValueError, match='mine'), checksum.checked(write(SUMMED)):
        raise ValueError('mine')
