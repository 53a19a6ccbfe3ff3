"""What --resume makes of a snapshot: its source follows it, and other sources are refused."""

import copy

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.portable.source.bank import ImageBank
from tests.options.edits import carried, edit, host, open_bank, resume

pytestmark = pytest.mark.usefixtures('target_in_this_directory')

#----------------------------------------------------------------------------

def test_resume_of_a_stock_generator(source, snapshot):
    snapshot(None)
    c, lines = resume(source)
    assert c['G_kwargs']['spider']['gain'] == 0.0 and 'stock generator' in lines
    assert not c['G_kwargs']['spider']['learn_skip']
    assert resume(source, spider_skip='learned')[0]['G_kwargs']['spider']['learn_skip']
    c, lines = resume(source, spider_mapping='encoder')
    assert c['G_kwargs']['spider']['gain'] == 1.0 and 'stock generator' not in lines

@pytest.mark.parametrize('before', [True, False])
def test_a_resumed_skip_stays_what_it_was_unless_an_option_says_so(source, snapshot, before):
    c, _ = edit(spider_source=source)
    spider = copy.deepcopy(c['G_kwargs']['spider']) | {'learn_skip': before}
    snapshot(spider, open_bank(spider).identity)
    assert resume(source)[0]['G_kwargs']['spider']['learn_skip'] == before
    for option, learned in (('learned', True), ('fixed', False)):
        assert resume(source, spider_skip=option)[0]['G_kwargs']['spider']['learn_skip'] == learned

def test_resume_needs_the_same_source(source, snapshot):
    c, _ = edit(spider_source=source)
    spider = copy.deepcopy(c['G_kwargs']['spider']) | {'gain': 0.0}
    identity = open_bank(spider).identity
    snapshot(spider, identity)
    assert resume(source)[0]['G_kwargs']['spider']['gain'] == 0.0
    snapshot(spider, {**identity, 'sha256': 'f' * 64})
    with pytest.raises(SpiderError, match='old.pkl was trained with the source .*--spider-force'):
        resume(source)
    assert resume(source, spider_force=True)[0]['G_kwargs']['spider']['source'] == spider['source']
    snapshot(spider, identity)
    with pytest.raises(SpiderError, match='mapping residual, not encoder'):
        resume(source, spider_mapping='encoder', spider_size=16)

FOLLOWED = dict(spider_mapping='encoder', spider_noise=0.25, spider_embed=3)

def test_the_source_follows_its_snapshot(source, snapshot):
    before = edit(spider_source=source, **FOLLOWED)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    c, lines = resume(None)
    assert c['G_kwargs']['spider'] == before and c['G_kwargs']['class_name'].endswith('SpiderGenerator')
    assert 'Spider resume:       as in the snapshot, 40 images from the cache' in lines and 'Spider source:       flies' in lines
    assert resume(None, spider_noise=0.5)[0]['G_kwargs']['spider'] == before | {'noise': 0.5}
    assert resume(source)[0]['G_kwargs']['spider'] == before     # the same options need not be given again
    snapshot(before | dict(source=f'C:\\Users\\me\\{before["source"]}'), **carried(before))
    assert resume(None)[0]['G_kwargs']['spider'] == before       # earlier versions wrote the whole path
    with pytest.raises(SpiderError, match='mapping encoder, not residual; give that one, or pass --spider-force'):
        resume(None, spider_mapping='residual')
    with pytest.raises(SpiderError, match='--spider-size has no effect on the source of the snapshot in --resume'):
        resume(None, spider_size=8)

def test_a_generator_that_runs_for_every_batch_follows(snapshot, make_snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 24)
    parent = make_snapshot(dcgan=True)
    banked, online = (edit(spider_source=parent, spider_mapping='encoder', spider_bank=bank)[0]['G_kwargs']['spider']
                      for bank in (None, 'online'))
    assert banked['source'] != online['source']
    for before in (banked, online):
        snapshot(before, **carried(banked))
        c, lines = resume(None)
        assert c['G_kwargs']['spider'] == before
        assert ('the generator runs for every batch' in lines) == (before is online)
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    assert 'all 24 images that it was trained with; the generator that ran for every batch stays behind' in resume(None)[1]

def test_classes_and_skip_follow(snapshot, tmp_path, make_zip):
    own = host(label_dim=2)
    labelled = make_zip(tmp_path / 'labelled.zip', n=12, res=16, labels=3)
    before = edit(host=own, spider_source=labelled, spider_classes=[(0, 2)], spider_skip='fixed')[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    assert resume(None, host=own)[0]['G_kwargs']['spider'] == before
    assert resume(labelled, host=own)[0]['G_kwargs']['spider'] == before
    with pytest.raises(SpiderError, match='source classes .2, -1., not .-1, 1.'):
        resume(labelled, host=own, spider_classes=[(1, 1)])

@pytest.mark.parametrize('changed, words', [
    (dict(embed=64),  'as in the snapshot, all 40 images that it was trained with'),
    (dict(embed=1),   'as in the snapshot, but only the 21 images that it carries go on, of 40; give --spider-source for all')])
def test_without_the_cache_the_images_of_the_snapshot_go_on(source, snapshot, tmp_path, monkeypatch, changed, words):
    large = host(resolution=128)
    before = edit(host=large, spider_source=source, spider_mapping='encoder', spider_size=128)[0]['G_kwargs']['spider']
    bank, images = carried(before, **changed), open_bank(before).images
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    snapshot(before, **bank)
    c, lines = resume(None, host=large)
    after = open_bank(c['G_kwargs']['spider'])
    assert words in lines and torch.equal(after.images, images[: len(bank['images'])]) and after.identity == bank['identity']
    assert resume(None, host=large)[0]['G_kwargs']['spider'] == c['G_kwargs']['spider']

def test_without_the_cache_and_images_the_source_is_asked_for(source, snapshot, tmp_path, monkeypatch):
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before, embed=0))
    assert resume(None)[0]['G_kwargs']['spider']['source'] == before['source']      # by its identity and mean
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    with pytest.raises(SpiderError, match='old.pkl carries no source images .*give --spider-source'):
        resume(None)

def test_a_snapshot_does_not_stand_in_for_a_dataset(source, snapshot):
    """Neither by the identity of one that is in the cache, nor by a path."""
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    honest = carried(before)
    snapshot(before, **honest | dict(images=255 - honest['images']))
    after = resume(None)[0]['G_kwargs']['spider']
    assert after['source'].startswith('carried/flies-') and torch.equal(open_bank(after).images, 255 - honest['images'])
    snapshot(before | dict(source=after['source']), **honest)
    assert resume(None)[0]['G_kwargs']['spider'] == before
    assert torch.equal(open_bank(edit(spider_source=source)[0]['G_kwargs']['spider']).images, honest['images'])

@pytest.mark.parametrize('name, content', [
    ('bank.json', b'[' * 100_000), ('bank.json', b'{"identity": {}, "labels": 3}'),
    ('images.npy', b"\x93NUMPY\x01\x00\x06\x00{'a':}")])
def test_a_damaged_bank_in_the_cache_is_not_followed(source, snapshot, tmp_path, monkeypatch, name, content):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    (tmp_path / 'other' / before['source'] / name).write_bytes(content)
    c, lines = resume(None)
    assert 'all 40 images that it was trained with' in lines and c['G_kwargs']['spider']['source'].startswith('carried/flies-')

@pytest.mark.parametrize('name', ['generator.json', 'weights.pt'])
def test_a_damaged_generator_in_the_cache_is_not_followed(snapshot, make_snapshot, tmp_path, monkeypatch, name):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'other'))
    monkeypatch.setattr('spider_plugin.sources.prepare._DEFAULT_BANK', 24)
    c, _ = edit(spider_source=make_snapshot(dcgan=True), spider_mapping='encoder', spider_bank='online')
    before = c['G_kwargs']['spider']
    folder = tmp_path / 'other' / before['source']
    snapshot(before, **ImageBank(str(folder)).__getstate__())
    (folder / name).write_bytes(b'')
    assert 'all 24 images that it was trained with; the generator that ran for every batch stays behind' in resume(None)[1]

def test_every_generator_has_a_default_mapping(source):
    stylegan3, fastgan = host(constant_input=False), host(constant_input=False, z_dim=256, mapping='DummyMapping')
    for options, mapping in ((dict(), 'residual'), (dict(host=stylegan3), 'encoder'), (dict(host=fastgan), 'encoder'),
                             (dict(cfg='fastgan'), 'residual'), (dict(cfg='dcgan_paper'), 'paper-16x32')):
        given = ['cfg'] if 'cfg' in options else []
        assert edit(spider_source=source, given=given, **options)[0]['G_kwargs']['spider']['mapping'] == mapping

def test_a_followed_source_that_does_not_fit_is_refused_by_the_name_of_resume(source, snapshot):
    before = edit(spider_source=source)[0]['G_kwargs']['spider']
    snapshot(before, **carried(before))
    for options, words in ((dict(host=host(constant_input=False)), 'mapping residual of the snapshot in --resume needs a gener'),
                           (dict(host=host(channels=1)), 'old.pkl was trained with a source of 3 channels, but --data has 1')):
        with pytest.raises(SpiderError, match=words):
            resume(None, **options)

def test_resume_of_what_is_not_there(source):
    with pytest.raises(SpiderError, match='old.pkl'):
        resume(source)

#----------------------------------------------------------------------------
