"""The hinge loss of Projected GAN (Lim and Ye 2017; Sauer et al. 2021), for any host's training loop.

Hosts differ in the arguments of a loss and of its calls. Some pass a generator, some its two networks; some pass the number of
images so far; some pass `sync`, because DistributedDataParallel exchanges gradients. The loss inspects its arguments and the
signatures of the networks to support all of them."""

import contextlib
import inspect

import torch
import torch.nn.functional as F

_VARIETY = 4    # weight of the term of `variety`; not tuned

#----------------------------------------------------------------------------

class ProjectedHingeLoss:
    """The loss L_G = -mean D(G(z)), L_D = mean relu(1 + D(G(z))) + mean relu(1 - D(x)), without R1, path length, style mixing.

    G, or G_mapping and G_synthesis: the generator.
    D:                  a ProjectedDiscriminator, which takes fakes and reals in one pass.
    augment_pipe:       the host's augmentation in front of D, or None.
    blur_init_sigma:    blur of all images that D sees, in pixels, at the start. It falls to 0 over
    blur_fade_kimg:     this many thousand real images.
    variety:            what two latents at one source image should change at least, as a share of what another source image
                        changes; 0 leaves this to D. See `varied`."""

    def __init__(self, device, D, G=None, G_mapping=None, G_synthesis=None, augment_pipe=None, G_ema=None, blur_init_sigma=0,
                 blur_fade_kimg=0, variety=0):
        self.device, self.D, self.augment_pipe = device, D, augment_pipe
        self.mapping = G.mapping if G_mapping is None else G_mapping
        self.synthesis = G.synthesis if G_synthesis is None else G_synthesis
        self.names = _keywords(self.mapping), _keywords(self.synthesis)
        self.blur_init_sigma, self.blur_fade_kimg, self.variety = blur_init_sigma, blur_fade_kimg, variety
        self.seen = 0   # real images in all ranks, for hosts that do not pass the number

    def state_dict(self):
        """Return the counter of the loss, for hosts that keep training states."""
        return {'seen': self.seen}

    def load_state_dict(self, state):
        self.seen = state['seen']

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain, cur_nimg=None, sync=True):
        """Add the gradients of one phase for one part of the batch to the parameters' `.grad`.

        Phases of regularisation do nothing."""
        sigma = self.blur_sigma(self.seen if cur_nimg is None else cur_nimg)
        if phase in ('Gmain', 'Gboth'):
            self.generator(gen_z, gen_c, gain, sync, sigma)
        if phase in ('Dmain', 'Dboth'):
            self.seen += len(real_img) * _num_ranks()
            self.discriminator(real_img, real_c, gen_z, gen_c, gain, sync, sigma)

    def generator(self, gen_z, gen_c, gain, sync, sigma):
        fake_img, missing = self.varied(gen_z, gen_c, sync) if self.variety > 0 else (self.run_G(gen_z, gen_c, sync), 0)
        logits = self.run_D(fake_img, gen_c, sigma, sync=False)
        _report('fake', logits)
        _stats().report('Loss/G/loss', -logits)
        (_VARIETY * missing - logits.mean()).mul(gain).backward()

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

    def run_G(self, z, c, sync, update_emas=False, edit=None):
        """Return images of z [N, z_dim] and c [N, c_dim]; edit: makes other ws from the mapping's, as many of them."""
        mapping, synthesis = ({name: value for name, value in (('c', c), ('update_emas', update_emas)) if name in names}
                              for names in self.names)
        with _exchange(self.mapping, sync), _exchange(self.synthesis, sync):
            mapping.pop('c', None)      # c is always the second argument
            ws = self.mapping(z, c, **mapping)
            return self.synthesis(ws if edit is None else edit(ws), **synthesis)

    # Mode seeking (Mao et al. 2019) at one source image: with x and y the images of two latents at it, x' that of another source
    # image, L = mean relu(variety - |x - y| / mean |x - x'|), norms over all pixels. D does not see y, which is distributed as x.
    # Both latents go through G in one pass, since DistributedDataParallel allows one before the backward pass.

    def varied(self, z, c, sync):
        """Return images of z, and L of them, a scalar."""
        rows = getattr(self.synthesis, 'module', self.synthesis).num_ws     # after them ws has the key of the source image
        def same_source(ws):
            ws, other = ws.chunk(2)
            return torch.cat([ws, torch.cat([other[:, :rows], ws[:, rows:]], dim=1)])
        x, y = self.run_G(torch.cat([z, torch.randn_like(z)]), torch.cat([c, c]), sync, edit=same_source).chunk(2)
        norms = lambda difference: difference.to(torch.float32).flatten(1).square().sum(dim=1).add(1e-8).sqrt()
        ratio = norms(x - y) / norms(x - x.roll(1, 0)).mean().detach()
        _stats().report('Loss/G/variety', ratio)
        return x, F.relu(self.variety - ratio).mean()

    def run_D(self, img, c, sigma, sync, **parts):
        img = gaussian_blur(img, sigma)
        if self.augment_pipe is not None:
            img = self.augment_pipe(img)
        with _exchange(self.D, sync):
            return self.D(img, c, **parts)

    def blur_sigma(self, nimg):
        """Return the blur in pixels, which falls linearly from blur_init_sigma to 0."""
        return self.blur_init_sigma * max(1 - nimg / (self.blur_fade_kimg * 1000), 0) if self.blur_fade_kimg > 0 else 0

#----------------------------------------------------------------------------

def _num_ranks():
    return torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1

def _exchange(module, sync):
    """Within this context, a DistributedDataParallel module exchanges gradients only if sync is true."""
    distributed = isinstance(module, torch.nn.parallel.DistributedDataParallel)
    return module.no_sync() if distributed and not sync else contextlib.nullcontext()

def _keywords(network):
    """Return the names of the arguments of the network's forward, or of one that it extends.

    `update_emas` is included if forward passes keywords on to layers that take it, as in StyleGAN3."""
    network = getattr(network, 'module', network)
    forwards = [cls.forward for cls in type(network).__mro__ if 'forward' in vars(cls) and cls is not torch.nn.Module]
    names = {name for forward in forwards for name in inspect.signature(forward).parameters}
    layers = any('update_emas' in inspect.signature(type(layer).forward).parameters for layer in network.modules())
    return names | ({'update_emas'} if layers else set())

def gaussian_blur(img, sigma):
    """Return img [N, C, H, W] blurred by taps that fall to one half at `sigma` pixels; pixels outside the image are zero."""
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
