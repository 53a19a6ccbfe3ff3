"""Charts as SVG for the plugin's pages, light and dark: curves with a readout under the pointer, and intervals.

`chart` makes one of curves, `whiskers` one of intervals, `legend` the names and switches of the series, SCRIPT serves all
charts of a page. Colours are those of files/theme.py."""

import dataclasses
import html
import json
import math
from collections.abc import Sequence

from spider_plugin.files.theme import PALETTE

WIDTH, HEIGHT = 400, 220        # of the drawing, which is scaled to the page
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
MOST_POINTS = 240               # of a series; more become means of neighbours
MOST_DOTS   = 60                # points that are marked
NAMES, ROW  = 134, 24           # of `whiskers`: space for names, height of a row
LETTERS     = 16                # of a name there

@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: `index` picks its colour and switch, points are (x, y, half-width of an interval or None) in the order of x."""

    index:  int
    name:   str
    points: list[tuple[float, float, float | None]]

def chart(title: str, series: list[Series], x_label: str, logarithmic: bool | None = None, unit: str = '', *,
          levels: Sequence[tuple[int, float]] = (), marks: Sequence[tuple[int, float, float]] = (), x_logarithmic: bool = False,
          roots: bool = False) -> str:
    """Return a chart as HTML; nothing where no series has a point.

    logarithmic:    the scale of y. None: logarithmic where the values are positive and span more than a factor of 20.
    levels:         dashed lines, (index of the colour, y).
    marks:          points with their number beside them, (index of the colour, x, y).
    x_logarithmic:  the scale of x, all of which are positive.
    roots:          y by its signed square root, so that small values are seen beside large ones of either sign."""
    series = [Series(one.index, one.name, _thinned(one.points)) for one in series if one.points]
    if not series:
        return ''
    points = [point for one in series for point in one.points]
    values = [y for _, y, _ in points] + [y for _, y in levels]
    if roots:
        logarithmic = False
    if logarithmic is None:
        logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    ends = values if logarithmic else [y + sign * (ci or 0) for _, y, ci in points for sign in (-1, 1)] + values
    scale = math.log10 if logarithmic else _root if roots else float
    scale_x = math.log10 if x_logarithmic else float
    low, high = scale(min(ends)), scale(max(ends))
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-9):
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    first, last = (scale_x(end(x for x, _, _ in points)) for end in (min, max))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    place_x = lambda x: LEFT + (width * (scale_x(x) - first) / (last - first) if last > first else width / 2)
    place_y = lambda y: TOP + height * (high - min(max(scale(y), low), high)) / (high - low)

    parts = []
    for tick in _log_ticks(low, high) if logarithmic else _root_ticks(low, high) if roots else _ticks(low, high):
        y = place_y(tick)
        kind = 'zero' if roots and tick == 0 else 'grid'
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    ticks = [min(x for x, _, _ in points)] if last <= first else _log_ticks(first, last) if x_logarithmic else _ticks(first, last)
    for i, tick in enumerate(ticks):
        anchor = 'end' if i and i == len(ticks) - 1 and place_x(tick) > WIDTH - 30 else 'middle'
        parts.append(f'<text x="{place_x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{short(tick)}</text>')
    parts.append(f'<text x="{LEFT + width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>')
    parts += [f'<line class="level run{i % PALETTE}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place_y(y):.1f}" '
              f'y2="{place_y(y):.1f}"/>' for i, y in levels]
    for one in series:
        parts += _drawn(one, place_x, place_y, logarithmic)
    parts += _marked([(i, place_x(x), place_y(y), short(y)) for i, x, y in marks])
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/>')
    data = dict(x=x_label, unit=unit, log=int(x_logarithmic), box=[first, last, LEFT, width, WIDTH],
                series=[[one.index, one.name, [[_rounded(x), _rounded(y)] for x, y, _ in one.points]] for one in series])
    words = f'{title}{", logarithmic" if logarithmic else ""}'
    return (f'<figure class="chart"><figcaption>{html.escape(words)}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}" '
            f'data-chart="{html.escape(json.dumps(data, separators=(",", ":")))}">{"".join(parts)}</svg>'
            '<span class="at" aria-live="off"></span></figure>')

def whiskers(title: str, rows: Sequence[tuple[int, str, float, float, float]]) -> str:
    """Return a chart of intervals as HTML, a row for each of (index of the colour, name, value, lowest, highest)."""
    logarithmic = min(low for *_, low, _ in rows) > 0 and max(high for *_, high in rows) > 20 * min(low for *_, low, _ in rows)
    scale = math.log10 if logarithmic else float
    first, last = scale(min(low for *_, low, _ in rows)), scale(max(high for *_, high in rows))
    space = 0.04 * (last - first) or abs(last) * 0.1 or 0.5
    first, last = first - space, last + space
    place = lambda x: NAMES + (WIDTH - NAMES - RIGHT) * (scale(x) - first) / (last - first)
    bottom = TOP + ROW * len(rows)
    parts, free = [], -1e9
    for tick in _log_ticks(first, last) if logarithmic else _ticks(first, last, most=4):
        parts.append(f'<line class="grid" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{TOP}" y2="{bottom}"/>')
        half = 4 * len(short(tick))
        if place(tick) - half > free and place(tick) + half < WIDTH:
            free = place(tick) + half
            parts.append(f'<text x="{place(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{short(tick)}</text>')
    for row, (i, name, value, low, high) in enumerate(rows):
        y, shown = TOP + ROW * (row + 0.5), name if len(name) <= LETTERS else name[:LETTERS - 1] + '…'
        parts.append(f'<g><title>{html.escape(name)}: {short(value)}, {short(low)} to {short(high)}</title>'
                     f'<text x="{NAMES - 10}" y="{y + 4:.1f}" text-anchor="end">{html.escape(shown)}</text>'
                     f'<line class="interval run{i % PALETTE}" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/><circle class="dot run{i % PALETTE}" cx="{place(value):.1f}" cy="{y:.1f}" r="4"/></g>')
    words = html.escape(f'{title}{", logarithmic" if logarithmic else ""}')
    return (f'<figure class="chart"><figcaption>{words}</figcaption><svg viewBox="0 0 {WIDTH} {bottom + 24}" role="img" '
            f'aria-label="{words}">{"".join(parts)}</svg></figure>')

def legend(names: Sequence[str] | dict[int, str]) -> str:
    """Return the legend of all charts of a page: a swatch and a switch for each series, by the index of its colour."""
    entries = names.items() if isinstance(names, dict) else enumerate(names)
    items = ''.join(f'<li><label class="run{i % PALETTE}"><input type="checkbox" checked data-run="{i % PALETTE}"> '
                    f'<span class="swatch run{i % PALETTE}"></span>{html.escape(name)}</label></li>' for i, name in entries)
    return f'<ul class="legend">{items}</ul>'

def short(value: float) -> str:
    """Return a number for an axis or a table, with four digits at most."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f'{value:.3g}'.replace('e+0', 'e').replace('e-0', 'e-')
    if size >= 1000:
        return f'{value:,.0f}'
    return f'{value:.4g}'

#----------------------------------------------------------------------------

def _bounded(value):
    """The number itself; nearer to zero, or zero, where sums and logarithms of such numbers would overflow."""
    return 0.0 if abs(value) < 1e-100 else min(max(value, -1e100), 1e100)

def _rounded(value):
    return float(f'{value:.5g}')

def _thinned(points):
    """At most MOST_POINTS points, means of neighbours, of numbers that can be drawn; the first and the last stay."""
    points = [(_bounded(x), _bounded(y), ci and _bounded(ci)) for x, y, ci in points]
    if len(points) <= MOST_POINTS:
        return points
    size = -(-(len(points) - 2) // (MOST_POINTS - 2))
    groups = [points[i : i + size] for i in range(1, len(points) - 1, size)]
    mean = lambda values: sum(values) / len(values)
    means = [(mean([x for x, _, _ in group]), mean([y for _, y, _ in group]), None) for group in groups]
    return [points[0], *means, points[-1]]

def _drawn(one, place_x, place_y, logarithmic):
    kind, places = f'run{one.index % PALETTE}', [(place_x(x), place_y(y)) for x, y, _ in one.points]
    parts = []
    for (_, y, ci), (at, _) in zip(one.points, places):
        if ci:
            low = y - ci if not logarithmic or y > ci else y
            parts.append(f'<line class="whisker {kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{place_y(low):.1f}" '
                         f'y2="{place_y(y + ci):.1f}"/>')
    line = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
    parts.append(f'<polyline class="run {kind}" points="{line}"/>')
    if len(places) <= MOST_DOTS:
        parts += [f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
    return parts

def _marked(marks):
    """A ring around each point (index, x, y, words), and its words above or below it, apart from each other and inside."""
    parts, taken = [], []
    for i, x, y, words in sorted(set(marks), key=lambda mark: mark[2]):
        half = 3.6 * len(words)
        at = min(max(x, LEFT + half), WIDTH - RIGHT - half)
        near = [other_y for other_x, other_y, other_half in taken if abs(at - other_x) < half + other_half]
        tries = [y + sign * step for step in range(12, 120, 13) for sign in (-1, 1)]
        down = next((down for down in tries if TOP + 8 < down < HEIGHT - BOTTOM - 2 and
                     all(abs(down - other) >= 13 for other in near)), y - 12)
        taken.append((at, down, half))
        kind = f'run{i % PALETTE}'
        parts.append(f'<circle class="ring {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/><text class="mark {kind}" x="{at:.1f}" '
                     f'y="{down + 4:.1f}" text-anchor="middle">{words}</text>')
    return parts

def _root(value):
    return math.copysign(math.sqrt(abs(value)), value)

def _root_ticks(low, high):
    """Zero, and up to six round numbers between two signed square roots."""
    most = max(abs(low), abs(high)) ** 2
    unit = 10.0 ** math.floor(math.log10(most))
    unit *= next(m for m in (5, 2, 1) if m * unit <= most)
    steps = [unit, unit / 5, unit / 25]
    return [tick for tick in [*[-step for step in steps], 0, *steps[::-1]] if low <= _root(tick) <= high]

def _ticks(low, high, most=5):
    """Round numbers from low to high, at most `most` + 1 of them."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(m * unit for m in (1, 2, 5, 10, 20) if (high - low) / (m * unit) <= most)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]

def _log_ticks(low, high):
    """Powers of ten between two exponents, with 2 and 5 or 3 between them where there is space; linear ones in a short range."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0 ** e for e in range(math.floor(low), math.ceil(high) + 1) for m in steps
                 if low <= math.log10(m) + e <= high]
        if len(ticks) <= 6:
            return ticks if len(ticks) >= 2 else _ticks(10.0 ** low, 10.0 ** high)
    return ticks[:: -(-len(ticks) // 6)]

#----------------------------------------------------------------------------
# Under the pointer: the values of every series at the nearest point. The switches of the legend.

SCRIPT = '''
for (const svg of document.querySelectorAll('svg[data-chart]')) {
  const data = JSON.parse(svg.dataset.chart), [first, last, left, width, all] = data.box;
  const scale = data.log ? Math.log10 : Number;
  const at = svg.parentNode.querySelector('.at'), cursor = svg.querySelector('.cursor');
  const show = event => {
    const box = svg.getBoundingClientRect(), share = ((event.clientX - box.left) / box.width * all - left) / width;
    const wanted = first + (last - first) * Math.min(Math.max(share, 0), 1);
    at.replaceChildren(); let place = null;
    for (const [index, name, points] of data.series) {
      if (document.body.classList.contains('hide' + index % 8)) continue;
      const near = points.reduce((best, point) => Math.abs(scale(point[0]) - wanted) < Math.abs(scale(best[0]) - wanted) ?
        point : best);
      if (place === null) { place = near[0]; at.append(place + ' ' + data.x + ':'); }
      const part = document.createElement('span'); part.className = 'run' + index % 8;
      part.textContent = ' ' + (data.series.length > 1 ? name + ' ' : '') + near[1] + data.unit; at.append(part);
    }
    if (place !== null) {
      const x = left + (last > first ? width * (scale(place) - first) / (last - first) : width / 2);
      cursor.setAttribute('x1', x); cursor.setAttribute('x2', x);
    }
  };
  svg.addEventListener('pointermove', show); svg.addEventListener('pointerdown', show);
  svg.addEventListener('pointerleave', () => {
    at.replaceChildren(); cursor.setAttribute('x1', -9); cursor.setAttribute('x2', -9);
  });
}
for (const box of document.querySelectorAll('input[data-run]'))
  box.addEventListener('change', () => document.body.classList.toggle('hide' + box.dataset.run, !box.checked));
'''
