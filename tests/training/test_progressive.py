"""The schedule of growth, its losses and its optimizer, on networks and against formulas."""

import importlib

import pytest
import torch

from spider_plugin.portable.generators.pggan import PGGANDiscriminator, PGGANGenerator

@pytest.fixture(scope='module')
def progressive():
    return importlib.import_module('spider_plugin.training.progressive')

def networks(progress=0.0):
    torch.manual_seed(0)
    sizes = dict(channel_base=128, channel_max=8)
    G, D = PGGANGenerator(16, 0, 16, 1, **sizes), PGGANDiscriminator(0, 16, 1, **sizes)
    G.synthesis.progress.fill_(progress)
    D.progress.fill_(progress)
    return G, D

def batch(n=4):
    images = torch.randn([n, 1, 16, 16], generator=torch.Generator().manual_seed(1))
    return dict(real_img=images, real_c=torch.zeros([n, 0]), gen_z=torch.randn([n, 16]), gen_c=torch.zeros([n, 0]), gain=1)

def iterate(loss, **kwargs):
    for phase in ('Gboth', 'Dboth'):
        loss.accumulate_gradients(phase=phase, **batch(), **kwargs)

#----------------------------------------------------------------------------

def test_growth_follows_the_images_of_the_host(progressive):
    G, D = networks()
    loss = progressive.ProgressiveLoss('cpu', G=G, D=D, stage_kimg=0.1)
    for nimg, stage in ((0, (0, 1)), (99, (0, 1)), (125, (1, 0.25)), (200, (1, 1)), (350, (2, 0.5)), (1000, (2, 1))):
        iterate(loss, cur_nimg=nimg)
        assert G.synthesis.stage() == D.stage() == pytest.approx(stage, abs=1e-5)

def test_a_resumed_run_continues_at_the_progress_of_the_snapshot(progressive):
    G, D = networks(progress=1.5)
    loss = progressive.ProgressiveLoss('cpu', G=G, D=D, stage_kimg=0.1)
    for nimg, progress in ((0, 1.5), (25, 1.75), (150, 3.0)):      # a host counts from nought again
        iterate(loss, cur_nimg=nimg)
        assert float(G.synthesis.progress) == pytest.approx(progress, abs=1e-6)

def test_a_host_that_does_not_count(progressive):
    """stylegan2-ada-pytorch passes two networks for G, no cur_nimg, and parts of a batch; the level never changes within one."""
    G, D = networks()
    loss = progressive.ProgressiveLoss('cpu', G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, stage_kimg=0.016)
    seen = []
    for _ in range(3):
        for phase in ('Gboth', 'Dboth'):
            for sync in (False, True):
                loss.accumulate_gradients(phase=phase, **batch(), sync=sync)
                seen.append(float(D.progress))
    assert seen == [0] * 4 + [0.5] * 4 + [1] * 4

#----------------------------------------------------------------------------

def test_wgan_gp_by_hand(progressive):
    G, D = networks(progress=3.5)
    loss = progressive.ProgressiveLoss('cpu', G=G, D=D)
    x, fake = loss.real_at_stage(batch()['real_img']), G.synthesis(G.mapping(torch.randn([4, 16]), None), full=False).detach()
    torch.manual_seed(5)
    penalty = loss.objective.penalty(D, x, fake, None)
    torch.manual_seed(5)
    mix = x + torch.rand([4, 1, 1, 1]) * (fake - x)
    slope = torch.autograd.functional.jacobian(lambda v: D(v, None).sum(), mix).flatten(1).norm(dim=1)
    assert torch.allclose(penalty, 10 * (slope - 1) ** 2, rtol=1e-3, atol=1e-4)
    logits = D(x, None)
    assert torch.allclose(loss.objective.real(logits), -logits + 1e-3 * logits ** 2)
    assert torch.equal(loss.objective.generator(logits), -logits)

def test_nonsaturating_with_r1_by_hand(progressive):
    G, D = networks(progress=2)
    loss = progressive.ProgressiveLoss('cpu', G=G, D=D, objective='nonsaturating', r1_gamma=3.0)
    x = loss.real_at_stage(batch()['real_img'])
    blocks = batch()['real_img'].reshape(4, 1, 8, 2, 8, 2).mean(dim=[3, 5])
    assert x.shape == (4, 1, 8, 8) and torch.allclose(x, blocks, atol=1e-6)
    penalty = loss.objective.penalty(D, x, None, None)
    assert torch.allclose(penalty.sum(), 1.5 * torch.autograd.functional.jacobian(lambda v: D(v, None).sum(), x).square().sum())

def test_lazy_phases_add_up_to_both(progressive):
    grads = []
    for phases in (('Dboth',), ('Dmain', 'Dreg')):
        G, D = networks(progress=2)
        loss = progressive.ProgressiveLoss('cpu', G=G, D=D, objective='nonsaturating', r1_gamma=3.0)
        torch.manual_seed(3)
        one = batch()
        for phase in phases:
            loss.accumulate_gradients(phase=phase, **one, cur_nimg=0)
        grads.append(torch.cat([p.grad.flatten() for p in D.parameters() if p.grad is not None]))
    assert torch.allclose(*grads, atol=1e-5) and loss.count == 4

@pytest.mark.parametrize('objective', ['wgan-gp', 'nonsaturating'])
@pytest.mark.parametrize('progress', [0, 1.5, 3.5, 4])
def test_gradients_are_finite_and_reach_what_is_in_use(progressive, objective, progress):
    G, D = networks(progress)
    iterate(progressive.ProgressiveLoss('cpu', G=G, D=D, objective=objective), cur_nimg=0)
    for network, names in ((G.synthesis, ('torgb', 'b')), (D, ('fromrgb', 'b'))):
        stage = network.stage()[0]
        for i, r in enumerate(network.resolutions):
            layers = [getattr(network, f'{name}{r}', None) for name in names]
            grads = [p.grad for layer in layers if layer is not None for p in layer.parameters()]
            assert all(g is not None and g.isfinite().all() for g in grads) if i == stage else i < stage or not any(
                g is not None for g in grads)

def test_augmentations_see_all_pixels(progressive):
    G, D = networks(progress=2)
    sizes = []
    pipe = lambda x: (sizes.append(x.shape[-1]), x)[1]
    plain, piped = (progressive.ProgressiveLoss('cpu', G=G, D=D, augment_pipe=p) for p in (None, pipe))
    x = plain.real_at_stage(batch()['real_img'])
    assert torch.allclose(plain.run_D(x, None), piped.run_D(x, None), atol=1e-5) and sizes == [16]

#----------------------------------------------------------------------------

def test_each_level_has_its_rate_and_new_moments(progressive):
    G, D = networks()
    progressive.ProgressiveLoss('cpu', G=G, D=D)
    opts = [progressive.StageAdam(network.parameters(), lr=0.1, betas=[0.0, 0.99], factors={'8': 2, '16': 3})
            for network in (G, D)]
    for progress, rate in ((0, 0.1), (0.9, 0.1), (1.2, 0.2), (2.5, 0.2), (3.1, 0.3)):
        G.synthesis.progress.fill_(progress)
        D.progress.fill_(progress)
        before = [len(opt.state) for opt in opts]
        (G(torch.randn([2, 16]), None).sum() + D(torch.randn([2, 1, 16, 16]), None).sum()).backward()
        for opt in opts:
            opt.step()
            assert opt.param_groups[0]['lr'] == pytest.approx(rate)
            moments = {int(state['step']) for state in opt.state.values()}
            assert max(moments) == (2 if progress in (0.9, 2.5) else 1)
        assert before == [0, 0] if progress == 0 else all(before)

def test_layers_of_later_levels_do_not_change(progressive):
    G, D = networks()
    loss = progressive.ProgressiveLoss('cpu', G=G, D=D, stage_kimg=1)
    opt = progressive.StageAdam(G.parameters(), lr=0.1)
    before = {name: p.clone() for name, p in G.named_parameters()}
    loss.accumulate_gradients(phase='Gboth', **batch(), cur_nimg=0)
    opt.step()
    moved = {name for name, p in G.named_parameters() if not torch.equal(p, before[name])}
    assert moved and not any('b8' in name or 'b16' in name for name in moved)
