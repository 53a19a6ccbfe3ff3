"""Downloads of published files. They are resumable, are compared with the published digest, and appear complete or not at all.

    NAME.part       the bytes so far; kept after a broken download, so that the next attempt resumes from there

Bytes are stored as they arrive. Servers that label a .gz file as 'Content-Encoding: gzip' mean the file, not the transfer."""

import contextlib
import dataclasses
import hashlib
import re
import shutil
import sys
import time
from pathlib import Path

import requests
import urllib3

from spider_plugin.errors import SpiderError
from spider_plugin.files.progress import Progress

try:
    import fcntl
except ImportError:     # Windows has other locks; two processes may download the same file there
    fcntl = None    # type: ignore[assignment]

_BLOCK = 1 << 16        # bytes read at a time

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class File:
    """A published file: its name, addresses, size and digests."""

    name:   str                     # its name on disk
    urls:   tuple      = ()         # addresses of the same bytes, tried in turn; empty if it must be fetched by hand
    size:   int | None = None       # bytes
    sha256: str | None = None       # hex digests, where they are published
    md5:    str | None = None

    @property
    def digest(self):
        """The strongest published digest as (kind, hex), or None."""
        return next(((kind, getattr(self, kind)) for kind in ('sha256', 'md5') if getattr(self, kind)), None)

class WrongFile(Exception):
    """A file differs from the published one; the message says how."""

def check_file(path, file):
    """Return the sha256 of the file at `path`. Raises WrongFile if its size or digest is not that of `file`."""
    size = Path(path).stat().st_size
    if file.size is not None and size != file.size:
        raise WrongFile(f'{size} bytes instead of {file.size}')
    kind, wanted = file.digest or ('sha256', None)
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {'sha256', kind}}
    with open(path, 'rb') as stream:
        while block := stream.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    found = digests[kind].hexdigest()
    if wanted is not None and found != wanted.lower():
        raise WrongFile(f'{kind} {found} instead of {wanted}')
    return digests['sha256'].hexdigest()

#----------------------------------------------------------------------------

class _Broken(Exception):
    """A request failed for a reason that may pass."""

class _Refused(Exception):
    """A request failed for good."""

def download(file, path, *, what, stall=30.0, tries=4, pause=2.0):
    """Download a File to `path`, unless a file with its digest is there already, and return its sha256.

    what:   the option that asked for it; every message begins with it.
    stall:  seconds without a byte after which a connection counts as broken.
    tries:  requests to each address, `pause` seconds apart; each resumes where the one before stopped.
    Raises SpiderError if no address gives the published file."""
    path = Path(path)
    if file.digest and path.exists():
        with contextlib.suppress(WrongFile):
            return check_file(path, file)
    part = path.with_name(f'{path.name}.part')
    if not file.digest:         # without a digest, an old part may belong to another version of the file
        part.unlink(missing_ok=True)
    by_hand = f'or fetch {file.name} by other means and give {what}:PATH'
    failures = []
    for url in file.urls:
        try:
            _fetch(url, part, file, what, stall, tries, pause)
            digest = check_file(part, file)
            part.replace(path)
            return digest
        except (_Broken, _Refused) as error:
            failures.append(f'{url}: {error}')
        except WrongFile as error:      # a wrong part cannot be resumed
            part.unlink(missing_ok=True)
            failures.append(f'{url} is not the published file: {error}')
    kept = part.stat().st_size if part.exists() else 0
    again = f'try again, which resumes after the {kept / 1e6:.1f} MB that have arrived' if kept else 'try again later'
    raise SpiderError(f'{what}: {file.name} cannot be downloaded ({"; ".join(failures)}); {again}, {by_hand}.')

def _fetch(url, part, file, what, stall, tries, pause):
    """Complete `part`. Raises _Refused, or _Broken if the last try is broken."""
    for attempt in range(tries):
        if file.size is not None and part.exists() and part.stat().st_size == file.size:
            return
        try:
            return _request(url, part, file, what, stall)
        except _Broken:
            if attempt + 1 == tries:
                raise
            time.sleep(pause)

def _request(url, part, file, what, stall):
    """Request all bytes that `part` lacks."""
    have = part.stat().st_size if part.exists() else 0
    headers = {'Accept-Encoding': 'identity', **({'Range': f'bytes={have}-'} if have else {})}
    with _network_errors(), requests.get(url, headers=headers, stream=True, timeout=stall) as response:
        have, total = _where(response, have, part)
        if total is not None and file.size is not None and total != file.size:
            raise _Refused(f'{total} bytes there instead of {file.size}')
        _check_space(part, (total or have) - have, what)
        _store(response, part, have, total, f'{what}: downloading {file.name}', what)
    if total is not None and part.stat().st_size < total:
        raise _Broken('the connection was closed early')

def _where(response, have, part):
    """Return (offset at which the answer begins, length of the whole file or None)."""
    status = response.status_code
    if status == 206:
        match = re.fullmatch(r'bytes (\d+)-\d+/(\d+|\*)', response.headers.get('Content-Range', ''))
        if match and int(match[1]) == have:
            return have, None if match[2] == '*' else int(match[2])
    if status == 200:       # a server without ranges starts over
        length = response.headers.get('Content-Length', '')
        return 0, int(length) if length.isdigit() else None
    if status in (206, 416):
        part.unlink()
        raise _Broken('the server has another file than before')
    error = _Broken if status in (408, 429) or status >= 500 else _Refused
    raise error(f'the server answers {status} {response.reason}'.rstrip())

def _store(response, part, have, total, label, what):
    """Append the answer to `part`. If the disk is full, remove `part`, so that its space is free again."""
    progress = Progress(label, total, 'MB', done=have)
    try:
        with open(part, 'r+b' if have else 'wb') as out:
            out.seek(have)
            for block in _blocks(response):
                out.write(block)
                progress.update(out.tell())
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpiderError(f'{what}: {part.parent} cannot be written ({error.strerror or error}); free space there, or set '
                          'SPIDER_CACHE_DIR to a larger disk.') from error

def _blocks(response):
    with _network_errors():
        while block := response.raw.read(_BLOCK, decode_content=False):
            yield block

@contextlib.contextmanager
def _network_errors():
    """Turn network errors into _Broken or _Refused. Disk errors are OSErrors as well, and must pass unchanged."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
        raise _Refused('not an address') from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _Broken('no answer in time') from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Broken('the connection broke' if isinstance(error, urllib3.exceptions.ProtocolError)
                      else 'no connection') from error

def _check_space(part, needed, what):
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise SpiderError(f'{what}: {part.parent} has {free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are needed; free '
                          'space there, or set SPIDER_CACHE_DIR to a larger disk.')

#----------------------------------------------------------------------------

@contextlib.contextmanager
def exclusive(path, what):
    """Hold a lock on `path`, so that one process at a time runs the body. The lock ends with the process.

    A process that waited must check whether the first one has done the work already."""
    with open(path, 'ab') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'{what}: another process prepares it; waiting for it to finish.', file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:     # a file system without locks
                pass
        yield

#----------------------------------------------------------------------------
