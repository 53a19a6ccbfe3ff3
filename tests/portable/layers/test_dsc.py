"""DSC layers equal the host's dense layers with their effective kernel, to second derivatives, and fast layers equal the host's.
Tests run on the references of the ops and on their kernels for the CPU."""

import copy
import importlib
import sys

import pytest
import torch

from spider_plugin.bundles.names import class_with
from spider_plugin.portable.layers import dsc as dsc_module
from spider_plugin.resources import resource_dir

N, W_DIM = 3, 6
SG2, SG3 = 'training.networks_stylegan2', 'training.networks_stylegan3'

def host_module(name):
    tree = str(resource_dir('reference_host'))
    if tree not in sys.path:
        sys.path.insert(0, tree)
    return importlib.import_module(name)

def bundle(feature, module=SG2):
    host_module(module)
    return importlib.import_module(class_with(f'{module}.Generator', feature).rpartition('.')[0])

def layer2(I=5, O=3, resolution=6, up=1, **kwargs):
    layer = host_module(SG2).SynthesisLayer(I, O, w_dim=W_DIM, resolution=resolution, up=up, **kwargs)
    torch.nn.init.constant_(layer.noise_strength, 0.3)
    return layer

def layer3(I=5, O=3, critical=False, **kwargs):
    return host_module(SG3).SynthesisLayer(
        w_dim=W_DIM, is_torgb=False, is_critically_sampled=critical, use_fp16=False, in_channels=I, out_channels=O, in_size=12,
        out_size=20, in_sampling_rate=8, out_sampling_rate=16, in_cutoff=2, out_cutoff=4, in_half_width=2, out_half_width=4,
        **kwargs)

def converted(layer, feature, *args):
    """Return the layer converted as by the generator's mixin."""
    name = {'dsc': 'DSCLayer', 'fast': 'FastLayer'}[feature]
    layer.__class__ = getattr(bundle(feature, type(layer).__mro__[1].__module__), name)
    getattr(layer, f'attach_{feature}')(*args)
    return layer

def inputs(layer, seed=0):
    rng = torch.Generator().manual_seed(seed)
    size = getattr(layer, 'in_size', None) or [layer.resolution // layer.up] * 2
    x = torch.randn([N, layer.in_channels, size[1], size[0]], generator=rng, dtype=torch.float64)
    return x.requires_grad_(), torch.randn([N, W_DIM], generator=rng, dtype=torch.float64).requires_grad_()

def derivatives(run, x, w, tensors):
    """Return the output y = run(x, w), gradients of a product with it, and those of penalties like path length and R1."""
    y = run(x, w)
    rng = torch.Generator().manual_seed(5)
    direction = torch.randn(y.shape, generator=rng, dtype=y.dtype)
    gx, gw = torch.autograd.grad((y * direction).sum(), [x, w], create_graph=True)
    found = [y.detach(), gx.detach(), gw.detach()]
    for scalar in ((y * direction).sum(), (gw.square().sum(dim=1).sqrt() - 0.7).square().sum(), gx.square().sum()):
        grads = torch.autograd.grad(scalar, [x, w, *tensors], retain_graph=True, allow_unused=True)
        found += [torch.zeros([]) if g is None else g for g in grads]
    return found

def assert_close(actual, truth, tolerance=1e-9):
    assert len(actual) == len(truth)
    for a, b in zip(actual, truth):
        assert (a - b).abs().max() <= tolerance * max(1, float(b.abs().max()))
    assert sum(float(b.abs().max()) > 1e-6 for b in truth) > len(truth) - 8

def assert_is_dense_with_its_kernel(layer, dense, run=lambda layer, *args: layer(*args)):
    shared = {name: parameter for name, parameter in layer.named_parameters() if not name.startswith(('dw_', 'pw_'))}
    tensors = [*shared.values(), layer.dw_weight, layer.pw_weight]
    buffers = {name: buffer for name, buffer in layer.named_buffers() if name in dict(dense.named_buffers())}
    def with_kernel(x, w):
        state = dict(shared, **buffers, weight=layer.effective_weight())
        return run(lambda *args, **kwargs: torch.func.functional_call(dense, state, args, kwargs, strict=True), x, w)
    x, w = inputs(layer)
    assert_close(derivatives(lambda *args: run(layer, *args), x, w, tensors), derivatives(with_kernel, x, w, tensors))

@pytest.fixture(params=['references', 'kernels'])
def ops(request, open_kernels):
    """Run a test on kernels and references, and assert that it did. Yields a list that the test fills with the ops it expects."""
    expected = []
    if request.param == 'references':
        yield expected
        return
    calls = open_kernels('cpu')
    before = {op: calls(op) for op in ('epilogue', 'depthwise', 'depthwise_up2', 'depthwise_up2_epilogue')}
    yield expected
    assert all(calls(op) > before[op] for op in expected)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('order, up, rank, I, O, resolution', [
    ('depthwise', 1, 1, 5, 3, 7), ('depthwise', 2, 1, 5, 3, 6), ('pointwise', 2, 1, 5, 3, 6), ('pointwise', 1, 1, 5, 3, 4),
    ('depthwise', 1, 3, 2, 7, 5), ('depthwise', 2, 2, 3, 4, 10), ('pointwise', 2, 2, 3, 4, 10), ('depthwise', 1, 9, 2, 3, 3),
    ('pointwise', 2, 9, 2, 9, 2), ('depthwise', 2, 1, 4, 40, 4), ('pointwise', 2, 1, 4, 40, 4), ('depthwise', 1, 1, 4, 40, 3),
])
def test_stylegan2_layer_is_dense_with_its_effective_kernel(order, up, rank, I, O, resolution, ops):
    ops += ['depthwise_up2_epilogue'] if (order, up, rank) == ('pointwise', 2, 1) else \
        ['epilogue', 'depthwise_up2' if up == 2 else 'depthwise']
    torch.manual_seed(rank)
    dense = layer2(I, O, resolution, up, conv_clamp=1.5).double()
    layer = converted(layer2(I, O, resolution, up, conv_clamp=1.5), 'dsc', order, rank).double()
    assert layer.pointwise_first == (order == 'pointwise' and up == 2)
    assert_is_dense_with_its_kernel(layer, dense, lambda layer, x, w: layer(x, w, noise_mode='const', fused_modconv=False,
                                                                            gain=0.7))

@pytest.mark.parametrize('order, up, rank', [('depthwise', 1, 1), ('depthwise', 2, 2), ('pointwise', 2, 1)])
def test_evaluation_is_as_training(order, up, rank, ops):
    torch.manual_seed(rank)
    layer = converted(layer2(5, 3, 6, up, conv_clamp=1.5), 'dsc', order, rank).double()
    x, w = inputs(layer)
    run = lambda *args: layer(*args, noise_mode='const', gain=0.7)
    tensors = list(layer.parameters())
    assert_close(derivatives(run, x, w, tensors), (layer.eval(), derivatives(run, x, w, tensors))[1])

@pytest.mark.parametrize('rank, I, O', [(1, 5, 3), (2, 2, 4), (9, 2, 3)])
def test_stylegan3_layer_is_dense_with_its_effective_kernel(rank, I, O, ops):
    ops += ['depthwise']
    torch.manual_seed(rank)
    dense, layer = layer3(I, O).double(), converted(layer3(I, O), 'dsc', 'depthwise', rank).double()
    layer.magnitude_ema.fill_(2.5)
    assert_is_dense_with_its_kernel(layer, dense)

@pytest.mark.parametrize('make, run', [
    (lambda: layer2(5, 3, 6, up=2), lambda layer, x, w: layer(x, w, noise_mode='const', fused_modconv=False, gain=0.7)),
    (lambda: layer2(2, 5, 7, conv_clamp=1.5), lambda layer, x, w: layer(x, w, noise_mode='none', fused_modconv=True)),
    (lambda: layer3(4, 3), lambda layer, x, w: layer(x, w, update_emas=True)),
    (lambda: layer3(4, 3, conv_kernel=1, use_radial_filters=True), lambda layer, x, w: layer(x, w)),
])
def test_fast_layers_are_the_hosts(make, run, ops):
    dense, layer = make().double(), converted(make(), 'fast').double()
    layer.load_state_dict(dense.state_dict())
    names, x_w = sorted(dict(dense.named_parameters())), inputs(dense)
    found = [derivatives(lambda *args, m=m: run(m, *args), *x_w, [dict(m.named_parameters())[name] for name in names])
             for m in (layer, dense)]
    assert_close(*found)
    for name, buffer in dense.named_buffers():
        assert torch.allclose(buffer, dict(layer.named_buffers())[name])

@pytest.mark.parametrize('feature', ['dsc', 'fast'])
@pytest.mark.parametrize('clamp', [None, 0.5])
def test_colours_are_the_hosts(feature, clamp, ops):
    """In training the styles are in a matrix for each sample; in evaluation the layer is the host's to the last bit."""
    ops += ['epilogue']
    torch.manual_seed(0)
    dense = host_module(SG2).ToRGBLayer(5, 3, w_dim=W_DIM, conv_clamp=clamp).double()
    torch.nn.init.normal_(dense.bias)
    layer = copy.deepcopy(dense)
    layer.__class__ = getattr(bundle(feature), {'dsc': 'DSCToRGB', 'fast': 'FastToRGB'}[feature])
    rng = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in ([N, 5, 7, 7], [N, W_DIM]))
    names = sorted(dict(dense.named_parameters()))
    assert_close(*(derivatives(lambda *args, m=m: m(*args, fused_modconv=False), x, w,
                               [dict(m.named_parameters())[name] for name in names]) for m in (layer, dense)))
    assert all(torch.equal(layer.eval()(x, w, fused_modconv=fused), dense.eval()(x, w, fused_modconv=fused))
               for fused in (True, False))

@pytest.mark.parametrize('feature', ['dsc', 'fast'])
def test_generators_have_the_plugins_layers(feature):
    kwargs = dict(dsc=dict(order='depthwise', rank=1, res=[8, 8])) if feature == 'dsc' else {}
    name = {'dsc': 'DSC', 'fast': 'Fast'}[feature]
    Generator = getattr(bundle(feature), f'{name}Generator')
    G = Generator(16, 0, 16, 16, 3, channel_base=64, mapping_kwargs=dict(num_layers=1), **kwargs)
    counts = {kind: sum(type(m).__name__ == f'{name}{kind}' for m in G.synthesis.modules()) for kind in ('Layer', 'ToRGB')}
    assert counts == {'Layer': 2 if feature == 'dsc' else 5, 'ToRGB': 3}

def test_noise_is_drawn_as_the_host_draws_it():
    x, w = inputs(layer2())
    dense, fast = layer2().double(), converted(layer2(), 'fast').double()
    fast.load_state_dict(dense.state_dict())
    torch.manual_seed(7)
    expected = dense(x, w, fused_modconv=False)
    torch.manual_seed(7)
    assert torch.allclose(fast(x, w, fused_modconv=False), expected) and fast(x, w).std() > 0
    with pytest.raises(ValueError, match='loud'):
        fast(x, w, noise_mode='loud')

#----------------------------------------------------------------------------

@pytest.mark.parametrize('order, up', [('depthwise', 1), ('depthwise', 2), ('pointwise', 2)])
def test_layers_start_at_unit_variance_before_demodulation(order, up):
    torch.manual_seed(0)
    for rank in (1, 4):
        layer = converted(layer2(64, 48, 16, up), 'dsc', order, rank)
        exact = layer.effective_weight().square().sum(dim=[2, 3])
        assert float(exact.sum(dim=1).mean().detach()) == pytest.approx(1, rel=0.2)
        energy = dsc_module.kernel_energy(layer.dw_weight, layer.pw_weight, layer.pointwise_first)
        assert torch.allclose(energy * (layer.dw_gain * layer.pw_gain) ** 2, exact, rtol=1e-4, atol=1e-6)

@pytest.mark.parametrize('order', ['depthwise', 'pointwise'])
def test_half_precision_holds_what_demodulation_takes_out(order, ops):
    """With weights and styles of any scale and inputs as large as the clamp allows, results are finite and close to float32."""
    ops += ['epilogue', 'depthwise_up2']
    torch.manual_seed(0)
    layer = converted(layer2(64, 32, 16, 2, conv_clamp=256), 'dsc', order, 2)
    with torch.no_grad():
        layer.dw_weight.mul_(torch.logspace(-3, 3, layer.dw_weight.shape[1])[:, None, None])
        layer.pw_weight.mul_(torch.logspace(3, -3, 32)[:, None])
        layer.affine.weight.mul_(100)
    x, w = 256 * torch.rand([2, 64, 8, 8]), torch.randn([2, W_DIM])
    half = layer(x.half(), w, noise_mode='none')
    full = layer(x, w, noise_mode='none')
    assert half.dtype == torch.float16 and half.isfinite().all()
    assert (half - full).abs().max() < 0.02 * full.abs().max()

@pytest.mark.parametrize('order, up', [('depthwise', 1), ('depthwise', 2), ('pointwise', 2)])
def test_autocast(order, up, ops):
    """The activations get autocast's dtype, and all gradients come back."""
    ops += ['depthwise_up2' if (order, up) == ('depthwise', 2) else 'depthwise_up2_epilogue' if up == 2 else 'depthwise']
    torch.manual_seed(0)
    layer = converted(layer2(8, 6, 16, up), 'dsc', order, 1)
    x, w = torch.randn([2, 8, 16 // up, 16 // up], requires_grad=True), torch.randn([2, W_DIM])
    tensors = [x, *layer.parameters()]
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            y = layer(x, w, noise_mode='const')
        results.append([y, *torch.autograd.grad(y.float().square().sum(), tensors)])
    assert results[1][0].dtype == torch.bfloat16
    for full, low in zip(*results):
        assert (full - low).norm() <= 0.05 * full.norm()

def saved_bytes(run, parameters):
    """Return the bytes of the storages that the graph of run() keeps, without parameters."""
    storages, own = {}, {p.untyped_storage().data_ptr() for p in parameters}
    def pack(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = run()
    return y, sum(size for key, size in storages.items() if key not in own)

@pytest.mark.parametrize('order', ['depthwise', 'pointwise'])
def test_upsampled_maps_are_not_kept(order):
    layer = converted(layer2(16, 16, 64, up=2, activation='linear'), 'dsc', order, 1)     # its epilogue keeps nothing
    x, w = torch.randn([2, 16, 32, 32], requires_grad=True), torch.randn([2, W_DIM])
    y, size = saved_bytes(lambda: layer(x, w, noise_mode='none'), layer.parameters())
    assert size < 2.5 * x.numel() * 4 < y.numel() * 4     # the input, and its mixture or nothing; filters are small

def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match='relu'):
        converted(layer2(activation='relu'), 'dsc', 'depthwise', 1)
