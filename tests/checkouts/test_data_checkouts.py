"""The look at --data (hosts/data.py) says what the dataset class of each checkout then does with odd pictures."""

import importlib.util
import pathlib

import numpy as np
import pytest

from spider_plugin import SpiderError
from spider_plugin.files.pictures import decode
from spider_plugin.hosts.data import check_host_data

HERE = pathlib.Path(__file__).parent
ODD = HERE.parent / 'reference_host' / 'odd_sets.py'

class StyleGANDataset:
    """What the look asks of a class."""

    _file_ext = None

@pytest.fixture(scope='module')
def odd():
    spec = importlib.util.spec_from_file_location('odd_sets', ODD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def by_the_rules(file):
    """The picture in a file as uint8 [C, H, W]."""
    pixels = decode.decode(file.read_bytes()).pixels
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

@pytest.mark.parametrize('host', ['stylegan3', 'stylegan2-ada-pytorch', 'projected-gan'])
def test_what_is_said_is_what_happens(host, checkout, run_in, odd, tmp_path):
    folders = {}
    for number, (name, (fname, made)) in enumerate(odd.PICTURES.items()):
        folders[name] = tmp_path / f'{number}'
        folders[name].mkdir()
        (folders[name] / '0.png').write_bytes(odd.encoded(odd.noise(7)))
        (folders[name] / f'odd {fname}').write_bytes(made())
    result = run_in(checkout(host), None, harness=HERE / 'data_harness.py', folders=[str(path) for path in folders.values()])
    assert result['asked'] == dict(_file_ext=True, check_images=False)
    refused, warned, silent = [], [], []
    for (name, path), found in zip(folders.items(), result['found']):
        works = isinstance(found, dict) and not any(isinstance(image, str) for image in found.values())
        try:
            lines = check_host_data(str(path), StyleGANDataset)
        except SpiderError as error:
            assert not works and error.message.startswith('--data: '), name
            refused.append(name)
            continue
        assert works, (name, found)
        same = all(np.array_equal(image.numpy(), by_the_rules(path / file)) for file, image in found.items())
        assert same == (not any('takes pixels as they are' in line for line in lines)), (name, lines)
        assert (len(found) == 1) == any('leaves out 1 images' in line for line in lines), (name, lines)
        (warned if lines else silent).append(name)
    assert len(refused) >= 20 and len(warned) >= 10 and len(silent) >= 15
    assert {'JPEG named .png', 'CMYK JPEG', 'alpha', 'cut JPEG', '16 bits, colour'} <= set(refused)
    assert {'EXIF 6', 'other profile of a JPEG', 'PNG without an ending'} <= set(warned)
    assert {'PNG', 'JPEG', 'EXIF 1'} <= set(silent)
