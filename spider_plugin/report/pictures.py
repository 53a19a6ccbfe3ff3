"""Pictures of a report as HTML: generated images over time, moved by one slider for all runs, and pairs of source and output."""

import html
import json

from spider_plugin.files.limits import MOST_IMAGE, read_file
from spider_plugin.files.pictures.decode import open_image
from spider_plugin.report.frames import BUDGET, Frame, frame_of, frames_of
from spider_plugin.report.runs import SOURCES, Run, labels, number
from spider_plugin.report.tables import swatch

PAIRS   = 12        # most pairs of a run
TALLEST = 640       # most pixels of the height of a picture over time

STYLE = '''
.frames { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
          gap: 14px; align-items: end; }
.frames figure { margin: 0; min-width: 0; } .frames figcaption { font-size: 14px; overflow-wrap: anywhere; }
.frames img { width: min(100%, var(--most)); display: block;
              border-radius: 6px; image-rendering: pixelated; background: var(--grid); }
.frames img.fine, .fine .cell { image-rendering: auto; }
.slide { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; margin: 10px 0; position: sticky; top: 0;
         background: var(--paper); padding: 8px 0; z-index: 1; }
.slide input { flex: 1 1 200px; min-width: 0; accent-color: var(--run0); height: 28px; } .slide output { min-width: 8em; }
.slide button { font: inherit; padding: 2px 12px; border: 1px solid var(--rule); border-radius: 8px; background: var(--card);
         color: var(--ink); min-height: 36px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(146px, 1fr)); gap: 12px; }
.pair { display: flex; align-items: center; gap: 4px; color: var(--muted); }
.cell { flex: 1 1 0; aspect-ratio: 1; border-radius: 6px; background-repeat: no-repeat; image-rendering: pixelated; }
.cell.source { background-image: var(--sources); } .cell.output { background-image: var(--frame); }
'''

SCRIPT = '''
{
  const slider = document.getElementById('time');
  if (slider) {
    const runs = JSON.parse(document.getElementById('frames').textContent), said = document.getElementById('time-at');
    const times = [...new Set(runs.flatMap(run => run.map(frame => frame[0])))].sort((a, b) => a - b);
    const move = () => {
      const now = times[slider.value]; said.textContent = 'at ' + now + ' kimg';
      runs.forEach((run, i) => {
        const frame = run.filter(one => one[0] <= now).pop() || run[0];
        if (!frame) return;
        const image = document.getElementById('frame' + i); image.src = frame[1];
        image.alt = 'generated images at ' + frame[0] + ' kimg';
        document.getElementById('frame-at' + i).textContent = frame[0] + ' kimg';
        const pairs = document.getElementById('pairs' + i);
        if (pairs) pairs.style.setProperty('--frame', 'url(' + frame[1] + ')');
      });
    };
    slider.addEventListener('input', move); move();
    let clock = null; const button = document.getElementById('play');
    const stop = () => { clearInterval(clock); clock = null; button.textContent = 'Play'; };
    button.addEventListener('click', () => {
      if (clock) return stop();
      button.textContent = 'Stop'; if (+slider.value === times.length - 1) slider.value = 0;
      clock = setInterval(() => {
        slider.value = +slider.value + 1; move();
        if (+slider.value === times.length - 1) stop();
      }, 500);
    });
    slider.addEventListener('pointerdown', () => { if (clock) stop(); });
  }
}
'''

def resolution_of(run: Run) -> int | None:
    """Return the pixels of the side of an image of a run; None where its options do not say."""
    kwargs = run.options.get('training_set_kwargs')
    side = number(kwargs.get('resolution')) if isinstance(kwargs, dict) else None
    return int(side) if side and side >= 1 and side == int(side) else None

def over_time(runs: list[Run]) -> tuple[str, list[list[Frame]]]:
    """Return (HTML of the pictures over time, the frames of each run); nothing without pictures."""
    frames = [frames_of(run.pictures, resolution_of(run), len(runs)) for run in runs]
    if not any(frames):
        return '', frames
    count = len({_kimg(frame) for found in frames for frame in found})
    figures = ''.join(
        f'<figure><figcaption>{swatch(i)}{html.escape(name)}, <span id="frame-at{i}">'
        f'{_kimg(found[-1])} kimg</span></figcaption><img id="frame{i}" class="{_fine(found[-1])}" '
        f'style="--most: {TALLEST * found[-1].columns // found[-1].rows}px" '
        f'alt="generated images at {_kimg(found[-1])} kimg" src="{found[-1].url}"></figure>'
        for i, (name, found) in enumerate(zip(labels(runs), frames)) if found)
    data = json.dumps([[[_kimg(frame), frame.url] for frame in found] for found in frames]).replace('<', '\\u003c')
    slide = ('<div class="slide"><button type="button" id="play">Play</button><label for="time">Time</label>'
             f'<input type="range" id="time" min="0" max="{count - 1}" value="{count - 1}" step="1">'
             '<output id="time-at" for="time"></output></div>') if count > 1 else ''
    return f'{slide}<div class="frames">{figures}</div><script type="application/json" id="frames">{data}</script>', frames

def _kimg(frame):
    return float(f'{frame.kimg:.5g}')

def _fine(frame):
    """The class of pictures that look better smoothed; small ones keep sharp pixels."""
    return 'fine' if frame.side >= 96 else ''

def pairs(runs: list[Run], frames: list[list[Frame]]) -> str:
    """Return HTML of source images beside the outputs that are made of them, for the runs that have both; else nothing.

    The outputs are those of the slider's time."""
    parts, called = [], labels(runs)
    for i, (run, found) in enumerate(zip(runs, frames)):
        sources = _sources(run, found[-1]) if found else None
        if sources is None:
            continue
        last = found[-1]
        cells = ''.join(f'<div class="pair">{_cell("source", sources, n)}&rarr;{_cell("output", last, n)}</div>'
                        for n in range(min(last.columns * last.rows, PAIRS)))
        pictures = f'--sources: url({sources.url}); --frame: url({last.url})'
        parts.append(f'<h3>{swatch(i)}{html.escape(called[i])}</h3>'
                     f'<div class="pairs {_fine(last)}" id="pairs{i}" style="{pictures}">{cells}</div>')
    return ''.join(parts)

def _sources(run, last):
    """The frame of the sources of a run, whose cells are those of its frame `last`; None without one."""
    path = run.folder / SOURCES
    found = frame_of(0.0, path, _side_of(path, run), BUDGET // 16)
    return found if found is not None and (found.columns, found.rows) == (last.columns, last.rows) else None

def _side_of(path, run):
    """The side of a cell in the picture of the sources, which has as many cells in a row as the last picture of the run."""
    cell = resolution_of(run)
    if cell is None:
        return None
    try:
        sources, fakes = (open_image(read_file(file, MOST_IMAGE)).width for file in (path, run.pictures[-1][1]))
    except Exception:   # as in frames.py
        return None
    return sources // (fakes // cell) if fakes >= cell else None

def _cell(kind, frame, n):
    column, row = n % frame.columns, n // frame.columns
    place = [0 if count == 1 else 100 * at / (count - 1) for at, count in ((column, frame.columns), (row, frame.rows))]
    return (f'<div class="cell {kind}" role="img" aria-label="{kind} {n + 1}" style="background-size: {100 * frame.columns}% '
            f'{100 * frame.rows}%; background-position: {place[0]:.4g}% {place[1]:.4g}%"></div>')
