"""What made a run, in its options, its name and its log."""

import json
import os

import pytest

from spider_plugin.training import record

def made(tmp_path, monkeypatch, **identity):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path))
    (tmp_path / 'sources').mkdir()
    (tmp_path / 'sources' / 'bank.json').write_text(json.dumps(dict(identity=identity)))
    spider = dict(source='sources', mapping='residual', noise=0.0, learn_skip=True)
    c = dict(G_kwargs=dict(spider=spider), spider_run=dict(track=['x']))
    return record.record_of(c, 'runs/a.pkl')

def test_a_record(tmp_path, monkeypatch):
    found = made(tmp_path, monkeypatch, name='My photos!', sha256='0', match='digest')
    assert found['source'] == dict(name='My photos!', sha256='0', transform=None, licence=None, match='covariance',
                                   mapping='residual', noise=0.0, skip='learned')
    assert found['resumed'] == 'runs/a.pkl' and found['track'] == ['x']
    assert record.name_with('run', found) == 'run-from-My_photos-residual-matched'
    assert record.name_with('a' * 180, found) == 'a' * 180

@pytest.mark.parametrize('name, words', [('../..', 'source'), ('a' * 300, 'a' * 24), (None, 'source'), ('é', 'source')])
def test_names_of_sources_are_safe_in_names_of_runs(name, words, tmp_path, monkeypatch):
    assert record.name_with('run', made(tmp_path, monkeypatch, name=name)) == f'run-from-{words}-residual'

def test_without_a_source():
    found = record.record_of(dict(G_kwargs={}), None)
    assert found == dict(source=None, resumed=None) and record.name_with('run', found) == 'run'
    lost = record.record_of(dict(G_kwargs=dict(spider=dict(source='gone', mapping='encoder'))), None)
    assert lost['source']['name'] is None and lost['source']['mapping'] == 'encoder'

def test_the_log_has_the_lines_once(tmp_path):
    (tmp_path / 'log.txt').write_text('before\n')
    record.hand_on_log(['one', 'Spider source:       \x1b[2J'])
    for _ in range(2):
        record.write_log(str(tmp_path))
    assert (tmp_path / 'log.txt').read_text() == 'before\none\nSpider source:       \\x1b[2J\n' and record.LOG not in os.environ
    record.hand_on_log(['one'])
    record.write_log(str(tmp_path / 'no'))      # a host without a log
    assert not (tmp_path / 'no').exists()

@pytest.mark.parametrize('text', [None, '[]', '{"spider_run": 3}', '{"spider_run"', '{}'])
def test_a_folder_without_a_record(text, tmp_path):
    if text is not None:
        (tmp_path / 'training_options.json').write_text(text)
    assert record.read(str(tmp_path / 'network-snapshot.pkl')) is None
