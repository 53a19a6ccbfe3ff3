"""Exact hashing: known values, independence of order and layout, uniformity, the noise's moments."""

import math

import numpy as np
import torch

from torch_utils_ext.ops.bit_hash import hash_normal, hash_rows, hash_to_index, mix_bits

#----------------------------------------------------------------------------

def _splitmix_finaliser(x):
    mask = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)

def test_mix_bits_equals_the_published_mixer():
    values = [0, 1, 2, 12345, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    signed = [v - (1 << 64) if v >= 1 << 63 else v for v in values]
    mixed = mix_bits(torch.tensor(signed)).tolist()
    assert [m % (1 << 64) for m in mixed] == [_splitmix_finaliser(v) for v in values]

def test_rows_are_hashed_independently_and_in_any_layout():
    z = torch.randn([64, 37], generator=torch.Generator().manual_seed(0))
    hashed = hash_rows(z)
    assert torch.equal(hashed, torch.cat([hash_rows(row[None]) for row in z]))
    assert torch.equal(hashed, hash_rows(z.T.contiguous().T))
    assert torch.equal(hashed, hash_rows(z.double()))
    assert len(hashed.unique()) == 64
    assert not torch.equal(hashed, hash_rows(z, salt=1))

def test_every_bit_and_every_place_counts():
    z = torch.zeros([1, 8])
    base = hash_rows(z)
    for i in range(8):
        other = z.clone()
        other[0, i] = torch.finfo(torch.float32).tiny
        assert hash_rows(other) != base
    assert hash_rows(torch.tensor([[1.0, 2.0]])) != hash_rows(torch.tensor([[2.0, 1.0]]))

def test_any_value_is_hashed():
    z = torch.tensor([[math.nan, 0.0], [-math.nan, -0.0], [math.inf, 1.0], [-math.inf, 1.0]])
    hashed = hash_rows(z)
    assert hashed[0] == hashed[1] and hashed[2] != hashed[3]
    assert hash_rows(torch.full([1, 2], 1e300, dtype=torch.float64)) == hash_rows(torch.full([1, 2], math.inf))

def test_index_is_uniform():
    z = torch.randn([60000, 16], generator=torch.Generator().manual_seed(1))
    for n in [7, 100, 1000]:
        counts = torch.bincount(hash_to_index(hash_rows(z), n), minlength=n).double()
        chi2 = ((counts - 60000 / n) ** 2 / (60000 / n)).sum().item()
        assert abs(chi2 - (n - 1)) < 5 * math.sqrt(2 * (n - 1))

def test_noise_is_standard_normal_and_a_function_of_the_seed():
    seed = torch.arange(200)
    noise = hash_normal(seed, [3, 8, 8])
    assert noise.shape == (200, 3, 8, 8) and noise.dtype == torch.float32
    assert torch.equal(noise[5:9], hash_normal(seed[5:9], [3, 8, 8]))
    x = noise.double().flatten().numpy()
    assert abs(x.mean()) < 0.03 and abs(x.std() - 1) < 0.02 and abs((x ** 4).mean() - 3) < 0.2
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.3
