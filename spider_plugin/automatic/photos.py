"""The pictures of --data before a run, as their headers tell them, and the set of squares that is made of them."""

import collections
import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

import click

from spider_plugin.errors import SpiderError, printable, shown

FEW = 100       # Pictures, below which a line warns.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Photos:
    """The pictures of a folder or zip.

    names:      of the pictures.
    sizes:      (width, height) of each in pixels, upright.
    channels:   1 or 3 of each.
    kinds:      how many there are of each format, such as JPEG.
    key:        hex digest of names, sizes and times of the files."""

    path:     str
    names:    list[str]
    sizes:    list[tuple[int, int]]
    channels: list[int]
    kinds:    collections.Counter[str]
    key:      str

    @property
    def side(self) -> int:
        """The largest power of two that is at most the shorter side of nine in ten pictures."""
        shorter = sorted(map(min, self.sizes))
        return 1 << (shorter[len(shorter) // 10].bit_length() - 1)

    @property
    def ready(self) -> int | None:
        """Side of the pictures, if they are equal squares of a power of two, all grey or all colour; else None."""
        width, height = self.sizes[0]
        same = len(set(self.sizes)) == len(set(self.channels)) == 1 and width == height and width & (width - 1) == 0
        return width if same else None

    def lines(self) -> list[str]:
        """Return lines that say what was found."""
        kinds = ', '.join(f'{number} {kind}' for kind, number in self.kinds.most_common())
        low, high = (extreme(self.sizes, key=lambda size: size[0] * size[1]) for extreme in (min, max))
        sizes = f'{low[0]}x{low[1]}' + (f' to {high[0]}x{high[1]}' if low != high else '')
        tall, wide = sum(w < h for w, h in self.sizes), sum(w > h for w, h in self.sizes)
        lines = [f'Found in {self.path}: {kinds}; {sizes} pixels, {wide} landscape, {tall} portrait, '
                 f'{len(self.sizes) - tall - wide} square']
        if len(self.names) < FEW:
            lines.append(f'Note: {len(self.names)} pictures are few; a GAN learns from some hundred at least.')
        return lines

def look(path: str) -> Photos:
    """Return the Photos at a path, after a look at each header. Raises SpiderError where there is nothing to train on."""
    from spider_plugin.files import limits
    from spider_plugin.files.pictures import check, decode, listing
    from spider_plugin.files.progress import Progress
    if not os.path.exists(path):
        raise SpiderError(f'--data: {path} does not exist; give a folder or a zip of images.')
    archive = None
    if not os.path.isdir(path):
        try:
            archive = limits.open_zip(path)
        except Exception as error:      # broken directories raise errors of many types
            what = listing.not_a_set(path, decode.look_at) or \
                f'neither a folder nor a readable zip ({shown(error)}); give one of them'
            raise SpiderError(f'--data: {path} is {what}.') from error
    found = listing.list_zip(archive, decode.look_at) if archive else listing.list_folder(path, decode.look_at)
    names = found.pictures
    if not names:
        raise SpiderError(f'--data: {path} holds no images; give a folder or zip with JPEG or PNG files'
                          f'{"".join(f" ({line})" for line in [found.tell(path)] if line)}.')
    if len(names) == 1:
        raise SpiderError(f'--data: {path} holds one image, {shown(names[0])}, and a GAN learns from many; give a folder of some '
                          'hundred.')
    def read(name: str) -> Any:
        try:
            data = limits.read_member(archive, name, limits.MOST_IMAGE) if archive else \
                limits.read_file(os.path.join(path, name), limits.MOST_IMAGE)
            width, height, channels = decode.read_shape(data)
            return (width, height), channels, decode.kind_of(data[:64]) or 'TGA'
        except Exception as error:      # decoders raise errors of any type on broken data
            return SpiderError(f'--data: {shown(name)} in {path} cannot be read as an image ({shown(error).rstrip(".")})')
    progress = Progress(f'Looking at {path}', len(names))
    rows = list(check.in_order(read, names, lambda done, _: progress.update(done)))
    bad = [row for row in rows if isinstance(row, SpiderError)]
    if bad:
        more = f'; {len(bad) - 1} more of the {len(names)} images cannot be read' if bad[1:] else ''
        raise SpiderError(f'{bad[0].message}{more}; replace or remove such files.')
    sizes, channels, kinds = map(list, zip(*rows))
    marks = [os.stat(path if archive else os.path.join(path, name)) for name in (names[:1] if archive else names)]
    key = check.key_of(decode.VERSION, names, [(mark.st_size, mark.st_mtime_ns) for mark in marks])
    return Photos(path, names, sizes, channels, collections.Counter(kinds), key)

#----------------------------------------------------------------------------

def prepare(photos: Photos, outdir: str, resolution: int, transform: str) -> tuple[str, str]:
    """Return (path of a set of squares, words about it): the pictures themselves where they are such a set, else a zip in
    outdir/data, which is written where it is not there yet.

    The host on the path converts, by its dataset_tool.py, and prints what it changes. Raises SpiderError."""
    if photos.ready == resolution:
        return photos.path, f'{len(photos.names)} images of this size'
    stem = Path(os.path.abspath(photos.path)).stem or 'photos'
    kind = '' if transform == 'center-crop' else f'-{transform}'
    final = os.path.join(outdir, 'data', photos.key[:8], f'{stem}-{resolution}x{resolution}{kind}.zip')
    words = {'center-crop': 'the largest square in the middle of each; --transform=pad takes whole pictures',
             'pad': 'whole pictures, with bars that repeat their edges',
             'letterbox': 'whole pictures, with black bars'}[transform]
    if not os.path.isfile(final):
        _convert(photos.path, final, resolution, transform)
    return final, f'{len(photos.names)} images: {words}'

def _convert(path: str, final: str, resolution: int, transform: str) -> None:
    tool = importlib.import_module('dataset_tool')
    print(printable(f'Writing {final}: {resolution}x{resolution} pixels, --transform={transform}'), flush=True)
    try:
        source = tool.Source(path)
        with tool.open_dest(final) as write:
            tool.convert(source, write, source.names, transform, (resolution, resolution), 'keep')
    except click.ClickException as error:       # of that script, by its options
        raise SpiderError(error.message.replace('--source: ', '--data: ', 1).replace('--dest: ', '--outdir: ', 1)) from error

#----------------------------------------------------------------------------
