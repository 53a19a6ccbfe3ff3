"""`spider demo`: its folder, its two command lines, its report, failing runs, and the whole demo."""

import html.parser
import json
import re
import sys

import pytest
import torch
from click.testing import CliRunner

from spider_plugin.cli import main
from spider_plugin.demo import report, run
from spider_plugin.errors import SpiderError

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
# The runs.

def test_the_two_command_lines_differ_only_in_the_source(tmp_path):
    make = lambda name, source: run.command(tmp_path, name, run.FULL, 5, 1, tmp_path / 'neon.zip', source)
    baseline, spider = make('x', None), make('x', tmp_path / 'crayon.zip')
    extra = set(spider) - set(baseline)
    assert set(baseline) < set(spider) and all(option.startswith('--spider-') for option in extra)
    assert {'--seed=5', '--cfg=dcgan', '--kimg=38.4', '--detector=demo'} <= set(baseline)
    assert '--spider-mapping=residual' in extra

def make_run(tmp_path, name, code):
    return run.Run(name, tmp_path, run.QUICK, [sys.executable, '-c', code])

def test_a_failing_run_ends_the_other_and_shows_its_last_lines(tmp_path):
    sleeper = make_run(tmp_path, 'spider', 'import time; time.sleep(600)')
    failing = make_run(tmp_path, 'baseline', 'print("the reason"); raise SystemExit(3)')
    with pytest.raises(run.RunFailed, match=r'baseline run ended with code 3(.|\n)*the reason'):
        run.train([sleeper, failing], run.environment(tmp_path, 1))
    assert sleeper.process.poll() is not None

def test_an_interrupt_ends_both(tmp_path, monkeypatch):
    runs = [make_run(tmp_path, name, 'import time; time.sleep(600)') for name in ('baseline', 'spider')]
    def interrupt(display, lines, last=False):
        raise KeyboardInterrupt
    monkeypatch.setattr(run.Display, 'show', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.train(runs, run.environment(tmp_path, 1))
    assert all(r.process.poll() is not None for r in runs)

def test_curves_come_from_complete_lines(tmp_path):
    folder = tmp_path / 'runs' / 'spider' / '00000-x'
    folder.mkdir(parents=True)
    line = lambda nimg, score: json.dumps(dict(results={'fid1k': score}, cur_nimg=nimg, snapshot_pkl=f'{nimg}.pkl'))
    (folder / 'metric-fid1k.jsonl').write_text(f'{line(0, 9.0)}\n{line(1600, 4.5)}\n{line(3200, 1.0)[:20]}')
    watched = make_run(tmp_path, 'spider', '')
    assert watched.curve() == [[0, 9.0], [50, 4.5]]
    assert watched.snapshots() == {0: folder / '0.pkl', 50: folder / '1600.pkl'}
    assert 'score      4.5 at iteration 50' in watched.describe()

def test_off_a_terminal_a_line_is_printed_once_for_each_score(capsys):
    display = run.Display()
    for lines in (['a starting', 'b starting'], ['a 1 score 5', 'b starting'], ['a 2 score 5', 'b 1 score 7']):
        display.show(lines)
    assert capsys.readouterr().out == 'a 1 score 5\nb 1 score 7\n'

#----------------------------------------------------------------------------
# The report.

@pytest.fixture
def summary():
    distances = dict.fromkeys(report.COPY_ROWS, 3.25)
    return dict(
        seed=7, quick=False, metric='fid1k', iterations_ratio=0.25, iterations_ratio_is_upper_bound=True,
        baseline=dict(curve=[[0, 9000.0], [100, 2000.0], [200, 1000.0]], best=1000.0, final=1000.0),
        spider=dict(curve=[[0, 2400.0], [100, 500.0], [200, 300.0]], best=300.0, final=300.0),
        identity_score=2400.0, reference_scores=dict(fresh_target=40.0, source=2390.0),
        copy_check=dict(pixels=distances, features=distances), settings=dict(run.SHARED, spider=run.SPIDER),
        versions=dict(torch='<2>'), seconds=dict(total=1.0), attribution='Digits by A & B')

@pytest.fixture
def pictures():
    images = torch.zeros([24, 3, 32, 32], dtype=torch.uint8)
    stages = {0: images, 200: images}
    return dict(dict.fromkeys(['spider', 'sources', 'baseline', 'target', 'fresh'], images),
                spider_stages=stages, baseline_stages=stages)

class Balanced(html.parser.HTMLParser):
    VOID = {'meta', 'img', 'line', 'circle', 'polyline'}

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
    for words in ('This is one seed (7)', 'head start', 'same collection', 'Synthetic renderings', '&le; 0.25', '&lt;2&gt;',
                  'still improving', 'A &amp; B', '2,400'):
        assert words in text
    assert 'beats the trained baseline' not in text

def test_the_report_says_when_a_ratio_means_nothing(summary, pictures):
    summary.update(iterations_ratio=None, identity_score=900.0, quick=True)
    text = report.render(summary, pictures)
    assert 'not reached' in text and 'beats the trained baseline' in text and 'quick demo' in text

def test_the_chart_keeps_every_point_inside(summary):
    svg = report.chart(summary)
    heights = [float(y) for y in re.findall(r'cy="([-\d.]+)"', svg)]
    assert len(heights) == 6 and all(20 <= y <= 334 for y in heights)
    assert heights[0] < heights[1] < heights[2]     # a falling score is drawn downwards

#----------------------------------------------------------------------------
# The whole demo.

@pytest.mark.slow
def test_the_quick_demo(tmp_path):
    out = tmp_path / 'demo'
    result = CliRunner().invoke(main, ['demo', '--quick', '--outdir', str(out), '--seed', '3'])
    assert result.exit_code == 0, result.output
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['seed'] == 3 and '(3)' in (out / 'report.html').read_text()
    for name in ('baseline', 'spider'):
        assert [iteration for iteration, _ in summary[name]['curve']] == [0, 50, 100, 150]
        assert summary[name]['final'] < summary[name]['curve'][0][1]
    source = summary['reference_scores']['source']
    assert summary['identity_score'] == summary['spider']['curve'][0][1] == pytest.approx(source, rel=0.15)
    check = summary['copy_check']['features']
    assert 0 < check['sample_to_own_source'] < check['sample_to_another_source']
