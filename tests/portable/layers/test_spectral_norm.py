"""Spectral norm and batch norm against torch's, and under deep copies, pickles and several ranks as in hosts."""

import copy
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from torch.nn.utils import spectral_norm

from spider_plugin.portable.layers.norms import RankBatchNorm2d, track_statistics
from spider_plugin.portable.layers.spectral_norm import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear

LAYERS = {
    'conv':       (SpectralConv2d, torch.nn.Conv2d, (4, 6, 3), dict(padding=1, stride=2), [2, 4, 5, 5]),
    'depthwise':  (SpectralConv2d, torch.nn.Conv2d, (4, 4, 3), dict(padding=1, groups=4, bias=False), [2, 4, 5, 5]),
    'transposed': (SpectralConvTranspose2d, torch.nn.ConvTranspose2d, (2, 3, 4), dict(stride=2, padding=1), [2, 2, 3, 3]),
    'one place':  (SpectralConv2d, torch.nn.Conv2d, (4, 6, 3), dict(bias=False), [2, 4, 3, 3]),
    'of vectors': (SpectralConvTranspose2d, torch.nn.ConvTranspose2d, (2, 3, 4), dict(bias=False), [2, 2, 1, 1]),
    'few outputs': (SpectralConv2d, torch.nn.Conv2d, (20, 2, 3), dict(padding=1), [2, 20, 4, 5]),
    'linear':     (SpectralLinear, torch.nn.Linear, (5, 7), {}, [3, 5]),
}

@pytest.fixture(params=LAYERS)
def pair(request):
    """Return (the plugin's layer, torch's with the same state, an input)."""
    ours, theirs, args, kwargs, shape = LAYERS[request.param]
    torch.manual_seed(0)
    mine, other = ours(*args, **kwargs), spectral_norm(theirs(*args, **kwargs))
    assert mine.state_dict().keys() == other.state_dict().keys()
    mine.load_state_dict(other.state_dict())
    return mine, other, torch.randn(shape)

def close(a, b, tolerance=1e-6):
    return bool((a - b).abs().max() <= tolerance * b.abs().max())

def test_agrees_with_torch(pair):
    mine, other, x = pair
    opts = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (mine, other)]
    for _ in range(4):
        inputs = [x.clone().requires_grad_() for _ in pair[:2]]
        outputs = [net(i) for net, i in zip(pair[:2], inputs)]
        assert close(*outputs)
        for out in outputs:
            out.square().sum().backward()
        assert close(inputs[0].grad, inputs[1].grad, 2e-6) and close(mine.weight_orig.grad, other.weight_orig.grad, 1e-5)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        for name, tensor in other.state_dict().items():
            assert close(mine.state_dict()[name], tensor, 1e-5), name
    mine.eval()
    assert close(mine(x), other.eval()(x), 1e-5)
    assert torch.equal(mine.weight_u, copy.deepcopy(mine).weight_u)

@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('side', [6, 7])
def test_a_4x4_convolution_that_halves_an_image_of_many_channels(bias, side, open_kernels):
    """In training it runs by its kernel, in evaluation by torch's convolution to the last bit; derivatives are torch's, to the
    second. Odd images are torch's."""
    calls = open_kernels('cpu')
    torch.manual_seed(0)
    layers = [SpectralConv2d(33, 40, 4, 2, 1, bias=bias).double(),
              spectral_norm(torch.nn.Conv2d(33, 40, 4, 2, 1, bias=bias)).double()]
    layers[0].load_state_dict(layers[1].state_dict())
    x, results, before = torch.randn(2, 33, side, 8, dtype=torch.double), [], calls('conv4x4_down2')
    for layer in layers:
        inputs = [x.clone().requires_grad_(), layer.weight_orig]
        y = layer(inputs[0])
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        results.append([y, *first, *torch.autograd.grad(sum(t.square().sum() for t in first), inputs)])
    assert all(close(a, b, 1e-11) for a, b in zip(*results, strict=True))
    assert calls('conv4x4_down2') == before + (side == 6)
    layers[0].eval()
    weight = layers[0].weight_orig / torch.dot(layers[0].weight_u, torch.mv(layers[0].weight_orig.flatten(1), layers[0].weight_v))
    assert torch.equal(layers[0](x), torch.nn.functional.conv2d(x, weight, layers[0].bias, 2, 1))
    assert calls('conv4x4_down2') == before + (side == 6)

def test_second_derivatives(pair):
    mine, x = pair[0].double().eval(), pair[2].double().requires_grad_()
    weight = mine.weight_orig.detach().clone().requires_grad_()
    def run(x, w):
        return torch.func.functional_call(mine, {'weight_orig': w}, (x,))
    assert torch.autograd.gradcheck(run, (x, weight)) and torch.autograd.gradgradcheck(run, (x, weight))

def test_the_norm_is_one(pair):
    mine, _, x = pair
    for _ in range(200):
        mine(x)
    matrix = mine.normalized_weight().transpose(0, mine.output_dim).flatten(1)
    assert abs(float(torch.linalg.svdvals(matrix.detach())[0]) - 1) < 1e-3

def test_copies_and_pickles_after_a_training_pass(pair, tmp_path):
    mine, other, x = pair
    mine(x).sum().backward()
    other(x).sum().backward()
    with pytest.raises(RuntimeError):   # What hosts would meet otherwise.
        copy.deepcopy(other)
    copied = copy.deepcopy(mine).eval().requires_grad_(False)
    torch.save(mine, tmp_path / 'layer.pt')
    opened = torch.load(tmp_path / 'layer.pt', weights_only=False).eval()
    assert torch.equal(copied(x), mine.eval()(x)) and torch.equal(opened(x), copied(x))

def test_two_passes_before_one_backward(pair):
    """Fake and real images pass through D before either is differentiated, so u and v of the first pass must stay."""
    mine, _, x = pair
    alone = copy.deepcopy(mine)
    alone(x).square().sum().backward()
    first = mine(x).square().sum()
    mine(x)
    first.backward()
    assert torch.equal(mine.weight_orig.grad, alone.weight_orig.grad)

def test_autocast_leaves_the_weight_alone():
    layer = SpectralConv2d(4, 6, 3).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        weight = layer.normalized_weight()
        assert weight.dtype == torch.float32 and layer(torch.randn([1, 4, 8, 8])).dtype == torch.bfloat16
    assert torch.equal(weight, layer.normalized_weight())

#----------------------------------------------------------------------------

def test_batch_norm_is_torchs_in_one_rank():
    mine, other = RankBatchNorm2d(5), torch.nn.BatchNorm2d(5)
    assert mine.state_dict().keys() == other.state_dict().keys()
    x = torch.randn([4, 5, 6, 6])
    for net in (mine, other):
        net.requires_grad_(False)   # as a discriminator is while G trains
        net(x)
    assert all(map(torch.equal, mine.state_dict().values(), other.state_dict().values()))
    assert int(mine.num_batches_tracked) == 1 and torch.equal(mine.eval()(x), other.eval()(x))

def test_track_statistics():
    norm, x = torch.nn.BatchNorm2d(5), torch.randn([4, 5, 6, 6])
    mean, var = torch.zeros([5]), torch.ones([5])
    track_statistics(mean, var, x.mean(dim=[0, 2, 3]), x.var(dim=[0, 2, 3], unbiased=False), count=4 * 36)
    norm(x)
    assert close(mean, norm.running_mean, 1e-5) and close(var, norm.running_var, 1e-5)

def test_buffers_are_equal_in_two_ranks(tmp_path):
    job = pathlib.Path(__file__).with_name('norm_ranks.py')
    env = dict(os.environ, PYTHONPATH=str(pathlib.Path(__file__).parents[3]))
    runs = [subprocess.Popen([sys.executable, job, str(rank), '2', tmp_path / 'store', tmp_path / f'{rank}.pt'], env=env)
            for rank in (0, 1)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))
    assert all(torch.equal(a, second['state'][name]) for name, a in first['state'].items())
    assert first['still'] and second['still'] and all(first['moved']) and all(second['moved'])
    assert not torch.equal(first['means'][0], second['means'][0])
