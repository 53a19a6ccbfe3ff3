"""Numbers and words of a report as HTML: cards of the runs, metrics with intervals and ratios, differing options, next steps."""

import html
import json
import shlex
import time
from typing import Any

from spider_plugin.files.charts import short
from spider_plugin.files.theme import PALETTE
from spider_plugin.report.runs import Run, Score, labels

MOST_ROWS = 200         # of the table of options
LONGEST   = 160         # letters of a value there
RISING    = ('pr', 'is', 'eqt', 'eqr')      # beginnings of the metrics that are better where they are larger

def rises(metric: str) -> bool:
    """Return whether a larger value of the metric is a better one."""
    return metric.startswith(RISING)

def best(metric: str, scores: list[Score]) -> Score:
    """Return the best of the scores; for signed distances, that nearest to zero."""
    if metric.startswith('sid'):
        return min(scores, key=lambda score: abs(score.value))
    return max(scores, key=lambda score: score.value) if rises(metric) else min(scores, key=lambda score: score.value)

def swatch(i: int) -> str:
    """Return a small square of the colour of a run, for its place before the run's name."""
    return f'<span class="swatch run{i % PALETTE}"></span>'

def score_text(score: Score) -> str:
    return short(score.value) + (f' ± {short(score.ci95)}' if score.ci95 is not None else '')

#----------------------------------------------------------------------------
# Cards.

def cards(runs: list[Run], now: float) -> str:
    """Return a card for each run: how far it is, its source, its scores. now: seconds since 1970."""
    return '<div class="cards runs">' + ''.join(_card(i, run, now) for i, run in enumerate(runs)) + '</div>'

def _card(i, run, now):
    rows = dict(
        source  = source_words(run),
        resumed = run.resumed,
        images  = _progress(run, now),
        **{name: f'{score_text(scores[-1])} at {short(scores[-1].kimg)} kimg; best {score_text(top)} at {short(top.kimg)} kimg'
           for name, scores in list(run.scores.items())[:4] for top in [best(name, scores)]})
    listed = ''.join(f'<dt>{html.escape(name)}</dt><dd>{html.escape(words)}</dd>' for name, words in rows.items() if words)
    return f'<div class="card"><h3>{swatch(i)}{html.escape(run.name)}</h3><dl>{listed}</dl></div>'

def source_words(run: Run) -> str:
    """Return a description of the source of a run, such as 'crayon, residual, moved to the target'."""
    source = run.source
    if source is None:
        return 'none: latents alone'
    words = [source.get('name'), source.get('mapping'), {'covariance': 'moved to the target'}.get(str(source.get('match')))]
    return ', '.join(str(word) for word in words if word)

def _progress(run, now):
    if run.kimg is None:
        return 'no tick yet'
    total = f' of {short(run.total_kimg)}' if run.total_kimg else ''
    words = f'{short(run.kimg)}{total} kimg'
    rate = images_per_second(run)
    if rate:
        words += f', {short(float(f"{rate[-1][1]:.3g}"))} images a second'
    if run.last is not None:
        words += ', ended' if run.ended else f', last tick {_ago(now - run.last)}'
        words += f' ({time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(max(run.last, 0), 1e11)))} UTC)'
    return words

def _ago(seconds):
    for unit, size in (('day', 86400), ('hour', 3600), ('minute', 60)):
        if seconds >= 2 * size:
            return f'{seconds // size:.0f} {unit}s before this page'
    return 'within two minutes of this page'

def images_per_second(run: Run) -> list[tuple[float, float]]:
    """Return [(kimg, images a second)]: as the run says, else by its seconds for a thousand images."""
    said = run.curves.get('Timing/images_per_sec')
    return said or [(kimg, 1000 / value) for kimg, value in run.curves.get('Timing/sec_per_kimg', []) if value > 0]

#----------------------------------------------------------------------------
# Metrics.

def metric_table(runs: list[Run]) -> str:
    """Return a table of each metric of each run: last, best, the untrained source, and with several runs the ratio of images."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not names:
        return ''
    several = len(runs) > 1
    heads = ['metric', 'run', 'last', 'best', 'untrained source', *['images to the best of the first'] * several]
    rows, called = '', labels(runs)
    for name in names:
        for i, run in enumerate(runs):
            if scores := run.scores.get(name):
                top, untrained = best(name, scores), run.untrained(name)
                cells = [score_text(scores[-1]), f'{score_text(top)} at {short(top.kimg)} kimg',
                         '' if untrained is None else short(untrained), *[ratio(name, runs[0], run)] * several]
                rows += f'<tr><td>{html.escape(name)}</td><td>{swatch(i)}{html.escape(called[i])}</td>' + \
                    ''.join(f'<td data-head="{head}">{html.escape(cell)}</td>' for head, cell in zip(heads[2:], cells)) + '</tr>'
    first = ''.join(f'<th>{head}</th>' for head in heads)
    return f'<div class="wide"><table class="metrics stack"><tr>{first}</tr>{rows}</table></div>{_metric_notes(runs, several)}'

def ratio(metric: str, first: Run, run: Run) -> str:
    """Return the images that `run` needs to a score as good as the best of `first`, as a share of the images that `first` needs.

    Scores before training do not count. Evaluations are steps, so that the share is an upper bound."""
    trained, others = ([score for score in one.scores.get(metric, []) if score.kimg > 0] for one in (first, run))
    if run is first or not trained or not others:
        return ''
    goal = best(metric, trained)
    good = [score for score in others if best(metric, [score, goal]) is score or score.value == goal.value]
    return f'≤ {good[0].kimg / goal.kimg:.2f}' if good else 'not reached'

def _metric_notes(runs, several):
    notes = ['± is half of a 95% interval, of the images that were drawn, not of other seeds; only SID has one.']
    if any(run.source is not None for run in runs):
        notes.append('The untrained source is the score of a fresh residual before training, when it draws its source images. '
                     'An empty cell: not measured (--metric-at-start=1 does), or the untrained network draws something else.')
    if several:
        notes.append('The last column is the share of the first run\'s images after which a run scores as well as the first at '
                     'its best. A good untrained source is a head start, so do not read this share as a speed. Each run is one '
                     'seed.')
    return ''.join(f'<p class="note">{html.escape(note)}</p>' for note in notes)

#----------------------------------------------------------------------------
# Options.

def flat(options: dict[str, Any], most: int = 5000) -> dict[str, str]:
    """Return {dotted name: value as text} of nested options."""
    found: dict[str, str] = {}
    todo = [('', options, 0)]
    while todo and len(found) < most:
        name, value, depth = todo.pop()
        if isinstance(value, dict) and value and depth < 20:
            todo += [(f'{name}.{key}' if name else str(key), entry, depth + 1) for key, entry in reversed(value.items())]
        else:
            found[name] = json.dumps(value, default=str)[:4 * LONGEST]
    return found

def option_table(runs: list[Run]) -> str:
    """Return a table of the options in which runs differ; of one run, of the options that its user gave, as far as known."""
    if len(runs) == 1:
        given = flat(runs[0].given) or flat(_without_names(runs[0].options))
        rows = ''.join(f'<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(_cut(value))}</td></tr>'
                       for name, value in list(given.items())[:MOST_ROWS])
        return f'<table class="details">{rows}</table>' if rows else ''
    tables = [flat(_without_names(run.options)) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    differ = [name for name in names if len({table.get(name) for table in tables}) > 1]
    if not differ:
        return '<p>The options of these runs are equal.</p>'
    heads = ''.join(f'<th>{swatch(i)}{html.escape(name)}</th>' for i, name in enumerate(labels(runs)))
    rows = ''.join(f'<tr><td><code>{html.escape(name)}</code></td>' +
                   ''.join(f'<td>{html.escape(_cut(table.get(name, "—")))}</td>' for table in tables) + '</tr>'
                   for name in differ[:MOST_ROWS])
    return f'<div class="wide"><table class="details"><tr><th></th>{heads}</tr>{rows}</table></div>'

def _without_names(options):
    """The options without the folder of the run, which differs in all runs."""
    return {name: value for name, value in options.items() if name != 'run_dir'}

def _cut(text):
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'

#----------------------------------------------------------------------------
# Next steps.

def next_steps(run: Run) -> list[tuple[str, str]]:
    """Return [(what for, command)] for the newest snapshot of a run; nothing where it has none."""
    numbered = [name for name in run.snapshots if name != 'network-snapshot.pkl']
    if not run.snapshots:
        return []
    newest = (numbered or run.snapshots)[-1]
    folder = run.folder.resolve()
    network = shlex.quote(str(folder / newest))
    sources = ' --sources --walk=source' if run.source is not None else ' --walk=w'
    classes = run.options.get('training_set_kwargs')
    labels = ' --class=0' if isinstance(classes, dict) and classes.get('use_labels') is True else ''
    metrics = [name for name in run.options.get('metrics') or [] if isinstance(name, str)] if \
        isinstance(run.options.get('metrics'), list) else []
    detector = run.options.get('detector')
    scored = f' --detector={shlex.quote(detector)}' if isinstance(detector, str) and detector else ''
    steps = [('Draw from it', f'spider generate --network={network} --seeds=0-7{labels}{sources} --grid '
                              f'--outdir={shlex.quote(str(folder / "drawn"))}'),
             ('Score it', f'spider metrics --network={network} --metrics={",".join(metrics) or "fid5k"}{scored}')]
    if run.given:
        more = f' --kimg={2 * run.total_kimg:.6g}' if run.ended and run.total_kimg else ''
        steps.append(('Go on', f'spider train --resume={shlex.quote(str(folder))}{more}'))
    else:
        steps.append(('Go on, in its host and with the options it was started with', f'python train.py ... --resume={network}'))
    return steps
