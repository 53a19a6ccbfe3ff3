"""The hinge loss of Projected GAN (Lim and Ye 2017; Sauer et al. 2021), for any host's training loop.

Hosts differ in what they hand to a loss and in what its calls take: a generator or its two networks, the sum of images so far
or none, `sync` where DistributedDataParallel exchanges gradients. All of it is found out by looking."""

import contextlib
import inspect

import torch
import torch.nn.functional as F

#----------------------------------------------------------------------------

class ProjectedHingeLoss:
    """G: -mean D(G(z)); D: mean relu(1 + D(G(z))) + mean relu(1 - D(x)). No R1, path length or style mixing.

    G, or G_mapping and G_synthesis: the generator. D: a ProjectedDiscriminator, which takes fakes and reals in one pass.
    augment_pipe:       the host's augmentation in front of D, or None.
    blur_init_sigma:    blur of all images that D sees, in pixels, at the start; it fades until
    blur_fade_kimg:     so many thousand real images."""

    def __init__(self, device, D, G=None, G_mapping=None, G_synthesis=None, augment_pipe=None, G_ema=None, blur_init_sigma=0,
                 blur_fade_kimg=0):
        self.device, self.D, self.augment_pipe = device, D, augment_pipe
        self.mapping = G.mapping if G_mapping is None else G_mapping
        self.synthesis = G.synthesis if G_synthesis is None else G_synthesis
        self.names = _keywords(self.mapping), _keywords(self.synthesis)
        self.blur_init_sigma, self.blur_fade_kimg = blur_init_sigma, blur_fade_kimg
        self.seen = 0   # real images in all ranks, for hosts that do not say

    def state_dict(self):
        """Return the counter of the loss, for hosts that keep training states."""
        return {'seen': self.seen}

    def load_state_dict(self, state):
        self.seen = state['seen']

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain, cur_nimg=None, sync=True):
        """Adds the gradients of one phase for one part of the batch to the parameters' `.grad`. Phases of regularisation do
        nothing."""
        sigma = self.blur_sigma(self.seen if cur_nimg is None else cur_nimg)
        if phase in ('Gmain', 'Gboth'):
            self.generator(gen_z, gen_c, gain, sync, sigma)
        if phase in ('Dmain', 'Dboth'):
            self.seen += len(real_img) * _num_ranks()
            self.discriminator(real_img, real_c, gen_z, gen_c, gain, sync, sigma)

    def generator(self, gen_z, gen_c, gain, sync, sigma):
        logits = self.run_D(self.run_G(gen_z, gen_c, sync), gen_c, sigma, sync=False)
        _report('fake', logits)
        _stats().report('Loss/G/loss', -logits)
        logits.mean().mul(-gain).backward()

    def discriminator(self, real_img, real_c, gen_z, gen_c, gain, sync, sigma):
        with torch.no_grad():
            fake_img = self.run_G(gen_z, gen_c, sync=False, update_emas=True)
        both, c = torch.cat([fake_img, real_img.to(fake_img.dtype)]), torch.cat([gen_c, real_c])
        fake, real = self.run_D(both, c, sigma, sync, parts=2).chunk(2)
        _report('fake', fake)
        _report('real', real)
        fake_loss, real_loss = F.relu(1 + fake), F.relu(1 - real)
        _stats().report('Loss/D/loss', fake_loss + real_loss)
        (fake_loss.mean() + real_loss.mean()).mul(gain).backward()

    # Networks.

    def run_G(self, z, c, sync, update_emas=False):
        mapping, synthesis = ({name: value for name, value in (('c', c), ('update_emas', update_emas)) if name in names}
                              for names in self.names)
        with _exchange(self.mapping, sync), _exchange(self.synthesis, sync):
            mapping.pop('c', None)      # its second argument everywhere
            return self.synthesis(self.mapping(z, c, **mapping), **synthesis)

    def run_D(self, img, c, sigma, sync, **parts):
        img = gaussian_blur(img, sigma)
        if self.augment_pipe is not None:
            img = self.augment_pipe(img)
        with _exchange(self.D, sync):
            return self.D(img, c, **parts)

    def blur_sigma(self, nimg):
        """Falls in a straight line from blur_init_sigma to 0."""
        return self.blur_init_sigma * max(1 - nimg / (self.blur_fade_kimg * 1000), 0) if self.blur_fade_kimg > 0 else 0

#----------------------------------------------------------------------------

def _num_ranks():
    return torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1

def _exchange(module, sync):
    """Within: a DistributedDataParallel module exchanges gradients only if sync."""
    distributed = isinstance(module, torch.nn.parallel.DistributedDataParallel)
    return module.no_sync() if distributed and not sync else contextlib.nullcontext()

def _keywords(network):
    """Names that the network's forward, or one that it extends, can be given; `update_emas` also where it hands keywords to
    layers that take this one, as StyleGAN3's do."""
    network = getattr(network, 'module', network)
    forwards = [cls.forward for cls in type(network).__mro__ if 'forward' in vars(cls) and cls is not torch.nn.Module]
    names = {name for forward in forwards for name in inspect.signature(forward).parameters}
    layers = any('update_emas' in inspect.signature(type(layer).forward).parameters for layer in network.modules())
    return names | ({'update_emas'} if layers else set())

def gaussian_blur(img, sigma):
    """img [N, C, H, W] blurred by taps that fall to one half at `sigma` pixels; what lies beyond the border counts as zero."""
    radius = int(sigma * 3)
    if radius == 0:
        return img
    taps = torch.arange(-radius, radius + 1, device=img.device, dtype=img.dtype).div(sigma).square().neg().exp2()
    taps = (taps / taps.sum()).expand(img.shape[1], 1, -1)
    img = F.conv2d(img, taps.unsqueeze(3), padding=(radius, 0), groups=img.shape[1])
    return F.conv2d(img, taps.unsqueeze(2), padding=(0, radius), groups=img.shape[1])

def _stats():
    from torch_utils import training_stats  # the host's
    return training_stats

def _report(kind, logits):
    _stats().report(f'Loss/scores/{kind}', logits)
    _stats().report(f'Loss/signs/{kind}', logits.sign())

#----------------------------------------------------------------------------
