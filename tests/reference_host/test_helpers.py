"""dnnlib, torch_utils.misc and torch_utils.training_stats."""

import copy
import functools
import http.server
import itertools
import math
import os
import pickle
import sys
import threading

import pytest
import requests
import torch

import dnnlib
from torch_utils import misc, training_stats

#----------------------------------------------------------------------------
# dnnlib.

def test_easy_dict():
    d = dnnlib.EasyDict(a=1)
    d.b = 2
    assert d == {'a': 1, 'b': 2} and d['b'] == d.b == 2
    assert pickle.loads(pickle.dumps(d)) == d and type(copy.deepcopy(d)) is dnnlib.EasyDict
    del d.a
    for access in [lambda: d.a, lambda: delattr(d, 'a')]:
        with pytest.raises(AttributeError):
            access()

def test_objects_by_name(tmp_path, monkeypatch):
    opt = dnnlib.util.construct_class_by_name(class_name='torch.optim.Adam', params=[torch.nn.Parameter(torch.zeros(1))], lr=3)
    assert type(opt) is torch.optim.Adam and opt.defaults['lr'] == 3
    assert dnnlib.util.call_func_by_name(9, func_name='math.sqrt') == 3
    assert dnnlib.util.get_obj_by_name('dnnlib.util.EasyDict.keys') is dnnlib.EasyDict.keys
    assert dnnlib.util.get_module_dir_by_obj_name('dnnlib.util.EasyDict') == os.path.dirname(dnnlib.__file__)
    with pytest.raises(ImportError):
        dnnlib.util.get_obj_by_name('no_such_module.thing')
    with pytest.raises(AttributeError):
        dnnlib.util.get_obj_by_name('math.no_such_function')
    (tmp_path / 'module_that_fails.py').write_text('import no_such_dependency')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match='no_such_dependency'): # The cause, not "no module found".
        dnnlib.util.get_obj_by_name('module_that_fails.Class')

@pytest.mark.parametrize('seconds, text', [(59.4, '59s'), (62, '1m 02s'), (3 * 3600 + 245, '3h 04m 05s'), (86400, '1d 00h 00m')])
def test_format_time(seconds, text):
    assert dnnlib.util.format_time(seconds) == text

def test_logger_tees_and_puts_back(tmp_path, capsys):
    before = sys.stdout, sys.stderr
    with dnnlib.util.Logger(str(tmp_path / 'log.txt')):
        print('out')
        print('err', file=sys.stderr)
        with dnnlib.util.Logger(str(tmp_path / 'inner.txt')):
            print('both')
    assert (sys.stdout, sys.stderr) == before
    assert (tmp_path / 'log.txt').read_text() == 'out\nerr\nboth\n' and (tmp_path / 'inner.txt').read_text() == 'both\n'
    captured = capsys.readouterr()
    assert captured.out == 'out\nboth\n' and captured.err == 'err\n'

@pytest.fixture
def server(tmp_path):
    """URL of a folder with data.bin, and the list of requests."""
    (tmp_path / 'www').mkdir()
    (tmp_path / 'www' / 'data.bin').write_bytes(b'data')
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=tmp_path / 'www')) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}', asked
        httpd.shutdown()

def test_open_url(tmp_path, server, monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    root, asked = server
    path, cache = tmp_path / 'www' / 'data.bin', tmp_path / 'cache'
    open_url = functools.partial(dnnlib.util.open_url, cache_dir=str(cache), verbose=False)
    for url in [str(path), path.as_uri(), f'{root}/data.bin', f'{root}/data.bin']:
        with open_url(url) as file:
            assert file.read() == b'data'
    assert asked == ['/data.bin'] # The second time it came from the cache.
    assert open_url(f'{root}/data.bin', return_filename=True) == str(next(cache.iterdir()))
    assert open_url(str(path), return_filename=True) == str(path)
    assert open_url(f'{root}/data.bin', cache=False).read() == b'data' and len(asked) == 2

    with pytest.raises(requests.HTTPError):
        open_url(f'{root}/absent.bin')
    assert len(list(cache.iterdir())) == 1 # Nothing half-made.
    with pytest.raises(FileNotFoundError):
        open_url(str(tmp_path / 'absent'))

    (tmp_path / 'www' / 'login.html').write_text('<html>')
    with pytest.raises(OSError, match='it is a web page'):
        open_url(f'{root}/login.html')
    monkeypatch.setattr(dnnlib.util, 'MOST_DOWNLOAD', 3)
    for cache_it in (True, False):
        with pytest.raises(OSError, match='it is larger than'):
            open_url(f'{root}/data.bin?again', cache=cache_it)
    assert len(list(cache.iterdir())) == 1

def test_a_login_in_a_url_is_not_shown(tmp_path, capsys):
    assert dnnlib.util.without_login('https://me:secret@x.org:80/a.pkl?b=c') == 'https://x.org:80/a.pkl?b=c'
    assert dnnlib.util.without_login('runs/a@b.pkl') == 'runs/a@b.pkl'
    with pytest.raises(requests.RequestException):
        dnnlib.util.open_url('http://me:secret@127.0.0.1:9/a.pkl', cache_dir=str(tmp_path), num_attempts=1)
    assert 'secret' not in capsys.readouterr().out

def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    assert dnnlib.make_cache_dir_path('a', 'b') == str(tmp_path / 'a' / 'b')
    monkeypatch.setattr(dnnlib.util, '_cache_dir', None)
    dnnlib.util.set_cache_dir('elsewhere')
    assert dnnlib.make_cache_dir_path('a') == os.path.join('elsewhere', 'a')

#----------------------------------------------------------------------------
# misc.

@pytest.mark.parametrize('num_replicas', [1, 2, 3])
@pytest.mark.parametrize('n', [1, 7, 12])
def test_infinite_sampler(num_replicas, n):
    ranks = [iter(misc.InfiniteSampler(range(n), rank, num_replicas, seed=5)) for rank in range(num_replicas)]
    order = [next(rank) for _ in range(12 * n) for rank in ranks]
    epochs = [order[i : i + n] for i in range(0, 12 * n * num_replicas, n)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    for item in range(n): # Half an epoch at least between two uses.
        places = [i for i, other in enumerate(order) if other == item]
        assert min(b - a for a, b in itertools.pairwise(places)) >= n / 2 - 1
    if n == 12:
        assert len(set(map(tuple, epochs))) > 6
        plain = iter(misc.InfiniteSampler(range(n), shuffle=False))
        assert [next(plain) for _ in range(2 * n)] == [*range(n), *range(n)]

def test_copy_params_and_buffers():
    source, target = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    source.weight.data.fill_(5)
    source.running_mean.fill_(6)
    target.bias.requires_grad_(False)
    misc.copy_params_and_buffers(source, target, require_all=True)
    assert target.weight.tolist() == [5, 5, 5] and target.running_mean.tolist() == [6, 6, 6]
    assert target.weight.requires_grad and not target.bias.requires_grad

    with pytest.raises(ValueError, match='lacks running_mean'):
        misc.copy_params_and_buffers(torch.nn.Linear(3, 3), target, require_all=True)
    one = torch.nn.BatchNorm1d(1) # Broadcasts, if it is let.
    with pytest.raises(ValueError, match=r'weight \[1\] -> \[3\]'):
        misc.copy_params_and_buffers(one, target)
    assert target.weight.tolist() == [5, 5, 5]

def test_constant_is_shared():
    a = misc.constant([1, 2], device='cpu')
    assert a is misc.constant((1, 2)) and a.dtype == torch.float32
    assert misc.constant([1, 2], dtype=torch.int64).dtype == torch.int64
    assert misc.constant(3, shape=[2, 2]).tolist() == [[3, 3], [3, 3]]
    assert misc.constant([[1], [2]]).shape == (2, 1)

def test_assert_shape():
    misc.assert_shape(torch.zeros(2, 3), [None, 3])
    for wrong in [[None, 4], [2], [2, 3, None]]:
        with pytest.raises(AssertionError, match='expected'):
            misc.assert_shape(torch.zeros(2, 3), wrong)

def test_module_summary_counts_everything_once(capsys):
    inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Linear(4, 5, bias=False)))
    net = torch.nn.Sequential(inner, torch.nn.ReLU(), torch.nn.BatchNorm1d(5))
    out = misc.print_module_summary(net, [torch.randn(2, 3)], max_nesting=2)
    assert out.shape == (2, 5)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if len(line.split()) > 2}
    assert rows['total'] == [str(16 + 20 + 10), '11'] and rows['0.1'][0] == '20' and '0.1.0' not in rows
    assert not any(module._forward_hooks for module in net.modules())

#----------------------------------------------------------------------------
# training_stats.

@pytest.fixture
def stats(monkeypatch):
    for name in ['_pending', '_cumulative']:
        monkeypatch.setattr(training_stats, name, {})
    return training_stats

def test_stats_between_updates(stats):
    loss = torch.tensor([1.0, 3.0], requires_grad=True)
    stats.report('before', 100)
    collector = stats.Collector(regex='Loss/.*|before')
    assert math.isnan(collector['before']) and collector.num('before') == 0
    assert stats.report('Loss/G', loss) is loss
    stats.report('Loss/G', [8.0])
    stats.report0('Loss/D', 5)
    stats.report('Other', 1)
    collector.update()
    assert collector.names() == ['Loss/D', 'Loss/G', 'before']
    assert collector['Loss/G'] == 4 and collector.num('Loss/G') == 3
    assert collector.std('Loss/G') == pytest.approx(math.sqrt((9 + 1 + 16) / 3))
    assert collector.as_dict()['Loss/D'] == {'num': 1, 'mean': 5.0, 'std': 0.0}

    forgetful = stats.Collector(keep_previous=False)
    stats.report('Loss/G', 6)
    collector.update()
    forgetful.update()
    assert collector['Loss/G'] == forgetful['Loss/G'] == 6 and collector['Loss/D'] == 5
    assert math.isnan(forgetful['Loss/D'])
