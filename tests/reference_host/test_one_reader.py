"""The same files give the same pixels and labels at each door: train.py, dataset_tool.py, projector.py, --spider-source and
spider neighbors. All of them read by spider_plugin/files/pictures/, of which the reference host has a copy."""

import json
import os
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from odd_sets import LABELS, PICTURES, REFUSED, SIDE, encoded, noise

import dataset_tool
import projector
from spider_plugin import errors
from spider_plugin.files.pictures import decode
from spider_plugin.neighbors.features import open_set
from spider_plugin.portable.source.bank import open_source
from spider_plugin.resources import resource_dir
from spider_plugin.sources import convert
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.prepare import prepare_source
from training.dataset import ImageFolderDataset
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Two trees, one text.

def test_the_reference_host_has_the_same_reader():
    plugin = resource_dir('reference_host').parent / 'spider_plugin' / 'files' / 'pictures'
    host = resource_dir('reference_host') / 'training' / 'pictures'
    texts = [{path.name: path.read_bytes() for path in folder.glob('*.py')} for folder in (plugin, host)]
    assert texts[0] == texts[1] and len(texts[0]) == 5

#----------------------------------------------------------------------------
# Doors: from a folder to (pictures uint8 [N, C, H, W], labels as a list or None, lines).

def train(path):
    dataset = ImageFolderDataset(path, use_labels=True)
    ids, _lines = dataset.number_classes()
    if ids is not None:
        dataset = ImageFolderDataset(path, use_labels=True, class_ids=ids)
    dataset.check_images()
    labels = [dataset.get_details(i).raw_label.tolist() for i in range(len(dataset))] if dataset.has_labels else None
    return np.stack([dataset[i][0] for i in range(len(dataset))]), labels

def tool(path):
    made = f'{path}-made.zip'
    result = CliRunner().invoke(dataset_tool.convert_dataset, ['--source', str(path), '--dest', made], standalone_mode=False)
    if result.exception is not None:
        assert not os.path.exists(made)
        raise result.exception
    return train(made)

def source(path):
    dataset = ImageDataset(path)
    assert len(dataset.sha256) == 64
    labels = None if dataset.labels is None else dataset.labels.tolist()
    return np.stack([dataset.image(i) for i in range(dataset.num_images)]), labels

def neighbors(path):
    dataset = ImageDataset(path)
    image = open_set(str(path), max_images=10**6).open_images()
    return np.stack([image(i) for i in range(dataset.num_images)]), None if dataset.labels is None else dataset.labels.tolist()

DOORS = [train, tool, source, neighbors]

def folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path

def answer(door, path):
    try:
        return door(path)
    except (SpiderError, errors.SpiderError) as error:
        assert error.message.isprintable() and 'object at 0x' not in error.message
        return error.message

#----------------------------------------------------------------------------

@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    monkeypatch.setattr('spider_plugin.neighbors.features.MIN_SAMPLES', 1)

@pytest.mark.parametrize('name', PICTURES)
def test_pictures(name, tmp_path):
    fname, made = PICTURES[name]
    path = folder(tmp_path / 'set', {fname: made()})
    answers = [answer(door, path) for door in DOORS]
    refused = [isinstance(found, str) for found in answers]
    assert refused == [name in REFUSED] * len(DOORS), answers
    if not refused[0]:
        first = answers[0][0]
        assert first.dtype == np.uint8 and first.shape[2:] == (SIDE, SIDE)
        assert all(np.array_equal(found[0], first) for found in answers[1:])
        G = types.SimpleNamespace(img_channels=first.shape[1], img_resolution=SIDE)
        target = projector.load_target(path / fname, G, torch.device('cpu'))
        assert np.array_equal(((target + 1) * 127.5).round().to(torch.uint8).numpy(), first)
    else:
        assert all(fname in found for found in answers)
        with pytest.raises(SpiderError, match='--target'):
            projector.load_target(path / fname, types.SimpleNamespace(img_channels=3, img_resolution=SIDE), torch.device('cpu'))

def test_the_corpora_are_large():
    assert len(PICTURES) >= 60 and len(LABELS) >= 30

@pytest.mark.parametrize('kind', ['folder', 'zip'])
@pytest.mark.parametrize('name', LABELS)
def test_labels(name, kind, tmp_path):
    names, labels, wanted = LABELS[name]
    files = {fname: encoded(noise(i)) for i, fname in enumerate(names)}
    files['dataset.json'] = json.dumps(dict(labels=labels)).encode()
    path = folder(tmp_path / 'set', files)
    if kind == 'zip':
        path = tmp_path / 'set.zip'
        with zipfile.ZipFile(path, 'w') as archive:
            for fname, data in files.items():
                archive.writestr(fname, data)
    for door in DOORS:
        found = answer(door, path)
        if wanted is None:
            assert isinstance(found, str) and 'dataset.json' in found and str(path) in found, found
        else:
            assert found[1] == (None if wanted == 'none' else wanted)

@pytest.mark.parametrize('data, words', [
    (b'[["0.png", 1]]', 'it is a list, not a table'), (b'{"labels": "x.csv"}', 'its "labels" are a str'), (b'5', 'it is a int'),
    (b'{"labels": [["0.png", 1], {"file": "1.png"}]}', 'entry 2 of its "labels" is {'),
    (b'{"labels": [[1, "0.png"]]}', 'entry 1 of'),
    (b'{"labels": {"0.png": 1}', "Expecting"), (b"{'labels': []}", 'double quotes')])
def test_what_is_wrong_with_labels_is_said(data, words, tmp_path):
    path = folder(tmp_path / 'set', {'0.png': encoded(noise(0)), 'dataset.json': data})
    for door in DOORS:
        found = answer(door, path)
        assert isinstance(found, str) and words in found and 'object has no attribute' not in found, found

NO_SETS = {         # name: (bytes, words about it)
    'photo.png':   (lambda: encoded(noise(0)), 'a picture; give the folder that it is in'),
    'photo':       (lambda: encoded(noise(0), 'JPEG'), 'a picture; give the folder'),
    'set.tar':     (lambda: b'0.png'.ljust(257, b'\0') + b'ustar\x0000' + bytes(1000),
                    'a tar archive; unpack it, and give the folder'),
    'set.tar.gz':  (lambda: b'\x1f\x8b\x08' + bytes(100), 'a gzip archive; unpack it'),
    'set.7z':      (lambda: b"7z\xbc\xaf'\x1c" + bytes(100), 'a 7z archive; unpack it'),
    'set.zip':     (lambda: b'Rar!\x1a\x07\x01\0' + bytes(100), 'a rar archive; unpack it'),
    'set.npy':     (lambda: b'\x93NUMPY\x01\0' + bytes(100), 'an array of numpy; write it as images'),
    'set.h5':      (lambda: b'\x89HDF\r\n\x1a\n' + bytes(100), 'an HDF5 file; write its images as files'),
    'set.parquet': (lambda: b'PAR1' + bytes(100) + b'PAR1', 'a Parquet file; write its images'),
    'movie.mp4':   (lambda: b'\0\0\0\x18ftypmp42' + bytes(100), 'a video; write its frames'),
    'movie.webm':  (lambda: b'\x1aE\xdf\xa3' + bytes(100), 'a video; write its frames'),
}

@pytest.mark.parametrize('name', NO_SETS)
def test_a_file_that_is_no_set_is_named_at_every_door(name, tmp_path):
    made, words = NO_SETS[name]
    path = tmp_path / name
    path.write_bytes(made())
    for door in DOORS:
        found = answer(door, path)
        assert isinstance(found, str) and words in found and str(path) in found, (door, found)

def test_a_zip_with_the_slashes_of_windows(tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.zip', 'w') as archive:
        for i in range(4):
            archive.writestr(zipfile.ZipInfo(f'sub\\{i}.png'), encoded(noise(i)))
        archive.writestr('dataset.json', json.dumps(dict(labels=[[f'sub\\{i}.png', i] for i in range(4)])))
    assert [answer(door, tmp_path / 'w.zip')[1] for door in DOORS] == [[0, 1, 2, 3]] * len(DOORS)

def test_labels_beside_the_pictures_of_a_folder_in_a_zip(tmp_path):
    labels = json.dumps(dict(labels=[[f'{i}.png', i] for i in range(4)])).encode()
    path = folder(tmp_path / 'x', {f'set/{i}.png': encoded(noise(i)) for i in range(4)} | {
        'set/dataset.json': labels, '__MACOSX/set/._0.png': b'\0\5'})
    assert [answer(door, path)[1] for door in DOORS] == [[0, 1, 2, 3]] * len(DOORS)

def test_class_ids_of_a_source_travel_in_its_identity(tmp_path, capsys):
    names, labels, wanted = LABELS['dates']
    files = {fname: encoded(noise(i)) for i, fname in enumerate(names)}
    prepared = prepare_source(str(folder(tmp_path / 'set', files | {'dataset.json': json.dumps(dict(labels=labels)).encode()})))
    bank = open_source(prepared.path)
    assert bank.identity['class_ids'] == '20230101 20230102 20240101' and prepared.num_classes == 3
    assert sorted(bank.labels.tolist()) == sorted(wanted)
    assert 'class=id: 0=20230101, 1=20230102, 2=20240101' in capsys.readouterr().err
    files |= {'dataset.json': json.dumps(dict(labels=LABELS['as they are'][1])).encode()}
    assert 'class_ids' not in prepare_source(str(folder(tmp_path / 'other', files))).identity

def test_archives_are_converted_by_the_same_rules(tmp_path):
    """Those of the catalogue: bytes that no rule changes are kept, others become PNGs."""
    for name in sorted(PICTURES.keys() - REFUSED):
        fname, made = PICTURES[name]
        path = folder(tmp_path / name.replace(' ', '-'), {fname: made()})
        dataset = ImageDataset(path)
        ((data, extension, _label),) = convert.read('images', {'x': path}, dict(pattern='.'), channels=dataset.channels, what='x')
        pixels = decode.decode(data).pixels
        assert np.array_equal(pixels.reshape(SIDE, SIDE, -1).transpose(2, 0, 1), dataset.image(0)), name
        kept = {'PNG', 'grey PNG', 'JPEG', 'grey JPEG', 'EXIF 1', 'sRGB profile', 'JPEG named .png', 'damaged EXIF'}
        assert data == made() or name not in kept, name

#----------------------------------------------------------------------------
# What is left out.

def odd_folder(path):
    good = {f'{i}.png': encoded(noise(i)) for i in range(3)}
    heic, apple = b'\0\0\0\x18ftypheic' + bytes(99), b'\0\5\x16\7' + bytes(60)
    files = good | {'.ipynb_checkpoints/0-checkpoint.png': good['0.png'], '._1.png': apple, '.hidden.png': b'x',
                    'Thumbs.db': b'x', '__MACOSX/._0.png': apple, '@eaDir/0.png/S.jpg': b'x', 'notes.txt': b'x', 'more.txt': b'x',
                    'raw.CR2': b'II*\0', 'LICENSE': b'text', 'b/dataset.json': b'{}', 'IMG_0.HEIC': heic, 'IMG_1.HEIC': heic}
    folder(path, files)
    os.symlink('0.png', path / 'link.png')
    os.symlink('nowhere.png', path / 'broken.png')
    os.symlink('.', path / 'folder')
    os.mkfifo(path / 'pipe.png')
    return path

LEFT_OUT = ('2 .HEIC', '2 .txt', '1 .cr2', '6 hidden or of the system', '1 behind a link to a folder', '1 behind a broken link',
            '1 of no regular kind', '1 without an ending and no picture', '1 dataset.json below the folder of the pictures')

def check_left_out(text, path):
    (line,) = [line for line in text.splitlines() if line.startswith('Left out of')]
    assert line.startswith(f'Left out of {path}: ') and line.isprintable()
    for words in LEFT_OUT:
        assert words.lower() in line.lower(), (words, line)
    return line

def test_what_is_left_out_is_counted_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None if name == 'pillow_heif' else os)
    from training.pictures import decode as copy
    decode.lacks.cache_clear(), copy.lacks.cache_clear()
    path = odd_folder(tmp_path / 'set')
    said = ImageFolderDataset(path).left_out
    assert len(ImageFolderDataset(path)) == 4 == ImageDataset(path).num_images      # the link to a picture is one
    assert 'spider-plugin[heif]' in check_left_out(said, path)
    prepare_source(str(path))
    assert check_left_out(capsys.readouterr().err, path) == said
    open_set(str(path), max_images=10**6)
    assert check_left_out(capsys.readouterr().err, path) == said
    result = CliRunner().invoke(dataset_tool.convert_dataset, ['--source', str(path), '--dest', str(tmp_path / 'out.zip')])
    assert result.exit_code == 0 and check_left_out(result.output, path) == said
    assert len(ImageFolderDataset(tmp_path / 'out.zip')) == 4 and ImageFolderDataset(tmp_path / 'out.zip').left_out is None
    decode.lacks.cache_clear(), copy.lacks.cache_clear()

def test_a_set_of_nothing_else_says_so(tmp_path):
    path = folder(tmp_path / 'set', {'a.txt': b'x', '.b.png': b'x'})
    for door in DOORS:
        found = answer(door, path)
        assert 'holds no images' in found and '1 .txt' in found and '1 hidden' in found

def test_links_and_doubles_of_a_zip_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        link = zipfile.ZipInfo('link.png')
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr('0.png', encoded(noise(0)))
        archive.writestr(link, '0.png')
        with pytest.warns(UserWarning, match='Duplicate'):
            archive.writestr('0.png', encoded(noise(1)))
    for door in DOORS:
        assert np.array_equal(answer(door, tmp_path / 'a.zip')[0][0], np.asarray(noise(1)).transpose(2, 0, 1))
    assert ImageDataset(tmp_path / 'a.zip').lines == [
        f'Left out of {tmp_path / "a.zip"}: 1 behind a link in a zip, 1 named twice in a zip']

#----------------------------------------------------------------------------
# One number by type: what the rules say, for the doors are only equal to each other above.

def test_rules(tmp_path):
    def image(name):
        fname, made = PICTURES[name]
        return train(folder(tmp_path / name.replace(' ', '-'), {fname: made()}))[0][0]
    truth = np.asarray(noise()).transpose(2, 0, 1)
    assert image('16 bits, grey and dark').max() == 0 and image('16 bits, grey').max() == 255
    assert np.array_equal(image('16 bits, grey'), image('16 bits, grey TIFF'))
    assert np.array_equal(image('16 bits, grey'), image('16 bits, grey PGM'))
    assert (image('alpha')[:, :, :8] == 255).all() and np.array_equal(image('alpha')[:, :, 8:], truth[:, :, 8:])
    assert set(np.unique(image('grey tRNS'))) <= {0, 128, 192, 255} and 64 not in image('grey tRNS')
    assert (image('colour tRNS')[:, :, 1] == 255).all() and image('colour tRNS')[0, 0, 0] == 0
    assert (image('16 bits, tRNS')[:, :, 5] == 255).all() and image('16 bits, tRNS').sum() == 255 * SIDE
    assert np.array_equal(image('EXIF of a PNG'), np.rot90(truth, 3, (1, 2)))
    assert np.array_equal(image('EXIF of a PNG'), image('EXIF after the pixels'))
    assert np.array_equal(image('EXIF of a PNG'), image('EXIF of a TIFF'))
    assert np.array_equal(image('EXIF of a WebP').shape, truth.shape)
    assert np.array_equal(image('sRGB profile'), truth) and np.array_equal(image('damaged profile'), truth)
    assert np.abs(image('other profile').astype(int) - truth).max() > 20
    assert np.array_equal(image('moving GIF')[:, 0, 0], image('GIF')[:, 0, 0])
    assert np.array_equal(image('moving PNG'), truth) and np.array_equal(image('TIFF of pages'), truth)

def test_what_a_rule_changed_is_counted(tmp_path):
    names = ['alpha', 'EXIF of a PNG', 'EXIF 6', 'moving PNG', 'other profile', 'PNG']
    path = folder(tmp_path / 'set', {f'{i}{PICTURES[name][0]}': PICTURES[name][1]() for i, name in enumerate(names)})
    line = ImageFolderDataset(path).check_images()
    assert line == (f'Pictures in {path} that were changed: 2 turned upright by EXIF, 1 with transparency (now white), '
                    '1 of another colour profile (now sRGB), 1 with several frames (the first one)')
    assert ImageFolderDataset(path).check_images() == line      # from the cache
    result = CliRunner().invoke(dataset_tool.convert_dataset, ['--source', str(path), '--dest', str(tmp_path / 'out.zip')])
    assert line in result.output
    made = PIL.Image.open(zipfile.ZipFile(tmp_path / 'out.zip').open('00000/img00000000.png'))
    assert made.mode == 'RGB' and not made.info
