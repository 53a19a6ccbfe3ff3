"""How long an iteration takes on this machine: one of the networks alone, on random images, before a run is configured."""

import importlib
import time

import torch
import torch.nn.functional as F

from spider_plugin.automatic.choice import Plan

#----------------------------------------------------------------------------

PATIENCE = 5    # Seconds of a first iteration after which no other is waited for.

def seconds_of_iteration(plan: Plan, channels: int, threads: int | None) -> tuple[float, float]:
    """Return the seconds, and those of the CPU, that a step of G and a step of D take together, in the shorter one of two
    iterations after a first.

    channels:   of the images, 1 or 3.
    threads:    CPU threads, None for torch's own choice.
    What a run does beside is left out: loading, augmentation, regularisation of every sixteenth iteration."""
    device = importlib.import_module('training.runtime').pick_device()
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            G, D = (network.to(device).train() for network in _networks(plan, channels))
            real = torch.rand([plan.batch, channels, plan.resolution, plan.resolution], device=device) * 2 - 1
            first = _iteration(G, D, real, device)
            return min(first, *(_iteration(G, D, real, device) for _ in range(2))) if first[0] < PATIENCE else first
    finally:
        torch.set_num_threads(before)

def _networks(plan, channels):
    shape = dict(c_dim=0, img_resolution=plan.resolution, img_channels=channels)
    if plan.cfg == 'fastgan_lite':
        from spider_plugin.options.fastgan import NGF_BASE, PRESET
        from spider_plugin.portable.generators.fastgan import FastGANGenerator
        from spider_plugin.projected_discriminator import ProjectedDiscriminator
        G = FastGANGenerator(z_dim=PRESET['z_dim'], ngf=plan.cbase // NGF_BASE, lite=True, **shape)
        return G, ProjectedDiscriminator(heads='separable', feature_resolution=plan.disc_size, **shape)
    if plan.cfg == 'dcgan':
        from spider_plugin.options.dcgan import PRESET
        from spider_plugin.portable.generators.dcgan import DCGANDiscriminator, DCGANGenerator
        return DCGANGenerator(z_dim=PRESET['z_dim'], **shape), DCGANDiscriminator(**shape)
    host = importlib.import_module('training.networks_stylegan2')
    widths = dict(channel_base=plan.cbase, channel_max=512, num_fp16_res=4, conv_clamp=256)
    return host.Generator(z_dim=512, w_dim=512, **shape, **widths), host.Discriminator(**shape, **widths)

def _iteration(G, D, real, device):
    """Return the seconds of an iteration, and those of the CPU, by all threads."""
    _wait(device)
    start, busy = time.perf_counter(), time.process_time()
    z, c = torch.randn([len(real), G.z_dim], device=device), torch.zeros([len(real), 0], device=device)
    D.requires_grad_(False)
    fake = G(z, c)
    F.softplus(-D(fake, c)).mean().backward()
    D.requires_grad_(True)
    for images, sign in ((fake.detach(), 1), (real, -1)):
        F.softplus(sign * D(images, c)).mean().backward()
    for network in (G, D):
        network.zero_grad(set_to_none=True)
    _wait(device)
    return time.perf_counter() - start, time.process_time() - busy

def _wait(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)

#----------------------------------------------------------------------------
