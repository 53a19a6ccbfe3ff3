"""Hostile and broken datasets end in one printable sentence of each reader, start no program and take little memory."""

import subprocess
import tracemalloc

import pytest
from hostile_sets import CASES

import dataset_tool
from spider_plugin import errors
from spider_plugin.sources import convert
from spider_plugin.sources.dataset import ImageDataset
from training import dataset
from training.runtime import SpiderError

MIB = 1 << 20

def plugin(path):
    return ImageDataset(path).image(0)

def host(path):
    images = dataset.ImageFolderDataset(path, use_labels=True)
    images.check_images()
    return images[0], images.label_dim

def tool(path):
    return dataset_tool.convert_dataset.callback(str(path), str(path.with_name('made.zip')), None, 'center-crop', (8, 8))

def converter(path):
    return list(convert.read('images', {'x': path}, dict(pattern=r'\.png$'), channels=3, what='--spider-source=x'))

@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('reader', [plugin, host, tool, converter])
def test_one_sentence(reader, name, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, 'Popen', lambda *args, **kwargs: pytest.fail('a program was started'))
    path = tmp_path / 'set.zip'
    path.write_bytes(CASES[name]())
    tracemalloc.start()
    try:
        reader(path)
        message = None
    except (SpiderError, errors.SpiderError) as error:
        message = error.message
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 256 * MIB
    assert message is not None or reader is not host    # the other readers leave some labels, or one of two sizes, as it is
    assert message is None or message.isprintable() and len(message) <= 2000
