"""What a host's training loop saves: pickles that are there whole or not at all, and training states where its config asks.

Hosts write a snapshot under its final name; a process that is killed meanwhile leaves a truncated file there. In a training
loop that calls `open`, the name gets the function below, which serves binary writing of a *.pkl by a temporary file beside it,
and ends the pickle by a checksum (files/checksum.py), which hosts ignore."""

import builtins
import functools
import inspect
import os
from pathlib import Path

from spider_plugin.files.checksum import PickleFile
from spider_plugin.files.whole import remove_leftovers

LOOP_MODULE = 'training.training_loop'

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
    """Return a host's training_loop() that removes what killed processes left in the runs beside its own, and keeps the training
    state that the argument `spider_state` describes (options/state.py)."""
    @functools.wraps(train)
    def training_loop(*args, spider_state=None, **kwargs):
        call = inspect.signature(train).bind(*args, **kwargs)
        call.apply_defaults()
        if call.arguments.get('rank', 0) == 0 and 'run_dir' in call.arguments:
            remove_leftovers(Path(call.arguments['run_dir']).absolute().parent)
        if spider_state is None:
            return train(*args, **kwargs)
        from spider_plugin.training.loop_state import LoopState
        state = LoopState(call.arguments, **spider_state)
        loop.open = functools.partial(open_whole, then=state.save)
        with state.applied(loop.misc):
            return train(*call.args, **call.kwargs)
    return training_loop
