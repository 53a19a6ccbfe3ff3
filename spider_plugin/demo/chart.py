"""The curves of the demo's report as SVG, in colours of its style sheet."""

import math

from spider_plugin.files.html import line, text

WIDTH, HEIGHT = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 14, 44
MUTED, GRID = 'var(--muted)', 'var(--rule)'

#----------------------------------------------------------------------------

def score_chart(summary):
    """Return the SVG of both score curves, logarithmic, with the untrained source and other real images as dashed lines.

    Each curve has a ring and its number at the best score after training began, and its number at the last one."""
    curves = {name: summary[name]['curve'] for name in ('baseline', 'spider')}
    levels = dict(untrained=summary['untrained']['score'], fresh=summary['reference_scores']['fresh_target'])
    values = [value for curve in curves.values() for _, value in curve] + list(levels.values())
    values = [math.log10(max(value, 1e-3)) for value in values]
    low, high = min(values) - 0.06, max(values) + 0.1
    last = curves['baseline'][-1][0]
    x, y = _across(last), _up(low, high, lambda value: math.log10(max(value, 1e-3)))
    ticks = [m * 10 ** e for e in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
    ticks = [tick for tick in ticks if low < math.log10(tick) < high]
    parts = _grid(x, y, last, {tick: f'{tick:,.0f}' for tick in ticks})
    parts += [line(x(0), y(value), x(last), y(value), f'var(--{name})', 'stroke-width="2" stroke-dasharray="6 5"')
              for name, value in levels.items()]
    marks = []
    for name, curve in curves.items():
        parts += _curve(x, y, name, curve)
        best = summary[name]['best']
        points = {(best['iteration'], best['score']), tuple(curve[-1])}
        parts.append(f'<circle cx="{x(best["iteration"]):.1f}" cy="{y(best["score"]):.1f}" r="7" fill="none" '
                     f'stroke="var(--{name})" stroke-width="2"/>')
        marks += [(x(i), y(value), f'{value:,.0f}', name) for i, value in points]
    return _svg('Score while training', parts + _numbers(marks))

def recall_chart(summary):
    """Return the SVG of both recall curves, from 0 up, with the untrained source as a dashed line."""
    curves, untrained = {name: summary[name]['recall'] for name in ('baseline', 'spider')}, summary['untrained']['recall']
    most = max([value for curve in curves.values() for _, value in curve] + [untrained, 0.05]) * 1.12
    last = curves['baseline'][-1][0]
    x, y = _across(last), _up(0, most, lambda value: value)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if most / step <= 6)
    parts = _grid(x, y, last, {i * step: f'{i * step:.2f}' for i in range(int(most / step) + 1)})
    parts.append(line(x(0), y(untrained), x(last), y(untrained), 'var(--untrained)', 'stroke-width="2" stroke-dasharray="6 5"'))
    for name, curve in curves.items():
        parts += _curve(x, y, name, curve)
    marks = [(x(last), y(curve[-1][1]), f'{curve[-1][1]:.2f}', name) for name, curve in curves.items()]
    return _svg('Recall while training', parts + _numbers(marks))

#----------------------------------------------------------------------------

def _svg(label, parts):
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'

def _across(last):
    return lambda iteration: LEFT + (WIDTH - LEFT - RIGHT) * iteration / last

def _up(low, high, scale):
    return lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (high - scale(value)) / (high - low)

def _grid(x, y, last, ticks):
    parts = [line(x(0), y(tick), x(last), y(tick), GRID) + text(LEFT - 7, y(tick) + 5, words, 'end', MUTED)
             for tick, words in ticks.items()]
    places = ('start', 'middle', 'end')
    parts += [text(x(last * i / 2), HEIGHT - BOTTOM + 20, f'{last * i / 2:.0f}', places[i], MUTED) for i in range(3)]
    return parts + [text((x(0) + x(last)) / 2, HEIGHT - 5, 'iterations', 'middle', MUTED)]

def _curve(x, y, name, curve):
    points = ' '.join(f'{x(i):.1f},{y(value):.1f}' for i, value in curve)
    return [f'<polyline points="{points}" fill="none" stroke="var(--{name})" stroke-width="3"/>',
            *(f'<circle cx="{x(i):.1f}" cy="{y(value):.1f}" r="3" fill="var(--{name})"/>' for i, value in curve)]

def _numbers(marks):
    """Numbers above their points, apart from each other: [(x, y, words, name of the colour), ...]."""
    parts, taken = [], []
    for x, y, words, name in sorted(marks, key=lambda mark: mark[1]):
        place = 'end' if x > WIDTH - RIGHT - 30 else 'middle'
        at = max(y - 12, TOP + 10)
        step = 15 if y < HEIGHT / 2 else -15
        while any(abs(at - other_y) < 15 and abs(x - other_x) < 44 for other_x, other_y in taken):
            at += step
        taken.append((x, at))
        parts.append(text(x, at, words, place, f'var(--{name})', 'class="number"'))
    return parts

#----------------------------------------------------------------------------
