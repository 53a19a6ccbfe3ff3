"""Pickles that carry their source: format, opening without the module, and errors that must not be silent."""

import copy
import importlib.util
import io
import linecache
import pathlib
import pickle
import subprocess
import sys
import types

import pytest
import torch

import legacy
from torch_utils import persistence
from training import networks_stylegan2

SOURCE = '''
import torch
from torch_utils import persistence

@persistence.persistent_class
class Scale(torch.nn.Module):
    def __init__(self, factor, shift=0, extra=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full([3], float(factor)))
        self.shift = shift
        self.extra = extra

    def forward(self, x):
        return x * self.weight + self.shift

class Plain(Scale):
    def forward(self, x):
        return x * 0

@persistence.persistent_class
class Shifted(Scale):
    def forward(self, x):
        return super().forward(x) + helper()

def helper():
    return 100
'''

@pytest.fixture
def module(tmp_path, monkeypatch):
    """A new module with SOURCE for each test."""
    name = f'persistent_{tmp_path.name}'
    (tmp_path / f'{name}.py').write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]

def record(data):
    """Return the record of the one persistent object in a pickle, without executing it."""
    metas = []

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return metas.append if name == '_reconstruct_persistent_obj' else super().find_class(module, name)

    Unpickler(io.BytesIO(data)).load()
    return metas[-1]

#----------------------------------------------------------------------------

def test_record_is_version_6(module):
    meta = record(pickle.dumps(module.Scale(2, shift=1)))
    assert set(meta) == {'type', 'version', 'module_src', 'class_name', 'state'}
    assert (meta['type'], meta['version'], meta['module_src'], meta['class_name']) == ('class', 6, SOURCE, 'Scale')
    assert meta['state']['_init_args'] == (2,) and meta['state']['_init_kwargs'] == {'shift': 1}
    assert torch.equal(meta['state']['_parameters']['weight'], torch.full([3], 2.0))

def test_opens_without_the_module(module, tmp_path):
    nets = [module.Scale(2, shift=1), module.Shifted(3)]
    (tmp_path / 'nets.pkl').write_bytes(pickle.dumps(nets))
    tree = str(pathlib.Path(persistence.__file__).parents[1])
    code = ('import pickle, sys, torch\n'
            f'sys.path[0] = {tree!r}\n'
            'nets = pickle.load(open("nets.pkl", "rb"))\n'
            f'assert {module.__name__!r} not in sys.modules\n'
            'print(*[net(torch.ones(3)).tolist() for net in nets], nets[1].init_args)\n')
    (tmp_path / f'{module.__name__}.py').unlink()
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == '[3.0, 3.0, 3.0] [103.0, 103.0, 103.0] (3,)', done.stderr

def test_old_pickle_keeps_old_code(module):
    data = pickle.dumps(module.Scale(2))
    old = pickle.loads(data.replace(b'x * self.weight + self.shift', b'x * self.weight - self.shift'))
    assert type(old) is not module.Scale and type(old).__name__ == 'Scale'
    old.shift = 5
    assert old(torch.ones(3)).tolist() == [-3, -3, -3]
    assert type(pickle.loads(data)) is module.Scale # The same source is the live module.

    again = pickle.loads(pickle.dumps(old)) # Its source is carried on.
    assert again(torch.ones(3)).tolist() == [-3, -3, -3]

def test_arguments_are_remembered_and_copied(module):
    extra = {'list': [1]}
    net = module.Scale(2, extra=extra)
    extra['list'].append(2)
    net.init_kwargs.extra['list'].append(3)
    for same in [net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))]:
        assert same.init_args == (2,) and same.init_kwargs == {'extra': {'list': [1]}}
        assert persistence.is_persistent(same)
    assert persistence.is_persistent(module.Scale) and not persistence.is_persistent(module.Plain)
    assert persistence.persistent_class(module.Scale) is module.Scale

def test_undecorated_subclass_is_refused(module):
    net = module.Plain(2)
    with pytest.raises(pickle.PicklingError, match='Plain'):
        pickle.dumps(net)
    assert not persistence.is_persistent(net)

def test_unpicklable_state_is_refused_at_construction(module):
    with pytest.raises((pickle.PicklingError, AttributeError), match='lambda'):
        module.Scale(1, extra=[lambda: None])
    module.Scale(1, extra=[module.Scale(2), torch.zeros(2), {'a': (1, 'b', None)}])

@pytest.mark.parametrize('way', ['loader', 'linecache'])
def test_module_without_a_file(way, monkeypatch):
    class Loader:
        def create_module(self, spec):
            return None

        def exec_module(self, module):
            if way == 'linecache':
                module.__file__ = f'<{module.__name__}>'
                linecache.cache[module.__file__] = (len(SOURCE), None, SOURCE.splitlines(True), module.__file__)
            exec(SOURCE, module.__dict__)

    if way == 'loader':
        Loader.get_source = lambda self, name: SOURCE
    spec = importlib.machinery.ModuleSpec(f'made_by_{way}', Loader())
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert record(pickle.dumps(module.Shifted(1)))['module_src'] == SOURCE

def test_import_hook_sees_and_edits(module, monkeypatch):
    monkeypatch.setattr(persistence, '_import_hooks', [])
    seen = []

    @persistence.import_hook
    def hook(meta):
        seen.append((meta.type, meta.version, meta.class_name, meta.state.shift))
        meta.module_src = meta.module_src.replace('return 100', 'return 7')
        return meta

    assert pickle.loads(pickle.dumps(module.Shifted(1)))(torch.zeros(3)).tolist() == [7, 7, 7]
    assert seen == [('class', 6, 'Shifted', 0)]

def test_other_versions_and_broken_source_are_refused(module):
    meta = record(pickle.dumps(module.Scale(2)))
    with pytest.raises(pickle.UnpicklingError, match='version 7'):
        persistence._reconstruct_persistent_obj(dict(meta, version=7))
    modules = set(sys.modules)
    for _ in range(2): # The second time must not find the half-made module of the first.
        with pytest.raises(ZeroDivisionError):
            persistence._reconstruct_persistent_obj(dict(meta, module_src=SOURCE + '\n1 / 0\n'))
    assert set(sys.modules) == modules

#----------------------------------------------------------------------------

@pytest.fixture
def snapshot():
    kwargs = dict(c_dim=0, img_resolution=8, img_channels=1, channel_base=32, channel_max=4)
    G = networks_stylegan2.Generator(z_dim=4, w_dim=4, num_fp16_res=0, **kwargs)
    return dict(G=G, D=networks_stylegan2.Discriminator(num_fp16_res=0, **kwargs), G_ema=copy.deepcopy(G))

def load(data, **kwargs):
    return legacy.load_network_pkl(io.BytesIO(pickle.dumps(data)), **kwargs)

def test_load_network_pkl(snapshot):
    data = load(snapshot)
    assert data['augment_pipe'] is None and data['training_set_kwargs'] is None
    z = torch.randn(2, 4)
    assert torch.equal(data['G'](z, None, noise_mode='const'), snapshot['G'](z, None, noise_mode='const'))

def test_force_fp16(snapshot):
    data = load(snapshot, force_fp16=True)
    assert data['G_ema'].synthesis.b8.use_fp16 and data['D'].b8.use_fp16 and not snapshot['D'].b8.use_fp16
    assert data['D'].init_kwargs.conv_clamp == 256
    assert torch.equal(data['G'].mapping.fc0.weight, snapshot['G'].mapping.fc0.weight)

def test_other_files_are_refused_in_one_sentence(snapshot, monkeypatch):
    tflib = types.ModuleType('dnnlib.tflib.network')
    tflib.Network = type('Network', (), {'__module__': tflib.__name__, '__qualname__': 'Network'})
    monkeypatch.setitem(sys.modules, tflib.__name__, tflib)
    with pytest.raises(pickle.UnpicklingError, match='TensorFlow'):
        load((tflib.Network(),) * 3)
    with pytest.raises(pickle.UnpicklingError, match='holds a list'):
        load([1])
    with pytest.raises(pickle.UnpicklingError, match="'D'"):
        load(dict(snapshot, D=None))
