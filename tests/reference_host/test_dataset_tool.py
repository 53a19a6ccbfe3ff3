"""dataset_tool.py: any images in, a dataset for train.py out."""

import json
import os
import zipfile

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from dataset_tool import convert_dataset
from training.dataset import ImageFolderDataset

#----------------------------------------------------------------------------

@pytest.fixture
def photos(tmp_path):
    """A folder of six RGB images of several sizes, with class labels."""
    os.makedirs(tmp_path / 'photos/sub')
    labels = []
    for i in range(6):
        name = f'{"sub/" if i % 2 else ""}photo{i}.{"png" if i < 4 else "jpg"}'
        image = np.full([20 + i, 32, 3], 40 * i, np.uint8)
        image[:, :2] = 255 # A stripe that center-crop cuts off.
        PIL.Image.fromarray(image).save(tmp_path / 'photos' / name)
        labels.append([name, i])
    (tmp_path / 'photos/dataset.json').write_text(json.dumps(dict(labels=labels)))
    return tmp_path / 'photos'

def run(*args, code=0):
    result = CliRunner().invoke(convert_dataset, list(map(str, args)))
    assert result.exit_code == code, result.output
    return result.output

def leftovers(folder):
    return [name for name in os.listdir(folder) if name.endswith('.tmp')]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('dest', ['out.zip', 'out'])
def test_crop_resize_and_labels(photos, tmp_path, dest):
    run('--source', photos, '--dest', tmp_path / dest, '--transform=center-crop', '--resolution=16x16')
    dataset = ImageFolderDataset(tmp_path / dest, use_labels=True)
    dataset.check_images()
    assert len(dataset) == 6 and dataset.image_shape == [3, 16, 16] and dataset.label_dim == 6
    for i in range(6): # Values and labels stayed together though the files were sorted by name.
        image, label = dataset[i]
        assert abs(int(image.mean()) - 40 * label.argmax()) <= 2 and image.max() - image.min() < 8
    assert not leftovers(tmp_path)

def test_wide_crop_has_black_bars(photos, tmp_path):
    run('--source', photos, '--dest', tmp_path / 'w.zip', '--transform=center-crop-wide', '--resolution=16x8')
    image, _label = ImageFolderDataset(tmp_path / 'w.zip')[2]
    assert image.shape == (3, 16, 16) and image[:, :4].max() == 0 == image[:, -4:].max() and image[:, 4:12, 4:].min() > 0

def test_zip_to_zip_is_lossless_and_reproducible(make_zip, tmp_path):
    source = make_zip(tmp_path / 'in.zip', n=5, channels=1, labels=[[i, 0.5] for i in range(5)])
    for name in ('a.zip', 'b.zip'):
        run('--source', source, '--dest', tmp_path / name, '--max-images=4')
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()
    before, after = ImageFolderDataset(source, use_labels=True), ImageFolderDataset(tmp_path / 'a.zip', use_labels=True)
    assert len(after) == 4 and after.num_channels == 1
    assert all(np.array_equal(before[i][0], after[i][0]) and np.array_equal(before[i][1], after[i][1]) for i in range(4))

def test_odd_modes_become_rgb(tmp_path):
    os.makedirs(tmp_path / 'odd')
    rgba = np.zeros([8, 8, 4], np.uint8) # Transparent: white.
    PIL.Image.fromarray(rgba).save(tmp_path / 'odd/a.png')
    PIL.Image.fromarray(np.full([8, 8], 9, np.uint8)).convert('P').save(tmp_path / 'odd/b.png')
    PIL.Image.fromarray(np.full([8, 8], 65535, np.uint16)).save(tmp_path / 'odd/c.png')
    run('--source', tmp_path / 'odd', '--dest', tmp_path / 'odd.zip')
    dataset = ImageFolderDataset(tmp_path / 'odd.zip')
    dataset.check_images()
    assert [int(image.mean()) for image, _label in dataset] == [255, 9, 255] and dataset.num_channels == 3
    assert json.loads(zipfile.ZipFile(tmp_path / 'odd.zip').read('dataset.json')) == dict(labels=None)

#----------------------------------------------------------------------------

@pytest.fixture
def wide(tmp_path):
    """A folder with one image of 32x16: a red, a green and a blue third."""
    os.makedirs(tmp_path / 'wide')
    image = np.zeros([16, 32, 3], np.uint8)
    for i in range(3):
        image[:, [0, 10, 22, 32][i] : [0, 10, 22, 32][i + 1], i] = 255
    PIL.Image.fromarray(image).save(tmp_path / 'wide/0.png')
    return tmp_path / 'wide'

def transformed(wide, tmp_path, *args):
    run('--source', wide, '--dest', tmp_path / 'made.zip', *args)
    return ImageFolderDataset(tmp_path / 'made.zip')[0][0]

def test_pad_and_letterbox_keep_the_whole_image(wide, tmp_path):
    boxed = transformed(wide, tmp_path, '--transform=letterbox', '--resolution=32x32')
    assert boxed[:, :8].max() == 0 == boxed[:, 24:].max() and boxed[:, 8:24].max(axis=(1, 2)).tolist() == [255] * 3
    os.remove(tmp_path / 'made.zip')
    padded = transformed(wide, tmp_path, '--transform=pad', '--resolution=32x32')
    assert np.array_equal(padded[:, 8:24], boxed[:, 8:24]) and (padded == padded[:, :1]).all()
    os.remove(tmp_path / 'made.zip')
    cropped = transformed(wide, tmp_path, '--transform=center-crop', '--resolution=16x16')
    assert cropped[1].mean() > cropped[0].mean() * 3

def test_no_image_is_stretched_unasked(wide, tmp_path):
    said = run('--source', wide, '--dest', tmp_path / 'made.zip', '--resolution=16x16', code=2)
    assert '0.png is 32x16' in said and 'center-crop, pad or letterbox' in said and not (tmp_path / 'made.zip').exists()
    assert '--resolution' in run('--source', wide, '--dest', tmp_path / 'made.zip', '--transform=pad', code=2)
    assert transformed(wide, tmp_path, '--transform=stretch', '--resolution=16x16').shape == (3, 16, 16)
    grey = np.full([10, 10], 7, np.uint8)       # a square of another size
    PIL.Image.fromarray(grey).save(wide / '0.png')
    os.remove(tmp_path / 'made.zip')
    assert transformed(wide, tmp_path, '--resolution=16x16').shape == (1, 16, 16)

def test_grey_letterbox(wide, tmp_path):
    PIL.Image.fromarray(np.full([20, 10], 200, np.uint8)).save(wide / '0.png')
    image = transformed(wide, tmp_path, '--transform=letterbox', '--resolution=16x16')
    assert image.shape == (1, 16, 16) and image[0, :, :3].max() == 0 and image[0, :, 5:11].min() > 190

#----------------------------------------------------------------------------
# Labels.

@pytest.fixture
def partly(make_zip, tmp_path):
    """Six images, of which two have no label."""
    labels = [[f'00000/img{i:08d}.png', i % 2] for i in range(4)]
    return make_zip(tmp_path / 'partly.zip', n=6, extra={'dataset.json': json.dumps(dict(labels=labels)).encode()})

def test_images_without_a_label_are_refused_dropped_or_kept(partly, tmp_path):
    said = run('--source', partly, '--dest', tmp_path / 'out.zip', code=2)
    assert 'img00000004.png and 1 more of the 6 images' in said and '--unlabelled=drop' in said
    assert 'no label: 2 of 6' in run('--source', partly, '--dest', tmp_path / 'drop.zip', '--unlabelled=drop')
    dropped = ImageFolderDataset(tmp_path / 'drop.zip', use_labels=True)
    assert len(dropped) == 4 and dropped.label_dim == 2
    assert '2 of 6 images' in run('--source', partly, '--dest', tmp_path / 'keep.zip', '--unlabelled=keep')
    kept = ImageFolderDataset(tmp_path / 'keep.zip', use_labels=True)
    assert len(kept) == 6 and not kept.has_labels
    assert ImageFolderDataset(partly)[5][0].tolist() == kept[5][0].tolist()

def test_labels_of_no_image_are_an_error(make_zip, tmp_path):
    labels = json.dumps(dict(labels=[['cat.png', 0], ['dog.png', 1]])).encode()
    path = make_zip(tmp_path / 'in.zip', n=2, extra={'dataset.json': labels})
    for option in ([], ['--unlabelled=drop']):
        assert 'dataset.json' in run('--source', path, '--dest', tmp_path / 'out.zip', *option, code=2)
    run('--source', path, '--dest', tmp_path / 'out.zip', '--unlabelled=keep')

def test_class_ids_become_classes_with_their_table(make_zip, tmp_path):
    path = make_zip(tmp_path / 'in.zip', n=3, labels=[20230101, 12, 20230101])
    assert 'class=id: 0=12, 1=20230101' in run('--source', path, '--dest', tmp_path / 'out.zip')
    entries = json.loads(zipfile.ZipFile(tmp_path / 'out.zip').read('dataset.json'))
    assert [label for _name, label in entries['labels']] == [1, 0, 1] and entries['class_ids'] == [12, 20230101]
    assert ImageFolderDataset(tmp_path / 'out.zip', use_labels=True).label_dim == 2

@pytest.mark.parametrize('labels', [['cat', 'dog'], [0, [1]], [-1, 0], [0.5, 1], [[1], [1, 2]], [True, False], [[], []]])
def test_labels_that_train_refuses_are_refused(make_zip, tmp_path, labels):
    path = make_zip(tmp_path / 'in.zip', n=2, labels=labels)
    assert 'dataset.json' in run('--source', path, '--dest', tmp_path / 'out.zip', code=2)
    assert not leftovers(tmp_path) and not (tmp_path / 'out.zip').exists()

#----------------------------------------------------------------------------

def test_errors_name_the_file_and_leave_nothing(photos, tmp_path):
    source = ['--source', photos, '--dest', tmp_path / 'out.zip']
    assert '32x20' in run(*source, code=2)
    assert '--resolution' in run(*source, '--transform=center-crop', code=2)
    assert 'photo5.jpg' not in run(*source, '--resolution=24x24', code=2)
    (photos / 'sub/photo5.jpg').write_bytes(b'broken')
    assert 'sub/photo5.jpg' in run(*source, '--transform=stretch', '--resolution=16x16', code=2)
    assert 'neither a folder nor' in run('--source', tmp_path / 'none', '--dest', tmp_path / 'out.zip', code=2)
    (tmp_path / 'taken.zip').write_bytes(b'mine')
    assert 'exists already' in run('--source', photos, '--dest', tmp_path / 'taken.zip', code=2)
    assert (tmp_path / 'taken.zip').read_bytes() == b'mine'
    assert 'cannot be written' in run('--source', photos, '--dest', tmp_path / 'taken.zip/out', code=2)
    assert not leftovers(tmp_path) and not (tmp_path / 'out.zip').exists()

#----------------------------------------------------------------------------
