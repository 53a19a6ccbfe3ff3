"""The edge between the library and a command line: an error of the library becomes `Error: ...` on stderr and an exit code, as do
events such as a full disk (hosts/trouble.py)."""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import click

from spider_plugin.errors import Failure, SpiderError
from spider_plugin.hosts import trouble

@contextlib.contextmanager
def click_errors(options: Collection[str] = ()) -> Iterator[None]:
    """Raises a SpiderError or Failure from inside as click's exception of the same sentence and exit code, and an event of
    hosts/trouble.py as one of exit code 2.

    options: names of the command's parameters. click shows the exception where it runs a command by itself, and hands it on
    with standalone_mode=False."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except (SpiderError, Failure) as error:
        shown = click.ClickException(error.message)
        shown.exit_code = error.exit_code   # type: ignore[misc]
        raise shown from error
    except Exception as error:
        sentence = trouble.sentence(error, options)
        if sentence is None:
            raise
        shown = click.ClickException(sentence)
        shown.exit_code = SpiderError.exit_code     # type: ignore[misc]
        raise shown from error

def guard(command: click.Command) -> None:
    """Makes both steps of a click command show the library's errors: reading its options, callbacks included, and running."""
    for step in ('make_context', 'invoke'):
        setattr(command, step, _guarded(getattr(command, step), command))

def _guarded(step: Callable[..., Any], command: click.Command) -> Callable[..., Any]:
    @functools.wraps(step)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with click_errors({param.name for param in command.params if param.name}):
            return step(*args, **kwargs)
    return guarded

@contextlib.contextmanager
def exit_on_errors() -> Iterator[None]:
    """Ends the process as click would, for code that runs before any command does."""
    try:
        with click_errors():
            yield
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)

def print_anything() -> None:
    """Lets this process print letters that the encoding of its output lacks, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')

@contextlib.contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt, so that half-written files are removed.
    One that was ignored before, as nohup does, stays ignored."""
    def leave(signum: int, _frame: object) -> None:
        sys.exit(128 + signum)
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for signum in [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]:
            if signal.getsignal(signum) is signal.SIG_DFL:
                previous[signum] = signal.signal(signum, leave)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
