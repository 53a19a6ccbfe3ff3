"""Watches a run from inside its training loop, in rank 0: the page of the run, the picture of its sources, its trackers.

A loop calls its argument progress_fn before the first iteration and after each tick, when the files of the tick are there. What
the watch needs is read from these files, and the generator and its latents from the variables of the loop, whose names are those
of NVlabs' loops and of the reference host. Whatever fails here is said once, and training goes on."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from spider_plugin.errors import shown

_PICTURE = re.compile(r'fakes(_init|[0-9]+)\.png')

class RunWatch:
    """arguments: all arguments of the host's training_loop(), by name; its progress_fn is changed in place.

    record:     of the run, as in training/record.py; {} without one.
    write_page: called with the run folder, writes the page."""

    def __init__(self, arguments: dict[str, Any], record: dict[str, Any], write_page: Callable[[str], object]) -> None:
        self.run_dir, self.write_page = str(arguments['run_dir']), write_page
        self.names = record.get('track') or []
        self.trackers: list[Any] | None = None      # opened at the first call, when the run folder holds its options
        self.files = _Tails(self.run_dir)
        self.seen: object = None
        self.said: set[str] = set()
        self.progress_fn = arguments.get('progress_fn')
        arguments['progress_fn'] = self._progress

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the run is watched; at its end, also by an exception, trackers get the rest and are closed."""
        try:
            yield
        finally:
            self._try('The trackers', self._track)
            for tracker in self.trackers or []:
                self._try('A tracker', tracker.close)

    def _progress(self, *args):
        self._try('The trackers', self._track)
        self._try('The report', self._show, loop_above())
        if self.progress_fn is not None:
            self.progress_fn(*args)

    def _show(self, loop):
        pictures = self._pictures()
        if pictures != self.seen:
            self.seen = pictures
            self._try('The picture of the sources', self._draw_sources, loop)
            self.write_page(self.run_dir)

    def _try(self, what, act, *args):
        try:
            act(*args)
        except Exception as error:
            words = f'{what} failed ({type(error).__name__}: {shown(getattr(error, "message", error), 120)}); training goes on'
            if words not in self.said:
                self.said.add(words)
                print(f'Warning: {words}', file=sys.stderr, flush=True)

    def _pictures(self):
        """Names of the pictures and snapshots, and the sizes of the metrics: what a snapshot of the run changes."""
        names = sorted(name for name in os.listdir(self.run_dir) if name.endswith(('.png', '.pkl')) and not name == 'sources.png')
        scores = [(name, os.path.getsize(os.path.join(self.run_dir, name))) for name in sorted(os.listdir(self.run_dir))
                  if name.startswith('metric-')]
        return names, scores

    # The source image of each cell of the grid of fakes, once: it is a function of the latent.

    def _draw_sources(self, loop):
        path = os.path.join(self.run_dir, 'sources.png')
        found = _grid_of(loop)
        if os.path.isfile(path) or found is None:
            return
        from spider_plugin.files.grid import save_grid
        G, z, c, (columns, rows) = found
        if getattr(G, 'source', None) is None:
            return
        import torch
        with torch.no_grad():
            images = torch.cat([G.source.fetch(G.source.key(z_part, c_part)).to(torch.float32).cpu()
                                for z_part, c_part in zip(z, c)])
        save_grid(path, ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy(), columns, rows)

    # Trackers get what is new in the files.

    def _track(self):
        if not self.names:
            return
        if self.trackers is None:
            self._open()
        for values, nimg, seconds in self.files.numbers():
            for tracker in self.trackers:
                self._try(f'The tracker {type(tracker).__name__}', tracker.numbers, values, nimg, seconds)
        for name, path, nimg in self.files.pictures():
            from spider_plugin.report.frames import first_cells
            image = first_cells(path, _resolution(self.run_dir))
            for tracker in self.trackers:
                self._try(f'The tracker {type(tracker).__name__}', tracker.picture, name, image, nimg)

    def _open(self):
        from spider_plugin.training.trackers import OPENERS
        self.trackers, nimg = [], self.files.skip()
        def open_one(name):
            self.trackers.append(OPENERS[name](self.run_dir, _options(self.run_dir), nimg))
        for name in self.names:
            self._try(f'The tracker {name}', open_one, name)

def loop_above():
    """The variables of the training loop that has called, directly or by a progress_fn around; {} where there is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != 'training_loop':
        frame = frame.f_back
    return {} if frame is None else frame.f_locals

def _grid_of(loop):
    """(G_ema, latents, labels, (columns, rows)) of the grid of fakes in the variables of a loop; None where it has none.

    Latents and labels are sequences of parts, one for each call of G."""
    report = loop.get('report')
    if hasattr(report, 'grid'):     # of the reference host
        return loop['networks'].G_ema, report.grid.z, report.grid.c, report.grid_size
    names = 'G_ema', 'grid_z', 'grid_c', 'grid_size'
    return None if any(loop.get(name) is None for name in names) else tuple(loop[name] for name in names)

def _options(run_dir):
    with open(os.path.join(run_dir, 'training_options.json'), encoding='utf-8') as file:
        return json.load(file)

def _resolution(run_dir):
    return _options(run_dir).get('training_set_kwargs', {}).get('resolution')

#----------------------------------------------------------------------------

class _Tails:
    """What is new in the files of a run since the last question."""

    def __init__(self, run_dir):
        self.run_dir, self.read, self.drawn = run_dir, {}, set()
        self.nimg = 0       # at the last tick

    def skip(self):
        """Pass over what is there where a run continues, after its first tick; return the images at its last tick, 0 without."""
        for _ in self.numbers():
            pass
        if self.nimg == 0:
            self.read = {}
            return 0
        for _ in self.pictures():
            pass
        return self.nimg

    def numbers(self):
        """Yield ({name: number}, images, seconds or None) for each new line of the statistics and the metrics."""
        for name in sorted(os.listdir(self.run_dir), key=lambda name: (name != 'stats.jsonl', name)):
            if name == 'stats.jsonl':
                for line in self._lines(name):
                    values = {key: entry['mean'] for key, entry in line.items() if isinstance(entry, dict)}
                    values = {key: value for key, value in values.items() if value is not None and value == value}
                    self.nimg = round(values.get('Progress/kimg', 0) * 1000)
                    yield values, self.nimg, line.get('timestamp')
            elif re.fullmatch(r'metric-.+\.jsonl', name):
                for line in self._lines(name):
                    yield ({f'Metrics/{key}': value for key, value in line['results'].items() if value == value}, self.nimg,
                           line.get('timestamp'))

    def _lines(self, name):
        """The new lines of a file that are whole. A file that has become shorter, as by going back, is read from its new end."""
        path = os.path.join(self.run_dir, name)
        size, start = os.path.getsize(path), self.read.get(name, 0)
        if size < start:
            self.read[name] = size
            return []
        with open(path, 'rb') as file:
            file.seek(start)
            new = file.read()
        whole = new[: new.rfind(b'\n') + 1]
        self.read[name] = start + len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def pictures(self):
        """Yield (name, path, images) for each new grid of fakes."""
        for name in sorted(os.listdir(self.run_dir)):
            if _PICTURE.fullmatch(name) and name not in self.drawn:
                self.drawn.add(name)
                yield 'Images/fakes', os.path.join(self.run_dir, name), self.nimg
