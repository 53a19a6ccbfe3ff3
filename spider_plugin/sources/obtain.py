"""Obtains a zip in the hosts' format for the name of a dataset, and a file for a URL. Each is downloaded once and kept.

The cache holds

    datasets/NAME-<hash>/NAME.zip       a dataset; the hash is of the files' published digests and of how they are read
    downloads/<hash>/FILE               the file of a URL (files/download.py)"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import cache_dir
from spider_plugin.files.download import File, WrongFile, check_file, download, download_once, exclusive, hidden
from spider_plugin.files.progress import Progress
from spider_plugin.registry import datasets
from spider_plugin.sources.convert import read, write_zip

_FORMAT = 1     # version of the code that decides the content of the zip

#----------------------------------------------------------------------------

def resolve(spec):
    """Return the path of the zip for `NAME` or `NAME:PATH`; return a spec that names no dataset unchanged.

    A zip that the cache lacks is downloaded and converted. With PATH nothing is downloaded; PATH is the published file, or a
    folder that holds it or its unpacked content. Raises SpiderError naming --spider-source."""
    name, _, path = spec.partition(':')
    if name not in datasets:
        return spec
    dataset, what = datasets[name], f'--spider-source={name}'
    paths = _user_files(dataset, Path(path).expanduser(), what) if path else None
    digests = _user_digests(dataset, paths, what) if path else _published_digests(dataset)
    final = _zip_path(name, dataset, digests)
    if not final.exists():
        if not path and not all(file.urls for file in dataset.files):
            raise SpiderError(f'{what} has to be fetched by hand: {dataset.how}, as {what}:PATH (licence {dataset.licence}; '
                              f'{dataset.page}).')
        with exclusive(final.parent.with_name(f'{final.parent.name}.lock'), what):
            if not final.exists():
                _make(name, dataset, paths, digests, final, what)
    return str(final)

def local_file(path, option, kind=None):
    """Return a path as it is, and for a URL what fetch() returns."""
    return fetch(path, option, kind) if '://' in str(path) else path

def fetch(url, option='--spider-source', kind=None):
    """Return the path of the file at a URL; download it where the cache lacks it.

    The URL may end in #sha256=HEX, the digest that the file must have.
    kind:   of files/kinds.py, which the file must be without a digest, or 'any'; None: pickle for a name in .pkl, else zip.
    Raises SpiderError naming the option."""
    address, _, fragment = url.partition('#')
    what, sha256 = f'{option}={hidden(address)}', fragment.removeprefix('sha256=') or None
    if not re.match('https?://', address):
        raise SpiderError(f'{what} cannot be downloaded; give an address that begins with https:// or http://, or a path.')
    if sha256 is not None and not re.fullmatch('[0-9a-fA-F]{64}', sha256):
        raise SpiderError(f'{what}#{fragment} does not end in a digest; give #sha256= and 64 hex digits, or nothing.')
    name = file_name(address)
    path = cache_dir('downloads', hashlib.sha256(address.encode('utf-8', 'surrogateescape')).hexdigest()[:16]) / name
    kind = kind or ('pickle' if name.endswith('.pkl') else 'zip')
    download_once(File(name, (address,), sha256=sha256, kinds=() if kind == 'any' else (kind,)), path, what=what)
    return str(path)

def file_name(address):
    """Return a name for the file at an address: its last part in plain letters, cut to the last hundred, and no hidden one."""
    last = re.split('[?#]', address)[0].rpartition('/')[2]
    return re.sub(r'[^A-Za-z0-9._-]', '_', last)[-100:].lstrip('.-') or 'download'

def _make(name, dataset, paths, digests, final, what):
    print(f'{what}: {dataset.title}, {dataset.images} images; licence: {dataset.licence}; {dataset.page}', file=sys.stderr)
    downloaded = paths is None
    if downloaded:
        paths = {file.name: cache_dir('downloads', name) / file.name for file in dataset.files}
        digests = {file.name: download(file, paths[file.name], what=what) for file in dataset.files}
    samples = read(dataset.reader, paths, dataset.options, channels=dataset.channels, what=what)
    try:
        write_zip(samples, final, what=what, progress=Progress(f'{what}: converting', dataset.images),
                  info=dict(name=name, licence=dataset.licence, page=dataset.page, files=digests))
    except OSError as error:    # A full disk is a SpiderError already.
        raise SpiderError(f'{what}: {final.parent} cannot be written ({error.strerror or error}); free space there, or set '
                          'SPIDER_CACHE_DIR to a larger disk.') from error
    if downloaded:      # the zip holds all images of these files
        for path in paths.values():
            path.unlink()

def _zip_path(name, dataset, digests):
    reader = dataset.reader if isinstance(dataset.reader, str) else dataset.reader.__qualname__
    parts = _FORMAT, reader, dataset.options, dataset.channels, dataset.licence, digests
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_dir('datasets') / f'{name}-{key[:12]}' / f'{name}.zip'

def _published_digests(dataset):
    """Return {file name: published digest, or None}."""
    return {file.name: file.digest and file.digest[1] for file in dataset.files}

#----------------------------------------------------------------------------
# Files that the user has.

def _user_files(dataset, path, what):
    """Return {file name: path of the user's file}. The only file of a dataset may have another name, or be unpacked."""
    if not (os.path.isfile(path) or os.path.isdir(path)):       # a pipe would be waited for
        raise SpiderError(f'{what}:{path} does not exist, or is no file; give the file that its publisher offers, or the folder '
                          'it is in.')
    if len(dataset.files) == 1 and not (path / dataset.files[0].name).exists():
        return {dataset.files[0].name: path}
    paths = {file.name: path / file.name for file in dataset.files}
    for name, file in paths.items():
        if not file.is_file():
            raise SpiderError(f'{what}:{path} lacks {name}; give the folder that holds {" and ".join(paths)}.')
    return paths

def _user_digests(dataset, paths, what):
    """Return {file name: digest} of the user's files.

    A file with a published digest gets that digest, so that it leads to the same zip as a download."""
    digests = {}
    for file in dataset.files:
        path = paths[file.name]
        try:
            digests[file.name] = _folder_digest(path) if path.is_dir() else check_file(path, file)
        except (WrongFile, OSError) as error:
            reason = error if isinstance(error, WrongFile) else f'it cannot be read: {error.strerror}'
            raise SpiderError(f'{what}: {path} is not the published {file.name} ({reason}); give that file, or a folder '
                              'with its unpacked content.') from error
        if file.digest and not path.is_dir():
            digests[file.name] = file.digest[1]
    return digests

def _folder_digest(path):
    """Return a digest that changes with the names, sizes and times of the files in a folder."""
    files = sorted((file.relative_to(path).as_posix(), file.stat().st_size, file.stat().st_mtime_ns)
                   for file in path.rglob('*') if file.is_file())
    return 'folder ' + hashlib.sha256(json.dumps(files).encode()).hexdigest()

#----------------------------------------------------------------------------
# The list of datasets.

def listing():
    """Return a dict for JSON for each dataset: its entry in the catalogue, and `cached`, the path of its zip or None."""
    return [dict(
        name=name, title=dataset.title, images=dataset.images, resolution=dataset.resolution, channels=dataset.channels,
        classes=dataset.classes, download_bytes=dataset.download_bytes, licence=dataset.licence, page=dataset.page,
        files=[dict(name=file.name, urls=list(file.urls), size=file.size, sha256=file.sha256, md5=file.md5)
               for file in dataset.files],
        how=dataset.how or None, cached=_cached(name, dataset),
    ) for name, dataset in sorted(datasets.items())]

def _cached(name, dataset):
    published = _zip_path(name, dataset, _published_digests(dataset))
    return next((str(path) for path in [published, *cache_dir('datasets').glob(f'{name}-*/{name}.zip')] if path.exists()), None)

def table(rows):
    """Return the listing as lines of text for a terminal."""
    lines = [('name', 'images', 'pixels', 'download', 'checksum', 'cached', 'licence')]
    for row in rows:
        size = 'size unknown' if row['download_bytes'] is None else f'{row["download_bytes"] / 1e6:.0f} MB'
        by_hand = not all(file['urls'] for file in row['files'])
        digests = [f'{kind} {file[kind][:8]}' for file in row['files'] for kind in ('sha256', 'md5') if file[kind]]
        lines.append((row['name'], str(row['images']), f'{row["resolution"]} x {row["resolution"]}',
                      'by hand' if by_hand else size, ', '.join(digests) or 'none published',
                      'yes' if row['cached'] else 'no', row['licence']))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ['  '.join(f'{cell:<{width}s}' for cell, width in zip(line, widths)).rstrip() for line in lines]

#----------------------------------------------------------------------------
