"""Puts the attached line into the source of a script and removes it, bytes to bytes.

The anchor rule of patches/attach.json gives the place of the line, which is found by the syntax tree. The bytes around it do not
change, so the encoding, the line endings and a missing last newline are kept."""

import ast
import codecs
import contextlib
import functools
import json
import sys
import tokenize
import warnings

from spider_plugin.resources import resource_dir

class NotUnderstood(ValueError):
    """A script that cannot be changed; the message is the reason, without the script's name."""

@functools.cache
def patch():
    """Return the content of patches/attach.json, with `line` and `marker` as bytes."""
    values = json.loads((resource_dir('patches') / 'attach.json').read_text(encoding='utf-8'))
    return values | {name: values[name].encode() for name in ('line', 'marker')}

#----------------------------------------------------------------------------

def attach_source(source):
    """Return the source with the line at its place. A line elsewhere, or that of another version, is replaced.

    Raises NotUnderstood."""
    bare = detach_source(source)
    tree = parse(bare)
    bom = bare[:3] if bare.startswith(codecs.BOM_UTF8) else b''
    lines = bare[len(bom):].splitlines(keepends=True)
    at = _anchor(tree, lines)
    if at > 0 and not _ending(lines[at - 1]): # The file ends here without a newline, and still does afterwards.
        added = (next(filter(None, map(_ending, reversed(lines))), b'\n'), patch()['line'])
    else:
        added = (patch()['line'], next(filter(None, map(_ending, lines[max(at - 1, 0):])), b'\n'))
    attached = bom + b''.join([*lines[:at], *added, *lines[at:]])
    if not _says_the_same(attached, bare, tree):
        raise NotUnderstood(f'cannot take a separate line after line {at} (end the statement there)')
    return attached

def _says_the_same(attached, bare, tree):
    """Return whether `attached` differs from the source `bare` with syntax tree `tree` only by the plugin's statement."""
    try:
        rest = parse(attached)
    except NotUnderstood:
        return False
    rest.body = [node for node in rest.body if not _is_plugin_statement(node, attached)]
    try:
        return ast.dump(rest) == ast.dump(tree) and _encoding(attached) == _encoding(bare)
    except RecursionError as error:
        raise NotUnderstood('is nested too deeply') from error

def detach_source(source):
    """Return the source without the plugin's line, in any version. A source that is not valid Python is searched by lines.

    Raises NotUnderstood if the line has become part of another statement."""
    lines = source.splitlines(keepends=True)
    spans = [(node.lineno - 1, node.end_lineno) for node in plugin_statements(source)]
    for start, end in reversed(spans):
        if not _ending(lines[end - 1]) and start > 0: # This is the last line of a file that ended without a newline.
            lines[start - 1] = lines[start - 1].rstrip(b'\r\n')
        bom = codecs.BOM_UTF8 if start == 0 and lines[0].startswith(codecs.BOM_UTF8) else b''
        lines[start:end] = [bom]
    rest = b''.join(lines)
    for number in _marked_imports(rest):
        raise NotUnderstood(f'has the line of spider-plugin in a changed form in line {number} (remove it by hand)')
    return rest

def plugin_statements(source):
    """Return the syntax trees of the plugin's line in a source; there may be several if a user has copied it."""
    try:
        return [node for node in parse(source).body if _is_plugin_statement(node, source)]
    except NotUnderstood:
        return [node for number, line in enumerate(source.splitlines()) for node in _plugin_statement_of_line(line, number)]

def is_current(node):
    """Return whether a statement is the one that this version writes, in any layout."""
    return ast.dump(node) == ast.dump(ast.parse(patch()['line']).body[0])

def parse(source):
    """Return the syntax tree of a script's bytes. Raises NotUnderstood."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return ast.parse(source)
    except SyntaxError as error:
        where = f', line {error.lineno}' if error.lineno else ''
        raise NotUnderstood(f'is not Python {sys.version_info[0]}.{sys.version_info[1]} ({error.msg}{where})') from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotUnderstood(f'is not Python ({error})') from error

def _is_plugin_statement(node, source):
    """Return whether a node is an `if` that only imports from the plugin and has the marker."""
    return (isinstance(node, ast.If) and not node.orelse and len(node.body) == 1 and isinstance(node.body[0], ast.Import)
            and all(alias.name.startswith('spider_plugin.') for alias in node.body[0].names)
            and patch()['marker'] in b'\n'.join(source.splitlines()[node.lineno - 1 : node.end_lineno]))

def _marked_imports(source):
    """Return the numbers of lines with the marker; if the source is valid Python, of import statements only."""
    marked = {number for number, line in enumerate(source.splitlines(), start=1) if patch()['marker'] in line}
    with contextlib.suppress(NotUnderstood):
        marked &= {node.lineno for node in ast.walk(parse(source)) if isinstance(node, ast.Import)}
    return sorted(marked)

def _plugin_statement_of_line(line, number):
    if patch()['marker'] in line:
        with contextlib.suppress(NotUnderstood):
            return [ast.increment_lineno(node, number) for node in parse(line).body if _is_plugin_statement(node, line)]
    return []

def _anchor(tree, lines):
    """Return the number of lines above the plugin's line, the header.

    The header ends with the docstring and the __future__ imports. Without these, it ends with the leading comments, except a
    block directly above a statement that is not the first block."""
    header = [node for number, node in enumerate(tree.body) if number == 0 and ast.get_docstring(tree) is not None]
    for node in tree.body[len(header):]:
        if not isinstance(node, ast.ImportFrom) or node.module != '__future__':
            break
        header.append(node)
    if header:
        at = header[-1].end_lineno
        if len(tree.body) > len(header) and tree.body[len(header)].lineno <= at:
            raise NotUnderstood(f'has another statement in line {at}, where its docstring or __future__ imports end '
                                '(put that on a separate line)')
        return at
    starts = [part.lineno for node in tree.body[:1] for part in (node, *getattr(node, 'decorator_list', ()))]
    first = min(starts, default=len(lines) + 1) - 1
    blocks = [end for end in range(1, first + 1) if lines[end - 1].strip() and (end == first or not lines[end].strip())]
    if len(blocks) > 1 and blocks[-1] == first:
        del blocks[-1]
    return blocks[-1] if blocks else 0

def _ending(line):
    return line[len(line.rstrip(b'\r\n')):]

def _encoding(source):
    try:
        return tokenize.detect_encoding(iter(source.splitlines(keepends=True)).__next__)[0]
    except SyntaxError as error:
        raise NotUnderstood(f'has an unknown encoding ({error})') from error

#----------------------------------------------------------------------------
