"""The demo's report, a self-contained HTML page."""

import html

from spider_plugin.demo.analysis import GOAL
from spider_plugin.demo.pairs import PAIRS
from spider_plugin.files import charts
from spider_plugin.files.html import page, png

COLUMNS = 8
SPIDER, UNTRAINED, FRESH, NOISE = 0, 3, 2, 7    # Colours of files/theme.py.
STYLE = '''
main { max-width: 1000px; padding-top: 32px; }
h1 { font-size: clamp(28px, 5vw, 44px); letter-spacing: -0.02em; }
.verdict { font-size: 20px; line-height: 1.4; margin: 20px 0; padding-left: 14px; border-left: 4px solid var(--run0); }
.card { color: var(--muted); font-size: 14px; } .card b { color: var(--ink); }
.card.winner { border: 2px solid var(--run0); } .card.winner b { color: var(--run0); }
td, th { vertical-align: top; }
.tiles { display: grid; grid-template-columns: repeat(8, 1fr); gap: 4px; margin: 4px 0 14px; }
.tiles img { width: 100%; display: block; border-radius: 5px; transition: transform 0.15s; }
.tiles img:hover { transform: scale(2.2); position: relative; z-index: 2; }
.tiles img:first-child:hover { transform-origin: left; } .tiles img:last-child:hover { transform-origin: right; }
.crisp img { image-rendering: pixelated; }
.row { margin: 0; font-size: 15px; } .row b { font-weight: 600; } .row span { color: var(--muted); }
.details td { overflow-wrap: anywhere; }
.details td:first-child { white-space: nowrap; overflow-wrap: normal; padding-right: 14px; }
@media (max-width: 600px) { .tiles { grid-template-columns: repeat(4, 1fr); } .tiles img:nth-child(n+5) { display: none; }
  .cards { grid-template-columns: 1fr 1fr; } td, th { font-size: 14px; } }
'''

#----------------------------------------------------------------------------

def render(summary, pictures):
    """Return the report as a string of HTML.

    summary:    the content of summary.json.
    pictures:   uint8 tensors [N, 3, R, R] from `draw` of demo/run.py."""
    pair = PAIRS[summary['pair']]
    body = ''.join([
        heading(summary, pair), hero(summary, pair, pictures), f'<p class="verdict">{html.escape(verdict(summary))}</p>',
        cards(summary, pair), '<h2>While training</h2>', curves(summary, pair),
        '<h2>Samples of the same latents during training</h2>', stages(pair, pictures),
        '<h2>Copies?</h2>', copy_table(summary['copy_check']),
        '<h2>What this does not show</h2>', caveats(summary, pair),
        '<h2>With images of yours</h2>', next_step(),
        '<h2>Details</h2>', details(summary), f'<script>{charts.SCRIPT}</script>'])
    return page(f'Spider demo, seed {summary["seed"]}', body, STYLE)

def heading(summary, pair):
    quick = ' This was the quick demo, which is far too short for a fair comparison.' if summary['quick'] else ''
    title = 'From relief maps to satellite images' if pair.name == 'maps' else 'A friendly neighbour instead of noise'
    return f'<h1>{title}</h1><p class="lead">{pair.lead} <b>This is one seed ({summary["seed"]}).</b>{quick}</p>'

def verdict(summary):
    """Return the result in plain sentences."""
    pair, spider, untrained = PAIRS[summary['pair']], summary['spider'], summary['untrained']['score']
    best, noise = spider['best'], summary['baseline']['best']['score']
    if not summary['adds_to_source']:
        return (f'The best score is that of the untrained source, {untrained:,.0f}: training added nothing to it here. The best '
                f'from noise is {noise:,.0f}.')
    if best['score'] > 0.98 * untrained:
        return (f'The best score, {best["score"]:,.0f}, is within 2% of that of the untrained source, {untrained:,.0f}: training '
                f'added next to nothing here. The best from noise is {noise:,.0f}.')
    words = (f'Training took the {pair.sources} from {untrained:,.0f} to {best["score"]:,.0f}, '
             f'{1 - best["score"] / untrained:.0%} below the untrained source; the best from noise is {noise:,.0f}.')
    if best['iteration'] < spider['last']['iteration']:
        words += f' That was iteration {best["iteration"]}; the last score is {spider["last"]["score"]:,.0f}.'
    if noise < best['score']:
        words += ' So noise is ahead here.'
    elif noise > untrained:
        words += ' So noise did not come as far as the source was before training.'
    return words

def cards(summary, pair):
    spider, baseline = summary['spider'], summary['baseline']
    def at(run):
        return f'iteration {run["best"]["iteration"]}, recall {run["best"]["recall"]:.2f}; last {run["last"]["score"]:,.0f}'
    entries = [(spider['best']['score'], f'best from {pair.sources}: {at(spider)}'),
               (summary['untrained']['score'], f'the untrained source, recall {summary["untrained"]["recall"]:.2f}'),
               (baseline['best']['score'], f'best from noise: {at(baseline)}'),
               (summary['reference_scores']['fresh_target'], 'other real images of the target: as low as it can get')]
    winner = min(entries[:3])
    shown = ''.join(f'<div class="card{" winner" * (entry == winner)}"><b>{entry[0]:,.0f}</b>{entry[1]}</div>'
                    for entry in entries)
    return (f'<div class="cards">{shown}</div>'
            f'<p class="note">{html.escape(summary["score_name"])}, the Fr&eacute;chet distance to the target images; lower is '
            f'better. Recall is the part of the target that samples come near to; higher is better. {pair.judged}</p>')

#----------------------------------------------------------------------------
# Pictures.

def tiles(images, columns=COLUMNS, crisp=False):
    """Return uint8 images [N, 3, R, R] beside each other; a narrow screen shows the first half."""
    pictures = ''.join(f'<img alt="" src="data:image/png;base64,{png(image[None], scale=1)}">' for image in images[:columns])
    return f'<div class="tiles{" crisp" * crisp}">{pictures}</div>'

def hero(summary, pair, pictures):
    """What becomes of the source images, a row for each step."""
    crisp, last, best = pair.name == 'digits', summary['spider']['last'], summary['spider']['best']
    rows = [(pictures['raw'], pair.source, ''),
            (pictures['sources'], 'the same as G gets them', 'moved in closed form to the mean and covariance of the target'),
            (pictures['spider'], 'output of G', f'after {last["iteration"]} iterations')]
    if best['iteration'] < last['iteration']:
        rows.append((pictures['spider_best'], 'at its best score', f'after {best["iteration"]} iterations'))
    rows += [(pictures['nearest'], 'the nearest target image', 'of all that it was trained on, by pixels'),
             (pictures['baseline'], 'from noise', f'the other G after {summary["baseline"]["last"]["iteration"]} iterations')]
    return ''.join(f'<p class="row"><b>{html.escape(words)}</b> <span>{html.escape(more)}</span></p>{tiles(images, crisp=crisp)}'
                   for images, words, more in rows)

def stages(pair, pictures):
    parts = []
    for name, words in dict(spider=f'from {pair.sources}', baseline='from noise').items():
        for iteration, images in pictures[f'{name}_stages'].items():
            parts.append(f'<p class="row"><b>{words}</b> <span>iteration {iteration}</span></p>'
                         + tiles(images, crisp=pair.name == 'digits'))
    return ''.join(parts)

def curves(summary, pair):
    """Return the curves of score and recall. A ring with its number marks the best score and the last one."""
    names = {SPIDER: f'from {pair.sources}', NOISE: 'from noise', UNTRAINED: 'untrained source (dashed)',
             FRESH: 'other real images (dashed)'}
    runs = {SPIDER: summary['spider'], NOISE: summary['baseline']}
    def drawn(title, key, **options):
        return charts.chart(title, [charts.Series(i, names[i], [(x, y, None) for x, y in run[key]]) for i, run in runs.items()],
                            'iterations', **options)
    untrained, fresh = summary['untrained'], summary['reference_scores']['fresh_target']
    marks = [(i, run[when]['iteration'], run[when]['score']) for i, run in runs.items() for when in ('best', 'last')]
    return (charts.legend(names) + '<div class="charts">'
            + drawn(f'{summary["score_name"]}, lower is better', 'curve', logarithmic=True, marks=marks,
                    levels=[(UNTRAINED, untrained['score']), (FRESH, fresh)])
            + drawn('Recall, higher is better', 'recall', logarithmic=False, levels=[(UNTRAINED, untrained['recall'])],
                    marks=[(i, run['last']['iteration'], run['last']['recall']) for i, run in runs.items()])
            + f'</div><p class="note">Rings: the best score of each run, and its last. Both runs have the same images, '
              f'generator, batch and seed. {pair.held_out}</p>')

#----------------------------------------------------------------------------
# Text.

COPY_ROWS = dict(
    sample_to_own_source='a sample to its own source image',
    sample_to_another_source='a sample to another source image',
    sample_to_other_latent='a sample to one of the same source image and another latent',
    sample_to_another_sample='a sample to another sample',
    sample_to_nearest_target='a sample to the nearest target image',
    source_to_nearest_target='a source image to the nearest target image',
    baseline_to_nearest_target='a sample from noise to the nearest target image',
    fresh_target_to_nearest_target='another real image of the target to the nearest target image')

def copy_table(check):
    rows = ''.join(f'<tr><td>{words}</td><td>{check["pixels"][key]:.1f}</td><td>{check["features"][key]:.2f}</td></tr>'
                   for key, words in COPY_ROWS.items())
    own, other = (check['features'][f'sample_to_{name}'] for name in ('own_source', 'another_source'))
    latent, both = (check['features'][f'sample_to_{name}'] for name in ('other_latent', 'another_sample'))
    words = (f'A sample is at {own / max(other, 1e-9):.0%} of the distance to another source image from its own, and another '
             f'latent moves it by {latent / max(both, 1e-9):.0%} of the distance between two samples (both in features): the '
             'closer to 0 the first, the more it is a copy of its source; the closer to 0 the second, the less the latent adds.')
    return (f'<p class="note">{words} Copies of training images would make the fifth row far smaller than the last. Mean '
            'distances of the last snapshots (root mean square), in pixel values from 0 to 255 and in features of the network '
            'that measures.</p>'
            f'<table><tr><th>from &hellip; to</th><th>pixels</th><th>features</th></tr>{rows}</table>')

def caveats(summary, pair):
    spider, baseline, untrained, goal = summary['spider'], summary['baseline'], summary['untrained']['score'], summary['goal']
    when = {name: 'never' if goal[name] is None else f'at iteration {goal[name]:.0f}' for name in ('spider', 'baseline')}
    moved = summary['copy_check']['pixels']
    counted = f'from {pair.sources} {when["spider"]}, from noise {when["baseline"]}'
    points = [
        '<b>One seed.</b> Another seed gives other numbers; nothing here has an error bar.',
        '<b>A head start is not speed.</b> Untrained, the generator with a source returns its source image, moved in closed '
        f'form to the mean and covariance of the target, and scores {untrained:,.0f}. What training adds is the way down from '
        f'there. {GOAL:.0%} of it, {goal["score"]:,.0f}, is reached {counted}.',
        pair.neighbour,
        pair.tuned,
        '<b>A translation more than new scenes.</b> Most of what changes is the move in closed form, before training: training '
        f'moved an image by {moved["sample_to_own_source"]:.1f} of 255 pixel values on average, where another source image is '
        f'{moved["sample_to_another_source"]:.1f} away. The generator that starts from noise has no image to add.',
        '<b>A distance is not beauty.</b> It can reward a copy of the source. Look at the pictures and at recall.']
    if not summary['adds_to_source']:
        points.insert(1, '<b>Training added nothing.</b> No score is below that of the untrained source.')
    curve = baseline['curve']
    if len(curve) > 2 and curve[-1][1] < 0.97 * min(score for i, score in curve[:-1] if i > 0):
        points.append('<b>Noise was still improving</b> when training stopped; a longer run would narrow the gap.')
    if spider['last']['score'] > 1.1 * spider['best']['score']:
        points.append(f'<b>The best was not the last.</b> The score was {spider["best"]["score"]:,.0f} at iteration '
                      f'{spider["best"]["iteration"]} and rose to {spider["last"]["score"]:,.0f}.')
    return '<div class="honest"><ul>' + ''.join(f'<li>{point}</li>' for point in points) + '</ul></div>'

def next_step():
    return ('<p>Two folders or zips of square images of one size, one to learn and one that is near to it:</p>'
            '<pre>spider neighbors --target=target.zip --outdir=ranking one.zip another.zip covariance:target.zip\n'
            'spider train --outdir=runs --cfg=fastgan_lite --data=target.zip --gpus=1 --batch=8 --gamma=1 \\\n'
            '    --disc=projected --spider-source=one.zip</pre>')

def details(summary):
    settings, versions, seconds = summary['settings'], summary['versions'], summary['seconds']
    arms = {name: settings[name] for name in ('spider', 'noise')}
    rows = dict(settings={k: v for k, v in settings.items() if k not in arms}, **arms, versions=versions,
                seconds={k: round(v) for k, v in seconds.items()})
    listed = ''.join(f'<tr><td>{name}</td><td>{html.escape(", ".join(f"{k} {v}" for k, v in row.items()))}</td></tr>'
                     for name, row in rows.items())
    return f'<table class="details">{listed}</table><p class="note">{html.escape(summary["attribution"])}</p>'

#----------------------------------------------------------------------------
