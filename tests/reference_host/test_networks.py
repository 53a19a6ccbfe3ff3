"""StyleGAN2: layout of the public networks, definitions of their layers, derivatives, and every architecture."""

import ast
import inspect
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops import upfirdn2d
from training import networks_stylegan2
from training.networks_stylegan2 import Discriminator, Generator, MappingNetwork, MinibatchStdLayer, modulated_conv2d

SMALL = dict(channel_base=64, channel_max=8)
ARCHITECTURES = ['orig', 'skip', 'resnet']

def make_G(res=16, c_dim=0, channels=3, seed=0, **kwargs):
    torch.manual_seed(seed)
    G = Generator(z_dim=6, c_dim=c_dim, w_dim=5, img_resolution=res, img_channels=channels, **SMALL,
                  **dict(mapping_kwargs=dict(num_layers=2), **kwargs))
    return unsettle(G)

def make_D(res=16, c_dim=0, channels=3, seed=0, **kwargs):
    torch.manual_seed(seed)
    return unsettle(Discriminator(c_dim=c_dim, img_resolution=res, img_channels=channels, **SMALL, **kwargs))

@torch.no_grad()
def unsettle(net):
    """Move biases, noise strengths and averages away from zero."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith(('bias', 'noise_strength', 'w_avg')):
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return net.eval()

def inputs(c_dim=0, n=4, seed=1, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn([n, 6], generator=rng, dtype=dtype), torch.eye(max(n, c_dim), c_dim, dtype=dtype)[:n]

#----------------------------------------------------------------------------
# Layout.

def test_state_dict_layout():
    layer = lambda name, i, o, res: {
        f'{name}.weight': [o, i, 3, 3], f'{name}.bias': [o], f'{name}.affine.weight': [i, 5], f'{name}.affine.bias': [i],
        f'{name}.noise_const': [res, res], f'{name}.noise_strength': [], f'{name}.resample_filter': [4, 4]}
    torgb = lambda name, i: {f'{name}.weight': [3, i, 1, 1], f'{name}.bias': [3], f'{name}.affine.weight': [i, 5],
                             f'{name}.affine.bias': [i]}
    expected = {
        'mapping.w_avg': [5], 'mapping.embed.weight': [5, 2], 'mapping.embed.bias': [5],
        'mapping.fc0.weight': [5, 11], 'mapping.fc0.bias': [5], 'mapping.fc1.weight': [5, 5], 'mapping.fc1.bias': [5],
        'synthesis.b4.const': [8, 4, 4], 'synthesis.b4.resample_filter': [4, 4], 'synthesis.b8.resample_filter': [4, 4],
        **layer('synthesis.b4.conv1', 8, 8, 4), **torgb('synthesis.b4.torgb', 8),
        **layer('synthesis.b8.conv0', 8, 8, 8), **layer('synthesis.b8.conv1', 8, 8, 8), **torgb('synthesis.b8.torgb', 8)}
    assert {name: list(t.shape) for name, t in make_G(res=8, c_dim=2).state_dict().items()} == expected

    conv = lambda name, i, o, k, bias=True: {f'{name}.weight': [o, i, k, k], f'{name}.resample_filter': [4, 4],
                                             **({f'{name}.bias': [o]} if bias else {})}
    expected = {
        'b8.resample_filter': [4, 4], **conv('b8.fromrgb', 3, 8, 1), **conv('b8.conv0', 8, 8, 3), **conv('b8.conv1', 8, 8, 3),
        **conv('b8.skip', 8, 8, 1, bias=False), **conv('b4.conv', 9, 8, 3), 'b4.fc.weight': [8, 128], 'b4.fc.bias': [8],
        'b4.out.weight': [1, 8], 'b4.out.bias': [1]}
    assert {name: list(t.shape) for name, t in make_D(res=8).state_dict().items()} == expected

def test_channels_and_ws():
    G = Generator(8, 0, 8, 64, 3, channel_base=256, channel_max=16)
    assert [getattr(G.synthesis, f'b{res}').conv1.out_channels for res in G.synthesis.block_resolutions] == [16, 16, 16, 8, 4]
    assert G.num_ws == G.mapping.num_ws == G.synthesis.num_ws == 10

def test_source_needs_only_modules_of_every_host():
    tree = ast.parse(inspect.getsource(networks_stylegan2))
    imported = {alias.name if isinstance(node, ast.Import) else f'{node.module}.{alias.name}'
                for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    assert imported <= {'math', 'torch', 'torch_utils.misc', 'torch_utils.persistence', 'torch_utils.ops.bias_act',
                        'torch_utils.ops.conv2d_resample', 'torch_utils.ops.upfirdn2d'}

def test_pickles_hold_no_numpy_scalars():
    for net in [make_G(c_dim=2), make_D(c_dim=2)]:
        for module in net.modules():
            assert not [name for name, value in vars(module).items() if isinstance(value, np.generic)]

@pytest.mark.parametrize('res', [0, 2, 12, 48])
def test_wrong_resolutions_are_refused(res):
    for make in [make_G, make_D]:
        with pytest.raises(ValueError, match=f'{res} pixels'):
            make(res=res)

#----------------------------------------------------------------------------
# Layers.

@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('up', [1, 2])
def test_modulated_conv2d(fused, demodulate, up):
    rng = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)
    x, weight, styles, noise = random(3, 4, 5, 6), random(2, 4, 3, 3), random(3, 4), random(3, 1, 5 * up, 6 * up)
    f = upfirdn2d.setup_filter([1, 3, 3, 1]) if up > 1 else None
    y = modulated_conv2d(x, weight, styles, noise, up=up, padding=1, resample_filter=f, demodulate=demodulate,
                         fused_modconv=fused)
    for n in range(3): # Equations 1 and 3, one sample and one output channel at a time.
        w = torch.stack([weight[o] * styles[n, :, None, None] for o in range(2)])
        if demodulate:
            w = torch.stack([wo / math.sqrt(wo.square().sum() + 1e-8) for wo in w])
        wide = x[n : n + 1] if up == 1 else upfirdn2d.upsample2d(x[n : n + 1], f, padding=1)
        expected = F.conv2d(wide, w, padding=1 if up == 1 else 0) + noise[n]
        torch.testing.assert_close(y[n : n + 1], expected)

def test_modulated_conv2d_in_half_precision_does_not_overflow():
    x, weight = torch.randn(2, 64, 8, 8), torch.randn(4, 64, 3, 3) * 100
    styles = torch.randn(2, 64) * 300
    full = modulated_conv2d(x, weight, styles, padding=1)
    for fused in [True, False]:
        half = modulated_conv2d(x.half(), weight, styles, padding=1, fused_modconv=fused)
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)

def test_minibatch_std():
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    for group_size, actual in [(3, 3), (4, 3), (None, 6), (100, 6)]:
        y = MinibatchStdLayer(group_size, num_channels=2)(x)
        assert y.shape == (6, 6, 3, 3) and torch.equal(y[:, :4], x)
        for sample in range(6):
            group = x[sample % (6 // actual) :: 6 // actual]
            for channel, half in [(4, group[:, :2]), (5, group[:, 2:])]:
                expected = (half.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
                torch.testing.assert_close(y[sample, channel], expected.expand(3, 3))

def test_mapping_network():
    torch.manual_seed(0)
    net = MappingNetwork(z_dim=3, c_dim=2, w_dim=4, num_ws=5, num_layers=2, embed_features=6, layer_features=7).double()
    z, c = torch.randn(2, 3, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    unit = lambda x: x / x.square().mean(dim=1, keepdim=True).sqrt()
    x = torch.cat([unit(z), unit(c @ net.embed.weight.T / math.sqrt(2))], dim=1)
    for layer in [net.fc0, net.fc1]:
        x = F.leaky_relu(x @ layer.weight.T * 0.01 / math.sqrt(x.shape[1]) + layer.bias * 0.01, 0.2) * math.sqrt(2)
    torch.testing.assert_close(net(z, c), x[:, None].repeat(1, 5, 1), rtol=1e-6, atol=1e-6)
    assert net(z * 100, c).sub(net(z, c)).abs().max() < 1e-6

def test_moving_average_and_truncation():
    G = make_G()
    z, c = inputs()
    w_avg, w = G.mapping.w_avg.clone(), G.mapping(z, c)
    G.mapping(z, c, update_emas=True)
    torch.testing.assert_close(G.mapping.w_avg, w_avg * 0.998 + w[:, 0].mean(dim=0) * 0.002)
    w_avg = G.mapping.w_avg
    torch.testing.assert_close(G.mapping(z, c, truncation_psi=0), w_avg.expand_as(w))
    torch.testing.assert_close(G.mapping(z, c, truncation_psi=0.7), w_avg + 0.7 * (w - w_avg))
    part = G.mapping(z, c, truncation_psi=0.7, truncation_cutoff=2)
    torch.testing.assert_close(part[:, :2], (w_avg + 0.7 * (w - w_avg))[:, :2])
    assert torch.equal(part[:, 2:], w[:, 2:])

#----------------------------------------------------------------------------
# Networks.

@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('res, channels, c_dim', [(8, 1, 0), (16, 3, 2), (32, 1, 3)])
def test_shapes_and_dtypes(architecture, res, channels, c_dim):
    G = make_G(res, c_dim, channels, architecture=architecture)
    D = make_D(res, c_dim, channels, architecture=architecture)
    z, c = inputs(c_dim)
    for dtype in [torch.float32, torch.float64]:
        img = G.to(dtype)(z, c)
        assert img.shape == (4, channels, res, res) and img.dtype == dtype
        scores = D.to(dtype)(img, c)
        assert scores.shape == (4, 1) and scores.dtype == dtype and scores.isfinite().all()

@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_fused_modconv_changes_nothing_but_rounding(architecture):
    G = make_G(architecture=architecture, fused_modconv_default='inference_only').double()
    z, c = inputs()
    fused, unfused = (G(z, c, noise_mode='const', fused_modconv=fused) for fused in [True, False])
    torch.testing.assert_close(fused, unfused)
    assert not torch.equal(fused, unfused)
    assert torch.equal(G.eval()(z, c, noise_mode='const'), fused)
    assert torch.equal(G.train()(z, c, noise_mode='const'), unfused)

@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_first_and_second_derivatives(architecture):
    G, D = make_G(c_dim=2, architecture=architecture).double(), make_D(c_dim=2, architecture=architecture).double()
    z, c = inputs(2, dtype=torch.float64)
    ws = G.mapping(z, c)
    img = G.synthesis(ws, noise_mode='const')
    pl_grads, = torch.autograd.grad((img * torch.randn_like(img)).sum(), ws, create_graph=True)
    real = img.detach().requires_grad_()
    r1_grads, = torch.autograd.grad(D(real, c).sum(), real, create_graph=True)
    check_gradients(-D(img, c).mean(), G)
    check_gradients(D(real, c).mean(), D)
    # Parameters that are only added, or pass only through leaky ReLUs, have no second derivative.
    check_gradients(pl_grads.square().sum(dim=2).mean(dim=1).sqrt().mean(), G, zero='torgb.bias')
    check_gradients(r1_grads.square().sum(), D, zero=('b4.conv.bias', 'b4.fc.bias', 'b4.out.bias'))

def check_gradients(loss, net, zero=()):
    grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, allow_unused=True)
    for (name, _), grad in zip(net.named_parameters(), grads):
        if name.endswith(zero):
            assert grad is None or not grad.any(), name
        else:
            assert grad is not None and grad.isfinite().all() and grad.any(), name

def test_noise_modes():
    G = make_G()
    z, c = inputs()
    image = lambda mode: G(z, c, noise_mode=mode)
    assert torch.equal(image('const'), image('const')) and torch.equal(image('none'), image('none'))
    assert not torch.equal(image('random'), image('random')) and not torch.equal(image('const'), image('none'))
    torch.manual_seed(3)
    drawn = image('random')
    torch.manual_seed(3)
    assert torch.equal(image('random'), drawn)
    with pytest.raises(ValueError, match='noise_mode'):
        image('some')

def test_labels_matter():
    G, D = make_G(c_dim=3), make_D(c_dim=3)
    z, c = inputs(3)
    img = G(z, c, noise_mode='const')
    assert not torch.allclose(img, G(z, c.roll(1, 0), noise_mode='const'))
    assert not torch.allclose(D(img, c), D(img, c.roll(1, 0)))

def test_every_row_of_ws_matters_and_colours_share_theirs():
    G = make_G()
    ws = G.mapping(*inputs()).repeat(1, 1, 1)
    img = G.synthesis(ws, noise_mode='const')
    for row in range(G.num_ws):
        other = ws.clone()
        other[:, row] += 1
        assert not torch.allclose(G.synthesis(other, noise_mode='const'), img)
    calls = []
    for name, module in G.synthesis.named_modules():
        if name.endswith(('conv0', 'conv1', 'torgb')):
            module.register_forward_pre_hook(lambda module, args, name=name: calls.append((name, args[1])))
    G.synthesis(ws + torch.arange(G.num_ws)[:, None])
    rows = {name: int((w - ws[:, 0]).mean().round()) for name, w in calls}
    assert rows == {'b4.conv1': 0, 'b4.torgb': 1, 'b8.conv0': 1, 'b8.conv1': 2, 'b8.torgb': 3,
                    'b16.conv0': 3, 'b16.conv1': 4, 'b16.torgb': 5}

def test_clamp():
    G = make_G(conv_clamp=0.5)
    for block in [G.synthesis.b4, G.synthesis.b16]:
        block.torgb.register_forward_hook(lambda module, args, output: outputs.append(output))
    outputs = []
    G(*inputs())
    assert all(output.abs().max() <= 0.5 for output in outputs) and len(outputs) == 2

def test_frozen_layers_are_buffers():
    assert {name for name, _ in make_D().named_parameters()} >= {'b16.fromrgb.weight', 'b16.skip.weight', 'b8.conv0.weight'}
    D = make_D(block_kwargs=dict(freeze_layers=5))
    frozen = {name for name, _ in D.named_buffers() if name.endswith(('weight', 'bias'))}
    assert frozen == {f'b16.{name}' for name in ['fromrgb.weight', 'fromrgb.bias', 'conv0.weight', 'conv0.bias', 'conv1.weight',
                                                 'conv1.bias', 'skip.weight']} | {'b8.conv0.weight', 'b8.conv0.bias'}
    assert D.state_dict().keys() == make_D().state_dict().keys()

def test_half_precision_only_on_cuda():
    G, D = make_G(num_fp16_res=2, fp16_channels_last=True), make_D(num_fp16_res=1)
    assert [getattr(G.synthesis, f'b{res}').use_fp16 for res in [4, 8, 16]] == [False, True, True]
    assert [getattr(D, f'b{res}').use_fp16 for res in [8, 16]] == [False, True]
    img = G(*inputs(), noise_mode='const')
    assert img.dtype == torch.float32
    assert torch.equal(img, G(*inputs(), noise_mode='const', force_fp32=True))

@pytest.fixture(params=['cpu', 'cuda'])
def half_device(request, monkeypatch):
    """A device on which blocks run in half precision, cuda, or the cpu under another name."""
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs cuda')
    choose = networks_stylegan2._format
    monkeypatch.setattr(networks_stylegan2, '_format',
                        lambda block, dtype, device, force_fp32: choose(block, dtype, torch.device('cuda'), force_fp32))
    return request.param

@pytest.mark.parametrize('architecture', ARCHITECTURES)
@pytest.mark.parametrize('channels_last', [False, True])
def test_half_precision_is_close(architecture, channels_last, half_device):
    options = dict(architecture=architecture, num_fp16_res=2)
    G = make_G(**options, fp16_channels_last=channels_last).to(half_device)
    D = make_D(**options, block_kwargs=dict(fp16_channels_last=channels_last)).to(half_device)
    z, c = (t.to(half_device) for t in inputs())
    half, full = (G(z, c, noise_mode='const', force_fp32=fp32) for fp32 in [False, True])
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
    torch.testing.assert_close(D(full, c), D(full, c, force_fp32=True), rtol=0.05, atol=0.05)
    x = torch.zeros([4, 8, 8, 8], device=half_device)
    out, _ = G.synthesis.b16(x, torch.zeros([4, 3, 8, 8], device=half_device), G.mapping(z, c)[:, 3:6])
    assert out.dtype == torch.float16
    for weight in [G.synthesis.b16.conv1.weight, D.b16.conv1.weight]:
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    check_gradients(D(G(z, c), c).square().sum(), G)
