"""Reads the part of the pickle language that StyleGAN-style hosts write, and calls nothing that a pickle names.

A pickle is a program for a stack machine. This machine has fewer instructions than Python's: those that build data, and three
that pass a name, a call or a state to functions given by the caller. Any other instruction ends the reading. Costs are bounded.
A length cannot exceed the rest of the file, there are at most MAX_STEPS instructions, and a budget pays for every object before
it is made, whether an instruction or a call makes it.

    machine = PickleMachine(file, size, resolve, fill)
    value = machine.load()          # The file may hold several pickles, one after the other.
"""

import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_STEPS = 1_000_000   # Snapshots of the largest networks have a few hundred thousand instructions.
MAX_ARGS  = 16          # Most arguments of one call.
_OVERHEAD = 6           # Bytes that objects may take for each byte of the file; views of tensors count in full.
_BASE     = 1 << 25     # Bytes that the objects of any file may take.

# Bytes of CPython objects, rounded up.
OBJECT = 64             # an empty tuple, list or dict, a number, a text without its letters
SLOT   = 8              # a place in a tuple, a list or the stack
ENTRY  = 104            # an entry of a dict or set while its table grows
SET    = 216            # an empty set
CALL   = 512            # a tensor, an array, a record

class Damaged(ValueError):
    """Bytes that are not a pickle, or not one that a host writes."""

class Forbidden(ValueError):
    """A name that is not in the table."""

@dataclass(frozen=True)
class StandIn:
    """The replacement of a name in a pickle; `make(machine, *args)` builds data. The machine calls no other object.

    held:   the name of a class that stays inert: its objects are made as Python makes an object before it has a state (NEWOBJ),
            and a call of it is refused."""

    make: Callable
    held: str = ''

#----------------------------------------------------------------------------

class Budget:
    """The steps and bytes that reading a file may still use."""

    def __init__(self, size):
        self.steps, self.bytes = MAX_STEPS, _OVERHEAD * size + _BASE

    def step(self):
        self.steps -= 1
        if self.steps < 0:
            raise Damaged(f'more than {MAX_STEPS} instructions')

    def spend(self, num_bytes):
        """Subtract the bytes that something will take. Raises Damaged if the budget is used up."""
        self.bytes -= num_bytes
        if self.bytes < 0:
            raise Damaged('its objects would take more memory than it can need')

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
    inert:       type of objects whose own items, such as those of a dict of a fork's class, are read and dropped.
    budget:      Budget shared by the pickles inside a pickle; default a new one for this size."""

    def __init__(self, file, size, resolve, fill, persistent=None, budget=None, inert=()):
        self.file, self.position, self.size = file, 0, size
        self.resolve, self.fill, self.persistent, self.inert = resolve, fill, persistent, inert
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

    def read_line(self, most=None):
        """Return the bytes up to the next line end, without it, of which there may be `most`.

        Protocols 0 and 1 write numbers, names and texts so; texts have no bound but the file."""
        left = self.size - self.position
        line = self.file.readline(left if most is None else min(left, most + 1))
        self.position += len(line)
        if not line.endswith(b'\n'):
            raise Damaged('it ends too early' if len(line) == left else 'a name or a number without an end')
        return line[:-1]

    def push(self, num_bytes, make, *args):
        """Pay for an object, make it, and put it on the stack."""
        self.budget.spend(num_bytes + SLOT)
        self.stack.append(make(*args))

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
        if self.stack and isinstance(self.stack[-1], self.inert):
            return kind()
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
        self.push(CALL, stand_in.make, self, *args)

#----------------------------------------------------------------------------
# Keys of dicts and sets. Tuples that share their parts take exponential time to hash, and chosen large integers all collide.

def checked_key(key):
    """Return the key. Raises Damaged unless it is text or a small integer."""
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 31):
        return key
    raise Damaged(f'a {type(key).__name__} as a key')

#----------------------------------------------------------------------------
# Constants.

def _number(machine, form):
    return struct.unpack(form, machine.read(struct.calcsize(form)))[0]

def _on_constant(opcode, value):
    _on(opcode)(lambda m: m.push(0, lambda: value))

def _on_empty(opcode, num_bytes, kind):
    _on(opcode)(lambda m: m.push(num_bytes, kind))

def _on_number(opcode, form):
    _on(opcode)(lambda m: m.push(OBJECT, _number, m, form))

def _on_bytes(opcode, form, convert):
    @_on(opcode)
    def handle(machine):
        length = _number(machine, form)
        machine.push(OBJECT + min(length, machine.size), lambda: convert(machine, machine.read(length)))

def _integer(_machine, data):
    return int.from_bytes(data, 'little', signed=True)

def _as_text(machine, data):
    return text_of(machine.budget, data)

def text_of(budget, data):
    """The text in UTF-8 bytes, whose letters take up to four bytes each, and one where all are below U+0100, as of bytes in
    protocols below 3."""
    if not data.isascii():
        budget.spend(len(data) if max(data) < 0xc4 else 4 * len(data))
    return str(data, 'utf-8', 'surrogatepass')

def _unchanged(_machine, data):
    return data

_on_constant(pickle.NONE, None)
_on_constant(pickle.NEWTRUE, True)
_on_constant(pickle.NEWFALSE, False)
_on_constant(pickle.EMPTY_TUPLE, ())
_on_empty(pickle.EMPTY_LIST, OBJECT, list)
_on_empty(pickle.EMPTY_DICT, OBJECT, dict)
_on_empty(pickle.EMPTY_SET,  SET, set)
_on_number(pickle.BININT,   '<i')
_on_number(pickle.BININT1,  '<B')
_on_number(pickle.BININT2,  '<H')
_on_number(pickle.BINFLOAT, '>d')
_on_bytes(pickle.LONG1,            '<B', _integer)
_on_bytes(pickle.SHORT_BINBYTES,   '<B', _unchanged)
_on_bytes(pickle.BINBYTES,         '<I', _unchanged)
_on_bytes(pickle.BINBYTES8,        '<Q', _unchanged)
_on_bytes(pickle.BYTEARRAY8,       '<Q', _unchanged)
_on_bytes(pickle.SHORT_BINUNICODE, '<B', _as_text)
_on_bytes(pickle.BINUNICODE,       '<I', _as_text)
_on_bytes(pickle.BINUNICODE8,      '<Q', _as_text)

# As lines of text, in protocols 0 and 1.

def _on_line(opcode, form, convert):
    """form: pattern of the line."""
    @_on(opcode)
    def handle(machine):
        line = machine.read_line(400)
        if not re.fullmatch(form, line):
            raise Damaged('a number of unknown form')
        machine.push(OBJECT, convert, line)

_on_line(pickle.INT,   rb'-?\d{1,20}',    lambda line: {b'00': False, b'01': True}[line] if line in (b'00', b'01') else int(line))
_on_line(pickle.LONG,  rb'-?\d{1,320}L?', lambda line: int(line.removesuffix(b'L')))
_on_line(pickle.FLOAT, rb'[-+.\w]{1,40}',  float)

@_on(pickle.UNICODE)
def _unicode(machine):
    line = machine.read_line()
    wide = re.search(rb'\\U|\\u(?!00)', line)     # letters from U+0100 on
    machine.push(OBJECT + (4 if wide else 1) * len(line), str, line, 'raw-unicode-escape')

#----------------------------------------------------------------------------
# Containers.

_on(pickle.TUPLE1)(lambda m: m.push(OBJECT, lambda: (m.pop(),)))
_on(pickle.TUPLE2)(lambda m: m.push(OBJECT, lambda: (m.pop(), m.pop())[::-1]))
_on(pickle.TUPLE3)(lambda m: m.push(OBJECT, lambda: (m.pop(), m.pop(), m.pop())[::-1]))

@_on(pickle.MARK)
def _mark(machine):
    machine.budget.spend(SLOT)
    machine.marks.append(len(machine.stack))

@_on(pickle.TUPLE)
def _tuple(machine):
    items = machine.pop_to_mark()
    machine.push(OBJECT + SLOT * len(items), tuple, items)

@_on(pickle.LIST)
def _list(machine):
    items = machine.pop_to_mark()
    machine.push(OBJECT + 2 * SLOT * len(items), list, items)

@_on(pickle.DICT)
def _dict(machine):
    items = machine.pop_to_mark()
    if len(items) % 2:
        raise Damaged('a key without a value')
    machine.push(OBJECT + ENTRY * (len(items) // 2), lambda: dict(zip(map(checked_key, items[::2]), items[1::2])))

@_on(pickle.APPEND)
def _append(machine):
    item = machine.pop()
    machine.budget.spend(2 * SLOT)      # lists grow by more than they need
    machine.top(list).append(item)

@_on(pickle.APPENDS)
def _appends(machine):
    items = machine.pop_to_mark()
    machine.budget.spend(2 * SLOT * len(items))
    machine.top(list).extend(items)

@_on(pickle.SETITEM)
def _setitem(machine):
    value, key = machine.pop(), machine.pop()
    machine.budget.spend(ENTRY)
    machine.top(dict)[checked_key(key)] = value

@_on(pickle.SETITEMS)
def _setitems(machine):
    items = machine.pop_to_mark()
    if len(items) % 2:
        raise Damaged('a key without a value')
    machine.budget.spend(ENTRY * (len(items) // 2))
    machine.top(dict).update(zip(map(checked_key, items[::2]), items[1::2]))

@_on(pickle.ADDITEMS)
def _additems(machine):
    items = machine.pop_to_mark()
    machine.budget.spend(ENTRY * len(items))
    machine.top(set).update(map(checked_key, items))

#----------------------------------------------------------------------------
# The memo, which holds objects that are used again.

def _remember(machine, index):
    if not machine.stack:
        raise Damaged('unbalanced instructions')
    machine.budget.spend(ENTRY)
    machine.memo[index] = machine.stack[-1]

def _recall(machine, index):
    if index not in machine.memo:
        raise Damaged('a reference to an object that does not exist')
    machine.push(0, machine.memo.get, index)

def _index(machine):
    line = machine.read_line(16)
    if not line.isdigit():
        raise Damaged('a reference of unknown form')
    return int(line)

_on(pickle.PUT)(lambda m: _remember(m, _index(m)))
_on(pickle.GET)(lambda m: _recall(m, _index(m)))
_on(pickle.MEMOIZE)(lambda m: _remember(m, len(m.memo)))
_on(pickle.BINPUT)(lambda m: _remember(m, _number(m, '<B')))
_on(pickle.LONG_BINPUT)(lambda m: _remember(m, _number(m, '<I')))
_on(pickle.BINGET)(lambda m: _recall(m, _number(m, '<B')))
_on(pickle.LONG_BINGET)(lambda m: _recall(m, _number(m, '<I')))

#----------------------------------------------------------------------------
# Names, calls and states, which the caller's functions interpret.

@_on(pickle.GLOBAL)
def _global(machine):
    machine.push(CALL, lambda: machine.resolve(_line(machine), _line(machine)))

@_on(pickle.STACK_GLOBAL)
def _stack_global(machine):
    name, module = machine.pop(str), machine.pop(str)
    machine.push(CALL, machine.resolve, module, name)

def _line(machine):
    return text_of(machine.budget, machine.read_line(255))

@_on(pickle.NEWOBJ)
def _new(machine):
    args = machine.pop(tuple)
    machine.push_made(machine.pop(), args)

@_on(pickle.REDUCE)
def _call(machine):
    args, function = machine.pop(tuple), machine.pop()
    if isinstance(function, StandIn) and function.held:
        raise Forbidden(function.held)
    machine.push_made(function, args)

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
    machine.push(OBJECT, machine.persistent, machine.pop())

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
