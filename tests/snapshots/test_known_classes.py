"""Classes of a generator.json come from the table, and any other name is not even imported."""

import json
import sys

import pytest

from spider_plugin import registry
from spider_plugin.portable.source.bank import open_source
from spider_plugin.snapshots.families import add_host_to_path, class_named

EVIL = ['os.system', 'builtins.exec', 'antigravity.fly', 'spider_plugin.bundles.spider_on_antigravity.SpiderGenerator',
        'spider_plugin.bundles.spider_on_training__networks_stylegan2.torch', 'training.networks_stylegan2.MappingNetwork',
        'training.dataset.ImageFolderDataset', 'spider_plugin.registry.load_plugins', '', '.', 'Generator', '\x1b[2J.x']

@pytest.mark.parametrize('name', EVIL)
def test_other_names_are_refused(name, tmp_path):
    info = dict(identity={}, class_name=name, init_kwargs=dict(command='echo > executed'), z_dim=4, c_dim=0)
    (tmp_path / 'generator.json').write_text(json.dumps(info))
    with pytest.raises(ValueError, match='is not a known class') as error:
        open_source(str(tmp_path))
    assert str(error.value).isprintable() and 'antigravity' not in sys.modules

def test_the_classes_of_snapshots_are_known():
    add_host_to_path()
    declared = [declared.class_name for declared in registry.generators.values() if declared.module is not None]
    features = ['spider_on', 'dsc_on', 'spider_dsc_on', 'fast_on']
    labels = ['SpiderGenerator', 'DSCGenerator', 'SpiderDSCGenerator', 'FastGenerator']
    over = [f'spider_plugin.bundles.{feature}_training__networks_stylegan2.{label}' for feature, label in zip(features, labels)]
    assert declared
    for name in ['training.networks_stylegan2.Generator', 'training.networks_stylegan3.Generator', *over, *declared]:
        assert class_named(name).__name__ == name.rpartition('.')[2]
