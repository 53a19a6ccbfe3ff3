"""What an option is, and the types of values that click has no name for."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import click

#----------------------------------------------------------------------------

class Bank(click.ParamType):
    name = 'bank'

    def convert(self, value, param, ctx):
        if isinstance(value, int) or value == 'online':
            return value
        number = re.fullmatch(r'([0-9]{1,9})([kM]?)', value)
        if number and int(number[1]) > 0:
            return int(number[1]) * {'': 1, 'k': 1_000, 'M': 1_000_000}[number[2]]
        self.fail(f'{value!r} is neither a number of images, such as 5000 or 100k, nor "online".', param, ctx)

class Pairs(click.ParamType):
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

class Window(click.ParamType):
    name = 'window'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        window = re.fullmatch(r'(\d{1,5})(?:-(\d{1,5}))?', value)
        if not window or int(window[1]) > int(window[2] or window[1]):
            self.fail(f'{value!r} is not a resolution or two, such as 8-64.', param, ctx)
        return int(window[1]), int(window[2] or window[1])

class Blur(click.ParamType):
    name = 'blur'

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        number = r'(\d+\.?\d*|\.\d+)'
        blur = re.fullmatch(f'{number}(?::{number})?', str(value))
        if not blur:
            self.fail(f'{value!r} is not a blur in pixels, or that and how many kimg it lasts, such as 2 or 2:300.', param, ctx)
        return float(blur[1]), None if blur[2] is None else float(blur[2])

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Option:
    name:    str
    type:    Any
    default: Any
    metavar: str | None
    help:    str
    group:   str

    @property
    def key(self) -> str:
        return self.name.lstrip('-').replace('-', '_')

    def on_command(self, make: Callable[..., click.Option] = click.Option, name: str | None = None) -> click.Option:
        """Return the option as click has it; make: its class; name: what to call it where a host has an option of its name."""
        return make([name or self.name], type=self.type, default=self.default, metavar=self.metavar, help=self.help,
                    is_flag=self.type is bool, show_default=self.default not in (None, False))

#----------------------------------------------------------------------------
