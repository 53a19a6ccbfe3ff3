"""What `spider train` finds in a folder of pictures, and the squares that it cuts."""

import io
import zipfile

import numpy as np
import PIL.Image
import pytest

from spider_plugin.automatic import photos
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import add_host_to_path

def save(path, size, mode='RGB', **kwargs):
    rng = np.random.RandomState(sum(size))
    shape = (size[1], size[0]) + ((3,) if mode == 'RGB' else ())
    PIL.Image.fromarray(rng.randint(0, 256, shape).astype(np.uint8)).save(path, **kwargs)

@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'trip'
    path.mkdir()
    return path

def test_sizes_kinds_and_orientations_are_told(folder):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save(folder / 'a.JPG', (80, 60), exif=exif)
    save(folder / 'b.png', (120, 60))
    (folder / 'notes.txt').write_text('x')
    found = photos.look(str(folder))
    assert found.sizes == [(60, 80), (120, 60)] and found.side == 32 and found.ready is None and found.channels == [3, 3]
    lines = found.lines()
    assert lines[0].endswith('1 JPEG, 1 PNG; 60x80 to 120x60 pixels, 1 landscape, 1 portrait, 0 square') and 'few' in lines[1]

def test_a_set_of_squares_is_ready(folder):
    for name in 'abc':
        save(folder / f'{name}.png', (32, 32))
    assert photos.look(str(folder)).ready == 32
    save(folder / 'd.png', (32, 32), mode='L')
    assert photos.look(str(folder)).ready is None

@pytest.mark.parametrize('make, words', [
    (lambda folder: None, 'holds no images'),
    (lambda folder: (folder / 'a.txt').write_text(''), r'holds no images; .*1 \.txt'),
    (lambda folder: save(folder / 'a.png', (32, 32)), 'holds one image, a.png'),
    (lambda folder: [(folder / f'{i}.jpg').write_bytes(b'no') for i in range(3)],
     '0.jpg in .* cannot be read .*; 2 more of the 3'),
    (lambda folder: folder.rmdir(), 'does not exist'),
    (lambda folder: (folder.rmdir(), folder.write_text('x')), 'neither a folder nor a readable zip'),
], ids=['empty', 'other', 'one', 'broken', 'missing', 'file'])
def test_what_cannot_be_trained_on_is_a_sentence(folder, make, words):
    make(folder)
    with pytest.raises(SpiderError, match=f'^--data: .*{words}'):
        photos.look(str(folder))

def test_squares_are_cut_once(folder, tmp_path, capfd):
    add_host_to_path()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save(folder / 'a.jpg', (90, 60), exif=exif)
    save(folder / 'b.png', (40, 60))
    found = photos.look(str(folder))
    path, words = photos.prepare(found, str(tmp_path / 'runs'), 32, 'center-crop')
    assert 'largest square' in words and '1 turned upright by EXIF' in capfd.readouterr().err
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith('.png')]
        assert [PIL.Image.open(io.BytesIO(archive.read(name))).size for name in names] == [(32, 32)] * 2
    assert photos.prepare(found, str(tmp_path / 'runs'), 32, 'center-crop')[0] == path and not capfd.readouterr().err
    other, words = photos.prepare(found, str(tmp_path / 'runs'), 32, 'pad')
    assert other != path and 'whole pictures' in words
    save(folder / 'c.png', (70, 70))
    assert photos.prepare(photos.look(str(folder)), str(tmp_path / 'runs'), 32, 'center-crop')[0] != path

def test_a_ready_set_is_used_as_it_is(folder, tmp_path):
    for name in 'abc':
        save(folder / f'{name}.png', (32, 32))
    assert photos.prepare(photos.look(str(folder)), str(tmp_path / 'runs'), 32, 'center-crop')[0] == str(folder)
    assert not (tmp_path / 'runs').exists()

def test_a_picture_that_breaks_leaves_nothing(folder, tmp_path):
    add_host_to_path()
    save(folder / 'a.png', (40, 60))
    save(folder / 'b.jpg', (400, 300))
    data = (folder / 'b.jpg').read_bytes()
    (folder / 'b.jpg').write_bytes(data[: len(data) // 2])      # its header is whole
    with pytest.raises(SpiderError, match='^--data: b.jpg in .* cannot be read'):
        photos.prepare(photos.look(str(folder)), str(tmp_path / 'runs'), 32, 'center-crop')
    assert not [path for path in (tmp_path / 'runs').rglob('*') if path.is_file()]
