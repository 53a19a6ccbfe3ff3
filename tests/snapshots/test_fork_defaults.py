"""Defaults that a fork has changed are taken from the source text of its snapshot, which is never run."""

import importlib
import pickle
import re
import sys

import pytest
import torch

from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.fork_defaults import changed_defaults, defaults_in
from spider_plugin.snapshots.rebuild import load_generator

TEXTS = {family: (resource_dir('reference_host') / 'training' / f'networks_{family}.py').read_text('utf-8')
         for family in ('stylegan2', 'stylegan3')}
SMALL = dict(z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3, channel_base=256, channel_max=16)

def with_default(text, cls, argument, value):
    """The text of a module with another default of an argument in a class's __init__."""
    before, found, after = text.partition(f'class {cls}(')
    changed, count = re.subn(rf'(\n\s+{argument}\s*)= (\[[^\]]*\]|[^,\n]+),', rf'\1= {value},', after, count=1)
    assert found and count == 1
    return before + found + changed

@pytest.fixture
def fork(tmp_path, monkeypatch, host):
    """fork(family, class, argument, value) -> (path of a snapshot of the changed module, its generator)."""
    def make(family, cls, argument, value):
        (tmp_path / 'madeup_networks.py').write_text(with_default(TEXTS[family], cls, argument, value))
        monkeypatch.syspath_prepend(str(tmp_path))
        sys.modules.pop('madeup_networks', None)
        importlib.invalidate_caches()
        module = importlib.import_module('madeup_networks')
        torch.manual_seed(0)
        G = module.Generator(**SMALL).eval()
        for name, tensor in G.named_parameters():
            if name.endswith(('bias', 'noise_strength')):
                tensor.data.normal_()
        path = tmp_path / 'fork.pkl'
        path.write_bytes(pickle.dumps(dict(G=G, D=None, G_ema=G)))
        return str(path), G
    yield make
    sys.modules.pop('madeup_networks', None)

CHANGES = [
    ('stylegan2', 'SynthesisLayer', 'activation', "'relu'"),
    ('stylegan2', 'MappingNetwork', 'lr_multiplier', '0.05'),
    ('stylegan2', 'MappingNetwork', 'num_layers', '3'),
    ('stylegan2', 'SynthesisBlock', 'architecture', "'orig'"),
    ('stylegan2', 'SynthesisBlock', 'resample_filter', '[1, 4, 6, 4, 1]'),
    ('stylegan3', 'SynthesisNetwork', 'output_scale', '0.5'),
    ('stylegan3', 'SynthesisNetwork', 'num_layers', '6'),
    ('stylegan3', 'SynthesisNetwork', 'first_stopband', '2 ** 2.3'),
    ('stylegan3', 'SynthesisLayer', 'filter_size', '4'),
]

@pytest.mark.parametrize('change', CHANGES, ids=lambda change: f'{change[0]} {change[2]}')
def test_a_fork_is_drawn_with_its_defaults(change, fork):
    path, G = fork(*change)
    z = torch.randn([2, 16])
    with torch.no_grad():
        assert torch.equal(load_generator(path)(z, None, noise_mode='const'), G(z, None, noise_mode='const'))

@pytest.mark.parametrize('family', TEXTS)
def test_the_same_text_changes_nothing(family):
    file = str(resource_dir('reference_host') / 'training' / f'networks_{family}.py')
    assert changed_defaults(TEXTS[family], file, {}) == {}
    assert changed_defaults('', file, {}) == changed_defaults(TEXTS[family], None, {}) == {}
    assert len(defaults_in(TEXTS[family])['SynthesisLayer']) >= 6

def test_what_a_snapshot_was_given_is_no_default():
    file = str(resource_dir('reference_host') / 'training' / 'networks_stylegan2.py')
    text = with_default(TEXTS['stylegan2'], 'MappingNetwork', 'lr_multiplier', '0.05')
    text = with_default(text, 'SynthesisLayer', 'activation', "'relu'")
    assert changed_defaults(text, file, {}) == dict(activation='relu', mapping_kwargs=dict(lr_multiplier=0.05))
    given = dict(activation='lrelu', mapping_kwargs=dict(lr_multiplier=0.01))
    assert changed_defaults(text, file, given) == {}

WAYS = '''
class A:
    def __init__(self, first, second=3, third: int = -4, *, on=True, name="x", rows=[1,2.5],  # a comment, fourth=4
                 power=2 ** 0.5, call=len(), none=None):
        pass

    def __init__(self, second=9):
        pass
class B(A): pass
'''

def test_ways_to_write_a_default():
    assert defaults_in(WAYS) == {'A': dict(second=3, third=-4, on=True, name='x', rows=[1, 2.5], power=2 ** 0.5, none=None)}

@pytest.mark.parametrize('text', ['class A:\n    def __init__(' * 5000, 'class A:\n    def __init__(self, ' + 'a=1, ' * 100_000,
                                  'class A:\n    def __init__(self, a=9**9**9**9, b=2**9999999):\n', '\0' * 1000, 'a=' * 500_000,
                                  'class A:\n    def __init__(self, a' + ' ' * 100_000 + '=1):'], ids=range(6))
def test_hostile_texts_end_soon(text):
    assert isinstance(defaults_in(text), dict)
