"""Parts of a bundle: the text of portable modules without their docstrings and the imports that joining replaces.

A portable module imports torch, numpy, the standard library, torch_utils_ext.ops, spider_plugin.portable, and portable modules
of its own package. A module of another package may import other packages too, which then must be installed where a snapshot is
opened. It may also hold its registration, `registry.mappings.register(...)(...)`: the statements that use the plugin for it stay
out of the bundle, and so do the imports that only they need."""

import ast
import builtins
import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from spider_plugin.errors import SpiderError

_JOINED  = ('spider_plugin.portable.', 'torch_utils_ext.')
_OUTSIDE = frozenset({'torch', 'numpy', *sys.stdlib_module_names})

#----------------------------------------------------------------------------

class NotPortable(ValueError):
    """Says which module cannot be joined, and why: 'my_package.net has no source file'."""

@dataclasses.dataclass(frozen=True)
class Part:
    """module: its dotted name.
    text:       its source without what joining leaves out.
    classes:    names of those that pickles may refer to.
    names:      {name that it binds at its top level: what to, dotted names of imports, None where the module makes it}.
    needs:      packages that it imports and a bundle does not hold.
    futures:    features that it imports from __future__."""

    module:  str
    text:    str
    classes: tuple[str, ...]
    names:   dict[str, frozenset[str | None]]
    needs:   frozenset[str]
    futures: frozenset[str]

def join(modules: Iterable[str], taken: Iterable[str] = ()) -> list[Part]:
    """Return the parts of these modules and of the modules that they join, each once and after what it needs.

    taken:  names that the bundle binds itself.
    Raises NotPortable, and SpiderError where two modules bind a name to different things."""
    parts: dict[str, Part] = {}
    def add(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            raise NotPortable(f'{module} imports itself by way of {path[-1]}')
        if module not in parts:
            reader = _read(module)
            if reader.obstacle:
                raise NotPortable(f'{module} {reader.obstacle}')
            for other, names in reader.joined.items():
                add(other, (*path, module))
                if lacking := sorted(names - _read(other).importable()):
                    raise NotPortable(f'{module} imports {lacking[0]} of {other}, which does not define it')
            parts[module] = reader.part()
    for module in modules:
        add(module, ())
    _check_names(parts.values(), taken)
    return list(parts.values())

@functools.cache
def not_portable(module: str) -> str | None:
    """Return why a module cannot travel in snapshots, such as 'my_package.net imports my_package.tools as a module'; None where
    it can, as can all of spider_plugin.portable. Raises SpiderError where names of the modules that it joins clash."""
    if module.startswith(_JOINED):
        return None
    try:
        join([module])
    except NotPortable as error:
        return str(error)
    return None

def needed_packages(module: str) -> list[str]:
    """Return the packages that a portable module imports and a bundle does not hold, sorted."""
    return [] if module.startswith(_JOINED) else sorted(set().union(*(part.needs for part in join([module]))))

def package_of(module: str) -> str:
    """Return the package at the top of a dotted name."""
    return module.partition('.')[0]

def _check_names(parts, taken):
    home = {name: ('the bundle itself', frozenset({None})) for name in taken}
    for part in parts:
        for name, bound in part.names.items():
            other, before = home.setdefault(name, (part.module, bound))
            if other != part.module and (None in bound or bound != before):
                raise SpiderError(f'The modules {other} and {part.module} both have the name {name} at their top level, for '
                                  f'different things, and a snapshot joins them; rename it in {part.module}.')

#----------------------------------------------------------------------------

@functools.cache
def _read(module):
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:      # the packages above it are imported, and those are code of anyone
        raise NotPortable(f'{module} cannot be found ({error})') from error
    if spec is None or not spec.origin or not spec.origin.endswith('.py'):
        raise NotPortable(f'{module} has no source file')
    package = module if spec.submodule_search_locations is not None else spec.parent
    try:
        return _Reader(module, package, importlib.util.decode_source(Path(spec.origin).read_bytes()))
    except (SyntaxError, ValueError) as error:
        raise NotPortable(f'{module} is no Python of this version ({error})') from error

class _Reader:
    """One module: what joining takes from it and what it leaves out.

    joined:     {module whose text comes before this one's: names that are imported from it}.
    obstacle:   why the module is not portable, or None.
    needs:      packages that it imports and a bundle does not hold.
    futures:    features that it imports from __future__."""

    def __init__(self, module, package, source):
        self.module, self.source, self.tree = module, source, ast.parse(source)
        self.joined, self.obstacle, self.needs, self.futures = {}, None, set(), set()
        self._package, self._dropped = package, []
        self._drop_registration()
        for node, place in _imports(self.tree):
            if node not in self._dropped:
                self._read_import(node, place)
        self._refuse_what_joining_breaks()

    def part(self):
        return Part(self.module, self._text(), self._classes(), self.names(), frozenset(self.needs), frozenset(self.futures))

    def _refuse(self, why):
        self.obstacle = self.obstacle or why

    def _origin(self, node):
        """Dotted name of the module that `from ... import` imports from."""
        return importlib.util.resolve_name('.' * node.level + (node.module or ''), self._package)

    def _is_of_plugin(self):
        return self.module.startswith(_JOINED)

    def _read_import(self, node, place):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if package_of(alias.name) in (package_of(self.module), 'spider_plugin', 'torch_utils_ext'):
                    self._refuse(f'imports {alias.name} as a module')
                self._need(alias.name, place)
            return
        origin = self._origin(node)
        if origin == '__future__':
            self.futures.update(alias.name for alias in node.names)
            self._dropped.append(node)
        elif f'{origin}.'.startswith(_JOINED) or package_of(origin) == package_of(self.module) != 'spider_plugin':
            self._join(node, origin, place)
        elif package_of(origin) in ('spider_plugin', 'torch_utils_ext'):
            self._refuse(f'imports {origin}')
        else:
            self._need(origin, place)

    def _need(self, name, place):
        if package_of(name) not in _OUTSIDE and place != 'optional' and not self._is_of_plugin():
            self.needs.add(package_of(name))

    def _join(self, node, origin, place):
        if place != 'top':
            self._refuse(f'imports {origin} inside a function or block')
        for alias in node.names:
            if alias.name == '*':
                self._refuse(f'imports all of {origin}')
            elif alias.asname not in (None, alias.name):
                self._refuse(f'gives {alias.name} of {origin} another name, which is lost where they are joined')
        self.joined.setdefault(origin, set()).update(alias.name for alias in node.names)
        self._dropped.append(node)

    def _drop_registration(self):
        """Leave out the imports of the plugin's other modules, the statements that use them, and what only these use."""
        if self._is_of_plugin():
            return
        body = self.tree.body
        self._dropped = [node for node in body if isinstance(node, ast.ImportFrom) and not node.level
                         and package_of(node.module) == 'spider_plugin' and not f'{node.module}.'.startswith(_JOINED)]
        names = {name for node in self._dropped for name, _ in self._bound(node)}
        while more := [node for node in body if node not in self._dropped and _used(node) & names]:
            for node in more:
                if isinstance(node, ast.ClassDef) or getattr(node, 'decorator_list', ()):
                    self._refuse(f"uses spider_plugin's {sorted(_used(node) & names)[0]} outside of a registration")
                names |= {name for name, _ in self._bound(node)}
            self._dropped += more
        kept, gone = (set().union(*(_used(node) for node in body if (node in self._dropped) == dropped))
                      for dropped in (False, True))
        self._dropped += [node for node in body if isinstance(node, ast.Import | ast.ImportFrom) and node not in self._dropped
                          and (bound := {name for name, _ in self._bound(node)}) & gone and not bound & kept]

    def _refuse_what_joining_breaks(self):
        if self._is_of_plugin():
            return
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and node.id in ('__file__', '__package__', '__path__', '__spec__'):
                self._refuse(f'uses {node.id}, which a snapshot does not have')
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'super' and node.args:
                self._refuse('calls super() with arguments, which ends nowhere once a host has replaced the class')
        for name in sorted(self.names()):
            if name in dir(builtins) and not name.startswith('_'):
                self._refuse(f'has a name {name}, as Python has')
        lines = [{line for node in nodes for line in range(node.lineno, node.end_lineno + 1)} for nodes in (
            self._left_out(), [node for node in self.tree.body if node not in self._left_out()])]
        if lines[0] & lines[1]:
            self._refuse(f'has two statements in line {min(lines[0] & lines[1])}')

    def _left_out(self):
        return [*self._dropped, *(self.tree.body[:1] if ast.get_docstring(self.tree) is not None else [])]

    def _text(self):
        drop = {line for node in self._left_out() for line in range(node.lineno, node.end_lineno + 1)}
        return '\n'.join(line for i, line in enumerate(self.source.splitlines(), start=1) if i not in drop).strip() + '\n'

    def names(self):
        """{name that the module binds: what to}, as in Part, without those of imports that joining replaces."""
        names = {}
        for node in (node for node in self.tree.body if node not in self._dropped):
            for name, bound in self._bound(node):
                if name != '__all__':
                    names[name] = names.get(name, frozenset()) | {bound}
        return names

    def importable(self):
        """Names that another module can import from this one once both are joined."""
        return set(self.names()).union(*self.joined.values())

    def _bound(self, node):
        """(name, dotted name of what is imported or None) of each name that a statement binds at the module's top level."""
        for part in _in_module_scope(node):
            if isinstance(part, ast.Import):
                yield from ((alias.asname, alias.name) if alias.asname else (package_of(alias.name),) * 2 for alias in part.names)
            elif isinstance(part, ast.ImportFrom):
                yield from ((alias.asname or alias.name, f'{self._origin(part)}.{alias.name}') for alias in part.names)
            elif isinstance(part, _SCOPES) and hasattr(part, 'name'):
                yield part.name, None
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id, None

    def _classes(self):
        """All classes but mixins, dataclasses, and those whose base does not take a subclass that a host makes of them."""
        nodes = (part for node in self.tree.body for part in _in_module_scope(node) if node not in self._dropped)
        return tuple(node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.endswith('Mixin')
                     and not any(ast.unparse(base).endswith(_FINAL_BASES) for base in node.bases)
                     and not any('dataclass' in ast.unparse(decorator) for decorator in node.decorator_list))

_FINAL_BASES = ('Function', 'Enum', 'Flag', 'NamedTuple', 'TypedDict', 'Protocol', 'Exception', 'Error', 'Warning')

#----------------------------------------------------------------------------
# Walks through a syntax tree.

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
           ast.GeneratorExp)

def _in_module_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, but nothing inside functions, classes and comprehensions."""
    yield node
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _in_module_scope(child)

def _used(node):
    """Names that a statement reads or binds, at any depth."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}

def _imports(node, place='top'):
    """(import statement, 'top', 'optional' inside of a try, or 'inside') of those that can run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, place
        elif not _is_for_type_checkers(child):
            yield from _imports(child, 'optional' if isinstance(child, ast.Try) or place == 'optional' else 'inside')

def _is_for_type_checkers(node):
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING')

#----------------------------------------------------------------------------
