"""Reads the part of the pickle language that StyleGAN-style hosts write, and calls nothing that a pickle names.

A pickle is a program for a stack machine. This machine has fewer instructions than Python's: those that build data, and three
that pass a name, a call or a state to functions given by the caller. Any other instruction ends the reading. Costs are bounded.
A length cannot exceed the rest of the file, there are at most MAX_STEPS instructions, and a budget limits the memory of calls.

    machine = PickleMachine(file, size, resolve, fill)
    value = machine.load()          # The file may hold several pickles, one after the other.
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_STEPS = 1_000_000   # Snapshots of the largest networks have a few hundred thousand instructions.
MAX_ARGS  = 16          # Most arguments of one call.
_OVERHEAD = 4           # Bytes that calls may build for each byte of the file; views of tensors count in full.

class Damaged(ValueError):
    """Bytes that are not a pickle, or not one that a host writes."""

class Forbidden(ValueError):
    """A name that is not in the table."""

@dataclass(frozen=True)
class StandIn:
    """The replacement of a name in a pickle; `make(machine, *args)` builds data. The machine calls no other object."""

    make: Callable

#----------------------------------------------------------------------------

class Budget:
    """The steps and bytes that reading a file may still use."""

    def __init__(self, size):
        self.steps, self.bytes = MAX_STEPS, _OVERHEAD * size + (1 << 24)

    def step(self):
        self.steps -= 1
        if self.steps < 0:
            raise Damaged(f'more than {MAX_STEPS} instructions')

    def spend(self, num_bytes):
        """Subtract the bytes that a call builds. Raises Damaged if the budget is used up."""
        self.bytes -= num_bytes
        if self.bytes < 0:
            raise Damaged('its calls would build more than it holds')

_HANDLERS = {} # {opcode: function of the machine}

def _on(*opcodes):
    def register(handler):
        _HANDLERS.update(dict.fromkeys(opcodes, handler))
        return handler
    return register

class PickleMachine:
    """A stack machine for one file, which may hold several pickles.

    file:        binary file, at its beginning.
    size:        bytes from there to the end.
    resolve:     (module, name) -> StandIn, or data; raises Forbidden.
    fill:        (machine, object, state) -> None, gives a new object its state.
    persistent:  identifier -> object; without it, pickles with identifiers are refused.
    budget:      Budget shared by the pickles inside a pickle; default a new one for this size."""

    def __init__(self, file, size, resolve, fill, persistent=None, budget=None):
        self.file, self.position, self.size = file, 0, size
        self.resolve, self.fill, self.persistent = resolve, fill, persistent
        self.budget = budget or Budget(size)

    def read(self, count):
        """Return exactly the next `count` bytes. Nothing is allocated for more bytes than the file has."""
        if count > self.size - self.position:
            raise Damaged('it ends too early')
        data = self.file.read(count)
        if len(data) != count:
            raise Damaged('it ends too early')
        self.position += count
        return data

    def load(self):
        """Return the value of the next pickle in the file. Raises Damaged or Forbidden; bad data can raise other errors."""
        self.stack, self.marks, self.memo, self.frame_end, self.done = [], [], {}, 0, False
        while not self.done:
            start = self.position
            opcode = self.read(1)
            handler = _HANDLERS.get(opcode)
            if handler is None:
                raise Damaged(f'the byte {opcode.hex()} is not an instruction that hosts write')
            self.budget.step()
            handler(self)
            if start < self.frame_end < self.position:
                raise Damaged('a frame of the wrong length')
        if len(self.stack) != 1 or self.marks:
            raise Damaged('unbalanced instructions')
        return self.stack.pop()

    # The stack; a mark remembers its height.

    def pop(self, kind=object):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damaged('unbalanced instructions')
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise Damaged(f'a {type(value).__name__} in place of a {kind.__name__}')
        return value

    def top(self, kind):
        """Return the object on top. Raises Damaged unless its type is exactly `kind`, as instructions that change data need."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise Damaged(f'there is no {kind.__name__} to add to')
        return self.stack[-1]

    def pop_to_mark(self):
        if not self.marks:
            raise Damaged('unbalanced instructions')
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def push_made(self, stand_in, args):
        if not isinstance(stand_in, StandIn) or len(args) > MAX_ARGS:
            raise Damaged('a call of something that is not a function')
        self.stack.append(stand_in.make(self, *args))

#----------------------------------------------------------------------------
# Keys of dicts and sets. Tuples that share their parts take exponential time to hash, and chosen large integers all collide.

def checked_key(key):
    """Return the key. Raises Damaged unless it is text or a small integer."""
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 31):
        return key
    raise Damaged(f'a {type(key).__name__} as a key')

#----------------------------------------------------------------------------
# Constants.

_on(pickle.NONE)(lambda m: m.stack.append(None))
_on(pickle.NEWTRUE)(lambda m: m.stack.append(True))
_on(pickle.NEWFALSE)(lambda m: m.stack.append(False))
_on(pickle.EMPTY_TUPLE)(lambda m: m.stack.append(()))
_on(pickle.EMPTY_LIST)(lambda m: m.stack.append([]))
_on(pickle.EMPTY_DICT)(lambda m: m.stack.append({}))
_on(pickle.EMPTY_SET)(lambda m: m.stack.append(set()))
_on(pickle.LONG1)(lambda m: m.stack.append(int.from_bytes(m.read(_number(m, '<B')), 'little', signed=True)))

def _number(machine, form):
    return struct.unpack(form, machine.read(struct.calcsize(form)))[0]

def _on_number(opcode, form):
    _on(opcode)(lambda m: m.stack.append(_number(m, form)))

def _on_bytes(opcode, form, convert):
    _on(opcode)(lambda m: m.stack.append(convert(m.read(_number(m, form)))))

def _text(data):
    return str(data, 'utf-8', 'surrogatepass')

_on_number(pickle.BININT,   '<i')
_on_number(pickle.BININT1,  '<B')
_on_number(pickle.BININT2,  '<H')
_on_number(pickle.BINFLOAT, '>d')
_on_bytes(pickle.SHORT_BINBYTES,   '<B', bytes)
_on_bytes(pickle.BINBYTES,         '<I', bytes)
_on_bytes(pickle.BINBYTES8,        '<Q', bytes)
_on_bytes(pickle.BYTEARRAY8,       '<Q', bytes)
_on_bytes(pickle.SHORT_BINUNICODE, '<B', _text)
_on_bytes(pickle.BINUNICODE,       '<I', _text)
_on_bytes(pickle.BINUNICODE8,      '<Q', _text)

#----------------------------------------------------------------------------
# Containers.

_on(pickle.MARK)(lambda m: m.marks.append(len(m.stack)))
_on(pickle.TUPLE)(lambda m: m.stack.append(tuple(m.pop_to_mark())))
_on(pickle.TUPLE1)(lambda m: m.stack.append((m.pop(),)))
_on(pickle.TUPLE2)(lambda m: m.stack.append((m.pop(), m.pop())[::-1]))
_on(pickle.TUPLE3)(lambda m: m.stack.append((m.pop(), m.pop(), m.pop())[::-1]))

@_on(pickle.APPEND)
def _append(machine):
    item = machine.pop()
    machine.top(list).append(item)

@_on(pickle.APPENDS)
def _appends(machine):
    items = machine.pop_to_mark()
    machine.top(list).extend(items)

@_on(pickle.SETITEM)
def _setitem(machine):
    value, key = machine.pop(), machine.pop()
    machine.top(dict)[checked_key(key)] = value

@_on(pickle.SETITEMS)
def _setitems(machine):
    items = machine.pop_to_mark()
    if len(items) % 2:
        raise Damaged('a key without a value')
    machine.top(dict).update(zip(map(checked_key, items[::2]), items[1::2]))

@_on(pickle.ADDITEMS)
def _additems(machine):
    items = machine.pop_to_mark()
    machine.top(set).update(map(checked_key, items))

#----------------------------------------------------------------------------
# The memo, which holds objects that are used again.

def _remember(machine, index):
    if not machine.stack:
        raise Damaged('unbalanced instructions')
    machine.memo[index] = machine.stack[-1]

def _recall(machine, index):
    if index not in machine.memo:
        raise Damaged('a reference to an object that does not exist')
    machine.stack.append(machine.memo[index])

_on(pickle.MEMOIZE)(lambda m: _remember(m, len(m.memo)))
_on(pickle.BINPUT)(lambda m: _remember(m, _number(m, '<B')))
_on(pickle.LONG_BINPUT)(lambda m: _remember(m, _number(m, '<I')))
_on(pickle.BINGET)(lambda m: _recall(m, _number(m, '<B')))
_on(pickle.LONG_BINGET)(lambda m: _recall(m, _number(m, '<I')))

#----------------------------------------------------------------------------
# Names, calls and states, which the caller's functions interpret.

@_on(pickle.GLOBAL)
def _global(machine):
    machine.stack.append(machine.resolve(_line(machine), _line(machine)))

@_on(pickle.STACK_GLOBAL)
def _stack_global(machine):
    name, module = machine.pop(str), machine.pop(str)
    machine.stack.append(machine.resolve(module, name))

def _line(machine):
    line = b''
    while not line.endswith(b'\n'):
        line += machine.read(1)
        if len(line) > 256:
            raise Damaged('a name without an end')
    return _text(line[:-1])

@_on(pickle.REDUCE, pickle.NEWOBJ)
def _make(machine):
    args = machine.pop(tuple)
    machine.push_made(machine.pop(), args)

@_on(pickle.BUILD)
def _build(machine):
    state = machine.pop()
    if not machine.stack:
        raise Damaged('unbalanced instructions')
    machine.fill(machine, machine.stack[-1], state)

@_on(pickle.BINPERSID)
def _persistent(machine):
    if machine.persistent is None:
        raise Damaged('identifiers of objects outside the file')
    machine.stack.append(machine.persistent(machine.pop()))

#----------------------------------------------------------------------------
# The frame of the program.

@_on(pickle.PROTO)
def _proto(machine):
    if _number(machine, '<B') > pickle.HIGHEST_PROTOCOL:
        raise Damaged('an unknown protocol version')

@_on(pickle.FRAME)
def _frame(machine):
    length = _number(machine, '<Q')
    if length > machine.size - machine.position or machine.position < machine.frame_end:
        raise Damaged('a frame of the wrong length')
    machine.frame_end = machine.position + length

@_on(pickle.STOP)
def _stop(machine):
    machine.done = True

#----------------------------------------------------------------------------
