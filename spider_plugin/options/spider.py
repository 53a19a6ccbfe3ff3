"""--spider-source and what goes with it: the generator of the config becomes one that is fed from an image source."""

import dataclasses
import json
import os

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.resume import resume_spider
from spider_plugin.options.types import Bank, Option, Pairs
from spider_plugin.snapshots.lineage import cascade_stages, describe_stages

#----------------------------------------------------------------------------
# Mapping kinds: the source's resolution unless --spider-size says otherwise (None: the target's), the smallest one that
# works, and the z_dim it needs (None: any).

@dataclasses.dataclass(frozen=True)
class MappingKind:
    size:     int | None
    min_size: int
    z_dim:    int | None = None

MAPPINGS = {
    'residual':    MappingKind(size=None, min_size=8),
    'paper-16x32': MappingKind(size=32,   min_size=4, z_dim=512),
    'paper-23x23': MappingKind(size=32,   min_size=4, z_dim=512),
    'encoder':     MappingKind(size=32,   min_size=8),
    'whitened':    MappingKind(size=32,   min_size=4),
}
for _name, _kind in MAPPINGS.items():
    registry.mappings.register(_name)(_kind)

#----------------------------------------------------------------------------

GROUP = 'Spider options'

OPTIONS = [
    Option('--spider-source',   str,    None,       '[ZIP|DIR|PKL|URL|NAME]', 'Feed G these images instead of noise: a '
           'dataset, a generator pickle, a name that `spider sources` lists, or noise, covariance:DATA, strokes, shapes', GROUP),
    Option('--spider-mapping',  str,    'residual', f'[{"|".join(MAPPINGS)}]', 'How the source enters G', GROUP),
    Option('--spider-size',     click.IntRange(min=1), None, 'INT', 'Resolution of the source images, a power of two  '
           '[default: the smaller of source and target for residual, at most 32 otherwise]', GROUP),
    Option('--spider-match',    click.Choice(['covariance', 'none']), None, '[covariance|none]', 'Move the images of a dataset '
           'source to the mean and covariance of --data  [default: covariance for residual, none otherwise]', GROUP),
    Option('--spider-skip',     click.Choice(['learned', 'fixed']), None, '[learned|fixed]', 'Factor of the source in pixels, 1 '
           'at first, in a residual  [default: learned in a fresh StyleGAN2 or dcgan; as it was with --resume]', GROUP),
    Option('--spider-noise',    click.FloatRange(min=0), 0.0, 'STD', 'Gaussian noise added to source images in [-1, 1]', GROUP),
    Option('--spider-bank',     Bank(), None,      '[INT|online]', 'Most source images; online runs a generator source '
           'for every batch  [default: all of a dataset, 16384 of a generator]', GROUP),
    Option('--spider-embed',    click.IntRange(min=0), 64, 'MIB', 'Source images that a snapshot carries, 0 for none', GROUP),
    Option('--spider-classes',  Pairs(), None,     'T:S,T:S', 'Class T of --data draws source images of class S, other '
           'classes draw from all  [default: each from its own, where there are equally many]', GROUP),
    Option('--spider-force',    bool,   False,      None,   'Resume a snapshot that was trained with another source', GROUP),
    Option('--trust-pickle',    bool,   False,      None,   'Unpickle the source generator as hosts do: this runs code '
           'that the file carries', GROUP),
]

#----------------------------------------------------------------------------

def apply_spider(c, options, host):
    from spider_plugin.sources.prepare import is_dataset, prepare_source
    name, target = options['spider_mapping'], host.target
    kind = registry.mappings.lookup(name, '--spider-mapping')
    own = registry.generators[options['cfg']] if options['cfg'] else None
    layers = None if own else host.generator()
    if own and not own.mappings:
        raise SpiderError(f'--spider-source cannot be used with --cfg={options["cfg"]}, which takes no source; leave it out.')
    if own and name not in own.mappings:
        raise SpiderError(f'--spider-mapping={name} cannot be used with --cfg={options["cfg"]}; use {" or ".join(own.mappings)}.')
    if own and kind.z_dim is not None:
        c['G_kwargs']['z_dim'] = kind.z_dim
    if layers is not None and kind.z_dim not in (None, layers.z_dim):
        raise SpiderError(f'--spider-mapping={name} needs z_dim {kind.z_dim}, but this generator has {layers.z_dim}; use '
                          f'{"residual" if layers.constant_input else "encoder"}.')
    if layers is not None and name == 'residual' and not layers.constant_input:
        raise SpiderError(f'--spider-mapping=residual needs a generator that starts from a constant 4x4 input, which '
                          f'{c["G_kwargs"]["class_name"]} is not: added to StyleGAN3 at fixed pixels, the source would end its '
                          'equivariance (docs/cascades.md); use --spider-mapping=encoder.')
    can_learn_skip = _can_learn_skip(options['spider_skip'], name, own, options['cfg'])
    size = options['spider_size']
    if size is not None and kind.size is None and size > target.resolution:
        raise SpiderError(f'--spider-size={size} is larger than the {target.resolution} pixels of --data; '
                          f'use {target.resolution} or less.')
    matched = options['spider_match']
    if matched is None:
        matched = 'covariance' if name == 'residual' and is_dataset(options['spider_source']) else 'none'
    source = prepare_source(
        options['spider_source'],
        size     = size,
        max_size = kind.size or target.resolution,
        bank     = options['spider_bank'],
        channels = target.channels if name == 'residual' or options['spider_source'] in registry.sources else None,
        match    = None if matched == 'none' else target.path,
        subset   = target.subset,
        trust    = options['trust_pickle'],
    )
    _check_source(source, name, kind, target, options['spider_classes'])
    classes = _source_classes(options['spider_classes'], source, target)
    gain, learned_before, resume_lines = resume_spider(c, options, source, classes, host)
    default = can_learn_skip if learned_before is None else learned_before
    learn_skip = dict(learned=True, fixed=False).get(options['spider_skip'], default)
    c['G_kwargs']['spider'] = dict(mapping=name, source=source.path, noise=options['spider_noise'],
                                   embed=options['spider_embed'], gain=gain, learn_skip=learn_skip)
    if classes is not None:
        c['G_kwargs']['spider']['classes'] = classes
    if own is None:
        from spider_plugin.bundles.source import spider_class_name
        c['G_kwargs']['class_name'] = spider_class_name(c['G_kwargs']['class_name'], layers.mapping)
    if layers is not None and name == 'residual':
        _compensate_path_length(c, source, layers, host.loss_keyword('pl_weight'))
    return _launch_lines(options, source, target) + resume_lines

def _can_learn_skip(wanted, mapping, own, cfg):
    can = mapping == 'residual' and (own is None or own.learn_skip)
    if wanted == 'learned' and not can:
        what = f'--cfg={cfg}' if mapping == 'residual' else f'--spider-mapping={mapping}'
        raise SpiderError(f'--spider-skip=learned cannot be used with {what}; leave it out.')
    return can

def _check_source(source, name, kind, target, classes):
    if source.resolution < kind.min_size:
        raise SpiderError(f'--spider-mapping={name} needs source images of at least {kind.min_size} pixels, not '
                          f'{source.resolution}; choose a larger --spider-size or another --spider-source.')
    if classes is None and target.label_dim > 0 and source.num_classes > 0 and source.num_classes != target.label_dim:
        raise SpiderError(f'--spider-source has {source.num_classes} classes, but --data has {target.label_dim}; give them '
                          'equally many, say which draws from which with --spider-classes, or drop --cond.')

def _source_classes(pairs, source, target):
    """The source class of each target class, -1 where none is given: then it draws from all images. None without the option."""
    if pairs is None:
        return None
    if target.label_dim == 0 or source.num_classes == 0:
        what = '--data has none here: pass --cond' if target.label_dim == 0 else '--spider-source has none: leave it out'
        raise SpiderError(f'--spider-classes needs classes, and {what}.')
    with open(os.path.join(source.path, 'bank.json'), encoding='utf-8') as file:
        there = set(json.load(file)['labels'])
    classes = [-1] * target.label_dim
    for own, theirs in pairs:
        if own >= target.label_dim:
            raise SpiderError(f'--spider-classes={own}:{theirs}: --data has the classes 0 to '
                              f'{target.label_dim - 1}; name one of them.')
        if theirs not in there:
            raise SpiderError(f'--spider-classes={own}:{theirs}: --spider-source has no image of class {theirs}; name one of its '
                              f'{len(there)} classes.')
        classes[own] = theirs
    return classes

# Path length regularisation takes a mean over the rows of ws. Rows that carry a key have no gradient: the squared lengths
# shrink by n / (n + k), and so does the penalty, which the weight makes up for.

def _compensate_path_length(c, source, layers, pl_weight):
    from spider_plugin.portable.source.key import key_slots
    slots = key_slots(_key_dim(source), layers.w_dim)
    if pl_weight:
        c['loss_kwargs']['pl_weight'] = pl_weight * (layers.num_ws + slots) / layers.num_ws

def _key_dim(source):
    if not source.online:
        return 2
    with open(os.path.join(source.path, 'generator.json'), encoding='utf-8') as file:
        return json.load(file)['z_dim'] + 1

#----------------------------------------------------------------------------
# What the launch log says.

def _launch_lines(options, source, target):
    image_bytes = source.channels * source.resolution ** 2
    count = min(source.num_images, (options['spider_embed'] << 20) // image_bytes)
    what = f'{count} of them, {count * image_bytes / 2 ** 20:.1f} MiB' if count else 'none of them: without this ' \
           'directory they draw from the mean image'
    online = ', for snapshots only: the generator runs for every batch' if source.online else ''
    lines = [f'{name + ":":<21s}{value}' for name, value in (
        ('Spider source',       source.identity['name']),
        ('Spider images',       source.identity['transform'] + online),
        ('Spider resolution',   f'{source.resolution} x {source.resolution}, {source.channels} channels'),
        ('Spider licence',      source.identity['licence']),
        ('Spider mapping',      options['spider_mapping']),
        ('Snapshots carry',     what))]
    stages = cascade_stages(source.identity, options['spider_source'])
    if 'latents' in stages[0]:
        lines.insert(1, f'{"Spider cascade:":<21s}this generator <- {describe_stages(stages)}')
    if os.path.realpath(options['spider_source']) == os.path.realpath(target.path):
        lines.append('Warning: --spider-source is the same as --data, so the task is to copy it.')
    return lines

#----------------------------------------------------------------------------
