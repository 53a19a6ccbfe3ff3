"""--resume with an option of the plugin, or of a Spider snapshot: that continues with the source it was trained with, a stock
generator starts as it is, and the tensors that fit are copied by a plan."""

import dataclasses
import pkgutil

from spider_plugin import registry
from spider_plugin.errors import SpiderError, shown
from spider_plugin.options.dsc import check_resumed_dsc
from spider_plugin.options.generators import IMAGE
from spider_plugin.options.packages import of_package

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Resumed:
    """The snapshot that --resume names.

    name:       what the user gave.
    path:       its file here.
    contents:   {name: network}, the result of read_pickle(path), or of unpickling it under --trust-pickle.
    spider:     the SpiderArguments of its generator; None for a stock generator.
    bank:       what it carries of its source, as in snapshots/rebuild.py: images, labels, identity, ...; None as well."""

    name:     str
    path:     str
    contents: dict
    spider:   object = None
    bank:     dict | None = None

def read_resumed(c, options, host):
    """Return the Resumed that the config names, None without one. Raises SpiderError."""
    if c.get('resume_pkl') is None:
        return None
    from spider_plugin.snapshots.rebuild import unpickle
    from spider_plugin.snapshots.records import read_pickle
    name = c['resume_pkl']
    path = host.local_file(name)
    contents = unpickle(path) if options['trust_pickle'] else read_pickle(path)
    return Resumed(name, path, contents, *fed_from(generator_of(contents), name))

def generator_of(contents):
    """Return the generator in the contents of a pickle, a record or a module; None where there is none."""
    return next((contents[name] for name in ('G_ema', 'G') if hasattr(contents.get(name), 'state_dict')), None)

def is_spider(generator):
    """Return whether a pickled generator, a record or a module, is fed from a source."""
    return getattr(generator, 'init_kwargs', {}).get('spider') is not None

def fed_from(generator, name):
    """(SpiderArguments, state of the bank) of a pickled generator, a record or a module; (None, None) for a stock one.

    name: of the snapshot, for messages. Raises SpiderError for what the plugin would not write."""
    from spider_plugin.portable.source.arguments import SpiderArguments
    from spider_plugin.snapshots.lineage import plain_identity
    try:
        spider = _checked(SpiderArguments.read(getattr(generator, 'init_kwargs', {}).get('spider')))
    except (ValueError, TypeError) as error:
        raise SpiderError(f'--resume={name}: {shown(error)}; give a snapshot of this version or an earlier one.') from error
    if spider is None:
        return None, None
    try:
        bank = _bank_of(generator)
    except ValueError as error:
        raise SpiderError(f'--resume={name} holds {shown(error)}; give a complete snapshot of spider-plugin.') from error
    if bank is None:
        raise SpiderError(f'--resume={name} holds a Spider generator without its source; give a complete snapshot of '
                          'spider-plugin.')
    return spider, bank | dict(identity=plain_identity(bank['identity'], name))

def _bank_of(generator):
    from spider_plugin.snapshots.rebuild import checked_bank_state
    from spider_plugin.snapshots.records import PersistentRecord
    if isinstance(generator, PersistentRecord):
        return checked_bank_state(generator)
    source = getattr(generator, 'source', None)     # it was unpickled
    return source and source.__getstate__()

def _checked(spider):
    """The SpiderArguments, whose entries go into the config. Raises ValueError for others than the plugin writes."""
    if spider is None:
        return None
    classes = [] if spider.classes is None else spider.classes
    if not (isinstance(spider.mapping, str) and isinstance(spider.source, str) and isinstance(spider.learn_skip, bool)
            and isinstance(spider.gain, (int, float)) and 0 <= spider.gain <= 1
            and isinstance(spider.noise, (int, float)) and 0 <= spider.noise < 1 << 20
            and type(spider.embed) is int and 0 <= spider.embed < 1 << 20
            and isinstance(classes, list) and all(type(label) is int for label in classes)):
        raise ValueError('its `spider` argument has entries of other types')
    return spider

#----------------------------------------------------------------------------

def resume_spider(resumed, options, mapping, source, classes):
    """(gain of the residual, whether its skip is learned where no option says so or None for a fresh one, lines for the launch
    log). Raises SpiderError where the snapshot was trained with something else."""
    if resumed is None:
        return 1.0, None, []
    spider = resumed.spider
    if spider is None:
        if registry.mappings[mapping].needs != IMAGE:
            return 1.0, False, []
        return 0.0, False, ['Spider resume:       a stock generator, so the source starts at gain 0 and the images as they were']
    for what, before, now in (('mapping', spider.mapping, mapping),
                              ('source', describe(resumed.bank['identity']), describe(source.identity)),
                              ('source classes', spider.classes, classes)):
        if before != now and not options['spider_force']:
            raise SpiderError(f'--resume={resumed.name} was trained with the {what} {shown(before)}, not {now}; give that '
                              'one, or pass --spider-force.')
    return spider.gain, spider.learn_skip, []

def resume_from_what_fits(c, options, host, resumed):
    """Points the host at a pickle of the tensors that fit; lines for the launch log."""
    if resumed is None:
        return []
    from spider_plugin.snapshots.resume_plan import convert
    lines = [f'{"Resume from:":<21s}{resumed.name}']
    dsc_before = getattr(generator_of(resumed.contents), 'init_kwargs', {}).get('dsc')
    check_resumed_dsc(c, dsc_before)
    fit = _fit(options['cfg'], c, fresh_layers=dsc_before is None and 'dsc' in c['G_kwargs'])
    c['resume_pkl'], plans, fits = convert(resumed.path, resumed.contents, host.networks(), fit)
    for layer, error in fits.items():
        lines.append(f'{"":<21s}{layer}: fitted to the dense kernel, relative error {error:.2f}')
    return lines + [f'{"":<21s}{plan.line()}' for plan in plans.values()]

def _fit(cfg, c, fresh_layers):
    """The function that makes a dense snapshot's tensors fit the separable layers of --cfg.

    fresh_layers: whether the config has such layers and the snapshot none. Raises SpiderError where they cannot be fitted."""
    from spider_plugin.snapshots.warm_start import fit_layers
    if cfg is None:
        return fit_layers
    name = registry.generators[cfg].warm_start
    if name is not None:
        with of_package(f'--cfg={cfg}'):
            fit = pkgutil.resolve_name(name)
        return fit if name.startswith('spider_plugin.') else _fit_of_package(cfg, fit)
    if fresh_layers:
        raise SpiderError(f'--dsc cannot start from --resume={c["resume_pkl"]}, which was trained without it: --cfg={cfg} '
                          'declares no way to fit its layers to dense ones; leave --dsc out.')
    return lambda state, network: (state, {})

def _fit_of_package(cfg, fit):
    def fitted(state, network):
        with of_package(f'--cfg={cfg} with --dsc and --resume'):
            state, errors = fit(state, network)
            return dict(state), {str(layer): float(error) for layer, error in errors.items()}
    return fitted

def describe(identity):
    """A text of an identity's name, transform and digest, by which two are compared."""
    return '{name} ({transform}, sha256 {sha256:.12})'.format(**identity)

#----------------------------------------------------------------------------
