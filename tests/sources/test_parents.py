"""Cascades: the identities of the stages, damaged records of them, and the lookup of parents."""

import json
import shutil
from pathlib import Path

import pytest

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import cache_dir, sha256_of_file
from spider_plugin.snapshots.export import export
from spider_plugin.snapshots.lineage import cascade_stages, describe_stages
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources import parents
from spider_plugin.sources.parents import find_parent, given_parents
from spider_plugin.sources.prepare import prepare_source

def identity(name, sha256, source=None, **more):
    return dict(name=name, sha256=sha256 * 64, transform='t', licence='l', **more, **dict(source=source) if source else {})

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def cascade(make_snapshot):
    """Three generators, noise -> dcgan -> StyleGAN2 -> dcgan; the source of each is the one before."""
    first = make_snapshot(dcgan=True, c_dim=3)
    second = make_snapshot(spider=dict(mapping='residual', source=prepare_source(first, bank=24).path, embed=1))
    third = make_snapshot(spider=dict(mapping='residual', source=prepare_source(second, bank=40).path, embed=1), dcgan=True)
    return [first, second, third]

def test_the_lineage_is_in_the_snapshot(cascade, tmp_path):
    stages = cascade_stages(load_generator(cascade[2]).source.identity, cascade[2])
    assert [stage['sha256'] for stage in stages] == [sha256_of_file(path) for path in cascade[1::-1]]
    assert [stage['latents'] for stage in stages] == [40, 24]
    assert describe_stages(stages) == 'network-snapshot-000001 <- network-snapshot-000001 <- noise'
    files = export(cascade[2], tmp_path / 'g.pt')
    assert json.loads(files[1].read_text())['source']['cascade'] == describe_stages(stages)

def test_a_cascade_may_begin_with_images(make_snapshot):
    first = make_snapshot(spider=dict(mapping='residual', source=prepare_source('strokes', size=16, bank=20).path, embed=1))
    prepared = prepare_source(first, bank=20)
    assert describe_stages(cascade_stages(prepared.identity, first)) == 'network-snapshot-000001 <- strokes'

@pytest.mark.parametrize('broken, words', [
    (dict(name='a'), 'damaged'),
    (dict(name='a', sha256=5, transform='t'), 'damaged'),
    ('text', 'damaged'),
    (identity('a', 'a', identity('b', 'b', identity('a', 'a', latents=5), latents=5), latents=5), 'a is a source of itself'),
])
def test_damaged_lineages_are_refused(broken, words):
    with pytest.raises(SpiderError, match=f'x.pkl.*{words}'):
        cascade_stages(broken, 'x.pkl')

def test_an_endless_lineage_is_refused():
    endless = identity('a', 'a')
    endless['source'] = endless
    with pytest.raises(SpiderError, match='more than 32 stages'):
        cascade_stages(endless, 'x.pkl')

#----------------------------------------------------------------------------

def test_parents_are_remembered_named_or_found_beside(cascade, tmp_path):
    second, first = cascade_stages(load_generator(cascade[2]).source.identity, cascade[2])
    assert [find_parent(stage, cascade[2]) for stage in (second, first)] == cascade[1::-1]
    (cache_dir('parents') / f'{second["sha256"]}.json').unlink()
    with pytest.raises(SpiderError, match=f'{second["sha256"][:12]}.*--parent'):
        find_parent(second, cascade[2])
    given = given_parents([cascade[1]], [second, first])
    assert find_parent(second, cascade[2], given) == cascade[1]
    shutil.copy(cascade[1], tmp_path / f'{second["name"]}.pkl')
    assert find_parent(second, tmp_path / 'network.pkl') == str(tmp_path / f'{second["name"]}.pkl')
    with open(tmp_path / f'{second["name"]}.pkl', 'ab') as file:
        file.write(b'x')
    with pytest.raises(SpiderError, match='--parent'):                    # that name, another file
        find_parent(second, tmp_path / 'network.pkl')

def test_files_that_are_not_parents_are_refused(cascade, make_snapshot):
    stages = cascade_stages(load_generator(cascade[2]).source.identity, cascade[2])
    with pytest.raises(SpiderError, match='is not a stage of this cascade'):
        given_parents([make_snapshot(seed=8)], stages)
    with pytest.raises(SpiderError, match='does not exist'):
        given_parents(['nowhere.pkl'], stages)
    with pytest.raises(SpiderError, match='--parent'):
        find_parent(dict(stages[0], sha256='../../etc/x'), cascade[2])

def test_parents_move(cascade, tmp_path):
    """The cache keeps the last path at which the file was used."""
    moved = Path(shutil.copy(cascade[0], tmp_path / 'moved.pkl'))
    sha256 = sha256_of_file(moved)
    parents.remember_parent(moved, sha256)
    assert find_parent(dict(name='n', sha256=sha256), cascade[2]) == str(moved)
    parents.remember_parent(cascade[0], sha256)
