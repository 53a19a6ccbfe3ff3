"""A step of each network as a GPU would run it, counted on fake tensors: bounds that may only fall, and that the counts count."""

import pytest
import torch

from benchmarks.common.device_counts import DEVICE, DeviceCounts
from benchmarks.cost import device_step

@pytest.fixture(autouse=True)
def binding(kernel_cache, monkeypatch):
    """The binding of the ops is built in the cache of the tests, and calls ask for kernels, though none runs."""
    monkeypatch.setenv('TORCH_UTILS_EXT', 'auto')
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(kernel_cache))

#----------------------------------------------------------------------------
# Launches and 10^9 bytes of a step with kernels and without. Lower a bound when a count falls.

BOUNDS = {
    ('StyleGAN2 64x64 batch 32', 'dense'): ((1097, 15.6), (1097, 15.6)),
    ('StyleGAN2 64x64 batch 32', '--fast'): ((683, 7.0), (891, 22.2)),
    ('StyleGAN2 64x64 batch 32', '--dsc'): ((676, 6.5), (966, 28.7)),
    ('StyleGAN2 64x64 batch 32', '--dsc --dsc-order=pointwise'): ((712, 4.8), (966, 22.5)),
    ('StyleGAN2 256x256 batch 16', 'dense'): ((1407, 31.1), (1407, 31.1)),
    ('StyleGAN2 256x256 batch 16', '--fast'): ((927, 14.1), (1205, 49.1)),
    ('StyleGAN2 256x256 batch 16', '--dsc'): ((906, 13.2), (1266, 66.6)),
    ('StyleGAN2 256x256 batch 16', '--dsc --dsc-order=pointwise'): ((968, 9.5), (1286, 49.9)),
    ('StyleGAN2 1024x1024 batch 4', 'dense'): ((1717, 63.0), (1717, 63.0)),
    ('StyleGAN2 1024x1024 batch 4', '--fast'): ((1171, 28.7), (1519, 100.3)),
    ('StyleGAN2 1024x1024 batch 4', '--dsc'): ((1152, 27.1), (1582, 136.3)),
    ('StyleGAN2 1024x1024 batch 4', '--dsc --dsc-order=pointwise'): ((1234, 19.8), (1616, 101.7)),
    ('FastGAN 256x256 batch 16', 'dense'): ((557, 45.5), (557, 45.5)),
    ('FastGAN 256x256 batch 16', '--dsc'): ((965, 47.9), (1097, 78.8)),
    ('FastGAN lite 256x256 batch 16', 'dense'): ((353, 25.6), (353, 25.6)),
    ('FastGAN lite 256x256 batch 16', '--dsc'): ((587, 25.4), (671, 44.8)),
    ('DCGAN 64x64 batch 64', 'G'): ((52, 0.3), (52, 0.3)),
    ('DCGAN 64x64 batch 64', 'D'): ((64, 0.2), (64, 0.2)),
    ('PGGAN 256x256 batch 16', 'G'): ((340, 38.6), (340, 38.6)),
    ('PGGAN 256x256 batch 16', 'D'): ((133, 38.6), (133, 38.6)),
    ('Projected D 256x256 batch 16', 'standard heads'): ((625, 18.2), (625, 18.2)),
    ('Projected D 256x256 batch 16', 'separable heads'): ((795, 24.4), (795, 24.4)),
}

def cases():
    """Return all of them; those whose networks are slow to make are marked so."""
    fast = lambda case, variant: case.startswith(('FastGAN lite', 'DCGAN')) or (case[:7], variant) == ('FastGAN', '--dsc')
    return [pytest.param(*key, id=', '.join(key), marks=() if fast(*key) else pytest.mark.slow) for key in BOUNDS]

@pytest.mark.parametrize('case, variant', cases())
def test_a_step_costs_no_more(case, variant):
    for kernels, (ops, gigabytes) in zip((True, False), BOUNDS[case, variant]):
        counts = device_step.count(case, variant, kernels)
        assert counts['ops'] <= ops and counts['bytes'] <= gigabytes * 1e9, counts
        assert counts['copies'] == 0 and counts['syncs'] == SYNCS.get(case, 0), counts

SYNCS = {'PGGAN 256x256 batch 16': 1}      # how far it has grown is a buffer, which hosts copy and average

def test_every_case_has_a_bound():
    assert list(BOUNDS) == [(case, variant) for case, variants in device_step.CASES.items() for variant in variants]

@pytest.mark.parametrize('case', ['StyleGAN2 64x64 batch 32',
                                  pytest.param('StyleGAN2 1024x1024 batch 4', marks=pytest.mark.slow)])
def test_separable_layers_move_fewer_bytes_than_factorised_ones(case):
    variants = '--fast', '--dsc --dsc-order=pointwise'
    dense, separable = (device_step.count(case, variant) for variant in variants)
    assert separable['bytes'] <= 0.75 * dense['bytes'] and separable['ops'] <= 1.2 * dense['ops']

# Passes over as many bytes as the output of a layer has: without upsampling, and with it from twice as many channels.

PASSES = {'dense': (45.5, 49.2), '--fast': (18.4, 22.1), '--dsc': (18.4, 22.5), '--dsc --dsc-order=pointwise': (18.4, 8.4)}

@pytest.mark.parametrize('variant', ['--dsc --dsc-order=pointwise',
                                     *(pytest.param(v, marks=pytest.mark.slow) for v in list(PASSES)[:-1])])
def test_a_layer_makes_no_more_passes(variant):
    for layer, most in zip(('conv1', 'conv0'), PASSES[variant]):
        assert device_step.passes(variant, layer) <= most

#----------------------------------------------------------------------------
# The counts themselves.

def counted(step, *shapes):
    counts = DeviceCounts()
    tensors = [counts.randn(*shape) for shape in shapes]
    return counts.of(lambda: step(*tensors))

def test_launches_and_bytes():
    found = counted(lambda x: x.reshape(8, 2).t() + 1, [4, 4])
    assert found == dict(ops=1, bytes=2 * 64, copies=0, syncs=0)
    assert counted(lambda x: x.mul_(2), [4, 4])['bytes'] == 2 * 64
    assert counted(lambda x, y: x + y.expand(4, 4), [4, 4], [4, 1])['bytes'] == 2 * 64 + 16
    assert counted(lambda x: torch.ones(3) + 1, [1]) == dict(ops=0, bytes=0, copies=0, syncs=0)     # on the host

@pytest.mark.parametrize('copies, syncs, step', [
    (1, 0, lambda x: x + torch.tensor([1.0, 2.0], device=x.device)),
    (1, 0, lambda x: x + torch.zeros(2).to(x.device)),
    (1, 0, lambda x: x + torch.zeros(2).to(x)),
    (0, 0, lambda x: x + torch.zeros(2, device=x.device)),
    (0, 0, lambda x: x.to(x.device).to(torch.float16).to(x)),
    (0, 0, lambda x: x + x.new_zeros(2)),
    (0, 1, lambda x: x.sum().item()),
    (0, 1, lambda x: x if (x > 0).any() else -x),
    (0, 1, lambda x: x.cpu()),
    (0, 1, lambda x: x.to('cpu')),
])
def test_copies_and_syncs(copies, syncs, step):
    found = counted(step, [2])
    assert (found['copies'], found['syncs']) == (copies, syncs)

def test_branches_on_the_device_are_those_of_a_gpu():
    seen = []
    counted(lambda x: seen.extend([x.device, x.is_cuda, x.is_cpu, (x * 2).half().device, x.grad_fn]), [2])
    assert seen == [DEVICE, True, False, DEVICE, None]

def test_a_buffer_of_one_number_keeps_it():
    module = torch.nn.Module()
    module.register_buffer('level', torch.tensor(3.5))
    module.register_buffer('mean', torch.zeros(4))
    counts = DeviceCounts()
    counts.on_device(module)
    seen = []
    found = counts.of(lambda: seen.append(float(module.level)))
    assert seen == [3.5] and found['syncs'] == 1 and module.mean.device == DEVICE

#----------------------------------------------------------------------------
