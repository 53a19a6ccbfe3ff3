"""The page: several runs, numbers, pictures within a budget, texts of strangers."""

import base64
import io
import itertools
import re
import shlex

import numpy as np
import PIL.Image
import pytest

from spider_plugin.files.charts import LEFT, MOST_POINTS, NAMES, Series, chart, short, whiskers
from spider_plugin.report import frames, tables
from spider_plugin.report.page import render
from spider_plugin.report.runs import read_run

def page_of(*folders):
    return render([read_run(folder) for folder in folders], now=2000)

def test_a_page_asks_for_nothing(spider_run, make_run):
    page = page_of(spider_run, make_run('00000-dcgan-neon'))
    assert not re.findall(r'<[^>]*(?:src|href)="(?!data:)', page) and not re.findall(r"url\((?!data:|' )", page)
    assert 'http' not in page and '@import' not in page and 'fetch(' not in page
    assert 'viewport' in page and 'prefers-color-scheme: dark' in page

def test_two_runs_are_overlaid(spider_run, make_run):
    page = page_of(spider_run, make_run('00000-dcgan-neon', scores=(100, 60, 44)))
    fid = page[page.index('fid1k, lower is better'):]
    fid = fid[:fid.index('</figure>')]
    assert fid.count('<polyline') == 2 and 'run0' in fid and 'run1' in fid
    assert page.count('data-run=') >= 2 and '00001-from-crayon-residual-matched' in page
    for panel in ('loss of G', 'loss of D', 'images a second'):
        assert panel in page
    assert 'norm of the gradients' not in page      # neither run has it

def test_numbers_of_metrics(spider_run, make_run):
    spider, plain = read_run(spider_run), read_run(make_run('00000-dcgan-neon', scores=(100, 60, 44)))
    table = tables.metric_table([plain, spider])
    assert re.findall(r'data-head="untrained source">([^<]*)<', table) == ['', '50']
    assert re.findall(r'data-head="images to the best of the first">([^<]*)<', table) == ['', '≤ 1.00']
    assert 'do not read this share as a speed' in re.sub(r'\s+', ' ', table)
    assert tables.ratio('fid1k', spider, plain) == 'not reached' and tables.ratio('fid1k', plain, plain) == ''
    assert 'images to the best' not in tables.metric_table([spider])

def test_the_best_of_a_metric():
    from spider_plugin.report.runs import Score
    scores = [Score(0, value, None, '') for value in (-5.0, 1.0, 3.0)]
    assert [tables.best(name, scores).value for name in ('fid1k', 'pr1k3_recall', 'sid1k')] == [-5.0, 3.0, 1.0]
    assert tables.score_text(Score(1, -3.456, 0.25, '')) == '-3.456 ± 0.25'

def test_differing_options(spider_run, make_run):
    runs = [read_run(spider_run), read_run(make_run('00000-dcgan-neon'))]
    table = tables.option_table(runs)
    assert 'batch_size' in table and 'spider_run.source.mapping' in table and 'total_kimg' not in table
    assert 'are equal' in tables.option_table([runs[1], runs[1]]) and 'cfg' in tables.option_table(runs[1:])
    deep = dict(a=dict(b=[]))
    deep['a']['c'] = deep['a']
    assert len(tables.flat(dict(a=dict(b=1, c={}), d='x'))) == 3

def test_next_steps_name_the_newest_snapshot(spider_run, make_run):
    steps = dict(tables.next_steps(read_run(spider_run)))
    assert 'network-snapshot-000004000.pkl' in steps['Draw from it'] and '--walk=source' in steps['Draw from it']
    assert '--metrics=fid1k --detector=demo' in steps['Score it'] and shlex.split(steps['Go on'])[-1] == '--kimg=8'
    other = dict(tables.next_steps(read_run(make_run('a b', 'stylegan3', training_set_kwargs=dict(use_labels=True)))))
    assert '--class=0' in other['Draw from it'] and "'" in other['Draw from it'] and 'python train.py' in ' '.join(other.values())
    bare = make_run('bare', scores=())
    assert tables.next_steps(read_run(bare)) == []

def test_texts_of_strangers_are_escaped(make_run):
    evil = '</script><img src=x onerror=alert(1)>"\''
    folder = make_run('run', spider_run=dict(source=dict(name=evil, mapping=evil), resumed=evil), detector=evil, **{evil: evil})
    (folder / 'metric-x.jsonl').write_text('{"results": {"</script><img src=x>": 1}, "cur_nimg": 1}\n')
    page = page_of(folder, make_run('other'))
    assert '<img src=x' not in page and page.count('</script>') == 2

@pytest.mark.parametrize('options', [dict(total_kimg='x', metrics=7, training_set_kwargs=[1]), dict(G_kwargs=3, spider_run=[]),
                                     dict(training_set_kwargs=dict(resolution=-1)),
                                     dict(training_set_kwargs=dict(resolution=1e9)),
                                     dict(spider_run=dict(source='x', resumed=5, track=3))])
def test_options_of_other_types(options, make_run):
    assert page_of(make_run('run', **options)).endswith('</html>')

#----------------------------------------------------------------------------
# Pictures.

def test_pairs_show_the_same_cells(spider_run):
    page = page_of(spider_run)
    assert page.count('class="cell source"') == page.count('class="cell output"') == 8
    assert 'background-size: 400% 200%' in page and '--sources: url(data:image/png' in page

def test_no_pairs_without_sources_or_with_another_grid(make_run, spider_run):
    assert 'class="cell' not in page_of(make_run('run'))
    PIL.Image.new('RGB', (24, 8)).save(spider_run / 'sources.png')
    assert 'class="cell' not in page_of(spider_run)
    (spider_run / 'sources.png').write_bytes(b'no picture')
    assert 'class="cell' not in page_of(spider_run)

def test_a_frame_keeps_the_first_cells(tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, [4 * 256, 16 * 256, 3]).astype(np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / 'fakes000001.png')
    frame = frames.frame_of(1, tmp_path / 'fakes000001.png', 256, budget=200_000)
    kind, _, data = frame.url.partition(';base64,')
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert (frame.columns, frame.rows) == (8, 4) and image.width == 8 * frame.side <= 1024 and image.height * 2 == image.width
    assert len(base64.b64decode(data)) <= 200_000 and kind.startswith('data:image/')

def test_pages_stay_small(make_run, tmp_path):
    """Eight runs of sixty grids of noise, which nothing compresses."""
    noise = PIL.Image.fromarray(np.random.RandomState(0).randint(0, 256, [8 * 32, 16 * 32, 3]).astype(np.uint8))
    runs = []
    for i in range(8):
        folder = make_run(f'{i:05d}-run', training_set_kwargs=dict(resolution=32))
        for tick in range(60):
            noise.save(folder / f'fakes{tick:06d}.png', compress_level=0)
        runs.append(read_run(folder))
    page = render(runs)
    assert len(page) < 10e6 and page.count('<img id="frame') == 8

def test_few_frames_are_new_when_one_is_added():
    names = list(range(100))
    assert frames._chosen(names[:5], 24) == names[:5]
    chosen = [frames._chosen(names[:n], 24) for n in range(1, 101)]
    assert all(len(some) <= 24 and some[0] == 0 and some[-1] == n for n, some in enumerate(chosen))
    assert all(len(set(after) - set(before)) <= 1 for before, after in zip(chosen, chosen[1:]))

#----------------------------------------------------------------------------
# Charts.

def test_charts():
    assert chart('x', [Series(0, 'a', [])], 'kimg') == ''
    drawn = chart('loss <G>', [Series(0, 'a', [(0, 1.0, None)]), Series(9, 'b', [(0, 2.0, 0.5), (1, -4.0, None)])], 'kimg')
    assert 'loss &lt;G&gt;' in drawn and drawn.count('<polyline') == 2 and 'class="whisker run1"' in drawn
    assert 'logarithmic' in chart('x', [Series(0, 'a', [(0, 1.0, None), (1, 1000.0, None)])], 'kimg')
    flat = chart('x', [Series(0, 'a', [(i, 5.0, None) for i in range(5)])], 'kimg')
    places = [float(y) for y in re.findall(r'cy="([^"]+)"', flat)]
    assert len(set(places)) == 1 and 0 < places[0] < 220

@pytest.mark.parametrize('values', [[0.0, 0.0], [1e300, -1e300], [1e-300, 1.0], [5e-324, 1e308], [-3.0, -3.0], [1e15, 1e15 + 1]])
def test_charts_of_any_numbers(values):
    drawn = chart('x', [Series(0, 'a', [(i, value, None) for i, value in enumerate(values)])], 'kimg')
    assert 'nan' not in drawn and 'inf' not in drawn and len(re.findall('<text', drawn)) < 40

@pytest.mark.parametrize('values', [[0.0] * 3, [1.0, -400.0, 5.0], [1e-9, 2.0, 3e6]])
def test_charts_by_roots_and_over_logarithmic_x(values):
    drawn = chart('SID', [Series(0, 'a', [(x, y, None) for x, y in zip((0.25, 5, 49.75), values)])], 'half-width',
                  x_logarithmic=True, roots=True)
    at = [tuple(map(float, place.split(','))) for place in re.search(r'points="([^"]*)"', drawn)[1].split()]
    assert 'nan' not in drawn and drawn.count('class="zero"') == 1 and at[0][0] == LEFT
    assert 0.4 < (at[1][0] - LEFT) / (at[2][0] - LEFT) < 0.7 and all(0 < y < 220 for _, y in at)   # 5 is in the middle
    labels = [float(y) for y in re.findall(r'<text x="[^"]+" y="([^"]+)" text-anchor="end">', drawn)]
    assert len(labels) >= 3 and min(abs(a - b) for a, b in itertools.combinations(labels, 2)) > 9

def test_marks_are_apart_and_inside():
    points = [(0.0, 100.0, None), (1.0, 101.0, None), (2.0, 100.5, None)]
    drawn = chart('score', [Series(0, 'a', points), Series(1, 'b', points)], 'kimg', marks=[
        (i, x, y) for i in (0, 1) for x, y, _ in points])
    places = [tuple(map(float, place)) for place in re.findall(r'class="mark run\d" x="([^"]+)" y="([^"]+)"', drawn)]
    assert len(places) == 6 and all(LEFT <= x <= 390 and 10 < y < 186 for x, y in places)
    assert all(abs(a[0] - b[0]) > 20 or abs(a[1] - b[1]) >= 12 for a, b in itertools.combinations(places, 2))

def test_intervals_as_whiskers():
    drawn = whiskers('FID <x>', [(0, 'a long name of a set of images', 5.0, 4.0, 6.0), (9, 'b', 2.0, 2.0, 2.0)])
    assert 'FID &lt;x&gt;' in drawn and 'a long name of …' in drawn and 'a long name of a set of images: 5, 4 to 6' in drawn
    ends = {kind: (float(x1), float(x2)) for kind, x1, x2 in re.findall(r'interval (run\d)" x1="([^"]+)" x2="([^"]+)"', drawn)}
    assert NAMES < ends['run1'][0] == ends['run1'][1] < ends['run0'][0] < ends['run0'][1] < 400
    assert 'logarithmic' in whiskers('x', [(0, 'a', 1.0, 0.5, 2.0), (1, 'b', 900.0, 800.0, 1000.0)])
    assert 'nan' not in whiskers('x', [(0, 'a', 0.0, 0.0, 0.0)])

def test_long_curves_are_thinned():
    points = [(float(i), float(i % 2), None) for i in range(100_000)]
    drawn = chart('x', [Series(0, 'a', points)], 'kimg')
    assert len(re.search(r'points="([^"]*)"', drawn)[1].split()) <= MOST_POINTS and '<circle' not in drawn

def test_short_numbers():
    assert [short(value) for value in (0, 0.12345, 12345.6, 1e9, 1e-5, -2.5)] == ['0', '0.1235', '12,346', '1e9', '1e-5', '-2.5']
