"""What a host's training loop saves: pickles that are there whole or not at all, training states where its config asks, and what
shows the run: the launch log, the page, the picture of the sources.

Hosts write a snapshot under its final name; a process that is killed meanwhile leaves a truncated file there. In a training
loop that calls `open`, the name gets the function below, which serves binary writing of a *.pkl by a temporary file beside it,
and ends the pickle by a checksum (files/checksum.py), which hosts ignore."""

import builtins
import contextlib
import functools
import inspect
import os
from pathlib import Path

from spider_plugin.files import cache_uses
from spider_plugin.files.checksum import PickleFile
from spider_plugin.files.whole import remove_leftovers

LOOP_MODULE = 'training.training_loop'

watching = True     # whether runs are watched; not so in a dry iteration

def extend(loop):
    """Give a host's training loop, a module, the `open` of this one, unless it has a name `open` already, and let its function
    training_loop() tidy before it trains, and keep training states."""
    if not hasattr(loop, 'open'):
        loop.open = open_whole
    if hasattr(loop, 'training_loop'):
        loop.training_loop = _extended(loop, loop.training_loop)

def open_whole(file, mode='r', *args, then=lambda path: None, **kwargs):
    """open(), but a *.pkl opened by mode 'wb' gets its checksum and its name when it is closed, with all of it on the disk.

    then:   called with the path of such a file when it is there."""
    if mode != 'wb' or not os.fspath(file).endswith('.pkl'):
        return builtins.open(file, mode, *args, **kwargs)
    return PickleFile(file, then)

def _extended(loop, train):
    """Return a host's training_loop() that removes what killed processes left in the runs beside its own, keeps the training
    state that the argument `spider_state` describes (options/state.py), and watches the run of which `spider_run` is the record
    (training/record.py). Without a record only runs of the reference host are watched, which keeps states itself."""
    @functools.wraps(train)
    def training_loop(*args, spider_state=None, spider_run=None, **kwargs):
        call = inspect.signature(train).bind(*args, **kwargs)
        call.apply_defaults()
        leads = call.arguments.get('rank', 0) == 0 and 'run_dir' in call.arguments
        if leads:
            remove_leftovers(Path(call.arguments['run_dir']).absolute().parent)
        with contextlib.ExitStack() as stack:
            watched = watching and leads and 'progress_fn' in call.arguments
            if watched:
                cache_uses.hold(cache_uses.named_in(dict(call.arguments)), call.arguments['run_dir'])
            if watched and (spider_run is not None or 'state_file' in call.arguments):
                stack.enter_context(_watched(call.arguments, spider_run or {}))
            if spider_run is not None and 'state_file' not in call.arguments:
                from spider_plugin.training import gradient_norms
                stack.enter_context(gradient_norms.reported())
            return _with_state(loop, train, call, spider_state)
    return training_loop

def _watched(arguments, made):
    """The context in which the run of a training_loop() with these arguments is watched; made: its record, {} without one."""
    from spider_plugin.report.command import write_report
    from spider_plugin.training import record
    from spider_plugin.training.run_watch import RunWatch
    record.write_log(arguments['run_dir'])
    return RunWatch(arguments, made, lambda run_dir: write_report([run_dir])).applied()

def _with_state(loop, train, call, spider_state):
    """Return what training_loop() returns for a call, with training states where `spider_state` is not None."""
    if spider_state is None:
        return train(*call.args, **call.kwargs)
    from spider_plugin.training.loop_state import LoopState
    state, stock_open = LoopState(call.arguments, **spider_state), loop.open
    if stock_open is open_whole:
        loop.open = functools.partial(open_whole, then=state.save)
    try:
        with state.applied(loop.misc):
            return train(*call.args, **call.kwargs)
    finally:
        loop.open = stock_open
