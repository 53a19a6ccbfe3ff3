"""Bundles: one self-contained module each, and snapshots that open without the plugin, bit for bit."""

import ast
import importlib
import inspect
import pickle
import subprocess
import sys

import pytest
import torch

from spider_plugin.bundles.names import (
    BundleName,
    class_with,
    fast_discriminator,
    features_named,
    host_class,
    spider_class_name,
)
from spider_plugin.bundles.source import bundle_source
from spider_plugin.resources import resource_dir

NAMES = ['spider_on_training__networks_stylegan2', 'dcgan', 'spider_dsc_fast_on_training__networks_stylegan2',
         'dsc_on_training__networks_stylegan3', 'fast_on_training__networks_stylegan3',
         'fastdisc_on_training__networks_stylegan2']

#----------------------------------------------------------------------------

@pytest.mark.parametrize('name', NAMES)
def test_a_bundle_imports_nothing_of_the_plugin(name):
    tree = ast.parse(bundle_source(name))
    allowed = set(sys.stdlib_module_names) | {'torch', 'numpy', 'torch_utils', 'training'}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split('.')[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module.split('.')[0] in allowed

@pytest.mark.parametrize('name', NAMES)
def test_no_name_is_defined_twice(name):
    defined = [node.name for node in ast.parse(bundle_source(name)).body
               if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert len(defined) == len(set(defined))

def test_features_add_up_in_any_order():
    both = 'spider_plugin.bundles.spider_dsc_on_a__b.SpiderDSCGenerator'
    for first, second in (('spider', 'dsc'), ('dsc', 'spider')):
        assert class_with(class_with('a.b.Generator', first), second) == both
    assert host_class(both) == (['spider', 'dsc'], 'a.b.Generator') and host_class('a.b.Generator') == ([], 'a.b.Generator')
    assert features_named('SpiderDSCFastGenerator') == ['spider', 'dsc', 'fast'] and features_named('Generator') == []
    assert features_named('DSCSpiderGenerator') is None and features_named('Evil') is None

def test_class_names():
    assert spider_class_name('a.b.Generator') == 'spider_plugin.bundles.spider_on_a__b.SpiderGenerator'
    with pytest.raises(ValueError, match='a.b.Net'):
        spider_class_name('a.b.Net')
    assert fast_discriminator('a.b.Discriminator') == 'spider_plugin.bundles.fastdisc_on_a__b.FastDiscriminator'
    with pytest.raises(ValueError, match='expected a class named Discriminator'):
        fast_discriminator('a.b.Generator')

@pytest.mark.parametrize('mapping, stylegan, bundle', [
    ('Dummy', False, 'mapped_on_a__b__Dummy'), ('m.Dummy', False, 'mapped_on_a__b____m__Dummy'),
    ('Mapper', True, 'spider_on_a__b____Mapper'), ('m.n.Mapper_2', True, 'spider_on_a__b____m__n__Mapper_2')])
def test_mapping_networks_of_other_names_and_modules(mapping, stylegan, bundle):
    name = spider_class_name('a.b.Generator', mapping, stylegan)
    assert name == f'spider_plugin.bundles.{bundle}.SpiderGenerator' and host_class(name)[1] == 'a.b.Generator'
    parts = BundleName.parse(bundle)
    assert (parts.host, parts.mapping, str(parts)) == ('a.b', mapping, bundle)
    assert host_class(class_with(name, 'dsc'))[1] == 'a.b.Generator'
    text = bundle_source(bundle)
    assert f'class SpiderMapping(SpiderMappingMixin, _host.{mapping}):' in text and 'import a.b as _host' in text
    assert ('class SpiderSynthesis(' in text) == stylegan

def test_an_unknown_bundle_is_not_a_module():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('spider_plugin.bundles.nonsense')

#----------------------------------------------------------------------------
# A snapshot-like pickle is written by this process and opened by one that has only the reference host on its path.

OPEN_WITHOUT_PLUGIN = '''
import pickle, sys, torch
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] not in ('spider_plugin', 'torch_utils_ext'), name
sys.meta_path.insert(0, Forbidden())
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
with open(sys.argv[2], 'rb') as f:
    data = pickle.load(f)
torch.save([data['G'](data['z'], None, noise_mode='const'), type(data['G']).__name__], sys.argv[3])
'''

@pytest.mark.parametrize('kind, source', [
    ('residual', 'bank'), ('encoder', 'bank'), *(pytest.param(*other, marks=pytest.mark.slow) for other in (
        ('residual', 'online'), ('paper-23x23', 'bank'), ('whitened', 'bank')))])
def test_a_snapshot_opens_without_the_plugin(kind, source, prepared, make_generator, tmp_path):
    G = make_generator(prepared(source, res=32), mapping=kind, z_dim=512, res=32, noise=0.1)
    assert inspect.getsource(sys.modules[type(G).__mro__[1].__module__]) == bundle_source(NAMES[0])
    z = torch.randn([4, 512], generator=torch.Generator().manual_seed(0))
    (tmp_path / 'G.pkl').write_bytes(pickle.dumps({'G': G, 'z': z}))
    (tmp_path / 'open.py').write_text(OPEN_WITHOUT_PLUGIN)
    tree = str(resource_dir('reference_host'))
    subprocess.run([sys.executable, 'open.py', tree, 'G.pkl', 'out.pt'], cwd=tmp_path, check=True)
    images, name = torch.load(tmp_path / 'out.pt')
    opened = pickle.loads((tmp_path / 'G.pkl').read_bytes())['G']
    assert name == 'SpiderGenerator' and (images - opened(z, None, noise_mode='const')).abs().max() == 0
    if source == 'bank':
        assert torch.equal(images, G(z, None, noise_mode='const'))
