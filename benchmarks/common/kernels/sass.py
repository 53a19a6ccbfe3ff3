"""The stores of compiled kernels, read from their machine code without a disassembler."""

import collections
import struct
from pathlib import Path

STG = 0x986, 0x386      # a store to global memory, with a descriptor of its address and without
BITS = {0: 8, 1: 8, 2: 16, 3: 16, 4: 32, 5: 64, 6: 128}

def stores(cubin):
    """Return {kernel: {bits: stores of so many}} of an ELF file of nvcc -cubin, for sm_70 and newer."""
    return {name: collections.Counter(BITS[high >> 9 & 7] for low, high in code if low & 0xFFF in STG)
            for name, code in _kernels(Path(cubin).read_bytes())}

def _kernels(data):
    """Yield (mangled name, instructions as pairs of 64 bits) of the sections .text.NAME."""
    offset, = struct.unpack_from('<Q', data, 0x28)
    size, count, names = struct.unpack_from('<HHH', data, 0x3A)
    sections = [struct.unpack_from('<IIQQQQ', data, offset + i * size) for i in range(count)]
    at = sections[names][4]
    for name, _, _, _, start, length in sections:
        name = data[at + name:data.index(b'\0', at + name)].decode()
        if name.startswith('.text.'):
            yield name.removeprefix('.text.'), list(struct.iter_unpack('<QQ', data[start:start + length]))
