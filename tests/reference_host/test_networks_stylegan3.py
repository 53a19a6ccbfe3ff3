"""StyleGAN3: layout of the public networks, definitions of their layers, filters, derivatives, and equivariance."""

import ast
import inspect
import io
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

import legacy
from training import networks_stylegan3 as sg3
from training.loss import StyleGAN2Loss
from training.networks_stylegan2 import Discriminator
from training.networks_stylegan3 import Generator, SynthesisLayer, modulated_conv2d

T = dict(channel_base=64, channel_max=8, num_layers=5)
R = dict(channel_base=128, channel_max=16, num_layers=5, conv_kernel=1, use_radial_filters=True)
KINDS = dict(T=T, R=R)

def make_G(kind='T', res=16, c_dim=0, channels=3, seed=0, **kwargs):
    torch.manual_seed(seed)
    return unsettle(Generator(z_dim=6, c_dim=c_dim, w_dim=5, img_resolution=res, img_channels=channels, **(KINDS[kind] | kwargs)))

@torch.no_grad()
def unsettle(net):
    """Move biases and averages away from their initial values."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith(('bias', 'w_avg', 'magnitude_ema', 'input.affine.weight')):
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return net.eval()

def inputs(c_dim=0, n=3, seed=1, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn([n, 6], generator=rng, dtype=dtype), torch.eye(max(n, c_dim), c_dim, dtype=dtype)[:n]

def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

def layers_of(G):
    return [getattr(G.synthesis, name) for name in G.synthesis.layer_names]

#----------------------------------------------------------------------------
# Layout.

def test_state_dict_layout():
    def layer(name, i, o, k, up, down):
        filters = {'up_filter': [up], 'down_filter': down} if up else {}
        sizes = {'weight': [o, i, k, k], 'bias': [o], 'affine.weight': [i, 5], 'affine.bias': [i], 'magnitude_ema': [], **filters}
        return {f'synthesis.{name}.{key}': size for key, size in sizes.items()}

    expected = {
        'mapping.w_avg': [5], 'mapping.embed.weight': [5, 2], 'mapping.embed.bias': [5], 'mapping.fc0.weight': [5, 11],
        'mapping.fc0.bias': [5], 'mapping.fc1.weight': [5, 5], 'mapping.fc1.bias': [5],
        'synthesis.input.weight': [16, 16], 'synthesis.input.affine.weight': [4, 5], 'synthesis.input.affine.bias': [4],
        'synthesis.input.freqs': [16, 2], 'synthesis.input.phases': [16], 'synthesis.input.transform': [3, 3],
        **layer('L0_36_16', 16, 16, 1, 12, [12, 12]), **layer('L1_36_16', 16, 16, 1, 12, [12, 12]),
        **layer('L2_52_8', 16, 8, 1, 24, [12, 12]), **layer('L3_52_4', 8, 4, 1, 12, [12]), **layer('L4_32_4', 4, 4, 1, 12, [12]),
        **layer('L5_32_3', 4, 3, 1, None, None)}
    assert {name: list(t.shape) for name, t in make_G('R', 32, c_dim=2).state_dict().items()} == expected
    layer = make_G('T', 32).synthesis.L2_52_4
    assert list(layer.weight.shape) == [4, 8, 3, 3] and list(layer.down_filter.shape) == [12]

def test_sizes_of_the_published_configuration():
    """The canvas grows in steps, with the margin around it, as in figure 4c of the paper at 256 pixels."""
    net = sg3.SynthesisNetwork(w_dim=8, img_resolution=256, img_channels=3, channel_base=512)
    sizes = '36 36 36 52 52 84 84 148 148 148 276 276 276 256 256'.split()
    assert [name.split('_')[1] for name in net.layer_names] == sizes and net.num_ws == 16

def test_source_needs_only_modules_of_every_host():
    tree = ast.parse(inspect.getsource(sg3))
    imported = {alias.name if isinstance(node, ast.Import) else f'{node.module}.{alias.name}'
                for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    assert imported <= {'functools', 'math', 'numpy', 'scipy.signal', 'scipy.special', 'torch', 'torch_utils.misc',
                        'torch_utils.persistence', 'torch_utils.ops.bias_act', 'torch_utils.ops.filtered_lrelu'}

@pytest.mark.parametrize('kind', KINDS)
def test_pickles_hold_no_numpy_scalars(kind):
    for module in make_G(kind, c_dim=2).modules():
        assert not [name for name, value in vars(module).items() if isinstance(value, (np.generic, np.ndarray))]

@pytest.mark.parametrize('res', [0, 2, 12, 48])
def test_wrong_resolutions_are_refused(res):
    with pytest.raises(ValueError, match=f'{res} pixels'):
        make_G(res=res)

def test_some_layers_are_not_critically_sampled():
    with pytest.raises(ValueError, match='num_critical'):
        make_G(num_layers=2)

#----------------------------------------------------------------------------
# Layers.

@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize('input_gain', [None, 0.7, 'each'])
def test_modulated_conv2d(demodulate, input_gain):
    x, w, s = random(3, 4, 5, 6), random(2, 4, 3, 3), random(3, 4)
    gain = random(3, 4, seed=1) if input_gain == 'each' else torch.tensor(input_gain or 1.0, dtype=torch.float64)
    y = modulated_conv2d(x, w, s, demodulate=demodulate, padding=2, input_gain=None if input_gain is None else gain)
    for n in range(3): # One sample and one output channel at a time.
        weights = torch.stack([w[o] * s[n, :, None, None] for o in range(2)])
        if demodulate:
            weights = torch.stack([wo / wo.norm() for wo in weights])
        scaled = x[n] * gain.expand(3, 4)[n, :, None, None]
        torch.testing.assert_close(y[n : n + 1], F.conv2d(scaled[None], weights, padding=2), rtol=1e-6, atol=1e-6)

@pytest.mark.parametrize('demodulate', [True, False])
def test_derivatives_of_modulated_conv2d(demodulate):
    args = [t.requires_grad_() for t in [random(2, 2, 3, 2), random(2, 2, 3, 3), random(2, 2), random(2, 2)]]
    run = lambda x, w, s, gain: modulated_conv2d(x, w, s, demodulate=demodulate, padding=2, input_gain=gain)
    assert gradcheck(run, args) and gradgradcheck(run, args)

def test_modulated_conv2d_in_half_precision_does_not_overflow():
    x, w, s = torch.randn(2, 64, 8, 8) * 100, torch.randn(4, 64, 3, 3) * 1e4, torch.randn(2, 64) * 1e4
    gain = torch.tensor(0.01)
    half = modulated_conv2d(x.half(), w, s, padding=2, input_gain=gain)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), modulated_conv2d(x, w, s, padding=2, input_gain=gain), rtol=0.05, atol=0.05)

def test_initial_weights_and_biases():
    layer = sg3.FullyConnectedLayer(400, 3, lr_multiplier=0.1, weight_init=2, bias_init=[1, 2, 3])
    x = random(2, 400).float()
    torch.testing.assert_close(layer(x), x @ layer.weight.T * 0.1 / 20 + torch.tensor([1.0, 2, 3]))
    assert 15 < layer.weight.std() < 25
    assert sg3.FullyConnectedLayer(4, 3, bias=False).bias is None

def test_mapping_network():
    torch.manual_seed(0)
    net = sg3.MappingNetwork(z_dim=3, c_dim=2, w_dim=4, num_ws=5).double()
    z, c = random(2, 3), torch.eye(2, dtype=torch.float64)
    unit = lambda x: x / x.square().mean(dim=1, keepdim=True).sqrt()
    x = torch.cat([unit(z), unit(c @ net.embed.weight.T / math.sqrt(2))], dim=1)
    for layer in [net.fc0, net.fc1]:
        x = F.leaky_relu(x @ layer.weight.T * 0.01 / math.sqrt(x.shape[1]) + layer.bias * 0.01, 0.2) * math.sqrt(2)
    torch.testing.assert_close(net(z, c), x[:, None].repeat(1, 5, 1), rtol=1e-6, atol=1e-6)

def test_moving_average_of_w_and_truncation():
    G = make_G()
    w_avg, w = G.mapping.w_avg.clone(), G.mapping(*inputs())
    G.mapping(*inputs(), update_emas=True)
    torch.testing.assert_close(G.mapping.w_avg, w_avg * 0.998 + w[:, 0].mean(dim=0) * 0.002)
    w_avg = G.mapping.w_avg
    torch.testing.assert_close(G.mapping(*inputs(), truncation_psi=0), w_avg.expand_as(w))
    part = G.mapping(*inputs(), truncation_psi=0.7, truncation_cutoff=2)
    torch.testing.assert_close(part[:, :2], (w_avg + 0.7 * (w - w_avg))[:, :2])
    assert torch.equal(part[:, 2:], w[:, 2:])

def test_input_is_a_mix_of_waves():
    torch.manual_seed(0)
    net = unsettle(sg3.SynthesisInput(w_dim=2, channels=3, size=[5, 4], sampling_rate=8, bandwidth=2)).double()
    net.transform.copy_(torch.tensor([[1.5, 0.2, 0.3], [-0.4, 1.2, 0.1], [0, 0, 1]]))
    w = random(2, 2)
    y = net(w)
    assert y.shape == (2, 3, 4, 5)
    assert net.freqs.norm(dim=1).max() <= 2 and net.phases.abs().max() <= 0.5
    for n in range(2):
        cos, sin, tx, ty = net.affine(w)[n].tolist()
        length = math.hypot(cos, sin)
        matrix = np.array([[cos, -sin], [sin, cos]]) / length
        for i, j in [(0, 0), (3, 4), (1, 2)]:
            p = np.array([(j - 2) / 8, (i - 1.5) / 8])
            p = matrix @ (net.transform[:2, :2].numpy() @ p + net.transform[:2, 2].numpy() - np.array([tx, ty]) / length)
            freqs = net.freqs.numpy() @ matrix @ net.transform[:2, :2].numpy()
            waves = np.sin(2 * np.pi * (net.freqs.numpy() @ p + net.phases.numpy()))
            waves *= np.clip(1 - (np.hypot(*freqs.T) - 2) / (4 - 2), 0, 1)
            np.testing.assert_allclose(y[n, :, i, j].detach(), net.weight.detach().numpy() @ waves / math.sqrt(3), atol=1e-6)

def test_moving_average_of_magnitudes():
    G = make_G(magnitude_ema_beta=0.9)
    before = [layer.magnitude_ema.clone() for layer in layers_of(G)]
    seen = []
    for layer in layers_of(G):
        layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0].square().mean()))
    G(*inputs())
    assert all(torch.equal(layer.magnitude_ema, ema) for layer, ema in zip(layers_of(G), before))
    seen.clear()
    G(*inputs(), update_emas=True)
    for layer, ema, magnitude in zip(layers_of(G), before, seen):
        torch.testing.assert_close(layer.magnitude_ema, ema * 0.9 + magnitude * 0.1)
        assert layer.magnitude_ema.grad_fn is None

def test_layers_scale_by_the_average_magnitude_and_colours_keep_their_scale():
    G = make_G()
    ws = G.mapping(*inputs())
    for layer in [layers_of(G)[1], layers_of(G)[-1]]:
        x = torch.randn([3, layer.in_channels, layer.in_size[1], layer.in_size[0]])
        layer.bias.data.zero_()
        y = layer(x, ws[:, 0])
        layer.magnitude_ema.mul_(4)
        torch.testing.assert_close(layer(x, ws[:, 0]), y / 2)
        torch.testing.assert_close(layer(x * 2, ws[:, 0]), y)
        layer.weight.data.mul_(3) # Demodulation takes the scale of weights out.
        torch.testing.assert_close(layer(x * 2, ws[:, 0]), y * 3 if layer.is_torgb else y)

def test_clamp_and_output_scale():
    G = make_G(conv_clamp=0.1, output_scale=0.5)
    img = G(*inputs())
    assert img.abs().max() <= 0.05 and (img.abs() == 0.05).any()

#----------------------------------------------------------------------------
# Filters.

def response(f, fs, freqs):
    """Return |H| of taps f [K], at the sampling rate fs, for each frequency."""
    t = (np.arange(len(f)) - (len(f) - 1) / 2) / fs
    return np.abs(np.exp(-2j * np.pi * np.outer(freqs, t)) @ np.asarray(f, dtype=float))

@pytest.mark.parametrize('numtaps', [12, 24, 13])
def test_separable_filters(numtaps):
    cutoff, half_width, fs = 6, 7, 64
    f = SynthesisLayer.design_lowpass_filter(numtaps, cutoff, 2 * half_width, fs)
    assert f.dtype == torch.float32 and f.shape == (numtaps,) and torch.equal(f, f.flip(0))
    dc, half, *stop = response(f, fs, [0, cutoff, 13, 20, 31])
    assert dc == pytest.approx(1, abs=1e-6) and half == pytest.approx(0.5, abs=0.1) and max(stop) < 0.02

@pytest.mark.parametrize('numtaps', [12, 13])
def test_radial_filters(numtaps):
    cutoff, half_width, fs = 12, 8, 64
    f = SynthesisLayer.design_lowpass_filter(numtaps, cutoff, 2 * half_width, fs, radial=True)
    assert f.shape == (numtaps, numtaps) and f.isfinite().all() and torch.equal(f, f.rot90()) and torch.equal(f, f.T)
    dc, half, *stop = response(f.sum(dim=0), fs, [0, cutoff, 20, 24, 31])
    assert dc == pytest.approx(1, abs=1e-6) and half == pytest.approx(0.45, abs=0.02) and max(stop) < 0.005
    t = (np.arange(numtaps) - (numtaps - 1) / 2) / fs
    for freq in [6, cutoff, 16, 20]: # The same along the diagonal, where a separable filter passes more.
        wave = np.exp(-2j * np.pi * freq * math.sqrt(0.5) * (t[:, None] + t))
        assert abs((wave * f.numpy()).sum()) == pytest.approx(response(f.sum(dim=0), fs, [freq])[0], abs=0.015)

def test_no_filter():
    assert SynthesisLayer.design_lowpass_filter(1, 4, 4, 16) is None

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('res', [8, 16, 64])
def test_filters_follow_the_band_limits(kind, res):
    """Band limits grow to the Nyquist frequency, and the band of each layer fits its sampling rate."""
    layers = layers_of(make_G(kind, res))
    cutoffs = [layer.out_cutoff for layer in layers]
    assert layers[0].in_cutoff == cutoffs[0] == 2 and cutoffs == sorted(cutoffs)
    assert cutoffs[-3:] == pytest.approx([res / 2] * 3)
    for before, layer in zip(layers, layers[1:]):
        assert (layer.in_cutoff, layer.in_size) == (before.out_cutoff, before.out_size)
        assert layer.out_sampling_rate <= res and layer.out_cutoff <= layer.out_sampling_rate / 2
    for layer in layers[:-1]:
        filters = [f.sum(dim=0) if f.ndim == 2 else f for f in [layer.up_filter, layer.down_filter]]
        bands = [(layer.in_cutoff, layer.in_half_width), (layer.out_cutoff, layer.out_half_width)]
        for f, (cutoff, half_width) in zip(filters, bands):
            dc, edge, stop = response(f, layer.tmp_sampling_rate, [0, cutoff, cutoff + half_width])
            assert dc == pytest.approx(1, abs=1e-5) and 0.4 < edge < 0.8 and stop < 0.05
        assert layer.down_filter.ndim == (2 if kind == 'R' and not layer.is_critically_sampled else 1)
    assert [layer.is_critically_sampled for layer in layers] == [False] * 3 + [True] * 3

#----------------------------------------------------------------------------
# Networks.

@pytest.mark.parametrize('kind, res, channels, c_dim', [('T', 8, 1, 0), ('T', 16, 3, 2), ('R', 16, 1, 3), ('R', 32, 3, 0)])
def test_shapes_and_dtypes(kind, res, channels, c_dim):
    G = make_G(kind, res, c_dim, channels)
    assert G.num_ws == G.mapping.num_ws == G.synthesis.num_ws == 7
    for dtype in [torch.float32, torch.float64]:
        img = G.to(dtype)(*inputs(c_dim))
        assert img.shape == (3, channels, res, res) and img.dtype == dtype and img.isfinite().all()
    if c_dim > 0:
        z, c = inputs(c_dim)
        assert not torch.allclose(G(z, c), G(z, c.roll(1, 0)))

@pytest.mark.parametrize('kind', KINDS)
def test_first_and_second_derivatives(kind):
    G = make_G(kind, c_dim=2).double()
    ws = G.mapping(*inputs(2, dtype=torch.float64))
    img = G.synthesis(ws)
    pl_grads, = torch.autograd.grad((img * torch.randn_like(img)).sum(), ws, create_graph=True)
    check_gradients(img.square().sum(), G)
    # What is only added to the image has no second derivative.
    check_gradients(pl_grads.square().sum(dim=2).mean(dim=1).sqrt().mean(), G, zero='L5_16_3.bias')

def check_gradients(loss, net, zero=()):
    grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, allow_unused=True)
    for (name, _), grad in zip(net.named_parameters(), grads):
        if name.endswith(zero):
            assert grad is None or not grad.any(), name
        else:
            assert grad is not None and grad.isfinite().all() and grad.any(), name

def test_derivative_of_path_length_by_differences():
    """The double backward pass through a whole generator, along one direction."""
    G = make_G('R', res=8).double()
    ws = G.mapping(*inputs(dtype=torch.float64)).detach()
    noise = random(3, 3, 8, 8)
    weight = layers_of(G)[2].weight
    def penalty():
        x = ws.clone().requires_grad_()
        grads, = torch.autograd.grad((G.synthesis(x) * noise).sum(), x, create_graph=True)
        return grads.square().sum(dim=2).mean(dim=1).sqrt().mean()
    direction, step = random(*weight.shape, seed=2), 1e-6
    slope, = torch.autograd.grad(penalty(), weight)
    start = weight.detach().clone()
    ends = []
    for sign in [1, -1]:
        weight.data.copy_(start + sign * step * direction)
        ends.append(penalty().item())
    assert float((slope * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)

def test_every_row_of_ws_matters():
    G = make_G()
    ws = G.mapping(*inputs())
    img = G.synthesis(ws)
    for row in range(G.num_ws):
        other = ws.clone()
        other[:, row] += 1
        assert not torch.allclose(G.synthesis(other), img)

def test_noise_modes_change_nothing():
    G = make_G()
    img = G(*inputs(), noise_mode='const')
    assert all(torch.equal(G(*inputs(), noise_mode=mode), img) for mode in ['random', 'none'])
    assert torch.equal(G(*inputs(), force_fp32=True), img)

#----------------------------------------------------------------------------
# Equivariance.

@torch.no_grad()
def moved(G, matrix):
    """Return images after the user's transform of coordinates."""
    G.synthesis.input.transform.copy_(torch.linalg.inv(torch.tensor(matrix)))
    img = G(*inputs())
    G.synthesis.input.transform.copy_(torch.eye(3))
    return img

@pytest.mark.parametrize('kind', KINDS)
def test_translation(kind):
    """Moved by pixels to the right and up, the image is very nearly the same in the part that was visible before."""
    G = make_G(kind, res=32)
    img = G(*inputs())
    for x, y in [(1, 0), (3, 2)]:
        shifted = moved(G, [[1.0, 0, x / 32], [0, 1, -y / 32], [0, 0, 1]])
        error = (shifted[:, :, : 32 - y, x:] - img[:, :, y:, : 32 - x]).abs().max()
        assert error < 0.01 * img.std() and (shifted - img).abs().max() > 0.1 * img.std()

def test_rotation():
    """A quarter turn is exact for -R, and is not for -T."""
    quarter = [[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]] # Counterclockwise: y points down.
    for kind, equivariant in [('R', True), ('T', False)]:
        G = make_G(kind)
        img = G(*inputs())
        error = (moved(G, quarter) - img.rot90(1, [2, 3])).abs().max() / img.std()
        assert error < 1e-4 if equivariant else error > 0.1

#----------------------------------------------------------------------------
# Around the networks.

@pytest.mark.parametrize('kind', KINDS)
def test_pickles(kind):
    G, D = make_G(kind, c_dim=2), Discriminator(c_dim=2, img_resolution=16, img_channels=3, channel_base=64, channel_max=8)
    file = io.BytesIO(pickle.dumps(dict(G=G, D=D, G_ema=G)))
    again = legacy.load_network_pkl(file)['G_ema']
    assert again.init_kwargs == G.init_kwargs and torch.equal(again(*inputs(2)), G(*inputs(2)))

@pytest.mark.parametrize('kind, options', [('T', dict()), ('R', dict(blur_init_sigma=2, blur_fade_kimg=1)),
                                           ('T', dict(pl_weight=2, style_mixing_prob=1))])
def test_training_loss(kind, options):
    torch.manual_seed(0)
    G, D = make_G(kind).train(), Discriminator(c_dim=0, img_resolution=16, img_channels=3, channel_base=64, channel_max=8)
    loss = StyleGAN2Loss(torch.device('cpu'), G, D, r1_gamma=1, **options)
    z, c = inputs(n=4)
    real, before = torch.randn([4, 3, 16, 16]), {name: b.clone() for name, b in G.named_buffers()}
    for phase, net in [('Gboth', G), ('Dboth', D)]:
        for other in [G, D]:
            other.requires_grad_(other is net)
        loss.accumulate_gradients(phase, real, c, z, c, gain=1, cur_nimg=0)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    changed = {name for name, b in G.named_buffers() if not torch.equal(b, before[name])}
    assert changed == {name for name in before if name.endswith(('w_avg', 'magnitude_ema'))}

#----------------------------------------------------------------------------
# Half precision.

def test_half_precision_only_on_cuda():
    G = make_G(res=64, num_fp16_res=1)
    assert [layer.use_fp16 for layer in layers_of(G)] == [layer.out_sampling_rate == 64 for layer in layers_of(G)]
    assert {layer.use_fp16 for layer in layers_of(G)} == {False, True}
    assert not any(layer.use_fp16 for layer in layers_of(make_G(num_fp16_res=0)))
    assert G(*inputs()).dtype == torch.float32

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_half_precision_is_close(kind, device, monkeypatch):
    """On cuda, and on the cpu as if it were."""
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs cuda')
    choose = sg3._dtype
    monkeypatch.setattr(sg3, '_dtype', lambda layer, dtype, device, force_fp32:
                        choose(layer, dtype, torch.device('cuda'), force_fp32))
    G = make_G(kind).to(device)
    z, c = (t.to(device) for t in inputs())
    dtypes = []
    for layer in layers_of(G):
        layer.register_forward_hook(lambda layer, args, output: dtypes.append(output.dtype))
    half = G(z, c)
    assert half.dtype == torch.float32 and set(dtypes) == {torch.float16}
    torch.testing.assert_close(half, G(z, c, force_fp32=True), rtol=0.05, atol=0.02)
    check_gradients(G(z, c).square().sum(), G)
