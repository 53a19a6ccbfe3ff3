"""The images of --data are looked at as a host of the StyleGAN kind will read them, before it reads any."""

import io
import json
import os
import sys
import types

import numpy as np
import PIL.Image
import pytest

from spider_plugin import SpiderError
from spider_plugin.hosts import data
from spider_plugin.hosts.data import check_host_data

class HostDataset:
    """What is asked of the dataset class of such a host."""

    @staticmethod
    def _file_ext(fname):
        return os.path.splitext(fname)[1].lower()

class CheckingDataset(HostDataset):
    def check_images(self):
        pass

def encoded(seed=0, format='png', mode='RGB', **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.random.RandomState(seed).randint(0, 256, [16, 16, 3]).astype(np.uint8)).convert(mode).save(
        buffer, format, **options)
    return buffer.getvalue()

def turned(orientation):
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    return encoded(9, 'jpeg', exif=exif)

@pytest.fixture
def folder(tmp_path):
    """folder({name: bytes}) -> path of a folder of four images and these."""
    def make(files, beside=True):
        for name, content in (({f'{i}.png': encoded(i) for i in range(4)} if beside else {}) | files).items():
            (tmp_path / 'set' / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'set' / name).write_bytes(content)
        return str(tmp_path / 'set')
    return make

def labelled(labels):
    return {'dataset.json': json.dumps(dict(labels=labels)).encode()}

#----------------------------------------------------------------------------

@pytest.mark.parametrize('files', [
    {}, {'4.jpg': encoded(4, 'jpeg')}, {'4.bmp': encoded(4, 'bmp')}, labelled(None), labelled([]),
    labelled([[f'{i}.png', i % 2] for i in range(4)]), labelled([[f'{i}.png', [i, 0.5]] for i in range(4)]),
    {'4.jpg': turned(1)}])
def test_an_ordinary_set_passes_without_a_word(folder, files):
    assert check_host_data(folder(files), HostDataset) == []

def test_a_zip_is_looked_at_too(make_zip, tmp_path):
    assert check_host_data(make_zip(tmp_path / 'a.zip', n=4, labels=2), HostDataset) == []
    path = make_zip(tmp_path / 'b.zip', n=4, extra={'00000/img00000002.png': encoded(0, 'jpeg')})
    with pytest.raises(SpiderError, match='img00000002.png in .* is JPEG, which this host cannot read under such a name'):
        check_host_data(path, HostDataset)

@pytest.mark.parametrize('files, words', [
    ({'1.png': encoded(1, 'jpeg')}, ['1.png', 'is JPEG']),
    ({'1.png': encoded(1)[:200]}, ['1.png', 'cannot be read']),
    ({'1.png': b''}, ['1.png', 'it is empty']),
    ({'._1.png': b'\0\5\x16\7' + bytes(60)}, ['._1.png', 'cannot be read']),
    ({'c.jpg': encoded(0, 'jpeg', 'CMYK')}, ['c.jpg', 'no 8-bit grey or RGB image', 'CMYK']),
    ({'1.png': encoded(1, mode='RGBA')}, ['1.png', 'no 8-bit grey or RGB']),
    ({'g.png': encoded(1, mode='L')}, ['g.png', '[16, 16]', '[16, 16, 3]']),
    ({'x.tif': encoded(1, 'tiff', 'F')}, ['x.tif', 'floating-point']),
    ({'1.png': b'', '2.png': b'', '3.png': b''}, ['1.png', '2 more of the 4 images']),
    (labelled([['./0.png', 1]]), ['dataset.json', 'no label for 0.png and 3 more of the 4']),
    (labelled([[f'images/{i}.png', 1] for i in range(4)]), ['no label for 0.png']),
    (labelled([[f'{i}.PNG', 1] for i in range(4)]), ['no label for 0.png']),
    (labelled([[f'{i}.png', 20230101] for i in range(4)]), ['class 20230101']),
    (labelled([[f'{i}.png', -1] for i in range(4)]), ['negative class']),
    (labelled([[f'{i}.png', [float('nan')]] for i in range(4)]), ['NaN']),
    ({'dataset.json': b'['}, ['dataset.json', 'is not'])])
def test_what_would_end_the_host_is_refused(folder, files, words):
    path = folder(files)
    with pytest.raises(SpiderError) as info:
        check_host_data(path, HostDataset)
    message = info.value.message
    assert message.startswith('--data: ') and path in message and all(word in message for word in words), message
    assert message.isprintable() and 'dataset_tool.py' in message

@pytest.mark.parametrize('files, words', [
    ({'x.jpg': turned(6), 'y.jpg': turned(3)}, ['docs/pictures.md', '2 turned upright by EXIF']),
    ({'.ipynb_checkpoints/0.png': encoded(0)}, ['1 of the 5 images', 'hidden']),
    ({'photo': encoded(9), 'x.heic': encoded(8)}, ['leaves out 2 images']),
    ({'notes.txt': b'x', 'a.cr2': b'x'}, ['Left out of', '1 .cr2', '1 .txt'])])
def test_what_the_host_reads_otherwise_is_said(folder, files, words, monkeypatch):
    path = folder(files)
    (line,) = check_host_data(path, HostDataset)
    assert all(word in line for word in words) and path in line
    monkeypatch.setattr(data._HostSet, '_look', lambda *args: pytest.fail('it was read again'))
    assert check_host_data(path, HostDataset) == [line]

def test_who_looks_by_itself_or_is_of_another_kind_is_let_be(folder, tmp_path):
    path = folder({'1.png': b''})
    for dataset_class in (CheckingDataset, dict):
        assert check_host_data(path, dataset_class) == []
    assert check_host_data(str(tmp_path / 'none'), HostDataset) == [] == check_host_data(None, HostDataset)
    (tmp_path / 'empty').mkdir()
    assert check_host_data(str(tmp_path / 'empty'), HostDataset) == []

def test_the_class_is_that_of_the_host_on_the_path(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'training', types.ModuleType('training'))
    module = types.ModuleType('training.dataset')
    monkeypatch.setitem(sys.modules, 'training.dataset', module)
    path = folder({'1.png': b''})
    assert check_host_data(path) == []
    module.ImageFolderDataset = HostDataset
    with pytest.raises(SpiderError, match='--data: 1.png'):
        check_host_data(path)
