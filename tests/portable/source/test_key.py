"""The source key in ws: exact where untouched, rejected where anything was done to it."""

import pytest
import torch

from spider_plugin.portable.source.key import key_slots, pack_key, unpack_key

def _keys(n=32, seed=0):
    return torch.randint(0, 1 << 24, [n, 2], generator=torch.Generator().manual_seed(seed)).float()

@pytest.mark.parametrize('key_dim, w_dim, slots',
                         [(2, 512, 1), (2, 4, 1), (2, 2, 2), (513, 512, 2), (511, 512, 1), (512, 512, 2)])
def test_slots_hold_key_and_check(key_dim, w_dim, slots):
    assert key_slots(key_dim, w_dim) == slots
    key = torch.randn([3, key_dim])
    rows = pack_key(key, slots, w_dim)
    assert rows.shape == (3, slots, w_dim)
    read, intact = unpack_key(rows, key_dim)
    assert intact.all() and torch.equal(read, key)

def test_a_bank_key_survives_float32_and_float64():
    for dtype in [torch.float32, torch.float64]:
        rows = pack_key(_keys(), 1, 8, dtype)
        read, intact = unpack_key(rows, 2)
        assert rows.dtype == dtype and intact.all() and torch.equal(read, _keys())

@pytest.mark.parametrize('touch', [
    lambda a, b: a.lerp(b, 0.3),                            # interpolated
    lambda a, b: 0.7 * a,                                   # truncated towards zero
    lambda a, b: a + 0.5 * (a.mean(dim=0) - a),             # truncated towards an average
    lambda a, b: a.double(),                                # a video script's dtype, exact keyframes included
    lambda a, b: a.half().float(),
    lambda a, b: torch.zeros_like(a),
    lambda a, b: torch.randn_like(a),
    lambda a, b: torch.cat([a[:, :, :1], b[:, :, 1:]], 2),  # torn
    lambda a, b: a[:, :0],                                  # absent
])
def test_a_touched_key_is_rejected(touch):
    a, b = pack_key(_keys(seed=1), 1, 8), pack_key(_keys(seed=2), 1, 8)
    key, intact = unpack_key(touch(a, b), 2)
    assert not intact.any() and (key == 0).all() and key.shape == (32, 2)

def test_one_broken_row_does_not_break_the_others():
    rows = pack_key(_keys(4), 1, 8)
    rows[2, 0, 0] += 1
    assert unpack_key(rows, 2)[1].tolist() == [True, True, False, True]

def test_no_gradient_reaches_the_key():
    ws = torch.cat([torch.randn([4, 3, 8]), pack_key(_keys(4), 1, 8)], dim=1).requires_grad_(True)
    key, intact = unpack_key(ws[:, 3:], 2)
    assert not key.requires_grad and intact.all()
