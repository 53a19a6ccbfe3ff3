"""Attributes that the source of a host's loop and loss reads of their networks, found without running it: what one dry iteration
does not reach, because it is in a branch for a later tick or for another option."""

import ast
import contextlib
import dataclasses
import inspect
import os
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from spider_plugin.errors import shown

NETWORKS = ('G', 'D', 'G_ema', 'loss')
MAX_CHAIN = 4       # G.synthesis.b4.conv1: names that are followed

@dataclasses.dataclass(frozen=True)
class Read:
    """A chain of attributes that is read: `G.mapping.w_avg` has the network G and the names ('mapping', 'w_avg').

    tests: sources of the conditions around it, the outermost first."""

    network: str
    names:   tuple[str, ...]
    line:    int
    tests:   tuple[str, ...] = ()

#----------------------------------------------------------------------------

def reads_in(source: str) -> list[Read]:
    """Return the reads in a module's source, each chain once, in its order. Raises SyntaxError.

    Left out are attributes that the module itself sets or asks for by hasattr or getattr, and those inside `try`, whose errors it
    catches."""
    tree = ast.parse(source)
    finder = _Finder()
    finder.visit(tree)
    guarded = finder.guarded
    return [read for read in finder.found.values() if not guarded & {(read.network, name) for name in read.names}]

_BY_NAME = ('hasattr', 'getattr', 'setattr', 'delattr')

class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: dict[tuple, Read] = {}
        self.guarded: set[tuple[str, str]] = set()      # (network, name)
        self.tests: list[str] = []

    def visit_Attribute(self, node: ast.Attribute) -> None:
        network, names = _chain(node)
        if network is None:
            self.generic_visit(node)
        elif isinstance(node.ctx, ast.Load) and names:
            self.found.setdefault((network, names), Read(network, names, node.lineno, tuple(self.tests)))
        elif names:
            self.guarded.add((network, names[-1]))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _BY_NAME and len(node.args) >= 2:
            network, _ = _chain(node.args[0])
            name = node.args[1]
            if network and isinstance(name, ast.Constant) and isinstance(name.value, str):
                self.guarded.add((network, name.value))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        for body, text in ((node.body, ast.unparse(node.test)), (node.orelse, f'not ({ast.unparse(node.test)})')):
            self.tests.append(text)
            for statement in body:
                self.visit(statement)
            self.tests.pop()

    def visit_Try(self, node: ast.Try) -> None:
        if not node.handlers:
            self.generic_visit(node)
            return
        for statement in (*node.orelse, *node.finalbody):
            self.visit(statement)

def _chain(node: ast.AST) -> tuple[str | None, tuple[str, ...]]:
    """(network, names) of an expression such as `G.a.b`, `self.G.a.b` or `networks.G.a.b`; (None, ()) for others."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr in NETWORKS and isinstance(node.value, ast.Name):
            return node.attr, tuple(reversed(names))
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in NETWORKS:
        return node.id, tuple(reversed(names))
    return None, ()

#----------------------------------------------------------------------------

def missing(reads: list[Read], here: Mapping[str, Any], stock: Mapping[str, Any],
            values: Mapping[str, Any]) -> list[tuple[Read, str]]:
    """Return (read, name) of attributes that a network of the host has and the one that takes its place lacks.

    here, stock: {network: module or class} with the options and without; others are not looked at.
    values:      {argument of the training loop: its value}; a branch whose condition is of them alone and false is left out."""
    found = []
    for read in reads:
        if read.network not in here or read.network not in stock:
            continue
        name = _first_missing(here[read.network], read.names)
        if name is not None and _first_missing(stock[read.network], read.names) is None and \
                not any(_value(test, values) is False for test in read.tests):
            found.append((read, name))
    return found

def _first_missing(value: Any, names: tuple[str, ...]) -> str | None:
    for i, name in enumerate(names[:MAX_CHAIN]):
        if not hasattr(value, name):
            return '.'.join(names[:i + 1])
        value = getattr(value, name)
    return None

def _value(test: str, values: Mapping[str, Any]) -> bool | None:
    """Return whether a condition holds: comparisons of arguments with constants, joined by and, or, not; None for another one."""
    def of(node: ast.AST) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name() if node.id in values:
                return values[node.id]
            case ast.UnaryOp(op=ast.Not()):
                return not of(node.operand)
            case ast.BoolOp():
                parts = [_value(ast.unparse(part), values) for part in node.values]
                decisive = isinstance(node.op, ast.Or)
                if decisive in parts:
                    return decisive
                if None in parts:
                    raise LookupError
                return not decisive
            case ast.Compare(ops=[op]) if type(op) in _COMPARE:
                return _COMPARE[type(op)](of(node.left), of(node.comparators[0]))
        raise LookupError
    with contextlib.suppress(LookupError, TypeError, ValueError):
        return bool(of(ast.parse(test, mode='eval').body))
    return None

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Is: lambda a, b: a is b, ast.IsNot: lambda a, b: a is not b, ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b,
    ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b, ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b}

#----------------------------------------------------------------------------

def sentences(modules: list[Any], here: Mapping[str, Any], stock: Mapping[str, Any], values: Mapping[str, Any],
              root: str) -> list[str]:
    """Return a clause about each attribute that the sources of these modules read in vain.

    here, stock, values: as for missing(); root: folder of the host, for the place."""
    said: dict[tuple, str] = {}
    for module in modules:
        try:
            source = inspect.getsource(module)
            reads, kept = reads_in(source), _never_set(source, values)
        except (OSError, TypeError, SyntaxError):
            continue
        place = os.path.relpath(module.__file__, root)
        for read, name in missing(reads, here, stock, kept):
            under = f' under `if {shown(read.tests[-1], 60)}`' if read.tests else ''
            said.setdefault((read.network, name), f'the host reads {read.network}.{name}{under} ({place}, line {read.line}), '
                                                  f'which {_class_of(here[read.network])} does not have')
    return list(said.values())

def _never_set(source: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values whose names the source gives no other value."""
    names = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    return {name: value for name, value in values.items() if name not in stored}

def _class_of(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__

def instance_of(cls: type) -> Any:
    """Return a stand-in for an instance of a class: it has the attributes of the class, and those that its methods set."""
    names = set(dir(cls))
    for base in cls.__mro__:
        with contextlib.suppress(OSError, TypeError, SyntaxError):
            names |= {node.attr for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base))))
                      if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)}
    return type(cls.__name__, (), dict.fromkeys(name for name in names if not name.startswith('__')))()
