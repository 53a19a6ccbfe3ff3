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

def test_errors_name_the_file_and_leave_nothing(photos, tmp_path):
    source = ['--source', photos, '--dest', tmp_path / 'out.zip']
    assert '32x20' in run(*source, code=2)
    assert '--resolution' in run(*source, '--transform=center-crop', code=2)
    assert 'photo5.jpg' not in run(*source, '--resolution=24x24', code=2)
    (photos / 'sub/photo5.jpg').write_bytes(b'broken')
    assert 'sub/photo5.jpg' in run(*source, '--resolution=16x16', code=2)
    assert 'neither a folder nor' in run('--source', tmp_path / 'none', '--dest', tmp_path / 'out.zip', code=2)
    (tmp_path / 'taken.zip').write_bytes(b'mine')
    assert 'exists already' in run('--source', photos, '--dest', tmp_path / 'taken.zip', code=2)
    assert (tmp_path / 'taken.zip').read_bytes() == b'mine'
    assert 'cannot be written' in run('--source', photos, '--dest', tmp_path / 'taken.zip/out', code=2)
    assert not leftovers(tmp_path) and not (tmp_path / 'out.zip').exists()

#----------------------------------------------------------------------------
