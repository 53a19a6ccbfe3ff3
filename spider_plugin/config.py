"""Our training options, and the edit each makes to a host's config.

Options are read in the parent process. The edit leaves only class names and JSON values in the config `c`, so that the
host itself prints and saves what will run, and its spawned ranks get it. What a user can get wrong is said here, before
training starts."""

import dataclasses
import json
import os

import click

from spider_plugin import registry
from spider_plugin.errors import UserError

#----------------------------------------------------------------------------
# Values of --cfg beside a host's own. Rates are those of the tuned baseline; --glr and --dlr win over them.

CFG_PRESETS = {
    'dcgan': dict(z_dim=100, glr=2e-3, dlr=2e-2, betas=[0.5, 0.99]),
}

# Mapping kinds: the source's resolution unless --spider-size says otherwise (None: the target's), the smallest one that
# works, and the z_dim it needs (None: any).

@dataclasses.dataclass(frozen=True)
class MappingKind:
    size:     int | None
    min_size: int
    z_dim:    int | None = None

_MAPPINGS = {
    'residual':    MappingKind(size=None, min_size=8),
    'paper-16x32': MappingKind(size=32,   min_size=4, z_dim=512),
    'paper-23x23': MappingKind(size=32,   min_size=4, z_dim=512),
    'encoder':     MappingKind(size=32,   min_size=8),
    'whitened':    MappingKind(size=32,   min_size=4),
}
for _name, _kind in _MAPPINGS.items():
    registry.mappings.register(_name)(_kind)

#----------------------------------------------------------------------------
# The options.

class _Bank(click.ParamType):
    name = 'bank'

    def convert(self, value, param, ctx):
        if isinstance(value, int) or value == 'online':
            return value
        if value.isdigit() and int(value) > 0:
            return int(value)
        self.fail(f'{value!r} is neither a number of images nor "online".', param, ctx)

@dataclasses.dataclass(frozen=True)
class Option:
    name:    str
    type:    object
    default: object
    metavar: str | None
    help:    str
    group:   str = 'Spider options'

    @property
    def key(self):
        return self.name.lstrip('-').replace('-', '_')

OPTIONS = [
    Option('--spider-source',   str,    None,       '[ZIP|DIR|PKL|URL|NAME]', 'Feed G these images instead of noise: a '
           'dataset, a generator pickle, a name that `spider sources` lists, or noise, covariance:DATA, strokes, shapes'),
    Option('--spider-mapping',  str,    'residual', f'[{"|".join(_MAPPINGS)}]', 'How the source enters G'),
    Option('--spider-size',     click.IntRange(min=1), None, 'INT', 'Resolution of the source images, a power of two  '
           '[default: the smaller of source and target for residual, at most 32 otherwise]'),
    Option('--spider-noise',    click.FloatRange(min=0), 0.0, 'STD', 'Gaussian noise added to source images in [-1, 1]'),
    Option('--spider-bank',     _Bank(), None,      '[INT|online]', 'Most source images; online runs a generator source '
           'for every batch  [default: all of a dataset, 16384 of a generator]'),
    Option('--spider-embed',    click.IntRange(min=0), 64, 'MIB', 'Source images that a snapshot carries, 0 for none'),
    Option('--spider-force',    bool,   False,      None,   'Resume a snapshot that was trained with another source'),
    Option('--trust-pickle',    bool,   False,      None,   'Unpickle the source generator as hosts do: this runs code '
           'that the file carries'),
]

#----------------------------------------------------------------------------

def apply_options(c, options, *, given, host):
    """Edits a host's config in place; returns the lines that the launch log shall have.

    c:        the config, a dict that the host is about to print and save.
    options:  {key: value} of every entry of OPTIONS, and `cfg`: a name in registry.generators, or None for a host's own.
    given:    the parameter names, ours and the host's, that the user set.
    host:     answers questions about the host (hosts/capabilities.py): target, generator(), loss_keyword(name), local_file(path).
    Raises UserError."""
    if options['cfg'] is not None:
        registry.generators[options['cfg']](c, given, host)
    lines = []
    if options['spider_source'] is not None:
        lines = _apply_spider(c, options, host)
    elif lonely := [option.name for option in OPTIONS if option.key in given]:
        raise UserError(f'{lonely[0]} has no effect without --spider-source; give a source of images, or leave it out.')
    return lines + _resume_from_what_fits(c, options, host)

#----------------------------------------------------------------------------
# --cfg=dcgan. The loss runs without path length and style mixing, which need a style for each layer.

_NOT_FOR_DCGAN = {'map_depth': '--map-depth', 'freezed': '--freezed', 'style_mixing': '--style-mixing',
                  'pl_weight': '--pl-weight'}

@registry.generators.register('dcgan')
def _apply_dcgan(c, given, host):
    from spider_plugin.networks.dcgan import dcgan_resolutions
    if host.loss_keyword('style_mixing_prob') is None:
        raise UserError(f'--cfg=dcgan needs the loss of StyleGAN2, and this host trains with {c["loss_kwargs"]["class_name"]}; '
                        'use a configuration of its own.')
    for key in sorted(given & set(_NOT_FOR_DCGAN)):
        raise UserError(f'{_NOT_FOR_DCGAN[key]} has no effect with --cfg=dcgan; leave it out.')
    try:
        dcgan_resolutions(host.target.resolution)
    except ValueError as error:
        raise UserError(f'--cfg=dcgan cannot draw the images of --data: {error}; resize them.') from error
    preset, stock, new = CFG_PRESETS['dcgan'], c['D_kwargs'], type(c['G_kwargs'])
    sizes = {key: stock[key] for key, option in (('channel_base', 'cbase'), ('channel_max', 'cmax')) if option in given}
    c['G_kwargs'] = new(class_name='spider_plugin.bundles.dcgan.DCGANGenerator', z_dim=preset['z_dim'], **sizes)
    c['D_kwargs'] = new(class_name='spider_plugin.bundles.dcgan.DCGANDiscriminator', **sizes)
    if 'mbstd_group' in given:
        c['D_kwargs']['mbstd_group_size'] = stock['epilogue_kwargs']['mbstd_group_size']
    for network, option in (('G', 'glr'), ('D', 'dlr')):
        c[f'{network}_opt_kwargs']['betas'] = list(preset['betas'])
        if option not in given:
            c[f'{network}_opt_kwargs']['lr'] = preset[option]
    c['loss_kwargs'].update(style_mixing_prob=0, pl_weight=0)
    c['G_reg_interval'] = None

#----------------------------------------------------------------------------
# --spider-source and what goes with it.

def _apply_spider(c, options, host):
    from spider_plugin.sources.prepare import prepare_source
    name, target = options['spider_mapping'], host.target
    kind = registry.mappings.lookup(name, '--spider-mapping')
    dcgan = options['cfg'] == 'dcgan'
    layers = None if dcgan else host.generator()
    if dcgan and name != 'residual':
        raise UserError(f'--spider-mapping={name} needs a mapping network, which --cfg=dcgan lacks; use residual.')
    if layers is not None and kind.z_dim not in (None, layers.z_dim):
        raise UserError(f'--spider-mapping={name} needs z_dim {kind.z_dim}, but this generator has {layers.z_dim}; use '
                        f'{"residual" if layers.constant_input else "encoder"}.')
    if layers is not None and name == 'residual' and not layers.constant_input:
        raise UserError(f'--spider-mapping=residual needs a generator that starts from a constant 4x4 input, which '
                        f'{c["G_kwargs"]["class_name"]} is not; use --spider-mapping=encoder.')
    size = options['spider_size']
    if size is not None and kind.size is None and size > target.resolution:
        raise UserError(f'--spider-size={size} is larger than the {target.resolution} pixels of --data; '
                        f'use {target.resolution} or less.')
    source = prepare_source(
        options['spider_source'],
        size     = size,
        max_size = kind.size or target.resolution,
        bank     = options['spider_bank'],
        channels = target.channels if name == 'residual' or options['spider_source'] in registry.sources else None,
        trust    = options['trust_pickle'],
    )
    _check_source(source, name, kind, target)
    gain, resume_lines = _resume(c, options, source, host)
    c['G_kwargs']['spider'] = dict(mapping=name, source=source.path, noise=options['spider_noise'],
                                   embed=options['spider_embed'], gain=gain)
    if not dcgan:
        from spider_plugin.io.bundler import spider_class_name
        c['G_kwargs']['class_name'] = spider_class_name(c['G_kwargs']['class_name'], layers.mapping)
    if layers is not None and name == 'residual':
        _compensate_path_length(c, source, layers, host.loss_keyword('pl_weight'))
    return _launch_lines(options, source, target) + resume_lines

def _check_source(source, name, kind, target):
    if source.resolution < kind.min_size:
        raise UserError(f'--spider-mapping={name} needs source images of at least {kind.min_size} pixels, not '
                        f'{source.resolution}; choose a larger --spider-size or another --spider-source.')
    if target.label_dim > 0 and source.num_classes > 0 and source.num_classes != target.label_dim:
        raise UserError(f'--spider-source has {source.num_classes} classes, but --data has {target.label_dim}; give them '
                        'equally many, or drop --cond.')

# Path length regularisation takes a mean over the rows of ws. Rows that carry a key have no gradient: the squared lengths
# shrink by n / (n + k), and so does the penalty, which the weight makes up for.

def _compensate_path_length(c, source, layers, pl_weight):
    from spider_plugin.sources.key import key_slots
    slots = key_slots(_key_dim(source), layers.w_dim)
    if pl_weight:
        c['loss_kwargs']['pl_weight'] = pl_weight * (layers.num_ws + slots) / layers.num_ws

def _key_dim(source):
    if not source.online:
        return 2
    with open(os.path.join(source.path, 'generator.json'), encoding='utf-8') as file:
        return json.load(file)['z_dim'] + 1

#----------------------------------------------------------------------------
# --resume: a snapshot continues with the source it was trained with; a stock generator starts as it is.

def _resume(c, options, source, host):
    """(gain of the residual, lines for the launch log)."""
    if c.get('resume_pkl') is None:
        return 1.0, []
    spider, identity = _resumed_spider(host.local_file(c['resume_pkl']), options['trust_pickle'])
    if spider is None:
        if options['spider_mapping'] != 'residual':
            return 1.0, []
        return 0.0, ['Spider resume:       a stock generator, so the source starts at gain 0 and the images as they were']
    for what, before, now in (('mapping', spider['mapping'], options['spider_mapping']),
                              ('source', _describe(identity), _describe(source.identity))):
        if before != now and not options['spider_force']:
            raise UserError(f'--resume={c["resume_pkl"]} was trained with the {what} {before}, not {now}; give that one, or '
                            'pass --spider-force.')
    return spider.get('gain', 1.0), []

def _resume_from_what_fits(c, options, host):
    """Points the host at a pickle of the tensors that fit; lines for the launch log."""
    if c.get('resume_pkl') is None:
        return []
    from spider_plugin.io.rebuild import unpickle
    from spider_plugin.io.restricted import read_pickle
    from spider_plugin.io.resume import convert
    path = host.local_file(c['resume_pkl'])
    contents = unpickle(path) if options['trust_pickle'] else read_pickle(path)
    lines = [f'{"Resume from:":<21s}{c["resume_pkl"]}']
    c['resume_pkl'], plans = convert(path, contents, host.networks())
    return lines + [f'{"":<21s}{plan.line()}' for plan in plans.values()]

def _resumed_spider(path, trust):
    """(the `spider` argument of the pickled generator, its source's identity); (None, None) for a stock generator."""
    from spider_plugin.io.rebuild import embedded_bank_state, load_generator
    from spider_plugin.io.restricted import generator_record
    if trust:
        generator = load_generator(path, trust=True)
        spider, identity = getattr(generator, 'init_kwargs', {}).get('spider'), generator.__dict__.get('source')
        return spider, identity and identity.identity
    record = generator_record(path)
    state = embedded_bank_state(record)
    return record.init_kwargs.get('spider'), state and state['identity']

def _describe(identity):
    return '{name} ({transform}, sha256 {sha256:.12})'.format(**identity)

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
    if os.path.realpath(options['spider_source']) == os.path.realpath(target.path):
        lines.append('Warning: --spider-source is the same as --data, so the task is to copy it.')
    return lines

#----------------------------------------------------------------------------
