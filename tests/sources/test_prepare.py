"""Preparation of sources: directories in the cache, their names, and errors."""

import json
import re
import zipfile

import numpy as np
import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.portable.source.bank import open_source
from spider_plugin.sources import prepare
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.prepare import prepare_source
from spider_plugin.sources.resize import resize_area

def contents(prepared):
    with open(f'{prepared.path}/bank.json', encoding='utf-8') as file:
        return np.load(f'{prepared.path}/images.npy'), json.load(file)

#----------------------------------------------------------------------------

def test_dataset_becomes_a_shuffled_bank(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'tiny.zip', n=40, labels=4)
    prepared = prepare_source(archive)
    assert (prepared.resolution, prepared.channels, prepared.num_images) == (16, 3, 40)
    assert prepared.num_classes == 4 and not prepared.online
    images, info = contents(prepared)
    dataset = ImageDataset(archive)
    assert info['format'] == 1 and info['identity'] == prepared.identity
    assert set(prepared.identity) == {'name', 'sha256', 'transform', 'licence'}
    assert prepared.identity['name'] == 'tiny' and prepared.identity['sha256'] == dataset.sha256
    where = [next(i for i in range(40) if (dataset.image(i) == image).all()) for image in images]
    assert sorted(where) == list(range(40)) and where != list(range(40))
    assert info['labels'] == dataset.labels[where].tolist()
    source = open_source(prepared.path)
    assert len(source) == 40 and source.identity == prepared.identity

def test_prefix_of_the_whole_is_the_smaller_bank(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'tiny.zip', n=40, labels=4)
    whole, part = prepare_source(archive), prepare_source(archive, bank=10)
    assert part.path != whole.path and part.num_images == 10
    assert (contents(whole)[0][:10] == contents(part)[0]).all()
    assert contents(whole)[1]['labels'][:10] == contents(part)[1]['labels']

def test_cache_is_keyed_by_content(make_zip, tmp_path, monkeypatch):
    first = prepare_source(make_zip(tmp_path / 'a.zip', n=12))
    again = make_zip(tmp_path / 'a.zip', n=12)
    monkeypatch.setattr(ImageDataset, 'image', lambda self, i: pytest.fail('decoded again'))
    assert prepare_source(again) == first
    monkeypatch.undo()
    assert prepare_source(make_zip(tmp_path / 'a.zip', n=12, seed=1)).path != first.path
    assert prepare_source(again, size=8).path != first.path

def test_failure_leaves_nothing_behind(make_zip, tmp_path, monkeypatch, spider_cache):
    before = set((spider_cache / 'sources').glob('*')) if (spider_cache / 'sources').exists() else set()
    archive = make_zip(tmp_path / 'a.zip', n=5, seed=77)
    name = ImageDataset(archive).file_names[3]
    with zipfile.ZipFile(archive) as file:
        data = file.read(name)
    archive = make_zip(tmp_path / 'b.zip', n=5, seed=77, extra={name: data[:150]})
    with pytest.raises(SpiderError, match=name):
        prepare_source(archive)
    assert set((spider_cache / 'sources').glob('*')) == before

def test_size_averages_areas(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'a.zip', n=6, res=24, channels=1)
    assert prepare_source(archive).resolution == 16     # the power of two below 24
    prepared = prepare_source(archive, size=8)
    whole, dataset = np.stack([ImageDataset(archive).image(i) for i in range(6)]), contents(prepared)[0]
    boxes = np.rint(whole.reshape(6, 1, 8, 3, 8, 3).astype(float).mean(axis=(3, 5)))
    assert prepared.resolution == 8 and '24^2 to 8^2' in prepared.identity['transform']
    assert sorted(map(bytes, boxes.astype(np.uint8))) == sorted(map(bytes, dataset))

def test_resize_area_of_fractions():
    image = np.array([[[[0, 30, 90]] * 3]], np.uint8)
    assert resize_area(image, 2)[0, 0].tolist() == [[10, 70]] * 2       # (0 + 30/2) / 1.5 and (30/2 + 90) / 1.5
    assert (resize_area(image, 6)[0, 0, ::2, ::2] == image[0, 0]).all()
    constant = np.full([1, 1, 7, 7], 200, np.uint8)
    assert (resize_area(constant, 4) == 200).all()

#----------------------------------------------------------------------------

def test_controls(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'ref.zip', n=30, res=8, channels=1)
    noise = prepare_source('noise', size=8, channels=1, bank=300)
    assert contents(noise)[0].shape == (300, 1, 8, 8)
    like = prepare_source(f'noise:{archive}', bank=5)
    assert (like.resolution, like.channels, like.num_images) == (8, 1, 5)
    control = prepare_source(f'covariance:{archive}', bank=600)
    assert control.identity['name'] == 'covariance of ref' and control.num_classes == 0
    images, reference = contents(control)[0].astype(float), contents(prepare_source(archive))[0].astype(float)
    assert np.abs(images.mean(axis=0) - reference.mean(axis=0)).mean() < 5
    assert len({noise.identity['sha256'], like.identity['sha256'], control.identity['sha256']}) == 3
    other = prepare_source(f'covariance:{make_zip(tmp_path / "ref.zip", n=30, res=8, channels=1, seed=3)}', bank=600)
    assert other.identity['sha256'] != control.identity['sha256']

def test_blocks_do_not_repeat(monkeypatch):
    monkeypatch.setattr(prepare, 'BLOCK', 4)
    images = contents(prepare_source('strokes', size=8, bank=10))[0]
    assert len({image.tobytes() for image in images}) == 10

@pytest.mark.parametrize('spec, kwargs, words', [
    ('nowhere.zip', {}, 'nowhere.zip does not exist'),
    ('nose', {}, 'noise'),
    ('nowhere.pkl', {}, 'nowhere.pkl does not exist'),
    ('noise:nowhere.zip', {}, 'nowhere.zip does not exist'),
    ('covariance', {}, 'covariance:PATH'),
    ('noise', dict(size=24), '--spider-size=24'),
    ('noise', dict(bank=0), '--spider-bank=0'),
    ('noise', dict(bank='all'), '--spider-bank=all'),
    ('noise', dict(bank='online'), '--spider-bank=online'),
])
def test_refused(spec, kwargs, words):
    with pytest.raises(SpiderError) as error:
        prepare_source(spec, **kwargs)
    assert words in error.value.message and '\n' not in error.value.message and error.value.exit_code == 2

def test_other_channels_are_refused(make_zip, tmp_path):
    archive = make_zip(tmp_path / 'grey.zip', n=3, channels=1)
    for spec in (archive, f'covariance:{archive}'):
        with pytest.raises(SpiderError, match='is grey, but colour images are needed'):
            prepare_source(spec, channels=3)

def test_progress_names_rate_and_time_left(make_zip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, 'BLOCK', 2)
    ticks = iter(range(0, 1000, 4))
    monkeypatch.setattr('time.monotonic', lambda: float(next(ticks)))
    prepare_source(make_zip(tmp_path / 'slow.zip', n=4, seed=5))
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'Reading slow: 1 of 4 images, 0/s, 0:\d\d left', lines[0])
    assert re.fullmatch(r'Preparing source slow: 2 of 4 images, 0/s, 0:\d\d left', lines[-1])
