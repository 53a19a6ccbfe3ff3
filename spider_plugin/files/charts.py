"""Line charts as SVG for the plugin's pages: several series in one chart, light and dark, with a readout under the pointer.

`chart` makes one, `legend` the names and switches of the series, SCRIPT serves all charts of a page. They need files/theme.py."""

import dataclasses
import html
import json
import math

from spider_plugin.files.theme import PALETTE

WIDTH, HEIGHT = 400, 220        # of the drawing, which is scaled to the page
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
MOST_POINTS = 240               # of a series; more become means of neighbours
MOST_DOTS   = 60                # points that are marked

@dataclasses.dataclass(frozen=True)
class Series:
    """A curve: `index` picks its colour and switch, points are (x, y, half-width of an interval or None) in the order of x."""

    index:  int
    name:   str
    points: list[tuple[float, float, float | None]]

def chart(title: str, series: list[Series], x_label: str, logarithmic: bool | None = None, unit: str = '') -> str:
    """Return a chart as HTML; nothing where no series has a point.

    logarithmic:    the scale of y. None: logarithmic where the values are positive and span more than a factor of 20."""
    series = [Series(one.index, one.name, _thinned(one.points)) for one in series if one.points]
    if not series:
        return ''
    points = [point for one in series for point in one.points]
    values = [y for _, y, _ in points]
    if logarithmic is None:
        logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    ends = values if logarithmic else [y + sign * (ci or 0) for _, y, ci in points for sign in (-1, 1)]
    scale = math.log10 if logarithmic else float
    low, high = scale(min(ends)), scale(max(ends))
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-9):
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    first, last = min(x for x, _, _ in points), max(x for x, _, _ in points)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    place_x = lambda x: LEFT + (width * (x - first) / (last - first) if last > first else width / 2)
    place_y = lambda y: TOP + height * (high - min(max(scale(y), low), high)) / (high - low)

    parts = []
    for tick in _log_ticks(low, high) if logarithmic else _ticks(low, high):
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for i, tick in enumerate(ticks := _ticks(first, last) if last > first else [first]):
        anchor = 'end' if i and i == len(ticks) - 1 and place_x(tick) > WIDTH - 30 else 'middle'
        parts.append(f'<text x="{place_x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{short(tick)}</text>')
    parts.append(f'<text x="{LEFT + width / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>')
    for one in series:
        parts += _drawn(one, place_x, place_y, logarithmic)
    parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/>')
    data = dict(x=x_label, unit=unit, box=[first, last, LEFT, width, WIDTH],
                series=[[one.index, one.name, [[_rounded(x), _rounded(y)] for x, y, _ in one.points]] for one in series])
    words = f'{title}{", logarithmic" if logarithmic else ""}'
    return (f'<figure class="chart"><figcaption>{html.escape(words)}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}" '
            f'data-chart="{html.escape(json.dumps(data, separators=(",", ":")))}">{"".join(parts)}</svg>'
            '<span class="at" aria-live="off"></span></figure>')

def legend(names: list[str]) -> str:
    """Return the legend of all charts of a page: a swatch and a switch for each series, by its index."""
    items = ''.join(f'<li><label class="run{i % PALETTE}"><input type="checkbox" checked data-run="{i % PALETTE}"> '
                    f'<span class="swatch run{i % PALETTE}"></span>{html.escape(name)}</label></li>'
                    for i, name in enumerate(names))
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
  const at = svg.parentNode.querySelector('.at'), cursor = svg.querySelector('.cursor');
  const show = event => {
    const box = svg.getBoundingClientRect(), share = ((event.clientX - box.left) / box.width * all - left) / width;
    const wanted = first + (last - first) * Math.min(Math.max(share, 0), 1);
    at.replaceChildren(); let place = null;
    for (const [index, name, points] of data.series) {
      if (document.body.classList.contains('hide' + index % 8)) continue;
      const near = points.reduce((best, point) => Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted) ? point : best);
      if (place === null) { place = near[0]; at.append(place + ' ' + data.x + ':'); }
      const part = document.createElement('span'); part.className = 'run' + index % 8;
      part.textContent = ' ' + (data.series.length > 1 ? name + ' ' : '') + near[1] + data.unit; at.append(part);
    }
    if (place !== null) {
      const x = left + (last > first ? width * (place - first) / (last - first) : width / 2);
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
