"""`spider cache`: what is in the cache, what prune and verify remove, and what a run keeps from them."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from spider_plugin import cli
from spider_plugin.files import cache_contents, cache_uses
from spider_plugin.files.cache_table import age_words, size_words

@pytest.fixture
def root(tmp_path, monkeypatch):
    """A cache of its own."""
    path = tmp_path / 'cache'
    path.mkdir()
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(path))
    return path

def put(root, name, size=10, days=0.0):
    """Put a file of some bytes into the cache that was last used some days ago."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for each in (path, path.parent):
        os.utime(each, (time.time() - days * 86400,) * 2)
    return path

def spider(*args, code=0):
    result = CliRunner().invoke(cli.main, ['cache', *map(str, args)])
    assert result.exit_code == code, result.output
    return result.output

def test_list_tells_sizes_kinds_ages_and_users(root, tmp_path):
    put(root, 'sources/faces-01/images.npy', 3000, days=2)
    put(root, 'features/ab.npz', 500)
    put(root, 'sources/.faces-02.tmp12/images.npy', 7)
    (tmp_path / 'run').mkdir()
    cache_uses.hold(['sources/faces-01'], tmp_path / 'run')
    said = spider('list')
    assert '3 entries, 3.51 kB' in said and 'prepared source images' in said and 'left over' in said
    assert f'used by {tmp_path / "run"}' in said
    rows = {row['name']: row for row in json.loads(spider('list', '--json'))}
    assert rows['sources/faces-01']['size'] == 3000 and rows['sources/faces-01']['users'] == [str(tmp_path / 'run')]
    assert [row['name'] for row in json.loads(spider('list', 'features', '--json'))] == ['features/ab.npz']
    assert 'no kind' in spider('list', 'featurs', code=2)

def test_prune_takes_the_old_by_age_and_by_size(root):
    put(root, 'features/old.npz', 2000, days=40)
    put(root, 'features/mid.npz', 2000, days=10)
    new = put(root, 'features/new.npz', 2000)
    assert 'give --unused-for' in spider('prune', code=2)
    said = spider('prune', '--unused-for=30', '--dry-run')
    assert 'Would remove features/old.npz (2 kB, 40 days ago)' in said and (root / 'features/old.npz').exists()
    assert 'Removed 1 entries, 2 kB' in spider('prune', '--unused-for=30')
    assert sorted(path.name for path in (root / 'features').iterdir()) == ['mid.npz', 'new.npz']
    spider('prune', '--max-size=0', 'sources')
    assert (root / 'features/mid.npz').exists()
    spider('prune', '--max-size=0.000003')
    assert [path.name for path in (root / 'features').iterdir()] == ['new.npz']
    spider('prune', '--max-size=0', '--unused-for=0')
    assert new.exists()     # it was written in this hour

def test_what_a_run_uses_stays_until_its_folder_is_gone(root, tmp_path):
    put(root, 'sources/faces-01/images.npy', days=40)
    run = tmp_path / 'run'
    run.mkdir()
    cache_uses.hold(['sources/faces-01'], run)
    for path in (root / 'sources/faces-01', root / 'sources/faces-01/images.npy'):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    note = next((root / 'uses').iterdir())
    note.write_text(json.dumps(dict(json.loads(note.read_text()), pid=2 ** 22 + 1)))    # its process has ended
    assert 'Removed 0 entries' in spider('prune', '--unused-for=1')
    run.rename(tmp_path / 'gone')
    assert 'Removed 1 entries' in spider('prune', '--unused-for=1')
    assert list((root / 'uses').iterdir()) == []

def test_what_a_run_resumed_from_is_let_go_at_its_first_snapshot(root, tmp_path):
    put(root, 'resume/0123/snapshot.pkl', days=40)
    run = tmp_path / 'run'
    run.mkdir()
    cache_uses.hold(['resume/0123'], run)
    note = next((root / 'uses').iterdir())
    note.write_text(json.dumps(dict(json.loads(note.read_text()), pid=2 ** 22 + 1)))
    assert cache_uses.used_by('resume/0123', cache_uses.uses()) == [str(run)]
    (run / 'network-snapshot-000000.pkl').touch()
    assert cache_uses.used_by('resume/0123', cache_uses.uses()) == [str(run)]
    (run / 'network-snapshot-000004.pkl').touch()
    assert cache_uses.used_by('resume/0123', cache_uses.uses()) == []

HOLDER = '''
import sys
from spider_plugin.files import cache_uses
with cache_uses.starting():
    cache_uses.hold(['sources/faces-01'])
    print('held', flush=True)
    sys.stdin.readline()
print('let go', flush=True)
sys.stdin.readline()
'''

@pytest.mark.skipif(os.name == 'nt', reason='no such locks there')
def test_a_launch_is_waited_for_and_what_it_found_stays(root, monkeypatch):
    put(root, 'sources/faces-01/images.npy', days=40)
    holder = subprocess.Popen([sys.executable, '-c', HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'held\n'
        for path in (root / 'sources/faces-01', root / 'sources/faces-01/images.npy'):
            os.utime(path, (time.time() - 40 * 86400,) * 2)
        monkeypatch.setattr(cache_uses, 'PATIENCE', 0)
        found = cache_contents.entries()
        assert found[0].users == ('a command that starts a run',)
        old = [cache_contents.Entry(found[0].name, 'sources', 10, 10 ** 7, ())]    # as a list of before the launch has it
        with pytest.raises(cache_uses.SpiderError, match='is in use'):
            cache_contents.remove(old)
        holder.stdin.write('\n')
        holder.stdin.flush()
        assert holder.stdout.readline() == 'let go\n'
        assert cache_contents.remove(old) == []
    finally:
        holder.communicate('\n')
    assert cache_contents.remove(old) == old and not (root / 'sources/faces-01').exists()

def test_a_config_names_entries_by_any_kind_of_path(root):
    for name in ('sources/faces-01/images.npy', 'resume/0123/snapshot.pkl', 'backbones/lite0.pt'):
        put(root, name)
    config = dict(G_kwargs=dict(spider=dict(source='sources/faces-01')), D_kwargs=dict(weights=str(root / 'backbones/lite0.pt')),
                  resume_pkl=str(root / 'resume/0123/snapshot.pkl'), data=['sources/none', 'nothing', '/etc/hosts', '../x/y'])
    assert cache_uses.named_in(config) == {'sources/faces-01', 'resume/0123', 'backbones/lite0.pt'}

def test_converted_snapshots_do_not_pile_up(root):
    put(root, 'resume/old/a.pkl', days=8)
    put(root, 'resume/new/a.pkl', days=6)
    put(root, 'sources/old/images.npy', days=80)
    cache_contents.tidy_resume()
    assert [path.name for path in (root / 'resume').iterdir()] == ['new'] and (root / 'sources/old').exists()

def test_verify_names_what_is_damaged(root):
    whole = root / 'sources/faces-01/images.npy'
    whole.parent.mkdir(parents=True)
    np.save(whole, np.zeros([4, 3, 8, 8], dtype=np.uint8))
    assert 'Looked at 1 entries, 0 of them damaged' in spider('verify')
    broken = root / 'sources/faces-02/images.npy'
    broken.parent.mkdir()
    broken.write_bytes(whole.read_bytes()[:200])
    put(root, 'features/ab.npz', 40, days=1)
    for path in (broken, broken.parent):
        os.utime(path, (time.time() - 86400,) * 2)
    said = spider('verify', code=1)
    assert 'sources/faces-02 is damaged (images.npy' in said and 'features/ab.npz is damaged' in said and 'faces-01' not in said
    spider('verify', '--remove')
    assert not broken.exists() and not (root / 'features/ab.npz').exists() and whole.exists()

def test_words():
    assert [size_words(size) for size in (0, 999, 1500, 123_456, 5e9, 1.2e12)] == \
        ['0 B', '999 B', '1.5 kB', '123 kB', '5 GB', '1200 GB']
    assert [age_words(age) for age in (3, 90, 7200, 86400, 200_000)] == \
        ['just now', '1 minute ago', '2 hours ago', '1 day ago', '2 days ago']
