"""The demo's report, a self-contained HTML page."""

import html
import math

from spider_plugin.files.html import line, page, png, strip, text

COLOURS = dict(baseline='#6b7280', spider='#d0246b', identity='#b7791f', fresh='#2f855a')

#----------------------------------------------------------------------------

def render(summary, pictures):
    """Return the report as a string of HTML.

    summary:    the content of summary.json.
    pictures:   uint8 tensors [N, 3, 32, 32] from `draw` of demo/run.py."""
    body = ''.join([
        heading(summary), cards(summary),
        '<h2>Score while training</h2>', chart(summary),
        '<p class="note">Fr&eacute;chet distance to the target set (fid1k on the demo detector), lower is better, '
        'logarithmic. Both runs have the same options, the same batch and the same seed; only the source differs.</p>',
        '<h2>Source images and the samples made from them</h2>',
        '<p class="note">Before training, the crayon digits were moved to the mean and covariance of the neon ones '
        '(<code>--spider-match</code>).</p>', before_and_after(pictures),
        '<h2>Samples during training</h2>', stages(pictures),
        '<h2>Copies?</h2>', copy_table(summary['copy_check']),
        '<h2>Limits of these numbers</h2>', caveats(summary),
        '<h2>Details</h2>', details(summary)])
    return page(f'Spider demo, seed {summary["seed"]}', body)

def heading(summary):
    quick = ' This was the quick demo, which is far too short for a fair comparison.' if summary['quick'] else ''
    return ('<h1>A friendly neighbour instead of noise</h1><p class="lead">Two small GANs learn to draw neon digits on a brick '
            'wall. One starts from Gaussian noise; the other is fed crayon drawings of other digits. '
            f'<b>This is one seed ({summary["seed"]}).</b>{quick}</p>')

def cards(summary):
    spider, baseline = summary['spider']['final'], summary['baseline']['final']
    entries = [(f'{spider:,.0f}', 'final score from crayon digits'), (f'{baseline:,.0f}', 'final score from noise'),
               (f'{summary["identity_score"]:,.0f}', 'score of the source images that are fed, before training'),
               (ratio_text(summary), 'of the baseline\'s iterations to reach its best score; includes a head start, see below')]
    return '<div class="cards">' + ''.join(f'<div class="card"><b>{a}</b>{b}</div>' for a, b in entries) + '</div>'

def ratio_text(summary):
    ratio = summary['iterations_ratio']
    if ratio is None:
        return 'not reached'
    return ('&le; ' if summary['iterations_ratio_is_upper_bound'] else '') + f'{ratio:.2f}'

#----------------------------------------------------------------------------
# Score curves as SVG: linear iterations, logarithmic scores.

def chart(summary, width=860, height=380, left=64, right=172, top=20, bottom=46):
    curves = {name: summary[name]['curve'] for name in ('baseline', 'spider')}
    levels = dict(identity=summary['identity_score'], fresh=summary['reference_scores']['fresh_target'])
    values = [score for curve in curves.values() for _, score in curve] + list(levels.values())
    low, high = math.floor(math.log10(min(values)) * 2) / 2, math.ceil(math.log10(max(values)) * 2) / 2
    last = curves['baseline'][-1][0]
    x = lambda iteration: left + (width - left - right) * iteration / last
    y = lambda score: top + (height - top - bottom) * (high - math.log10(score)) / (high - low)
    ticks = [m * 10 ** e for e in range(int(low) - 1, int(high) + 1) for m in (1, 3) if low <= math.log10(m * 10 ** e) <= high]
    parts = [line(x(0), y(t), x(last), y(t), '#eceae6') + text(left - 8, y(t) + 5, f'{t:,.0f}', 'end') for t in ticks]
    parts += [text(x(last * i / 4), height - bottom + 22, f'{last * i / 4:.0f}', 'middle') for i in range(5)]
    parts.append(text(x(last / 2), height - 6, 'iterations', 'middle'))
    labels = []
    for name, words in dict(identity='source, before training', fresh='other real target').items():
        parts.append(line(x(0), y(levels[name]), x(last), y(levels[name]), COLOURS[name], 'stroke-dasharray="5 5"'))
        labels.append((y(levels[name]), words, name))
    for name, words in dict(baseline='from noise', spider='from crayon digits').items():
        points = ' '.join(f'{x(i):.1f},{y(s):.1f}' for i, s in curves[name])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="3"/>')
        parts += [f'<circle cx="{x(i):.1f}" cy="{y(s):.1f}" r="3.5" fill="{COLOURS[name]}"/>' for i, s in curves[name]]
        labels.append((y(curves[name][-1][1]), words, name))
    spread, previous = [], -math.inf
    for at, words, name in sorted(labels):  # labels that would overlap are moved down
        previous = max(at, previous + 18)
        spread.append(text(x(last) + 10, previous + 5, words, 'start', COLOURS[name], 'font-weight="600"'))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="score curves">{"".join(parts + spread)}</svg>'

#----------------------------------------------------------------------------
# Rows of images.

def before_and_after(pictures, columns=8, rows=2):
    parts = []
    for row in range(rows):
        part = slice(row * columns, (row + 1) * columns)
        parts += [strip('source, moved', png(pictures['sources'][part])), strip('sample', png(pictures['spider'][part]))]
        parts.append('<p></p>')
    parts += [strip('real target', png(pictures['fresh'][:columns])),
              strip('from noise', png(pictures['baseline'][:columns]))]
    return ''.join(parts)

def stages(pictures, columns=8):
    parts = []
    for name, words in dict(spider='from crayon digits', baseline='from noise').items():
        parts.append(f'<p><b>{words}</b></p>')
        parts += [strip(f'iteration {iteration}', png(images[:columns]))
                  for iteration, images in pictures[f'{name}_stages'].items()]
    return ''.join(parts)

#----------------------------------------------------------------------------
# Text.

COPY_ROWS = dict(
    sample_to_own_source='a sample to its own source image',
    sample_to_another_source='a sample to another source image',
    sample_to_nearest_target='a sample to the nearest target image',
    source_to_nearest_target='a source image to the nearest target image',
    baseline_to_nearest_target='a sample of the baseline to the nearest target image',
    fresh_target_to_nearest_target='a target image of another seed to the nearest target image')

def copy_table(check):
    rows = ''.join(f'<tr><td>{words}</td><td>{check["pixels"][key]:.1f}</td><td>{check["features"][key]:.2f}</td></tr>'
                   for key, words in COPY_ROWS.items())
    return ('<p class="note">Mean distance (root mean square) in pixel values from 0 to 255, and in the detector\'s features. '
            'Copies of the source images would make the first row near zero; copies of training images would make the third '
            'row far smaller than the last.</p>'
            f'<table><tr><th>from &hellip; to</th><th>pixels</th><th>features</th></tr>{rows}</table>')

def caveats(summary):
    spider, baseline = summary['spider'], summary['baseline']
    identity = summary['identity_score']
    points = [
        '<b>One seed.</b> Another seed gives other numbers; nothing here has an error bar.',
        '<b>A head start, not speed alone.</b> The untrained residual generator outputs its source image, moved in closed '
        f'form to the mean and covariance of the neon digits, and scores {identity:,.0f} before any training. Much of the '
        'gap, above all early in training, comes from this. So do not read the share of iterations as a speed. The fair '
        f'statement is that after equal iterations the score is {spider["final"]:,.0f} against {baseline["final"]:,.0f}.',
        '<b>A very close neighbour.</b> Source and target are digits of the same collection (no scan is in both), painted '
        'in the same four hues. Neighbours further away help less, and some not at all.',
        '<b>Synthetic renderings.</b> The digits are real scans and the wall is a real texture; the colours are computed.',
        '<b>A score of this demo only.</b> The detector was trained on images of these kinds, so its scores compare with no '
        'others. A better score does not prove that a digit is legible; look at the pictures.',
        '<b>The skip matters.</b> The generator with a source adds its source image to its output; the one that starts from '
        'noise has no image to add.']
    if baseline['curve'][-1][1] < 0.97 * min(score for i, score in baseline['curve'][:-1] if i > 0):
        points.append('<b>The baseline was still improving</b> when training stopped; a longer run would narrow the gap.')
    if identity <= baseline['final']:
        points.append('<b>The untrained source beats the trained baseline</b> on this score, so the share of iterations means '
                      'nothing in this run.')
    return '<div class="honest"><ul>' + ''.join(f'<li>{point}</li>' for point in points) + '</ul></div>'

def details(summary):
    settings, versions, seconds = summary['settings'], summary['versions'], summary['seconds']
    rows = dict(settings={k: v for k, v in settings.items() if k != 'spider'}, spider=settings['spider'], versions=versions,
                seconds={k: round(v) for k, v in seconds.items()})
    listed = ''.join(f'<tr><td>{name}</td><td>{html.escape(", ".join(f"{k} {v}" for k, v in row.items()))}</td></tr>'
                     for name, row in rows.items())
    return f'<table class="details">{listed}</table><p class="note">{html.escape(summary["attribution"])}</p>'

#----------------------------------------------------------------------------
