"""The source key: how a mapping network tells the synthesis network which source image belongs to a row of ws.

Hosts call only `mapping(z, c)` and `synthesis(ws)`, so the key rides in trailing rows of ws: the key's floats, one check
value, zeros. Keys are exact float32 numbers. Whatever a tool does to ws as if all of it were styles (truncation,
interpolation, averaging) breaks the check, which `unpack_key` reports.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import torch

from torch_utils_ext.ops.bit_hash import hash_rows, hash_to_index

#----------------------------------------------------------------------------
# Rows of ws that a key needs: its floats and the check value, w_dim to a row.

def key_slots(key_dim, w_dim):
    """Number of trailing rows of ws, at least 1."""
    return -(-(key_dim + 1) // w_dim)

#----------------------------------------------------------------------------
# 24-bit hash of the key. It depends on the dtype of ws: a float32 key that was converted to float64 on its way (video
# scripts interpolate in float64) is not taken for an exact one at the keyframes, where it would flash up for one frame.

def _check_value(key, dtype):
    salt = {torch.float32: 1, torch.float64: 2}.get(dtype, 3)
    return hash_to_index(hash_rows(key, salt=salt), 1 << 24).to(dtype)

#----------------------------------------------------------------------------

def pack_key(key, slots, w_dim, dtype=torch.float32):
    """key float32 [N, key_dim] -> rows of ws [N, slots, w_dim] of dtype float32 or float64, no gradient."""
    key = key.detach()
    rows = torch.zeros([key.shape[0], slots * w_dim], dtype=dtype, device=key.device)
    rows[:, : key.shape[1]] = key.to(dtype)
    rows[:, key.shape[1]] = _check_value(key, dtype)
    return rows.reshape(key.shape[0], slots, w_dim)

#----------------------------------------------------------------------------

def unpack_key(rows, key_dim):
    """The key in trailing rows of ws, and whether it is intact.

    rows:    [N, slots, w_dim] of any floating dtype; slots may be 0.
    returns  key float32 [N, key_dim], zero where broken; intact bool [N]."""
    flat = rows.detach().flatten(1)
    if flat.shape[1] < key_dim + 1:
        return flat.new_zeros([len(flat), key_dim], dtype=torch.float32), flat.new_zeros([len(flat)], dtype=torch.bool)
    key = flat[:, :key_dim].to(torch.float32)
    intact = (flat[:, key_dim] == _check_value(key, flat.dtype)) & (flat[:, :key_dim] == key).all(dim=1)
    return torch.where(intact.unsqueeze(1), key, torch.zeros_like(key)), intact

#----------------------------------------------------------------------------

def keyed_images(rows, source):
    """The source images that trailing rows of ws [N, slots, w_dim] name: float32 [N, C, R, R]; the mean source image
    where there is no intact key."""
    key, intact = unpack_key(rows, source.key_dim)
    return torch.where(intact[:, None, None, None], source.fetch(key), source.mean_image.to(rows.device))

#----------------------------------------------------------------------------
