"""HEIC and AVIF: read where the package is there, left out with a line or refused with its name where it is not."""

import io

import numpy as np
import PIL.Image
import pytest

from spider_plugin.files.pictures import decode
from spider_plugin.sources.dataset import ImageDataset

HEIC, AVIF = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', b'\0\0\0\x1cftypmif1\0\0\0\0avifmif1'

@pytest.fixture
def lacking(monkeypatch):
    """Take the packages away."""
    for cached in (decode.lacks, decode._prepare):
        cached.cache_clear()
    monkeypatch.setattr(decode.importlib.util, 'find_spec', lambda name: None)
    yield
    monkeypatch.undo()
    for cached in (decode.lacks, decode._prepare):
        cached.cache_clear()

def picture():
    return PIL.Image.fromarray(np.random.RandomState(0).randint(0, 256, [4, 4, 3]).astype(np.uint8)).resize((32, 32))

def test_brands_are_told_apart():
    assert decode.kind_of(HEIC + bytes(40)) == 'HEIF' and decode.kind_of(AVIF + bytes(40)) == 'AVIF'
    assert decode.kind_of(b'\0\0\0\x18ftypisom\0\0\0\0mp41isom') is None        # a video
    assert decode.kind_of(b'\0\0\0\x08ftyp') is None is decode.kind_of(b'')

@pytest.mark.parametrize('data, words', [(HEIC, 'spider-plugin[heif]'), (AVIF, 'Pillow 11.3')])
def test_a_missing_package_is_named(lacking, data, words):
    with pytest.raises(ValueError, match='cannot be read here') as error:
        decode.open_image(data + bytes(40))
    assert words in str(error.value)

def test_without_the_package_pictures_are_left_out_and_counted(lacking, tmp_path):
    for i in range(3):
        (tmp_path / f'{i}.heic').write_bytes(HEIC + bytes(40))
    picture().save(tmp_path / 'a.png')
    picture().save(tmp_path / 'b.heic', 'png')      # a PNG is a PNG under every name
    dataset = ImageDataset(tmp_path)
    assert dataset.file_names == ['a.png', 'b.heic'] and '3 .heic (to read them, install pillow-heif' in dataset.lines[0]

def encoded(format, **options):
    buffer = io.BytesIO()
    picture().save(buffer, format, quality=95, **options)
    return buffer.getvalue()

def check_is_read(data, format, tmp_path):
    found = decode.decode(data)
    assert found.format == format and found.pixels.shape == (32, 32, 3) and found.notes == ()
    assert np.abs(found.pixels.astype(int) - np.asarray(picture())).mean() < 8
    for name in (f'a.{format.lower()}', 'b.jpg', 'c'):
        (tmp_path / name).write_bytes(data)
    dataset = ImageDataset(tmp_path)
    assert dataset.num_images == 3 and dataset.lines == [] and len(dataset.sha256) == 64
    assert all((dataset.image(i).transpose(1, 2, 0) == found.pixels).all() for i in range(3))

def test_avif_is_read(tmp_path):
    if decode.lacks('AVIF'):
        pytest.skip(decode.lacks('AVIF'))
    check_is_read(encoded('AVIF'), 'AVIF', tmp_path)

def test_heic_is_read(tmp_path):
    pytest.importorskip('pillow_heif').register_heif_opener()
    check_is_read(encoded('HEIF'), 'HEIF', tmp_path)

def test_heic_of_a_turned_phone(tmp_path):
    pytest.importorskip('pillow_heif').register_heif_opener()
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    upright, found = decode.decode(encoded('HEIF')).pixels, decode.decode(encoded('HEIF', exif=exif.tobytes())).pixels
    assert np.abs(np.rot90(upright, 3).astype(int) - found).mean() < 4
