"""Hostile pickles, assembled by hand: `cases(canary)`.

The calls in those whose name begins with `live` write the file `canary` when Python's own reader opens them."""

import io
import pickle as P
import struct
import zipfile

#----------------------------------------------------------------------------
# An assembler.

def text(s):
    return P.BINUNICODE + struct.pack('<I', len(s.encode())) + s.encode()

def data(b):
    return P.BINBYTES + struct.pack('<I', len(b)) + b

def number(n):
    return P.BININT + struct.pack('<i', n) if abs(n) < 1 << 31 else P.LONG1 + b'\x0a' + n.to_bytes(10, 'little', signed=True)

def put(i):
    return P.BINPUT + bytes([i])

def get(i):
    return P.BINGET + bytes([i])

def tuple_of(*parts):
    return P.MARK + b''.join(parts) + P.TUPLE

def dict_of(**items):
    return P.EMPTY_DICT + P.MARK + b''.join(text(key) + value for key, value in items.items()) + P.SETITEMS

def name(module, name):
    return text(module) + text(name) + P.STACK_GLOBAL

def call(function, *args):
    return function + tuple_of(*args) + P.REDUCE

def whole(value, protocol=4):
    return P.PROTO + bytes([protocol]) + value + P.STOP

def snapshot(value):
    """A pickle of {'G_ema': value}."""
    return whole(dict_of(G_ema=value))

def laughs():
    """Return a tuple of two references to a tuple of two references, and so on, sixty deep."""
    return P.EMPTY_TUPLE + put(99) + (get(99) + P.TUPLE2 + put(99)) * 60

#----------------------------------------------------------------------------
# What hosts write.

RECORD = name('torch_utils.persistence', '_reconstruct_persistent_obj')
STORAGE, TENSOR = name('torch.storage', '_load_from_bytes'), name('torch._utils', '_rebuild_tensor_v2')
LINEAR, ORDERED = name('torch.nn.modules.linear', 'Linear'), name('collections', 'OrderedDict')
SCALAR = name('numpy.core.multiarray', 'scalar')

MAGIC = 0x1950a86a20f9469cfc6c

def storage_bytes(count=4, claimed=None, numbers=None, kind='torch\nFloatStorage\n', key=text('0'), keys=None, magic=MAGIC):
    """Return a storage of float32 zeros in torch's legacy format; `claimed` is the count in it."""
    claimed = count if claimed is None else claimed
    described = tuple_of(text('storage'), P.GLOBAL + kind.encode(), key, text('cpu'), number(claimed), P.NONE)
    keys = P.EMPTY_LIST + key + P.APPEND if keys is None else keys
    return (b''.join(P.dumps(value, 2) for value in (magic, 1001, dict(little_endian=True))) + whole(described + P.BINPERSID, 2)
            + whole(keys, 2) + struct.pack('<q', claimed) + (bytes(4 * count) if numbers is None else numbers))

def storage(**options):
    return call(STORAGE, data(storage_bytes(**options)))

def tensor(store=None, offset=0, size=(4,), stride=(1,)):
    size, stride = tuple_of(*map(number, size)), tuple_of(*map(number, stride))
    return call(TENSOR, store or storage(), number(offset), size, stride, P.NEWFALSE, call(ORDERED))

def module(**state):
    """A torch module, pickled by reference."""
    return LINEAR + P.EMPTY_TUPLE + P.NEWOBJ + dict_of(**state) + P.BUILD

def record(source='', **state):
    """A persistent object."""
    return call(RECORD, dict_of(type=text('class'), version=number(6), module_src=text(source), class_name=text('Generator'),
                                state=dict_of(**state)))

def generator(kwargs, source=''):
    """A record with the one tensor that identifies a StyleGAN2 generator."""
    b4 = module(_parameters=dict_of(const=tensor()))
    return record(source, _init_kwargs=kwargs, _modules=dict_of(synthesis=module(_modules=dict_of(b4=b4))))

def sizes(**changed):
    plain = dict(z_dim=8, c_dim=0, w_dim=8, img_resolution=16, img_channels=3, channel_base=64, channel_max=8)
    return dict_of(**{key: number(value) for key, value in plain.items()} | changed)

def dtype(code):
    return call(name('numpy', 'dtype'), text(code), P.NEWFALSE, P.NEWTRUE)

def array(code, content, *shape):
    empty = call(name('numpy.core.multiarray', '_reconstruct'), name('numpy', 'ndarray'), tuple_of(number(0)), data(b'b'))
    return empty + tuple_of(number(1), tuple_of(*map(number, shape)), dtype(code), P.NEWFALSE, data(content)) + P.BUILD

def zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(30_000_000))
    return buffer.getvalue()

#----------------------------------------------------------------------------
# Every instruction that can call or build, and names that would be worth calling.

EXTENSION = 0xf7        # registered for io.open, in `control` and beside our reader

def calls(canary):
    args, opened = text(canary) + text('w'), name('io', 'open')
    source = f'open({canary!r}, "w")'
    code = text(source)
    evil = whole(call(opened, args))
    io_open = call(name('builtins', 'getattr'), call(name('builtins', '__import__'), text('io')), text('open'))
    by_extension = P.MARK + args + P.TUPLE + P.REDUCE + P.STOP
    return {
        'live GLOBAL':              P.PROTO + b'\2cio\nopen\n' + tuple_of(args) + P.REDUCE + P.STOP,
        'live protocol 0':          f"cio\nopen\n(V{canary}\nVw\ntR.".encode(),
        'live STACK_GLOBAL':        evil,
        'live INST':                P.MARK + args + P.INST + b'io\nopen\n.',
        'live OBJ':                 P.MARK + opened + args + P.OBJ + P.STOP,
        'live EXT1':                P.EXT1 + struct.pack('<B', EXTENSION) + by_extension,
        'live EXT2':                P.EXT2 + struct.pack('<H', EXTENSION) + by_extension,
        'live EXT4':                P.EXT4 + struct.pack('<i', EXTENSION) + by_extension,
        'live in a snapshot':       snapshot(call(opened, args)),
        'live in a state':          snapshot(dict_of(_modules=dict_of(x=call(opened, args)))),
        'live in a frame':          P.PROTO + b'\4' + P.FRAME + struct.pack('<Q', len(evil) - 2) + evil[2:],
        'live and dropped':         whole(call(opened, args) + P.POP + dict_of()),
        'live exec':                snapshot(call(name('builtins', 'exec'), code)),
        'live eval':                snapshot(call(name('builtins', 'eval'), code)),
        'live getattr':             snapshot(call(io_open, args)),
        'live partial':             snapshot(call(call(name('functools', 'partial'), opened), args)),
        'live pickle in a pickle':  snapshot(call(name('pickle', 'loads'), data(evil))),
        'live dotted name':         snapshot(call(name('pickle', 'io.open'), args)),
        'live module source':       snapshot(generator(sizes(), source)),
        'NEWOBJ':                   snapshot(name('subprocess', 'Popen') + tuple_of(text('true')) + P.NEWOBJ),
        'NEWOBJ_EX':                snapshot(LINEAR + tuple_of() + dict_of(bias=P.NEWTRUE) + P.NEWOBJ_EX),
        'PERSID':                   P.PERSID + b'0\n.',
        'BINPERSID':                snapshot(text('0') + P.BINPERSID),
        'NEXT_BUFFER':              whole(P.NEXT_BUFFER, protocol=5),
        'call of text':             snapshot(call(text('open'), args)),
        'call of a tensor':         snapshot(call(tensor(), args)),
        'import only':              snapshot(name('antigravity', 'webbrowser')),
        'dotted name of a module':  snapshot(call(name('torch.nn.modules.linear', 'Linear.__init__.__globals__'))),
        'dunder of a package':      snapshot(call(name('timm.layers', '__builtins__.exec'), code)),
        'code object':              snapshot(call(name('types', 'CodeType'), number(0))),
        'dill function':            snapshot(call(name('dill._dill', '_create_function'), number(0))),
        'copyreg':                  snapshot(call(name('copyreg', '_reconstructor'), LINEAR, LINEAR, P.NONE)),
        'torch.load':               snapshot(call(name('torch', 'load'), text(canary))),
        'torch.hub':                snapshot(call(name('torch.hub', 'load'), text('x'), text('y'))),
        'numpy.load':               snapshot(call(name('numpy', 'load'), text(canary))),
        'host class':               snapshot(call(name('training.networks_stylegan2', 'Generator'), number(1))),
        'pickle in a storage':      snapshot(call(STORAGE, data(evil))),
        'call in a storage':        snapshot(storage(key=call(opened, args))),
        'name in a storage':        snapshot(storage(kind='os\nsystem\n')),
        'pickle in an array':       snapshot(array('O8', evil, 1)),
    }

#----------------------------------------------------------------------------
# States that would patch the object that gets them.

def states():
    new = LINEAR + P.EMPTY_TUPLE + P.NEWOBJ
    return {
        'BUILD on a function':      snapshot(TENSOR + dict_of(__code__=number(1)) + P.BUILD),
        'BUILD on a class':         snapshot(LINEAR + dict_of(__setstate__=LINEAR) + P.BUILD),
        'BUILD on a dict':          snapshot(call(ORDERED) + dict_of(__class__=LINEAR) + P.BUILD),
        'BUILD on a tensor':        snapshot(tensor() + dict_of(data=number(1)) + P.BUILD),
        'BUILD with slots':         snapshot(new + tuple_of(P.NONE, dict_of(state=number(1))) + P.BUILD),
        'BUILD __setstate__':       snapshot(module(__setstate__=name('os', 'system'))),
        'BUILD __class__':          snapshot(module(__class__=ORDERED, _modules=P.EMPTY_LIST)),
        'modules in a list':        snapshot(record(_modules=P.EMPTY_LIST)),
        'modules by number':        snapshot(record(_modules=P.EMPTY_DICT + number(3) + P.NONE + P.SETITEM)),
        'class name of a number':   snapshot(call(RECORD, dict_of(type=text('class'), class_name=number(1), state=dict_of()))),
        'arguments of a number':    snapshot(record(_init_args=number(1))),
        'item of a tensor':         snapshot(tensor() + number(0) + number(1) + P.SETITEM),
        'append to a module':       snapshot(module() + number(0) + P.APPEND),
    }

#----------------------------------------------------------------------------
# The formats of torch and numpy.

def formats():
    return {
        'zip as a storage':             snapshot(call(STORAGE, data(zip_bomb()))),
        'storage in a storage':         snapshot(call(STORAGE, data(whole(storage())))),
        'storage that claims 4 TB':     snapshot(storage(claimed=1 << 40)),
        'storage that claims no key':   snapshot(storage(claimed=1 << 30, keys=P.EMPTY_LIST)),
        'storage too short':            snapshot(tensor(storage(numbers=bytes(7)))),
        'storage of another magic':     snapshot(storage(magic=1)),
        'storage of negative length':   snapshot(storage(claimed=-4)),
        'storage of text':              snapshot(call(STORAGE, text('x'))),
        'storage keys that laugh':      snapshot(storage(key=laughs())),
        'tensor of 4 TB':               snapshot(tensor(size=(1 << 40,), stride=(0,))),
        'tensor beyond its storage':    snapshot(tensor(offset=2, size=(3,))),
        'tensor of negative stride':    snapshot(tensor(offset=3, size=(3,), stride=(-1,))),
        'tensor of negative offset':    snapshot(tensor(offset=-1, size=(1,))),
        'tensor of an offset of 2^62':  snapshot(tensor(offset=1 << 62, size=(1,))),
        'tensor of overflowing size':   snapshot(tensor(size=(1 << 33, 1 << 33), stride=(0, 0))),
        'tensor of a hundred axes':     snapshot(tensor(size=(1,) * 100, stride=(1,) * 100)),
        'tensor on text':               snapshot(tensor(text('x'))),
        'array of objects':             snapshot(array('O8', b'', 1 << 30)),
        'array larger than its bytes':  snapshot(array('f8', bytes(8), 1 << 40)),
        'array of empty strings':       snapshot(array('S0', b'', 1 << 40)),
        'scalar of an object':          snapshot(call(SCALAR, dtype('O8'), data(bytes(8)))),
        'scalar of the wrong length':   snapshot(call(SCALAR, dtype('f8'), data(bytes(4)))),
        'dtype of a structure':         snapshot(call(name('numpy', 'dtype'), dict_of(names=P.EMPTY_LIST))),
    }

#----------------------------------------------------------------------------
# Small files that would fill the memory or take for ever.

def bombs():
    many = P.EMPTY_DICT + P.MARK + b''.join(number(i) + P.NONE for i in range(50_000)) + P.SETITEMS
    pairs = P.EMPTY_LIST + P.MARK + b''.join(number(i) + P.NONE + P.TUPLE2 for i in range(20_000)) + P.APPENDS
    big = data(storage_bytes(count=1 << 18))
    colliding = b''.join(number(i * ((1 << 61) - 1)) + P.NONE for i in range(50_000))
    again = get(2) + P.REDUCE
    tensor_args = tuple_of(get(0), number(0), tuple_of(number(1 << 18)), tuple_of(number(1)))
    one_tensor = tensor(storage(count=1 << 18), size=(1 << 18,)) + put(5)
    named = P.EMPTY_DICT + P.MARK + text('n') + one_tensor + b''.join(text(f'n{i}') + get(5) for i in range(50_000)) + P.SETITEMS
    return {
        'billion laughs':               snapshot(generator(dict_of(x=laughs()))),
        'laughs as a key':              snapshot(P.EMPTY_DICT + laughs() + number(1) + P.SETITEM),
        'laughs in a set':              snapshot(P.EMPTY_SET + P.MARK + laughs() + P.ADDITEMS),
        'laughs in a set that is called': snapshot(call(name('builtins', 'set'), P.EMPTY_LIST + laughs() + P.APPEND)),
        'keys that collide':            snapshot(P.EMPTY_DICT + P.MARK + colliding + P.SETITEMS),
        'DUP':                          whole(P.EMPTY_LIST + (P.DUP + P.APPEND) * 1000),
        'copies of a list':             whole(pairs + P.TUPLE1 + put(2) + ORDERED + put(1) + (again + get(1)) * 20_000),
        'copies of a storage':          whole(big + P.TUPLE1 + put(2) + STORAGE + put(1) + (again + get(1)) * 20_000),
        'views of a storage':           whole(call(STORAGE, big) + put(0) + tensor_args + put(2) + TENSOR + put(1)
                                              + (again + get(1)) * 200_000),
        'calls with many arguments':    whole(tuple_of(P.NONE * 100_000) + put(2) + LINEAR + put(1) + (again + get(1)) * 50_000),
        'states again and again':       whole(many + put(2) + LINEAR + put(1)
                                              + (get(1) + P.EMPTY_TUPLE + P.NEWOBJ + get(2) + P.BUILD) * 50_000),
        'many sets':                    whole(P.EMPTY_SET * 1_200_000),
        'many marks':                   whole(P.MARK * 1_200_000),
        'memo of 2^31 places':          whole(P.NONE + P.LONG_BINPUT + b'\xff\xff\xff\x7f'),
        'deep lists':                   snapshot(generator(dict_of(x=P.EMPTY_LIST * 100_000 + P.APPEND * 99_999))),
        'deep tuples':                  snapshot(generator(dict_of(x=P.EMPTY_TUPLE + P.TUPLE1 * 100_000))),
        'list that holds itself':       snapshot(generator(dict_of(x=P.EMPTY_LIST + put(9) + get(9) + P.APPEND))),
        'modules that hold themselves': snapshot(LINEAR + P.EMPTY_TUPLE + P.NEWOBJ + put(9)
                                                 + dict_of(_modules=dict_of(a=get(9), b=get(9))) + P.BUILD),
        'one tensor by many names':     snapshot(module(_parameters=named)),
        'network of 4 TB':              snapshot(generator(sizes(z_dim=number(1 << 40)))),
        'network of 16 GB':             snapshot(generator(sizes(z_dim=number(1 << 20), w_dim=number(4096)))),
        'network without end':          snapshot(generator(sizes(mapping_kwargs=dict_of(num_layers=number(1 << 62))))),
        'image of 2^20 pixels':         snapshot(generator(sizes(img_resolution=number(1 << 20)))),
    }

#----------------------------------------------------------------------------
# Lengths that lie, and bytes that are no pickle.

def lies():
    return {
        'BINUNICODE8':              whole(P.BINUNICODE8 + struct.pack('<Q', 1 << 62)),
        'BINBYTES8':                whole(P.BINBYTES8 + struct.pack('<Q', 1 << 40) + b'x'),
        'BYTEARRAY8':               whole(P.BYTEARRAY8 + struct.pack('<Q', 1 << 34) + b'x', protocol=5),
        'BINBYTES':                 whole(P.BINBYTES + b'\xff\xff\xff\xff' + b'x'),
        'BINSTRING':                whole(P.BINSTRING + b'\xff\xff\xff\x7f' + b'x'),
        'LONG4':                    whole(P.LONG4 + b'\xff\xff\xff\x7f' + b'x'),
        'LONG1':                    whole(P.LONG1 + b'\xff' + b'x'),
        'frame too long':           P.PROTO + b'\4' + P.FRAME + struct.pack('<Q', 1 << 60) + dict_of() + P.STOP,
        'frame too short':          P.PROTO + b'\4' + P.FRAME + struct.pack('<Q', 4) + dict_of(a=text('long')) + P.STOP,
        'frame in a frame':         P.PROTO + b'\4' + (P.FRAME + struct.pack('<Q', 12)) * 2 + dict_of() + P.STOP + bytes(9),
        'name without an end':      b'c' + b'x' * 1_000_000,
        'digits without an end':    P.INT + b'9' * 1_000_000 + b'\n.',
        'truncated':                snapshot(generator(sizes()))[:-40],
        'empty':                    b'',
        'STOP alone':               P.STOP,
        'two values':               whole(P.NONE + P.NONE),
        'protocol of the future':   whole(dict_of(), protocol=200),
        'bytes that are no text':   whole(P.SHORT_BINUNICODE + b'\2\xff\xfe'),
        'escapes for the terminal': snapshot(name('\x1b]0;title\x07\nos', 'system\r\u2028')),
        'stack below a mark':       whole(P.NONE + P.MARK + P.TUPLE1),
        'memo of nothing':          whole(get(5)),
        'zip':                      zip_bomb(),
        'list':                     whole(P.EMPTY_LIST),
        'network of a number':      snapshot(number(1)),
    }

def cases(canary):
    return calls(canary) | states() | formats() | bombs() | lies()
