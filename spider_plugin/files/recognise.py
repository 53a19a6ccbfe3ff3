"""What a file is that is given as a network pickle, by its bytes and not by its name: one sentence at every door.

People save web pages, pointers of Git LFS, archives and checkpoints of other programs as .pkl, or give them where a snapshot is
asked for. A new download of the same bytes helps none of them. The sentence names what the file is, and the remedy."""

import codecs
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.limits import parse_json

_HEAD  = 4096           # bytes that are looked at
_NAMES = 100_000        # most names of files in a zip or a folder that are looked at

codecs.lookup('cp437')      # zipfile would import it for the first zip; reading a file of a stranger imports nothing

# The beginning of a pickle: of protocol 2 and later, or of the instructions that protocols 0 and 1 begin with.
_PICKLE = re.compile(rb'\x80[\x02-\x05]|\(*c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|\([dlt]p\d+\n|\(i[A-Za-z_]|[\x5d\x7d(]+q.',
                     re.DOTALL)

# Kinds that no program takes for a network, whatever a host reads.
HOPELESS = ('empty', 'page', 'pointer', 'gzip', 'archive')

IMPORT = 'run `spider import {path} --out NAME.pkl`, which reads those of StyleGAN2 and StyleGAN3'

@dataclass(frozen=True)
class Kind:
    """A kind of file.

    name:   short, for programs.
    what:   with its article, for a sentence.
    remedy: an imperative; {path} stands for the file."""

    name:   str
    what:   str
    remedy: str

class Foreign(SpiderError):
    """A file that is no network pickle. `kind` is the Kind that it is recognised as."""

    def __init__(self, path: str | os.PathLike[str], kind: Kind) -> None:
        super().__init__(f'{path} is {kind.what}, not a network pickle; {kind.remedy.replace("{path}", str(path))}.')
        self.kind = kind

def check_network_file(path: str | os.PathLike[str]) -> None:
    """Raise Foreign for a file or folder that is recognised as something else than a pickle.

    Pickles, bytes that nothing is known of, and paths that cannot be read pass: their reader says more about them."""
    kind = recognise(path)
    if kind is not None:
        raise Foreign(path, kind)

def recognise(path: str | os.PathLike[str]) -> Kind | None:
    """Return the Kind of a file or folder; None for a pickle of a protocol that hosts write, for bytes that nothing is known of,
    and for what is not there or cannot be read."""
    if not os.fspath(path):     # Path('') would be the working directory
        return None
    path = Path(path)
    try:
        if os.path.isdir(path):
            return _folder(path)
        if not os.path.isfile(path):        # a pipe would be waited for
            return None
        with open(path, 'rb') as file:
            head = file.read(_HEAD)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    if not head:
        return Kind('empty', 'empty', 'copy or download it again')
    if re.fullmatch(r'training-state-\d+\.pt', path.name) and head.startswith(b'PK'):
        return STATE
    if head.startswith(OLD_TORCH):
        return TORCH
    if _PICKLE.match(head):
        return None
    for look in (_by_beginning, _safetensors, _text, _onnx):
        if (kind := look(path, head, size)) is not None:
            return kind
    return None

def holds_network(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is, by its bytes, a pickle or a checkpoint of tensors, whatever its name."""
    if not os.path.isfile(path):
        return False
    kind = recognise(path)
    if kind is not None:
        return kind.name in ('torch', 'safetensors')
    with open(path, 'rb') as file:
        return _PICKLE.match(file.read(_HEAD)) is not None

#----------------------------------------------------------------------------
# By the first bytes.

# The first pickle of torch's old format holds its magic number, 0x1950a86a20f9469cfc6c.
OLD_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'

TORCH       = Kind('torch', 'a torch checkpoint (.pt or .pth)', IMPORT)
STATE       = Kind('state', 'the training state of a run', 'give the network-snapshot-*.pkl beside it, or to --resume of '
                   'the embedded host the folder of the run')
TORCHSCRIPT = Kind('torchscript', 'a TorchScript program', 'give the snapshot that it was made of')
SAFETENSORS = Kind('safetensors', 'a safetensors file', IMPORT)
NUMPY       = Kind('numpy', 'arrays of numpy', 'give the snapshot of the generator, a .pkl')
PICTURE     = Kind('picture', 'a picture', 'give the snapshot of the generator, a .pkl')

def _packed(what: str, program: str, name: str = 'archive') -> Kind:
    to = ' > NAME.pkl' if program.endswith('-dc') else ''
    return Kind(name, what, f'unpack it first (`{program} {{path}}{to}`), and give the .pkl that it holds')

_BEGINNINGS = {
    b'\x1f\x8b':             _packed('a gzip archive', 'gzip -dc', 'gzip'),
    b'BZh':                  _packed('a bzip2 archive', 'bzip2 -dc'),
    b'\xfd7zXZ\0':           _packed('an xz archive', 'xz -dc'),
    b'\x28\xb5\x2f\xfd':     _packed('a zstandard archive', 'zstd -dc'),
    b'7z\xbc\xaf\x27\x1c':   _packed('a 7z archive', '7z x'),
    b'Rar!\x1a\x07':         _packed('a rar archive', 'unrar x'),
    b'\x93NUMPY':            NUMPY,
    b'\x89HDF\r\n\x1a\n':    Kind('hdf5', 'an HDF5 file, as Keras writes', 'give a snapshot of a StyleGAN2/3-style host'),
    b'GGUF':                 Kind('gguf', 'a GGUF file of a language model', 'give a snapshot of a StyleGAN2/3-style host'),
    b'\x89PNG':              PICTURE,
    b'\xff\xd8\xff':         PICTURE,
    b'GIF8':                 PICTURE,
}

def _by_beginning(path: Path, head: bytes, _size: int) -> Kind | None:
    if head.startswith((b'PK\3\4', b'PK\5\6')):
        return _zip(path)
    if head[257:262] == b'ustar':
        return _packed('a tar archive', 'tar xf')
    return next((kind for beginning, kind in _BEGINNINGS.items() if head.startswith(beginning)), None)

def _zip(path: Path) -> Kind:
    """Return what a zip holds. A checkpoint of torch is a zip with one pickle and a file for each of its storages."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:_NAMES]
    except Exception:       # broken directories raise errors of many types
        return Kind('zip', 'a zip that is cut off, perhaps a torch checkpoint', 'copy or download it again')
    files = [name for name in names if not name.endswith('/')]
    inner = [name.partition('/')[2] for name in files]
    if 'data.pkl' in inner or 'data.pkl' in files:
        return TORCHSCRIPT if any(name.startswith('code/') for name in inner) else TORCH
    if files and all(name.endswith('.npy') for name in files):
        return NUMPY
    pickles = [name for name in files if name.lower().endswith(('.pkl', '.pickle', '.pt', '.pth', '.safetensors'))]
    if pickles:
        more = f' and {len(pickles) - 1} more' if len(pickles) > 1 else ''
        return Kind('zip', f'a zip that holds {shown(pickles[0], 60)}{more}',
                    'unpack it first (`unzip {path}`), and give the file in it')
    if any(name.lower().endswith(('.png', '.jpg', '.jpeg', '.webp', '.bmp')) for name in files):
        return Kind('zip', 'a zip of pictures, a dataset', 'give the snapshot of a generator, a .pkl')
    return Kind('zip', 'a zip without a pickle in it', 'give the snapshot of a generator, a .pkl')

def _safetensors(_path: Path, head: bytes, size: int) -> Kind | None:
    """The length of a JSON header, that header, and numbers."""
    length = int.from_bytes(head[:8], 'little')
    return SAFETENSORS if head[8:10] in (b'{"', b'{ ', b'{\n', b'{}') and 2 <= length <= size - 8 else None

def _onnx(path: Path, head: bytes, _size: int) -> Kind | None:
    """A message of protocol buffers whose first field is a small version and whose second is the name of the program."""
    name = re.match(rb'\x08[\x01-\x20]\x12([\x01-\x40])([\x20-\x7e]+)', head)
    if path.suffix.lower() == '.onnx' or name and len(name[2]) >= name[1][0]:
        return Kind('onnx', 'an ONNX model', 'give the snapshot that it was made of')
    return None

#----------------------------------------------------------------------------
# Texts.

_PAGE = re.compile(r'\s*(<!--.*?-->\s*)?(<!doctype html|<html|<head|<body|<script)', re.IGNORECASE | re.DOTALL)

_TEXTS: dict[str, tuple[Callable[[str], object], Kind]] = {
    'pointer': (lambda text: text.startswith('version https://git-lfs.github.com/'),
                Kind('pointer', 'a pointer of Git LFS, without the file itself',
                     'run `git lfs pull` in its repository, or download the file by its page')),
    'annex':   (lambda text: '/annex/objects/' in text[:200],
                Kind('pointer', 'a pointer of git-annex, without the file itself', 'run `git annex get` in its repository')),
    'page':    (_PAGE.match,
                Kind('page', 'an HTML page, of a login or of an error',
                     'open its address in a browser, log in where that asks for it, and download the file there')),
    'xml':     (lambda text: text.lstrip().startswith(('<?xml', '<Error')),
                Kind('xml', 'an XML answer of a server, of an error', 'check the address and the rights, and download it again')),
    'json':    (lambda text: text.lstrip()[:1] in ('{', '['),
                Kind('json', 'a JSON text', 'give the .pkl itself; of a server\'s answer, check the address and the rights')),
}

def _text(path: Path, head: bytes, size: int) -> Kind | None:
    try:
        text = head.removeprefix(codecs.BOM_UTF8).decode('utf-8', 'strict' if size <= _HEAD else 'ignore')
    except UnicodeDecodeError:
        return None
    if any(not (letter.isprintable() or letter.isspace()) for letter in text):
        return None
    for says, kind in _TEXTS.values():
        if says(text):
            return _error_of(text, kind) if kind.name == 'json' else kind
    line = shown(text.strip(), 60)
    return Kind('text', f'a text ("{line}")', 'check its address, and download it again')

def _error_of(text: str, kind: Kind) -> Kind:
    """The same, with the message in a server's answer."""
    try:
        said = parse_json(text.encode())
    except ValueError:
        return kind
    said = said if isinstance(said, dict) else {}
    message = next((said[key] for key in ('error', 'message', 'detail') if isinstance(said.get(key), str)), None)
    return kind if message is None else Kind('json', f'a server\'s answer ("{shown(message, 60)}")',
                                             'check the address and the rights, and download it again')

#----------------------------------------------------------------------------
# Folders.

def _folder(path: Path) -> Kind:
    names = sorted(os.listdir(path))[:_NAMES]
    tensors = [name for name in names if name.endswith(('.safetensors', '.bin', '.pt', '.pth', '.ckpt'))]
    pickles = [name for name in names if name.endswith('.pkl')]
    if pickles:
        return Kind('folder', f'a folder that holds {shown(pickles[-1], 60)}', 'give the path of that file')
    if 'model_index.json' in names or 'config.json' in names:
        remedy = f'run `spider import {{path}}/{shown(tensors[0], 60)} --out NAME.pkl`, which reads StyleGAN2 and StyleGAN3' \
            if tensors else 'give the snapshot of a generator, a .pkl'
        return Kind('folder', 'a folder of a Hugging Face model', remedy)
    if 'saved_model.pb' in names:
        return Kind('folder', 'a folder of a TensorFlow model', 'give the snapshot of a generator, a .pkl')
    return Kind('folder', 'a folder', 'give the path of a snapshot, a .pkl')
