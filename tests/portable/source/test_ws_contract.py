"""Which source image each use of ws gets: {training, style mixing, path length, w_avg, PPL, truncation, video, projector}
for a bank and for an online generator, in every generator that takes a source. See docs/contracts.md, 'Spider generator'."""

import numpy as np
import pytest
import scipy.interpolate
import torch

from spider_plugin import registry

N = 6
CFGS = ['stylegan2', 'stylegan3-t', 'stylegan3-r', *sorted(registry.generators)]

#----------------------------------------------------------------------------
# Each use makes ws as hosts do, from G and latents z1, z2, and says whose source it must show: 'z1', 'z2' or 'mean'.

def training(G, z1, z2):
    return G.mapping(z1, None), 'z1'

def truncation_inside(G, z1, z2):
    return G.mapping(z1, None, truncation_psi=0.5), 'z1'

def truncation_inside_cutoff(G, z1, z2):
    return G.mapping(z1, None, truncation_psi=0.5, truncation_cutoff=2), 'z1'

def style_mixing(G, z1, z2):
    ws = G.mapping(z1, None)
    cutoff = min(2, G.synthesis.num_ws)
    ws[:, cutoff:] = G.mapping(z2, None)[:, cutoff:]
    return ws, 'z2'

def style_mixing_never_cut(G, z1, z2):
    ws = G.mapping(z1, None)
    ws[:, ws.shape[1] :] = G.mapping(z2, None)[:, ws.shape[1] :]
    return ws, 'z1'

def style_mixing_within_the_key(G, z1, z2):
    ws = G.mapping(z1, None)
    ws[:, -1:] = G.mapping(z2, None)[:, -1:]
    return ws, 'z2' if G.mapping.key_slots == 1 else 'mean'

def path_length(G, z1, z2):
    return G.mapping(z1, None).requires_grad_(True), 'z1'

def w_avg(G, z1, z2):
    return G.mapping.w_avg.repeat(N, G.num_ws, 1), 'mean'

def ppl(G, z1, z2):
    return G.mapping(z1, None).lerp(G.mapping(z2, None), torch.linspace(0.1, 0.9, N)[:, None, None]), 'mean'

def truncation_outside(G, z1, z2):
    return G.mapping.w_avg + 0.7 * (G.mapping(z1, None) - G.mapping.w_avg), 'mean'

def video(G, z1, z2):
    keyframes = torch.stack([G.mapping(z1[:1], None)[0], G.mapping(z2[:1], None)[0]] * 2).detach().numpy()
    curve = scipy.interpolate.interp1d(np.arange(4), keyframes, kind='cubic', axis=0)
    return torch.from_numpy(curve(np.linspace(0, 3, N))), 'mean'         # float64; both ends are exact keyframes

def projector(G, z1, z2):
    w = G.mapping(z1, None)[:, :1].mean(dim=0, keepdim=True).clone().requires_grad_(True)
    return w.repeat(N, G.mapping.num_ws, 1), 'mean'

def only_styles(G, z1, z2):
    return G.mapping(z1, None)[:, : G.synthesis.num_ws], 'mean'

USES = [training, truncation_inside, truncation_inside_cutoff, style_mixing, style_mixing_never_cut,
        style_mixing_within_the_key, path_length, w_avg, ppl, truncation_outside, video, projector, only_styles]

#----------------------------------------------------------------------------

@pytest.fixture
def fed_networks(every_network, build_network):
    """fed_networks(cfg, source directory, residual) -> (options, G) of each network of the cfg whose mapping is `residual`, or of
    each whose mapping is another; skips where there is none."""
    def build(cfg, source, residual):
        found = [network for network in every_network[cfg] if not network['refused'] and network['G_kwargs'].get('spider')
                 and (network['G_kwargs']['spider']['mapping'] == 'residual') == residual]
        if not found:
            pytest.skip(next(network['refused'] for network in every_network[cfg] if network['refused']))
        for network in found:
            kwargs = network['G_kwargs']
            sizes = dict(z_dim=64, **(dict(w_dim=32) if 'w_dim' in kwargs else {})) if residual else {}
            G = build_network(kwargs, **sizes, spider=dict(kwargs['spider'], source=source)).eval()
            for name, buffer in G.named_buffers():
                if name.endswith('progress'):
                    buffer.fill_(1e3)       # a growing network at its last resolution
            yield network['options'], G
    return build

@pytest.mark.parametrize('use', USES, ids=lambda f: f.__name__)
@pytest.mark.parametrize('kind', ['bank', 'online'])
@pytest.mark.parametrize('cfg', CFGS)
@pytest.mark.filterwarnings('ignore:truncation has no effect')
def test_each_use_gets_its_source(cfg, kind, use, prepared, fed_networks):
    """Of every residual generator, with every feature."""
    for options, G in fed_networks(cfg, prepared(kind), residual=True):
        slots = {32: dict(bank=1, online=3), 64: dict(bank=1, online=2)}    # 2 + 1 floats, 64 + 1 + 1, 32 or 64 to a row
        assert G.mapping.key_slots == slots[G.w_dim][kind]
        assert G.num_ws == G.mapping.num_ws == G.synthesis.num_ws + G.mapping.key_slots
        z1, z2 = torch.randn([2, N, 64], generator=torch.Generator().manual_seed(1))
        ws, whose = use(G, z1, z2)
        expected = {'z1': G.source.sample(z1), 'z2': G.source.sample(z2), 'mean': G.source.mean_image.repeat(N, 1, 1, 1)}
        assert torch.equal(G.synthesis.source_image(ws), expected[whose]), options
        assert not any(torch.equal(expected[a], expected[b]) for a, b in [('z1', 'z2'), ('z1', 'mean'), ('z2', 'mean')])
        images = G.synthesis(ws.float() if use is not video else ws, noise_mode='const')
        assert images.shape == (N, 3, 16, 16) and images.isfinite().all() and (images.abs() <= 1).all()
        assert (images - expected[whose].clamp(-0.96, 0.96)).abs().max() < 1e-6, options    # an untrained one returns its source

@pytest.mark.parametrize('cfg', CFGS)
@torch.no_grad()
def test_a_vector_of_the_source_is_all_that_the_styles_know(cfg, prepared, fed_networks):
    """Of every generator and every other mapping: a source of one image gives one row of styles whatever z is."""
    for (options, one), (_, many) in zip(fed_networks(cfg, prepared('bank', n=1), residual=False),
                                         fed_networks(cfg, prepared('bank', seed=1), residual=False)):
        z = torch.randn([N, one.z_dim], generator=torch.Generator().manual_seed(1))
        assert one.num_ws == one.mapping.num_ws == one.synthesis.num_ws and one.mapping.key_slots == 0
        ws = one.mapping(z, None)
        assert torch.allclose(ws, ws[:1], atol=1e-5), options
        ws = many.mapping(z, None)
        assert (ws[:1] - ws[1:]).abs().max() > 1e-3, options

@pytest.mark.parametrize('kind', ['bank', 'online'])
def test_path_length_sees_the_styles_and_not_the_key(kind, prepared, make_generator, stirred):
    G = stirred(make_generator(prepared(kind)))
    ws = G.mapping(torch.randn([N, 64]), None).detach().requires_grad_(True)
    image = G.synthesis(ws, noise_mode='const')
    grads, = torch.autograd.grad((image * torch.randn_like(image)).sum(), ws, create_graph=True)
    styles, key = grads[:, : G.synthesis.num_ws], grads[:, G.synthesis.num_ws :]
    assert (key == 0).all() and (styles.abs().sum(dim=2) > 0).all()
    grads.square().sum().backward()
    assert G.synthesis.b4.conv1.weight.grad.abs().sum() > 0

def test_projector_reaches_w(prepared, make_generator, stirred):
    G = stirred(make_generator(prepared('bank')))
    w = G.mapping.w_avg[None, None].clone().requires_grad_(True)
    G.synthesis(w.repeat(1, G.mapping.num_ws, 1), noise_mode='const').square().sum().backward()
    assert w.grad.isfinite().all() and w.grad.abs().sum() > 0

def test_w_avg_tracks_the_styles(prepared, make_generator):
    G = make_generator(prepared('bank')).train()
    before = G.mapping.w_avg.clone()
    ws = G.mapping(torch.randn([64, 64]), None, update_emas=True)
    assert not torch.equal(G.mapping.w_avg, before)
    assert torch.allclose(G.mapping.w_avg, ws[:, 0].mean(0).lerp(before, G.mapping.w_avg_beta), atol=1e-6)

@pytest.mark.parametrize('kind', ['paper-16x32', 'paper-23x23', 'encoder', 'whitened'])
@pytest.mark.parametrize('source_kind', ['bank', 'online'])
def test_vector_kinds_feed_every_use_of_mapping_from_the_source(kind, source_kind, prepared, make_generator, host):
    G = make_generator(prepared(source_kind, res=32), mapping=kind, z_dim=512)
    H = make_generator(prepared(source_kind, res=32, seed=1), mapping=kind, z_dim=512)
    assert G.num_ws == G.mapping.num_ws == G.synthesis.num_ws and G.mapping.key_slots == 0
    H.load_state_dict(G.state_dict())
    z = torch.randn([N, 512], generator=torch.Generator().manual_seed(1))
    ws = G.mapping(z, None)
    vector = G.mapping.source_input(G.source.sample(z))
    assert torch.equal(ws, host.MappingNetwork.forward(G.mapping, vector, None))
    if source_kind == 'bank':                                           # the painter is the same whatever its bank
        assert not torch.allclose(ws, H.mapping(z, None))
    G.train()
    before = G.mapping.w_avg.clone()
    ws = G.mapping(z, None, update_emas=True)
    assert torch.allclose(G.mapping.w_avg, ws[:, 0].mean(0).lerp(before, G.mapping.w_avg_beta), atol=1e-6)
