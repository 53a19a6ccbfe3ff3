"""Exact hashing of float bits, and noise drawn from a counter.

All arithmetic is on integers (64 bits, wrapping), so the same input gives the same hash on every device. The mixer is the
finaliser of SplitMix64 (Steele, Lea, Flood 2014).

This module is portable: it travels inside snapshots and imports only torch, the standard library and its neighbour."""

import math

import torch

from torch_utils_ext.ops.exporting import exporting

#----------------------------------------------------------------------------
# 64-bit constants as Python integers for int64 tensors.

def _signed64(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value

_GOLDEN = _signed64(0x9E3779B97F4A7C15)     # the step of the counter, 2^64 / golden ratio
_MIX_A  = _signed64(0xBF58476D1CE4E5B9)
_MIX_B  = _signed64(0x94D049BB133111EB)

#----------------------------------------------------------------------------
# Logical right shift of int64; torch's shift is arithmetic.

def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)

#----------------------------------------------------------------------------
# SplitMix64's finaliser is a bijection of 64-bit integers. Each output bit depends on all input bits.

def mix_bits(x: torch.Tensor) -> torch.Tensor:
    """int64 tensor of any shape -> int64 of the same shape."""
    x = (x ^ _shift_right(x, 30)) * _MIX_A
    x = (x ^ _shift_right(x, 27)) * _MIX_B
    return x ^ _shift_right(x, 31)

#----------------------------------------------------------------------------
# The hash of a row of floats is the sum over columns of mix(bits + column counter), mixed once more. A sum of integers is exact
# in any order, so the result does not depend on the device's order of summation.

def hash_rows(x: torch.Tensor, salt: int = 0) -> torch.Tensor:
    """Hash of each row's float32 bits.

    x:      [N, L], any floating dtype, any value; it is cast to float32, -0 counts as 0 and every NaN as one NaN.
    salt:   integer; different salts give independent hashes.
    returns int64 [N]."""
    x = x.detach().to(torch.float32)
    x = torch.where(torch.isnan(x), torch.full_like(x, math.nan), x) + 0.0
    bits = _bits_by_arithmetic(x) if exporting() else x.contiguous().view(torch.int32).to(torch.int64)
    counter = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.int64) * _GOLDEN
    return mix_bits(_wrapping_sum(mix_bits(bits ^ counter)) + _signed64((salt * 0xD1342543DE82EF95) % (1 << 64)))

def _bits_by_arithmetic(x: torch.Tensor) -> torch.Tensor:
    """The bits of float32 x, no -0 in it, as int64: ONNX has no operator that reads them. Double precision makes this exact."""
    size = x.abs().to(torch.float64)
    exponent = (size.log() / math.log(2)).floor().clamp(-126, 127)     # may be off by one, by a last bit of the logarithm
    power = torch.pow(2.0, exponent)
    exponent = (exponent - (size < power).to(torch.float64) + (size >= 2 * power).to(torch.float64)).clamp(-126, 127)
    bits = (exponent + 126) * 2 ** 23 + size * torch.pow(2.0, 23 - exponent)    # the mantissa's leading 1 is the 127th
    bits = torch.where(torch.isinf(size), torch.full_like(bits, 0x7F800000), bits)
    bits = torch.where(torch.isnan(size), torch.full_like(bits, 0x7FC00000), bits)
    return (bits - (x < 0).to(torch.float64) * 2 ** 31).to(torch.int64)

def _wrapping_sum(x: torch.Tensor) -> torch.Tensor:
    """Sum over the columns of int64 [N, L] modulo 2^64, by halves whose sums stay small: onnxruntime adds in double precision."""
    return (_shift_right(x, 32).sum(dim=1) << 32) + (x & 0xFFFFFFFF).sum(dim=1)

#----------------------------------------------------------------------------
# An integer in [0, n) from a hash is its upper 63 bits modulo n. The bias is below n / 2^63.

def hash_to_index(hashed: torch.Tensor, n: 'int | torch.Tensor') -> torch.Tensor:
    """int64 [N] -> int64 [N] in [0, n); n is an int or an int64 tensor [N]."""
    return _shift_right(hashed, 1) % n

#----------------------------------------------------------------------------
# Standard normal noise from a seed per sample (Box-Muller on two 24-bit uniforms per value).

def hash_normal(seed: torch.Tensor, shape: 'list[int] | torch.Size') -> torch.Tensor:
    """Noise that is a function of the seed alone.

    seed:   int64 [N].
    shape:  shape of one sample's noise.
    returns float32 [N, *shape], standard normal, |value| < 6."""
    count = math.prod(shape)
    counter = torch.arange(1, count + 1, device=seed.device, dtype=torch.int64) * _GOLDEN
    bits = mix_bits(mix_bits(seed).unsqueeze(1) + counter)
    radius = ((bits & 0xFFFFFF).to(torch.float32) + 0.5) / (1 << 24)
    angle = (_shift_right(bits, 40).to(torch.float32)) * (2 * math.pi / (1 << 24))
    return ((-2 * radius.log()).sqrt() * angle.cos()).reshape(-1, *shape)

#----------------------------------------------------------------------------
