"""Downloads from a file server on this machine that breaks connections, stalls, sends wrong files and redirects."""

import hashlib
import http.server
import io
import re
import threading
import time

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.files import download as module
from spider_plugin.files.download import File, WrongFile, check_file, download, exclusive
from spider_plugin.files.progress import Progress

DATA = bytes(range(256)) * 1000     # 256 000 bytes: some blocks

#----------------------------------------------------------------------------

class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`. `server.plan` holds the actions for the next requests: 'cut', 'stall', 'no ranges', or a status."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get('Range')))
        action = self.server.plan.pop(0) if self.server.plan else None
        if isinstance(action, int):
            return self.send_error(action)
        if self.path.startswith('/moved/'):
            self.send_response(302)
            self.send_header('Location', self.path.removeprefix('/moved'))
            self.send_header('Content-Length', '0')
            return self.end_headers()
        if self.path not in self.server.files:
            return self.send_error(404)
        body = self.server.files[self.path]
        match = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range') or '')
        start = int(match[1]) if match and action != 'no ranges' else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        if self.path.endswith('.gz'):       # as many servers say of files that are compressed themselves
            self.send_header('Content-Encoding', 'gzip')
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        self.wfile.write(rest[:len(rest) // 2] if action in ('cut', 'stall') else rest)
        if action == 'stall':
            self.wfile.flush()
            self.server.released.wait(5)
        self.close_connection = True

    def log_message(self, *args):
        pass

@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads = True
        server.files, server.asked, server.plan, server.released = {'/data.bin': DATA}, [], [], threading.Event()
        server.url = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()

@pytest.fixture
def get(server, tmp_path):
    """get(path='/data.bin', ..., tries=4) downloads to tmp_path/data.bin and returns that path's bytes and the sha256."""
    def get(*paths, tries=4, stall=5.0, size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest(), md5=None):
        urls = tuple(path if ':' in path else server.url + path for path in paths or ['/data.bin'])
        target = tmp_path / 'data.bin'
        digest = download(File('data.bin', urls, size, sha256, md5), target, what='--spider-source=x', tries=tries,
                          stall=stall, pause=0)
        return target.read_bytes(), digest
    return get

def refused(get, *paths, **kwargs):
    """The message of the SpiderError, which is one sentence."""
    with pytest.raises(SpiderError) as caught:
        get(*paths, **kwargs)
    message = caught.value.message
    assert message.startswith('--spider-source=x: ') and message.endswith('.') and '\n' not in message
    assert caught.value.exit_code == 2
    return message

def names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())

#----------------------------------------------------------------------------

@pytest.mark.parametrize('known', [
    dict(), dict(sha256=None), dict(sha256=None, md5=hashlib.md5(DATA).hexdigest()), dict(sha256=None, size=None),
], ids=['sha256', 'size only', 'md5', 'nothing'])
def test_whole_file(get, server, tmp_path, known):
    data, digest = get(**known)
    assert data == DATA and digest == hashlib.sha256(DATA).hexdigest()
    assert names(tmp_path) == ['data.bin'] and server.asked == [('/data.bin', None)]

def test_existing_file(get, server, tmp_path):
    (tmp_path / 'data.bin').write_bytes(DATA)
    assert get()[0] == DATA and server.asked == []
    get(sha256=None)            # nothing tells whether it is the right one
    (tmp_path / 'data.bin').write_bytes(DATA[::-1])
    assert get()[0] == DATA and len(server.asked) == 2

def test_redirect_and_bytes_as_they_are(get, server, tmp_path):
    assert get('/moved/data.bin')[0] == DATA
    server.files['/data.gz'] = DATA         # not what gzip would take
    (tmp_path / 'data.bin').unlink()
    assert get('/data.gz')[0] == DATA

def test_broken_connection_resumes(get, server, tmp_path):
    server.plan = ['cut', 'cut']
    assert get()[0] == DATA
    assert [asked for _, asked in server.asked] == [None, 'bytes=128000-', 'bytes=192000-']
    assert names(tmp_path) == ['data.bin']

def test_next_run_resumes_where_the_last_one_stopped(get, server, tmp_path):
    server.plan = ['cut', 503]
    message = refused(get, tries=2)
    assert '503' in message and 'resumes after the 0.1 MB' in message and '--spider-source=x:PATH' in message
    assert names(tmp_path) == ['data.bin.part']
    assert get()[0] == DATA
    assert server.asked[-1] == ('/data.bin', 'bytes=128000-') and names(tmp_path) == ['data.bin']

def test_server_without_ranges_starts_over(get, server):
    server.plan = ['cut', 'no ranges']
    assert get()[0] == DATA and len(server.asked) == 2

def test_file_that_changed_meanwhile(get, server, tmp_path):
    (tmp_path / 'data.bin.part').write_bytes(DATA + b'more')
    assert get(size=None)[0] == DATA
    assert [asked for _, asked in server.asked] == ['bytes=256004-', None]

def test_complete_part_needs_no_request(get, server, tmp_path):
    (tmp_path / 'data.bin.part').write_bytes(DATA)
    assert get()[0] == DATA and server.asked == []

def test_stall(get, server, tmp_path):
    server.plan = ['stall']
    assert get(stall=0.2)[0] == DATA and len(server.asked) == 2

def test_stall_for_good(get, server, tmp_path):
    server.plan = ['stall'] * 2
    assert 'no answer in time' in refused(get, stall=0.1, tries=2)

@pytest.mark.parametrize(['known', 'words'], [
    (dict(sha256='0' * 64), 'instead of ' + '0' * 64),
    (dict(sha256=None, md5='1' * 32), 'instead of ' + '1' * 32),
    (dict(size=1000), '256000 bytes there instead of 1000'),
], ids=['sha256', 'md5', 'size'])
def test_another_file_than_the_published_one(get, server, tmp_path, known, words):
    assert words in refused(get, **known)
    assert names(tmp_path) == [] and len(server.asked) == 1

def test_bad_rest_of_a_resumed_file_is_removed(get, server, tmp_path):
    (tmp_path / 'data.bin.part').write_bytes(b'x' * 1000)
    assert 'is not the published file' in refused(get)
    assert names(tmp_path) == []
    assert get()[0] == DATA

def test_old_part_is_used_only_if_a_digest_is_known(get, server, tmp_path):
    (tmp_path / 'data.bin.part').write_bytes(b'x' * 1000)
    server.plan = ['cut']
    assert get(sha256=None)[0] == DATA
    assert [asked for _, asked in server.asked] == [None, 'bytes=128000-']

def test_missing_file(get, server, tmp_path):
    assert '404' in refused(get, '/nothing.bin')
    assert names(tmp_path) == [] and len(server.asked) == 1     # not asked again

def test_next_address(get, server):
    server.files['/wrong.bin'] = DATA[::-1]
    assert get('/nothing.bin', '/wrong.bin', '/data.bin')[0] == DATA
    assert [path for path, _ in server.asked] == ['/nothing.bin', '/wrong.bin', '/data.bin']

def test_no_network(get, tmp_path):
    assert 'no connection' in refused(get, 'http://127.0.0.1:9/data.bin', tries=1)
    assert 'not an address' in refused(get, 'nowhere:data.bin')
    assert names(tmp_path) == []

#----------------------------------------------------------------------------
# The disk.

class FullFile(io.FileIO):
    """A file that takes 100 000 bytes."""
    def write(self, data):
        if self.tell() + len(data) > 100000:
            raise OSError(28, 'No space left on device')
        return super().write(data)

def test_full_disk_gets_its_space_back(get, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'open', lambda path, mode: FullFile(path, mode), raising=False)
    message = refused(get)
    assert 'No space left on device' in message and 'SPIDER_CACHE_DIR' in message
    assert names(tmp_path) == []

def test_too_little_space_is_reported_before_the_download(get, server, tmp_path, monkeypatch):
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda path: usage._replace(free=200000))
    assert '0 MB free' in refused(get)
    assert names(tmp_path) == []

def test_check_file(tmp_path):
    (tmp_path / 'f').write_bytes(b'abc')
    assert check_file(tmp_path / 'f', File('f')) == hashlib.sha256(b'abc').hexdigest()
    assert check_file(tmp_path / 'f', File('f', size=3, md5=hashlib.md5(b'abc').hexdigest().upper()))
    with pytest.raises(WrongFile, match='3 bytes instead of 4'):
        check_file(tmp_path / 'f', File('f', size=4))

#----------------------------------------------------------------------------

def test_one_process_at_a_time(tmp_path, capfd):
    pytest.importorskip('fcntl')
    order, inside = [], threading.Event()
    def second():
        inside.wait(5)
        with exclusive(tmp_path / 'lock', 'x'):
            order.append('second')
    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(tmp_path / 'lock', 'x'):
        inside.set()
        for _ in range(500):
            if 'waiting' in capfd.readouterr().err:
                break
            time.sleep(0.01)
        else:
            pytest.fail('the second one does not wait')
        order.append('first')
    thread.join(5)
    assert order == ['first', 'second']

def test_progress_shows_rate_and_time_left():
    progress = Progress('x', 170e6, 'MB', done=20e6)
    assert progress.line(50e6, 10.0) == 'x: 50.0 of 170.0 MB, 3.0 MB/s, 0:40 left'
    assert progress.line(20e6, 10.0) == 'x: 20.0 of 170.0 MB, 0.0 MB/s, waiting'
    assert Progress('x', None, 'MB').line(5e6, 2.0) == 'x: 5.0 MB, 2.5 MB/s'
    assert Progress('x', 200).line(50, 10.0) == 'x: 50 of 200 images, 5/s, 0:30 left'
