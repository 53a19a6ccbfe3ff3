"""Parts of a bundle: the text of portable modules without their docstrings and the imports that joining replaces.

A portable module imports torch, numpy, the standard library, torch_utils_ext.ops, spider_plugin.portable, and portable modules
of its own package. A module of another package may also hold its registration, `registry.mappings.register(...)(...)`: that
statement and the imports that it needs are left out of the bundle."""

import ast
import dataclasses
import functools
import importlib.util
import sys
from pathlib import Path

_JOINED  = ('spider_plugin.portable.', 'torch_utils_ext.')
_OUTSIDE = frozenset({'torch', 'numpy', *sys.stdlib_module_names,
                      'timm'})  # imported only where a user asks for a network of it

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Part:
    """module: its dotted name; text: its source; classes: names of those that pickles may refer to; names: of all that it
    defines."""

    module:  str
    text:    str
    classes: list
    names:   list

def join(modules):
    """[Part] of these modules and of the modules that they join, each once and after what it needs.

    Raises ValueError for a module that is not portable."""
    parts = {}
    def add(module):
        if module not in parts:
            reader = _read(module)
            if reader.obstacle:
                raise ValueError(f'{module} {reader.obstacle}')
            for other in reader.joined:
                add(other)
            parts[module] = Part(module, reader.text(), reader.classes(), reader.names())
    for module in modules:
        add(module)
    _check_names(parts.values())
    return list(parts.values())

@functools.cache
def not_portable(module):
    """Return why a module cannot travel in snapshots, such as 'my_package.net imports cv2'; None where it can, as can all of
    spider_plugin.portable."""
    if module.startswith(_JOINED):
        return None
    try:
        join([module])
    except (ValueError, SyntaxError) as error:
        return str(error)
    return None

def _check_names(parts):
    home = {}
    for part in parts:
        for name in part.names:
            if home.setdefault(name, part.module) != part.module:
                raise ValueError(f'{part.module} defines {name}, a name that {home[name]} has; give it another name')

#----------------------------------------------------------------------------

@functools.cache
def _read(module):
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith('.py'):
        raise ValueError(f'{module} has no source file')
    return _Reader(module, Path(spec.origin).read_text(encoding='utf-8'))

class _Reader:
    """One module: what joining takes from it and what it leaves out.

    joined:     modules whose text comes before this one's.
    obstacle:   why the module is not portable, or None."""

    def __init__(self, module, source):
        self.module, self.source, self.tree = module, source, ast.parse(source)
        self.joined, self.obstacle, self._dropped = [], None, []
        self._package = module.partition('.')[0]
        self._read_imports()
        self._drop_registrations()

    def _read_imports(self):
        top_level = set(map(id, self.tree.body))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                self._read_import_from(node, id(node) in top_level)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition('.')[0] not in _OUTSIDE:
                        self._refuse(f'imports {alias.name}')

    def _read_import_from(self, node, top_level):
        package = (node.module or '').partition('.')[0]
        if node.level:
            self._refuse('has a relative import')
        elif package in _OUTSIDE:
            return
        elif not top_level:
            self._refuse(f'imports {node.module} inside a function')
        elif f'{node.module}.'.startswith(_JOINED) or package == self._package != 'spider_plugin':
            if any(alias.asname for alias in node.names):
                self._refuse(f'gives a name of {node.module} another name, which is lost where they are joined')
            self.joined.append(node.module)
            self._dropped.append(node)
        elif package == 'spider_plugin' != self._package:
            self._dropped.append(node)      # for its registration
        else:
            self._refuse(f'imports {node.module}')

    def _drop_registrations(self):
        names = {alias.asname or alias.name for node in self._dropped if not f'{node.module}.'.startswith(_JOINED)
                 and node.module.partition('.')[0] == 'spider_plugin' for alias in node.names}
        for node in self.tree.body:
            used = names & {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            if used and isinstance(node, ast.Expr):
                self._dropped.append(node)
            elif used:
                self._refuse(f'uses spider_plugin\'s {sorted(used)[0]} outside of a registration')

    def _refuse(self, why):
        self.obstacle = self.obstacle or why

    def text(self):
        """The source without its docstring and what joining leaves out."""
        nodes = [*self._dropped, *(self.tree.body[:1] if ast.get_docstring(self.tree) else [])]
        drop = {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}
        return '\n'.join(line for i, line in enumerate(self.source.splitlines(), start=1) if i not in drop).strip() + '\n'

    def names(self):
        """Classes and functions."""
        return [node.name for node in self.tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]

    def classes(self):
        """All classes but mixins, dataclasses and functions of autograd."""
        return [node.name for node in self.tree.body if isinstance(node, ast.ClassDef) and not node.name.endswith('Mixin')
                and not any(ast.unparse(base).endswith('Function') for base in node.bases)
                and not any('dataclass' in ast.unparse(decorator) for decorator in node.decorator_list)]

#----------------------------------------------------------------------------
