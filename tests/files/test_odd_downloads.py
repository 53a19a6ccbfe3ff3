"""URLs whose file has no published digest, from a server that sends pages, halves, endless bodies and redirects."""

import hashlib
import http.server
import io
import os
import pickle
import threading
import zipfile

import pytest

from spider_plugin import weights
from spider_plugin.errors import SpiderError
from spider_plugin.files import checksum, download
from spider_plugin.files.download import File, download_once, hidden
from spider_plugin.sources.obtain import fetch, file_name
from spider_plugin.sources.prepare import is_dataset, prepare_source

def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('a.png', bytes(100_000))
    return buffer.getvalue()

ZIP    = zipped()
PICKLE = pickle.dumps(dict(G_ema=bytes(10_000)))
SUMMED = PICKLE + checksum.record(hashlib.sha256(PICKLE))
PAGE   = b'\n<!DOCTYPE html><html>please log in</html>'

BODIES = {  # path: (body, type, Content-Length or None)
    '/good.zip':        (ZIP, 'application/zip', len(ZIP)),
    '/good.pkl':        (PICKLE, 'application/octet-stream', len(PICKLE)),
    '/summed.pkl':      (SUMMED, 'application/octet-stream', len(SUMMED)),
    '/page.zip':        (PAGE, 'application/octet-stream', len(PAGE)),
    '/page.pkl':        (PAGE, 'text/plain', len(PAGE)),
    '/labelled.zip':    (ZIP, 'text/html; charset=utf-8', len(ZIP)),
    '/empty.zip':       (b'', 'application/zip', 0),
    '/text.zip':        (b'not found', 'text/plain', 9),
    '/pickle.zip':      (PICKLE, 'application/zip', len(PICKLE)),
    '/zip.pkl':         (ZIP, 'application/zip', len(ZIP)),
    '/half.zip':        (ZIP[: len(ZIP) // 2], 'application/zip', None),
    '/half.pkl':        (PICKLE[: len(PICKLE) // 2], 'application/octet-stream', None),
    '/changed.pkl':     (SUMMED.replace(bytes(100), bytes(99) + b'x', 1), 'application/octet-stream', len(SUMMED)),
    '/superscript.zip': (ZIP, 'application/zip', '\u00b2'),
    '/huge.zip':        (ZIP, 'application/zip', 1 << 50),
    '/digits.zip':      (ZIP, 'application/zip', '9' * 5000),
    '/':                (ZIP, 'application/zip', len(ZIP)),
    '/a/..':            (ZIP, 'application/zip', len(ZIP)),
}
REDIRECTS = {'/to-page.zip': '/page.zip', '/loop.zip': '/loop.zip', '/to-file.zip': 'file:///etc/passwd', '/to-ftp.zip': 'ftp://x/y'}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.partition('?')[0]
        if path in REDIRECTS:
            return self.answer(302, b'', '', 0, Location=REDIRECTS[path])
        if path == '/endless.zip':
            return self.endless()
        self.answer(200, *self.server.bodies.get(path, BODIES['/good.zip']))

    def answer(self, status, body, kind, length, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Type', kind)
        if length is not None:
            self.send_header('Content-Length', str(length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(ZIP)
            for _ in range(1000):
                self.wfile.write(bytes(1 << 16))
        except OSError:     # the client had enough
            pass
        self.close_connection = True

    def log_message(self, *args):
        pass

@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(download.time, 'sleep', lambda seconds: None)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads, server.asked, server.bodies = True, [], dict(BODIES)
        server.port, server.url = server.server_port, f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()

def kept(tmp_path):
    """Files in the cache that are more than a lock."""
    return [path for path in (tmp_path / 'cache').rglob('*') if path.is_file() and path.suffix != '.lock']

def refused(url):
    with pytest.raises(SpiderError) as caught:
        fetch(url)
    message = caught.value.message
    assert message.startswith('--spider-source=') and message.endswith('.') and message.isprintable()
    return message

#----------------------------------------------------------------------------

@pytest.mark.parametrize(['path', 'body'], [('/good.zip', ZIP), ('/good.pkl', PICKLE), ('/summed.pkl', SUMMED)])
def test_files_of_the_wanted_kind_are_kept(server, path, body):
    for _ in range(2):
        with open(fetch(server.url + path), 'rb') as file:
            assert file.read() == body
    assert server.asked == [path]

@pytest.mark.parametrize(['path', 'words'], [
    ('/page.zip', 'a web page'), ('/page.pkl', 'a web page'), ('/labelled.zip', 'a web page'), ('/to-page.zip', 'a web page'),
    ('/empty.zip', 'empty'), ('/text.zip', 'no zip'), ('/pickle.zip', 'no zip'), ('/zip.pkl', 'no pickle'),
    ('/half.zip', 'cut off'), ('/half.pkl', 'cut off'), ('/changed.pkl', 'checksum'), ('/huge.zip', 'SPIDER_MAX_DOWNLOAD'),
    ('/loop.zip', 'without an end'), ('/to-file.zip', 'not an address'), ('/to-ftp.zip', 'not an address')])
def test_everything_else_is_refused_and_not_kept(server, tmp_path, path, words):
    assert words in refused(server.url + path)
    assert kept(tmp_path) == []

@pytest.mark.parametrize('path', ['/superscript.zip', '/digits.zip'])
def test_lengths_that_are_no_numbers(server, path):
    try:
        fetch(server.url + path)
    except SpiderError as error:
        assert error.message.endswith('.')

def test_a_body_without_an_end(server, tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_MAX_DOWNLOAD', '0.001')
    assert 'more than 0.001 GB' in refused(f'{server.url}/endless.zip') and kept(tmp_path) == []
    monkeypatch.setenv('SPIDER_MAX_DOWNLOAD', 'much')
    assert 'SPIDER_MAX_DOWNLOAD=much' in refused(f'{server.url}/endless.zip')

def test_the_disk_is_looked_at_while_a_body_of_unknown_length_arrives(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, '_LOOK', 1 << 20)
    free = iter([1 << 40] + [0] * 100)
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, 'disk_usage', lambda path: usage._replace(free=next(free)))
    assert 'MB free' in refused(f'{server.url}/endless.zip')

def test_a_published_size_is_the_cap(server, tmp_path):
    with pytest.raises(SpiderError, match='more than'):
        download_once(File('x.zip', (f'{server.url}/endless.zip',), size=len(ZIP)), tmp_path / 'x.zip', what='x')
    assert not (tmp_path / 'x.zip').exists() and not (tmp_path / 'x.zip.part').exists()

#----------------------------------------------------------------------------
# The file is checked again at each use.

def test_a_file_that_changed_is_downloaded_again(server, capsys):
    path = fetch(f'{server.url}/good.zip')
    with open(path, 'r+b') as file:
        file.seek(50)
        file.write(b'poison')
    assert fetch(f'{server.url}/good.zip') == path and 'is not the file that was downloaded' in capsys.readouterr().err
    with open(path, 'rb') as file:
        assert file.read() == ZIP
    assert server.asked == ['/good.zip'] * 2

def test_a_copy_with_another_time_is_the_same_file(server):
    path = fetch(f'{server.url}/good.zip')
    for _ in range(2):
        os.utime(path, ns=(1, 1))
        assert fetch(f'{server.url}/good.zip') == path
    assert server.asked == ['/good.zip']

@pytest.mark.parametrize('note', ['', '[]', '{"size": 1}', '[' * 100_000])
def test_a_file_without_a_note_is_looked_at(server, tmp_path, note):
    path = fetch(f'{server.url}/good.zip')
    (tmp_path / f'{path}.json').write_text(note)
    fetch(f'{server.url}/good.zip')
    assert server.asked == ['/good.zip']
    os.remove(f'{path}.json')
    (tmp_path / path).write_bytes(PAGE)     # kept by an older version
    fetch(f'{server.url}/good.zip')
    assert server.asked == ['/good.zip'] * 2 and (tmp_path / path).read_bytes() == ZIP

def test_weights_of_which_eight_digits_are_published(server, monkeypatch):
    known = weights.FeatureNetwork((0.5,), (0.5,), '', '', File('w.pth', (f'{server.url}/good.zip',), kinds=('zip', 'pickle')),
                                   hashlib.sha256(ZIP).hexdigest()[:8])
    path = weights._published('w', known)
    path.write_bytes(ZIP[:-1] + b'x')
    weights._published('w', known)
    assert path.read_bytes() == ZIP and len(server.asked) == 2

#----------------------------------------------------------------------------
# Odd addresses.

@pytest.mark.parametrize(['rest', 'name'], [
    ('/', 'download'), ('', 'download'), ('/a/..', 'download'), ('/.', 'download'), ('/....zip', 'zip'), ('/.zip', 'zip'),
    ('/x.zip?a=../../b', 'x.zip'), ('/x.zip?a=/b.pkl', 'x.zip'), ('/a%2f..%2fb.zip', 'a_2f.._2fb.zip'), ('/a%00.zip', 'a_00.zip'),
    ('/-rf.zip', 'rf.zip'), ('/' + 'a' * 3000 + '.zip', 'a' * 96 + '.zip'), ('/\u2603 \x1b.zip', '___.zip'),
    ('/x.lock', 'x.lock'), ('/x.zip#', 'x.zip')])
def test_a_safe_name(server, tmp_path, rest, name):
    assert file_name(server.url + rest.partition('#')[0]) == name or rest == ''
    path = tmp_path / fetch(server.url + rest)
    assert path.is_file() and path.read_bytes() == ZIP
    assert path.parent.parent == tmp_path / 'cache' / 'downloads' and not path.name.startswith('.')

@pytest.mark.parametrize('url', ['http://', 'http:///x.zip', 'http://[::1/x.zip', 'http://127.0.0.1:99999/x.zip', 'https://.../x.zip',
                                 'http://\u2603' + 'x' * 70 + '.invalid/x.zip', 'http://a..b/x.zip', 'http://\udcff.invalid/x.zip',
                                 'file:///etc/passwd', 'ftp://x/y.zip', 'data://x', 'http://x.invalid/x.zip#md5=1'], ids=ascii)
def test_one_sentence(server, tmp_path, url):
    refused(url)
    assert kept(tmp_path) == []

def test_no_password_is_printed(server, capsys):
    url = f'http://name:se:cr@et@127.0.0.1:{server.port}'
    message = refused(f'{url}/page.zip')
    with pytest.raises(SpiderError) as caught:
        prepare_source(f'{url}/x.pkl', match='x')
    with pytest.raises(SpiderError) as ftp:
        prepare_source('ftp://name:secret@x/y.zip')
    captured = capsys.readouterr()
    for text in (message, caught.value.message, ftp.value.message, captured.out, captured.err):
        assert 'cr@et' not in text and 'secret' not in text and 'name' not in text.replace('--spider-source=x', '')
    assert hidden('https://token@x/y@z') == 'https://***@x/y@z'

def test_a_query_does_not_hide_what_a_file_is():
    assert not is_dataset('https://x/net.pkl?download=1') and is_dataset('https://x/set.zip?a=b.pkl')
