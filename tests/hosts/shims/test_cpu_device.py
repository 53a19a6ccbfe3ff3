"""SPIDER_DEVICE=cpu: the view of torch that a host gets, and that other modules keep torch."""

import sys
import time
import types

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.hosts.shims import cpu_device

@pytest.fixture
def view(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'pin_memory', torch.Tensor.pin_memory) # The one thing that is changed for everybody.
    return cpu_device._view.__wrapped__()

def test_only_cpu_is_known(monkeypatch):
    for value, expected in ((None, False), ('', False), ('cpu', True)):
        monkeypatch.setenv('SPIDER_DEVICE', value) if value is not None else monkeypatch.delenv('SPIDER_DEVICE', raising=False)
        assert cpu_device.requested() == expected
    monkeypatch.setenv('SPIDER_DEVICE', 'tpu')
    with pytest.raises(SpiderError, match='SPIDER_DEVICE=tpu'):
        cpu_device.requested()

def test_devices(view):
    for args in (['cuda', 1], ['cuda'], ['cuda:0'], ['cpu']):
        assert view.device(*args) == torch.device('cpu')
    assert view.device('meta').type == 'meta'
    assert isinstance(torch.device('cuda'), view.device) and not isinstance('cuda', view.device)
    assert torch.device('cuda', 1).index == 1 and torch.device is not view.device # torch is as it was

def test_the_rest_is_torch(view):
    assert view.Tensor is torch.Tensor and view.nn.functional is torch.nn.functional
    assert view.cuda.CUDAGraph is torch.cuda.CUDAGraph
    assert view.cuda.max_memory_allocated(view.device('cuda')) == 0
    assert not view.cuda.is_available() and view.cuda.current_stream('cuda') is None
    x = torch.zeros([2])
    assert x.pin_memory() is x

def test_events(view):
    start, end = view.cuda.Event(enable_timing=True), view.cuda.Event(enable_timing=True)
    start.record(view.cuda.current_stream(0))
    time.sleep(0.01)
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) >= 10 and start.cuda_event != 0

def test_groups_and_their_modules(monkeypatch):
    called, module = [], torch.nn.Linear(1, 1)
    class Parallel(torch.nn.Module):
        def __init__(self, module, device_ids=None, broadcast_buffers=True):
            super().__init__()
            called.append((module, device_ids, broadcast_buffers))
    monkeypatch.setattr(torch.Tensor, 'pin_memory', torch.Tensor.pin_memory)
    monkeypatch.setattr(torch.nn.parallel, 'DistributedDataParallel', Parallel)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend, **kwargs: called.append((backend, kwargs)))
    view = cpu_device._view.__wrapped__()
    view.distributed.init_process_group(backend='nccl', rank=1, world_size=2)
    made = view.nn.parallel.DistributedDataParallel(module, device_ids=[view.device('cuda')], broadcast_buffers=False)
    assert called == [('gloo', dict(rank=1, world_size=2)), (module, None, False)]
    assert [isinstance(x, view.nn.parallel.DistributedDataParallel) for x in (made, module)] == [True, False]

def test_the_grid_keeps_its_corner():
    images, labels = np.arange(48)[:, None], np.arange(48)[:, None] % 3
    size, some, their = cpu_device.small_grid(lambda training_set: ((8, 6), images, labels))(training_set=None)
    assert size == (4, 4) and some[:, 0].tolist() == [8 * row + column for row in range(4) for column in range(4)]
    assert np.array_equal(their[:, 0], some[:, 0] % 3)
    assert cpu_device.small_grid(lambda: ((2, 9), images, labels))()[0] == (2, 4)

def test_launch_in_float32():
    c = dict(G_kwargs=dict(synthesis_kwargs=dict(num_fp16_res=4, conv_clamp=256)), D_kwargs=dict(num_fp16_res=4, conv_clamp=256))
    cpu_device.mend_launch(c)
    assert c['G_kwargs']['synthesis_kwargs'] == c['D_kwargs'] == dict(num_fp16_res=0, conv_clamp=None)
    cpu_device.mend_launch(dict(G_kwargs={}, D_kwargs={}))

@pytest.mark.parametrize('argument, left', [('conv_clamp', 256), ('conv_clamp=256', None), ('**kwargs', None)])
def test_a_clamp_stays_where_layers_need_one(monkeypatch, tmp_path, argument, left):
    """Classes of hosts are those that persistence makes over them, with *args and **kwargs."""
    nets = types.ModuleType('nets')
    exec(f'class Stock:\n    def __init__(self, size, {argument}):\n        pass\n'
         'class Layer(Stock):\n    def __init__(self, *args, **kwargs):\n        pass\n'
         'class Generator:\n    pass\n', vars(nets))
    del nets.Stock
    (tmp_path / 'nets.py').touch()
    monkeypatch.setitem(sys.modules, 'nets', nets)
    monkeypatch.setattr(cpu_device.imports, 'host_folder', lambda: str(tmp_path))
    nested = dict(num_fp16_res=4, conv_clamp=256)
    c = dict(G_kwargs=dict(class_name='nets.Generator', synthesis_kwargs=nested), D_kwargs=dict(nested))
    cpu_device.mend_launch(c)
    assert nested == dict(num_fp16_res=0, conv_clamp=left) and c['D_kwargs'] == dict(num_fp16_res=0, conv_clamp=None)

#----------------------------------------------------------------------------
# A script and a module beside it.

_SCRIPT = '''
import spider_plugin.hosts.hook
import click
import torch
import beside
import json

def default(device=torch.device('cuda')):
    return device.type

@click.command()
def main():
    import colorsys
    print(json.dumps([torch.device('cuda', 0).type, beside.device().type, default(), beside.again(), json.loads is not None,
                      type(torch).__name__, type(beside.spider_plugin.hosts.shims.cpu_device).__name__]))

if __name__ == '__main__':
    main()
'''

def test_modules_of_the_host(tmp_path, python):
    (tmp_path / 'train.py').write_text(_SCRIPT)
    (tmp_path / 'beside.py').write_text('import spider_plugin.hosts.shims.cpu_device\nimport torch\n'
                                        'def device():\n    return torch.device("cuda")\n'
                                        'def again(device=torch.device("cuda")):\n    return device.type\n')
    done = python(tmp_path / 'train.py', SPIDER_DEVICE='cpu')
    assert done.stdout.strip() == '["cpu", "cpu", "cpu", "cpu", true, "View", "module"]', done.stderr
    done = python(tmp_path / 'train.py')
    assert done.stdout.strip() == '["cuda", "cuda", "cuda", "cuda", true, "module", "module"]', done.stderr

_LATER = '''
import spider_plugin.hosts.hook
import sys
sys.path.insert(0, FOLDER)
import multiprocessing
import click
import torch

def child():
    import later
    print(later.device().type, flush=True)

@click.command()
def main():
    process = multiprocessing.get_context('spawn').Process(target=child)
    process.start()
    process.join()
    child()

if __name__ == '__main__':
    main()
'''

@pytest.mark.parametrize('folder', [
    '"."', *(pytest.param(folder, marks=pytest.mark.slow) for folder in (
        '".."', '"/nowhere"', '__file__.rpartition("/")[0] + "/inner"'))])
def test_a_host_that_puts_other_folders_first(tmp_path, python, folder):
    """They come before its own on sys.path, also where a child that is spawned later starts with that path."""
    (tmp_path / 'host' / 'inner').mkdir(parents=True)
    (tmp_path / 'host' / 'train.py').write_text(_LATER.replace('FOLDER', folder))
    (tmp_path / 'host' / 'later.py').write_text('import torch\ndef device():\n    return torch.device("cuda")\n')
    done = python(tmp_path / 'host' / 'train.py', SPIDER_DEVICE='cpu', cwd=tmp_path)
    assert done.stdout.split() == ['cpu', 'cpu'], done.stderr
    done = python('-m', 'spider_plugin.hosts.run', tmp_path / 'host' / 'train.py', SPIDER_DEVICE='cpu', cwd=tmp_path)
    assert done.stdout.split() == ['cpu', 'cpu'], done.stderr
