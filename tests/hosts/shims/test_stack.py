"""Shims: their probes and effects, and that a host gets them in every process and their names are printed once."""

import inspect
import sys
import types

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import imports, saving
from spider_plugin.hosts.shims import stack

SHIMS = {shim.name: shim for shim in stack.SHIMS}

@pytest.fixture(autouse=True)
def named_anew(monkeypatch):
    monkeypatch.setattr(stack, '_named', set())

def module(name='m', source=''):
    made = types.ModuleType(name)
    exec(source, made.__dict__)
    return made

#----------------------------------------------------------------------------
# For each shim, a subject that needs it and one that does not, on a stack that lacks the feature and on one that has it.

def test_every_shim_has_a_reason_of_one_sentence():
    for shim in stack.SHIMS:
        assert shim.reason and '. ' not in shim.reason and '\n' not in shim.reason

def test_pkg_resources_is_provided_only_if_it_is_missing(monkeypatch):
    real = types.SimpleNamespace(find_spec=lambda name, path=None, target=None: name == 'pkg_resources' or None)
    monkeypatch.setattr(sys, 'meta_path', [])
    assert SHIMS['pkg_resources'].needed()
    monkeypatch.setattr(sys, 'meta_path', [real])
    assert not SHIMS['pkg_resources'].needed()
    stub = module('pkg_resources')
    SHIMS['pkg_resources'].apply(stub)
    assert stub.parse_version('2.13.0+cpu') >= stub.parse_version('1.11.0a') > stub.parse_version('1.9')
    assert not hasattr(stub, '__path__')
    with pytest.raises(ImportError, match='working_set'):
        _ = stub.working_set

OLD_SAMPLER = '''
import torch
class InfiniteSampler(torch.utils.data.Sampler):
    def __init__(self, dataset):
        super().__init__(dataset)
'''

def test_sampler(monkeypatch):
    old, new = module(source=OLD_SAMPLER), module(source=OLD_SAMPLER.replace('(dataset)', '()'))
    shim, sampler = SHIMS['sampler'], torch.utils.data.Sampler
    assert not shim.asks(new) and not shim.asks(module())
    with monkeypatch.context() as patch:
        patch.setattr(sampler, '__init__', lambda self, data_source=None: None)
        assert not shim.needed() and not shim.asks(old)
    assert shim.needed() and shim.asks(old)
    monkeypatch.setattr(sampler, '__init__', sampler.__init__) # What apply changes is put back.
    shim.apply(old)
    old.InfiniteSampler([1]), new.InfiniteSampler

def test_betas(monkeypatch, capsys):
    c = dict(G_opt_kwargs=dict(betas=[0, 0.99]), D_opt_kwargs=dict(lr=1.0), G_kwargs=dict(class_name='no.G'),
             D_kwargs=dict(class_name='no.D'))
    assert SHIMS['betas'].needed()
    stack.mend_launch(c)
    stack.mend_launch(c)
    betas = c['G_opt_kwargs']['betas']
    assert betas == [0.0, 0.99] and isinstance(betas[0], float) and 'betas' not in c['D_opt_kwargs']
    assert capsys.readouterr().err.count('spider-plugin: shim betas: ') == 1
    c['G_opt_kwargs']['betas'] = [0, 0.99]
    monkeypatch.setenv('SPIDER_SHIMS', 'off')
    stack.mend_launch(c)
    assert isinstance(c['G_opt_kwargs']['betas'][0], int)
    monkeypatch.delenv('SPIDER_SHIMS')
    monkeypatch.setattr(torch.optim, 'Adam', lambda *args, **kwargs: None) # One that takes them.
    stack.mend_launch(c)
    assert isinstance(c['G_opt_kwargs']['betas'][0], int)

def test_sqrtm(monkeypatch):
    import scipy.linalg
    fid = module(source='def fid(m):\n    import scipy.linalg\n    s, _ = scipy.linalg.sqrtm(m, disp=False)\n    return s')
    shim, stock = SHIMS['sqrtm'], scipy.linalg.sqrtm
    assert shim.asks(fid) and not shim.asks(module(source='def fid(m):\n    return m'))
    monkeypatch.setattr(scipy.linalg, 'sqrtm', lambda A, disp=True, blocksize=64: (A, 0))
    assert not shim.needed()
    monkeypatch.setattr(scipy.linalg, 'sqrtm', lambda A: stock(A))
    assert shim.needed()
    shim.apply(fid)
    assert fid.fid([[4.0, 0.0], [0.0, 9.0]]).tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert scipy.linalg.sqrtm([[4.0]]).tolist() == [[2.0]]

def test_buffers(monkeypatch):
    asks = module(source='def loop(DDP, m):\n    return DDP(m, broadcast_buffers=False)')
    shim, sent = SHIMS['buffers'], []
    assert shim.asks(asks) and not shim.asks(module(source='def loop(DDP, m):\n    return DDP(m)')) and shim.needed()
    extended = module(source='def training_loop(DDP, m):\n    return DDP(m, broadcast_buffers=False)')
    saving.extend(extended)
    assert shim.asks(extended)
    class Parallel(torch.nn.Module):
        def __init__(self, module, device_ids=None, broadcast_buffers=True):
            super().__init__()
            self.module = module
    monkeypatch.setattr(torch.nn.parallel, 'DistributedDataParallel', Parallel)
    monkeypatch.setattr(torch.distributed, 'broadcast', lambda x, src: sent.append((x, src)))
    shim.apply(asks)
    norm = torch.nn.BatchNorm1d(2)
    assert Parallel(norm).module is norm and not sent           # torch does it itself
    assert asks.loop(Parallel, norm).module is norm and [x for x, src in sent] == list(norm.buffers())

LOOP = '''
import torch
def training_loop(G):
    z = torch.empty([1, 2])
    z.fill_(float('nan'))       # memory that nobody wrote
    z[0, 0] = 1e30
    misc.print_module_summary(G, [z, None])
'''

def test_a_summary_leaves_no_nan_in_running_means():
    host, seen = module(source=LOOP), []
    host.misc = types.SimpleNamespace(print_module_summary=lambda G, inputs: seen.append(inputs))
    shim = SHIMS['summary']
    assert shim.asks(host) and not shim.asks(module(source=LOOP.replace('empty', 'zeros'))) and not shim.asks(module())
    shim.apply(host)
    host.training_loop(None)
    assert seen[0][0].tolist() == [[1.0, 0.0]] and seen[0][1] is None

def test_act1(monkeypatch):
    class Old:
        def __init__(self):
            self.act1 = 1
    class New:
        def __init__(self):
            self.bn1 = 1
    timm = module('timm.models.efficientnet')
    for name in ('timm', 'timm.models'):
        monkeypatch.setitem(sys.modules, name, module(name))
    monkeypatch.setitem(sys.modules, 'timm.models.efficientnet', timm)
    shim = SHIMS['act1']
    for timm.EfficientNet, needed in ((Old, False), (New, True)):
        assert shim.needed() == needed
    shim.apply(None)
    assert isinstance(New().act1, torch.nn.Identity) and not shim.needed()

@pytest.mark.parametrize('name', ['grid_sample_gradfix', 'conv2d_gradfix'])
def test_warnings_of_old_operators(name):
    import warnings
    text = f'def f():\n    import torch, warnings\n    warnings.warn(f"{name} not supported on PyTorch {{torch.__version__}}.")'
    shim = SHIMS[name]
    assert shim.asks(module(source=text)) and not shim.asks(module(source='def f():\n    pass'))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        module(source=text).f()
        shim.apply(None)
        module(source=text).f()
        warnings.warn('something else')
    assert len(caught) == 2

def test_shims_is_on_or_off(monkeypatch):
    monkeypatch.setenv('SPIDER_SHIMS', 'no')
    with pytest.raises(SpiderError, match='SPIDER_SHIMS=no'):
        stack.arm()

#----------------------------------------------------------------------------
# A host that needs them, in processes: the parent, and a child that was spawned.

_HOST = '''
LINE
import multiprocessing
from torch_utils import misc
from torch_utils.ops import conv2d_gradfix

def child():
    print('child', len(misc.InfiniteSampler([1, 2]).dataset), conv2d_gradfix.new, flush=True)

if __name__ == '__main__':
    child()
    process = multiprocessing.get_context('spawn').Process(target=child)
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
'''

def write_host(path, line):
    (path / 'torch_utils' / 'ops').mkdir(parents=True)
    (path / 'torch_utils' / 'misc.py').write_text(OLD_SAMPLER + '        self.dataset = dataset\n')
    (path / 'torch_utils' / 'ops' / 'conv2d_gradfix.py').write_text(
        'import torch\nfrom pkg_resources import parse_version\n'
        'new = parse_version(torch.__version__) >= parse_version("1.11.0a")\n')
    (path / 'run.py').write_text(_HOST.replace('LINE', line))
    return path / 'run.py'

def test_a_host_in_processes(tmp_path, python):
    script = write_host(tmp_path, 'import spider_plugin.hosts.hook')
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['child 2 True'] * 2
    expected = [name for name in ('sampler', 'pkg_resources') if SHIMS[name].needed()]
    assert [line.split()[2] for line in done.stderr.splitlines()] == [f'{name}:' for name in expected]
    if expected:
        off = python(script, SPIDER_SHIMS='off')
        assert off.returncode == 1 and 'spider-plugin' not in off.stderr

#----------------------------------------------------------------------------

def test_imports_are_followed_once_and_leave_the_rest_alone(tmp_path, monkeypatch):
    finder = imports._HostImports()
    monkeypatch.setattr(imports, '_finder', finder)
    others = [other for other in sys.meta_path if not isinstance(other, imports._HostImports)]
    monkeypatch.setattr(sys, 'meta_path', others)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'spider_followed.py').write_text('x = 1')
    seen = []
    act = lambda module: seen.append((module.__name__, module.x))
    imports.install()
    imports.install()
    imports.after_import('spider_followed', act)
    imports.after_import('spider_followed', act)
    assert sys.meta_path.count(finder) == 1 and finder.find_spec('json') is None
    import spider_followed  # noqa: F401
    assert seen == [('spider_followed', 1)]
    imports.after_import('spider_followed', lambda module: seen.append(inspect.getsource(module)))  # It is there already.
    assert seen[1:] == ['x = 1\n']
    imports.provide('spider_provided', lambda module: setattr(module, 'x', 2))
    import spider_provided
    assert spider_provided.x == 2
    for name in ('spider_followed', 'spider_provided'):
        del sys.modules[name]
