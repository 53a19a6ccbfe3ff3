"""Objects of a fork's own classes beside the network that is asked for stay inert; inside it they are a reason to refuse.

Also what else a snapshot in the wild holds: arrays as dill writes them, classes that a fork has moved, old protocols."""

import argparse
import collections
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.recognise import holds_network
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.pickle_machine import Damaged
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import HeldRecord, PersistentRecord, read_pickle
from tests.snapshots.readers import READERS

def class_in(monkeypatch, module, name, *bases, **members):
    """A class that pickles as `module.name`, which is gone after the test."""
    parts = module.split('.')
    for i in range(len(parts)):
        monkeypatch.setitem(sys.modules, '.'.join(parts[: i + 1]), types.ModuleType('.'.join(parts[: i + 1])))
    made = type(name, bases or (object,), dict(members, __module__=module, __qualname__=name))
    setattr(sys.modules[module], name, made)
    return made

@pytest.fixture
def snapshot(make_snapshot, tmp_path):
    """snapshot(**beside) -> path of a snapshot with more entries, written by pickle."""
    with open(make_snapshot(), 'rb') as file:
        whole = pickle.load(file)
    def write(protocol=4, **beside):
        path = tmp_path / 'network-snapshot-000001.pkl'
        path.write_bytes(pickle.dumps(dict(whole, **beside), protocol))
        return str(path)
    return write

# Made-up classes of forks: (module, name, base, what is done with an object of it).
BESIDE = {
    'an object':            ('training.diffusion', 'Schedule', object, lambda made: vars(made).update(steps=[1, 2], on=True)),
    'a module':             ('training.diffusion', 'Identity', torch.nn.Module, lambda made: None),
    'a dict':               ('fork.tools', 'Options', dict, lambda made: made.update(a=1, b=[2])),
    'a list':               ('fork.tools', 'Stages', list, lambda made: made.extend(range(5))),
    'a class of a package': ('pytorch_lightning.core', 'LightningModule', object, lambda made: vars(made).update(a=1)),
    'an optimizer':         ('apex.optimizers.fused_adam', 'FusedAdam', object, lambda made: vars(made).update(state={})),
}

@pytest.mark.parametrize('case', BESIDE)
def test_beside_the_network_it_is_held(case, snapshot, monkeypatch):
    module, name, base, change = BESIDE[case]
    with monkeypatch.context() as patch:
        made = class_in(patch, module, name, base)()
        change(made)
        path = snapshot(beside=made, augment_pipe=made)
    held = read_pickle(path)['beside']
    assert isinstance(held, HeldRecord) and held.class_name == f'{module}.{name}'
    assert module not in sys.modules
    expected = load_generator(snapshot())
    z = torch.randn([2, 16])
    assert torch.equal(load_generator(path)(z, None, noise_mode='const'), expected(z, None, noise_mode='const'))
    for door in ('source', 'neighbors', 'generate', 'export', 'host'):
        READERS[door](path)

def test_values_of_the_standard_library_are_held(snapshot):
    counts = collections.defaultdict(list, a=[1])
    path = snapshot(args=argparse.Namespace(lr=0.1), folder=pathlib.Path('/x'), counts=counts, device=torch.device('cuda', 0))
    contents = read_pickle(path)
    assert contents['args'].class_name == 'argparse.Namespace' and contents['counts'] == {'a': [1]}
    load_generator(path)

def test_inside_the_network_it_is_refused(snapshot, make_snapshot, monkeypatch, tmp_path):
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    with monkeypatch.context() as patch:
        G.synthesis.b8.after = class_in(patch, 'training.diffusion', 'Sharpen', torch.nn.Module)()
        path = snapshot(G_ema=G)
    said = {}
    for door in ('load', 'source', 'generate'):
        with pytest.raises(SpiderError) as caught:
            READERS[door](path)
        said[door] = caught.value.message
        assert 'has a part of the class training.diffusion.Sharpen' in said[door] and '--trust-pickle' in said[door]
    assert len(export(path, tmp_path / 'g.pt')) == 2         # its tensors are tensors

def test_a_whole_network_of_a_fork_is_named(snapshot, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        fork = class_in(patch, 'training.networks', 'Generator', torch.nn.Module)()
        fork.weight = torch.nn.Parameter(torch.ones(3))
        path = snapshot(G_ema=fork)
    for door in ('load', 'source', 'generate', 'neighbors'):
        with pytest.raises(SpiderError, match='a training.networks.Generator, which is not a known class; .*--trust-pickle'):
            READERS[door](path)
    export(path, tmp_path / 'g.pt')
    assert torch.equal(torch.load(tmp_path / 'g.pt', weights_only=True)['weight'], torch.ones(3))

@pytest.mark.parametrize('module', ['os', 'subprocess', 'builtins', 'dill._dill', 'cloudpickle.cloudpickle', 'spider_plugin.cli'])
def test_names_of_python_stay_refused(module, tmp_path):
    path = tmp_path / 'a.pkl'
    name = b'\x8c' + bytes([len(module)]) + module.encode() + b'\x8c\x05Thing\x93'
    path.write_bytes(b'\x80\4}\x8c\1x' + name + b')\x81s.')
    with pytest.raises(SpiderError, match=f'names {module}.Thing, which no network pickle needs'):
        read_pickle(path)

@pytest.mark.parametrize('module', ['training.fork', 'torch', 'numpy', 'training.networks_stylegan2'])
def test_a_call_of_an_unknown_name_is_refused(module, tmp_path):
    path = tmp_path / 'a.pkl'
    name = b'\x8c' + bytes([len(module)]) + module.encode() + b'\x8c\x05thing\x93'
    path.write_bytes(b'\x80\4}\x8c\1x' + name + b')Rs.')
    with pytest.raises(SpiderError, match=f'names {module}.thing, which no network pickle needs'):
        read_pickle(path)

#----------------------------------------------------------------------------
# dill, whose pickles hold arrays by a function of its own.

class Dilled:
    """An array that pickles as dill pickles it; `parts` replaces some of the arguments."""

    def __init__(self, array, *parts):
        self.array, self.parts = array, parts

    def __reduce__(self):
        function, args, state = self.array.__reduce__()
        return _create_array, tuple(new if new is not None else old for new, old in
                                    zip((*self.parts, *[None] * (4 - len(self.parts))), (function, args, state, None)))

def _create_array():
    pass

@pytest.fixture
def dilled(monkeypatch, tmp_path):
    def write(value):
        monkeypatch.setattr(_create_array, '__module__', 'dill._dill')
        monkeypatch.setitem(sys.modules, 'dill', types.ModuleType('dill'))
        monkeypatch.setitem(sys.modules, 'dill._dill', types.SimpleNamespace(_create_array=_create_array))
        path = tmp_path / 'dilled.pkl'
        path.write_bytes(pickle.dumps(value))
        return path
    return write

@pytest.mark.parametrize('array', [np.arange(6.).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros([0, 3]),
                                   np.array(5, np.uint8), np.array([True, False])], ids=str)
def test_arrays_of_dill(array, dilled):
    read = read_pickle(dilled(dict(x=Dilled(array))))['x']
    assert read.dtype == array.dtype and read.shape == array.shape and (read == array).all()

@pytest.mark.parametrize('parts', [(len,), (None, None, (1, (9,), np.dtype('f8'), False, b'x')), (None, (np.ndarray,)),
                                   (None, None, {'__class__': 1})], ids=str)
def test_a_forged_array_of_dill_is_refused(parts, dilled):
    with pytest.raises(SpiderError):
        read_pickle(dilled(dict(x=Dilled(np.zeros(3), *parts))))
    assert issubclass(Damaged, ValueError)

#----------------------------------------------------------------------------
# Old protocols, and classes that a fork keeps elsewhere.

VALUES = dict(numbers={1, 2}, data=b'a\xff\n\\\0', text='\u00fc\u6c34\U0001f600 \\u0041\r\n', floats=[1.5, -0.0, 1e300, 1e-7],
              large=[-(1 << 70), 1 << 33], small=[0, 1, -1, 300, 70000], flags=[True, False, None],
              parts=((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
              empty=[{}, []], array=np.arange(6, dtype=np.float32).reshape(2, 3), nested=dict(a=dict(b=[1]), c=[[2]]))

@pytest.mark.parametrize('protocol', range(6))
def test_every_protocol(protocol, snapshot, tmp_path):
    path = snapshot(protocol=protocol, **VALUES)
    contents = read_pickle(path)
    array, expected = contents['array'], VALUES['array']
    assert np.array_equal(array, expected) and array.dtype == expected.dtype
    assert all(contents[name] == VALUES[name] for name in VALUES if name != 'array')
    assert all(type(value) is bool for value in contents['flags'][:2])
    z, whole, drawn = torch.randn([1, 16]), load_generator(snapshot()), load_generator(path)
    assert torch.equal(drawn(z, None, noise_mode='const'), whole(z, None, noise_mode='const'))
    other = tmp_path / 'network.of-another-name'
    other.write_bytes(pathlib.Path(path).read_bytes())
    assert holds_network(other)

@pytest.mark.parametrize('protocol', [0, 1])
def test_a_module_by_its_class_in_old_protocols(protocol, tmp_path):
    """Protocols below 2 make an object by copyreg's _reconstructor."""
    path = tmp_path / 'old.pkl'
    path.write_bytes(pickle.dumps(dict(D=torch.nn.Linear(2, 3)), protocol))
    state = read_pickle(path)['D'].state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == dict(weight=[3, 2], bias=[3])

@pytest.mark.parametrize('data', [
    b'I1e5\n.', b'I' + b'9' * 30 + b'\n.', b'L' + b'9' * 500 + b'L\n.', b'F1.0.0\n.', b'Fos.system\n.', b'Vabc', b'V\\ud\n.',
    b'(dg9\n.', b'(dp-1\n.', b'(dpx\n.', b'(I1\nd.', b'(lp0\n(lp1\nd.',
    b'(dp0\n(lI1\ns.',
    b'ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.',
    b'ccopy_reg\n_reconstructor\n(ctorch\nSize\nc__builtin__\nint\nNtR.',
    b'ccopy_reg\n_reconstructor\n(I1\nc__builtin__\nobject\nNtR.',
    b'(ios\nsystem\n.', b'Pposix\n.', b'S"x"\n.'])
def test_damaged_and_hostile_lines(data, tmp_path):
    path = tmp_path / 'old.pkl'
    path.write_bytes(data)
    with pytest.raises(SpiderError):
        read_pickle(path)

@pytest.mark.parametrize('place', ['cuda:0', 'cuda:7', 'mps', 'xpu:0'])
def test_tensors_that_were_on_a_device_come_to_the_cpu(place, snapshot, monkeypatch):
    expected, z = load_generator(snapshot()), torch.randn([1, 16])
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, 'location_tag', lambda storage: place)
        path = snapshot()
    for trust in (False, True):
        assert torch.equal(load_generator(path, trust=trust)(z, None, noise_mode='const'), expected(z, None, noise_mode='const'))

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precisions(dtype, make_snapshot, tmp_path):
    """People halve what they publish. It is drawn from in float32, as the class of this machine has its weights."""
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema'].to(dtype)
    path = tmp_path / 'small.pkl'
    path.write_bytes(pickle.dumps(dict(G_ema=G)))
    image = load_generator(path)(torch.randn([1, 16]), None, noise_mode='const')
    assert image.dtype == torch.float32 and bool(image.isfinite().all()) and float(image.std()) > 0

def test_modules_that_a_fork_has_moved(snapshot, tmp_path):
    data = pathlib.Path(snapshot(protocol=2)).read_bytes()
    path = tmp_path / 'moved.pkl'
    path.write_bytes(data.replace(b'ctorch_utils.persistence\n', b'cmodels.stylegan.torch_utils.persistence\n'))
    assert path.read_bytes() != data
    assert isinstance(read_pickle(path)['G_ema'], PersistentRecord)
    expected, moved = load_generator(snapshot()), load_generator(path)
    z = torch.randn([1, 16])
    assert torch.equal(moved(z, None, noise_mode='const'), expected(z, None, noise_mode='const'))
