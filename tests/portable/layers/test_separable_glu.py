"""The function for a separable convolution, norm and gate equals the composition, to second derivatives, in any blocks."""

import pytest
import torch
import torch.nn.functional as F

from spider_plugin.portable.layers import separable_glu as module
from spider_plugin.portable.layers.separable_glu import separable_glu

@pytest.fixture(params=['samples', 'batch'], autouse=True)
def steps(request, monkeypatch):
    """Every test runs on the steps for a CPU and on those for other devices, which work on the whole batch."""
    monkeypatch.setattr(module, '_on_cpu', lambda x: request.param == 'samples')
    return request.param

def inputs(up, noisy, dtype=torch.float64, size=5, n=2):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
    scaled = size * (1 + up)
    tensors = [draw(n, 3, size, size), draw(3, 1, 3, 3), draw(4, 3, 1, 1), draw(4), draw(4)]
    return tensors + ([draw(n, 1, scaled, scaled), draw(1)] if noisy else [])

def plainly(x, depthwise, pointwise, scale, shift, noise=None, strength=None, up=False):
    """Return the result of torch's layers on the enlarged image."""
    x = F.interpolate(x, scale_factor=2, mode='nearest') if up else x
    x = F.conv2d(F.conv2d(x, depthwise, padding=1, groups=x.shape[1]), pointwise)
    x = x if noise is None else x + strength * noise
    return F.glu(F.batch_norm(x, None, None, scale, shift, training=True), dim=1)

CASES = pytest.mark.parametrize(['up', 'noisy'], [(False, False), (True, False), (False, True), (True, True)])

@CASES
def test_outputs_and_gradients(up, noisy):
    args = inputs(up, noisy)
    actual, mean, var = separable_glu(*args, up=up)
    reference = plainly(*args, up=up)
    weight = torch.randn_like(reference)
    assert torch.allclose(actual, reference, atol=1e-10) and not mean.requires_grad and mean.shape == var.shape == (4,)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), args) for y in (actual, reference)), strict=True):
        assert torch.allclose(a, b, atol=1e-9)

@CASES
def test_second_derivatives(up, noisy):
    args = inputs(up, noisy, size=3)
    found = []
    for function in (lambda *a: separable_glu(*a, up=up)[0], lambda *a: plainly(*a, up=up)):
        y = function(*args)
        grads = torch.autograd.grad(y.sin().sum(), args, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in grads), args))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-8)

@CASES
def test_sixteen_bits(up, noisy):
    """Activations are rounded, moments and gradients of weights are not; under autocast x gets autocast's dtype."""
    wide = [t.detach().bfloat16().double().requires_grad_() for t in inputs(up, noisy, size=16)]
    weights = [t.detach().float().requires_grad_() for t in wide]
    weights[0] = wide[0].detach().bfloat16().requires_grad_()
    def grads(args):
        y, mean, _ = separable_glu(*args, up=up)
        return y, mean, torch.autograd.grad(y.to(torch.float64).square().sum(), args)
    (y, mean, found), (expected, _, wanted) = grads(weights), grads(wide)
    assert y.dtype == torch.bfloat16 and mean.dtype == torch.float32
    for a, b, t in zip((y, *found), (expected, *wanted), (y, *weights), strict=True):
        assert a.dtype == t.dtype and (a - b).abs().max() < 0.05 * b.abs().max()
    weights[0] = weights[0].detach().float().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        again, _, more = grads(weights)
    assert torch.equal(again, y) and more[0].dtype == torch.float32 and torch.equal(more[2], found[2])
    assert all(g.isfinite().all() for g in torch.autograd.grad(separable_glu(*weights, up=up)[0].square().sum(), weights,
                                                               create_graph=True))

def test_blocks_do_not_matter(monkeypatch):
    args = inputs(True, True, dtype=torch.float32, size=24)
    def grads():
        y, mean, var = separable_glu(*args, up=True)
        return [y, mean, var, *torch.autograd.grad(y.square().sum(), args)]
    whole = grads()
    monkeypatch.setattr(module, '_rows', lambda z: [slice(i, i + 1) for i in range(z.shape[1])])
    blocks = grads()
    monkeypatch.setattr(module, '_on_cpu', lambda x: False)
    for a, b, c in zip(blocks, whole, grads(), strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max() and (c - b).abs().max() <= 1e-4 * b.abs().max()

def test_tensors_kept_for_backward():
    """The small image and the pointwise output are kept, not the enlarged image, the depthwise or the normalised output."""
    args = inputs(True, False, dtype=torch.float32, size=32)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        separable_glu(*args, up=True)
    large = [n for n in sizes if n > 1000]
    assert sorted(large) == [args[0].numel(), 2 * 4 * 64 * 64]

@CASES
def test_gradients_are_those_of_finite_differences(up, noisy):
    args = inputs(up, noisy, size=2)
    function = lambda *a: separable_glu(*a, up=up, eps=0.1)[0]
    assert torch.autograd.gradcheck(function, args) and torch.autograd.gradgradcheck(function, args)

def test_kernels_serve_both(open_kernels, steps):
    """With kernels, results are those of the references, and one kernel for the gate and one for the filters give gradients."""
    args = inputs(True, True, dtype=torch.float32, size=24)
    def grads():
        y, mean, var = separable_glu(*args, up=True)
        return [y, mean, var, *torch.autograd.grad(y.square().sum(), args)]
    plain, calls = grads(), open_kernels('cpu')
    before = {op: calls(op) for op in ('affine_glu_backward', 'depthwise_up2_backward')}
    for a, b in zip(plain, grads(), strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
    assert all(calls(op) == count + 1 for op, count in before.items())
