"""Downloads of published files. They are resumable, are compared with the published digest, and appear complete or not at all.

    NAME.part       the bytes so far; kept after a broken download, so that the next attempt resumes from there
    NAME.json       of a file without a published digest: its size, time and digest at the download, which it must have ever after

A page of text in place of the file, and more bytes than published or than SPIDER_MAX_DOWNLOAD gigabytes, are refused.

Bytes are stored as they arrive. Servers that label a .gz file as 'Content-Encoding: gzip' mean the file, not the transfer."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import requests
import urllib3

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file
from spider_plugin.files.kinds import WrongFile, check_beginning, check_content
from spider_plugin.files.progress import Progress

try:
    import fcntl
except ImportError:     # Windows has other locks; two processes may download the same file there
    fcntl = None    # type: ignore[assignment]

_BLOCK   = 1 << 16      # bytes read at a time
_LOOK    = 1 << 26      # bytes after which the free space is looked at again, where the length is not known
_MOST    = 100          # gigabytes of a file whose size is not published; $SPIDER_MAX_DOWNLOAD
_RECORDS = ('size', 'mtime_ns', 'sha256')       # entries of NAME.json

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class File:
    """A published file: its name, addresses, size and digests."""

    name:   str                     # its name on disk
    urls:   tuple      = ()         # addresses of the same bytes, tried in turn; empty if it must be fetched by hand
    size:   int | None = None       # bytes
    sha256: str | None = None       # hex digests, where they are published
    md5:    str | None = None
    kinds:  tuple      = ()         # of kinds.KINDS, where no digest is published; none: any but a page

    @property
    def digest(self):
        """The strongest published digest as (kind, hex), or None."""
        return next(((kind, getattr(self, kind)) for kind in ('sha256', 'md5') if getattr(self, kind)), None)

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

def hidden(url):
    """Return a URL for messages, with stars in place of a name and password."""
    return re.sub('(?<=://)[^/?#]*@', '***@', url)

def most_bytes(file, what):
    """Return how many bytes a File may have. Raises SpiderError if SPIDER_MAX_DOWNLOAD is no number of gigabytes."""
    if file.size is not None:
        return file.size
    text = os.environ.get('SPIDER_MAX_DOWNLOAD') or str(_MOST)
    if not re.fullmatch(r'[0-9]{1,9}(\.[0-9]{1,9})?', text):
        raise SpiderError(f'{what}: SPIDER_MAX_DOWNLOAD={text} is not a number of gigabytes, such as {_MOST}; correct it.')
    return int(float(text) * 1e9)

#----------------------------------------------------------------------------
# Files without a published digest.

def _note(path):
    return path.with_name(f'{path.name}.json')

def _remember(path, sha256):
    stat = path.stat()
    with atomic_file(_note(path)) as temp:
        temp.write_text(json.dumps(dict(zip(_RECORDS, (stat.st_size, stat.st_mtime_ns, sha256)))) + '\n', encoding='utf-8')

def _check_again(path, file):
    """Return the sha256 of the file at `path` if it is as it was downloaded. Raises WrongFile.

    It is read only where its size or time is another one, or where nothing is remembered of it."""
    try:
        known = [json.loads(_note(path).read_text(encoding='utf-8'))[name] for name in _RECORDS]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = [None, None, None]
    stat = path.stat()
    if known[:2] == [stat.st_size, stat.st_mtime_ns]:
        return known[2]
    check_content(path, file.kinds)
    sha256 = check_file(path, file)
    if known[2] not in (None, sha256):
        raise WrongFile(f'sha256 {sha256} instead of {known[2]}')
    _remember(path, sha256)
    return sha256

def download_once(file, path, *, what):
    """Download a File to `path`, unless it is there as it was published or, without a digest, as it was downloaded; return its
    sha256. One process at a time does so. Raises SpiderError."""
    path = Path(path)
    with exclusive(path.with_name(f'{path.name}.lock'), what):
        if path.exists() and not file.digest:
            try:
                return _check_again(path, file)
            except WrongFile as error:
                print(f'{what}: {path} is not the file that was downloaded ({error}); it is downloaded again.', file=sys.stderr)
        sha256 = download(file, path, what=what)
        if not file.digest:
            _remember(path, sha256)
        return sha256

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
            if not file.digest:
                check_content(part, file.kinds)
            digest = check_file(part, file)
            part.replace(path)
            return digest
        except (_Broken, _Refused) as error:
            failures.append(f'{hidden(url)}: {error}')
        except WrongFile as error:      # a wrong part cannot be resumed
            part.unlink(missing_ok=True)
            failures.append(f'{hidden(url)} is not the {"published" if file.digest else "wanted"} file: {error}')
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
        if not file.digest and 'html' in response.headers.get('Content-Type', '').lower():
            raise WrongFile('a web page, perhaps of a login')
        if total is not None and file.size is not None and total != file.size:
            raise _Refused(f'{total} bytes there instead of {file.size}')
        most = most_bytes(file, what)
        if (total or 0) > most:
            raise _Refused(_too_large(most))
        _check_space(part, (total or have) - have, what)
        _store(response, part, have, total, most, file, what)
    if total is not None and part.stat().st_size < total:
        raise _Broken('the connection was closed early')

def _where(response, have, part):
    """Return (offset at which the answer begins, length of the whole file or None)."""
    status = response.status_code
    if status == 206:
        match = re.fullmatch(r'bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)', response.headers.get('Content-Range', ''))
        if match and int(match[1]) == have:
            return have, None if match[2] == '*' else int(match[2])
    if status == 200:       # a server without ranges starts over
        length = response.headers.get('Content-Length', '')
        return 0, int(length) if re.fullmatch('[0-9]{1,18}', length) else None
    if status in (206, 416):
        part.unlink()
        raise _Broken('the server has another file than before')
    error = _Broken if status in (408, 429) or status >= 500 else _Refused
    raise error(f'the server answers {status} {response.reason}'.rstrip())

def _too_large(most):
    return f'more than {most / 1e9:g} GB; set SPIDER_MAX_DOWNLOAD, in GB, if the file is so large'

def _store(response, part, have, total, most, file, what):
    """Append the answer to `part`. If the disk is full, remove `part`, so that its space is free again."""
    progress, looked = Progress(f'{what}: downloading {file.name}', total, 'MB', done=have), have
    try:
        with open(part, 'r+b' if have else 'wb') as out:
            out.seek(have)
            for block in _blocks(response):
                if out.tell() == 0 and not file.digest:
                    check_beginning(block, file.kinds)
                if out.tell() + len(block) > most:
                    raise WrongFile(_too_large(most))
                out.write(block)
                progress.update(out.tell())
                if total is None and out.tell() - looked > _LOOK:
                    _check_space(part, 2 * _LOOK, what)
                    looked = out.tell()
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
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema,
            UnicodeError) as error:
        raise _Refused('not an address') from error
    except requests.TooManyRedirects as error:
        raise _Refused('it leads from address to address without an end') from error
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
