"""--spider-source and what goes with it: the generator of the config becomes one that is fed from an image source."""

import json
import os

import click

from spider_plugin import registry
from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.limits import MOST_CLASSES
from spider_plugin.options.discriminator import HINGE
from spider_plugin.options.generators import IMAGE, default_mapping, mapping_kinds, needed_package
from spider_plugin.options.mappings import BUILTIN
from spider_plugin.options.resume import describe, resume_spider
from spider_plugin.options.types import MOST_SIDE, Bank, Option, Pairs, Real, Whole, file_type
from spider_plugin.snapshots.lineage import cascade_stages, describe_stages

#----------------------------------------------------------------------------

GROUP = 'Spider options'

MATCHES = ['auto', 'none', '1', '2', '4', '8', '16', 'covariance']

OPTIONS = [
    Option('--spider-source',   file_type, None,    '[ZIP|DIR|PKL|URL|NAME]', 'Feed G these images instead of noise: a '
           'dataset, a generator pickle, a name that `spider sources` lists, or noise, covariance:DATA, strokes, shapes  '
           '[default: that of the snapshot in --resume, if it has one]', GROUP),
    Option('--spider-mapping',  str,    None,       f'[{"|".join(BUILTIN)}]', 'How the source enters G  [default: residual; '
           'encoder for StyleGAN3 and the FastGAN of a host; paper-16x32 for dcgan_paper; as it was with --resume]', GROUP),
    Option('--spider-size',     Whole(1, MOST_SIDE), None, 'INT', 'Resolution of the source images, a power of two  '
           '[default: the smaller of source and target for residual, at most 32 otherwise]', GROUP),
    Option('--spider-match',    click.Choice(MATCHES), None, f'[{"|".join(MATCHES)}]', 'Move the images of a dataset source to '
           'the mean and covariance of --data, seen at so many pixels; covariance is 16, auto the nearest of all  '
           '[default: auto for residual, none otherwise]', GROUP),
    Option('--spider-skip',     click.Choice(['learned', 'fixed']), None, '[learned|fixed]', 'Factor of the source in pixels, 1 '
           'at first, in a residual  [default: learned in a fresh StyleGAN2 or dcgan; as it was with --resume]', GROUP),
    Option('--spider-noise',    Real(0, 10), 0.0, 'STD', 'Gaussian noise added to source images in [-1, 1]', GROUP),
    Option('--spider-variety',  Real(0, 1), 0.0,    'SHARE', 'With --disc=projected: what another latent at one source image '
           'should change at least, as a share of what another source image changes', GROUP),
    Option('--spider-bank',     Bank(), None,      '[INT|online]', 'Most source images; online runs a generator source '
           'for every batch  [default: all of a dataset, 16384 of a generator]', GROUP),
    Option('--spider-embed',    Whole(0, 65536), 64, 'MIB', 'Source images that a snapshot carries, 0 for none', GROUP),
    Option('--spider-classes',  Pairs(MOST_CLASSES - 1, MOST_CLASSES - 1), None, 'T:S,T:S', 'Class T of --data draws '
           'source images of class S, other classes draw from all  [default: each from its own, where there are equally many]',
           GROUP),
    Option('--spider-force',    bool,   False,      None,   'Resume a snapshot that was trained with another source', GROUP),
    Option('--trust-pickle',    bool,   False,      None,   'Unpickle the source generator as hosts do: this runs code '
           'that the file carries', GROUP),
]

#----------------------------------------------------------------------------

def apply_spider(c, options, given, host, resumed):
    """Feed the config's generator from --spider-source, else from the source of the snapshot in `resumed`, whose mapping, noise,
    classes, share of embedded images and skip are kept where no option says otherwise; return lines for the launch log.

    given, host: see options/table.py. Raises SpiderError."""
    from spider_plugin.bundles.names import spider_class_name, with_mapping_kind
    from spider_plugin.portable.source.arguments import SpiderArguments
    declared = registry.generators[options['cfg']] if options['cfg'] else None
    layers = None if declared else host.generator()
    before = resumed and resumed.spider
    name, called = _mapping(options, before, declared, layers)
    kind = registry.mappings.lookup(name, '--spider-mapping')
    if declared:
        _check_declared(called, kind, declared, options['cfg'], before)
        if kind.z_dim is not None:
            c['G_kwargs']['z_dim'] = kind.z_dim
    else:
        _check_layers(called, kind, layers, c['G_kwargs']['class_name'])
    can_learn_skip = _can_learn_skip(options['spider_skip'], kind, called, declared, options['cfg'])
    source, source_lines = _source(options, given, kind, host.target, resumed, c.get('detector'))
    classes = _source_classes(options['spider_classes'], source, host.target)
    if classes is None and before and describe(resumed.bank['identity']) == describe(source.identity):
        classes = before.classes
    _check_source(source, called, kind, host.target, classes)
    gain, learned_before, resume_lines = resume_spider(resumed, options, name, source, classes)
    default = can_learn_skip if learned_before is None else learned_before
    learn_skip = dict(learned=True, fixed=False).get(options['spider_skip'], default)
    noise, embed = (getattr(before, key) if before and f'spider_{key}' not in given else options[f'spider_{key}']
                    for key in ('noise', 'embed'))
    spider = SpiderArguments(name, source.below_cache, noise, embed, gain, learn_skip, classes)
    c['G_kwargs']['spider'] = spider.json()
    if layers is not None:
        c['G_kwargs']['class_name'] = spider_class_name(c['G_kwargs']['class_name'], layers.mapping, layers.stylegan)
        if kind.needs == IMAGE:
            _check_path_length(c, called, host.loss_keyword('pl_weight'), fresh=gain > 0)
            _compensate_path_length(c, source, layers, host.loss_keyword('pl_weight'))
    try:
        c['G_kwargs']['class_name'] = with_mapping_kind(c['G_kwargs']['class_name'], name)
    except ValueError as error:
        raise SpiderError(f'{called} of another package cannot be used here, since {error}; use a mapping of the '
                          'plugin.') from error
    return _launch_lines(source, spider, host.target, options['spider_source'] or resumed.name) + source_lines + \
        _set_variety(c, options, kind, called, gain > 0 and declared) + needed_package(kind.module, called) + resume_lines

def _mapping(options, before, declared, layers):
    """(name of the mapping kind, what to call it in a message): as the user says, as before, or the default of the generator."""
    name = options['spider_mapping']
    if name is not None:
        return name, f'--spider-mapping={name}'
    if before:
        return before.mapping, f'the mapping {shown(before.mapping, 40)} of the snapshot in --resume'
    name = declared and declared.mapping or default_mapping((declared or layers).source)
    return name, f'--spider-source with the mapping {name}'

def _source(options, given, kind, target, resumed, detector):
    """(PreparedSource, lines for the launch log) of --spider-source, else of the snapshot that is resumed."""
    if options['spider_source'] is None:
        return _source_of_snapshot(given, kind, target, resumed)
    from spider_plugin.sources.match import STRONGEST
    from spider_plugin.sources.prepare import is_dataset, prepare_source
    size, matched = options['spider_size'], options['spider_match']
    if size is not None and kind.size is None and size > target.resolution:
        raise SpiderError(f'--spider-size={size} is larger than the {target.resolution} pixels of --data; '
                          f'use {target.resolution} or less.')
    if matched is None:
        matched = 'auto' if kind.match and is_dataset(options['spider_source']) else 'none'
    source = prepare_source(
        options['spider_source'],
        size     = size,
        max_size = kind.size or target.resolution,
        bank     = options['spider_bank'],
        channels = target.channels if kind.needs == IMAGE or options['spider_source'] in registry.sources else None,
        match    = None if matched == 'none' else target.path,
        strength = None if matched == 'auto' else int(matched) if matched.isdigit() else STRONGEST,
        like     = (resumed.bank or {}).get('identity') if resumed else None,
        subset   = target.subset,
        trust    = options['trust_pickle'],
        detector = detector,
    )
    return source, list(source.lines)

def _source_of_snapshot(given, kind, target, resumed):
    from spider_plugin.sources.continued import continue_source
    for key in ('spider_size', 'spider_match', 'spider_bank'):
        if key in given:
            raise SpiderError(f'--{key.replace("_", "-")} has no effect on the source of the snapshot in --resume, which is '
                              'prepared already; leave it out, or give --spider-source, too.')
    source, sentence = continue_source(resumed.bank, resumed.spider.source, resumed.name)
    if kind.needs == IMAGE and source.channels != target.channels:
        raise SpiderError(f'--resume={resumed.name} was trained with a source of {source.channels} channels, but --data has '
                          f'{target.channels}; resume it on images of its kind.')
    return source, [f'{"Spider resume:":<21s}{sentence}']

def _check_declared(called, kind, declared, cfg, before):
    if not declared.source:
        raise SpiderError(f'--cfg={cfg} takes no source, which the snapshot in --resume was trained with; resume it with its own '
                          '--cfg.' if before else
                          f'--spider-source cannot be used with --cfg={cfg}, which takes no source; leave it out.')
    if kind.needs not in declared.source:
        raise SpiderError(f'{called} cannot be used with --cfg={cfg}; use {" or ".join(mapping_kinds(declared.source))}.')

def _check_layers(called, kind, layers, class_name):
    if kind.z_dim not in (None, layers.z_dim):
        raise SpiderError(f'{called} needs z_dim {kind.z_dim}, but this generator has {layers.z_dim}; use '
                          f'--spider-mapping={default_mapping(layers.source)}.')
    if kind.needs not in layers.source:
        raise SpiderError(f'{called} needs a generator that starts from a constant 4x4 input, which {class_name} does not: added '
                          'to StyleGAN3 at fixed pixels, the source would end its equivariance (docs/cascades.md); use '
                          '--spider-mapping=encoder.')

def _can_learn_skip(wanted, kind, called, declared, cfg):
    can = kind.needs == IMAGE and (declared is None or declared.learn_skip)
    if wanted == 'learned' and not can:
        what = f'--cfg={cfg}' if kind.needs == IMAGE else called
        raise SpiderError(f'--spider-skip=learned cannot be used with {what}; leave it out.')
    return can

# The loss of --disc=projected has the term; the losses of hosts are theirs.

def _set_variety(c, options, kind, called, fresh):
    """Put --spider-variety into the loss; lines for the launch log. fresh: the declaration of a generator that starts at its
    source."""
    share = options['spider_variety']
    if share == 0:
        return []
    what = f'--spider-variety={share:g}'
    if kind.needs != IMAGE:
        raise SpiderError(f'{what} needs a latent beside the source image, which {called} does not leave; use '
                          '--spider-mapping=residual, or leave it out.')
    if fresh and not fresh.latent:
        raise SpiderError(f'{what} has no effect on --cfg={options["cfg"]}, whose residual draws one image for each source '
                          'image; use another --cfg, or leave it out.')
    if c['loss_kwargs']['class_name'] != HINGE:
        raise SpiderError(f'{what} needs the loss of --disc=projected; add that, or leave it out.')
    if c.get('batch_gpu', 2) == 1:
        raise SpiderError(f'{what} compares images of a batch, and --batch-gpu=1 leaves one; give 2 or more.')
    c['loss_kwargs']['variety'] = share
    return [f'{"Spider variety:":<21s}another latent changes an image by at least {share:g} of what another source image does']

def _check_source(source, called, kind, target, classes):
    if source.resolution < kind.min_size:
        raise SpiderError(f'{called} needs source images of at least {kind.min_size} pixels, not '
                          f'{source.resolution}; choose a larger --spider-size or another --spider-source.')
    if classes is None and target.label_dim > 0 and source.num_classes > 0 and source.num_classes != target.label_dim:
        raise SpiderError(f'The source has {source.num_classes} classes, but --data has {target.label_dim}; give them '
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
    for target_class, source_class in pairs:
        if target_class >= target.label_dim:
            raise SpiderError(f'--spider-classes={target_class}:{source_class}: --data has the classes 0 to '
                              f'{target.label_dim - 1}; name one of them.')
        if source_class not in there:
            raise SpiderError(f'--spider-classes={target_class}:{source_class}: --spider-source has no image of class '
                              f'{source_class}; name one of its {len(there)} classes.')
        classes[target_class] = source_class
    return classes

# An untrained residual does not depend on ws, so the lengths of its paths are 0, where their root has no derivative. Loops set
# what is not a number to 0: a gradient that is summed with that one in every iteration is lost, and stays so.

def _check_path_length(c, called, pl_weight, fresh):
    if fresh and pl_weight and c.get('G_reg_interval', 1) is None:
        raise SpiderError(f'{called} starts at its source images, whose path lengths have no gradient, and this run adds their '
                          'penalty to every iteration of G (G_reg_interval is None), which would never learn; give G an interval '
                          'of regularization, such as 4, or leave the penalty out (pl_weight 0).')

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
# Lines of the launch log.

def _launch_lines(source, spider, target, given):
    """given: the source, or the snapshot that has it, as the user wrote it."""
    image_bytes = source.channels * source.resolution ** 2
    count = min(source.num_images, (spider.embed << 20) // image_bytes)
    what = f'{count} of them, {count * image_bytes / 2 ** 20:.1f} MiB' if count else 'none of them: without this ' \
           'directory they draw from the mean image'
    online = ', for snapshots only: the generator runs for every batch' if source.online else ''
    lines = [f'{name + ":":<21s}{value}' for name, value in (
        ('Spider source',       source.identity['name']),
        ('Spider images',       source.identity['transform'] + online),
        ('Spider resolution',   f'{source.resolution} x {source.resolution}, {source.channels} channels'),
        ('Spider licence',      source.identity['licence']),
        ('Spider mapping',      spider.mapping),
        ('Snapshots carry',     what))]
    stages = cascade_stages(source.identity, given)
    if 'latents' in stages[0]:
        lines.insert(1, f'{"Spider cascade:":<21s}this generator <- {describe_stages(stages)}')
    if os.path.realpath(given) == os.path.realpath(target.path):
        lines.append('Warning: --spider-source is the same as --data, so the task is to copy it.')
    return lines

#----------------------------------------------------------------------------
