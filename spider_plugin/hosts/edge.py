"""The edge between the library and a command line: an error of the library becomes `Error: ...` on stderr and an exit code."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from spider_plugin.errors import Failure, SpiderError

@contextlib.contextmanager
def click_errors() -> Iterator[None]:
    """Raises a SpiderError or Failure from inside as click's exception of the same sentence and exit code.

    click shows that where it runs a command by itself, and hands it on with standalone_mode=False."""
    try:
        yield
    except (SpiderError, Failure) as error:
        shown = click.ClickException(error.message)
        shown.exit_code = error.exit_code   # type: ignore[misc]
        raise shown from error

def guard(command: click.Command) -> None:
    """Makes both steps of a click command show the library's errors: reading its options, callbacks included, and running."""
    for step in ('make_context', 'invoke'):
        setattr(command, step, _guarded(getattr(command, step)))

def _guarded(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with click_errors():
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
