"""z -> ws for generators that have no mapping network: the latent itself, or a vector made from the source image, plus an
embedding of the class; with a residual, trailing rows carry the source's key.

This module is portable: it travels inside snapshots and imports only torch and the standard library."""

import torch

from spider_plugin.portable.source.key import key_slots, pack_key
from spider_plugin.portable.source.mapping import build_input

#----------------------------------------------------------------------------

def unit_rms(x, eps=1e-8):
    """x [N, C, ...] scaled to a mean square of one over its channels (Karras et al. 2018, section 4.2)."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()

#----------------------------------------------------------------------------
# v = z, or the source's vector at unit mean square, as StyleGAN's mapping network treats its input;
# w = v + e(c), on the sphere where the generator wants it there. The mean of a Gaussian w is zero, that of others is tracked.

class LatentMapping(torch.nn.Module):
    """z_dim, w_dim must be equal.

    source, kind:   None, or an image source and the kind of --spider-mapping: `residual` keeps z and appends the key.
    spherical:      w is scaled to unit mean square.
    class_alone:    w = e(c): z decides on the source image only."""

    def __init__(self, z_dim, c_dim, w_dim, source=None, kind='residual', spherical=False, class_alone=False):
        super().__init__()
        if w_dim != z_dim:
            raise ValueError(f'without a mapping network, w_dim={w_dim} must equal z_dim={z_dim}')
        self.z_dim, self.c_dim, self.w_dim, self.source = z_dim, c_dim, w_dim, source
        self.spherical, self.class_alone = spherical, class_alone
        self.source_input = None if source is None else build_input(kind, source, z_dim)
        self.key_slots = 0 if source is None or self.source_input is not None else key_slots(source.key_dim, w_dim)
        self.num_ws = 1 + self.key_slots
        self.embed = torch.nn.Linear(c_dim, w_dim, bias=False) if c_dim > 0 else None
        self.register_buffer('w_avg', torch.zeros([w_dim]))

    def _latent(self, z, c):
        if self.source_input is not None:
            v = unit_rms(self.source_input(self.source.sample(z, c)))
        else:
            v = torch.nan_to_num(z.to(torch.float32), nan=0.0).clamp(-100, 100)
        if self.embed is not None:
            e = self.embed(c.to(torch.float32))
            v = e if self.class_alone else v + e
        return unit_rms(v) if self.spherical else v

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=None, **_unused):
        """z [N, z_dim], c [N, c_dim] or None -> ws [N, num_ws, w_dim], float32.

        update_emas: whether the batch moves the mean w; None, where a host knows no such argument: in training."""
        w = self._latent(z, c)
        if self.source_input is not None and (self.training if update_emas is None else update_emas):
            self.w_avg.copy_(w.detach().mean(dim=0).lerp(self.w_avg, 0.995))
        if truncation_cutoff is None or truncation_cutoff > 0:
            w = self.w_avg.lerp(w, truncation_psi)
        ws = w.unsqueeze(1)
        if self.key_slots == 0:
            return ws
        return torch.cat([ws, pack_key(self.source.key(z, c), self.key_slots, self.w_dim, ws.dtype)], dim=1)

#----------------------------------------------------------------------------
