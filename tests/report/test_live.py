"""`spider report` as a command: the file it writes, the page it serves to this machine alone."""

import http.client
import os
import signal
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.errors import SpiderError
from spider_plugin.report.live import Server, stamp_of
from spider_plugin.report.page import render
from spider_plugin.report.runs import read_run
from spider_plugin.resources import resource_dir

def report(*args):
    return CliRunner().invoke(cli.main, ['report', *map(str, args)])

def test_files(make_run, tmp_path, monkeypatch):
    first, second = make_run('00000-a'), make_run('00001-b', 'stylegan3')
    monkeypatch.chdir(tmp_path)
    assert report(first).output == f'Wrote {first / "report.html"}\n'
    assert report(first, second).output == 'Wrote report.html\n'
    assert report(first, second, '--out', 'x.html').exit_code == 0
    assert (tmp_path / 'x.html').read_text().startswith('<!doctype html>')

@pytest.mark.parametrize('args, words', [
    (['--port=5'], '--port has no effect without --live'), (['--live', '--out=x'], '--out has no effect with --live'),
    (['--out=.'], '--out=. is a folder'), (['--out=no/x.html/y'], None), (['RUN'], 'is named twice'),
    (['RUN'] * 8, 'more than the 8'),
    (['--live', '--port=99999'], '99999'), (['/no-run'], 'cannot be read'),
    (['--out=x\0y'], None), (['--out=' + 'a' * 300], None), (['a' * 300], 'cannot be read')])
def test_refusals(args, words, make_run, tmp_path, monkeypatch):
    run = make_run('run')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'no').touch()
    done = report(run, *[run if arg == 'RUN' else arg for arg in args])
    assert done.exit_code == 2 and done.output.strip().splitlines()[-1].startswith('Error: ') and 'Traceback' not in done.output
    assert words is None or words in done.output

#----------------------------------------------------------------------------

@pytest.fixture
def server(make_run):
    run = make_run('run')
    with Server([run], lambda script: render([read_run(run)], live=script)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, run
        server.shutdown()

def get(server, path='/', host=None):
    connection = http.client.HTTPConnection('127.0.0.1', server.server_address[1], timeout=30)
    connection.request('GET', path, headers={} if host is None else dict(Host=host))
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers

def test_the_page_follows_the_run(server):
    server, run = server
    assert server.server_address[0] == '127.0.0.1' and server.url.startswith('http://127.0.0.1:')
    status, page, headers = get(server)
    assert status == 200 and "fetch('stamp'" in page and stamp_of([run]) in page and get(server, '/stamp')[1] == stamp_of([run])
    assert "connect-src 'self'" in headers['Content-Security-Policy'] and headers['Cache-Control'] == 'no-store'
    with open(run / 'stats.jsonl', 'a') as file:
        file.write('{"Progress/kimg": {"mean": 99}}\n')
    assert get(server, '/stamp')[1] not in page and '99 of 4 thousand' in get(server)[1]

def test_only_the_page_and_only_for_this_machine(server):
    server, run = server
    port = server.server_address[1]
    assert [get(server, path)[0] for path in ('/../stats.jsonl', '/stats.jsonl', '/x')] == [404] * 3
    hosts = f'localhost:{port}', f'127.0.0.1:{port}', 'evil.example', f'evil.example:{port}'
    assert [get(server, host=host)[0] for host in hosts] == [200, 200, 403, 403]

def test_a_run_that_vanishes_leaves_its_last_page(server):
    server, run = server
    page = get(server)[1]
    run.rename(run.with_name('gone'))
    assert get(server)[:2] == (200, page)

def test_a_port_that_is_taken(server):
    with pytest.raises(SpiderError, match='--port=.* cannot be used .* give another one'):
        Server([server[1]], lambda script: '', server[0].server_address[1])

def test_live_ends_by_an_interrupt(make_run):
    process = subprocess.Popen([sys.executable, '-m', 'spider_plugin.cli', 'report', make_run('run'), '--live'], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=resource_dir('patches').parent,
                               env=dict(os.environ, PYTHONUNBUFFERED='1'))
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert 'http://127.0.0.1:' in line and process.wait(timeout=60) == 0, line
