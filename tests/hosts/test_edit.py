"""spider_plugin.edit_config: from a command line or a mapping to the config that the hook would make, without a hook."""

import copy
import json

import pytest

import spider_plugin
from spider_plugin import SpiderError, edit_config
from spider_plugin.hosts.capabilities import Host
from spider_plugin.options.table import OPTIONS, apply_options
from spider_plugin.resources import resource_dir

@pytest.fixture
def config(make_zip, tmp_path, host):
    return dict(
        training_set_kwargs = dict(class_name='training.dataset.ImageFolderDataset',
                                   path=make_zip(tmp_path / 'target.zip', n=30, res=16), use_labels=False, max_size=None),
        G_kwargs            = dict(class_name='training.networks_stylegan2.Generator', z_dim=32, w_dim=32, channel_base=256,
                                   channel_max=16, mapping_kwargs=dict(num_layers=2)))

@pytest.fixture
def source(make_zip, tmp_path):
    return make_zip(tmp_path / 'flies.zip', n=40, res=16, seed=5)

def test_equals_the_edit_of_the_hook(config, source):
    before, lines = copy.deepcopy(config), []
    edited = edit_config(config, [f'--spider-source={source}', '--spider-noise', '0.1', '--dsc'], log=lines.append)
    assert config == before and json.loads(json.dumps(edited)) == edited
    wanted = copy.deepcopy(config)
    values = {option.key: option.default for option in OPTIONS} | dict(spider_source=source, spider_noise=0.1, dsc=True, cfg=None)
    assert apply_options(wanted, values, given={'spider_source', 'spider_noise', 'dsc'}, host=Host(wanted)) == lines
    assert edited == wanted and edited['G_kwargs']['class_name'].startswith('spider_plugin.bundles.spider_dsc_on_')

def test_a_mapping_says_the_same(config, source):
    words = ['--spider-source', source, '--spider-mapping=encoder', '--spider-bank=2k', '--dsc', '--dsc-res=8-16']
    mapping = dict(spider_source=source, spider_mapping='encoder', spider_bank='2k', dsc=True, dsc_res=(8, 16), disc=None)
    assert edit_config(config, words, log=lambda line: None) == edit_config(config, mapping, log=lambda line: None)

def test_nothing_given_changes_nothing(config, capsys):
    defaults = {option.key: option.default for option in OPTIONS}
    for options in ([], {}, defaults, {'spider_source': None}):
        assert edit_config(config, options) == config and capsys.readouterr().out == ''

def test_the_edited_generator_trains_from_the_source(config, source, host):
    import importlib

    import torch
    edited = edit_config(config, {'spider_source': source}, host=resource_dir('reference_host'), log=lambda line: None)
    kwargs = dict(edited['G_kwargs'])
    module, _, name = kwargs.pop('class_name').rpartition('.')
    G = getattr(importlib.import_module(module), name)(c_dim=0, img_resolution=16, img_channels=3, **kwargs)
    z = torch.randn([4, G.z_dim])
    images = G(z, None, noise_mode='const')
    assert (images - G.source.sample(z)).abs().mean() < 0.15 and images.requires_grad

def test_a_plugin_generator_needs_the_parts_that_it_edits(config):
    with pytest.raises(SpiderError, match='The config has no loss_kwargs|needs the loss of StyleGAN2'):
        edit_config(config, ['--cfg=dcgan'])
    with pytest.raises(SpiderError, match='--cfg=dcgn is not a known generator'):
        edit_config(config, ['--cfg=dcgn'])

@pytest.mark.parametrize('options, words', [
    (['--spider-sorce=x'],          '--spider-sorce'),
    (['--spider-bank=many'],        "'many' is neither a number of images"),
    (['stray'],                     'unexpected extra argument'),
    ('--dsc',                       'is one string; give a list'),
    ({'spider_sorce': 'x'},         "did you mean 'spider_source'"),
    ({'spider_bank': 'many'},       "spider_bank='many': 'many' is neither"),
    ({'spider_mapping': 'encoder'}, '--spider-mapping has no effect without --spider-source'),
    ({'spider_source': 'no.zip'},   'no.zip does not exist'),
])
def test_refusals_are_one_sentence(config, options, words):
    before = copy.deepcopy(config)
    with pytest.raises(SpiderError, match=words) as caught:
        edit_config(config, options)
    assert '\n' not in caught.value.message and config == before

def test_a_config_of_another_kind():
    for config in ({}, {'training_set_kwargs': {'path': 'x.zip'}}):
        with pytest.raises(SpiderError, match='The config has no training_set_kwargs with a class_name'):
            spider_plugin.edit_config(config, ['--dsc'])
