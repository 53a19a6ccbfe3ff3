"""Pictures of a run, small enough for a page: of each grid of generated images its first cells, reduced; of the sources likewise.

A picture is encoded once in a process, as a run that is going asks for the same ones again and again."""

import base64
import dataclasses
import io
import os
from pathlib import Path

import PIL.Image
from PIL import features

from spider_plugin.files.limits import MOST_IMAGE, read_file
from spider_plugin.files.pictures.decode import open_image

COLUMNS, ROWS = 8, 4        # most cells of a grid that are shown
SIDE          = 128         # most pixels of the side of a cell
FRAMES        = 24          # most pictures of all runs together, where there are few runs
BUDGET        = 5 << 20     # bytes of all pictures of a page, before base64 adds a third

@dataclasses.dataclass(frozen=True)
class Frame:
    """A picture for a page: `url` is a data URL, columns and rows count its cells, side is the pixels of one."""

    kimg:    float
    url:     str
    columns: int
    rows:    int
    side:    int

_encoded: dict[tuple[object, ...], Frame | None] = {}
_MOST_ENCODED = 512

def frames_of(pictures: list[tuple[float, Path]], resolution: int | None, num_runs: int = 1) -> list[Frame]:
    """Return frames of some of the pictures, evenly chosen, with the first and the last.

    resolution: pixels of a cell's side, None where it is not known: then the whole picture is one cell.
    num_runs:   runs that share the page, and its budget. Pictures that cannot be read are left out."""
    most = max(FRAMES // max(num_runs, 1), 4)
    budget = BUDGET // (most * max(num_runs, 1) + num_runs)
    found = (frame_of(kimg, path, resolution, budget) for kimg, path in _chosen(pictures, most))
    return [frame for frame in found if frame is not None]

def _chosen(pictures, most):
    """At most `most` pictures: every one, every second, every fourth, ... and the last, so that few are new when one is added."""
    step = 1
    while len(pictures[::step]) > most - 1:
        step *= 2
    chosen = pictures[::step]
    return chosen if not pictures or pictures[-1] in chosen else [*chosen, pictures[-1]]

def frame_of(kimg: float, path: Path, resolution: int | None, budget: int) -> Frame | None:
    """Return the frame of a picture of at most `budget` bytes; None for a file that is no picture."""
    try:
        status = os.stat(path)
        key = os.fspath(path), status.st_mtime_ns, status.st_size, resolution, budget
        if key not in _encoded:
            while len(_encoded) >= _MOST_ENCODED:
                del _encoded[next(iter(_encoded))]
            _encoded[key] = _encode(kimg, open_image(read_file(path, MOST_IMAGE)), resolution, budget)
        return _encoded[key]
    except Exception:   # Pillow raises errors of many types on a damaged file, which may be half written now.
        return None

def first_cells(path: str | os.PathLike[str], resolution: int | None) -> PIL.Image.Image:
    """Return the first cells of the grid in a file, in colour. Raises what a damaged picture causes."""
    return _first_cells(open_image(read_file(path, MOST_IMAGE)), resolution)[0]

def _first_cells(image, resolution):
    """(the first cells of a grid, their columns, their rows); the whole picture as one cell where it is no grid of these."""
    if not resolution or image.width % resolution or image.height % resolution:
        return image.convert('RGB'), 1, 1
    columns, rows = min(image.width // resolution, COLUMNS), min(image.height // resolution, ROWS)
    return image.crop((0, 0, columns * resolution, rows * resolution)).convert('RGB'), columns, rows

def _encode(kimg, image, resolution, budget):
    image, columns, rows = _first_cells(image, resolution)
    width = min(image.width, SIDE * (COLUMNS if columns == rows == 1 else columns))
    for shrink in (1, 2, 4, 8):
        size = max(width // shrink, columns), max(image.height * width // image.width // shrink, rows)
        small = image if size == image.size else image.resize(size, PIL.Image.Resampling.BOX)
        for data, kind in _ways(small):
            if len(data) <= budget:
                url = f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
                return Frame(kimg, url, columns, rows, size[0] // columns)
    return None

def _ways(image):
    """Yield (bytes, format), from exact to small."""
    webp = features.check('webp')
    options = [('png', dict(optimize=False))] if image.width * image.height <= 1 << 16 else []
    options += [('webp' if webp else 'jpeg', dict(quality=quality)) for quality in (88, 70, 50)]
    for kind, more in options:
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **more)
        yield buffer.getvalue(), kind
