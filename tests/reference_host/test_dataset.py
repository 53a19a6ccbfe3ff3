"""training/dataset.py: reading of datasets, and errors about files that cannot be read."""

import io
import json
import os
import pickle
import re
import shutil
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest
import torch

import calc_metrics
import train
from spider_plugin.errors import SpiderError as PluginError
from spider_plugin.hosts.capabilities import Host
from spider_plugin.snapshots.host_door import read_training_set
from spider_plugin.sources.dataset import ImageDataset
from spider_plugin.sources.prepare import prepare_source
from training.dataset import ImageFolderDataset
from training.pictures import check
from training.runtime import SpiderError

#----------------------------------------------------------------------------

def unpack(path, folder):
    zipfile.ZipFile(path).extractall(folder)
    return str(folder)

def rewrite(path, name, data):
    """Replace one file of a zip by `data`, or remove it if data is None."""
    with zipfile.ZipFile(path) as archive:
        files = {info: archive.read(info) for info in archive.namelist() if info != name}
    if data is not None:
        files[name] = data
    with zipfile.ZipFile(path, 'w') as archive:
        for key, value in files.items():
            archive.writestr(key, value)

FIRST, THIRD = '00000/img00000000.png', '00000/img00000002.png'

#----------------------------------------------------------------------------
# Contents.

@pytest.mark.parametrize('channels', [1, 3])
def test_zip_and_folder_agree_with_pillow(make_zip, tmp_path, channels):
    path = make_zip(tmp_path / 'set.zip', n=6, channels=channels, labels=3)
    folder = unpack(path, tmp_path / 'folder')
    for dataset in (ImageFolderDataset(path, use_labels=True), ImageFolderDataset(folder, use_labels=True)):
        dataset.check_images()
        assert dataset.image_shape == [channels, 16, 16]
        assert (dataset.num_channels, dataset.resolution, len(dataset)) == (channels, 16, 6)
        for i in range(6):
            image, label = dataset[i]
            truth = np.array(PIL.Image.open(os.path.join(folder, f'00000/img{i:08d}.png'))).reshape(16, 16, channels)
            assert image.dtype == np.uint8 and np.array_equal(image.transpose(1, 2, 0), truth)
            assert label.dtype == np.float32 and label.tolist() == [float(i % 3 == k) for k in range(3)]
    assert ImageFolderDataset(path).name == 'set' and ImageFolderDataset(folder).name == 'folder'

def test_class_labels_vector_labels_and_none(make_zip, tmp_path):
    classes = ImageFolderDataset(make_zip(tmp_path / 'classes.zip', n=5, labels=3), use_labels=True)
    assert classes.has_labels and classes.has_onehot_labels and classes.label_dim == 3 and classes.label_shape == [3]
    assert classes.get_details(4).raw_label == 1
    vectors = [[i, 0.5, -i] for i in range(5)]
    vectors_set = ImageFolderDataset(make_zip(tmp_path / 'vectors.zip', n=5, labels=vectors), use_labels=True)
    assert vectors_set.has_labels and not vectors_set.has_onehot_labels
    assert vectors_set.get_label(2).tolist() == [2, 0.5, -2]
    for dataset in (ImageFolderDataset(tmp_path / 'classes.zip'),
                    ImageFolderDataset(make_zip(tmp_path / 'plain.zip', n=5), use_labels=True)):
        assert not dataset.has_labels and dataset.label_dim == 0 and dataset[0][1].shape == (0,)

def test_mirrored_half(make_zip, tmp_path):
    dataset = ImageFolderDataset(make_zip(tmp_path / 'set.zip', n=4), xflip=True)
    assert len(dataset) == 8 and dataset.num_raw_images == 4
    for i in range(4):
        assert np.array_equal(dataset[i][0][:, :, ::-1], dataset[i + 4][0])
        assert not dataset.get_details(i).xflip and dataset.get_details(i + 4).xflip

def test_subset_is_chosen_by_seed(make_zip, tmp_path):
    path = make_zip(tmp_path / 'set.zip', n=20)
    def picked(seed):
        dataset = ImageFolderDataset(path, max_size=8, random_seed=seed)
        return [dataset.get_details(i).raw_idx for i in range(len(dataset))]
    assert len(picked(0)) == 8 and picked(0) == picked(0) == sorted(picked(0))
    assert picked(0) != picked(1)

def test_jpeg_is_read(tmp_path):
    os.makedirs(tmp_path / 'jpeg/deep')
    PIL.Image.fromarray(np.full([8, 8, 3], 77, np.uint8)).save(tmp_path / 'jpeg/deep/a.jpg', quality=95)
    dataset = ImageFolderDataset(tmp_path / 'jpeg')
    dataset.check_images()
    assert dataset[0][0].shape == (3, 8, 8) and abs(int(dataset[0][0][0, 0, 0]) - 77) <= 2

def test_pickled_and_used_in_workers(make_zip, tmp_path):
    dataset = ImageFolderDataset(make_zip(tmp_path / 'set.zip', n=12, labels=2), use_labels=True)
    images = np.stack([dataset[i][0] for i in range(12)]) # The zip is open now.
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy[3][0], images[3]) and copy.label_dim == 2
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=2)
    assert np.array_equal(torch.cat([batch for batch, _labels in loader]).numpy(), images)

def test_fingerprint_follows_the_contents_not_the_place(make_zip, tmp_path):
    path = make_zip(tmp_path / 'a.zip', n=4)
    shutil.copy(path, tmp_path / 'b.zip')
    other = make_zip(tmp_path / 'c.zip', n=4, seed=1)
    first, second, third = (ImageFolderDataset(tmp_path / name).fingerprint for name in ('a.zip', 'b.zip', 'c.zip'))
    assert first == second != third and other

#----------------------------------------------------------------------------
# Errors.

def fails(path, *words, **kwargs):
    with pytest.raises(SpiderError) as info:
        dataset = ImageFolderDataset(path, **kwargs)
        dataset.check_images()
        dataset.get_label(0)
    for word in words:
        assert word in info.value.message
    assert '\n' not in info.value.message and info.value.exit_code == 2

def test_missing_corrupt_and_empty(make_zip, tmp_path):
    fails(tmp_path / 'none.zip', 'none.zip', 'does not exist')
    (tmp_path / 'bad.zip').write_bytes(b'no zip at all')
    fails(tmp_path / 'bad.zip', 'bad.zip', 'not a readable zip')
    whole = open(make_zip(tmp_path / 'whole.zip'), 'rb').read()
    (tmp_path / 'half.zip').write_bytes(whole[:len(whole) // 2])
    fails(tmp_path / 'half.zip', 'half.zip', 'not a readable zip')
    os.makedirs(tmp_path / 'empty')
    fails(tmp_path / 'empty', 'empty', 'no images')

@pytest.mark.parametrize('size, channels, words', [
    ((16, 8), 3, ['16x8', 'square', 'dataset_tool']),
    ((12, 12), 3, ['12x12', 'power of two', 'dataset_tool']),
    ((8, 8), 3, ['RGB 8x8', 'RGB 16x16', FIRST]),
    ((16, 16), 1, ['grey 16x16', 'RGB 16x16', FIRST])])
def test_odd_one_out_is_named(make_zip, make_png, tmp_path, size, channels, words):
    array = np.zeros([size[1], size[0], channels], np.uint8)
    png = make_png(array.squeeze(-1) if channels == 1 else array)
    fails(make_zip(tmp_path / 'set.zip', n=4, extra={THIRD: png}), THIRD, 'set.zip', *words)

def test_broken_image_is_named(make_zip, tmp_path):
    path = make_zip(tmp_path / 'set.zip', n=4)
    good = zipfile.ZipFile(path).read(THIRD)
    rewrite(path, THIRD, b'')
    fails(path, THIRD, 'cannot be read')
    rewrite(path, THIRD, good[:len(good) // 2]) # The header is fine.
    fails(path, THIRD, 'cannot be read')

def test_broken_image_is_named_through_a_worker(make_zip, tmp_path):
    path = make_zip(tmp_path / 'set.zip', n=4)
    rewrite(path, THIRD, zipfile.ZipFile(path).read(THIRD)[:100])
    loader = torch.utils.data.DataLoader(ImageFolderDataset(path), batch_size=4, num_workers=1)
    with pytest.raises(SpiderError) as info:
        list(loader)
    assert info.value.message.startswith(THIRD) and '\n' not in info.value.message

@pytest.mark.parametrize('content, word', [
    ('{"labels": [["a"]]}', 'is not'), ('[', 'is not'), ('{"labels": [["00000/img00000000.png", 0]]}', 'no label for'),
    (json.dumps(dict(labels=[[f'00000/img{i:08d}.png', 'cat'] for i in range(3)])), 'integer class'),
    (json.dumps(dict(labels=[[f'00000/img{i:08d}.png', -1] for i in range(3)])), 'negative')])
def test_bad_labels(make_zip, tmp_path, content, word):
    path = make_zip(tmp_path / 'set.zip', n=3, extra={'dataset.json': content.encode()})
    fails(path, 'dataset.json', 'set.zip', word, use_labels=True)

#----------------------------------------------------------------------------

def test_a_matched_source_reads_only_the_images_of_the_subset(make_zip, tmp_path, monkeypatch):
    source, target = make_zip(tmp_path / 'S.zip', n=60, res=16, seed=1), make_zip(tmp_path / 'T.zip', n=60, res=16, seed=2)
    kwargs = dict(path=target, max_size=20, random_seed=3)
    host = Host(dict(training_set_kwargs=dict(class_name='training.dataset.ImageFolderDataset', **kwargs)))
    seen, image = set(), ImageDataset.image
    with monkeypatch.context() as patch:
        patch.setattr(ImageDataset, 'image', lambda self, i: (self.name == 'T' and seen.add(int(i)), image(self, i))[1])
        prepare_source(source, match=target, subset=host.target.subset)
    trained_on = ImageFolderDataset(**kwargs)
    assert len(seen) == len(trained_on) == 20
    assert all(np.array_equal(ImageDataset(target).image(i), trained_on[j][0]) for j, i in enumerate(sorted(seen)))

#----------------------------------------------------------------------------
# Before the start.

def test_every_image_is_looked_at_once(make_zip, tmp_path, monkeypatch):
    dataset = ImageFolderDataset(unpack(make_zip(tmp_path / 'set.zip', n=40), tmp_path / 'set'))
    seen, stock = [], ImageFolderDataset._decode
    monkeypatch.setattr(ImageFolderDataset, '_decode', lambda self, i: (seen.append(i), stock(self, i))[1])
    dataset.check_images()
    assert sorted(seen) == list(range(40))
    ImageFolderDataset(tmp_path / 'set').check_images()
    assert len(seen) == 40      # nothing has changed
    fname = tmp_path / 'set' / THIRD
    fname.write_bytes(fname.read_bytes())
    ImageFolderDataset(tmp_path / 'set').check_images()
    assert len(seen) == 80
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(fname / 'no-folder'))    # a cache that cannot be written
    for _ in range(2):
        ImageFolderDataset(tmp_path / 'set').check_images()
    assert len(seen) == 160

def test_who_waits_is_told_of_the_progress(make_zip, tmp_path, monkeypatch, capsys):
    dataset, told, ticks = ImageFolderDataset(make_zip(tmp_path / 'set.zip', n=12)), [], iter(range(0, 10_000, 2))
    with monkeypatch.context() as patch:
        patch.setattr(check.time, 'monotonic', lambda: float(next(ticks)))
        dataset.check_images(lambda: told.append(1))
    assert 2 <= len(told) == len(re.findall(r'^Checking .*set.zip: \d+/12 images, \d+/s$', capsys.readouterr().err, re.M))

@pytest.mark.parametrize('fault, words', [
    (lambda data: data[:len(data) // 2], ['cannot be read']), (lambda data: b'', ['it is empty']),
    (lambda data: b'\0\5\x16\7' + bytes(60), ['no picture'])])
def test_faults_of_a_large_set_are_found_before_the_start_and_counted(make_zip, tmp_path, fault, words):
    """Padded to 70 MiB, as images of 64 MiB and more were looked at by their headers alone."""
    path = make_zip(tmp_path / 'set.zip', n=40)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    pad = b'\x00\x1b\x77\x40teSt' + bytes(1_800_000)
    pad += zlib.crc32(pad[4:]).to_bytes(4, 'big')
    bad = ['00000/img00000017.png', '00000/img00000030.png']
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in files.items():
            archive.writestr(name, fault(data) if name in bad else data[:33] + pad + data[33:])
    assert os.path.getsize(path) > 64 << 20
    dataset = ImageFolderDataset(path)
    with pytest.raises(SpiderError) as info:
        dataset.check_images()
    assert info.value.message.startswith(bad[0]) and '1 more of the 40 images cannot be used' in info.value.message
    assert all(word in info.value.message for word in words)

def test_a_jpeg_of_another_name_is_an_image(make_zip, tmp_path):
    buffer = io.BytesIO()
    PIL.Image.new('RGB', (16, 16), (200, 10, 10)).save(buffer, 'jpeg', quality=95)
    dataset = ImageFolderDataset(make_zip(tmp_path / 'set.zip', n=4, extra={THIRD: buffer.getvalue()}))
    dataset.check_images()
    assert abs(dataset[2][0].astype(int) - np.array([200, 10, 10])[:, None, None]).max() <= 3

#----------------------------------------------------------------------------
# Class ids.

def test_class_ids_go_into_the_options_and_back(make_zip, tmp_path, capsys):
    path = make_zip(tmp_path / 'set.zip', n=6, labels=[20230101, 5, 20230101, 7, 5, 7])
    kwargs, _name = train.init_dataset_kwargs(path)
    assert kwargs.class_ids == [5, 7, 20230101] and kwargs.use_labels
    assert 'class=id: 0=5, 1=7, 2=20230101' in capsys.readouterr().out
    dataset = ImageFolderDataset(**{key: value for key, value in kwargs.items() if key != 'class_name'})
    assert dataset.label_dim == 3 and [dataset.get_label(i).argmax() for i in range(6)] == [2, 0, 2, 1, 0, 1]
    part = make_zip(tmp_path / 'part.zip', n=2, labels=[20230101, 20230101]) # Another set, with fewer of the classes.
    moved = ImageFolderDataset(part, use_labels=True, class_ids=kwargs.class_ids)
    assert moved.label_dim == 3 and moved.get_label(0).tolist() == [0, 0, 1]
    with pytest.raises(SpiderError, match='class 9, which is none of the 2 that the run began with'):
        ImageFolderDataset(make_zip(tmp_path / 'other.zip', n=2, labels=[9, 9]), use_labels=True, class_ids=[5, 8]).get_label(0)
    with pytest.raises(SpiderError, match='has no labels, but the run began with 3 classes'):
        ImageFolderDataset(make_zip(tmp_path / 'none.zip', n=2), use_labels=True, class_ids=[5, 7, 8]).get_label(0)

def test_classes_that_are_numbers_stay_as_they_are(make_zip, tmp_path):
    for labels in ([0, 2, 2], [1, 2, 3], [4, 3, 2], 3):
        kwargs, _name = train.init_dataset_kwargs(make_zip(tmp_path / 'set.zip', n=3, labels=labels))
        assert 'class_ids' not in kwargs
    with pytest.raises(SpiderError, match='class 70000; number the classes from 0'):    # of a run from before
        ImageFolderDataset(make_zip(tmp_path / 'id.zip', n=3, labels=[70000] * 3), use_labels=True).get_label(0)

def test_the_options_of_a_snapshot_have_the_class_ids(make_zip, tmp_path):
    kwargs, _name = train.init_dataset_kwargs(make_zip(tmp_path / 'set.zip', n=3, labels=[900, 800, 900]))
    with open(tmp_path / 'a.pkl', 'wb') as file:
        pickle.dump(dict(training_set_kwargs=dict(kwargs)), file)
    assert read_training_set(tmp_path / 'a.pkl')['class_ids'] == [800, 900]
    given = calc_metrics.pick_dataset_kwargs(kwargs, 'other.zip', None)
    assert given.path == 'other.zip' and given.class_ids == [800, 900]
    for bad in ('x', [1, 'x'], [None]):
        with open(tmp_path / 'a.pkl', 'wb') as file:
            pickle.dump(dict(training_set_kwargs=dict(kwargs, class_ids=bad)), file)
        with pytest.raises(PluginError, match='options of its training set that hosts do not write'):
            read_training_set(tmp_path / 'a.pkl')

#----------------------------------------------------------------------------
