"""The attached line in one script, bytes to bytes.

The line stands where the anchor rule of patches/attach.json says, found by the syntax tree; the bytes around it are left alone,
so that the encoding, the line endings and a missing last newline survive."""

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
    """A script that is left alone; the message is the reason, without the script's name."""

@functools.cache
def patch():
    """What patches/attach.json holds; `line` and `marker` as bytes."""
    values = json.loads((resource_dir('patches') / 'attach.json').read_text(encoding='utf-8'))
    return values | {name: values[name].encode() for name in ('line', 'marker')}

#----------------------------------------------------------------------------

def attach_source(source):
    """The source with our line at its place; one that has it elsewhere, or another version's, gets it anew.

    Raises NotUnderstood."""
    bare = detach_source(source)
    tree = parse(bare)
    bom = bare[:3] if bare.startswith(codecs.BOM_UTF8) else b''
    lines = bare[len(bom):].splitlines(keepends=True)
    at = _anchor(tree, lines)
    if at > 0 and not _ending(lines[at - 1]): # The end of a file without a last newline, which it stays.
        ours = (next(filter(None, map(_ending, reversed(lines))), b'\n'), patch()['line'])
    else:
        ours = (patch()['line'], next(filter(None, map(_ending, lines[max(at - 1, 0):])), b'\n'))
    attached = bom + b''.join([*lines[:at], *ours, *lines[at:]])
    if not _says_the_same(attached, bare, tree):
        raise NotUnderstood(f'takes no line of its own after line {at}: end the statement there')
    return attached

def _says_the_same(attached, bare, tree):
    """Whether nothing but our statement has come to the source `bare`, whose syntax tree is `tree`."""
    try:
        rest = parse(attached)
    except NotUnderstood:
        return False
    rest.body = [node for node in rest.body if not _is_ours(node, attached)]
    try:
        return ast.dump(rest) == ast.dump(tree) and _encoding(attached) == _encoding(bare)
    except RecursionError as error:
        raise NotUnderstood('is nested too deeply') from error

def detach_source(source):
    """The source without our line, in whatever version; of a source that is no Python any more, the line alone is read.

    Raises NotUnderstood where the line has become part of something else."""
    lines = source.splitlines(keepends=True)
    spans = [(node.lineno - 1, node.end_lineno) for node in our_statements(source)]
    for start, end in reversed(spans):
        if not _ending(lines[end - 1]) and start > 0: # The last line, and the file ended without a newline.
            lines[start - 1] = lines[start - 1].rstrip(b'\r\n')
        bom = codecs.BOM_UTF8 if start == 0 and lines[0].startswith(codecs.BOM_UTF8) else b''
        lines[start:end] = [bom]
    rest = b''.join(lines)
    for number in _marked_imports(rest):
        raise NotUnderstood(f'has our line in a changed form, line {number}: take it out by hand')
    return rest

def our_statements(source):
    """The syntax trees of our line in a source: none, one, or more where somebody has copied it."""
    try:
        return [node for node in parse(source).body if _is_ours(node, source)]
    except NotUnderstood:
        return [node for number, line in enumerate(source.splitlines()) for node in _our_line(line, number)]

def is_current(node):
    """Whether a statement of ours is what this version writes, however it is laid out."""
    return ast.dump(node) == ast.dump(ast.parse(patch()['line']).body[0])

def parse(source):
    """The syntax tree of a script's bytes. Raises NotUnderstood."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return ast.parse(source)
    except SyntaxError as error:
        where = f', line {error.lineno}' if error.lineno else ''
        raise NotUnderstood(f'is not Python {sys.version_info[0]}.{sys.version_info[1]} ({error.msg}{where})') from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotUnderstood(f'is not Python ({error})') from error

def _is_ours(node, source):
    """An `if` that does nothing but import from the plugin, and bears the marker."""
    return (isinstance(node, ast.If) and not node.orelse and len(node.body) == 1 and isinstance(node.body[0], ast.Import)
            and all(alias.name.startswith('spider_plugin.') for alias in node.body[0].names)
            and patch()['marker'] in b'\n'.join(source.splitlines()[node.lineno - 1 : node.end_lineno]))

def _marked_imports(source):
    """Line numbers that bear the marker, of code alone where the source is Python."""
    marked = {number for number, line in enumerate(source.splitlines(), start=1) if patch()['marker'] in line}
    with contextlib.suppress(NotUnderstood):
        marked &= {node.lineno for node in ast.walk(parse(source)) if isinstance(node, ast.Import)}
    return sorted(marked)

def _our_line(line, number):
    if patch()['marker'] in line:
        with contextlib.suppress(NotUnderstood):
            return [ast.increment_lineno(node, number) for node in parse(line).body if _is_ours(node, line)]
    return []

def _anchor(tree, lines):
    """How many lines stand above ours. The header ends with the docstring and the __future__ imports; where there are none,
    with the leading comments, but for those directly above a statement that are not the first."""
    header = [node for number, node in enumerate(tree.body) if number == 0 and ast.get_docstring(tree) is not None]
    for node in tree.body[len(header):]:
        if not isinstance(node, ast.ImportFrom) or node.module != '__future__':
            break
        header.append(node)
    if header:
        at = header[-1].end_lineno
        if len(tree.body) > len(header) and tree.body[len(header)].lineno <= at:
            raise NotUnderstood(f'has another statement in line {at}, where its docstring or __future__ imports end: '
                                'put that on a line of its own')
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
        raise NotUnderstood(f'has an encoding that is not known ({error})') from error

#----------------------------------------------------------------------------
