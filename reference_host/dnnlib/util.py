"""Attribute dictionaries, a log to file and terminal, objects by name, and files by URL."""

import hashlib
import importlib
import io
import os
import re
import sys
import tempfile
import types
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import requests

MOST_DOWNLOAD = 100 << 30   # Bytes.

#----------------------------------------------------------------------------

class EasyDict(dict):
    """A dict whose string keys are attributes as well: `d.x` is `d['x']`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(name)
        del self[name]

#----------------------------------------------------------------------------
# Log.

class _Tee:
    """A text stream that also writes to a file; all other attributes are those of the stream."""

    def __init__(self, stream, file, should_flush):
        self._stream, self._file, self._should_flush = stream, file, should_flush

    def write(self, text):
        if self._file is not None and not self._file.closed: # First: the stream's terminal may be gone.
            self._file.write(text)
        self._stream.write(text)
        if self._should_flush:
            self.flush()
        return len(text)

    def flush(self):
        if self._file is not None and not self._file.closed:
            self._file.flush()
        self._stream.flush()

    def __getattr__(self, name):
        return getattr(self._stream, name)

class Logger:
    """Copies the output to stdout and stderr to `file_name`, from construction to close().

    file_name=None writes no file and only makes both streams flush at every write.
    """

    def __init__(self, file_name: str | None = None, file_mode: str = 'w', should_flush: bool = True):
        self._file = None if file_name is None else open(file_name, file_mode, encoding='utf-8')
        self._previous = sys.stdout, sys.stderr
        self._streams = tuple(_Tee(stream, self._file, should_flush) for stream in self._previous)
        sys.stdout, sys.stderr = self._streams

    def close(self) -> None:
        if sys.stdout is self._streams[0]:
            sys.stdout = self._previous[0]
        if sys.stderr is self._streams[1]:
            sys.stderr = self._previous[1]
        if self._file is not None:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

#----------------------------------------------------------------------------
# Time.

def format_time(seconds: float) -> str:
    """Return seconds as '59s', '1m 02s', '3h 04m 05s' or '2d 03h 04m'."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f'{days}d {h:02d}h {m:02d}m'
    if hours:
        return f'{h}h {m:02d}m {s:02d}s'
    return f'{m}m {s:02d}s' if minutes else f'{s}s'

#----------------------------------------------------------------------------
# Objects by name.

def get_module_from_obj_name(obj_name: str) -> tuple[types.ModuleType, str]:
    """Return (the module, 'Class.attr') for 'package.module.Class.attr'. The longest importable prefix is the module."""
    parts = obj_name.split('.')
    for n in range(len(parts) - 1, 0, -1):
        module_name = '.'.join(parts[:n])
        try:
            return importlib.import_module(module_name), '.'.join(parts[n:])
        except ModuleNotFoundError as error: # Only if it is not a module; an error inside a module is raised.
            if error.name is None or not (module_name + '.').startswith(error.name + '.'):
                raise
    raise ImportError(f'No module found for {obj_name!r}.')

def get_obj_from_module(module: types.ModuleType, obj_name: str) -> Any:
    obj = module
    for name in filter(None, obj_name.split('.')):
        obj = getattr(obj, name)
    return obj

def get_obj_by_name(name: str) -> Any:
    """Return the object with the absolute dotted name. Raises ImportError or AttributeError if there is none."""
    return get_obj_from_module(*get_module_from_obj_name(name))

def call_func_by_name(*args, func_name: str, **kwargs) -> Any:
    return get_obj_by_name(func_name)(*args, **kwargs)

def construct_class_by_name(*args, class_name: str, **kwargs) -> Any:
    return call_func_by_name(*args, func_name=class_name, **kwargs)

def get_module_dir_by_obj_name(obj_name: str) -> str:
    module, _ = get_module_from_obj_name(obj_name)
    return os.path.dirname(os.path.abspath(module.__file__))

#----------------------------------------------------------------------------
# Files by URL.

_cache_dir = None

def set_cache_dir(path: str) -> None:
    global _cache_dir
    _cache_dir = path

def make_cache_dir_path(*paths: str) -> str:
    """Return a path in the cache, which is that of set_cache_dir(), else $DNNLIB_CACHE_DIR, else ~/.cache/dnnlib."""
    root = _cache_dir or os.environ.get('DNNLIB_CACHE_DIR') or os.path.join(os.path.expanduser('~'), '.cache', 'dnnlib')
    return os.path.join(root, *paths)

def is_url(obj: Any, allow_file_urls: bool = False) -> bool:
    """Return True for 'http://host/...' and 'https://host/...', and for 'file://...' if allowed."""
    if not isinstance(obj, str):
        return False
    parts = urllib.parse.urlsplit(obj)
    if parts.scheme == 'file':
        return allow_file_urls
    return parts.scheme in ('http', 'https') and parts.netloc != ''

def open_url(url: str, cache_dir: str | None = None, num_attempts: int = 10, verbose: bool = True,
             return_filename: bool = False, cache: bool = True) -> Any:
    """Open a local path, a file:// URL or an http(s) URL for binary reading, or return its local file name.

    A download is stored in the cache under the hash of its URL, and appears there complete or not at all. cache=False
    downloads into memory instead, so it excludes return_filename. Raises OSError, also for a web page.
    """
    if not is_url(url):
        is_file_url = is_url(url, allow_file_urls=True)
        path = urllib.request.url2pathname(urllib.parse.urlsplit(url).path) if is_file_url else url
    elif cache:
        path = _cached_download(url, cache_dir or make_cache_dir_path('downloads'), num_attempts, verbose)
    elif return_filename:
        raise ValueError('open_url: return_filename=True needs cache=True.')
    else:
        file = _download(url, io.BytesIO(), num_attempts, verbose)
        file.seek(0)
        return file
    return path if return_filename else open(path, 'rb')

def _cached_download(url, folder, num_attempts, verbose):
    """Return the path of the cached copy of url; download it through a temporary file if it is missing."""
    name = re.sub(r'[^A-Za-z0-9._-]', '_', urllib.parse.urlsplit(url).path.rsplit('/', 1)[-1])[-100:]
    path = os.path.join(folder, hashlib.sha256(url.encode()).hexdigest()[:32] + '_' + name)
    if not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
        fd, temp = tempfile.mkstemp(dir=folder, prefix='.download-')
        try:
            with os.fdopen(fd, 'wb') as file:
                _download(url, file, num_attempts, verbose)
            os.replace(temp, path)
        except BaseException:
            os.unlink(temp)
            raise
    return path

def without_login(url: str) -> str:
    """Return a URL for messages, without the name and password that it may hold."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()

def body_of(reply: requests.Response) -> Iterator[bytes]:
    """Yield the body of a reply in parts. Raises OSError where it is a web page, as of a login, or larger than MOST_DOWNLOAD."""
    if reply.headers.get('Content-Type', '').lower().startswith(('text/html', 'application/xhtml')):
        raise OSError('it is a web page and no file')
    count = 0
    for chunk in reply.iter_content(1 << 18):
        count += len(chunk)
        if count > MOST_DOWNLOAD:
            raise OSError(f'it is larger than {MOST_DOWNLOAD >> 30} GiB')
        yield chunk

def _download(url, file, num_attempts, verbose):
    """Write the content of url into file, from its start. Lost connections are tried again, refusals (4xx) are not."""
    if verbose:
        print(f'Downloading {without_login(url)} ...', flush=True)
    for attempts_left in reversed(range(num_attempts)):
        try:
            file.seek(0)
            file.truncate()
            with requests.get(url, stream=True, timeout=60) as reply:
                reply.raise_for_status()
                for chunk in body_of(reply):
                    file.write(chunk)
            return file
        except requests.RequestException as error:
            refused = error.response is not None and error.response.status_code < 500
            if refused or attempts_left == 0:
                raise

#----------------------------------------------------------------------------
