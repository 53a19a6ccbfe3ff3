"""What is read of files stays within its bound, whatever they claim. tests/bad_inputs has the sentences."""

import io
import os
import zipfile

import numpy as np
import pytest

from spider_plugin.files.limits import (
    MOST_JSON,
    most_labels,
    open_file,
    open_zip,
    parse_json,
    read_array,
    read_file,
    read_member,
)

def test_files_and_members(tmp_path):
    (tmp_path / 'a').write_bytes(b'12345')
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / 'a', 'a')
        assert read_file(tmp_path / 'a', 5) == b'12345'
        with pytest.raises(ValueError, match='it is larger than 0 MiB'):
            read_file(tmp_path / 'a', 4)
    with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
        assert read_member(archive, 'a', 5) == b'12345'
        with pytest.raises(ValueError, match='it is larger than 0 MiB'):
            read_member(archive, 'a', 4)

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes on this system')
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for opener in (open_file, open_zip):
        for path in (tmp_path / 'pipe', tmp_path, '/dev/zero'):
            with pytest.raises(OSError, match='no regular file|it is a folder'):
                opener(path)
        with pytest.raises(FileNotFoundError):
            opener(tmp_path / 'nothing')

def test_a_zip_unpacks_to_no_more_than_a_hundred_times_its_size(tmp_path):
    for size in (100 << 20, 200 << 20):
        with zipfile.ZipFile(tmp_path / f'{size}.zip', 'w', zipfile.ZIP_DEFLATED) as archive, archive.open('a', 'w') as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
    with open_zip(tmp_path / f'{100 << 20}.zip') as archive:
        assert archive.namelist() == ['a']
    with pytest.raises(ValueError, match='more than 100 times larger than the archive'):
        open_zip(tmp_path / f'{200 << 20}.zip')

def test_labels_may_be_as_large_as_their_images_need():
    assert 1 << 20 < most_labels(1) < most_labels(100) < most_labels(10**9) == MOST_JSON

def test_depth_of_json():
    assert parse_json(b'{"a": [[1]]}') == {'a': [[1]]}
    with pytest.raises(ValueError, match='nested too deeply'):
        parse_json(b'[' * 10**6)

@pytest.mark.parametrize('array', [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones([4, 2], np.float32)),
                                   np.zeros([0, 3])])
@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_arrays(tmp_path, array, save):
    save(tmp_path / 'a.npz', w=array)
    found = read_array(tmp_path / 'a.npz', 'w')
    assert found.dtype == array.dtype and np.array_equal(found, array)

def test_an_array_that_is_not_there(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, dict(descr='<f4', fortran_order=False, shape=(2**50,)))
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        archive.writestr('w.npy', header.getvalue())
    with pytest.raises(ValueError, match='which the file does not hold'):
        read_array(tmp_path / 'a.npz', 'w')
