"""The images of `--data` as a host will read them, looked at in the parent before that host reads any.

Hosts of the StyleGAN kind take what Pillow knows by its ending, hidden files too, decode a .png by pyspng whatever it holds,
leave EXIF, colour profiles and transparency as they are, and end at the first image of another shape, maybe hours later. A host
whose dataset has `check_images`, as that of the reference host, looks by itself."""

import collections
import functools
import importlib
import io
import os

from spider_plugin.errors import SpiderError, out_of_memory, shown

REMEDY = 'write the set anew by dataset_tool.py of the reference host, which `spider init DIR` makes'

def check_host_data(path, dataset_class=None):
    """Return lines for the launch log about the images at `path`. Arguments and errors: as of open_host_data()."""
    images = open_host_data(path, dataset_class)
    return [] if images is None else images.lines()

def open_host_data(path, dataset_class=None):
    """Return the images at `path` after a look at its labels and its first image, None where nothing is to be checked;
    lines() of it then looks at all images.

    path:           value of --data; what is no folder and no zip is left to the host.
    dataset_class:  class that reads it; by default the ImageFolderDataset of the host on the path.
    Raises SpiderError for images and labels that the host could not train on."""
    if dataset_class is None:
        try:
            dataset_class = importlib.import_module('training.dataset').ImageFolderDataset
        except Exception:   # of a host's code, in an environment that it may not have been made for
            return None
    if hasattr(dataset_class, 'check_images') or not hasattr(dataset_class, '_file_ext') or not isinstance(path, str):
        return None
    if not os.path.isdir(path) and not os.path.isfile(path):
        return None
    images = _HostSet(path)
    images.check_beginning()
    return images

class _HostSet:
    """The files that a host of the StyleGAN kind takes for images."""

    def __init__(self, path):
        from spider_plugin.files import limits
        from spider_plugin.files.pictures import decode, listing
        self.path, self.limits, self.zip = path, limits, None
        if not os.path.isdir(path):
            try:
                self.zip = limits.open_zip(path)
            except Exception as error:      # broken directories raise errors of many types
                what = listing.not_a_set(path, decode.look_at) or \
                    f'not a readable zip file ({shown(error)}); give a zip or a folder of images'
                raise SpiderError(f'--data: {path} is {what}.') from error
        look = decode.look_at
        self.listing = listing.list_folder(path, look) if self.zip is None else listing.list_zip(self.zip, look)
        self.names = sorted(self._names())

    def _names(self):
        import PIL.Image
        PIL.Image.init()
        if self.zip is None:
            names = {os.path.relpath(os.path.join(root, name), self.path) for root, _, files in os.walk(self.path)
                     for name in files}
        else:
            names = set(self.zip.namelist())
        known = {end for end, format in PIL.Image.EXTENSION.items() if format != 'HEIF'}    # which this process alone may have
        return [name for name in names if os.path.splitext(name)[1].lower() in known]

    def read(self, name, most):
        if self.zip is not None:
            return self.limits.read_member(self.zip, name, most)
        return self.limits.read_file(os.path.join(self.path, name), most)

    def check_beginning(self):
        """Look at the labels and at the first image, which hosts open before anything else. Raises SpiderError."""
        if self.names:
            self._check_labels()
            if self._kept() is None and self._look(self.names[0])[2] is not None:
                self._look_at_all()

    def lines(self):
        """Return lines for people, found once for the same files. Raises SpiderError."""
        from spider_plugin.files.pictures import check, listing
        if not self.names:
            return []       # the host says so
        lines = self._kept()
        if lines is None:
            lines = self._look_at_all()
            check.remember(*self._place, dict(lines=lines))
        self.listing.left_out.pop(listing.HIDDEN, None)     # which the host does not leave out
        left_out = self.listing.tell(self.path)
        return [*([] if left_out is None else [left_out]), *map(str, lines)]

    def _kept(self):
        """Return the lines of an earlier look at the same files, or None."""
        from spider_plugin.files.pictures import check
        kept = check.recall(*self._place)
        return kept['lines'] if kept is not None and isinstance(kept.get('lines'), list) else None

    @functools.cached_property
    def _place(self):
        from spider_plugin.files.cache import cache_dir
        from spider_plugin.files.pictures import check, decode
        return cache_dir('checks'), check.key_of(decode.VERSION, 'host', self._marks())

    def _marks(self):
        if self.zip is not None:
            stat = os.stat(self.path)
            return stat.st_size, stat.st_mtime_ns, [(info.filename, info.file_size, info.CRC) for info in self.zip.infolist()]
        stats = [os.stat(os.path.join(self.path, name)) if os.path.isfile(os.path.join(self.path, name)) else None
                 for name in self.names]
        return os.path.realpath(self.path), [(name, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ino))
                                             for name, stat in zip(self.names, stats)]

    def _look_at_all(self):
        from spider_plugin.files.pictures import check, decode, listing
        from spider_plugin.files.progress import Progress
        progress, bad, notes, first = Progress(f'Checking {self.path}', len(self.names)), [], collections.Counter(), None
        for name, (shape, found, reason) in zip(self.names, check.in_order(self._look, self.names,
                                                                           lambda done, _: progress.update(done))):
            notes.update(found)
            first = first or shape
            if reason is None and shape != first:
                reason = f'is {list(shape)}, but {self.names[0]} is {list(first)}'
            if reason is not None:
                bad.append(f'{name} in {self.path} {reason}')
        if bad:
            more = f'; {len(bad) - 1} more of the {len(self.names)} images cannot be used' if bad[1:] else ''
            raise SpiderError(f'--data: {bad[0]}{more}; {REMEDY}.')
        lines, total = [], len(self.names)
        if notes:
            said = ', '.join(f'{notes[note]} {note}' for note in decode.NOTES if notes[note])
            lines.append(f'Warning: this host takes pixels as they are in the files, where docs/pictures.md has rules for images '
                         f'in {self.path}: {said}; to have these followed, {REMEDY}.')
        if hidden := sum(map(listing.is_hidden, self.names)):
            lines.append(f'Warning: {hidden} of the {total} images in {self.path} are hidden or of the system, and this host '
                         'trains on them; remove them if they are copies.')
        if unknown := len(set(self.listing.pictures) - {name.replace(os.sep, '/') for name in self.names}):
            lines.append(f'Warning: this host leaves out {unknown} images in {self.path}, whose endings it does not know; to '
                         f'have them taken, {REMEDY}.')
        return lines

    def _look(self, name):
        """Return (shape that the host gets or None, notes about pixels that the host leaves as they are, reason that it cannot
        use the image or None)."""
        import numpy as np

        from spider_plugin.files.pictures import decode
        try:
            data = self.read(name, self.limits.MOST_IMAGE)
            picture = decode.decode(data)
        except Exception as error:      # decoders raise errors of any type on broken data
            if out_of_memory(error):
                raise
            return None, (), f'cannot be read as an image ({shown(error).rstrip(".") or type(error).__name__})'
        as_png = name.lower().endswith('.png')
        if not picture.notes and as_png == (picture.format == 'PNG') and decode.plain_png(data) is not None:
            return picture.pixels.shape, (), None
        try:
            pixels = _as_the_host(data, as_png)
        except Exception:
            return None, (), f'is {picture.format}, which this host cannot read under such a name'
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.dtype != np.uint8 or pixels.shape != picture.pixels.shape:
            notes = f' ({", ".join(picture.notes)})' if picture.notes else ''
            return None, (), f'is no 8-bit grey or RGB image for this host{notes}'
        return pixels.shape, () if (pixels == picture.pixels).all() else picture.notes, None

    def _check_labels(self):
        """Raise SpiderError for labels by which the host would end."""
        from spider_plugin.files.pictures import labels, listing
        if listing.LABELS not in (self.zip.namelist() if self.zip is not None else os.listdir(self.path)):
            return
        where = f'--data: {listing.LABELS} in {self.path}'
        try:
            pairs = labels.parse(self.read(listing.LABELS, self.limits.most_labels(len(self.names))))[1]
            if pairs:
                table = dict(pairs)
                found = [table.get(name.replace('\\', '/')) for name in self.names]
                if None in found:
                    raise ValueError(labels.missing_words(found, self.names))
                labels.to_labels(found, number=False)
        except ValueError as error:
            raise SpiderError(f'{where} {shown(error, 500)}; {REMEDY}.') from error
        except Exception as error:      # damaged zips raise errors of any type
            raise SpiderError(f'{where} cannot be read ({shown(error)}); correct or remove it.') from error

def _as_the_host(data, as_png):
    """Return the array that a host decodes an image to."""
    import numpy as np
    import PIL.Image
    if as_png:
        import pyspng
        return pyspng.load(data)
    return np.array(PIL.Image.open(io.BytesIO(data)))
