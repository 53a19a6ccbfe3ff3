"""What `spider neighbors` says about a ranking: warnings, notes, and which source to train from.

Scores alone are those of Inception, as published ones are; beside those of another detector stands its name."""

import shlex

from spider_plugin.neighbors.features import FACTOR, LEAST, RENDERS
from spider_plugin.neighbors.ranking import FEW, disagreements

SAID = 4    # Most warnings of disagreement that are printed; the rest are counted.

#----------------------------------------------------------------------------

def label_of(detector):
    """Return the name that stands beside the scores of a detector, '' for Inception; None: features from files."""
    return '.npz' if detector is None else getattr(detector, 'label', detector.name)

def labelled(measure, label):
    """Return what to call a measure with the label of its detector: 'FID (lite1)'."""
    name = dict(sid='|SID|', fid='FID', kid='KID').get(measure, measure)
    return f'{name} ({label})' if label else name

def warnings(ranked, entries, target, shape, by, label):
    """Return sentences on the limits of this ranking; shape is [images, dimensions] of the target's features."""
    call = lambda measure: labelled(measure, label)
    found = [f'{entry["source"]} holds the same images as the target and was left out.'
             for entry in entries if entry['is_target']]
    against = {}
    for a, b, measures in disagreements(ranked, shape[1], by):
        against.setdefault(a['source'], (a, {}))[1].setdefault(tuple(measures), []).append(b)
    for a, groups in list(against.values())[:SAID]:
        said = ', '.join(f'before {_listed([b["name"] for b in behind])} where {" and ".join(map(call, measures))} '
                         f'{"put" if len(measures) > 1 else "puts"} it behind' for measures, behind in groups.items())
        cancelled = [a] if by == 'sid' else [b for measures, behind in groups.items() if 'sid' in measures for b in behind]
        why = ''.join(f' {entry["name"]} lies off the target (location {entry["sid"]["location"]:.4g}) but is narrower (spread '
                      f'{entry["sid"]["spread"]:+.4g}), and SID adds the two.' for entry in cancelled[:SAID]
                      if entry['sid']['spread'] < 0 < entry['sid']['location'])
        found.append(f'{call(by)} puts {a["name"]} {said}.{why}')
    if len(against) > SAID:
        found.append(f'The measures disagree on {len(against) - SAID} more of the sources.')
    sizes = {target.name: shape[0]} | {entry['name']: entry['images'] for entry in ranked}
    small = [name for name, size in sizes.items() if size < FEW * shape[1]]
    if small and ranked:
        found.append(f'{call("fid")} is inflated where there are fewer than {FEW} images for each of the {shape[1]} features '
                     f'({_listed(small)}); {call("kid")} and {call("sid")} are not.')
    return found

def notes(ranked, target):
    """Return sentences on what was done for this comparison."""
    drawn = [entry for entry in ranked if entry['kind'] in ('procedural', 'generator') and entry['images'] < RENDERS]
    if not drawn:
        return []
    return [f'{drawn[0]["images"]} images were drawn of {_listed([entry["name"] for entry in drawn])}: {FACTOR} for each of the '
            f'{target.num_images} of the target, but at least {LEAST} and at most --max-images.']

def _listed(names, most=3):
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')

def suggestion(summary, train=('spider', 'train')):
    """Return (a sentence on the best sources, the command that trains from one of them).

    The command is None where nothing can be trained from, and where another measure puts another source before the best one.
    train:  words of the command that starts the host's train.py."""
    best = [entry for entry in summary['sources'] if entry['rank'] == 1]
    able = sorted((entry for entry in best if entry['can_train']), key=lambda entry: entry['kid']['value'])
    call = lambda measure: labelled(measure, summary['label'])
    if not best:
        return 'There is nothing to rank.', None
    if len(best) == 1:
        words = f'Closest by {call(summary["by"])}: {best[0]["name"]}.'
    else:
        names = _listed([entry['name'] for entry in best], most=5)
        words = f'Closest by {call(summary["by"])} are {len(best)} sources whose intervals overlap: {names}.'
    if not able:
        return f'{words} Only its features are known; train from the images that they were computed from.', None
    if len(best) > 1:
        words += f' Of these, {able[0]["name"]} has the smallest {call("kid")}.'
    nearer = {}
    for pair in summary['disagree']:
        if pair['first'] == able[0]['source']:
            for measure in pair['against']:
                nearer.setdefault(measure, []).append(next(
                    entry['name'] for entry in summary['sources'] if entry['source'] == pair['second']))
    if nearer:
        others = ' and '.join(f'{call(measure)} puts {_listed(names)} before it' for measure, names in nearer.items())
        return (f'{words} But {others}. The measures contradict each other, so there is no command: train from each of these for '
                'a short time by --spider-source=SOURCE, and compare.'), None
    resolution = summary['target']['resolution']
    data = summary['target']['path'] or 'TARGET.zip'
    gamma = 0.0002 * resolution ** 2 / 32 if resolution else 1      # R1 weight as the hosts' --cfg=auto once chose it.
    options = ['--outdir=runs', '--cfg=stylegan2', f'--data={data}', '--gpus=1', '--batch=32', f'--gamma={gamma:.2g}',
               f'--spider-source={able[0]["source"]}']
    return words, shlex.join([*train, *options])

#----------------------------------------------------------------------------
