"""Ranks sources by their distance to a target, to find the dataset to train from (`spider neighbors`).

Ranks of processes share the sets (neighbors/shards.py). Features and comparisons are kept in the cache as they are finished, and
each depends only on its sets, so that any number of processes, interrupted or not, arrives at the same numbers."""

import functools
import hashlib
import json

import torch

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir
from spider_plugin.files.html import png
from spider_plugin.files.progress import Progress
from spider_plugin.metrics.distances import Moments, fid, kid
from spider_plugin.metrics.sid import sid
from spider_plugin.neighbors.features import SetProgress, compute_features, open_set, probe
from spider_plugin.neighbors.ranking import disagreements, rank
from spider_plugin.neighbors.shards import Alone
from spider_plugin.neighbors.words import label_of, notes, warnings

FORMAT = 1      # Version of a cached comparison and of the code that decides its numbers.

#----------------------------------------------------------------------------

def find_neighbors(target, sources, detector, *, max_images=50000, by='fid', trust=False, crew=None, device='cpu', quiet=False):
    """Compare every source with the target, and return the summary for `spider neighbors`, or None on ranks > 0.

    target:     zip, folder, or .npz of features.
    sources:    specifications for `features.open_set`, without duplicates.
    detector:   as in `features.compute_features`; it is not used if all sets are .npz files.
    max_images: most images of a set that are used.
    by:         'fid', 'kid' or 'sid', the measure that ranks.
    trust:      unpickle generators as hosts do, which runs code that the file carries.
    crew:       this rank, `shards.crew()` within its context. None if it is the only one.
    device:     for the arithmetic on features, in float64.
    quiet:      print no progress on stderr.
    returns     dict(target, detector, label, by, sources, disagree, failed, warnings, notes, pictures). `failed` lists the
                sources that cannot be used, dict(source, why); if it is all of them, the error of the first is raised.
                `disagree` are pairs that another measure orders otherwise. `sources` are in the order of their 'rank';
                each has 'sid' (source || target), 'sid_back' (target || source), 'fid' and 'kid', dicts with 'value', 'ci95' and
                more. `pictures` are PNGs in base64 by specification; the other entries are for JSON.
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
            label     = label_of(self.detector),
            by        = by,
            sources   = ranked,
            disagree  = [dict(first=a['source'], second=b['source'], against=against)
                         for a, b, against in disagreements(ranked, features.values.shape[1], by)],
            failed    = failed,
            warnings  = [f'{source["source"]} was left out: {source["why"]}' for source in failed] +
                        warnings(ranked, entries, target, features.values.shape, by, label_of(self.detector)),
            notes     = notes(ranked, target),
            pictures  = pictures)

def _sid(p, q, *names):
    """Return the SID of p against q for JSON, with the meaning of its sign in words."""
    result = sid(p, q)
    return dict(value=result.value, ci95=result.ci95, r1=result.r1, location=result.location, spread=result.spread,
                radii=result.radii.tolist(), curve=result.curve.tolist(), words=result.explain(*names))

def _digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

#----------------------------------------------------------------------------
