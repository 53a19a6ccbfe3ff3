"""Reading the folder of a run: hosts, damaged files, files of strangers."""

import json

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.report.runs import labels, read_run

@pytest.mark.parametrize('kind', ['reference', 'stylegan3', 'projected-gan'])
def test_runs_of_hosts(kind, make_run):
    """Names and images differ by host; projected-gan overwrites one snapshot, so its scores are placed by their time."""
    run = read_run(make_run('00000-run', kind))
    assert [kimg for kimg, _ in run.curves['Loss/G/loss']] == [0, 2, 4] and run.kimg == run.total_kimg == 4
    assert [(score.kimg, score.value) for score in run.scores['fid1k']] == [(0, 100), (2, 60), (4, 40)]
    assert [kimg for kimg, _ in run.pictures] == [0, 2, 4] and run.pictures[0][1].name == 'fakes_init.png'
    assert run.last == 1200 and run.notes == [] and run.source is None and run.resumed is None
    assert bool(run.given) == (kind == 'reference') and len(run.snapshots) == (1 if kind == 'projected-gan' else 3)

def test_what_made_a_run(spider_run, make_run):
    run = read_run(spider_run)
    assert run.source['name'] == 'crayon' and run.untrained('fid1k') == 50
    old = read_run(make_run('old', G_kwargs=dict(spider=dict(mapping='encoder')), resume_pkl='a.pkl'))
    assert old.source == dict(mapping='encoder') and old.resumed == 'a.pkl' and old.untrained('fid1k') is None

def test_a_resumed_residual_has_no_untrained_source(make_run):
    made = dict(source=dict(mapping='residual'), resumed='before.pkl')
    assert read_run(make_run('resumed', spider_run=made)).untrained('fid1k') is None

def test_intervals(make_run):
    folder = make_run('run')
    line = dict(results=dict(sid1k=-3.5, sid1k_ci95=0.5, sid1k_r1=1.0), snapshot_pkl='network-snapshot-000002.pkl')
    (folder / 'metric-sid1k.jsonl').write_text(json.dumps(line) + '\n')
    scores = read_run(folder).scores
    assert set(scores) == {'fid1k', 'sid1k'} and scores['sid1k'][0].ci95 == 0.5 and scores['sid1k'][0].kimg == 2

def test_scores_by_another_detector_are_labelled(make_run):
    folder = make_run('run')
    lines = [dict(results=dict(fid1k=value), detector=detector, cur_nimg=4000) for value, detector in (
        (7, 'lite1'), (8, 'inception-2015-12-05'), (9, 'mine'))]
    (folder / 'metric-fid1k.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    assert {name: score[0].value for name, score in read_run(folder).scores.items()} == {
        'fid1k (lite1)': 7, 'fid1k': 8, 'fid1k (mine)': 9}

#----------------------------------------------------------------------------

def test_damaged_lines_are_counted(make_run):
    folder = make_run('run')
    with open(folder / 'stats.jsonl', 'a') as file:
        file.write('{"Progress/kimg": {"num": 1, "me\n[1, 2]\n' + '[' * 5000 + '\n{"Progress/kimg": {"mean": NaN}}\n{"Progr')
    run = read_run(folder)
    assert run.kimg == 4 and run.notes == ['4 of 8 lines of stats.jsonl could not be read and are left out.']

@pytest.mark.parametrize('value', ['NaN', 'Infinity', '"text"', '[1]', '{"mean": "1"}', '{"mean": true}',
                                   '1' + '0' * 400, 'null'])
def test_values_of_strangers_are_left_out(value, make_run):
    folder = make_run('run')
    with open(folder / 'stats.jsonl', 'a') as file:
        file.write(f'{{"Progress/kimg": {{"mean": 6}}, "Loss/G/loss": {value}, "timestamp": {value}}}\n')
    with open(folder / 'metric-fid1k.jsonl', 'a') as file:
        file.write(f'{{"results": {{"fid1k": {value}}}, "snapshot_pkl": {value}, "cur_nimg": {value}}}\n')
    run = read_run(folder)
    assert run.kimg == 6 and len(run.curves['Loss/G/loss']) == 3 and len(run.scores['fid1k']) == 3

def test_missing_files(make_run):
    folder = make_run('run')
    for name in ('training_options.json', 'metric-fid1k.jsonl', 'fakes_init.png'):
        (folder / name).unlink()
    assert read_run(folder).total_kimg is None and len(read_run(folder).pictures) == 2
    (folder / 'stats.jsonl').unlink()
    assert read_run(folder).kimg is None        # pictures alone still are a run
    (folder / 'training_options.json').write_text('{"total_kimg": ')
    assert read_run(folder).notes[0].startswith('training_options.json could not be read')

def test_what_is_no_run(tmp_path, make_run):
    with pytest.raises(SpiderError, match='no-such cannot be read .* give the folder of a run'):
        read_run(tmp_path / 'no-such')
    (tmp_path / 'file').touch()
    with pytest.raises(SpiderError, match='cannot be read'):
        read_run(tmp_path / 'file')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SpiderError, match='so it is no run; give the folder of a run'):
        read_run(tmp_path / 'empty')
    make_run('00003-run')
    with pytest.raises(SpiderError, match='it holds runs, so give one or more of them, such as .*00003-run'):
        read_run(tmp_path)

def test_labels_are_short_and_differ(make_run):
    runs = [read_run(make_run(name)) for name in ('00000-dcgan-neon-gpus1', '00001-dcgan-neon-gpus1-from-crayon')]
    assert labels(runs) == ['00000', '00001-from-crayon'] and labels(runs[:1]) == ['00000-dcgan-neon-gpus1']
    assert len(set(labels([runs[0], runs[0]]))) == 1        # the command refuses it
    twins = [read_run(make_run(name)) for name in ('00002-dcgan', '00002-dcgan-from-crayon')]
    assert labels(twins) == ['00002-dcgan', 'from-crayon']
