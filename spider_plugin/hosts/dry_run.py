"""The dry iteration: with an option of the plugin, one iteration of the host's own loop runs before the launch, in a process of
its own (hosts/dry_loop.py), so that what a host asks of the plugin's networks and losses, and they do not have, is a sentence
here and no traceback in a rank.

Training is refused only for a fault of the options: the same iteration must succeed without them, or end in another error, where
that with them names an object of the plugin that lacks what the host wants of it. Other errors of the environment (no GPU, no
network, no memory) and of the host are notes."""

import ast
import contextlib
import copy
import dataclasses
import inspect
import json
import multiprocessing
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spider_plugin import registry
from spider_plugin.errors import SpiderError, shown
from spider_plugin.hosts.capabilities import Host, import_name
from spider_plugin.hosts.imports import host_folder
from spider_plugin.hosts.saving import LOOP_MODULE
from spider_plugin.options.table import all_options, apply_options

TIMEOUT = dict(small=60, full=90)      # Seconds that an iteration may take.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Result:
    """What happened in an iteration.

    seconds:    how long it took.
    kind:       type of the error that ended it; None if none did. `timeout` and `exit` if the process was ended from outside.
    message:    that of the error.
    frames:     [[file, line, function], ...] of its traceback, the outermost call first.
    snapshot:   why the plugin does not read the snapshot; None if it does.
    left_out:   settings of the host's loss that a loss of the plugin leaves out.
    of_plugin:  whether the error names an object of the plugin that lacks what the host wants of it.
    reads:      clauses about attributes that the host reads in branches that the iteration did not reach."""

    seconds:  float
    kind:     str | None = None
    message:  str = ''
    frames:   tuple = ()
    snapshot: str | None = None
    left_out: tuple = ()
    of_plugin: bool = False
    reads:    tuple = ()

    @property
    def of_environment(self) -> bool:
        """Whether the error says something about this machine and nothing about the options."""
        return self.kind in _ENVIRONMENT or bool(re.search(_NEEDS, self.message))

    def place(self, root: str) -> str:
        """Return the last line of the host's code in the traceback, `training/loss.py, line 7`, if possible not one that makes
        objects of any class; '' without one."""
        inside = [frame for frame in self.frames if Path(frame[0]).is_relative_to(root)]
        inside = [frame for frame in inside if Path(frame[0]).name not in ('persistence.py', 'util.py')] or inside
        return f'{Path(inside[-1][0]).relative_to(root)}, line {inside[-1][1]}' if inside else ''

_ENVIRONMENT = {'timeout', 'exit', 'MemoryError', 'ImportError', 'ModuleNotFoundError', 'NotImplementedError', 'OSError',
                'FileNotFoundError', 'PermissionError', 'ConnectionError', 'URLError', 'HTTPError', 'SSLError', 'Timeout',
                'SourceLost', 'KeyboardInterrupt', 'BackendCompilerFailed', 'InductorError'}
_NEEDS = (r"(?i:cuda|cudnn|nvidia|nvcc|ninja|out of memory|DefaultCPUAllocator|not installed|pip install|hugging ?face|"
          r"connection|timed out|offline|operator torchvision::)|not implemented for '|Could not run '")

def iterate(c: Any, target: dict, small: bool = True, stock: Any = None) -> Result:
    """Run one iteration of a config and return its Result. The config and this process stay as they are.

    target: resolution, channels and label_dim of the training set; stock: the config without the options, for `reads`."""
    from spider_plugin.hosts import dry_loop
    method = 'fork' if sys.platform == 'linux' else 'spawn'     # a copy of this process has imported everything already
    limit = TIMEOUT['small' if small else 'full']
    with tempfile.TemporaryDirectory(prefix='spider-dry-run-', ignore_cleanup_errors=True) as out:
        process = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]
            target=dry_loop.job, args=(c, target, small, out, method == 'fork', stock), name='spider-dry-run')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)     # of threads beside a fork; it is ended in any case
            process.start()
        try:
            process.join(limit)
        finally:
            ended = not process.is_alive()
            process.kill()
            process.join()
        with contextlib.suppress(OSError, ValueError):
            return Result(**json.loads(Path(out, 'result.json').read_text(encoding='utf-8')))
    return Result(limit, 'exit', f'the process ended by {process.exitcode}') if ended else \
        Result(limit, 'timeout', f'it took more than {limit} seconds')

#----------------------------------------------------------------------------
# Options that change what is built, and the keys that go with each.

_PARTS = {'cfg': ('pg_',), 'disc': ('disc_',), 'spider_source': ('spider_', 'trust_pickle'), 'dsc': ('dsc_',),
          'fast': ('fast_',), 'recompute': ('recompute',)}

def parts(options: dict) -> dict[str, str]:
    """Return {key: option with its value} of the options that change what is built."""
    return {key: f'--{key.replace("_", "-")}' + ('' if options[key] is True else f'={shown(options[key], 80)}')
            for key in _PARTS if options.get(key)}

def _without(part: str, stock: Any, options: dict, given: set[str]) -> Any:
    """Return the config that the options make without those of a part. Raises SpiderError where the others need it."""
    gone = {key for key in options if key == part or key.startswith(_PARTS[part])}
    defaults = {option.key: option.default for option in all_options()}
    c = copy.deepcopy(stock)
    values = {key: defaults.get(key) if key in gone else value for key, value in options.items()}
    apply_options(c, values, given=given - gone, host=Host(c))
    return c

# A source may take hours to download and to prepare, so the iteration comes before that, with a few images of noise in its place.

_STAND_IN = dict(spider_source='noise', spider_bank=8, spider_size=None, spider_match=None)

def check_before_source(stock: Any, options: dict, given: set[str], host: Host) -> list[str] | None:
    """Return lines for the launch log about an iteration of the config that the options make of `stock`, with a stand-in for the
    source; None where there is no source to prepare, or none can stand in: check() is then for the config as it will be.

    Arguments: as for check(). Raises SpiderError as check() does."""
    if not _applies() or not _can_stand_in(stock, options) or host.target.label_dim:    # whose classes may be those of the source
        return None
    c, values, named = copy.deepcopy(stock), options | _STAND_IN, given - {'spider_size', 'spider_match'}
    twin = Host(c)
    twin.target = host.target
    try:
        apply_options(c, values, given=named, host=twin)
    except SpiderError:     # the options say it again, with the source itself
        return None
    twin.remove_unknown(stock)
    return check(c, stock, values, named, twin, parts(options))

def _can_stand_in(stock: Any, options: dict) -> bool:
    from spider_plugin.sources.prepare import is_dataset
    source, bank = options.get('spider_source'), options.get('spider_bank')
    if source is None or stock.get('resume_pkl') is not None or options.get('spider_classes') is not None or bank == 'online':
        return False
    there = os.path.exists(source) or '://' in source or source.partition(':')[0] in registry.datasets
    return there and (is_dataset(source) or os.path.isfile(source))     # others are noise themselves, or are not there

def check(c: Any, stock: Any, options: dict, given: set[str], host: Host, said: dict[str, str] | None = None) -> list[str]:
    """Return lines for the launch log about an iteration of the config `c`.

    stock:   the config before the options changed it.
    options: {key: value} of all options.
    given:   names of the parameters that the user set, as for apply_options().
    host:    answers questions about the host; its training set is opened here.
    said:    {key: option with its value}, the names of the options in a sentence; as of parts(options) where it is None.
    Raises SpiderError if the iteration fails, and succeeds without the options."""
    if not _applies():
        return []
    target = host.target
    shape = dict(resolution=target.resolution, channels=target.channels, label_dim=target.label_dim)
    result = _tried(c, shape, stock)
    if result.kind is None:
        return _lines(result)
    if result.of_environment:
        return [_note(f'it cannot be made on this machine ({_said(result)})')]
    control = _tried(stock, shape)
    ours = result.of_plugin and _fault(result) != _fault(control)
    if control.kind is not None and not ours and (later := added_later(c)):
        return [_note(f'{_needs_later(later)} ({_said(control)})')]
    if control.kind is not None and not ours:
        own = f'it ends in {_said(result)}, but ' if result.message != control.message else ''
        return [_note(f'{own}this host\'s loop fails here without the options, too ({_said(control)})')]
    if c.get('resume_pkl') is not None and _tried(_from_new(c), shape).kind is None:
        names = ' and '.join((parts(options) if said is None else said).values()) or 'a source'
        raise SpiderError(f'--resume with {names} cannot be used in this host: {_what(result)}, where it resumes; leave one of '
                          'them out, as the same iteration succeeds without it (--spider-no-dry-run launches all the same).')
    def works(part: str) -> bool:
        with contextlib.suppress(SpiderError, KeyError):    # the other options may need it
            without = _tried(_without(part, stock, options, given), shape)
            return without.kind is None or ours and _fault(without) != _fault(result)
        return False
    raise SpiderError(_sentence(result, c, stock, said or parts(options), works, control))

def added_later(c: Any) -> list[str]:
    """Return arguments of the host's loop that a config lacks, and that its train.py adds after the options are applied."""
    names: set[str] = set()
    with contextlib.suppress(Exception):    # of a host's code
        tree = ast.parse(Path(host_folder(), 'train.py').read_text(encoding='utf-8'))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            made = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name) and node.func.id == 'setup_training_loop_kwargs']
            if made or function.name == 'launch_training':
                names |= {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)
                          and isinstance(node.ctx, ast.Store) and node.lineno > max(made, default=0)}
        parameters = inspect.signature(import_name(f'{LOOP_MODULE}.training_loop')).parameters
        return [name for name in parameters if name in names and name not in c and name != 'run_dir']
    return []

def _needs_later(names: list[str]) -> str:
    return f'its train.py adds {" and ".join(names)} to the config after the options are applied, and the loop needs that'

def stock_line(c: Any, target: dict) -> str:
    """Return the line for an iteration of a host without options, as those of check()."""
    result = iterate(c, target)
    result = result if result.kind is None else iterate(c, target, small=False)
    if result.kind is not None and (result.of_environment or (later := added_later(c))):
        return _note(f'on this machine {_said(result)}' if result.of_environment else f'{_needs_later(later)} ({_said(result)})')
    return _lines(result)[0] if result.kind is None else _said(result)

def _from_new(c: Any) -> Any:
    """Return the config as it would be without --resume."""
    c = copy.deepcopy(c)
    c['resume_pkl'] = None
    return c

def _fault(result: Result) -> tuple[str | None, str]:
    """Return what a Result says without the names of classes, which differ between networks: its kind and its last word."""
    return result.kind, result.message.rpartition(' ')[2]

def _tried(c: Any, shape: dict, stock: Any = None) -> Result:
    """Return the Result of an iteration; where its error may be one of the small size, that at full size."""
    result = iterate(c, shape, stock=stock)
    if result.kind in (None, 'TypeError', 'AttributeError', 'NotServed') or result.of_environment:
        return result
    return iterate(c, shape, small=False)

def _applies() -> bool:
    return enabled() and int(os.environ.get('RANK', 0)) == 0 and Host.has_loop()

def enabled() -> bool:
    """Return whether SPIDER_DRY_RUN is on, as without it. Raises SpiderError for other values than on and off."""
    value = os.environ.get('SPIDER_DRY_RUN', 'on')
    if value not in ('on', 'off'):
        raise SpiderError(f'SPIDER_DRY_RUN={value} is not a known value; set it to off, or leave it out.')
    return value == 'on'

def _lines(result: Result) -> list[str]:
    lines = [f'{"Dry iteration:":<21s}the host\'s loop, once, with small networks on the CPU: {result.seconds:.1f} s']
    if result.left_out:
        lines.append(f'{"Loss:":<21s}leaves out {", ".join(result.left_out)}, which the host passes to its own')
    if result.snapshot is not None:
        why = shown(result.snapshot).rstrip('.')
        lines.append(f'Note: the tools of the plugin will not read the snapshots of this run ({why}).')
    lines += [f'Note: {read}; the dry iteration did not come there, and a run that does will end.' for read in result.reads]
    return lines

def _note(why: str) -> str:
    return f'Note: the dry iteration says nothing: {why}.'

def _said(result: Result) -> str:
    return f'{result.kind}: {shown(result.message)}'

#----------------------------------------------------------------------------
# The sentence.

_UNKNOWN_KEYWORD = re.compile(r"(?:(\w+)\.)?(\w+)\(\) got an unexpected keyword argument '(\w+)'")
_MISSING         = re.compile(r"(?:(\w+)\.)?(\w+)\(\) missing \d+ required [\w-]+ arguments?: (.+)")
_NO_ATTRIBUTE    = re.compile(r"'(\w+)' object has no attribute '(\w+)'")

def _sentence(result: Result, c: Any, stock: Any, given: dict[str, str], works: Callable[[str], bool],
              control: Result) -> str:
    place = result.place(host_folder())
    where, taker = f' ({place})' if place else '', ''
    if result.kind == 'NotServed':
        what = result.message
    elif match := _UNKNOWN_KEYWORD.search(result.message):
        taker = match[1] or match[2]
        what = f'the host passes {match[3]}{where}, which {taker} does not take'
    elif match := _MISSING.search(result.message):
        taker = match[1] or match[2]
        what = f'the host does not pass {match[3].replace(chr(39), "")}{where}, which {taker} needs'
    elif match := _NO_ATTRIBUTE.search(result.message):
        taker = match[1]
        what = f'the host asks for {match[2]}{where}, which {taker} does not have'
    else:
        what = _what(result)
    faulty = [key for key in given if len(given) == 1 or works(key)] or list(given)
    part = next((part for part in ('D_kwargs', 'G_kwargs', 'loss_kwargs') if taker and _class_of(c, part).endswith(f'.{taker}')),
                'D_kwargs' if faulty == ['disc'] else 'G_kwargs')
    over = f', whose {_class_of(stock, part)} it replaces' if _class_of(stock, part) else ''
    names = ' and '.join(given[key] for key in faulty) or '--resume of a snapshot with a source'
    it = 'it' if len(faulty) == 1 else 'one of them'
    why = f'as the same iteration succeeds without {it}' if control.kind is None else \
        f'though this host fails here without {it}, too ({_said(control)})'
    return f'{names} cannot be used in this host{over}: {what}; leave {it} out, {why} ' \
           '(--spider-no-dry-run launches all the same).'

def _what(result: Result) -> str:
    place = result.place(host_folder())
    asserted = result.message.removeprefix('assert ') if result.kind == 'AssertionError' else result.message
    what = f'needs `{shown(asserted)}`' if asserted != result.message else f'ends in {_said(result).rstrip(":. ")}'
    return f'one iteration of its loop {what}' + (f' ({place})' if place else '')

def _class_of(c: Any, part: str) -> str:
    return str((c.get(part) or {}).get('class_name', ''))

#----------------------------------------------------------------------------
