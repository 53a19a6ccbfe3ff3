"""The comparison of sources: the rule of ranks, warnings, features on disk, sets that cannot be compared."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.metrics.sid import sid
from spider_plugin.neighbors import compare as neighbors
from spider_plugin.neighbors import features
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.features import SetProgress, compute_features, open_set
from spider_plugin.neighbors.ranking import disagreements, interval, rank
from spider_plugin.neighbors.words import labelled, suggestion, warnings

class Pooling:
    """A detector of 12 features that counts its images, and can raise an error after a number of calls."""

    identity, name = 'pooling', 'pooling'

    def __init__(self, dies_after=None):
        self.looked, self.dies_after = [], dies_after

    def __call__(self, images):
        if len(images) > 1: # One image is a try.
            if self.dies_after is not None and len(self.looked) >= self.dies_after:
                raise KeyboardInterrupt
            self.looked.append(len(images))
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1).repeat(1, 3)[:, :12] / 64

@pytest.fixture
def sets(tmp_path, monkeypatch, make_zip):
    """Four zips of 100 images, and a separate cache."""
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(['target', 'a', 'b', 'c']):
        make_zip(f'{name}.zip', n=100, res=16, seed=seed)
    return tmp_path

def run(*sources, detector=None, target='target.zip', **options):
    return find_neighbors(target, sources, detector or Pooling(), quiet=True, **options)

def entry(name, sid, fid=(1, 0.1), kid=(1, 0.1)):
    """Return an entry with (value, half-width) of each measure."""
    values = {by: dict(value=value, ci95=half) for by, (value, half) in dict(sid=sid, fid=fid, kid=kid).items()}
    values['sid'] |= dict(location=3.0, spread=-2.0)
    return dict(name=name, source=f'{name}.zip', kind='images', can_train=True, images=100, **values)

#----------------------------------------------------------------------------
# The rule.

def ranks_of(*entries, by='sid'):
    return [(e['name'], e['rank'], e['tied']) for e in rank(list(entries), by)]

def test_intervals_apart_are_ordered_by_absolute_sid():
    entries = [entry('far', (-30, 2)), entry('near', (4, 1)), entry('middle', (-11, 3))]
    assert ranks_of(*entries) == [('near', 1, False), ('middle', 2, False), ('far', 3, False)]

def test_overlapping_intervals_share_a_rank_by_name():
    entries = [entry('z', (5, 1)), entry('a', (-6.5, 1)), entry('far', (20, 1))]
    assert ranks_of(*entries) == [('a', 1, True), ('z', 1, True), ('far', 3, False)]

def test_sources_connected_by_overlaps_are_one_tie():
    entries = [entry('a', (5, 1)), entry('b', (6.5, 1)), entry('c', (8, 1)), entry('d', (9.5, 0.4))]
    assert ranks_of(*entries) == [('a', 1, True), ('b', 1, True), ('c', 1, True), ('d', 4, False)]

def test_a_wide_interval_ties_all_that_it_covers():
    entries = [entry('wide', (4, 10)), entry('b', (6, 1)), entry('c', (12, 1)), entry('d', (16, 1))]
    assert [tie for _, tie, _ in ranks_of(*entries)] == [1, 1, 1, 4]

@pytest.mark.parametrize('value, half, low, high', [(5, 2, 3, 7), (-5, 2, 3, 7), (1, 2, 0, 3), (-1, 2, 0, 3), (0, 2, 0, 2)])
def test_interval_of_the_absolute_value(value, half, low, high):
    assert interval(entry('a', (value, half)), 'sid') == (abs(value), low, high)

def test_other_measures_rank():
    entries = [entry('a', (1, 0.1), fid=(9, 1), kid=(5, 1)), entry('b', (2, 0.1), fid=(4, 1), kid=(5.5, 1))]
    assert [name for name, _, _ in ranks_of(*entries, by='fid')] == ['b', 'a']
    assert ranks_of(*entries, by='kid') == [('a', 1, True), ('b', 1, True)]

def test_disagreement_needs_intervals_apart_both_ways():
    texture, photo = entry('texture', (-1, 0.5), fid=(200, 5), kid=(9, 1)), entry('photo', (5, 1), fid=(20, 5), kid=(8, 1))
    assert disagreements([texture, photo], 12, 'sid') == [(texture, photo, ['fid'])]
    assert disagreements([texture, photo], 12, 'fid') == [(photo, texture, ['sid'])]
    assert disagreements([texture, photo], 12, 'kid') == []
    assert disagreements([photo, entry('b', (4.5, 1), fid=(200, 5))], 12, 'sid') == []
    assert disagreements([texture, entry('c', (5, 1), fid=(300, 5), kid=(10, 3))], 12, 'sid') == []

def test_fid_does_not_count_against_a_small_set():
    small, large = entry('small', (-1, 0.5), fid=(200, 5)), dict(entry('large', (5, 1), fid=(20, 5)), images=1000)
    assert disagreements([small, large], 12, 'sid') == []
    assert disagreements([small, large], 10, 'sid') == [(small, large, ['fid'])]
    large['kid'] = dict(value=0.1, ci95=0.1)
    assert disagreements([small, large], 12, 'sid') == [(small, large, ['kid'])]

def test_disagreement_is_described_in_sentences():
    ranked = rank([entry('texture', (-1, 0.5), fid=(200, 5)), entry('photo', (5, 1), fid=(20, 5))], 'sid')
    target = features.ImageSet('t.zip', 't', 'images', 10 ** 6)
    said = lambda by, label: warnings(ranked, [dict(e, is_target=False) for e in ranked], target, (10 ** 6, 12), by, label)
    [first, second] = said('sid', '')
    assert '|SID| puts texture before photo where FID puts it behind. texture lies off' in first
    assert 'narrower (spread -2)' in first and second.startswith('FID is inflated') and 'texture, photo' in second
    [first, second] = said('fid', 'lite1')
    assert first.startswith('FID (lite1) puts photo before texture where |SID| (lite1) puts it behind. texture lies off')
    assert second.startswith('FID (lite1) is inflated') and second.endswith('KID (lite1) and |SID| (lite1) are not.')

def test_suggestion_names_one_of_a_tie_by_kid():
    ranked = rank([entry('a', (5, 1), kid=(3, 1)), entry('b', (5.5, 1), kid=(2, 1)), entry('c', (50, 1), kid=(0, 1))], 'sid')
    summary = dict(sources=ranked, by='sid', label='', disagree=[], target=dict(path='my target.zip', resolution=64))
    words, command = suggestion(summary, ('python', 'train.py'))
    assert '2 sources whose intervals overlap: a, b' in words and 'b has the smallest KID' in words
    assert command.startswith("python train.py ") and "'--data=my target.zip'" in command and '--spider-source=b.zip' in command
    for e in ranked:
        e['can_train'] = False
    assert suggestion(summary)[1] is None and suggestion(dict(summary, sources=[]))[1] is None

def test_no_command_where_the_measures_contradict():
    """Texture is narrow, so that SID puts it first; FID and KID put other photographs first."""
    texture = entry('texture', (-1, 0.5), fid=(3785, 50), kid=(9, 1))
    photo, far = entry('photo', (65, 21), fid=(640, 20), kid=(3, 1)), entry('far', (900, 21), fid=(9000, 20), kid=(99, 1))
    for by, first, words in (('fid', 'photo', 'But |SID| (lite1) puts texture before it.'),
                             ('kid', 'photo', 'But |SID| (lite1) puts texture before it.'),
                             ('sid', 'texture', 'But FID (lite1) puts photo before it and KID (lite1) puts photo before it.')):
        ranked = rank([texture, photo, far], by)
        pairs = [dict(first=a['source'], second=b['source'], against=against) for a, b, against in disagreements(ranked, 2, by)]
        summary = dict(sources=ranked, by=by, label='lite1', disagree=pairs, target=dict(path='t.zip', resolution=64))
        said, command = suggestion(summary)
        assert command is None and said.startswith(f'Closest by {labelled(by, "lite1")}: {first}.')
        assert words in said and 'no command' in said and '--spider-source=SOURCE' in said

def test_a_contradiction_among_the_others_leaves_the_command():
    entries = [entry('best', (1, 0.1), fid=(1, 0.1)), entry('b', (9, 1), fid=(20, 1)), entry('c', (5, 1), fid=(30, 1))]
    ranked = rank(entries, 'fid')
    pairs = [dict(first=a['source'], second=b['source'], against=against) for a, b, against in disagreements(ranked, 2, 'fid')]
    assert [(pair['first'], pair['second']) for pair in pairs] == [('b.zip', 'c.zip')]
    summary = dict(sources=ranked, by='fid', label='', disagree=pairs, target=dict(path='t.zip', resolution=64))
    assert '--spider-source=best.zip' in suggestion(summary)[1]

#----------------------------------------------------------------------------
# The whole comparison.

def test_summary_holds_the_distances_of_its_features(sets):
    summary = run('a.zip', 'b.zip')
    load = lambda spec: compute_features(open_set(spec, max_images=100), Pooling(), 100, SetProgress(quiet=True)).values
    target, source = load('target.zip'), load('b.zip')
    found = next(e for e in summary['sources'] if e['name'] == 'b')
    assert found['sid']['value'] == sid(source, target).value and found['sid_back']['value'] == sid(target, source).value
    assert found['sid']['ci95'] == sid(source, target).ci95 and len(found['sid']['curve']) == 199
    assert found['fid'] == vars(fid(Moments(source), Moments(target))) and found['kid'] == vars(kid(source, target))
    assert 'the source' in found['sid']['words'] and ' p ' not in found['sid']['words']
    assert summary['target'] == dict(name='target', source='target.zip', images=100, of=100, path='target.zip',
                                     resolution=16, features=12)
    assert set(summary['pictures']) == {'target.zip', 'a.zip', 'b.zip'}
    json.dumps(summary)

def test_a_subset_is_uniform_and_seeded(sets, make_zip):
    make_zip('large.zip', n=400, res=16, seed=9)
    whole = compute_features(open_set('large.zip', max_images=400), Pooling(), 400, SetProgress(quiet=True)).values
    part = compute_features(open_set('large.zip', max_images=150), Pooling(), 150, SetProgress(quiet=True)).values
    where = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in part]
    assert len(part) == 150 and where == sorted(where) and max(where) > 300 and len(set(np.diff(where))) > 2

def test_features_are_cached_by_content(sets, make_zip):
    detector = Pooling()
    run('a.zip', 'b.zip', detector=detector)
    assert sum(detector.looked) == 300
    (sets / 'a.zip').rename(sets / 'moved.zip')
    again = Pooling()
    summary = run('moved.zip', 'b.zip', 'c.zip', detector=again)
    assert sum(again.looked) == 100 and len(summary['sources']) == 3
    make_zip('b.zip', n=100, res=16, seed=77)
    run('b.zip', detector=again)
    assert sum(again.looked) == 200
    again.identity = 'another'
    run('b.zip', detector=again)
    assert sum(again.looked) == 400

def test_broken_cache_files_are_made_again(sets):
    first = run('a.zip')
    for path in (sets / 'cache').rglob('*.*'):
        if path.suffix in ('.npz', '.json'):
            path.write_bytes(path.read_bytes()[:100])
    detector = Pooling()
    assert run('a.zip', detector=detector) == first and sum(detector.looked) == 200

def test_an_interrupted_run_continues_where_it_stopped(sets):
    with pytest.raises(KeyboardInterrupt):
        run('a.zip', 'b.zip', 'c.zip', detector=Pooling(dies_after=5)) # Two batches a set: in the middle of b.
    assert len(list((sets / 'cache' / 'features').iterdir())) == 2 # And nothing half-written.
    detector = Pooling()
    summary = run('a.zip', 'b.zip', 'c.zip', detector=detector)
    assert sum(detector.looked) == 200
    assert summary == run('a.zip', 'b.zip', 'c.zip', detector=Pooling(dies_after=0))

def test_comparisons_are_cached(sets, monkeypatch):
    first = run('a.zip', 'b.zip')
    monkeypatch.setattr(neighbors, 'sid', None)
    assert run('b.zip', 'a.zip')['sources'] == first['sources']

def test_the_target_among_the_sources_is_left_out(sets):
    (sets / 'copy.zip').write_bytes((sets / 'target.zip').read_bytes())
    summary = run('copy.zip', 'a.zip')
    assert [e['name'] for e in summary['sources']] == ['a'] and 'copy.zip holds the same images' in summary['warnings'][0]

def test_all_kinds_of_source(sets, make_snapshot, make_zip):
    zipfile.ZipFile('a.zip').extractall('folder')
    np.savez('features.npz', features=np.random.default_rng(0).standard_normal((80, 12)))
    detector = Pooling()
    summary = run('folder', make_snapshot(res=16), 'features.npz', 'noise', 'covariance:b.zip', detector=detector, max_images=100)
    kinds = {e['name']: (e['kind'], e['images'], e['can_train']) for e in summary['sources']}
    assert kinds == {'folder': ('images', 100, True), 'network-snapshot-000001': ('generator', 100, True),
                     'features': ('features', 80, False), 'noise': ('procedural', 100, True),
                     'covariance of b': ('procedural', 100, True)}
    assert 'features.npz' not in summary['pictures'] and len(summary['pictures']) == 5
    assert sum(detector.looked) == 500

def test_names_of_the_catalogue(sets, monkeypatch):
    monkeypatch.setattr(features, 'resolve', lambda spec: {'cifar10': 'a.zip', 'mnist': 'target.zip'}.get(spec, spec))
    summary = run('cifar10', 'b.zip', target='mnist')
    assert {e['source'] for e in summary['sources']} == {'cifar10', 'b.zip'}
    assert '--data=target.zip' in suggestion(summary)[1]

def test_npz_files_need_no_detector(sets):
    rng = np.random.default_rng(0)
    for name, width in dict(t=1, narrow=0.7, wide=1.3).items():
        np.savez(f'{name}.npz', features=width * rng.standard_normal((300, 24)))
    summary = find_neighbors('t.npz', ['narrow.npz', 'wide.npz'], None, quiet=True)
    values = {e['name']: e['sid']['value'] for e in summary['sources']}
    assert values['narrow'] < 0 < values['wide'] and summary['detector'] is None and summary['pictures'] == {}
    assert suggestion(summary)[1] is None

def test_progress_shows_rate_and_time_left(capsys):
    progress = SetProgress(total=300, num_sets=2, seconds=-1)
    progress.skip(100, 'first', 'features from the cache')
    progress.start('second')
    progress.advance(50)
    text = capsys.readouterr().err
    assert 'first (1 of 2): 100 images, features from the cache' in text
    assert 'second (2 of 2): 150 of 300 images, ' in text and '/s, 0:0' in text and ' left' in text

#----------------------------------------------------------------------------
# Each error is one sentence, before any pass over images if possible.

def npz(path, features):
    np.savez(path, features=features)
    return str(path)

def refused(*sources, words, looked=0, **options):
    detector = options.pop('detector', None) or Pooling()
    with pytest.raises(SpiderError) as caught:
        run(*sources, detector=detector, **options)
    assert words in caught.value.message and '\n' not in caught.value.message
    assert sum(detector.looked) == looked

def test_missing_sets_are_refused(sets):
    refused('nowhere.zip', words='nowhere.zip does not exist')
    refused('nois', words='one of covariance, noise')
    refused('covariance:nowhere.zip', words='nowhere.zip does not exist')
    refused('a.zip', target='nowhere.zip', words='nowhere.zip does not exist')
    refused('a.zip', target='noise', words='--target=noise is not a dataset')
    refused('a.zip', 'b.zip', 'a.zip', words='a.zip is given twice')

def test_small_sets_are_refused(sets, make_zip):
    refused(make_zip('one.zip', n=1), words='one.zip has one image, too few')
    refused(make_zip('few.zip', n=9), words='few.zip has 9 images, too few')
    refused('a.zip', target='one.zip', words='one.zip has one image')
    refused(npz('few.npz', np.ones([4, 12])), words='the same for all its images')
    refused(npz('few.npz', np.random.rand(4, 12)), words='few.npz has 4 images')
    refused(npz('none.npz', np.ones([0, 12])), words='none.npz has no image')
    refused(npz('flat.npz', np.random.rand(80, 3)), words='3 feature dimensions are too few')

def test_files_without_features_are_refused(sets):
    refused(npz('ints.npz', np.ones([80, 12], dtype=int)), words='ints.npz: features must be floats')
    refused(npz('cube.npz', np.ones([80, 12, 2])), words='float64 [80, 12, 2]')
    np.savez('other.npz', other=np.ones([80, 12]))
    refused('other.npz', words='other.npz holds no array named features')
    np.save(open('plain.npz', 'wb'), np.ones([80, 12]))
    refused('plain.npz', words='plain.npz holds no array named features')
    (sets / 'broken.npz').write_bytes(b'PK\x03\x04 nothing')
    refused('broken.npz', words='broken.npz holds no array named features')
    buffer = io.BytesIO()
    np.savez(buffer, features=np.array([{}], dtype=object))
    (sets / 'objects.npz').write_bytes(buffer.getvalue())
    refused('objects.npz', words='objects.npz holds no array named features')

def test_sets_that_cannot_be_compared_are_refused(sets):
    bad = np.random.rand(80, 12)
    bad[3, 5] = np.nan
    refused(npz('nan.npz', bad), words='nan.npz hold NaN or infinity')
    refused(npz('constant.npz', np.full([80, 12], 2.5)), words='constant.npz are the same for all')
    refused(npz('wide.npz', np.random.rand(80, 13)), words='wide.npz has 13 features per image, but target.zip has 12')
    refused('noise', target=npz('t.npz', np.random.rand(80, 13)), words='noise has 12 features per image, but t.npz has 13')

def test_results_of_detectors_are_checked(sets):
    class Bad(Pooling):
        def __init__(self, change):
            super().__init__()
            self.change = change
        def __call__(self, images):
            return self.change(super().__call__(images))
    refused('a.zip', detector=Bad(lambda f: f * np.inf), words='target.zip hold NaN or infinity')
    refused('a.zip', detector=Bad(lambda f: f[:, :4]), words='4 feature dimensions are too few')
    refused('a.zip', detector=Bad(lambda f: f[0]), words='--detector gives [12] for 1 images')
    refused('a.zip', detector=Bad(lambda f: f * 0), words='target.zip are the same for all its images', looked=100)

#----------------------------------------------------------------------------
