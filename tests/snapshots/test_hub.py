"""`spider push` and `spider pull` against a server of this machine that speaks the hub's language."""

import base64
import hashlib
import http.server
import json
import threading
import urllib.parse
from pathlib import Path

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.files.checksum import PickleFile
from spider_plugin.snapshots import hub

TOKEN = 'hf_' + 'secret' * 5

class Hub(http.server.BaseHTTPRequestHandler):
    """Repositories as {name: {file: bytes}} in the server's `repositories`; a request without the token is refused."""

    def log_message(self, *args):
        pass

    def answer(self, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in dict(headers, Content_Length=str(len(body))).items():
            self.send_header(name.replace('_', '-'), text)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def refused(self):
        self.server.seen.append((self.command, self.path))
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            self.answer({}, 401, X_Error_Message='no')
            return True
        return False

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        if self.refused():
            return
        parts = urllib.parse.urlsplit(self.path).path.strip('/').split('/')
        if parts[-2:] == ['repos', 'create']:
            given = json.loads(text)
            name = f'{given.get("organization") or "me"}/{given["name"]}'
            self.server.repositories.setdefault(name, {})
            self.answer(dict(url=f'{self.server.url}/{name}'))
        elif 'preupload' in parts:
            self.answer(dict(files=[dict(path=file['path'], uploadMode='regular', shouldIgnore=False)
                                    for file in json.loads(text)['files']]))
        elif 'commit' in parts:
            files = [json.loads(line)['value'] for line in text.splitlines() if json.loads(line)['key'] == 'file']
            self.server.commits.append([file['path'] for file in files])
            self.server.repositories['/'.join(parts[2:4])].update({f['path']: base64.b64decode(f['content']) for f in files})
            commit = '0' * 40
            self.answer(dict(success=True, commitOid=commit, commitUrl=f'{self.server.url}/me/x/commit/{commit}', hookOutput=''))
        else:
            self.answer(dict(errors=[], warnings=[]))       # validate-yaml

    def do_GET(self):
        if self.refused():
            return
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip('/').split('/')
        listing = parts[0] == 'api'
        files = self.server.repositories.get('/'.join(parts[2:4] if listing else parts[:2]))
        if files is None:
            self.answer({}, 404, X_Error_Code='RepoNotFound')
        elif listing:
            self.answer([dict(type='file', path=name, size=len(data), oid='0' * 40) for name, data in files.items()])
        elif (name := '/'.join(parts[4:])) not in files:
            self.answer({}, 404, X_Error_Code='EntryNotFound')
        else:
            self.answer(files[name], ETag=f'"{hashlib.sha1(files[name]).hexdigest()}"', X_Repo_Commit='0' * 40)

    do_HEAD = do_GET

@pytest.fixture
def server(monkeypatch, tmp_path):
    pytest.importorskip('huggingface_hub', reason='the extra `hub` is not installed')
    for name, value in dict(no_proxy='127.0.0.1', NO_PROXY='127.0.0.1', HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET='1',
                            HF_HUB_DISABLE_PROGRESS_BARS='1').items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
        server.url, server.repositories, server.commits, server.seen = f'http://127.0.0.1:{server.server_port}', {}, [], []
        monkeypatch.setenv('HF_ENDPOINT', server.url)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server
        server.shutdown()

@pytest.fixture
def snapshot(make_snapshot, tmp_path):
    """A snapshot with its checksum."""
    path = tmp_path / 'made' / 'network-snapshot-000001.pkl'
    path.parent.mkdir()
    with PickleFile(path) as file:
        file.write(Path(make_snapshot(spider=dict(mapping='residual', source=_source(), embed=1))).read_bytes())
    return path

def _source():
    from spider_plugin.sources.prepare import prepare_source
    return prepare_source('shapes', size=16, bank=30).path

def test_up_in_one_commit_and_down_again(server, snapshot, tmp_path, capfd):
    hub.push(snapshot, 'hf://me/nets')
    name = snapshot.name
    assert server.commits == [[name, 'network-snapshot-000001.json', 'README.md']]
    card = server.repositories['me/nets']['README.md'].decode()
    assert card.startswith('---\nlibrary_name: spider-plugin') and '| name | shapes |' in card
    assert f'spider pull hf://me/nets/{name}' in card and str(tmp_path) not in card
    assert hub.pull('hf://me/nets') == [f'{name}: its checksum is right']
    assert (tmp_path / name).read_bytes() == snapshot.read_bytes()
    hub.pull(f'hf://me/nets/{name}', 'other.pkl')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['made', name, 'other.pkl']
    with pytest.raises(SpiderError, match='exists'):
        hub.pull('hf://me/nets')
    assert TOKEN not in ''.join(capfd.readouterr()) + card

def test_a_card_of_somebody_stays(server, snapshot):
    server.repositories['me/nets'] = {'README.md': b'mine'}
    assert 'stays' in hub.push(snapshot, 'hf://me/nets/g.pkl')[-1]
    assert server.repositories['me/nets']['README.md'] == b'mine' and 'g.pkl' in server.repositories['me/nets']
    hub.push(snapshot, 'hf://me/others')
    hub.push(snapshot, 'hf://me/others/second.pkl')     # its own card is written anew
    assert b'second.pkl' in server.repositories['me/others']['README.md']

def test_what_is_damaged_or_no_network_leaves_nothing(server, snapshot, tmp_path):
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    server.repositories['me/nets'] = {'changed.pkl': bytes(data), 'code.pkl': b"cos\nsystem\n(S'touch executed'\ntR.",
                                      'page.pkl': b'<!DOCTYPE html><html></html>'}
    for name, words in dict(changed='has changed since it was written', code='hf://me/nets/code.pkl', page='HTML page').items():
        with pytest.raises(SpiderError, match=words):
            hub.pull(f'hf://me/nets/{name}.pkl')
    with pytest.raises(SpiderError, match='3 network pickles'):
        hub.pull('hf://me/nets')
    assert [path.name for path in tmp_path.iterdir()] == ['made']

def test_refusals_are_sentences_without_the_token(server, snapshot, monkeypatch):
    for address in ('me/nets', 'hf://me', 'hf://me/nets/../x.pkl', 'hf://me/nets/a//b.pkl', 'https://huggingface.co/me/nets'):
        with pytest.raises(SpiderError, match='give hf://OWNER/NAME'):
            hub.pull(address)
    with pytest.raises(SpiderError, match='does not exist, or is private'):
        hub.pull('hf://me/nothing')
    server.repositories['me/nets'] = {}
    with pytest.raises(SpiderError, match='no such file'):
        hub.pull('hf://me/nets/none.pkl')
    monkeypatch.setenv('HF_TOKEN', 'hf_' + 'wrong' * 6)
    with pytest.raises(SpiderError, match='does not allow that|does not exist, or is private') as info:
        hub.push(snapshot, 'hf://me/nets')
    assert 'wrong' not in info.value.message and server.commits == []
    with pytest.raises(SpiderError, match='test_hub.py'):
        hub.push(__file__, 'hf://me/nets/g.pkl')
