"""Progressive growing inside a host's training loop: the schedule, the losses, and Adam with a rate for each level.

A level is one of the resolutions through which PGGAN grows. The loop calls the loss with the number of images so far, or without
it, as in stylegan2-ada-pytorch; then the loss counts the images. It advances the `progress` of G and D
(portable/generators/pggan.py) from its value at the start of training, so that a resumed run continues at its level. No other
code depends on the schedule."""

import inspect
import weakref

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from spider_plugin.portable.generators.dcgan import upsample_nearest
from spider_plugin.portable.generators.pggan import down_to, faded
from spider_plugin.training.host_keywords import leave_out
from torch_utils import training_stats

#----------------------------------------------------------------------------
# The schedule.

class Growth:
    """Advances the progress of networks, `stage_kimg` thousand images per phase; see portable/generators/pggan.py."""

    def __init__(self, networks, stage_kimg):
        self.networks, self.stage_kimg = networks, stage_kimg
        self.start = None       # (images, progress) when training began

    def advance(self, nimg):
        if self.start is None:
            self.start = nimg, float(self.networks[0].progress)
        progress = self.start[1] + (nimg - self.start[0]) / (1000 * self.stage_kimg)
        for network in self.networks:
            network.progress.fill_(progress)

#----------------------------------------------------------------------------
# Adam whose rate is `lr` times the factor of the level, and whose moments are reset at each new level, as in the published runs.
# A host passes only parameters, which have no level; the loss of the process records the network of each parameter.

_network_of = WeakTensorKeyDictionary()     # parameter -> weak reference to the network whose level applies

def _remember(module, network):
    for parameter in module.parameters():
        _network_of[parameter] = weakref.ref(network)

class StageAdam(torch.optim.Adam):
    """Adam with a learning rate for each level. `factors` is {resolution: factor on lr}; the factor is 1 for others."""

    def __init__(self, params, factors=None, **kwargs):
        super().__init__(params, **kwargs)
        self.factors = {int(resolution): factor for resolution, factor in (factors or {}).items()}
        self.rates = [group['lr'] for group in self.param_groups]
        for group in self.param_groups:     # State dicts hold the groups, and so the resolution of the moments.
            group['resolution'] = None

    def step(self, closure=None):
        network = _network_of[self.param_groups[0]['params'][0]]()
        resolution = network.resolutions[network.stage()[0]]
        before = self.param_groups[0]['resolution']
        if resolution != before:
            if before is not None:
                self.state.clear()
            for group, rate in zip(self.param_groups, self.rates, strict=True):
                group.update(lr=rate * self.factors.get(resolution, 1), resolution=resolution)
        return super().step(closure)

#----------------------------------------------------------------------------
# L_D = E D(G(z)) - E D(x) + lambda E (|grad D(x^)| - 1)^2 + epsilon E D(x)^2,  L_G = -E D(G(z)), with x^ between x and G(z)
# (Gulrajani et al. 2017; Karras et al. 2018, appendix A.1). Gradients are with respect to images at the current resolution.

class WGANGP:
    def __init__(self, gp_weight=10.0, drift=1e-3):
        self.gp_weight, self.drift = gp_weight, drift

    def generator(self, logits):
        return -logits

    def fake(self, logits):
        return logits

    def real(self, logits):
        return self.drift * logits.square() - logits

    def penalty(self, run_D, real, fake, c):
        mix = real.lerp(fake, torch.rand([len(real), 1, 1, 1], device=real.device)).requires_grad_(True)
        grads, = torch.autograd.grad(run_D(mix, c).sum(), [mix], create_graph=True)
        return self.gp_weight * (grads.square().sum([1, 2, 3]).add(1e-12).sqrt() - 1).square()

#----------------------------------------------------------------------------
# L_D = E f(D(G(z))) + E f(-D(x)) + gamma / 2 E |grad D(x)|^2,  L_G = E f(-D(G(z))),  f = softplus
# (Goodfellow et al. 2014; Mescheder et al. 2018).

class NonSaturating:
    def __init__(self, r1_gamma=10.0):
        self.r1_gamma = r1_gamma

    def generator(self, logits):
        return F.softplus(-logits)

    def fake(self, logits):
        return F.softplus(logits)

    def real(self, logits):
        return F.softplus(-logits)

    def penalty(self, run_D, real, fake, c):
        real = real.detach().requires_grad_(True)
        grads, = torch.autograd.grad(run_D(real, c).sum(), [real], create_graph=True)
        return self.r1_gamma / 2 * grads.square().sum([1, 2, 3])

OBJECTIVES = {'wgan-gp': WGANGP, 'nonsaturating': NonSaturating}

#----------------------------------------------------------------------------

class ProgressiveLoss:
    """A loss for the networks of portable/generators/pggan.py, with the interface of the hosts' losses.

    G, or G_mapping and G_synthesis; D; augment_pipe: as the host passes them, in one rank or with gradients averaged by the host.
    objective:  a name in OBJECTIVES, whose arguments are `settings`.
    stage_kimg: length of a phase in thousands of images. A phase trains one level, or fades in the next one.
    Other keywords are those of the host's own loss (training/host_keywords.py)."""

    def __init__(self, device=None, D=None, G=None, G_mapping=None, G_synthesis=None, augment_pipe=None, objective='wgan-gp',
                 stage_kimg=800, **settings):
        known = inspect.signature(OBJECTIVES[objective]).parameters
        leave_out(type(self), {name: value for name, value in settings.items() if name not in known})
        settings = {name: value for name, value in settings.items() if name in known}
        self.device, self.D, self.augment_pipe = device, D, augment_pipe
        self.mapping, self.synthesis = (G_mapping, G_synthesis) if G is None else (G.mapping, G.synthesis)
        self.objective = OBJECTIVES[objective](**settings)
        self.growth = Growth([self.synthesis, D], stage_kimg)
        self.count = 0      # real images in this rank, for hosts that do not pass the number
        _remember(self.mapping, self.synthesis)
        _remember(self.synthesis, self.synthesis)
        _remember(D, D)

    def state_dict(self):
        """Return the counter of the loss and the start of its schedule, for hosts that keep training states."""
        return {'count': self.count, 'start': self.growth.start}

    def load_state_dict(self, state):
        self.count, self.growth.start = state['count'], state['start']

    # Networks. Images have the resolution of the current level; augmentations see them at full resolution.

    def run_G(self, z, c, update_emas):
        return self.synthesis(self.mapping(z, c, update_emas=update_emas), full=False)

    def run_D(self, images, c):
        if self.augment_pipe is not None:
            while images.shape[-1] < self.D.img_resolution:
                images = upsample_nearest(images)
            images = self.augment_pipe(images)
        return self.D(images, c)

    def real_at_stage(self, real):
        """Return real images at the resolution of the current level, faded as those of G are."""
        stage, fade = self.D.stage()
        return faded(down_to(real, self.D.resolutions[stage]), fade)

    # Phases.

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain=1, cur_nimg=None, sync=None, **_others):
        """Add the gradients of a phase for a part of the batch, as the host's losses do.

        cur_nimg:   images so far; None if the host does not pass it.
        sync:       not used; hosts that exchange gradients in backward pass it."""
        if phase in ('Gmain', 'Gboth'):
            self.growth.advance(self.count if cur_nimg is None else cur_nimg)
            self.generator_step(gen_z, gen_c, gain)
        if phase in ('Dmain', 'Dboth'):
            self.count += len(real_img)
        if phase[0] == 'D':
            self.discriminator_step(self.real_at_stage(real_img), real_c, gen_z, gen_c, gain, main=phase != 'Dreg',
                                    reg=phase != 'Dmain')

    def generator_step(self, gen_z, gen_c, gain):
        logits = self.run_D(self.run_G(gen_z, gen_c, update_emas=False), gen_c)
        report_logits('fake', logits)
        loss = self.objective.generator(logits)
        training_stats.report('Loss/G/loss', loss)
        loss.mean().mul(gain).backward()

    def discriminator_step(self, real, real_c, gen_z, gen_c, gain, main, reg):
        with torch.no_grad():
            fake = self.run_G(gen_z, gen_c, update_emas=main)
        if main:
            fake_logits, real_logits = self.run_D(fake, gen_c), self.run_D(real, real_c)
            report_logits('fake', fake_logits)
            report_logits('real', real_logits)
            loss = self.objective.fake(fake_logits) + self.objective.real(real_logits)
            training_stats.report('Loss/D/loss', loss)
            loss.mean().mul(gain).backward()
            stage, fade = self.D.stage()
            training_stats.report0('Progress/resolution', self.D.resolutions[stage])
            training_stats.report0('Progress/fade', fade)
        if reg:
            penalty = self.objective.penalty(self.run_D, real, fake, real_c)
            training_stats.report('Loss/D/reg', penalty)
            penalty.mean().mul(gain).backward()

def report_logits(kind, logits):
    training_stats.report(f'Loss/scores/{kind}', logits)
    training_stats.report(f'Loss/signs/{kind}', logits.sign())

#----------------------------------------------------------------------------
