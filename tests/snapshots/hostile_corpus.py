"""More hostile pickles, by class of attack: `corpus(canary)` returns {'class: case': bytes}, the same ones each time.

hostile_pickles.py tries each instruction of the pickle language. Here it is whatever else a file steers: names of functions and
classes, folders, the options of datasets, sizes, memory, plain data without an end, source images, and texts."""

# ruff: noqa: E501 (a case is a line)

import math
import pickle as P
import struct

from hostile_pickles import (
    LINEAR,
    ORDERED,
    RECORD,
    SCALAR,
    STORAGE,
    TENSOR,
    array,
    call,
    data,
    dict_of,
    dtype,
    generator,
    get,
    laughs,
    module,
    name,
    number,
    put,
    record,
    sizes,
    snapshot,
    storage,
    storage_bytes,
    tensor,
    text,
    tuple_of,
    whole,
)

FLOAT = lambda value: P.BINFLOAT + struct.pack('>d', value)
EVIL  = '\x1b]0;owned\x07\x1b[2J\nTick 1 ok\r\u202e'     # for a terminal

#----------------------------------------------------------------------------
# Functions that are worth a call.

FUNCTIONS = '''
os.system posix.system os.popen os.execv os.remove os.putenv subprocess.run subprocess.check_output pty.spawn builtins.exec
builtins.eval builtins.compile builtins.__import__ builtins.open builtins.getattr builtins.breakpoint importlib.import_module
runpy.run_path runpy.run_module code.interact shutil.rmtree ctypes.CDLL ctypes.memset pickle.loads marshal.loads
types.FunctionType functools.reduce operator.methodcaller operator.attrgetter timeit.timeit cProfile.run pdb.run
logging.config.dictConfig webbrowser.open socket.create_connection urllib.request.urlopen multiprocessing.Process
torch.load torch.jit.load torch.hub.load torch.from_file torch.ops.load_library torch.utils.cpp_extension.load
torch.serialization.load torch.nn.Module torch.package.PackageImporter numpy.load numpy.memmap numpy.fromfile
numpy.lib.format.open_memmap
dnnlib.util.call_func_by_name dnnlib.util.construct_class_by_name dnnlib.util.open_url dnnlib.tflib.network.Network
torch_utils.persistence._module_from_source training.dataset.ImageFolderDataset training.networks_stylegan2.Generator
spider_plugin.snapshots.rebuild.unpickle spider_plugin.portable.source.bank.open_source spider_plugin.registry.load_plugins
spider_plugin.bundles.spider_on_antigravity.SpiderGenerator
'''.split()

def functions(canary):
    found = {}
    for dotted in FUNCTIONS:
        module_name, _, function = dotted.rpartition('.')
        found[dotted] = snapshot(call(name(module_name, function), text(f'echo > {canary}')))
    prefixes = {'a package in torch.nn': ('torch.nn.modules.os', 'system.x'), 'a path in timm': ('timm./../os', 'system'),
                'a line in timm': ('timm.x\nos', 'system'), 'a method': ('torch.nn.modules.linear', 'Linear.forward'),
                'escapes in pg_modules': (f'pg_modules.{EVIL}', 'x'), 'a long name': ('timm.' + 'x' * 10_000, 'y')}
    return found | {label: snapshot(call(name(*pair), text(canary))) for label, pair in prefixes.items()}

#----------------------------------------------------------------------------
# Folders that a pickle names; FOLDER holds a generator.json that names a function.

FOLDER = 'model'
PATHS  = [FOLDER, f'./{FOLDER}', f'../x/../{FOLDER}', '/etc', '/dev/zero', '/dev/stdin', 'file:///etc', 'http://127.0.0.1:9/x',
          '\\\\host\\share', '~/.ssh', 'a\0b', '', f'{FOLDER}/generator.json']

def spider(path=FOLDER, **changed):
    plain = dict(mapping=text('residual'), source=text(path), noise=number(0), embed=number(64))
    return dict_of(**plain | changed)

def folders():
    found = {f'spider {path!r}': snapshot(generator(sizes(spider=spider(path)))) for path in PATHS}
    dcgan = lambda **state: snapshot(persistent('DCGANGenerator', _modules=dict_of(x=module(_parameters=dict_of(w=tensor()))), **state))
    found['by position'] = dcgan(_init_args=tuple_of(number(8), number(0), number(16), number(3), P.NONE, spider()))
    found['in a tuple'] = dcgan(_init_args=tuple_of(tuple_of(spider())))
    found['of a bank by path'] = dcgan(_init_kwargs=dict_of(spider=spider()), source=text(FOLDER))
    found['of a bank that is a module'] = dcgan(_init_kwargs=dict_of(spider=spider()), source=module())
    found['of a generator source'] = dcgan(_init_kwargs=dict_of(spider=spider()), source=persistent('GeneratorSource', path=text(FOLDER)))
    for key in ('source', 'path', 'class_name', 'module_src', 'init_kwargs', 'dsc', 'spider_format'):
        found[f'in {key}'] = snapshot(generator(sizes(**{key: spider()})))
        found[f'in synthesis_kwargs, {key}'] = snapshot(generator(sizes(synthesis_kwargs=dict_of(**{key: text(FOLDER)}))))
    return found

def persistent(class_name, **state):
    return call(RECORD, dict_of(type=text('class'), version=number(6), module_src=text(''), class_name=text(class_name),
                                state=dict_of(**state)))

def training_sets(canary):
    """The options of a dataset, whose class a host calls."""
    def of(**kwargs):
        nets = {key: generator(sizes()) for key in ('G', 'D', 'G_ema')}
        return whole(dict_of(**nets, training_set_kwargs=dict_of(**kwargs)))
    classes = {class_name: of(class_name=text(class_name), command=text(f'echo > {canary}'), path=text('/etc'))
               for class_name in ('os.system', 'builtins.exec', 'subprocess.Popen', 'dnnlib.util.call_func_by_name', '', EVIL)}
    known = dict(class_name=text('training.dataset.ImageFolderDataset'), path=text('/etc'))
    return classes | {
        'a class of a number':  of(class_name=number(1)),
        'a path of a number':   of(**known | dict(path=number(0))),
        'a size of text':       of(**known, max_size=text('x')),
        'laughs as a path':     of(**known | dict(path=laughs())),
        'a list':               whole(dict_of(G_ema=generator(sizes()), training_set_kwargs=P.EMPTY_LIST)),
    }

#----------------------------------------------------------------------------

def networks():
    """Networks that would be huge, or that no class can build."""
    found, values = {}, {'2^20': number(1 << 20), '2^40': number(1 << 40), '-1': number(-1), 'nan': FLOAT(math.nan),
                         'infinity': FLOAT(math.inf), 'text': text('os.system'), 'a list': P.EMPTY_LIST}
    for key in ('z_dim', 'w_dim', 'c_dim', 'img_resolution', 'img_channels', 'channel_max'):
        found |= {f'{key} of {label}': snapshot(generator(sizes(**{key: value}))) for label, value in values.items()}
    long = P.EMPTY_LIST + P.MARK + number(1) * 9000 + P.APPENDS
    for key, value in dict(num_layers=number(1_000_000), embed_features=number(1 << 30), layer_features=number(1 << 19),
                           lr_multiplier=text('x'), resample_filter=long, filter_size=number(1 << 20), margin_size=number(1 << 19),
                           lrelu_upsampling=number(512), num_fp16_res=number(-5), architecture=text(EVIL), activation=text('__class__'),
                           conv_clamp=laughs(), use_fp16=text('x'), no_such_option=number(1)).items():
        found[f'mapping {key}'] = snapshot(generator(sizes(mapping_kwargs=dict_of(**{key: value}))))
        found[f'synthesis {key}'] = snapshot(generator(sizes(synthesis_kwargs=dict_of(**{key: value}))))
    freqs = module(_modules=dict_of(input=module(_buffers=dict_of(freqs=tensor()))))
    for key in ('margin_size', 'num_layers', 'filter_size', 'lrelu_upsampling', 'output_scale', 'first_cutoff', 'conv_kernel'):
        found[f'stylegan3 {key}'] = snapshot(record(_init_kwargs=sizes(**{key: number(1 << 19)}), _modules=dict_of(synthesis=freqs)))
    return found

#----------------------------------------------------------------------------

def i64(value):
    """A storage with one int64."""
    return storage(count=1, kind='torch\nLongStorage\n', numbers=struct.pack('<q', value))

def memory():
    """Small files that would fill the memory."""
    new = call(name('numpy.core.multiarray', '_reconstruct'), name('numpy', 'ndarray'), tuple_of(number(0)), data(b'b'))
    state = lambda shape, code, content: new + tuple_of(number(1), tuple_of(*map(number, shape)), dtype(code), P.NEWFALSE, content) + P.BUILD
    base = array('u1', bytes(4 << 20), 4 << 20)
    frombuffer = name('numpy.core.numeric', '_frombuffer')
    view = tuple_of(get(0), number(0), tuple_of(number(1 << 20)), tuple_of(number(0)))
    many = lambda part, count: whole(P.EMPTY_LIST + P.MARK + part * count + P.APPENDS)
    one = tensor(storage(count=1 << 10), size=(1 << 18,), stride=(0,)) + put(5)
    return {
        'a tensor as the state of an array':    snapshot(state([3 << 27], 'u8', tensor(i64(3 << 30), size=(1,)))),
        'an array as the state of arrays':      snapshot(P.EMPTY_LIST + P.MARK + base + put(1) + state([4 << 20], 'u1', get(1)) * 1500 + P.APPENDS),
        'a list as the state of an array':      snapshot(state([8], 'u1', P.EMPTY_LIST)),
        'a number as the state of an array':    snapshot(state([1 << 34], 'u1', number(1 << 34))),
        'an array of no bytes and 2^47 rows':   snapshot(state([0, 1 << 47], 'f8', data(b''))),
        'an array of a hundred axes':           snapshot(state([1] * 100, 'u1', data(b'x'))),
        'texts of 40 kB':                       snapshot(state([1 << 20], 'U9999', data(b''))),
        'a buffer of a tensor':                 snapshot(call(frombuffer, tensor(), dtype('f4'), tuple_of(number(4)), text('C'))),
        'a buffer of a negative shape':         snapshot(call(frombuffer, data(bytes(8)), dtype('u1'), tuple_of(number(-1)), text('C'))),
        'a scalar of a tensor':                 snapshot(call(SCALAR, dtype('f4'), tensor(i64(1 << 40), size=(1,)))),
        'a storage of a tensor':                snapshot(call(STORAGE, tensor())),
        'a tensor of a view':                   snapshot(tensor(tensor(size=(1 << 10,), stride=(0,)))),
        'repeated views of one number':         whole(storage(count=1) + put(0) + view + put(2) + TENSOR + put(1) + (get(2) + P.REDUCE + get(1)) * 100_000),
        'small tensors without an end':         whole(storage(count=1) + put(0) + tuple_of(get(0), number(0), tuple_of(), tuple_of()) + put(2) + TENSOR + put(1) + (get(2) + P.REDUCE + get(1)) * 200_000),
        'a view by many names':                 snapshot(module(_parameters=P.EMPTY_DICT + P.MARK + text('n') + one + b''.join(text(f'n{i}') + get(5) for i in range(9000)) + P.SETITEMS)),
        'sets':                                 many(P.EMPTY_SET, 900_000),
        'dicts':                                many(P.EMPTY_DICT, 900_000),
        'lists':                                many(P.EMPTY_LIST, 900_000),
        'tuples':                               many(P.NONE + P.TUPLE1, 450_000),
        'floats':                               many(FLOAT(0.5), 900_000),
        'long integers':                        many(P.LONG1 + b'\xff' + b'\x7f' * 255, 20_000),
        'records':                              whole(LINEAR + put(1) + (get(1) + P.EMPTY_TUPLE + P.NEWOBJ) * 300_000),
        'names':                                whole(name('torch.nn.modules.x', 'A') * 30_000),
        'arrays':                               whole(b''.join((call(name('numpy.core.multiarray', '_reconstruct'), P.NONE, P.NONE, P.NONE),)) * 20_000),
        'memo entries':                         whole(P.NONE + b''.join(P.LONG_BINPUT + struct.pack('<I', i) for i in range(300_000))),
        'text of four bytes a letter':          whole(P.EMPTY_LIST + (text('x' * 300_000 + '\U0001f577') + P.APPEND) * 20),
        'bytes in a dict again and again':      whole(P.EMPTY_DICT + (number(1) + data(bytes(1000)) + P.SETITEM) * 3000),
        'a dict copied again and again':        whole(P.EMPTY_DICT + P.MARK + b''.join(number(i) + P.NONE for i in range(5000)) + P.SETITEMS + P.TUPLE1 + put(2) + ORDERED + put(1) + (get(2) + P.REDUCE + get(1)) * 100_000),
        'a tuple of a set':                     whole(name('torch', 'Size') + put(1) + tuple_of(tuple_of(P.NONE * 9000)) + put(2) + (get(2) + P.REDUCE + get(1)) * 100_000),
        'marks and tuples in turn':             whole((P.MARK + P.NONE * 10 + P.TUPLE) * 80_000),
        'a hundred copies of the numbers':      whole(data(storage_bytes(count=1 << 20)) + P.TUPLE1 + put(2) + STORAGE + put(1) + (get(2) + P.REDUCE + get(1)) * 100),
    }

#----------------------------------------------------------------------------

def shared_text():
    """A list of ten thousand references to one long text."""
    return P.EMPTY_LIST + P.MARK + text('x' * 100_000) + put(98) + get(98) * 10_000 + P.APPENDS

def plain():
    """Plain data without an end in each place where there is some."""
    endless = {'a tuple of tuples': laughs(), 'a list that holds itself': P.EMPTY_LIST + put(98) + get(98) + P.APPEND,
               'a dict that holds itself': P.EMPTY_DICT + put(98) + text('x') + get(98) + P.SETITEM,
               'lists in lists': P.EMPTY_LIST * 50_000 + P.APPEND * 49_999, 'one text many times': shared_text()}
    found = {}
    for label, value in endless.items():
        places = {
            'arguments':        snapshot(generator(sizes(x=value))),
            'positions':        snapshot(record(_init_args=tuple_of(value), _init_kwargs=sizes())),
            'spider.classes':   snapshot(fed(spider_argument=spider(classes=value))),
            'identity':         snapshot(fed(identity=identity(x=value))),
            'licence':          snapshot(fed(identity=identity(licence=value))),
            'classes of a bank': snapshot(fed(classes=value)),
            'a module':         snapshot(module(x=value)),
            'the training set': whole(dict_of(G_ema=generator(sizes()), training_set_kwargs=value)),
        }
        found |= {f'{label} in {place}': pickled for place, pickled in places.items()}
    return found

#----------------------------------------------------------------------------
# Spider generators with the source that a pickle carries.

def identity(**changed):
    plain = dict(name=text('a'), sha256=text('0' * 64), transform=text('none'), licence=text('none'))
    return dict_of(**plain | changed)

def bytes_tensor(*shape, kind='torch\nByteStorage\n'):
    count = math.prod(shape)
    stride = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return tensor(storage(count=count, kind=kind, numbers=bytes(count)), size=shape, stride=stride)

def float_tensor(*shape):
    return tensor(storage(count=math.prod(shape)), size=shape, stride=[math.prod(shape[i + 1 :]) for i in range(len(shape))])

def fed(spider_argument=None, **changed):
    """A Spider generator, but for its sizes."""
    plain = dict(images=bytes_tensor(4, 3, 4, 4), labels=P.NONE, mean_image=float_tensor(1, 3, 4, 4), identity=identity(),
                 noise=FLOAT(0.0), embed=number(64), classes=P.NONE)
    b4 = module(_parameters=dict_of(const=tensor()))
    return persistent('SpiderGenerator', _init_kwargs=sizes(spider=spider_argument or spider()), source=persistent('ImageBank', **plain | changed),
                      _modules=dict_of(synthesis=module(_modules=dict_of(b4=b4))))

def chain(length):
    inner = identity(latents=number(9))
    for i in range(length):
        inner = identity(latents=number(9), sha256=text(f'{i:064d}'), source=inner)
    return inner

def banks():
    changes = {
        'images of floats':         dict(images=float_tensor(4, 3, 4, 4)),
        'images of two axes':       dict(images=bytes_tensor(4, 3)),
        'images that are not square': dict(images=bytes_tensor(4, 3, 4, 8), mean_image=float_tensor(1, 3, 4, 8)),
        'images of 9 channels':     dict(images=bytes_tensor(4, 9, 4, 4), mean_image=float_tensor(1, 9, 4, 4)),
        'no images of 2^20 pixels': dict(images=tensor(size=(0, 3, 1 << 20, 1 << 20), stride=(1, 1, 1, 1))),
        'a mean of another shape':  dict(mean_image=float_tensor(1, 3, 8, 8)),
        'a mean of text':           dict(mean_image=text('x')),
        'labels below zero':        dict(labels=tensor(i64(-1), size=(4,), stride=(0,))),
        'labels of 2^40':           dict(labels=tensor(i64(1 << 40), size=(4,), stride=(0,))),
        'labels of text':           dict(labels=text('x')),
        'noise of text':            dict(noise=text('x')),
        'embed of 2^40':            dict(embed=number(1 << 40)),
        'classes of texts':         dict(classes=P.EMPTY_LIST + text('x') + P.APPEND),
        'an identity of text':      dict(identity=text('x')),
        'an identity without names': dict(identity=dict_of()),
        'a name of a number':       dict(identity=identity(name=number(1))),
        'a name with a zero byte':  dict(identity=identity(name=text('a\0b'), latents=number(4))),
        'a name that is a path':    dict(identity=identity(name=text('../../../etc/passwd'), latents=number(4))),
        'a digest that is a path':  dict(identity=identity(sha256=text('../../model'), latents=number(4))),
        'latents of 2^40':          dict(identity=identity(latents=number(1 << 40))),
        'latents below zero':       dict(identity=identity(latents=number(-1))),
        'latents of text':          dict(identity=identity(latents=text('x'))),
        'a thousand stages':        dict(identity=chain(1000)),
        'forty stages':             dict(identity=chain(40)),
    }
    return {label: snapshot(fed(**changed)) for label, changed in changes.items()}

#----------------------------------------------------------------------------

def texts():
    """Texts that would steer a terminal, or that are too long for one."""
    found, long = {}, 'x' * 1_000_000
    for label, value in (('escapes', EVIL), ('a long text', long), ('surrogates', None)):
        said = P.BINUNICODE + struct.pack('<I', 3) + b'\xed\xa0\x80' if value is None else text(value)
        key = lambda inner, said=said: P.EMPTY_DICT + said + inner + P.SETITEM
        const = module(_parameters=dict_of(const=tensor()))
        found |= {
            f'{label} as a class':      snapshot(call(RECORD, dict_of(type=text('class'), module_src=text(''), class_name=said, state=dict_of()))),
            f'{label} as a module':     snapshot(record(_modules=key(const))),
            f'{label} as a tensor':     snapshot(module(_parameters=key(tensor()))),
            f'{label} as a key':        whole(key(generator(sizes()))),
            f'{label} as an argument':  snapshot(generator(key(number(1)))),
            f'{label} as a mapping':    snapshot(fed(spider_argument=spider(mapping=said))),
            f'{label} as a name':       snapshot(fed(identity=identity(name=said, latents=number(4)))),
            f'{label} as a transform':  snapshot(fed(identity=identity(transform=said))),
            f'{label} as a dtype':      snapshot(call(name('numpy', 'dtype'), said, P.NEWFALSE, P.NEWTRUE)),
        }
    return found

def corpus(canary):
    classes = dict(functions=functions(canary), folders=folders(), training_sets=training_sets(canary), networks=networks(),
                   memory=memory(), plain=plain(), banks=banks(), texts=texts())
    return {f'{attack}: {label}': pickled for attack, cases in classes.items() for label, pickled in cases.items()}
