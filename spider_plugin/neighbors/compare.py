"""Ranks sources by their distance to a target, to find the dataset to train from (`spider neighbors`).

The rule of ranks. A source's score is |SID(source || target)|, or FID or KID (`by`), and has a 95% interval. (For |SID| it is
the interval of SID, mapped by |x|.) The sources are sorted by score, and a new rank begins where a source's interval lies above
the intervals of all sources before it. So two sources have different ranks only if their intervals are apart, and sources whose
intervals overlap, directly or by way of other sources, are tied; within a tie they are listed by name. The intervals of all
sources include the sampling of the one target, which makes ties a little more frequent than necessary.

Ranks of processes share the sets (neighbors/shards.py). Features and comparisons are kept in the cache as they are finished, and
each depends only on its sets, so that any number of processes, interrupted or not, arrives at the same numbers."""

import functools
import hashlib
import json
import shlex

import torch

from spider_plugin import detectors
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir
from spider_plugin.files.html import png
from spider_plugin.files.progress import Progress
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.metrics.sid import sid
from spider_plugin.neighbors.features import SetProgress, compute_features, open_set, probe
from spider_plugin.neighbors.shards import Alone

FORMAT   = 1                    # Version of a cached comparison and of the code that decides its numbers.
MEASURES = ('sid', 'fid', 'kid')
FEW      = 10                   # With fewer images for each feature dimension, the report says that FID is inflated.
SAID     = 4                    # Most warnings of disagreement that are printed; the rest are counted.

#----------------------------------------------------------------------------

def find_neighbors(target, sources, detector, *, max_images=50000, by='sid', trust=False, crew=None, device='cpu', quiet=False):
    """Compare every source with the target, and return the summary for `spider neighbors`, or None on ranks > 0.

    target:     zip, folder, or .npz of features.
    sources:    specifications for `features.open_set`, without duplicates.
    detector:   as in `features.compute_features`; it is not used if all sets are .npz files.
    max_images: most images of a set that are used.
    by:         'sid', 'fid' or 'kid', the measure that ranks.
    trust:      unpickle generators as hosts do, which runs code that the file carries.
    crew:       this rank, `shards.crew()` within its context. None if it is the only one.
    device:     for the arithmetic on features, in float64.
    quiet:      print no progress on stderr.
    returns     dict(target, detector, by, sources, disagree, failed, warnings, pictures). `failed` lists the sources that cannot
                be used, dict(source, why); if it is all of them, the error of the first is raised. `sources` are in the order of
                their 'rank'; each has 'sid' (source || target), 'sid_back' (target || source), 'fid' and 'kid', dicts with
                'value', 'ci95' and more. `pictures` are PNGs in base64 by specification; the other entries are for JSON.
    Raises SpiderError, as far as possible before the first pass over images."""
    crew = crew or Alone()
    job = Job(target, list(sources), detector, max_images, trust, crew, torch.device(device))
    counted = [found.num_images for index, found in job.sets.items() if index in job.own]
    job.look(SetProgress(sum(min(count, max_images) for count in counted), len(counted), quiet))
    comparing = Progress('Comparing', len(job.own), unit='sources')
    for done, index in enumerate(job.own):
        if index > 0:
            crew.share(f'result/{index}', job.compare(index))
        if not quiet:
            comparing.update(done + 1)
    return job.summarise(by, quiet) if crew.rank == 0 else None

class Job:
    """The work of one rank. Set 0 is the target, set i the i-th source; rank k owns the sets k, k + size, ..."""

    def __init__(self, target, sources, detector, max_images, trust, crew, device):
        if len(set(sources)) < len(sources):
            twice = next(spec for i, spec in enumerate(sources) if spec in sources[:i])
            raise SpiderError(f'{twice} is given twice; give each source once.')
        self.specs, self.max_images, self.detector = [target, *sources], max_images, detector
        self.crew, self.device = crew, device
        self.own = range(crew.rank, len(self.specs), crew.size)
        self.failed = {}        # Source -> why it is left out.
        like = open_set(target, max_images=max_images)
        self.sets = {0: like}
        for index in filter(None, self.own):
            self._unless_it_fails(index, lambda index=index: self.sets.update(
                {index: open_set(self.specs[index], max_images=max_images, like=like, trust=trust)}))
        self._agree_on_detector()
        self._agree_on_dimensions()
        if len(self.failed) == len(sources):
            raise SpiderError(next(iter(self.failed.values())))
        crew.meet('opened')     # Errors of any rank that can be found before the work end all ranks here.

    def _unless_it_fails(self, index, work):
        """Return work() for a source that has not failed. One that fails is left out, and None is returned."""
        if index in self.failed:
            return None
        try:
            return work()
        except SpiderError as error:
            # Prepared sources are those of training, where they have an option.
            self.failed[index] = error.message.replace('--spider-source=', '').replace('--spider-source', self.specs[index])
            self.sets.pop(index, None)
            return None

    def _agree_on_detector(self):
        """Check that all ranks have the same detector. Rank 0 looks it up first, so that only one rank downloads it."""
        if all(spec.endswith('.npz') for spec in self.specs):
            self.detector = None
        elif self.crew.rank == 0:
            self.crew.share('detector', self.detector.identity)
        elif self.crew.wait('detector', 0) != self.detector.identity:
            raise SpiderError('--detector is not the same file here as on rank 0; give all machines the same one.')

    def _agree_on_dimensions(self):
        """Check on one image of each set that the detector gives the same number of features for all sets."""
        wanted = probe(self.sets[0], self.detector, self.sets[0])
        def check(index):
            dim = probe(self.sets[index], self.detector, self.sets[0])
            if dim != wanted:
                raise SpiderError(f'{self.specs[index]} has {dim} features per image, but {self.specs[0]} has {wanted}; '
                                  'take both from one detector.')
        for index in filter(None, list(self.sets)):
            self._unless_it_fails(index, lambda index=index: check(index))

    def look(self, progress):
        """Compute the features of this rank's sets that the cache lacks."""
        for index in self.own:
            compute = lambda index=index: compute_features(self.sets[index], self.detector, self.max_images, progress)
            if index == 0:
                self.crew.share('target', compute().identity)
            else:
                self._unless_it_fails(index, compute)

    #------------------------------------------------------------------------

    def _features(self, index):
        return compute_features(self.sets[index], self.detector, self.max_images, SetProgress(quiet=True))

    @functools.cached_property
    def _target(self):
        """(Features, Moments) of the target, once rank 0 has them. A machine with another cache computes them again."""
        expected = self.crew.wait('target', 0)
        features = self._features(0)
        if features.identity != expected:
            raise SpiderError(f'--target={self.specs[0]} is not the same set here as on rank 0; give all machines the same one.')
        return features, Moments(features.values, self.device)

    def compare(self, index):
        """Return the source's entry in the summary and its small pictures, dict(entry, picture); dict(failed), the reason, where
        it is left out."""
        return self._unless_it_fails(index, lambda: self._compare(index)) or dict(failed=self.failed[index])

    def _compare(self, index):
        (target, moments), source, found = self._target, self._features(index), self.sets[index]
        entry = dict(name=found.name, source=found.spec, kind=found.kind, images=len(source.values), of=found.num_images,
                     can_train=found.trains, is_target=source.identity == target.identity)
        if not entry['is_target']:
            entry |= self._distances(source, target, moments)
        return dict(entry=entry, picture=png(source.samples) if len(source.samples) else None)

    def _distances(self, source, target, moments):
        path = cache_dir('neighbors') / f'{_digest(FORMAT, source.identity, target.identity)[:32]}.json'
        try:
            return json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            pass
        p, q = [torch.from_numpy(features.values).to(self.device) for features in (source, target)]
        distances = dict(sid=_sid(p, q, 'the source', 'the target'), sid_back=_sid(q, p, 'the target', 'the source'),
                         fid=vars(fid(Moments(source.values, self.device), moments)), kid=vars(kid(p, q, self.device)))
        with atomic_file(path) as temp:
            temp.write_text(json.dumps(distances), encoding='utf-8')
        return distances

    #------------------------------------------------------------------------

    def summarise(self, by, quiet):
        """Collect the results of all ranks on rank 0, and return the summary."""
        progress = Progress('Collecting', len(self.specs) - 1, unit='sources')
        results = []
        for index in range(1, len(self.specs)):
            results.append(self.crew.wait(f'result/{index}', index % self.crew.size))
            if not quiet:
                progress.update(index)
        target, features = self.sets[0], self._target[0]
        failed = [dict(source=spec, why=result['failed']) for spec, result in zip(self.specs[1:], results)
                  if 'failed' in result]
        results = [result for result in results if 'failed' not in result]
        if failed and not results:
            raise SpiderError(failed[0]['why'])
        entries = [result['entry'] for result in results]
        pictures = {entry['source']: result['picture'] for entry, result in zip(entries, results) if result['picture']}
        if len(features.samples):
            pictures[target.spec] = png(features.samples)
        ranked = rank([entry for entry in entries if not entry['is_target']], by)
        return dict(
            target    = dict(name=target.name, source=target.spec, images=len(features.values), of=target.num_images,
                             path=target.path, resolution=target.resolution, features=features.values.shape[1]),
            detector  = self.detector and dict(
                name=self.detector.name, sha256=self.detector.identity, about=getattr(self.detector, 'about', '')),
            by        = by,
            sources   = ranked,
            disagree  = [dict(sid_first=a['source'], sid_second=b['source'], against=against)
                         for a, b, against in disagreements(ranked, features.values.shape[1])],
            failed    = failed,
            warnings  = [f'{source["source"]} was left out: {source["why"]}' for source in failed] +
                        warnings(ranked, entries, target, features.values.shape),
            pictures  = pictures)

def _sid(p, q, *names):
    """Return the SID of p against q for JSON, with the meaning of its sign in words."""
    result = sid(p, q)
    return dict(value=result.value, ci95=result.ci95, r1=result.r1, location=result.location, spread=result.spread,
                radii=result.radii.tolist(), curve=result.curve.tolist(), words=result.explain(*names))

def _digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

#----------------------------------------------------------------------------
# Order.

def interval(entry, by):
    """Return (score, lowest, highest) of a source by |SID|, FID or KID."""
    value, half = entry[by]['value'], entry[by]['ci95']
    low, high = value - half, value + half
    if by != 'sid':
        return value, low, high
    return abs(value), max(low, -high, 0), max(high, -low)

def rank(entries, by):
    """Return the entries with 'rank' and 'tied' added, in the order of their rank, by the rule above."""
    ties, reach = [], None
    for entry in sorted(entries, key=lambda entry: interval(entry, by)[0]):
        _, low, high = interval(entry, by)
        if reach is None or low > reach:
            ties.append([])
        ties[-1].append(entry)
        reach = high if reach is None else max(reach, high)
    ranked = []
    for tie in ties:
        first = len(ranked) + 1
        ranked += [dict(entry, rank=first, tied=len(tie) > 1) for entry in sorted(tie, key=lambda entry: entry['source'])]
    return ranked

def disagreements(entries, dim):
    """Return [(a, b, measures)] where SID puts a before b and the measures put b before a, all by intervals that are apart.

    Few images inflate FID. So FID does not count against an `a` that has fewer images than b, and fewer than 10 for each of
    the dim features."""
    bounds = [{by: interval(entry, by)[1:] for by in MEASURES} for entry in entries]
    before = lambda i, j, by: bounds[i][by][1] < bounds[j][by][0]
    fair = lambda a, b, by: by != 'fid' or a['images'] >= min(b['images'], FEW * dim)
    found = []
    for i, a in enumerate(entries):
        for j, b in enumerate(entries):
            if before(i, j, 'sid') and (against := [
                    by for by in ('fid', 'kid') if before(j, i, by) and fair(a, b, by)]):
                found.append((a, b, against))
    return found

#----------------------------------------------------------------------------
# Words.

def warnings(ranked, entries, target, shape):
    """Return sentences on the limits of this ranking; shape is [images, dimensions] of the target's features."""
    found = [f'{entry["source"]} holds the same images as the target and was left out.'
             for entry in entries if entry['is_target']]
    against = {}
    for a, b, measures in disagreements(ranked, shape[1]):
        against.setdefault(a['source'], (a, {}))[1].setdefault(' and '.join(map(str.upper, measures)), []).append(b['name'])
    for a, groups in list(against.values())[:SAID]:
        said = ', '.join(f'before {_listed(names)} where {measures} {"put" if " " in measures else "puts"} it behind'
                         for measures, names in groups.items())
        location, spread = a['sid']['location'], a['sid']['spread']
        why = (f' {a["name"]} lies off the target (location {location:.4g}) but is narrower (spread {spread:+.4g}), and SID adds '
               'the two.' if spread < 0 < location else '')
        found.append(f'SID puts {a["name"]} {said}.{why}')
    if len(against) > SAID:
        found.append(f'The measures disagree on {len(against) - SAID} more of the sources.')
    sizes = {target.name: shape[0]} | {entry['name']: entry['images'] for entry in ranked}
    small = [name for name, size in sizes.items() if size < FEW * shape[1]]
    if small and ranked:
        found.append(f'FID is inflated where there are fewer than {FEW} images for each of the {shape[1]} features '
                     f'({_listed(small)}); KID and SID are not.')
    return found

def _listed(names, most=3):
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')

def suggestion(summary, train=('spider', 'train')):
    """Return (a sentence on the best sources, the command that trains from one of them, or None).

    train:  words of the command that starts the host's train.py."""
    best = [entry for entry in summary['sources'] if entry['rank'] == 1]
    able = sorted((entry for entry in best if entry['can_train']), key=lambda entry: entry['kid']['value'])
    label = lambda score: detectors.label(score, (summary.get('detector') or {}).get('name'))
    measure = label(dict(sid='|SID|', fid='FID', kid='KID')[summary['by']])
    if not best:
        return 'There is nothing to rank.', None
    if len(best) == 1:
        words = f'Closest by {measure}: {best[0]["name"]}.'
    else:
        names = _listed([entry['name'] for entry in best], most=5)
        words = f'Closest by {measure} are {len(best)} sources whose intervals overlap: {names}.'
    if not able:
        return f'{words} Only its features are known; train from the images that they were computed from.', None
    if len(best) > 1:
        words += f' Of these, {able[0]["name"]} has the smallest {label("KID")}.'
    resolution = summary['target']['resolution']
    data = summary['target']['path'] or 'TARGET.zip'
    gamma = 0.0002 * resolution ** 2 / 32 if resolution else 1      # R1 weight as the hosts' --cfg=auto once chose it.
    options = ['--outdir=runs', '--cfg=stylegan2', f'--data={data}', '--gpus=1', '--batch=32', f'--gamma={gamma:.2g}',
               f'--spider-source={able[0]["source"]}']
    return words, shlex.join([*train, *options])

#----------------------------------------------------------------------------
