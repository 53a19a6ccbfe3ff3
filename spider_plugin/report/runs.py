"""Reads the folder of a run as StyleGAN2/3-style hosts write it: options, statistics, metrics, pictures, snapshots.

A run may still be going, or have ended in the middle of a line; a file may be missing, or from a stranger. What cannot be read is
left out, and counted in `notes`."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.limits import MOST_JSON, open_file, parse_json, read_file

OPTIONS = 'training_options.json'
GIVEN   = 'launch_options.json'     # of the reference host
STATS   = 'stats.jsonl'
SOURCES = 'sources.png'             # the source image of each cell of the fakes (training/run_watch.py)

MOST_LINES  = 200_000       # read of a file
MOST_LINE   = 1 << 20       # bytes of a line
MOST_CURVES = 300           # names in stats.jsonl

_PARTS = ('_ci95', '_r1', '_location', '_spread', '_std')       # of the results of a metric, beside its value

# The detector of a score, unless it is one of those of published scores: Inception, or VGG16 of precision and recall.
_OTHER_DETECTOR = r'(?!inception-2015-12-05$|vgg16$)[\w.-]{1,80}'

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Score:
    """A value of a metric; ci95 is the half-width of its 95% interval, None where the metric has none."""

    kimg:     float
    value:    float
    ci95:     float | None
    snapshot: str

@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds.

    curves:     {name in stats.jsonl: [(thousands of images, mean over a tick)]}, in the order of the file.
    scores:     {name of a result: its Scores}, in the order of the images.
    pictures:   [(thousands of images, path)] of the grids of generated images, in their order.
    record:     what made the run (training/record.py), {} where a run has no record.
    notes:      sentences about what could not be read."""

    folder:    Path
    name:      str
    options:   dict[str, Any]
    given:     dict[str, Any]
    record:    dict[str, Any]
    curves:    dict[str, list[tuple[float, float]]]
    scores:    dict[str, list[Score]]
    pictures:  list[tuple[float, Path]]
    snapshots: list[str]
    last:      float | None         # time of the last tick, in seconds since 1970
    notes:     list[str]

    @property
    def kimg(self) -> float | None:
        """Thousands of images at the last tick; None before the first."""
        ticks = self.curves.get('Progress/kimg')
        return ticks[-1][1] if ticks else None

    @property
    def total_kimg(self) -> float | None:
        return number(self.options.get('total_kimg'))

    @property
    def ended(self) -> bool:
        """Whether the last tick is that of the last image. Hosts keep the number as float32."""
        return bool(self.kimg is not None and self.total_kimg and self.kimg >= self.total_kimg * (1 - 1e-6))

    @property
    def source(self) -> dict[str, Any] | None:
        """The source of the run: name, match, mapping, ... as far as they are known; None without one."""
        if isinstance(self.record.get('source'), dict):
            return self.record['source']
        spider = _dict(self.options.get('G_kwargs')).get('spider')
        return dict(mapping=spider.get('mapping')) if isinstance(spider, dict) else None

    @property
    def resumed(self) -> str | None:
        """What the run was started from, as its user gave it; None for a fresh one."""
        found = self.record['resumed'] if 'resumed' in self.record else self.options.get('resume_pkl')
        return found if isinstance(found, str) and found else None

    def untrained(self, metric: str) -> float | None:
        """Return the score of the untrained source: that of a fresh residual before training, which draws its source images.

        None where it was not measured, or where the untrained network draws something else."""
        source, scores = self.source, self.scores.get(metric, [])
        fresh = source is not None and source.get('mapping') == 'residual' and self.resumed is None
        return scores[0].value if fresh and scores and scores[0].kimg == 0 else None

def labels(runs: list[Run]) -> list[str]:
    """Return a short name for each run: its number, and the words of its name that not all runs share."""
    words = [run.name.split('-') for run in runs]
    shared = set(words[0]).intersection(*words[1:]) if len(runs) > 1 else set()
    short = ['-'.join(word for word in name if word not in shared) or '-'.join(name) for name in words]
    return short if len(set(short)) == len(runs) else [str(run.folder) for run in runs]

def number(value: object) -> float | None:
    """Return a finite number as a float, None for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        return float(value) if is_number and math.isfinite(value) else None     # type: ignore[arg-type]
    except OverflowError:
        return None

def _dict(value):
    return value if isinstance(value, dict) else {}

#----------------------------------------------------------------------------

def read_run(folder: str | os.PathLike[str]) -> Run:
    """Return the Run in a folder. Raises SpiderError where there is none."""
    folder = Path(folder)
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError) as error:  # ValueError: of a name that no folder can have
        raise SpiderError(f'{folder} cannot be read ({getattr(error, "strerror", error)}); give the folder of a run, such as '
                          'training-runs/00000-NAME.') from error
    if not ({OPTIONS, STATS} & set(names) or any(_kimg_of_name('fakes', name) is not None for name in names)):
        inside = [name for name in names if (folder / name / OPTIONS).is_file()]
        remedy = f'it holds runs, so give one or more of them, such as {folder / inside[-1]}' if inside else \
            'give the folder of a run, such as training-runs/00000-NAME'
        raise SpiderError(f'{folder} holds neither {STATS} nor {OPTIONS} nor pictures, so it is no run; {remedy}.')
    notes: list[str] = []
    options, given = (_read_options(folder / name, notes) if name in names else {} for name in (OPTIONS, GIVEN))
    curves, times = _read_stats(folder / STATS, notes) if STATS in names else ({}, [])
    scores: dict[str, list[Score]] = {}
    for name in names:
        if re.fullmatch(r'metric-.+\.jsonl', name):
            _read_scores(folder / name, times, scores, notes)
    pictures = [(kimg, folder / name) for name in names if (kimg := _kimg_of_name('fakes', name)) is not None]
    pictures.sort(key=lambda picture: (picture[0], picture[1].name != 'fakes_init.png'))
    return Run(folder, folder.resolve().name, options, given, _dict(options.get('spider_run')), curves,
               {name: sorted(found, key=lambda score: score.kimg) for name, found in scores.items()}, pictures,
               [name for name in names if re.fullmatch(r'network-snapshot(-[0-9]+)?\.pkl', name)],
               times[-1][0] if times else None, notes)

def _kimg_of_name(kind, name):
    """Thousands of images in the name of a picture or a snapshot, None for another file.

    Hosts write six digits, thousands of images, or nine, images."""
    match = re.fullmatch(kind + r'(_init|-?[0-9]{1,18})\.(png|jpg|pkl)', name)
    if match is None:
        return None
    digits = match[1].lstrip('-')
    return 0.0 if digits == '_init' else int(digits) / (1000 if len(digits) >= 9 else 1)

#----------------------------------------------------------------------------
# Files.

def _read_options(path, notes):
    try:
        return _dict(parse_json(read_file(path, MOST_JSON)))
    except (OSError, ValueError) as error:
        notes.append(f'{path.name} could not be read ({shown(error, 80)}).')
        return {}

def _json_lines(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects in a file of JSON lines, and note how many lines hold none. The last may be half written."""
    bad, lines = 0, 0
    try:
        with open_file(path) as file:
            while (line := file.readline(MOST_LINE)) and lines < MOST_LINES:
                lines += 1
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield found
                elif line.strip():
                    bad += 1
    except OSError as error:
        notes.append(f'{path.name} could not be read ({error.strerror}).')
    if bad:
        notes.append(f'{bad} of {lines} lines of {path.name} could not be read and {"is" if bad == 1 else "are"} left out.')

def _read_stats(path, notes):
    """({name: [(kimg, mean)]}, [(time, kimg)] of the ticks)."""
    curves, times = {}, []
    for line in _json_lines(path, notes):
        means = {name: number(_dict(entry).get('mean')) for name, entry in line.items()}
        kimg = means.get('Progress/kimg')
        if kimg is None:
            continue
        for name, mean in means.items():
            if mean is not None and (name in curves or len(curves) < MOST_CURVES):
                curves.setdefault(name, []).append((kimg, mean))
        if (time := number(line.get('timestamp'))) is not None:
            times.append((time, kimg))
    return curves, times

def _read_scores(path, times, scores, notes):
    """Adds the Scores in a metric-*.jsonl."""
    for line in _json_lines(path, notes):
        results, snapshot = _dict(line.get('results')), str(line.get('snapshot_pkl') or '')
        kimg, detector = _kimg_of_score(line, snapshot, times), line.get('detector')
        named = isinstance(detector, str) and re.fullmatch(_OTHER_DETECTOR, detector)
        for name, value in results.items():
            found = number(value)
            if found is not None and not name.endswith(_PARTS):
                score = Score(kimg, found, number(results.get(f'{name}_ci95')), snapshot)
                scores.setdefault(f'{name} ({detector})' if named else name, []).append(score)

def _kimg_of_score(line, snapshot, times):
    """Thousands of images at a score: the reference host says it, others in the name of the snapshot, else by its time."""
    nimg = number(line.get('cur_nimg'))
    if nimg is not None:
        return nimg / 1000
    kimg = _kimg_of_name('network-snapshot', os.path.basename(snapshot))
    if kimg is not None:
        return kimg
    time = number(line.get('timestamp'))
    later = [kimg for at, kimg in times if time is not None and at >= time]
    return min(later) if later else times[-1][1] if times else 0.0
