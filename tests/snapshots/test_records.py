"""Host pickles are read without executing anything in them."""

import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.records import PersistentRecord, generator_record, read_pickle

HOST = Path(__file__).resolve().parents[2] / 'reference_host'

#----------------------------------------------------------------------------
# Pickles of the hosts' form, written without a host.

class Global:
    """An object that pickles as the global `module.name`, or as a call of it."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args

class Pickler(pickle._Pickler):
    """A pickler that can write `Global`s that do not exist."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)
            if obj.args:
                self.save(obj.args)
                self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)

def write(path, obj):
    with open(path, 'wb') as file:
        Pickler(file, protocol=4).dump(obj)
    return path

def persistent(state, source='raise SystemExit', class_name='Generator', **kwargs):
    meta = dict(type='class', version=6, module_src=source, class_name=class_name, state=dict(state, **kwargs))
    return Global('torch_utils.persistence', '_reconstruct_persistent_obj', meta)

#----------------------------------------------------------------------------
# Honest pickles.

def test_records_and_state_dict(tmp_path):
    inner = persistent({'_parameters': {'weight': torch.nn.Parameter(torch.arange(6.).reshape(2, 3))},
                        '_buffers': {'gain': torch.tensor(2.), 'temp': torch.ones(1)}, '_modules': {},
                        '_non_persistent_buffers_set': {'temp'}}, class_name='Layer')
    plain = torch.nn.Conv2d(1, 2, 3)
    outer = persistent({'_parameters': {}, '_buffers': {'w_avg': torch.full([4], 3., dtype=torch.float16)},
                        '_modules': collections.OrderedDict(b4=inner, conv=plain, none=None),
                        '_init_args': (7,), '_init_kwargs': {'z_dim': 512}, 'gain': np.float64(0.25),
                        'taps': np.array([1, 3, 3, 1], dtype=np.int32), 'shape': torch.Size([2, 3])},
                       source=f'open({str(tmp_path / "canary")!r}, "w")')
    record = generator_record(write(tmp_path / 'n.pkl', {'G_ema': outer, 'training_set_kwargs': {'path': 'x.zip'}}))
    assert isinstance(record, PersistentRecord) and record.class_name == 'Generator'
    assert record.init_args == (7,) and record.init_kwargs == {'z_dim': 512}
    assert record.state['gain'] == 0.25 and record.state['shape'] == (2, 3)
    assert record.state['taps'].tolist() == [1, 3, 3, 1]
    tensors = record.state_dict()
    assert list(tensors) == ['w_avg', 'b4.weight', 'b4.gain', 'conv.weight', 'conv.bias']
    assert torch.equal(tensors['b4.weight'], torch.arange(6.).reshape(2, 3))
    assert torch.equal(tensors['conv.weight'], plain.weight)
    assert tensors['w_avg'].dtype == torch.float16
    assert 'canary' in record.module_src and not (tmp_path / 'canary').exists()

@pytest.mark.parametrize('array', [
    np.linspace(0, 1, 12).reshape(3, 4), np.asfortranarray(np.arange(6, dtype='>i4').reshape(2, 3)),
    np.array(['spider', 'fly']), np.zeros([0, 3], dtype=np.float32), np.array(True),
], ids=['float', 'fortran-big-endian', 'text', 'empty', 'scalar'])
@pytest.mark.parametrize('protocol', [4, 5])
def test_numpy_arrays(tmp_path, array, protocol):
    with open(tmp_path / 'a.pkl', 'wb') as file:
        pickle.dump({'array': array, 'item': array.reshape(-1)[:1].tolist()}, file, protocol=protocol)
    restored = read_pickle(tmp_path / 'a.pkl')['array']
    assert restored.dtype.kind == array.dtype.kind and np.array_equal(restored, array)

@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
def test_numpy_scalars_of_both_numpy_generations(tmp_path, core):
    scalar = Global(f'{core}.multiarray', 'scalar', np.dtype('float64'), np.float64(1.5).tobytes())
    assert read_pickle(write(tmp_path / 's.pkl', {'x': scalar}))['x'] == 1.5

def test_shared_and_strided_tensors(tmp_path):
    base = torch.arange(24.)
    contents = {'a': base.view(4, 6).t(), 'b': base[5:9], 'c': torch.zeros([0, 3]), 'd': torch.tensor(7)}
    restored = read_pickle(write(tmp_path / 't.pkl', contents))
    for key, value in contents.items():
        assert torch.equal(restored[key], value) and restored[key].stride() == value.stride()

@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_protocols_of_all_pythons(make_snapshot, tmp_path, protocol):
    with open(make_snapshot(), 'rb') as file:
        G = pickle.load(file)['G_ema']
    plain = dict(a={1, 2}, b=b'x', c=-1 << 40, d=[1.5, None])
    (tmp_path / 'g.pkl').write_bytes(pickle.dumps(dict(G_ema=G, plain=plain), protocol))
    contents = read_pickle(tmp_path / 'g.pkl')
    assert contents['plain'] == plain
    expected, tensors = G.state_dict(), contents['G_ema'].state_dict()
    assert list(tensors) == list(expected) and all(torch.equal(tensors[name], value) for name, value in expected.items())

def test_a_pickle_of_the_reference_host(tmp_path):
    script = '''if True:
        import pickle, sys, numpy as np, torch
        from training.networks_stylegan2 import Generator
        torch.manual_seed(0)
        G = Generator(z_dim=8, c_dim=3, w_dim=8, img_resolution=8, img_channels=3, channel_base=64, channel_max=8).eval()
        with open(sys.argv[1] + '/G.pkl', 'wb') as file:
            pickle.dump(dict(G=G, D=None, G_ema=G, augment_pipe=None, training_set_kwargs={}), file)
        torch.save(G.state_dict(), sys.argv[1] + '/G.pt')
    '''
    subprocess.run([sys.executable, '-c', script, str(tmp_path)], cwd=HOST, check=True)
    record = generator_record(tmp_path / 'G.pkl')
    assert record.class_name == 'Generator' and record.init_kwargs['c_dim'] == 3
    expected, tensors = torch.load(tmp_path / 'G.pt', weights_only=True), record.state_dict()
    assert list(tensors) == list(expected)
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())

#----------------------------------------------------------------------------
# Hostile pickles: the canary file must not appear.

def canary(tmp_path):
    return f'{sys.executable} -c "open({str(tmp_path / "canary")!r}, str(chr(119)))"'

HOSTILE = {
    'os.system':         lambda do: Global('os', 'system', do),
    'posix.system':      lambda do: Global('posix', 'system', do),
    'builtins.eval':     lambda do: Global('builtins', 'eval', f'__import__("os").system({do!r})'),
    'builtins.getattr':  lambda do: Global('builtins', 'getattr', 'x', 'join'),
    'dotted name':       lambda do: Global('collections', 'OrderedDict.__init__.__globals__'),
    'subprocess':        lambda do: Global('subprocess', 'check_call', do),
    'torch.load':        lambda do: Global('torch', 'load', 'x'),
    'torch.hub':         lambda do: Global('torch.hub', 'load', 'x', 'y'),
    'host class':        lambda do: Global('training.networks_stylegan2', 'Generator', 1),
    'copyreg':           lambda do: Global('copyreg', '_reconstructor', object, object, None),
    'nested':            lambda do: Global('torch.storage', '_load_from_bytes', pickle.dumps(_System(do))),
    'nested zip':        lambda do: Global('torch.storage', '_load_from_bytes', b'PK\3\4' + bytes(100)),
    'in a record':       lambda do: persistent({'_modules': {'x': Global('os', 'system', do)}}),
    'after a module':    lambda do: [torch.nn.Linear(1, 1), Global('torch.nn.modules.linear', 'os'), Global('os', 'getcwd')],
    'object array':      lambda do: np.array([_System(do), None], dtype=object),
    'object scalar':     lambda do: Global('numpy.core.multiarray', 'scalar', np.dtype('O'), 'x'),
    'forged structure':  lambda do: Global('numpy.core.multiarray', 'scalar', np.dtype([('a', 'O')]), bytes(8)),
    'huge tensor':       lambda do: Global('torch._utils', '_rebuild_tensor_v2', torch.zeros(1).storage(), 0, (2**40,), (0,)),
    'tensor beyond':     lambda do: Global('torch._utils', '_rebuild_tensor_v2', torch.zeros(4).storage(), 2, (3,), (1,)),
    'negative stride':   lambda do: Global('torch._utils', '_rebuild_tensor_v2', torch.zeros(4).storage(), 3, (3,), (-1,)),
    'bad module state':  lambda do: persistent({'_modules': {3: None}}),
    'no class':          lambda do: persistent({}, class_name=7),
}

class _System:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)

@pytest.mark.filterwarnings('ignore:TypedStorage', 'ignore:Detected pickle')
@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_pickles(tmp_path, kind):
    path = write(tmp_path / 'evil.pkl', {'G_ema': HOSTILE[kind](canary(tmp_path))})
    with pytest.raises(SpiderError, match='evil.pkl') as caught:
        read_pickle(path)
    assert not (tmp_path / 'canary').exists()
    assert caught.value.exit_code == 2 and '\n' not in caught.value.message

def test_the_canary_works(tmp_path):
    pickle.loads(pickle.dumps(_System(canary(tmp_path))))
    assert (tmp_path / 'canary').exists()

def build(target, state):
    """Return a pickle that assigns `state` to the attributes of the global `target`."""
    text = b''.join(pickle.SHORT_BINUNICODE + bytes([len(part)]) + part.encode() for part in target)
    return b'\x80\4' + text + pickle.STACK_GLOBAL + pickle.dumps((None, state), 2)[2:-1] + pickle.BUILD + b'.'

@pytest.mark.parametrize('target', [
    ('torch._utils', '_rebuild_tensor_v2'), ('torch_utils.persistence', '_reconstruct_persistent_obj'),
    ('numpy', 'dtype'), ('torch.nn.modules.linear', 'Linear'), ('collections', 'OrderedDict'),
], ids='.'.join)
def test_names_cannot_be_patched(tmp_path, target):
    (tmp_path / 'patch.pkl').write_bytes(build(target, {'__call__': 1, '_call': 1, 'patched': 1, '__init__': 1}))
    with pytest.raises(SpiderError):
        read_pickle(tmp_path / 'patch.pkl')
    write(tmp_path / 'fine.pkl', {'x': torch.ones(2), 'm': torch.nn.Linear(1, 1), 'n': np.float32(1)})
    assert torch.equal(read_pickle(tmp_path / 'fine.pkl')['x'], torch.ones(2))

def test_modules_that_contain_each_other_end(tmp_path):
    module = persistent({'_modules': {}})
    record = read_pickle(write(tmp_path / 'knot.pkl', {'G_ema': module}))['G_ema']
    record.state['_modules'].update(a=record, b=record)
    with pytest.raises(SpiderError, match='modules'):
        record.state_dict()

#----------------------------------------------------------------------------
# Damaged files.

def test_damaged_files(tmp_path):
    path = write(tmp_path / 'whole.pkl', {'G_ema': persistent({'_parameters': {'w': torch.ones(100)}})})
    data = path.read_bytes()
    for cut in (0, 1, 10, len(data) // 2, len(data) - 1):
        (tmp_path / 'cut.pkl').write_bytes(data[:cut])
        with pytest.raises(SpiderError, match='cut.pkl'):
            read_pickle(tmp_path / 'cut.pkl')
    (tmp_path / 'noise.pkl').write_bytes(np.random.RandomState(0).bytes(1000))
    with pytest.raises(SpiderError, match='noise.pkl'):
        read_pickle(tmp_path / 'noise.pkl')
    with pytest.raises(SpiderError, match='nowhere.pkl'):
        read_pickle(tmp_path / 'nowhere.pkl')
    with pytest.raises(SpiderError, match='list.pkl'):
        read_pickle(write(tmp_path / 'list.pkl', [1]))
    with pytest.raises(SpiderError, match='G_ema'):
        generator_record(write(tmp_path / 'empty.pkl', {'G': 1}))
