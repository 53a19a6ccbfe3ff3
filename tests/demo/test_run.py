"""`spider demo`: its folder, its two command lines, its report, failing runs, and the whole demo."""

import dataclasses
import html.parser
import json
import re
import sys

import pytest
import torch
from click.testing import CliRunner

from spider_plugin.cli import main
from spider_plugin.demo import analysis, pairs, report, run, training
from spider_plugin.errors import SpiderError
from spider_plugin.files import charts

#----------------------------------------------------------------------------
# The folder.

def test_a_folder_that_is_not_a_demo_is_refused_unchanged(tmp_path):
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'thesis.txt').write_text('years of work')
    result = CliRunner().invoke(main, ['demo', '--outdir', str(tmp_path)])
    assert result.exit_code == 2 and 'has content that is not a demo' in result.output
    assert [path.name for path in tmp_path.rglob('*')] == ['runs', 'thesis.txt']

def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path):
    run.prepare_outdir(tmp_path / 'new')
    (tmp_path / 'new' / 'runs' / 'baseline').mkdir(parents=True)
    (tmp_path / 'new' / 'summary.json').write_text('{}')
    (tmp_path / 'new' / 'notes.txt').write_text('mine')
    run.prepare_outdir(tmp_path / 'new')
    assert {path.name for path in (tmp_path / 'new').iterdir()} == {run.MARKER, 'notes.txt'}

def test_an_outdir_below_a_file_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SpiderError, match='cannot be written'):
        run.prepare_outdir(tmp_path / 'file' / 'demo')

@pytest.mark.parametrize('args', [['--threads', '0'], ['--seed', '-1']])
def test_bad_numbers_are_refused(args, tmp_path):
    result = CliRunner().invoke(main, ['demo', '--outdir', str(tmp_path / 'new'), *args])
    assert result.exit_code == 2 and not (tmp_path / 'new').exists()

#----------------------------------------------------------------------------
# The pair.

def installed(monkeypatch, *packages):
    monkeypatch.setattr(pairs.importlib.util, 'find_spec', lambda name: object() if name in packages else None)

def test_maps_are_trained_where_the_networks_are_installed(monkeypatch):
    installed(monkeypatch, *pairs.PACKAGES)
    assert pairs.choose() == pairs.choose('maps') == (pairs.MAPS, '')
    assert pairs.choose('digits') == (pairs.DIGITS, '')

def test_without_the_networks_the_demo_trains_on_digits_and_says_so(monkeypatch):
    installed(monkeypatch, pairs.PACKAGES[0])
    pair, remark = pairs.choose()
    assert pair is pairs.DIGITS and '\n' not in remark and pairs.INSTALL in remark
    assert pairs.choose('digits') == (pairs.DIGITS, '')
    with pytest.raises(SpiderError, match=f'--pair=maps needs {pairs.PACKAGES[1]}; pip install .*, or give --pair=digits'):
        pairs.choose('maps')

#----------------------------------------------------------------------------
# The runs.

def pieces(pair, tmp_path, source=None):
    return training.command(pair, tmp_path, 'x', pair.full, 5, 1, tmp_path / 'target.zip', source)

@pytest.mark.parametrize('pair', pairs.PAIRS.values(), ids=pairs.PAIRS)
def test_the_two_command_lines_differ_as_the_pair_says(pair, tmp_path):
    baseline, spider = set(pieces(pair, tmp_path)), set(pieces(pair, tmp_path, tmp_path / 'source.zip'))
    extra = spider - baseline
    assert {option.split('=')[0][2:] for option in extra} == {'spider-source', *pair.spider}
    assert {option.split('=')[0][2:] for option in baseline - spider} == set(pair.noise)
    assert {'--seed=5', f'--detector={pair.detector}', '--metrics=fid1k,pr1k3'} <= baseline
    assert {'--spider-mapping=residual', '--spider-match=covariance'} <= extra
    for plan in (pair.full, pair.quick):    # the last iteration has a score
        assert plan['iterations'] % (plan['tick'] * plan['snap']) == 0

def test_the_options_of_each_pair(tmp_path):
    assert {'--cfg=dcgan', '--kimg=38.4'} <= set(pieces(pairs.DIGITS, tmp_path))
    assert not pairs.DIGITS.noise and all(name.startswith('spider-') for name in pairs.DIGITS.spider)    # else the same
    assert {'--cfg=fastgan_lite', '--disc=projected', '--aug=noaug'} <= set(pieces(pairs.MAPS, tmp_path))
    assert {'--steady', '--disc-maps=3'} <= set(pieces(pairs.MAPS, tmp_path, tmp_path / 'source.zip'))

def make_run(tmp_path, name, code):
    return training.Run(name, tmp_path, pairs.DIGITS.quick, 32, [sys.executable, '-c', code])

def test_a_failing_run_ends_the_other_and_shows_its_last_lines(tmp_path):
    sleeper = make_run(tmp_path, 'spider', 'import time; time.sleep(600)')
    failing = make_run(tmp_path, 'baseline', 'print("the reason"); raise SystemExit(3)')
    with pytest.raises(training.RunFailed, match=r'baseline run ended with code 3(.|\n)*the reason'):
        training.train([sleeper, failing], training.environment(tmp_path, 1))
    assert sleeper.process.poll() is not None

def test_an_interrupt_ends_both(tmp_path, monkeypatch):
    runs = [make_run(tmp_path, name, 'import time; time.sleep(600)') for name in ('baseline', 'spider')]
    def interrupt(display, lines, last=False):
        raise KeyboardInterrupt
    monkeypatch.setattr(training.Display, 'show', interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(runs, training.environment(tmp_path, 1))
    assert all(r.process.poll() is not None for r in runs)

def test_curves_come_from_complete_lines(tmp_path):
    folder = tmp_path / 'runs' / 'spider' / '00000-x'
    folder.mkdir(parents=True)
    line = lambda nimg, score: json.dumps(dict(results={'fid1k': score}, cur_nimg=nimg, snapshot_pkl=f'{nimg}.pkl'))
    recall = line(1600, 0).replace('"fid1k": 0', '"pr1k3_precision": 0.5, "pr1k3_recall": 0.25')
    (folder / 'metric-pr1k3.jsonl').write_text(f'{recall}\n')
    (folder / 'metric-fid1k.jsonl').write_text(f'{line(0, 9.0)}\n{line(1600, 4.5)}\n{line(3200, 1.0)[:20]}')
    watched = make_run(tmp_path, 'spider', '')
    assert watched.curve() == [[0, 9.0], [50, 4.5]] and watched.recall() == [[50, 0.25]]
    assert watched.snapshots() == {0: folder / '0.pkl', 50: folder / '1600.pkl'}
    assert 'score      4.5 at iteration 50' in watched.describe()

def test_off_a_terminal_a_line_is_printed_once_for_each_score(capsys):
    display = training.Display()
    for lines in (['a starting', 'b starting'], ['a 1 score 5', 'b starting'], ['a 2 score 5', 'b 1 score 7']):
        display.show(lines)
    assert capsys.readouterr().out == 'a 1 score 5\nb 1 score 7\n'

#----------------------------------------------------------------------------
# The report.

def results(curve, recall):
    best, recalls = analysis.best_after_start(curve), dict(recall)
    return dict(curve=curve, recall=recall, seconds=9.0, best=dict(iteration=best[0], score=best[1], recall=recalls[best[0]]),
                last=dict(iteration=curve[-1][0], score=curve[-1][1], recall=recall[-1][1]))

def made_up(pair, spider=([0, 2400.0], [100, 500.0], [200, 600.0]), baseline=([0, 9000.0], [100, 2000.0], [200, 1000.0])):
    distances, recall = dict.fromkeys(report.COPY_ROWS, 3.25), [[0, 0.25], [100, 0.3], [200, 0.5]]
    curves = dict(spider=list(spider), baseline=list(baseline))
    return dict(
        seed=7, quick=False, pair=pair, score_name=pairs.PAIRS[pair].score, metric='fid1k', recall_metric='pr1k3',
        **{name: results(curve, recall) for name, curve in curves.items()},
        untrained=dict(score=curves['spider'][0][1], recall=0.25), adds_to_source=analysis.adds_to_source(curves['spider']),
        goal=analysis.reached_goal(**curves), reference_scores=dict(fresh_target=40.0, source=2390.0),
        copy_check=dict(pixels=distances, features=distances), settings=dict(pairs.PAIRS[pair].options, spider={}, noise={}),
        versions=dict(torch='<2>'), seconds=dict(total=1.0), attribution='Digits by A & B')

@pytest.fixture(params=pairs.PAIRS)
def summary(request):
    return made_up(request.param)

@pytest.fixture
def pictures():
    images = torch.zeros([24, 3, 32, 32], dtype=torch.uint8)
    stages = {0: images, 200: images}
    names = ('spider', 'spider_best', 'sources', 'raw', 'nearest', 'redrawn', 'baseline', 'baseline_best', 'target', 'fresh')
    return dict(dict.fromkeys(names, images), spider_stages=stages, baseline_stages=stages)

class Balanced(html.parser.HTMLParser):
    VOID = {'meta', 'img', 'input', 'line', 'circle', 'polyline'}

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ('src', 'href')]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

def test_the_report_is_complete_and_self_contained(summary, pictures):
    text = report.render(summary, pictures)
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert parser.links and all(link.startswith('data:image/png;base64,') for link in parser.links)
    for words in ('This is one seed (7)', 'head start', '&lt;2&gt;', 'A &amp; B', '2,400', 'at its best score',
                  'Noise was still improving', 'by 3.2 of 255',
                  'The best was not the last', pairs.PAIRS[summary['pair']].neighbour,
                  'at iteration 100, from noise at iteration 125.'):
        assert words in text
    assert 'Training added nothing' not in text and text.count('class="card winner"') == 1

@pytest.mark.parametrize(['spider', 'baseline', 'words'], [
    (([0, 400.0], [9, 500.0]), ([0, 999.0], [9, 600.0]), 'The best score is that of the untrained source, 400: training added'),
    (([0, 400.0], [9, 200.0]), ([0, 999.0], [9, 600.0]), '50% below the untrained source; the best from noise is 600. So'),
    (([0, 400.0], [9, 396.0]), ([0, 999.0], [9, 600.0]), 'The best score, 396, is within 2% of that of the untrained source'),
    (([0, 400.0], [9, 300.0]), ([0, 999.0], [9, 100.0]), 'So noise is ahead here.'),
    (([0, 400.0], [9, 300.0], [18, 350.0]), ([0, 999.0], [9, 390.0], [18, 380.0]),
     'That was iteration 9; the last score is 350.')])
def test_the_verdict_follows_from_the_scores(spider, baseline, words):
    recall = [[i, 0.1] for i, _ in spider]
    summary = dict(pair='maps', untrained=dict(score=spider[0][1]), adds_to_source=analysis.adds_to_source(list(spider)),
                   spider=results(list(spider), recall), baseline=results(list(baseline), recall))
    assert words in report.verdict(summary)

def test_a_report_of_a_run_that_added_nothing_says_so(pictures):
    summary = dict(made_up('maps', spider=([0, 900.0], [100, 2000.0], [200, 1500.0])), quick=True)
    text = report.render(summary, pictures)
    assert text.count('Training added nothing') == 1 and 'from relief maps never, from noise' in text and 'quick demo' in text

def test_charts_keep_every_point_inside(summary):
    text = report.curves(summary, pairs.PAIRS[summary['pair']])
    score, recall = re.findall('<svg.*?</svg>', text)
    for svg, falls in ((score, True), (recall, False)):
        heights = [float(y) for y in re.findall(r'<circle class="dot run7" cx="[^"]+" cy="([-\d.]+)"', svg)]
        assert len(heights) == 3 and all(charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM for y in heights)
        assert (heights[0] < heights[1] < heights[2]) == falls      # a falling score is drawn downwards
    assert re.findall('class="level (run[0-9])"', text) == ['run3', 'run2', 'run3']
    marks = re.findall(r'class="mark run([07])" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)', score)
    assert {words for _, _, _, words in marks} == {'500', '600', '1,000'}   # best and last
    assert all(charts.LEFT <= float(x) <= charts.WIDTH - 10 and 8 < float(y) < charts.HEIGHT for _, x, y, _ in marks)

#----------------------------------------------------------------------------
# The whole demo.

def whole_demo(tmp_path, monkeypatch, name, **changes):
    """A demo with tiny budgets, through the command."""
    plan = dict(images=64, samples=24, iterations=1, tick=1, snap=1)
    pair = dataclasses.replace(pairs.PAIRS[name], quick=plan, **changes)
    monkeypatch.setitem(pairs.PAIRS, name, pair)
    monkeypatch.setattr(pairs, name.upper(), pair)
    result = CliRunner().invoke(main, ['demo', '--quick', f'--pair={name}', '--outdir', str(tmp_path / 'demo'), '--seed', '3'])
    assert result.exit_code == 0, result.output
    texts = [(tmp_path / 'demo' / name).read_text() for name in ('summary.json', 'report.html')]
    return json.loads(texts[0]), texts[1], result.output

def check_tiny(summary, page, output, iterations):
    assert (summary['seed'], summary['quick']) == (3, True) and '(3)' in page
    assert 'lower is better. Untrained source:' in output and 'This is one seed.' in output
    for name in ('baseline', 'spider'):
        assert [i for i, _ in summary[name]['curve']] == [i for i, _ in summary[name]['recall']] == iterations
        assert all(0 <= value <= 1 for _, value in summary[name]['recall'])
    assert summary['untrained']['score'] == summary['spider']['curve'][0][1]
    check = summary['copy_check']['pixels']
    assert 0 < check['sample_to_own_source'] < check['sample_to_another_source']
    assert check['sample_to_other_latent'] < check['sample_to_another_sample']

def test_a_tiny_demo_of_digits(tmp_path, monkeypatch):
    check_tiny(*whole_demo(tmp_path, monkeypatch, 'digits'), iterations=[0, 1])

class Means(torch.nn.Module):
    """A detector without weights: means of the parts of an image and of its colours."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.to(torch.float32), 4).flatten(1)

@pytest.mark.slow
def test_a_tiny_demo_of_maps(tmp_path, monkeypatch):
    """With random features in place of ImageNet's, so that no network has to be installed."""
    monkeypatch.setattr(pairs, 'missing_packages', list)
    torch.jit.script(Means()).save(str(tmp_path / 'means.pt'))
    options = pairs.MAPS.options | {'disc-backbone': 'random'}
    summary, page, output = whole_demo(tmp_path, monkeypatch, 'maps', options=options, detector=str(tmp_path / 'means.pt'))
    check_tiny(summary, page, output, iterations=[0, 1])
    assert 'From relief maps to satellite images' in page and 'NASA' in page and 'NOAA' in page

@pytest.mark.slow
@pytest.mark.skipif(bool(pairs.missing_packages()), reason=pairs.INSTALL)
def test_the_quick_demo_of_maps(tmp_path):
    out = tmp_path / 'demo'
    result = CliRunner().invoke(main, ['demo', '--quick', '--pair=maps', '--outdir', str(out)])
    assert result.exit_code == 0, result.output
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['spider']['best']['score'] < summary['baseline']['best']['score']
    assert summary['reference_scores']['fresh_target'] < summary['untrained']['score'] < summary['baseline']['curve'][0][1]

@pytest.mark.slow
def test_the_quick_demo(tmp_path):
    out = tmp_path / 'demo'
    result = CliRunner().invoke(main, ['demo', '--quick', '--pair=digits', '--outdir', str(out), '--seed', '3'])
    assert result.exit_code == 0, result.output
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['seed'] == 3 and '(3)' in (out / 'report.html').read_text()
    for name in ('baseline', 'spider'):
        assert [iteration for iteration, _ in summary[name]['curve']] == [0, 50, 100, 150]
        assert summary[name]['last']['score'] < summary[name]['curve'][0][1]
    source = summary['reference_scores']['source']
    assert summary['untrained']['score'] == summary['spider']['curve'][0][1] == pytest.approx(source, rel=0.15)
    check = summary['copy_check']['features']
    assert 0 < check['sample_to_own_source'] < check['sample_to_another_source']
