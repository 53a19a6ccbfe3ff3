"""Blocks that are computed again in the backward pass give the same losses, gradients, second derivatives and averages in less
memory, and do not change the networks."""

import copy
import importlib
import pickle

import pytest
import torch

from spider_plugin.snapshots.rebuild import add_host_to_path
from spider_plugin.sources.prepare import prepare_source
from spider_plugin.training.recompute import recomputable, recomputing

add_host_to_path()
SHAPE  = dict(c_dim=0, img_resolution=32, img_channels=3)
SMALL  = dict(z_dim=512, w_dim=32, channel_base=512, channel_max=16, num_fp16_res=0, mapping_kwargs=dict(num_layers=2), **SHAPE)
BUNDLE = 'spider_plugin.bundles.spider_on_training__networks_stylegan2.SpiderGenerator'

def networks():
    source = prepare_source('shapes', size=32, bank=20).path
    return {
        'stylegan2': ('training.networks_stylegan2.Generator', SMALL),
        'stylegan3': ('training.networks_stylegan3.Generator', dict(SMALL, num_layers=6, magnitude_ema_beta=0.9)),
        'spider':    (BUNDLE, dict(SMALL, spider=dict(mapping='residual', source=source))),
    }

def build(name, kwargs, again):
    torch.manual_seed(0)
    module, _, cls = name.rpartition('.')
    return recomputing(name, **kwargs) if again else getattr(importlib.import_module(module), cls)(**kwargs)

def step(network, kind):
    """Return (losses, gradients) of a training step with its regularisation, by the same random numbers."""
    torch.manual_seed(1)
    network.zero_grad(set_to_none=True)
    if kind == 'D':
        images = torch.randn([4, 3, 32, 32], requires_grad=True)
        logits = network(images, torch.zeros([4, 0]))
        slope, = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = torch.nn.functional.softplus(-logits).mean() + slope.square().sum([1, 2, 3]).mean()
    else:
        ws = network.mapping(torch.randn([4, 512]), torch.zeros([4, 0]), update_emas=True)
        images = network.synthesis(ws, update_emas=True)
        slope, = torch.autograd.grad((images * torch.randn_like(images)).sum(), ws, create_graph=True)  # path length
        loss = images.square().mean() + slope.square().sum(2).mean().sqrt()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

@pytest.mark.parametrize('kind', ['stylegan2', 'stylegan3', 'spider', 'D'])
def test_second_derivatives_and_averages_are_equal(kind, stirred):
    name, kwargs = networks()[kind] if kind != 'D' else (
        'training.networks_stylegan2.Discriminator', dict(SHAPE, channel_base=512, channel_max=16, num_fp16_res=0))
    plain, again = (build(name, kwargs, again) for again in (False, True))
    if kind == 'spider':
        plain, again = stirred(plain), stirred(again)   # path length has no gradient where a residual starts
    assert len(recomputable(again)) >= 3
    for _ in range(2):
        expected, found = step(plain, kind), step(again, kind)
        assert torch.allclose(found[0], expected[0], rtol=1e-6) and found[1].keys() == expected[1].keys()
        for key, grad in expected[1].items():
            assert torch.allclose(found[1][key], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()) + 1e-9), key
        for (key, a), (_, b) in zip(plain.named_buffers(), again.named_buffers()):
            assert torch.equal(a, b), key

def saved_bytes(network):
    """Return the bytes that one forward pass keeps for the backward pass, without parameters."""
    known, kept = {p.untyped_storage().data_ptr() for p in network.parameters()}, {}
    def pack(x):
        if x.untyped_storage().data_ptr() not in known:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        images = network(torch.randn([4, 512]), torch.zeros([4, 0]))
    return sum(kept.values()), images

def test_less_is_kept_and_copies_do_not_change():
    name, kwargs = networks()['stylegan2']
    plain, again = (build(name, kwargs, again) for again in (False, True))
    assert type(again) is type(plain) and again.init_kwargs == plain.init_kwargs
    few, _ = saved_bytes(again)
    many, _ = saved_bytes(plain)
    assert few < many / 2
    copied = copy.deepcopy(again)
    assert abs(saved_bytes(copied)[0] - many) < many / 10       # not of this process's list
    opened = pickle.loads(pickle.dumps(again))
    z, c = torch.randn([2, 512]), torch.zeros([2, 0])
    assert torch.equal(opened(z, c, noise_mode='const'), plain(z, c, noise_mode='const'))

def test_blocks_that_move_statistics_are_not_recomputed():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.normed = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
            self.spectral = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3))
            self.plain, self.vector = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(3, 4)
    network = Network()
    assert recomputable(network) == [network.plain]
