"""Our training options, and the edit each makes to a host's config.

Options are read in the parent process. The edit leaves only class names and JSON values in the config `c`, so that the
host itself prints and saves what will run, and its spawned ranks get it. What a user can get wrong is said here, before
training starts."""

import dataclasses
import re

import click

from spider_plugin import registry
from spider_plugin.edits import dcgan, fastgan  # noqa: F401  # registers
from spider_plugin.edits.disc import apply_disc
from spider_plugin.edits.dsc import apply_layers
from spider_plugin.edits.pggan import LOSSES, apply_progressive
from spider_plugin.edits.recompute import apply_recompute
from spider_plugin.edits.resume import resume_from_what_fits
from spider_plugin.edits.spider import MAPPINGS, apply_spider
from spider_plugin.errors import UserError

#----------------------------------------------------------------------------
# The options.

SPIDER, PGGAN, LAYERS, DISC = 'Spider options', 'PGGAN options', 'Layer options', 'Discriminator options'

class _Bank(click.ParamType):
    name = 'bank'

    def convert(self, value, param, ctx):
        if isinstance(value, int) or value == 'online':
            return value
        number = re.fullmatch(r'([0-9]{1,9})([kM]?)', value)
        if number and int(number[1]) > 0:
            return int(number[1]) * {'': 1, 'k': 1_000, 'M': 1_000_000}[number[2]]
        self.fail(f'{value!r} is neither a number of images, such as 5000 or 100k, nor "online".', param, ctx)

class _Pairs(click.ParamType):
    name = 'pairs'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        pairs = [tuple(map(int, part)) for part in re.findall(r'(?:^|,) *(\d+) *: *(\d+) *(?=,|$)', value)]
        if len(pairs) != value.count(',') + 1:
            self.fail(f'{value!r} is not a list of two numbers each, such as 0:3,1:5.', param, ctx)
        if len(dict(pairs)) != len(pairs):
            self.fail(f'{value!r} names a number before ":" twice.', param, ctx)
        return pairs

class _Window(click.ParamType):
    name = 'window'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        window = re.fullmatch(r'(\d{1,5})(?:-(\d{1,5}))?', value)
        if not window or int(window[1]) > int(window[2] or window[1]):
            self.fail(f'{value!r} is not a resolution or two, such as 8-64.', param, ctx)
        return int(window[1]), int(window[2] or window[1])

class _Blur(click.ParamType):
    name = 'blur'

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        number = r'(\d+\.?\d*|\.\d+)'
        blur = re.fullmatch(f'{number}(?::{number})?', str(value))
        if not blur:
            self.fail(f'{value!r} is not a blur in pixels, or that and how many kimg it lasts, such as 2 or 2:300.', param, ctx)
        return float(blur[1]), None if blur[2] is None else float(blur[2])

@dataclasses.dataclass(frozen=True)
class Option:
    name:    str
    type:    object
    default: object
    metavar: str | None
    help:    str
    group:   str = SPIDER

    @property
    def key(self):
        return self.name.lstrip('-').replace('-', '_')

OPTIONS = [
    Option('--spider-source',   str,    None,       '[ZIP|DIR|PKL|URL|NAME]', 'Feed G these images instead of noise: a '
           'dataset, a generator pickle, a name that `spider sources` lists, or noise, covariance:DATA, strokes, shapes'),
    Option('--spider-mapping',  str,    'residual', f'[{"|".join(MAPPINGS)}]', 'How the source enters G'),
    Option('--spider-size',     click.IntRange(min=1), None, 'INT', 'Resolution of the source images, a power of two  '
           '[default: the smaller of source and target for residual, at most 32 otherwise]'),
    Option('--spider-match',    click.Choice(['covariance', 'none']), None, '[covariance|none]', 'Move the images of a dataset '
           'source to the mean and covariance of --data  [default: covariance for residual, none otherwise]'),
    Option('--spider-skip',     click.Choice(['learned', 'fixed']), None, '[learned|fixed]', 'Factor of the source in pixels, 1 '
           'at first, in a residual  [default: learned in a fresh StyleGAN2 or dcgan; as it was with --resume]'),
    Option('--spider-noise',    click.FloatRange(min=0), 0.0, 'STD', 'Gaussian noise added to source images in [-1, 1]'),
    Option('--spider-bank',     _Bank(), None,      '[INT|online]', 'Most source images; online runs a generator source '
           'for every batch  [default: all of a dataset, 16384 of a generator]'),
    Option('--spider-embed',    click.IntRange(min=0), 64, 'MIB', 'Source images that a snapshot carries, 0 for none'),
    Option('--spider-classes',  _Pairs(), None,     'T:S,T:S', 'Class T of --data draws source images of class S, other '
           'classes draw from all  [default: each from its own, where there are equally many]'),
    Option('--spider-force',    bool,   False,      None,   'Resume a snapshot that was trained with another source'),
    Option('--trust-pickle',    bool,   False,      None,   'Unpickle the source generator as hosts do: this runs code '
           'that the file carries'),
    Option('--pg-kimg',         click.FloatRange(min=0, min_open=True), 800.0, 'KIMG', 'Length of each phase of --cfg=pggan: a '
           'resolution, or fading in the next', PGGAN),
    Option('--pg-batch',        _Pairs(), None,     'R:N,R:N', 'Batches of N images from resolution R of --cfg=pggan on, in the '
           'reference host  [default: --batch]', PGGAN),
    Option('--pg-loss',         click.Choice(LOSSES), 'wgan-gp', None, 'Loss of --cfg=pggan; nonsaturating has --gamma', PGGAN),
    Option('--recompute',       bool,   False,      None,   'Compute the blocks of G and D again in the backward pass: less '
           'memory, more time', group='Memory options'),
    Option('--dsc',             bool,   False,      None,   'Depthwise separable synthesis layers; with --resume they start from '
           'the dense ones', LAYERS),
    Option('--dsc-order',       click.Choice(['depthwise', 'pointwise']), 'depthwise', '[depthwise|pointwise]', 'Which factor of '
           'a layer that upsamples comes first; pointwise runs at low resolution', LAYERS),
    Option('--dsc-rank',        click.IntRange(1, 9), 1, 'INT', 'Filters per channel', LAYERS),
    Option('--dsc-res',         _Window(), None,    'LOW-HIGH', 'Resolutions whose layers are separable  [default: all]', LAYERS),
    Option('--dsc-convs',       click.Choice(['1', '2', 'both']), 'both', '[1|2|both]', 'Which of the two convolutions in each '
           'block of FastGAN are separable', LAYERS),
    Option('--fast-modconv',    bool,   False,      None,   'Dense layers factorise their demodulation: the same function with '
           'less time and memory in training', LAYERS),
    Option('--disc',            str,    None,       '[projected]', 'Discriminator and loss in place of the host\'s: projected, '
           'that of Projected GAN', DISC),
    Option('--disc-backbone',   str,    'tf_efficientnet_lite0', 'NAME[:PATH]', 'Its feature network, with its weights from a '
           'file: tf_efficientnet_lite0 to lite4, random, or any of timm where that is installed', DISC),
    Option('--disc-heads',      click.Choice(['standard', 'separable']), None, None, 'Its heads  [default: standard for FastGAN, '
           'separable otherwise]', DISC),
    Option('--disc-blur',       _Blur(), None,      'SIGMA[:KIMG]', 'Blur of the images that it sees, in pixels, and when it is '
           'gone  [default: 0 for FastGAN and where a run is resumed, 2:300 otherwise]', DISC),
    Option('--disc-size',       int,    None,       'INT', 'Side at which its feature network sees the images: less is faster  '
           '[default: 224 for smaller images, their own otherwise]', DISC),
    Option('--disc-skips',      click.BOOL, None,   'BOOL', 'false: a StyleGAN2 generator makes colours in its last block only, '
           'as its authors advise', DISC),
    Option('--disc-embed',      click.BOOL, True,   'BOOL', 'Snapshots carry the feature network, not its path only', DISC),
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
        registry.generators[options['cfg']].edit(c, given, host)
    lines = apply_progressive(c, options, given, host) + apply_disc(c, options, given, host)
    if options['spider_source'] is not None:
        lines += apply_spider(c, options, host)
    elif lonely := [option.name for option in OPTIONS if option.group == SPIDER and option.key in given
                    and not (option.key in ('spider_force', 'trust_pickle') and c.get('resume_pkl') is not None)]:
        raise UserError(f'{lonely[0]} has no effect without --spider-source; give a source of images, or leave it out.')
    if not options['dsc'] and (lonely := [option.name for option in OPTIONS if option.name.startswith('--dsc-')
                                          and option.key in given]):
        raise UserError(f'{lonely[0]} has no effect without --dsc; pass both, or leave it out.')
    lines += apply_layers(c, options, host)
    lines += resume_from_what_fits(c, options, host)
    if options['recompute']:
        lines += apply_recompute(c, host)
    return lines

#----------------------------------------------------------------------------
