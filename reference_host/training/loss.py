"""Training losses."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from torch_utils import training_stats
from torch_utils.ops import upfirdn2d

#----------------------------------------------------------------------------

class Loss:
    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain, cur_nimg):
        """Adds the gradients of one phase for one part of the batch to the parameters' `.grad`.

        phase: 'Gmain', 'Greg', 'Gboth', 'Dmain', 'Dreg' or 'Dboth'.
        real_img, gen_z: [N, C, H, W] in [-1, 1] and [N, z_dim]; real_c, gen_c: [N, c_dim].
        gain: factor on the loss (lazy regularization, parts of a batch). cur_nimg: real images shown so far."""
        raise NotImplementedError

    def state_dict(self):
        """What the loss remembers from one iteration to the next, as tensors and plain data, for the training state."""
        return {}

    def load_state_dict(self, state):
        """Continues with what state_dict() gave."""

#----------------------------------------------------------------------------

class StyleGAN2Loss(Loss):
    """Non-saturating logistic loss (Goodfellow et al. 2014), R1 (Mescheder et al. 2018), and path length
    regularization and style mixing (Karras et al. 2019, 2020)."""

    def __init__(self,
        device,
        G,
        D,
        augment_pipe        = None,
        r1_gamma            = 10,       # Weight of R1.
        style_mixing_prob   = 0,        # Probability of mixing the styles of two latents.
        pl_weight           = 0,        # Weight of the path length penalty. 0 = off.
        pl_batch_shrink     = 2,        # The path length penalty sees this fraction of the batch.
        pl_decay            = 0.01,     # Step of the moving average of path lengths.
        pl_no_weight_grad   = False,    # Accepted from other hosts' configs; torch skips these unneeded gradients itself.
        blur_init_sigma     = 0,        # Blur of D's images at the start, in pixels.
        blur_fade_kimg      = 0,        # The blur is gone after this many kimg.
    ):
        super().__init__()
        self.device = device
        self.G = G
        self.D = D
        self.augment_pipe = augment_pipe
        self.r1_gamma = r1_gamma
        self.style_mixing_prob = style_mixing_prob
        self.pl_weight = pl_weight
        self.pl_batch_shrink = pl_batch_shrink
        self.pl_decay = pl_decay
        self.pl_mean = torch.zeros([], device=device)
        self.blur_init_sigma = blur_init_sigma
        self.blur_fade_kimg = blur_fade_kimg

    def state_dict(self):
        return dict(pl_mean=self.pl_mean)

    def load_state_dict(self, state):
        self.pl_mean.copy_(state['pl_mean'])

    # Networks.

    def run_G(self, z, c, update_emas=False):
        """(images, ws), with the styles of a second latent from a random layer on in some of the images."""
        ws = self.G.mapping(z, c, update_emas=update_emas)
        num_ws = ws.shape[1]
        if self.style_mixing_prob > 0 and num_ws > 1 and torch.rand([]) < self.style_mixing_prob:
            cutoff = int(torch.randint(1, num_ws, []))
            other = self.G.mapping(torch.randn_like(z), c, update_emas=False)
            ws = torch.cat([ws[:, :cutoff], other[:, cutoff:]], dim=1)
        return self.G.synthesis(ws, update_emas=update_emas), ws

    def run_D(self, img, c, blur_sigma=0, update_emas=False):
        img = gaussian_blur(img, blur_sigma)
        if self.augment_pipe is not None:
            img = self.augment_pipe(img)
        return self.D(img, c, update_emas=update_emas)

    def blur_sigma(self, cur_nimg):
        if self.blur_fade_kimg <= 0:
            return 0
        return max(1 - cur_nimg / (self.blur_fade_kimg * 1000), 0) * self.blur_init_sigma

    # Phases.

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain, cur_nimg):
        blur = self.blur_sigma(cur_nimg)
        if phase in ('Gmain', 'Gboth'):
            self.generator_main(gen_z, gen_c, gain, blur)
        if phase in ('Greg', 'Gboth') and self.pl_weight != 0:
            self.path_length(gen_z, gen_c, gain)
        if phase in ('Dmain', 'Dboth'):
            fake_loss = self.discriminator_fake(gen_z, gen_c, gain, blur)
            self.discriminator_real(real_img, real_c, gain, blur, fake_loss=fake_loss, reg=phase == 'Dboth')
        if phase == 'Dreg':
            self.discriminator_real(real_img, real_c, gain, blur, fake_loss=None, reg=True)

    def generator_main(self, gen_z, gen_c, gain, blur):
        """L_G = softplus(-D(G(z)))."""
        gen_img, _ws = self.run_G(gen_z, gen_c)
        logits = self.run_D(gen_img, gen_c, blur_sigma=blur)
        report_logits('fake', logits)
        loss = F.softplus(-logits)
        training_stats.report('Loss/G/loss', loss)
        loss.mean().mul(gain).backward()

    def path_length(self, gen_z, gen_c, gain):
        """L_pl = (|J_w^T y| - a)^2 with y ~ N(0, I / (H W)) and a the moving average of |J_w^T y|."""
        num = max(gen_z.shape[0] // self.pl_batch_shrink, 1)
        gen_img, gen_ws = self.run_G(gen_z[:num], gen_c[:num])
        noise = torch.randn_like(gen_img) / math.sqrt(gen_img.shape[2] * gen_img.shape[3])
        grads, = torch.autograd.grad((gen_img * noise).sum(), [gen_ws], create_graph=True)
        lengths = grads.square().sum(2).mean(1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay) # As published, its newest part has a gradient, too.
        self.pl_mean.copy_(mean.detach())
        penalty = (lengths - mean).square()
        training_stats.report('Loss/pl_penalty', penalty)
        loss = penalty * self.pl_weight
        training_stats.report('Loss/G/reg', loss)
        loss.mean().mul(gain).backward()

    def discriminator_fake(self, gen_z, gen_c, gain, blur):
        """softplus(D(G(z))), one half of L_D. The moving averages of G and D follow this pass only."""
        with torch.no_grad():
            gen_img, _ws = self.run_G(gen_z, gen_c, update_emas=True)
        logits = self.run_D(gen_img, gen_c, blur_sigma=blur, update_emas=True)
        report_logits('fake', logits)
        loss = F.softplus(logits)
        loss.mean().mul(gain).backward()
        return loss.detach()

    def discriminator_real(self, real_img, real_c, gain, blur, fake_loss, reg):
        """softplus(-D(x)), the other half of L_D unless fake_loss is None, and R1 = gamma / 2 |grad_x D(x)|^2."""
        real_img = real_img.detach().requires_grad_(reg)
        logits = self.run_D(real_img, real_c, blur_sigma=blur)
        report_logits('real', logits)
        loss = 0
        if fake_loss is not None:
            loss = F.softplus(-logits)
            training_stats.report('Loss/D/loss', fake_loss + loss.detach())
        if reg:
            grads, = torch.autograd.grad(logits.sum(), [real_img], create_graph=True)
            penalty = grads.square().sum([1, 2, 3])
            training_stats.report('Loss/r1_penalty', penalty)
            training_stats.report('Loss/D/reg', penalty * (self.r1_gamma / 2))
            loss = loss + penalty.unsqueeze(1) * (self.r1_gamma / 2)
        loss.mean().mul(gain).backward()

#----------------------------------------------------------------------------

def report_logits(kind, logits):
    training_stats.report(f'Loss/scores/{kind}', logits)
    training_stats.report(f'Loss/signs/{kind}', logits.sign())

def gaussian_blur(img, sigma):
    """Gaussian blur whose taps fall to one half at `sigma` pixels; what lies beyond the border counts as zero."""
    radius = int(np.floor(sigma * 3))
    if radius == 0:
        return img
    taps = torch.arange(-radius, radius + 1, device=img.device).div(sigma).square().neg().exp2()
    return upfirdn2d.filter2d(img, taps / taps.sum())

#----------------------------------------------------------------------------
