"""Files from the network: resumed where they broke off, compared with their published digest, in place whole or not at all.

    NAME.part       what has arrived; stays after a broken download, so that the next one goes on from there

Bytes are stored as they come. Servers that label a .gz file as 'Content-Encoding: gzip' mean the file, not the transfer."""

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
    """A file that somebody publishes, and what is known of it."""

    name:   str                     # what it is called on disk
    urls:   tuple      = ()         # addresses of the same bytes, tried in turn; none: fetched by hand
    size:   int | None = None       # bytes
    sha256: str | None = None       # hex digests, where they are published
    md5:    str | None = None

    @property
    def digest(self):
        """(kind, hex) of the strongest published digest, or None."""
        return next(((kind, getattr(self, kind)) for kind in ('sha256', 'md5') if getattr(self, kind)), None)

class WrongFile(Exception):
    """A file is not the published one; says how they differ."""

def check_file(path, file):
    """The sha256 of what lies at `path`. Raises WrongFile where its size or digest is not that of `file`."""
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
    """Downloads a File to `path`, unless its digest is that of what is there already, and returns its sha256.

    what:   the option that asked for it, which begins every message.
    stall:  seconds without a byte after which a connection counts as broken.
    tries:  requests to each address, `pause` seconds apart; each goes on where the one before broke off.
    Raises SpiderError: one sentence."""
    path = Path(path)
    if file.digest and path.exists():
        with contextlib.suppress(WrongFile):
            return check_file(path, file)
    part = path.with_name(f'{path.name}.part')
    if not file.digest:         # nothing would tell whether an old part belongs to the file of today
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
        except WrongFile as error:      # nothing in it can be trusted to go on from
            part.unlink(missing_ok=True)
            failures.append(f'{url} is not the published file: {error}')
    kept = part.stat().st_size if part.exists() else 0
    again = f'try again, which goes on after the {kept / 1e6:.1f} MB that have arrived' if kept else 'try again later'
    raise SpiderError(f'{what}: {file.name} cannot be downloaded ({"; ".join(failures)}); {again}, {by_hand}.')

def _fetch(url, part, file, what, stall, tries, pause):
    """Completes `part`. Raises _Refused, or _Broken when the last try is."""
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
    """One request for all that `part` lacks."""
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
    """(offset at which the answer begins, length of the whole file or None)."""
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
    """Appends the answer to `part`. A disk that takes no more gets its space back."""
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
    """Turns errors of the network into _Broken; those of the disk are OSErrors as well, and must stay apart."""
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
    """One process at a time: others wait, and find done what the first one did. The lock ends with the process."""
    with open(path, 'ab') as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f'{what}: another process is at it; waiting for it to finish.', file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:     # a file system without locks
                pass
        yield

#----------------------------------------------------------------------------
