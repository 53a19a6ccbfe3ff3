"""The page of a report: curves of several runs, their pictures over time, pairs, options, next steps. One self-contained file."""

import html
import time

from spider_plugin.files import charts
from spider_plugin.files.charts import Series
from spider_plugin.files.html import command, honest, page
from spider_plugin.report import pictures, tables
from spider_plugin.report.runs import Run, labels

PANELS = (     # title, names in stats.jsonl of which the first that a run has is shown, unless it is zero in all runs
    ('loss of G', ['Loss/G/loss']),
    ('loss of D', ['Loss/D/loss']),
    ('mean sign of D at real images', ['Loss/signs/real']),
    ('mean sign of D at generated images', ['Loss/signs/fake']),
    ('R1 penalty', ['Loss/r1_penalty']),
    ('path length penalty', ['Loss/pl_penalty']),
    ('augmentation probability', ['Progress/augment']),
    ('norm of the gradients of G', ['Gradients/Gmain', 'Gradients/Gboth']),
    ('norm of the gradients of D', ['Gradients/Dmain', 'Gradients/Dboth']),
    ('factor of the source in the pixels (skip)', ['Spider/skip']),
    ('gain of the source', ['Spider/gain']),
    ('share of a step that the source takes', ['Spider/source_share']),
    ('memory of the process, GiB', ['Resources/cpu_mem_gb']),
    ('most memory on the GPU, GiB', ['Resources/peak_gpu_mem_gb']))

STYLE = '''
.runs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
.runs h3 { margin: 0 0 6px; }
dl { margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px; font-size: 14px; }
dt { color: var(--muted); max-width: 9em; overflow-wrap: anywhere; } dd { margin: 0; min-width: 0; }
table.metrics td:nth-child(2), table.metrics th:nth-child(2) { text-align: left; } table.details th { text-align: left; }
.wide table.metrics th { white-space: normal; min-width: 64px; vertical-align: bottom; overflow-wrap: normal; }
.wide table.metrics td:nth-child(2) { white-space: normal; min-width: 120px; }
.wide table.details td { white-space: normal; min-width: 120px; } .wide table.details code { white-space: nowrap; }
'''

def render(runs: list[Run], live: str = '', now: float | None = None) -> str:
    """Return the report of some runs as a string of HTML.

    live:   a script that refreshes the page (report/live.py); none in a file.
    now:    seconds since 1970; None for the time of the call."""
    now = time.time() if now is None else now
    title = f'Report of {runs[0].name}' if len(runs) == 1 else f'Report of {len(runs)} runs'
    shown, frames = pictures.over_time(runs)
    body = ''.join([
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(_lead(runs))}</p>', _notes(runs),
        tables.cards(runs, now), charts.legend(labels(runs)) if len(runs) > 1 else '',
        _section('Metrics', _metric_charts(runs) + tables.metric_table(runs)),
        _section('Images over time', shown),
        _section('Source images and what is made of them', pictures.pairs(runs, frames),
                 'The same latents in every picture. Left the source image that a latent picks, right the output at the time of '
                 'the slider.'),
        _section('Training', _panels(runs), 'Means over each tick. Touch or point at a curve for its values.'),
        _section('Options in which the runs differ' if len(runs) > 1 else 'Options', tables.option_table(runs)),
        _section('Next steps', _steps(runs)),
        f'<p class="note">Written at {time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))} UTC.</p>',
        f'<script>{charts.SCRIPT}{pictures.SCRIPT}{live}</script>'])
    return page(title, body, pictures.STYLE + STYLE)

def _section(title, content, note=''):
    if not content:
        return ''
    return f'<h2>{title}</h2>' + (f'<p class="note">{note}</p>' if note else '') + content

def _lead(runs):
    if len(runs) > 1:
        return 'One colour for each run; the boxes of the legend hide and show them. Each run is one seed.'
    if runs[0].kimg is None:
        return 'The run has no tick yet.'
    total = f' of {charts.short(runs[0].total_kimg)}' if runs[0].total_kimg else ''
    return f'{charts.short(runs[0].kimg)}{total} thousand images so far. One run is one seed.'

def _notes(runs):
    several = len(runs) > 1
    return honest([f'{run.name}: {note}' if several else note for run in runs for note in run.notes])

#----------------------------------------------------------------------------
# Curves.

def _metric_charts(runs):
    names, called = dict.fromkeys(name for run in runs for name in run.scores), labels(runs)
    drawn = [charts.chart(name + (', higher is better' if tables.rises(name) else '' if name.startswith('sid') else
                                  ', lower is better'),
                          [Series(i, called[i], [(score.kimg, score.value, score.ci95) for score in run.scores.get(name, [])])
                           for i, run in enumerate(runs)], 'kimg', logarithmic=False if name.startswith('sid') else None)
             for name in names]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ''

def _panels(runs):
    called = labels(runs)
    panels = [(title, [_series(i, called[i], run, names) for i, run in enumerate(runs)]) for title, names in PANELS]
    drawn = [charts.chart(title, series, 'kimg') for title, series in panels
             if any(value for one in series for _, value, _ in one.points)]
    speed = [Series(i, called[i], [(kimg, rate, None) for kimg, rate in tables.images_per_second(run)])
             for i, run in enumerate(runs)]
    drawn.append(charts.chart('images a second', speed, 'kimg'))
    return f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ''

def _series(i, called, run, names):
    name = next((name for name in names if name in run.curves), None)
    return Series(i, called, [(kimg, value, None) for kimg, value in run.curves.get(name, [])])

def _steps(runs):
    parts = []
    for run in runs:
        if steps := tables.next_steps(run):
            parts.append(f'<h3>{html.escape(run.name)}</h3>' if len(runs) > 1 else '')
            parts += [f'<p class="note">{html.escape(what)}</p>{command(line)}' for what, line in steps]
    return ''.join(parts)
