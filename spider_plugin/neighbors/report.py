"""The output of `spider neighbors`: a table for the terminal, and a self-contained HTML page."""

import html
import math

from spider_plugin.files import charts
from spider_plugin.files.charts import Series
from spider_plugin.files.html import command as command_box
from spider_plugin.files.html import honest, page, strip
from spider_plugin.files.theme import PALETTE
from spider_plugin.neighbors.ranking import MEASURES, interval
from spider_plugin.neighbors.words import labelled

SHOWN   = 60        # Most sources with pictures in the page; all sources are in its table.
RANKED  = 20        # Most sources in a chart of intervals.
STYLE   = '''
main { max-width: 1080px; } .wide tr.tie td { border-bottom-color: transparent; }
.wide td:nth-child(2), .wide th:nth-child(2) { text-align: left; } .charts { margin: 12px 0 20px; }
.charts.two { grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr)); }
.strip { margin-top: 14px; } .strip + .note { margin: 2px 0 0; }
@media (min-width: 601px) { .strip + .note { margin-left: 144px; } }
'''

COLUMNS = dict( # Heading -> entry -> words.
    rank      = lambda entry: f'{entry["rank"]}{"=" if entry["tied"] else ""}',
    source    = lambda entry: entry['name'],
    images    = lambda entry: str(entry['images']),
    FID       = lambda entry: _plain(entry['fid']),
    KID       = lambda entry: _plain(entry['kid']),
    SID       = lambda entry: _signed(entry['sid']),
    back      = lambda entry: _signed(entry['sid_back']),
    location  = lambda entry: f'{entry["sid"]["location"]:.4g}',
    spread    = lambda entry: f'{entry["sid"]["spread"]:+.4g}')

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
    """Return the page as a string of HTML; `words` and `command` are the results of `words.suggestion`."""
    target = summary['target']
    body = ''.join([
        f'<h1>Neighbours of {html.escape(target["name"])}</h1><p class="lead">{html.escape(words)}</p>',
        command_box(command) if command else '',
        honest(summary['warnings']), *(f'<p class="note">{html.escape(note)}</p>' for note in summary['notes']),
        '<h2>Images</h2>', pictures(summary),
        '<h2>Ranking</h2>', intervals(summary), html_table(summary),
        ''.join(f'<p class="note">{html.escape(sentence)}</p>' for sentence in legend(summary)),
        curves(summary),
        '<h2>How to read the numbers</h2>', reading(),
        '<h2>Details</h2>', details(summary),
        f'<script>{charts.SCRIPT}</script>'])
    return page(f'Neighbours of {target["name"]}', body, STYLE)

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

def intervals(summary):
    """Return a chart for each measure, the one that ranks first, with the interval of each source in the order of its rank."""
    sources, first = summary['sources'][:RANKED], summary['by']
    if not sources:
        return ''
    drawn = [charts.whiskers(labelled(measure, summary['label']), [
        (i, entry['name'], *interval(entry, measure)) for i, entry in enumerate(sources)])
        for measure in sorted(MEASURES, key=lambda measure: measure != first)]
    return ('<p class="note">Points are values and lines their 95% intervals, in the order of the ranks by the first measure; '
            'nearer is further left. Intervals decide: sources whose lines overlap are tied.</p>'
            f'<div class="charts">{"".join(drawn)}</div>')

def html_table(summary):
    rows, sources, names = '', summary['sources'], headings(summary)
    for entry, following in zip(sources, [*sources[1:], None]):
        inside = following is not None and entry['tied'] and following['tied'] and following['rank'] == entry['rank']
        cells = ''.join(f'<td{f" data-head={chr(34)}{html.escape(name)}{chr(34)}" * (i > 1)}>{html.escape(cell(entry))}</td>'
                        for i, (name, cell) in enumerate(zip(names, COLUMNS.values())))
        rows += f'<tr class="{"tie" if inside else ""}" title="{html.escape(entry["source"])}">{cells}</tr>'
    head = ''.join(f'<th>{html.escape(name)}</th>' for name in names)
    return f'<div class="wide"><table class="stack"><tr>{head}</tr>{rows}</table></div>'

def curves(summary):
    """Return the curves of SID over the size of the cube, one for each source, of at most as many as there are colours."""
    sources = summary['sources'][:PALETTE]
    if not sources:
        return ''
    drawn = [charts.chart(title, [Series(i, entry['name'], [(radius, value, None) for radius, value in zip(
        entry[which]['radii'], entry[which]['curve'])]) for i, entry in enumerate(sources)], 'half-width of the cube',
        x_logarithmic=True, roots=True) for which, title in (('sid', 'the sources against the target'),
                                                             ('sid_back', 'the target against the sources'))]
    return (f'<h2>{html.escape(labelled("SID", summary["label"]))} by the size of the cube</h2>'
            '<p class="note">SID compares how far two sets lie from points in a cube around the centre of the second one. The '
            'cube reaches so many standard deviations of that set to each side: its half-width. Below zero the first set is '
            'narrower, above zero wider or off the centre. The table has the sums of these curves.</p>'
            f'{charts.legend([entry["name"] for entry in sources])}<div class="charts two">{"".join(drawn)}</div>')

def reading():
    points = [
        '<b>SID near zero is not equality.</b> A source that lies off the target and is narrower can have a SID of zero: '
        'location and spread cancel. Shapes of covariances do not count at all.',
        '<b>SID compares spreads above all</b> where sets are far apart. A narrow set of textures looks close to photographs; '
        'FID and KID disagree, and the box at the top says so.',
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
