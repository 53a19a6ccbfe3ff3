"""Reads a checkpoint, a file of tensors that is no network pickle, without executing anything in it.

    torch, from 1.6 on      a zip with one pickle, and a file for the numbers of each storage
    torch, before           that pickle between four short ones, and the numbers behind them
    safetensors             a JSON header and the numbers, read by the package of that name

The pickles are read by the machine and the table of names of snapshots/records.py, with its bounds: tensors, dicts and lists are
data, modules become records. torch.load(weights_only=True) would refuse checkpoints that hold a module or options beside."""

import io
import os
import re
from pathlib import Path
from typing import Any

import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.limits import open_file, open_zip, read_member
from spider_plugin.files.recognise import Foreign, recognise
from spider_plugin.snapshots.pickle_machine import Budget, Damaged, Forbidden, PickleMachine
from spider_plugin.snapshots.plain_data import check_plain
from spider_plugin.snapshots.records import (
    STORAGES,
    HeldRecord,
    fill,
    parts_of_record,
    plain_bytes,
    read_pickle,
    resolve,
)

_PICKLE = 1 << 28       # most bytes of the pickle in a zip, which holds names and shapes

def read_checkpoint(path: str | os.PathLike[str]) -> tuple[Any, dict[str, str]]:
    """Return (contents, notes) of the checkpoint or network pickle at `path`.

    contents:   what torch.load() would return, with records in place of modules and tensors on the cpu; or {name: tensor}.
    notes:      texts that a safetensors file carries; {} for the others.
    Raises SpiderError for a damaged file, one that names what no network needs, and Foreign for another kind of file."""
    path = Path(path)
    kind = recognise(path)
    if not path.is_file() and kind is None:
        raise SpiderError(f'{path} does not exist, or is no file; give a checkpoint (.pt, .pth, .safetensors).')
    if kind is None:
        return read_pickle(path), {}
    if kind.name not in ('torch', 'safetensors'):
        raise Foreign(path, kind)
    try:
        if kind.name == 'safetensors':
            return _read_safetensors(path)
        with open_file(path) as file:
            zipped = file.read(2) == b'PK'
        contents = (_read_zip if zipped else _read_old)(path)
        check_plain([contents], parts_of_record, plain_bytes(os.path.getsize(path)))
        return contents, {}
    except SpiderError:
        raise
    except OSError as error:
        raise SpiderError(f'Cannot read {path} ({error.strerror or error}); check the path.') from error
    except Forbidden as error:
        raise SpiderError(f'{path} names {shown(error)}, which no network needs, so it was not opened; save the state dict of '
                          'its network alone, where you trust the file.') from error
    except Exception as error:      # damaged bytes raise errors of any type
        raise SpiderError(f'{path} is not a complete checkpoint ({shown(error) or type(error).__name__}); copy or download it '
                          'again.') from error

#----------------------------------------------------------------------------
# torch.

def _resolve(module, name):
    return STORAGES[module, name] if (module, name) in STORAGES else resolve(module, name)

def _described(identifier):
    """(dtype, key, count) of a storage. Raises Damaged."""
    kind, dtype, key, _location, count, *view = identifier
    known = kind == 'storage' and isinstance(dtype, torch.dtype) and type(key) is str and type(count) is int
    if not known or not re.fullmatch(r'\w{1,32}', key, re.ASCII) or view not in ([], [None]) or not 0 <= count < 1 << 48:
        raise Damaged('a storage of unknown form')
    return dtype, key, count

def _read_zip(path):
    size = os.path.getsize(path)
    with open_zip(path) as archive:
        members = {info.filename: info.file_size for info in archive.infolist()}
        [name] = [name for name in members if name == 'data.pkl' or name.endswith('/data.pkl')]
        place, storages, budget = name.removesuffix('data.pkl'), {}, Budget(size)
        if members.get(f'{place}byteorder', 0) and read_member(archive, f'{place}byteorder', 64) != b'little':
            raise Damaged('numbers of another byte order')

        def storage(identifier):
            dtype, key, count = _described(identifier)
            if key not in storages:
                if members.get(f'{place}data/{key}') != count * dtype.itemsize:
                    raise Damaged('a storage of the wrong length')
                budget.spend(2 * count * dtype.itemsize)
                numbers = bytearray(read_member(archive, f'{place}data/{key}', count * dtype.itemsize))
                storages[key] = torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty([0], dtype=dtype)
            if storages[key].dtype != dtype:
                raise Damaged('a storage of two types')
            return storages[key]

        pickled = read_member(archive, name, _PICKLE)
        return PickleMachine(io.BytesIO(pickled), len(pickled), _resolve, fill, storage, budget, HeldRecord).load()

def _read_old(path):
    size, storages = os.path.getsize(path), {}
    with open_file(path) as file:
        def storage(identifier):        # its numbers come later
            dtype, key, count = _described(identifier)
            if key not in storages:
                if count * dtype.itemsize > size:
                    raise Damaged('a storage of the wrong length')
                machine.budget.spend(count * dtype.itemsize)
                storages[key] = torch.zeros([count], dtype=dtype)
            if storages[key].dtype != dtype:
                raise Damaged('a storage of two types')
            return storages[key]

        machine = PickleMachine(file, size, _resolve, fill, storage, inert=HeldRecord)
        _magic, version, system = [machine.load() for _ in range(3)]
        if version != 1001 or not isinstance(system, dict) or system.get('little_endian') is not True:
            raise Damaged('numbers of another byte order')
        contents, keys = machine.load(), machine.load()
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
            raise Damaged('storages that are not named')
        for key in keys:
            numbers = storages[key]
            if int.from_bytes(machine.read(8), 'little') != len(numbers):
                raise Damaged('a storage of the wrong length')
            data = bytearray(machine.read(len(numbers) * numbers.itemsize))
            if data:
                numbers.copy_(torch.frombuffer(data, dtype=numbers.dtype))
        return contents

#----------------------------------------------------------------------------
# safetensors.

def _read_safetensors(path):
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise SpiderError(f"{path} is a safetensors file, which needs the safetensors package; run pip install "
                          "'spider-plugin[safetensors]'.") from error
    with safe_open(path, framework='pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
