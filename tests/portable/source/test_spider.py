"""Spider generators over the reference host: where they start, what moves, what a stock pickle finds in them."""

import copy

import pytest
import torch

from spider_plugin.portable.source.mapping import MAPPING_INPUTS

Z = torch.randn([5, 64], generator=torch.Generator().manual_seed(3))

def stock(host, **kwargs):
    return host.Generator(z_dim=64, c_dim=0, w_dim=32, img_resolution=16, img_channels=3, channel_base=128,
                          channel_max=16, num_fp16_res=0, mapping_kwargs={'num_layers': 2}, **kwargs).eval()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('architecture', ['skip', 'resnet', 'orig'])
def test_a_fresh_residual_is_the_identity(architecture, prepared, make_generator):
    G = make_generator(prepared('bank'), architecture=architecture)
    assert (G(Z, None, noise_mode='const') - G.source.sample(Z)).abs().max() < 0.2

def test_a_source_below_the_target_resolution_is_enlarged(prepared, make_generator):
    G = make_generator(prepared('bank', res=8), res=32)
    enlarged = torch.nn.functional.interpolate(G.source.sample(Z), size=[32, 32], mode='bilinear')
    assert (G(Z, None, noise_mode='const') - enlarged).abs().max() < 0.2

def test_gain_zero_is_the_stock_output(host, prepared, make_generator):
    G = make_generator(prepared('bank'), gain=0.0)
    S = stock(host)
    missing, unexpected = G.load_state_dict(S.state_dict(), strict=False)
    assert not unexpected and all('source' in name for name in missing)
    assert torch.equal(G(Z, None, noise_mode='const'), S(Z, None, noise_mode='const'))
    G(Z, None, noise_mode='const').square().sum().backward()
    assert G.synthesis.source_gain.grad.abs() > 0

@pytest.mark.parametrize('gain', [0.0, 1.0])
def test_a_learned_skip_starts_at_one_and_moves(gain, prepared, make_generator):
    source = prepared('bank')
    fixed, G = (make_generator(source, gain=gain, learn_skip=learn) for learn in (False, True))
    G.load_state_dict(fixed.state_dict())
    assert torch.equal(G(Z, None, noise_mode='const'), fixed(Z, None, noise_mode='const'))
    assert 'synthesis.source_skip_gain' not in dict(fixed.named_parameters())
    (G(Z, None, noise_mode='const') - 1).square().sum().backward()
    assert G.synthesis.source_skip_gain.grad.abs() > 0 if gain else G.synthesis.source_skip_gain.grad == 0

@pytest.mark.parametrize('kind', ['residual', *MAPPING_INPUTS])
def test_host_names_and_shapes_are_kept(kind, host, prepared, make_generator):
    G = make_generator(prepared('bank', res=32), mapping=kind, z_dim=512, res=32)
    S = host.Generator(z_dim=512, c_dim=0, w_dim=32, img_resolution=32, img_channels=3, channel_base=128, channel_max=16,
                       num_fp16_res=0, mapping_kwargs={'num_layers': 2})
    shapes = {name: x.shape for name, x in G.state_dict().items()}
    for name, x in S.state_dict().items():
        assert shapes.pop(name) == x.shape
    assert all('source' in name for name in shapes)

@pytest.mark.parametrize('kind', ['residual', *MAPPING_INPUTS])
@pytest.mark.parametrize('channels', [1, 3])
def test_every_weight_gets_a_gradient_and_the_source_none(kind, channels, prepared, make_generator, stirred):
    G = stirred(make_generator(prepared('bank', channels=channels, res=32), mapping=kind, z_dim=512, res=32, channels=channels))
    G.train().requires_grad_(True)                                      # hosts do this to all of G
    images = G(torch.randn([4, 512]), None)
    assert images.shape == (4, channels, 32, 32)
    (images - 0.3).square().sum().backward()
    still = {n for n, p in G.named_parameters() if p.grad is None or p.grad.abs().sum() == 0}
    assert still <= ({'synthesis.b4.const'} if kind == 'residual' else set())
    assert all(p.grad is not None for p in G.parameters())              # what DistributedDataParallel asks for

def test_second_derivatives_exist(prepared, make_generator):
    G = make_generator(prepared('bank'), w_dim=8, channel_base=32, channel_max=4).double()
    w = G.mapping(Z[:2].double(), None).detach()
    styles = w[:, :-1].clone().requires_grad_(True)
    def image(styles):
        return G.synthesis(torch.cat([styles, w[:, -1:]], dim=1), noise_mode='const')[:, :, ::8, ::8]
    assert torch.equal(G.synthesis.source_image(w), G.source.sample(Z[:2]))
    assert torch.autograd.gradgradcheck(image, styles, atol=1e-5)

def test_copies_share_the_source_and_one_pickle_holds_it_once(prepared, make_generator):
    G = make_generator(prepared('bank'))
    E = copy.deepcopy(G)
    assert E.source is G.source is E.mapping.source is E.synthesis.source
    assert torch.equal(E(Z, None, noise_mode='const'), G(Z, None, noise_mode='const'))

def test_walks_may_give_the_source_image(prepared, make_generator):
    G = make_generator(prepared('bank'))
    a, b = G.source.sample(Z[:1]), G.source.sample(Z[1:2])
    ws = G.mapping(Z[:1], None)
    halfway = G.synthesis(ws, source_image=a.lerp(b, 0.5), noise_mode='const')
    assert (halfway - a.lerp(b, 0.5)).abs().max() < 0.2
    assert torch.equal(G.synthesis(ws, source_image=a, noise_mode='const'), G.synthesis(ws, noise_mode='const'))

def test_labels_reach_the_mapping_network(prepared, make_generator):
    G = make_generator(prepared('bank'), c_dim=3)
    c = torch.eye(3)[[0, 1, 2, 0, 1]]
    ws = G.mapping(Z, c)
    assert not torch.allclose(ws[:, 0], G.mapping(Z, c.roll(1, 0))[:, 0])
    assert torch.equal(ws[:, -1], G.mapping(Z, c.roll(1, 0))[:, -1])

def test_a_generator_without_a_constant_is_refused(host, prepared, make_generator):
    from spider_plugin.portable.source.spider import SpiderSynthesisMixin
    with pytest.raises(ValueError, match='4x4'):
        SpiderSynthesisMixin().attach_source(None, 1.0)
