"""Datasets on disk: reading, the inputs of the hash, and errors that name the bad file."""

import io
import json
import zipfile

import numpy as np
import PIL.Image
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.sources.dataset import ImageDataset

def unpack(archive, folder):
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder

def encoded(image, format='png', **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **kwargs)
    return buffer.getvalue()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('channels', [1, 3])
def test_zip_and_folder_agree(make_zip, tmp_path, channels):
    archive = make_zip(tmp_path / 'a.zip', n=7, channels=channels, labels=3)
    folder = unpack(archive, tmp_path / 'folder')
    a, b = ImageDataset(archive), ImageDataset(folder)
    assert (a.num_images, a.resolution, a.channels, a.num_classes, a.name) == (7, 16, channels, 3, 'a')
    assert a.labels.dtype == np.int64 and a.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert a.sha256 == b.sha256
    for i in range(7):
        image = a.image(i)
        assert image.dtype == np.uint8 and image.shape == (channels, 16, 16)
        assert (image == b.image(i)).all()
        reference = np.asarray(PIL.Image.open(folder / a.file_names[i])).reshape(16, 16, channels)
        assert (image == reference.transpose(2, 0, 1)).all()

def test_hash_sees_content_names_and_labels_but_not_dates(make_zip, tmp_path):
    digests = {name: ImageDataset(make_zip(tmp_path / f'{name}.zip', n=4, **kwargs)).sha256 for name, kwargs in {
        'plain': {}, 'again': {}, 'pixels': dict(seed=1), 'labels': dict(labels=2), 'other labels': dict(labels=4),
    }.items()}
    assert digests['plain'] == digests['again']
    assert len(set(digests.values())) == 4
    with zipfile.ZipFile(tmp_path / 'plain.zip') as old, zipfile.ZipFile(tmp_path / 'dated.zip', 'w') as new:
        for name in reversed(old.namelist()):
            new.writestr(zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6)), old.read(name), zipfile.ZIP_DEFLATED)
    assert ImageDataset(tmp_path / 'dated.zip').sha256 == digests['plain']

def test_hash_sees_that_a_rule_moves_pixels(tmp_path, monkeypatch):
    """What was prepared from a picture that was read sideways is prepared anew; ordinary sets keep their digest."""
    picture, exif = PIL.Image.effect_noise((16, 16), 60).convert('RGB'), PIL.Image.Exif()
    exif[0x112] = 6
    digests = []
    for name, options in (('plain', {}), ('turned', dict(exif=exif))):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / 'a.jpg', **options)
        digests.append(ImageDataset(tmp_path / name)._sha256())
    monkeypatch.setattr('spider_plugin.files.pictures.decode.VERSION', 2)
    assert ImageDataset(tmp_path / 'plain')._sha256() == digests[0]
    assert ImageDataset(tmp_path / 'turned')._sha256() != digests[1]

def test_digest_is_found_once_for_the_same_files(make_zip, tmp_path, monkeypatch):
    folder = unpack(make_zip(tmp_path / 'a.zip', n=5, labels=2), tmp_path / 'a')
    first, reads, stock = ImageDataset(folder).sha256, [], ImageDataset._sha256
    monkeypatch.setattr(ImageDataset, '_sha256', lambda self: (reads.append(1), stock(self))[1])
    assert ImageDataset(folder).sha256 == first and not reads
    file = folder / '00000/img00000003.png'
    file.write_bytes(encoded(PIL.Image.new('RGB', (16, 16))))
    second = ImageDataset(folder).sha256
    assert second != first and len(reads) == 1
    (folder / 'dataset.json').write_text(json.dumps(dict(labels=[[f'00000/img{i:08d}.png', 1] for i in range(5)])))
    assert ImageDataset(folder).sha256 not in (first, second) and len(reads) == 2

def test_float_labels_licence_and_no_labels(make_zip, tmp_path):
    dataset = ImageDataset(make_zip(tmp_path / 'a.zip', n=2, labels=[[0.5, 1.0], [0.0, 2.0]]))
    assert dataset.labels.dtype == np.float32 and dataset.num_classes == 2
    info = json.dumps({'labels': None, 'licence': 'CC0-1.0'}).encode()
    dataset = ImageDataset(make_zip(tmp_path / 'b.zip', n=2, extra={'dataset.json': info}))
    assert dataset.labels is None and dataset.num_classes == 0 and dataset.licence == 'CC0-1.0'
    assert ImageDataset(make_zip(tmp_path / 'c.zip', n=2)).licence == 'unknown'

def test_palette_and_jpeg_are_expanded(tmp_path):
    colours = np.random.RandomState(0).randint(0, 4, [16, 16, 3]).astype(np.uint8) * 80
    picture = PIL.Image.fromarray(colours)
    palette = picture.quantize(256)
    (tmp_path / 'a.png').write_bytes(encoded(palette))
    (tmp_path / 'b.jpg').write_bytes(encoded(picture, 'jpeg', quality=95))
    dataset = ImageDataset(tmp_path)
    assert dataset.channels == 3 and len(dataset.sha256) == 64
    assert (dataset.image(0).transpose(1, 2, 0) == np.asarray(palette.convert('RGB'))).all()
    assert dataset.image(1).shape == (3, 16, 16)

#----------------------------------------------------------------------------

def image_file(width=16, height=16, mode='RGB'):
    return encoded(PIL.Image.new(mode, (width, height)))

BAD_FILES = {
    'size':     (image_file(8, 8), '8 pixels wide'),
    'square':   (image_file(16, 8), '16 x 8'),
    'channels': (image_file(mode='L'), 'is grey'),
    'float':    (encoded(PIL.Image.new('F', (16, 16)), 'tiff'), 'floating-point'),
    '16 bit':   (image_file(mode='I;16'), 'is grey'),
    'text':     (b'this is no image', 'not an image'),
    'cut':      (None, 'corrupt'),
}

@pytest.mark.parametrize('case', BAD_FILES)
def test_bad_file_is_named(make_zip, tmp_path, case):
    data, words = BAD_FILES[case]
    if data is None:
        data = encoded(PIL.Image.effect_noise((16, 16), 50).convert('RGB'))[:200]
    dataset = ImageDataset(make_zip(tmp_path / 'a.zip', n=4, extra={'00000/odd.png': data}))
    with pytest.raises(SpiderError, match='00000/odd.png') as error:
        _ = dataset.sha256
        dataset.image(dataset.file_names.index('00000/odd.png'))
    assert words in error.value.message and error.value.exit_code == 2
    assert '\n' not in error.value.message

@pytest.mark.parametrize('labels, words', [
    ('not json', 'dataset.json'),
    ('[1, 2]', 'dataset.json'),
    ('{"labels": [["00000/img00000000.png", 1]]}', '00000/img00000001.png'),
    ('{"labels": [["00000/img00000000.png", 1], ["00000/img00000001.png", -1]]}', 'negative class'),
    ('{"labels": [["00000/img00000000.png", [1, 2]], ["00000/img00000001.png", [1]]]}', 'integer class'),
])
def test_bad_labels_are_named(make_zip, tmp_path, labels, words):
    with pytest.raises(SpiderError, match=words):
        ImageDataset(make_zip(tmp_path / 'a.zip', n=2, extra={'dataset.json': labels.encode()}))

def test_bad_paths_are_named(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.zip').write_bytes(b'PK\3\4 broken')
    (tmp_path / 'page.zip').write_bytes(b'<html>log in</html>')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'network-snapshot-000001.pkl').write_bytes(b'x')
    for name, words in {'missing.zip': 'does not exist', 'empty': 'no images', 'broken.zip': 'not a readable',
                        'page.zip': 'is an HTML page', 'run': 'a folder that holds network-snapshot-000001.pkl'}.items():
        with pytest.raises(SpiderError, match=words) as error:
            ImageDataset(tmp_path / name)
        assert name in error.value.message

def test_damaged_zip_member_is_named(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'a.zip', n=3)
    with zipfile.ZipFile(archive) as file:
        offset = file.getinfo('00000/img00000001.png').header_offset
    with open(archive, 'r+b') as file:
        file.seek(offset + 120)
        file.write(b'\0' * 40)
    with pytest.raises(SpiderError, match='img00000001.png'):
        _ = ImageDataset(archive).sha256
