"""What `spider train` adds to the embedded host's train.py: squares are cut from photos of all sizes, and options that a new run
needs and nobody gave are chosen, printed as a table, and recorded in the run.

The options that the user gives are read first, all of them, so that a wrong one ends in its sentence before any work. The chosen
ones are then defaults of the command, as those of a preset are."""

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

import click

from spider_plugin.errors import SpiderError, printable
from spider_plugin.options.types import MOST_SIDE, Option, Whole

PROGRAM = 'spider train'
OUTDIR  = 'training-runs'
GROUP   = 'Photos'

_TRANSFORMS = ('center-crop', 'pad', 'letterbox')

OPTIONS = [
    Option('--resolution', Whole(8, MOST_SIDE), None, 'INT', 'Side of the squares that are cut from --data, a power of two  '
           '[default: without --cfg, as the device allows; with it, images stay as they are]', GROUP),
    Option('--transform', click.Choice(_TRANSFORMS), None, f'[{"|".join(_TRANSFORMS)}]', 'How pictures become squares  '
           '[default: center-crop]', GROUP),
]

#----------------------------------------------------------------------------

def requested() -> bool:
    """Return whether `spider train` started this script."""
    return os.environ.get('SPIDER_RUN_PROGRAM') == PROGRAM

def extend(command: click.Command, make: Callable[[Option], click.Option]) -> list[click.Option]:
    """Have a training command choose what is not given; return the options of this group, which are among its params now.

    make: makes an option for this command."""
    added = [make(option) for option in OPTIONS]
    command.params += added
    command.parse_args = functools.partial(_parse, command, command.parse_args)     # type: ignore[method-assign]
    return added

def lines(ctx: click.Context) -> list[str]:
    """Return what was printed about the choice, for the log of the run; [] without one."""
    return ctx.meta.get(__name__, {}).get('lines', [])

def record(ctx: click.Context) -> dict[str, Any]:
    """Return {'automatic': {option: value, ...}} for the record of the run; {} without a choice."""
    chosen = ctx.meta.get(__name__, {}).get('chosen')
    return {} if chosen is None else {'automatic': chosen}

def _parse(command, stock, ctx, args):
    args = list(args)
    trial = type(ctx)(command, info_name=ctx.info_name, parent=ctx.parent, **command.context_settings)
    with trial.scope(cleanup=False):
        stock(trial, list(args))
    defaults, more, said = _decide(trial)
    ctx.default_map = {**defaults, **(ctx.default_map or {})}
    rest = stock(ctx, args + more)
    for option in OPTIONS:
        ctx.params.pop(option.key)      # the script does not know it
    ctx.meta[__name__] = said
    return rest

def _decide(trial):
    """Return (defaults of options, arguments to append, entries of ctx.meta), from a context that has parsed the command line."""
    values, defaults = trial.params, {'outdir': OUTDIR}
    ours = [option.name for option in OPTIONS if values[option.key] is not None]
    if values['resume'] is not None:
        if ours:
            raise SpiderError(f'{ours[0]} has no effect with --resume, which trains on the images of its run; leave it out.')
        return defaults, [], {}
    if values['data'] is None:
        raise SpiderError('--data: a new run needs it; give a folder or a zip of images, or continue a run with --resume.')
    chooses = values['cfg'] is None and values['spider_cfg'] is None and not trial.default_map and 'RANK' not in os.environ
    if not chooses and not ours:
        return defaults, [], {}
    if (side := values['resolution']) is not None and side & (side - 1):
        raise SpiderError(f'--resolution={side} is not a power of two; give {1 << side.bit_length() - 1} or '
                          f'{1 << side.bit_length()}.')
    if not chooses and side is None:
        raise SpiderError('--transform needs --resolution beside --cfg; add --resolution=64, for example.')
    outdir = OUTDIR if values['outdir'] is None else values['outdir']
    importlib.import_module('training.run_dir').check_outdir(outdir)

    from spider_plugin.automatic import photos
    found = photos.look(values['data'])
    said = _say(found.lines())
    transform = values['transform'] or _TRANSFORMS[0]
    if not chooses:
        path, words = photos.prepare(found, outdir, side, transform)
        return defaults, [f'--data={path}'], dict(lines=said + _say([f'Training images: {path}, {words}']))
    given = {name for name in values if trial.get_parameter_source(name) not in (None, click.core.ParameterSource.DEFAULT)}
    chosen, estimate = _choose(found, values, given)
    side = chosen[0].value
    path, words = photos.prepare(found, outdir, side, transform)
    rows = [(row.option, row.value, row.why) for row in chosen if _key(row.option) not in given]
    defaults |= {_key(row.option): row.value for row in chosen[1:]} | {'spider_no_dry_run': True}
    said += _say([f'Training images: {path}, {words}', '', 'Chosen; give an option to have another value:', *_table(rows),
                  *estimate, ''])
    return defaults, [f'--data={path}'], dict(lines=said, chosen={option: value for option, value, _ in rows})

def _choose(found, values, given):
    """Return ([Chosen, ...], the resolution first; lines about the time)."""
    from spider_plugin.automatic import choice
    from spider_plugin.automatic.measure import seconds_of_iteration
    from spider_plugin.weights import at_hand
    runtime = importlib.import_module('training.runtime')
    device, threads = runtime.pick_device().type, runtime.pick_threads(values['threads'])
    tried = [threads] if 'threads' in given or threads in (None, 1) else [1, threads]
    on_cpu, features = device != 'cuda', at_hand('tf_efficientnet_lite0')
    rows = choice.plans(on_cpu, features, found.side, {key: values[key] for key in given & {'resolution', 'batch', 'cbase'}})
    _say(['Measuring an iteration ...'])
    channels = max(found.channels)
    measured = choice.pick(rows, tried, lambda plan, number: seconds_of_iteration(plan, channels, number))
    plan = measured.plan
    why = f'the pictures allow {found.side}, this device {plan.resolution}' if plan.resolution < found.side else \
        'that of the pictures' if plan.resolution == found.side else 'larger than most pictures, which are enlarged'
    chosen = [choice.Chosen('--resolution', plan.resolution, why),
              *choice.options(measured, len(found.names), on_cpu, features)]
    return chosen, choice.estimate(measured, values['kimg'] if 'kimg' in given else measured.length, device)

def _key(option):
    return option.lstrip('-').replace('-', '_')

def _table(rows):
    width, wide = (max(len(_shown(row[i])) for row in rows) for i in (0, 1))
    return [f'  {option:<{width}s}  {_shown(value):<{wide}s}  {why}' for option, value, why in rows]

def _shown(value):
    return str(value).lower() if isinstance(value, bool) else str(value)

def _say(texts):
    for text in texts:
        print(printable(text), flush=True)
    return texts

#----------------------------------------------------------------------------
