"""metrics/detectors.py: the lookup of networks, and downloads from a server on this machine."""

import hashlib
import http.server
import os
import threading

import pytest
import torch

import dnnlib
from metrics import detectors, metric_main
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# A server of small networks, and the folders in which networks are looked for, all in a temporary folder of the test.

class Mean(torch.nn.Module):
    """A network of image features; with return_lpips it gives other features."""
    def forward(self, img: torch.Tensor, return_features: bool = True, return_lpips: bool = False):
        return img.to(torch.float32).mean([2, 3])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body[:self.server.sends])

    def log_message(self, *args):
        pass

@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.files, server.asked, server.sends = {}, [], None
        server.url = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()

@pytest.fixture
def script(tmp_path):
    """Return the bytes of a TorchScript network."""
    torch.jit.script(Mean()).save(str(tmp_path / 'script.pt'))
    return (tmp_path / 'script.pt').read_bytes()

@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch, server, script):
    """Let public networks come from the server, and put every cache into the folder of the test."""
    for name, value in dict(DNNLIB_CACHE_DIR='cache', TORCH_HOME='torch', HOME='home').items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(detectors, 'TEMP', str(tmp_path / 'temp'))
    monkeypatch.setattr(detectors, '_detectors', {})
    digest = hashlib.sha256(script).hexdigest()
    monkeypatch.setattr(detectors, 'PUBLIC', {
        name: dnnlib.EasyDict(url=f'{server.url}/metrics/{name}-1.pt', others=[f'https://host.invalid/{name}.pkl'],
                              sha256=digest, checkpoints=[]) for name in ('inception', 'vgg16')})
    caches = [detectors.find_public, detectors.detector_identity]
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()

def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)

def leftovers(folder):
    return [name for _root, _dirs, files in os.walk(folder) for name in files]

def refusal(call, *args):
    with pytest.raises(SpiderError) as info:
        call(*args)
    assert '\n' not in info.value.message and info.value.exit_code == 2
    return info.value.message

def key_of(url):
    return hashlib.md5(url.encode()).hexdigest()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('place', ['cache/downloads/{key}_some-name.pt', 'cache/downloads/inception-1.pt', 'temp/inception-1.pt'])
def test_copies_of_other_tools_are_found(places, server, script, place, capsys):
    path = put(places / place.format(key=key_of(detectors.PUBLIC['inception'].url)), script)
    assert detectors.find('inception') == path and server.asked == []
    for url in (detectors.PUBLIC['inception'].url, *detectors.PUBLIC['inception'].others): # What plugins of hosts ask for.
        assert detectors.find(url) == path and detectors.get_feature_detector_name(url) == 'inception-1'
    assert capsys.readouterr().out == ''

def test_checkpoint_of_torch_fidelity_is_used_if_that_package_can_load_it(places, server, script, monkeypatch):
    server.files['/metrics/inception-1.pt'] = script
    names = [f'weights-{hashlib.sha256(data).hexdigest()[:8]}.pth' for data in (b'other', b'weights')]
    monkeypatch.setitem(detectors.PUBLIC['inception'], 'checkpoints', names)
    put(places / 'torch/hub/checkpoints' / names[0], b'damaged')
    path = put(places / 'torch/hub/checkpoints' / names[1], b'weights')
    monkeypatch.setattr(detectors, 'torch_fidelity', lambda: object())
    assert detectors.find('inception') == path and server.asked == []
    detectors.find_public.cache_clear()
    monkeypatch.setattr(detectors, 'torch_fidelity', lambda: None)
    assert detectors.find('inception') != path and len(server.asked) == 1
    assert 'torch-fidelity' in refusal(detectors.get_feature_detector, path)

def test_copy_with_other_contents_is_not_used(places, server, script, capsys):
    other = put(places / 'temp/inception-1.pt', script + b'more')
    server.files['/metrics/inception-1.pt'] = script
    found = detectors.find('inception')
    assert found != other and server.asked == ['/metrics/inception-1.pt']
    assert f'Ignoring {other}' in capsys.readouterr().out

def test_download_is_stored_where_hosts_look_and_shows_progress(places, server, script, capsys):
    server.files['/metrics/inception-1.pt'] = script
    path = detectors.find('inception')
    assert path == str(places / f'cache/downloads/{key_of(server.url + "/metrics/inception-1.pt")}_inception-1.pt')
    assert leftovers(places / 'cache') == [os.path.basename(path)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('Downloading http') and 'MiB, ' in lines[-1] and 'MiB/s' in lines[-1]
    detectors.find_public.cache_clear()
    assert detectors.find('inception') == path and len(server.asked) == 1
    assert detectors.detector_identity('inception') == hashlib.sha256(script).hexdigest()

def test_progress_shows_rate_and_time_left(capsys):
    progress = detectors.DownloadProgress('http://host/net.pt', total=8 << 20, interval=0)
    progress.start -= 4
    progress.update(2 << 20)
    progress.update(8 << 20)
    _first, half, end = capsys.readouterr().out.splitlines()
    assert half == 'net.pt: 2.0 of 8.0 MiB, 0.5 MiB/s, 12s left' and end == 'net.pt: 8.0 of 8.0 MiB, 2.0 MiB/s'

@pytest.mark.parametrize('kind', ['wrong', 'short', 'missing', 'offline'])
def test_failed_download_leaves_nothing_and_names_three_remedies(places, server, script, kind, monkeypatch):
    server.files['/metrics/inception-1.pt'] = script[:-1] + b'?' if kind == 'wrong' else script
    if kind == 'short':
        server.sends = 1000
    if kind == 'missing':
        server.files.clear()
    if kind == 'offline':
        monkeypatch.setitem(detectors.PUBLIC['inception'], 'url', 'http://127.0.0.1:9/metrics/inception-1.pt')
    message = refusal(metric_main.check_metrics, ['kid5k'], None, 32)
    assert len(server.asked) == (0 if kind == 'offline' else 1) # One attempt.
    for word in ('kid5k', '--detector=FILE.pt', 'SPIDER_DETECTOR', detectors.PUBLIC['inception'].url,
                 str(places / 'cache/downloads')):
        assert word in message
    if kind == 'wrong':
        assert 'SHA-256' in message
    assert leftovers(places / 'cache') == []

def test_any_url_is_a_detector(places, server, script):
    server.files['/mine.pt'] = script
    url = server.url + '/mine.pt'
    metric_main.check_metrics(['fid1k'], url, 32)
    assert detectors.find(url) == str(places / f'cache/downloads/{key_of(url)}_mine.pt') and len(server.asked) == 1
    message = refusal(metric_main.check_metrics, ['fid1k'], server.url + '/none.pt', 32)
    assert '--detector' in message and 'none.pt' in message and len(leftovers(places / 'cache')) == 1

def test_a_detector_is_named_as_code(places, script, capsys):
    """With its digest and as plain text, before training; not the one of the demo."""
    path = put(places / 'evil\x1b[2J.pt', script)
    metric_main.check_metrics(['fid1k'], path, 32)
    said = capsys.readouterr().err
    assert said.count('a TorchScript file is code, which runs with your rights') == 1
    assert hashlib.sha256(script).hexdigest()[:12] in said and 'evil\\x1b[2J.pt' in said and '\x1b' not in said
    metric_main.check_metrics(['fid1k'], 'demo', 32)
    assert not capsys.readouterr().err

def test_interrupted_download_leaves_nothing(places, server, script, monkeypatch):
    server.files['/metrics/inception-1.pt'] = script
    def interrupt(self, done):
        raise KeyboardInterrupt
    monkeypatch.setattr(detectors.DownloadProgress, 'update', interrupt)
    with pytest.raises(KeyboardInterrupt):
        detectors.find('inception')
    assert leftovers(places / 'cache') == []

def test_each_metric_looks_for_the_network_of_its_published_scores(places, script):
    for name in ('inception', 'vgg16'):
        put(places / f'cache/downloads/{name}-1.pt', script)
    plain = torch.jit.script(torch.nn.Identity())
    plain.save(str(places / 'plain.pt'))
    lpips = put(places / 'mine.pt', script)
    for metric, default, plain_pick in (('fid50k_full', 'inception', None), ('kid1k', 'inception', None),
                                        ('is5k', 'inception', None), ('pr50k3', 'vgg16', None), ('ppl2_wend', 'vgg16', 'vgg16')):
        assert metric_main.detector_of(metric, None) == default
        assert metric_main.detector_of(metric, lpips) == lpips
        assert metric_main.detector_of(metric, str(places / 'plain.pt')) == (plain_pick or str(places / 'plain.pt'))
        metric_main.check_metrics([metric], None, 32)
    metric_main.check_metrics(['eqr50k', 'eqt1k_int'], None, 32)

#----------------------------------------------------------------------------
