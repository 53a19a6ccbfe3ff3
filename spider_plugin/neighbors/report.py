"""The output of `spider neighbors`: a table for the terminal, and a self-contained HTML page."""

import html
import math

from spider_plugin.files.html import line, page, strip, text
from spider_plugin.neighbors.words import labelled

COLOURS = ('#d0246b', '#2b6cb0', '#b7791f', '#2f855a', '#6b46c1', '#c05621', '#0d7377', '#6b7280')
SHOWN   = 60        # Most sources with pictures in the page; all sources are in its table.
STYLE   = '''
main { max-width: 1080px; } .wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; font-size: 14px; }
.wide tr.tie td { border-bottom-color: transparent; } .wide td:nth-child(2), .wide th:nth-child(2) { text-align: left; }
pre { background: #fff; border: 1px solid #e6e2dc; border-radius: 10px; padding: 12px 16px; white-space: pre-wrap; }
'''

COLUMNS = dict( # Heading -> entry -> words.
    rank      = lambda entry: f'{entry["rank"]}{"=" if entry["tied"] else ""}',
    source    = lambda entry: entry['name'],
    images    = lambda entry: str(entry['images']),
    SID       = lambda entry: _signed(entry['sid']),
    back      = lambda entry: _signed(entry['sid_back']),
    location  = lambda entry: f'{entry["sid"]["location"]:.4g}',
    spread    = lambda entry: f'{entry["sid"]["spread"]:+.4g}',
    FID       = lambda entry: _plain(entry['fid']),
    KID       = lambda entry: _plain(entry['kid']))

def _signed(estimate):
    return f'{estimate["value"]:+.{_digits(estimate["ci95"])}f} ± {estimate["ci95"]:.{_digits(estimate["ci95"])}f}'

def _plain(estimate):
    return _signed(estimate).removeprefix('+')

def _digits(half_width):
    """Return the number of decimals that shows two digits of the interval."""
    return min(max(1 - math.floor(math.log10(half_width)), 0), 8) if half_width > 0 else 4

#----------------------------------------------------------------------------
# Terminal.

def headings(summary):
    """Return the headings of the columns, with the label of the detector."""
    return [labelled(heading, summary['label']) if heading in ('SID', 'FID', 'KID') else heading for heading in COLUMNS]

def table(summary):
    """Return the table as lines of text."""
    rows = [headings(summary)] + [[cell(entry) for cell in COLUMNS.values()] for entry in summary['sources']]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    align = lambda row: [cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
    return [f'Target {summary["target"]["name"]}, {summary["target"]["images"]} images; ± is a 95% interval.', '',
            *['  '.join(align(row)) for row in rows], '', *legend(summary)]

def legend(summary):
    columns = dict(zip(COLUMNS, headings(summary)))
    measure = dict(sid=f'the absolute value of {columns["SID"]}', fid=columns['FID'], kid=columns['KID'])[summary['by']]
    return ['SID is that of the source against the target (> 0 further out or wider, < 0 narrower or inside); back is that of '
            'the target against the source.',
            f'Ranked by {measure}; "=" marks ties, sources whose intervals overlap, listed by name.']

#----------------------------------------------------------------------------
# Page.

def render(summary, words, command):
    """Return the page as a string of HTML; `words` and `command` are the results of `compare.suggestion`."""
    target = summary['target']
    body = ''.join([
        f'<h1>Neighbours of {html.escape(target["name"])}</h1><p class="lead">{html.escape(words)}</p>',
        f'<pre>{html.escape(command)}</pre>' if command else '',
        caveats(summary['warnings']),
        '<h2>Ranking</h2>', html_table(summary),
        ''.join(f'<p class="note">{html.escape(sentence)}</p>' for sentence in legend(summary)),
        curves_of(summary, 'sid', 'SID of the sources against the target'),
        curves_of(summary, 'sid_back', 'SID of the target against the sources'),
        '<p class="note">SID at each half-width of the cube, in standard deviations of the set around which it lies. The tables '
        'hold the sums of these curves.</p>',
        '<h2>Images</h2>', pictures(summary),
        '<h2>How to read the numbers</h2>', reading(),
        '<h2>Details</h2>', details(summary)])
    return page(f'Neighbours of {target["name"]}', body, STYLE)

def caveats(warnings):
    if not warnings:
        return ''
    return '<div class="honest"><ul>' + ''.join(f'<li>{html.escape(warning)}</li>' for warning in warnings) + '</ul></div>'

def html_table(summary):
    rows, sources = '', summary['sources']
    for entry, following in zip(sources, [*sources[1:], None]):
        inside = following is not None and entry['tied'] and following['tied'] and following['rank'] == entry['rank']
        cells = ''.join(f'<td>{html.escape(cell(entry))}</td>' for cell in COLUMNS.values())
        rows += f'<tr class="{"tie" if inside else ""}" title="{html.escape(entry["source"])}">{cells}</tr>'
    head = ''.join(f'<th>{html.escape(name)}</th>' for name in headings(summary))
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'

def pictures(summary):
    """Return a strip of small images for the target and each source, with the meaning of the source's SID."""
    target, parts = summary['target'], []
    if target['source'] in summary['pictures']:
        parts.append(strip(f'target: {target["name"]}', summary['pictures'][target['source']]))
    for entry in summary['sources'][:SHOWN]:
        if entry['source'] in summary['pictures']:
            parts.append(strip(f'{COLUMNS["rank"](entry)} {entry["name"]}', summary['pictures'][entry['source']]))
        else:
            parts.append(f'<p><b>{html.escape(entry["name"])}</b> has no images; its features came from a file.</p>')
        parts.append(f'<p class="note">{html.escape(entry["sid"]["words"])}</p>')
    return ''.join(parts)

def reading():
    points = [
        '<b>SID near zero is not equality.</b> A source that lies off the target and is narrower can have a SID of zero: '
        'location and spread cancel. Shapes of covariances do not count at all.',
        '<b>SID compares spreads above all</b> where sets are far apart. A narrow set of textures looks close to photographs; '
        'FID and KID disagree, and the box above says so.',
        '<b>A close source need not help.</b> The scores measure the distance of two sets in the features of one network. Train '
        'from the best two or three for a short time and compare.',
        '<b>Scores compare only within a page,</b> where detector and target are the same. SID grows with the largest radius, '
        'FID falls with the number of images.']
    return '<ul>' + ''.join(f'<li>{point}</li>' for point in points) + '</ul>'

def details(summary):
    target, detector = summary['target'], summary['detector']
    rows = dict(target=f'{target["source"]}, {target["images"]} of {target["of"]} images',
                detector=f'{detector["name"]}, sha256 {detector["sha256"]}' if detector else 'none, features from files',
                measures='SID: order 1, scalar sigma, 199 radii up to 49.75, closed form; FID: delta-method interval; KID: cubic '
                         'kernel, unbiased, interval from first-order projections')
    rows |= dict(scores=detector['about']) if detector and detector['about'] else {}
    rows |= {entry['name']: f'{entry["source"]}, {entry["images"]} of {entry["of"]} images' for entry in summary['sources']}
    listed = ''.join(f'<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>' for name, value in rows.items())
    return f'<table class="details">{listed}</table>'

#----------------------------------------------------------------------------
# Curves as SVG. Radii are logarithmic; values are shown by signed square roots, so that small ones are visible beside large ones.

def curves_of(summary, which, title):
    """Return a heading and a chart with a curve for each source, at most as many as there are colours."""
    sources = summary['sources'][:len(COLOURS)]
    if not sources:
        return ''
    return f'<h2>{title}</h2>' + chart([(entry['name'], entry[which]['radii'], entry[which]['curve']) for entry in sources])

def chart(curves, width=1032, height=360, left=72, right=200, top=20, bottom=46):
    """Return a chart of curves [(name, radii, values)] as SVG."""
    squeeze = lambda value: math.copysign(math.sqrt(abs(value)), value)
    values = [value for _, _, curve in curves for value in curve]
    low, high = squeeze(min(*values, 0)), squeeze(max(*values, 0))
    low, high = low - 0.04 * (high - low or 1), high + 0.04 * (high - low or 1)
    first, last = [math.log(radius) for radius in (curves[0][1][0], curves[0][1][-1])]
    x = lambda radius: left + (width - left - right) * (math.log(radius) - first) / (last - first)
    y = lambda value: top + (height - top - bottom) * (high - squeeze(value)) / (high - low)
    parts = []
    for tick in _ticks(low * abs(low), high * abs(high)):
        parts += [line(left, y(tick), width - right, y(tick), '#9aa0a6' if tick == 0 else '#eceae6'),
                  text(left - 8, y(tick) + 5, f'{tick:g}', 'end')]
    parts += [text(x(radius), height - bottom + 22, f'{radius:g}', 'middle') for radius in (0.25, 0.5, 1, 2, 5, 10, 20, 49.75)]
    parts.append(text(left + (width - left - right) / 2, height - 6, 'half-width of the cube', 'middle'))
    labels = []
    for (name, radii, curve), colour in zip(curves, COLOURS):
        points = ' '.join(f'{x(radius):.1f},{y(value):.1f}' for radius, value in zip(radii, curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        labels.append((y(curve[-1]), name, colour))
    parts += _names(labels, width - right + 10, height - bottom)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="SID curves">{"".join(parts)}</svg>'

def _ticks(low, high):
    """Return 0 and up to six round numbers within the range."""
    most = max(abs(low), abs(high))
    unit = 10 ** math.floor(math.log10(most))
    unit *= next(m for m in (5, 2, 1) if m * unit <= most)
    steps = [unit, unit / 5, unit / 25]
    return [tick for tick in [*[-step for step in steps], 0, *steps[::-1]] if low <= tick <= high]

def _names(labels, x, lowest, space=18):
    """Return the labels [(y, name, colour)] at the ends of the curves as SVG; labels that would overlap are moved apart."""
    labels, at = sorted(labels), []
    for y, _, _ in labels:
        at.append(max(y, at[-1] + space) if at else y)
    for i, y in reversed(list(enumerate(at))):
        at[i] = min(y, at[i + 1] - space if i + 1 < len(at) else lowest)
    short = lambda name: name if len(name) <= 22 else name[:21] + '…'
    return [text(x, y + 5, short(name), 'start', colour, 'font-weight="600"') for y, (_, name, colour) in zip(at, labels)]

#----------------------------------------------------------------------------
