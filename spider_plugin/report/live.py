"""`spider report --live`: serves the page of some runs to this machine alone, and refreshes it when their files change.

The server listens on the loopback address, answers requests that name it so, and serves two things: the page, and a stamp of the
runs' files, for which the page asks every few seconds."""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from spider_plugin.errors import SpiderError

HOST    = '127.0.0.1'
SECONDS = 3     # between two questions of a page for the stamp

# A page that is refreshed keeps the place of its slider and the hidden runs; the browser keeps its scroll.
SCRIPT = '''
{
  const stamp = %r, kept = JSON.parse(sessionStorage.getItem('report') || '{}'), slider = document.getElementById('time');
  if (slider && kept.time !== undefined) { slider.value = kept.time; slider.dispatchEvent(new Event('input')); }
  for (const run of kept.hidden || []) { const box = document.querySelector(`input[data-run="${run}"]`); if (box) box.click(); }
  setInterval(async () => {
    try {
      if (await (await fetch('stamp', {cache: 'no-store'})).text() === stamp) return;
    } catch { return; }
    const hidden = [...document.querySelectorAll('input[data-run]')].filter(box => !box.checked).map(box => box.dataset.run);
    const time = slider && slider.value !== slider.max ? slider.value : undefined;
    sessionStorage.setItem('report', JSON.stringify({hidden, time}));
    location.reload();
  }, %d);
}
'''

def stamp_of(folders: Sequence[str | os.PathLike[str]]) -> str:
    """Return a text that changes when a file of the runs does."""
    digest = hashlib.sha256()
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.endswith(('.jsonl', '.json', '.png', '.pkl')):
                try:
                    status = entry.stat()
                except OSError:
                    continue
                digest.update(f'{entry.name}\0{status.st_mtime_ns}\0{status.st_size}\0'.encode(errors='replace'))
    return digest.hexdigest()[:16]

class _Pages:
    """The page, rendered again when the files have changed. What cannot be read at the moment leaves the last one."""

    def __init__(self, folders, render):
        self.folders, self.render = folders, render
        self.lock, self.stamp, self.page = threading.Lock(), '', b''

    def now(self):
        with self.lock:
            stamp = stamp_of(self.folders)
            if stamp != self.stamp:
                try:
                    self.page = self.render(SCRIPT % (stamp, 1000 * SECONDS)).encode()
                    self.stamp = stamp
                except SpiderError:
                    if not self.page:
                        raise
            return self.page

class _Handler(BaseHTTPRequestHandler):
    server: 'Server'
    timeout = 30

    def do_GET(self) -> None:
        name = self.headers.get('Host', '').rpartition(':')[0] or self.headers.get('Host', '')
        if name not in (HOST, 'localhost'):     # Another site's name that was made to point here.
            self._answer(403, b'The report is served to this machine alone.\n', 'text/plain')
        elif self.path in ('/', '/index.html'):
            try:
                self._answer(200, self.server.pages.now(), 'text/html')
            except SpiderError as error:
                self._answer(503, f'{error.message}\n'.encode(), 'text/plain')
        elif self.path == '/stamp':
            self._answer(200, stamp_of(self.server.pages.folders).encode(), 'text/plain')
        else:
            self._answer(404, b'There is only the page /.\n', 'text/plain')

    def _answer(self, code, body, kind):
        self.send_response(code)
        for name, value in (('Content-Type', f'{kind}; charset=utf-8'), ('Content-Length', str(len(body))),
                            ('Cache-Control', 'no-store'), ('X-Content-Type-Options', 'nosniff'),
                            ('Content-Security-Policy', "default-src 'none'; connect-src 'self'; img-src data:; style-src "
                                                        "'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: every few seconds would be a line."""

class Server(ThreadingHTTPServer):
    """Serves the report of runs on the loopback address.

    folders:    those of the runs.
    render:     a function of the script that refreshes the page, which returns the page.
    port:       0 for any that is free.
    Raises SpiderError where the port cannot be had."""

    daemon_threads = True

    def __init__(self, folders: Sequence[str | os.PathLike[str]], render: Callable[[str], str], port: int = 0) -> None:
        self.pages = _Pages([Path(folder) for folder in folders], render)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise SpiderError(f'--port={port} cannot be used ({error.strerror}); give another one, or leave it out for one that '
                              'is free.') from error

    @property
    def url(self) -> str:
        return f'http://{HOST}:{self.server_address[1]}/'

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that goes away in the middle of an answer."""
