"""The public names: there, light, typed, and with errors and reprs that can be read."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import spider_plugin
from spider_plugin import PUBLIC, SpiderError

def python(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

def test_names_are_listed_before_they_are_imported():
    assert python('import sys, spider_plugin; print(set(spider_plugin.PUBLIC) <= set(dir(spider_plugin)), '
                  '"torch" in sys.modules, "click" in sys.modules)') == 'True False False'
    assert python('from spider_plugin import *; print(edit_config.__name__, metrics.__name__, nn.__name__)') == \
        'edit_config spider_plugin.metrics spider_plugin.nn'

@pytest.mark.parametrize('name', PUBLIC)
def test_every_name_is_what_the_table_says(name):
    value = getattr(spider_plugin, name)
    module = PUBLIC[name]
    assert value is (importlib.import_module(f'spider_plugin.{name}') if module is None else getattr(sys.modules[module], name))
    assert value.__doc__ and (module is None or value.__module__ == module)

def test_the_types_name_the_same_things():
    """The imports under TYPE_CHECKING, which tools read, are those of the table."""
    import ast
    tree = ast.parse(open(spider_plugin.__file__, encoding='utf-8').read())
    block, = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == {name: module or 'spider_plugin' for name, module in PUBLIC.items()}

def test_no_other_name():
    with pytest.raises(AttributeError, match="module 'spider_plugin' has no attribute 'Imagebank'"):
        _ = spider_plugin.Imagebank

@pytest.mark.slow
def test_sid_is_the_module_whatever_is_imported_first():
    """spider_plugin.metrics.sid.sid is a name that others rely on."""
    imports = ['import spider_plugin.metrics.sid', 'from spider_plugin.metrics.sid import sid', 'import spider_plugin',
               'from spider_plugin import metrics', 'from spider_plugin.metrics import sid, fid']
    for first in imports:
        assert python(f'{first}\nimport spider_plugin\nprint(spider_plugin.metrics.sid.sid.__name__, '
                      'spider_plugin.metrics.fid.__name__, spider_plugin.metrics.kid.__name__)') == 'sid fid kid'

def test_a_script_catches_errors_as_value_errors(tmp_path):
    for call in (lambda: spider_plugin.prepare_source(str(tmp_path / 'no.zip')),
                 lambda: spider_plugin.load_generator(str(tmp_path / 'no.pkl')),
                 lambda: spider_plugin.ImageBank.from_folder(tmp_path / 'no'),
                 lambda: spider_plugin.metrics.fid(np.zeros([3]), np.zeros([3])),
                 lambda: spider_plugin.evaluate(str(tmp_path / 'no.pkl'), str(tmp_path / 'no.zip')),
                 lambda: spider_plugin.rank_sources(tmp_path / 'no.zip', ['noise'])):
        with pytest.raises(ValueError) as caught:
            call()
        assert isinstance(caught.value, SpiderError) and str(caught.value) == caught.value.message
        assert '\n' not in caught.value.message and caught.value.message.endswith('.')

def test_reprs_are_one_short_line(make_zip, tmp_path):
    rng = np.random.default_rng(0)
    p, q = rng.standard_normal([60, 8]), rng.standard_normal([70, 8])
    path = make_zip(tmp_path / 'flies.zip', n=20, res=16)
    reprs = {
        'SIDResult(value=':                               spider_plugin.metrics.sid.sid(p, q),
        'Distance(value=':                                spider_plugin.metrics.fid(p, q),
        'Moments(60 vectors of 8 dimensions on cpu)':     spider_plugin.metrics.Moments(p),
        'ImageBank(flies: 20 images, 3 x 16 x 16)':       spider_plugin.ImageBank.from_folder(path),
        'PreparedSource(flies: 20 images, 3 x 16 x 16':   spider_plugin.prepare_source(path),
        'SeparableConv2d(4, 6, bias=True':                spider_plugin.nn.SeparableConv2d(4, 6),
    }
    for begins, value in reprs.items():
        assert repr(value).startswith(begins) and '\n' not in repr(value) and len(repr(value)) < 200

def test_a_discriminator_without_labels():
    small = dict(backbone='random', heads='separable', feature_resolution=128, augment=False)
    D = spider_plugin.ProjectedDiscriminator(0, 32, 3, **small)
    images = torch.rand([2, 3, 32, 32]) * 2 - 1
    D.eval()
    assert torch.equal(D(images), D(images, None)) and torch.equal(D(images), D(images, torch.zeros([2, 0])))
    conditional = spider_plugin.ProjectedDiscriminator(5, 32, 3, **small)
    with pytest.raises(ValueError, match='needs labels c'):
        conditional(images)
    for wrong, words in ((dict(heads='both'), 'heads are standard'), (dict(feature_resolution=100), 'multiple of 32')):
        with pytest.raises(SpiderError, match=words):
            spider_plugin.ProjectedDiscriminator(0, 32, 3, **small | wrong)
