"""Which files of a folder or a zip are pictures, which holds the labels, and what is left out, counted by reason.

This file is the same in the plugin, in files/pictures/, and in the reference host, in training/pictures/, which runs without the
plugin; a test compares the bytes."""

import collections
import dataclasses
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator

LABELS  = 'dataset.json'
ENDINGS = frozenset(
    '.png .apng .jpg .jpeg .jpe .jfif .mpo .webp .bmp .dib .gif .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst .tif .tiff .jp2 '
    '.j2k .j2c .jpc .jpf .jpx .avif .avifs .heic .heics .heif .heifs .hif'.split())
_MAY_LACK = {'.avif', '.avifs', '.heic', '.heics', '.heif', '.heifs', '.hif'}    # a package that reads them
_SYSTEM   = {'__macosx', '@eadir', '$recycle.bin', 'system volume information', 'thumbs.db', 'desktop.ini'}

HIDDEN, LINKS, BROKEN, ZIPPED_LINK, STRANGE, TWICE, NO_PICTURE, OTHER_LABELS = (
    'hidden or of the system', 'behind a link to a folder', 'behind a broken link', 'behind a link in a zip',
    'of no regular kind (a pipe, a device)', 'named twice in a zip', 'without an ending and no picture',
    f'{LABELS} below the folder of the pictures')
_HEAD = 64      # bytes of a file that say what it is

@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a set.

    pictures:   names of the pictures in their order, that of the names; with forward slashes in a folder, as they are in a zip.
    labels:     name of the dataset.json, None where there is none.
    left_out:   how many other files there are, by reason: one of those above, or an ending such as '.txt'."""

    pictures: list[str]
    labels:   str | None
    left_out: collections.Counter[str]

    def tell(self, where: object) -> str | None:
        """Return a line that counts what was left out, None for nothing."""
        said = [f'{count} {reason}' for reason, count in sorted(self.left_out.items())]
        return f'Left out of {where}: {", ".join(said)}' if said else None

#----------------------------------------------------------------------------

def list_folder(path: str | os.PathLike, look: Callable[[bytes], tuple[str | None, str | None]]) -> Listing:
    """List a folder and those below it. Links to files are followed, links to folders are not.

    look:   function of the first bytes of a file that returns what decode.look_at() does. It is asked about names without an
            ending, and about those that need a package."""
    def head(name: str) -> bytes:
        try:
            with open(os.path.join(path, name), 'rb') as file:
                return file.read(_HEAD)
        except OSError:
            return b''
    return _listing(_walk(os.fspath(path)), head, look)

def list_zip(archive: zipfile.ZipFile, look: Callable[[bytes], tuple[str | None, str | None]]) -> Listing:
    """List an open zip; see list_folder(). Of files of the same name the last one counts. Links in it are left out."""
    def names() -> Iterator[tuple[str, str | None]]:
        seen = set()
        for info in archive.infolist():
            if not info.filename.endswith('/') and info.filename:       # is_dir() fails for a name of no letters
                link = info.create_system == 3 and stat.S_ISLNK(info.external_attr >> 16)
                yield info.filename, TWICE if info.filename in seen else ZIPPED_LINK if link else None
                seen.add(info.filename)
    def head(name: str) -> bytes:
        try:
            with archive.open(name) as file:
                return file.read(_HEAD)
        except Exception:       # damaged zips raise errors of any type; whoever reads the file says so
            return b''
    return _listing(names(), head, look)

_UNPACK = 'unpack it, and give the folder'
_OTHERS = {     # {first bytes: what such a file is, and what to give in its place}
    b'\x1f\x8b': f'a gzip archive; {_UNPACK}', b'BZh': f'a bzip2 archive; {_UNPACK}',
    b'\xfd7zXZ\0': f'an xz archive; {_UNPACK}',
    b'(\xb5/\xfd': f'a zstandard archive; {_UNPACK}',
    b"7z\xbc\xaf'\x1c": f'a 7z archive; {_UNPACK}',
    b'Rar!\x1a\x07': f'a rar archive; {_UNPACK}', b'\x93NUMPY': 'an array of numpy; write it as images, and give their folder',
    b'\x89HDF\r\n\x1a\n': 'an HDF5 file; write its images as files, and give their folder',
    b'PAR1': 'a Parquet file; write its images as files, and give their folder',
    b'\x1aE\xdf\xa3': 'a video; write its frames as images, and give their folder'}

def not_a_set(path: str | os.PathLike, look: Callable[[bytes], tuple[str | None, str | None]]) -> str | None:
    """Return what a file is that is given as a set and is neither a folder nor a zip, with the remedy: `a picture; give ...`.

    None where its bytes do not say. look: see list_folder()."""
    if not os.path.isfile(path):        # a pipe would be waited for
        return None
    try:
        with open(path, 'rb') as file:
            head = file.read(512)
    except OSError:
        return None
    if look(head[:_HEAD])[0] is not None:
        return 'a picture; give the folder that it is in'
    if head[257:262] == b'ustar':
        return f'a tar archive; {_UNPACK}'
    if head[4:8] == b'ftyp':
        return 'a video; write its frames as images, and give their folder'
    return next((words for beginning, words in _OTHERS.items() if head.startswith(beginning)), None)

def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder it is in, is hidden or of the system, as macOS, Windows and notebooks leave them."""
    parts = name.replace('\\', '/').split('/')
    return any(part.startswith('.') and part not in ('.', '..') or part.lower() in _SYSTEM for part in parts)

def ending(name: str) -> str:
    """Return the ending of a name in small letters, '' for none."""
    return os.path.splitext(name.replace('\\', '/').rpartition('/')[2])[1].lower()

def _walk(path: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name, reason to leave it out or None) of what is in a folder, but for folders."""
    for root, folders, files in os.walk(path):
        inside = os.path.relpath(root, path)
        named = lambda name: (name if inside == '.' else os.path.join(inside, name)).replace(os.sep, '/')    # noqa: B023
        for name in files:
            full = os.path.join(root, name)
            yield named(name), None if os.path.isfile(full) else STRANGE if os.path.exists(full) else BROKEN
        yield from ((named(name), LINKS) for name in folders if os.path.islink(os.path.join(root, name)))

def _listing(found: Iterable[tuple[str, str | None]], head: Callable[[str], bytes],
             look: Callable[[bytes], tuple[str | None, str | None]]) -> Listing:
    pictures, labels, left_out = [], [], collections.Counter()
    for name, reason in found:
        if reason is None and name.replace('\\', '/').rpartition('/')[2] == LABELS and not is_hidden(name):
            labels.append(name)
            continue
        reason = HIDDEN if reason in (None, LINKS) and is_hidden(name) else reason or _reason(name, head, look)
        if reason is None:
            pictures.append(name)
        else:
            left_out[reason] += 1
    chosen = _labels_of(labels, pictures)
    if len(labels) > (chosen is not None):
        left_out[OTHER_LABELS] = len(labels) - (chosen is not None)
    return Listing(sorted(pictures), chosen, left_out)

def _reason(name, head, look):
    """Return why a regular file is left out, or None for a picture. An ending says that it should be one; whoever decodes it
    finds out whether it is."""
    end = ending(name)
    if end and end not in ENDINGS:
        return end
    if end and end not in _MAY_LACK:
        return None
    kind, lacking = look(head(name))
    if lacking is not None:
        return f'{end or f"without an ending in {kind}"} (to read them, {lacking})'
    return None if kind or end else NO_PICTURE

def _labels_of(labels, pictures):
    """Return the dataset.json at the top; without one, the only one of a folder that holds all pictures."""
    if LABELS in labels:
        return LABELS
    holding = [name for name in labels if all(picture.startswith(name[: -len(LABELS)]) for picture in pictures)]
    return holding[0] if len(holding) == 1 and pictures else None
