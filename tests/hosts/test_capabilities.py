"""Where a host's generator has its mapping network: found by the class that it has, not by its name or its module."""

import types

import forks
import pytest

from spider_plugin.hosts.capabilities import path_of

class Mapper:
    pass

def module(name, **names):
    made = types.ModuleType(name)
    vars(made).update(names)
    return made

@pytest.mark.parametrize('names, path', [
    (dict(Mapper=Mapper), 'Mapper'),                                            # defined there, or imported by its name
    (dict(Net=Mapper), 'Net'),                                                  # imported as
    (dict(Net=Mapper, Mapper=Mapper), 'Mapper'),
    (dict(maps=module('maps', Mapper=Mapper)), 'maps.Mapper'),                  # import maps
    (dict(m=module('maps', Net=Mapper)), 'm.Net'),
    (dict(training=module('training', maps=module('training.maps', Mapper=Mapper))), 'training.maps.Mapper'),
    (dict(Mapper=object, maps=module('maps', Mapper=Mapper)), 'maps.Mapper'),   # another class of that name
    (dict(_maps=module('maps', Mapper=Mapper), maps_2=module('maps', Mapper=Mapper)), 'maps_2.Mapper'),
    (dict(Mapper__2=Mapper), None), (dict(_Mapper=Mapper), None),               # names that a bundle's name cannot hold
    (dict(Mapper=object), None), ({}, None)])
def test_the_path_of_a_class(names, path):
    assert path_of(Mapper, module('networks', **names)) == path

def test_modules_that_import_each_other():
    first, second = module('first'), module('second')
    first.second, second.first = second, first
    assert path_of(Mapper, first) is None

@pytest.mark.parametrize('line, name', [
    ('from training import mappings', 'mappings.Mapper'),
    pytest.param('from training.mappings import Mapper as Net', 'Net', marks=pytest.mark.slow)])
def test_a_source_for_a_generator_whose_mapping_is_elsewhere(line, name, tmp_path, make_zip):
    """The residual, too, which asks StyleGAN's networks for more than a vector."""
    edits = [('self.mapping = MappingNetwork(', f'self.mapping = {name}('), ('class MappingNetwork(', 'class Unused('),
             ('import torch\n', f'import torch\n{line}\n')]
    tree = forks.make(tmp_path, {'training/networks_stylegan2.py': edits})
    stock = (forks.ROOT / 'reference_host' / 'training' / 'networks_stylegan2.py').read_text()
    (tree / 'training' / 'mappings.py').write_text(stock.replace('class MappingNetwork(', 'class Mapper('))
    data = make_zip(tmp_path / 'set.zip', n=8, res=32)
    line = ['--cfg=stylegan2', '--spider-source=strokes', '--spider-mapping=residual']
    residual, = forks.launches(tree, [line], data, tmp_path)
    assert 'Dry run; exiting' in residual and 'Dry iteration:' in residual and 'Note' not in residual, residual
