"""Declarations of other packages: what is wrong with them is said before training; options that their generators bring."""


import click
import pytest
import torch

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options import resume as resume_edit
from spider_plugin.options.generators import PluginGenerator
from spider_plugin.options.mappings import MappingKind
from spider_plugin.options.table import OPTIONS, all_options
from spider_plugin.options.types import Option
from spider_plugin.registry import mappings
from spider_plugin.snapshots.warm_start import fit_layers
from tests.options.edits import carried, edit, host, host_config

pytestmark = pytest.mark.usefixtures('target_in_this_directory')

#----------------------------------------------------------------------------

# Declarations of other packages: what is wrong with them is said before training.

class Built:
    """A generator as hosts read it."""

    z_dim = c_dim = img_resolution = img_channels = num_ws = mapping = synthesis = 1

@pytest.fixture
def foreign():
    """foreign(edit, **fields): --cfg=mine is a generator of another package."""
    registry.load_plugins()
    before = registry.generators.registered()
    yield lambda edit, **fields: registry.generators.register('mine')(PluginGenerator(edit, **fields))
    registry.generators.restore(before)

def host_with(network):
    made = host()
    made.network = lambda name: network()
    return made

def put(c, given, host):
    c['G_kwargs'] = dict(class_name='my_package.net.MyNet')

def drop_class(c, given, host):
    c['D_kwargs'] = dict(width=3)

def drop_part(c, given, host):
    del c['loss_kwargs']

def put_no_json(c, given, host):
    c['G_kwargs'] = dict(class_name='collections.OrderedDict', width=torch.zeros(1))

def put_another(c, given, host):
    c['G_kwargs'] = dict(class_name='my_package.net.OtherNet')

@pytest.mark.parametrize('edit_it, network, words', [
    (drop_class,            Built,          '--cfg=mine leaves D_kwargs without a class_name'),
    (drop_part,             Built,          '--cfg=mine leaves loss_kwargs without a class_name'),
    (put_no_json,           Built,          '--cfg=mine puts a value into G_kwargs that is no JSON'),
    (put_another,           Built,          '--cfg=mine puts a OtherNet into the config, but declares the generator MyNet'),
    (lambda c: None,        Built,          '--cfg=mine failed in the code of its package .TypeError: .*positional argument'),
    (lambda *_: {}['rate'], Built,          '--cfg=mine failed in the code of its package .KeyError: .*rate'),
    (put,                   lambda: 1 / 0,  '--cfg=mine failed in the code of its package .ZeroDivisionError'),
    (put,                   object,         '--cfg=mine makes a generator without z_dim, which hosts read'),
])
def test_an_edit_of_another_package_that_fails_is_one_sentence(foreign, edit_it, network, words):
    foreign(edit_it, module='my_package.net', generator='MyNet')
    with pytest.raises(SpiderError, match=words) as caught:
        edit(host=host_with(network), cfg='mine', given=['cfg'])
    assert '\n' not in caught.value.message and caught.value.message.endswith('.')

def test_a_mapping_of_another_package_is_built_with_a_source_that_follows(source, snapshot, monkeypatch):
    monkeypatch.setitem(mappings._entries, 'mine', MappingKind(32, 4, module='my_package.maps'))
    monkeypatch.setattr('spider_plugin.bundles.names.with_mapping_kind', lambda class_name, kind: class_name)
    monkeypatch.setattr('spider_plugin.options.spider.needed_package', lambda module, what: [])
    before = edit(spider_source=source, spider_mapping='encoder')[0]['G_kwargs']['spider']
    snapshot(before | {'mapping': 'mine'}, **carried(before))
    with pytest.raises(SpiderError, match='--spider-mapping=mine failed in the code of its package .ZeroDivisionError'):
        edit(host_config(resume_pkl='old.pkl'), host=host_with(lambda: 1 / 0))

@pytest.mark.parametrize('warm_start, words', [
    (None,                              '--dsc cannot start from --resume=old.pkl, .*: --cfg=mine declares no way'),
    ('no_such_package.warm.fit',        '--cfg=mine failed in the code of its package .ModuleNotFoundError'),
    ('collections.no_such_function',    '--cfg=mine failed in the code of its package .AttributeError'),
])
def test_a_dense_snapshot_needs_a_warm_start(foreign, warm_start, words):
    foreign(put, dsc=True, warm_start=warm_start)
    with pytest.raises(SpiderError, match=words):
        resume_edit._fit('mine', 'old.pkl', fresh_layers=True)

def test_without_fresh_layers_no_warm_start_is_needed(foreign):
    foreign(put, dsc=True)
    assert resume_edit._fit('mine', 'old.pkl', fresh_layers=False)({'a': 1}, None) == ({'a': 1}, {})
    assert resume_edit._fit(None, 'old.pkl', fresh_layers=True) is fit_layers

def test_a_warm_start_of_another_package_that_fails_is_one_sentence(foreign):
    foreign(put, dsc=True, warm_start='operator.truediv')
    with pytest.raises(SpiderError, match='--cfg=mine with --dsc and --resume failed in the code of its package .TypeError'):
        resume_edit._fit('mine', 'old.pkl', fresh_layers=True)({}, None)

#----------------------------------------------------------------------------
# Options that a generator of another package brings.

WIDTH = Option('--mine-width', int, 3, 'INT', 'Width', 'Mine')

def put_width(c, given, host, mine_width):
    c['G_kwargs'] = dict(class_name='collections.OrderedDict', width=mine_width, given='mine_width' in given)

def test_an_option_that_a_generator_brings_reaches_its_edit(foreign):
    foreign(put_width, options=(WIDTH,))
    assert all_options() == [*OPTIONS, WIDTH]
    for options, kwargs in (({}, dict(width=3, given=False)), (dict(mine_width=5), dict(width=5, given=True))):
        c, _ = edit(host=host_with(Built), cfg='mine', given=['cfg'], **options)
        assert c['G_kwargs'] == dict(class_name='collections.OrderedDict', **kwargs)
    with pytest.raises(SpiderError, match='--mine-width has no effect without --cfg=mine; leave it out'):
        edit(cfg='dcgan', given=['cfg'], mine_width=5)

def test_two_generators_share_an_option(foreign):
    foreign(put_width, options=(WIDTH,))
    registry.generators.register('mine2')(PluginGenerator(put_width, options=(WIDTH,)))
    assert all_options() == [*OPTIONS, WIDTH]
    with pytest.raises(SpiderError, match='--mine-width has no effect without --cfg=mine or mine2'):
        edit(mine_width=5)

@pytest.mark.parametrize('options, words', [
    (7,                                                     'field options of .* is 7; .* tuple'),
    ((click.Option(['--mine-width']),),                     'hold <Option mine_width>; give an Option with a name'),
    ((Option('mine', int, 3, None, '', ''),),               'hold Option.*; give an Option with a name'),
    ((Option('--dsc', bool, False, None, '', ''),),         'option --dsc of .* has the name of an option of the plugin'),
    ((Option('--mine-width', str, '', None, '', ''),),      "--mine-width of .* the name of an option of the generator 'mine'"),
])
def test_options_that_clash_are_one_sentence(foreign, options, words):
    foreign(put_width, options=(WIDTH,))
    with pytest.raises(SpiderError, match=words):
        registry.generators.register('other')(PluginGenerator(put_width, options=options))

#----------------------------------------------------------------------------
