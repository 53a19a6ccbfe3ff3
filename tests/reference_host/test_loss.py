"""training/loss.py against networks whose losses can be written down, and the schedule of training_loop.py."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from training import training_loop
from training.loss import StyleGAN2Loss, gaussian_blur

#----------------------------------------------------------------------------
# Networks with one weight each. G shows row 0 and the last row of ws in its two halves; D sums the image.

class Synthesis(torch.nn.Module):
    def forward(self, ws, update_emas=False):
        return torch.stack([ws[:, 0], ws[:, -1]], dim=2)[:, None] # [N, 1, 4, 2]

class Mapping(torch.nn.Module):
    def __init__(self, num_ws):
        super().__init__()
        self.num_ws = num_ws
        self.scale = torch.nn.Parameter(torch.tensor(1.5))
        self.calls = []
    def forward(self, z, c, update_emas=False):
        self.calls.append((z, update_emas))
        return (z * self.scale)[:, None].repeat([1, self.num_ws, 1])

class G(torch.nn.Module):
    def __init__(self, num_ws=3):
        super().__init__()
        self.mapping, self.synthesis = Mapping(num_ws), Synthesis()

class D(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.25))
    def forward(self, img, c, update_emas=False):
        return img.flatten(1).sum(1, keepdim=True) * self.scale

def run(phase, num_ws=3, gain=1, **kwargs):
    """Return (loss object, gradient of G's weight, gradient of D's weight, real images, latents)."""
    torch.manual_seed(0)
    loss = StyleGAN2Loss(torch.device('cpu'), G(num_ws), D(), **kwargs)
    real, z, c = torch.randn([6, 1, 4, 2]), torch.randn([6, 4]), torch.zeros([6, 0])
    (loss.D if phase.startswith('G') else loss.G).requires_grad_(False)
    loss.accumulate_gradients(phase, real, c, z, c, gain=gain, cur_nimg=0)
    return loss, loss.G.mapping.scale.grad, loss.D.scale.grad, real, z

def slope(fn, value):
    weight = torch.tensor(value, requires_grad=True)
    fn(weight).backward()
    return weight.grad

#----------------------------------------------------------------------------

def test_generator_loss():
    loss, grad, _none, _real, z = run('Gmain', gain=3)
    truth = slope(lambda scale: 3 * F.softplus(-2 * z.sum(1) * scale * 0.25).mean(), 1.5)
    torch.testing.assert_close(grad, truth)
    assert [update for _z, update in loss.G.mapping.calls] == [False] # Averages follow D's pass.

def test_discriminator_loss():
    loss, _none, grad, real, z = run('Dmain', gain=3)
    fake = 2 * z.sum(1) * 1.5
    truth = slope(lambda scale: 3 * (F.softplus(fake * scale) + F.softplus(-real.flatten(1).sum(1) * scale)).mean(), 0.25)
    torch.testing.assert_close(grad, truth)
    assert [update for _z, update in loss.G.mapping.calls] == [True]

@pytest.mark.parametrize('phase', ['Dreg', 'Dboth'])
def test_r1(phase):
    grad = run(phase, r1_gamma=5)[2]
    penalty = slope(lambda scale: 5 / 2 * 8 * scale ** 2, 0.25) # Eight pixels of slope `scale` each.
    rest = run('Dmain')[2] if phase == 'Dboth' else 0
    torch.testing.assert_close(grad, rest + penalty)

class Squares(Synthesis):
    def forward(self, ws, update_emas=False):
        return super().forward(ws).square() / 2

def test_path_length():
    """For images w^2 / 2, whose Jacobian is diag(w), the lengths are sqrt(mean over rows of |w y|^2)."""
    loss = StyleGAN2Loss(torch.device('cpu'), G(), D(), pl_weight=2)
    loss.G.synthesis = Squares()
    z = torch.randn([6, 4])
    torch.manual_seed(7)
    noise = torch.randn([3, 1, 4, 2])[:, 0] / math.sqrt(8) # For half of the batch.
    torch.manual_seed(7)
    loss.accumulate_gradients('Greg', None, None, z, torch.zeros([6, 0]), gain=4, cur_nimg=0)

    def penalty(scale):
        lengths = ((noise * z[:3, :, None] * scale).square().sum([1, 2]) / 3).sqrt()
        return 4 * 2 * (lengths - 0.01 * lengths.mean()).square().mean()

    torch.testing.assert_close(loss.G.mapping.scale.grad, slope(penalty, 1.5))
    lengths = ((noise * z[:3, :, None] * 1.5).square().sum([1, 2]) / 3).sqrt()
    torch.testing.assert_close(loss.pl_mean, 0.01 * lengths.mean())

def test_styles_are_mixed_from_two_latents():
    loss = StyleGAN2Loss(torch.device('cpu'), G(), D(), style_mixing_prob=1)
    torch.manual_seed(1)
    z = torch.randn([4, 4])
    img, ws = loss.run_G(z, None)
    (first, _), (second, _) = loss.G.mapping.calls
    assert torch.equal(first, z) and not torch.equal(second, z)
    assert torch.equal(ws[:, 0], z * 1.5) and torch.equal(ws[:, -1], second * 1.5)
    assert torch.equal(img[:, 0, :, 1], second * 1.5)

def test_one_row_of_styles_is_not_mixed():
    loss, *_rest = run('Gboth', num_ws=1, style_mixing_prob=1, pl_weight=0)
    assert len(loss.G.mapping.calls) == 1

def test_blur():
    img = torch.zeros([1, 2, 17, 17])
    img[:, :, 8, 8] = 1
    out = gaussian_blur(img, 2)
    torch.testing.assert_close(out.sum([2, 3]), torch.ones([1, 2]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out[0, 0, 8, 10] / out[0, 0, 8, 8], torch.tensor(0.5))
    assert gaussian_blur(img, 0) is img
    loss = StyleGAN2Loss(torch.device('cpu'), None, None, blur_init_sigma=10, blur_fade_kimg=4)
    assert [loss.blur_sigma(nimg) for nimg in (0, 1000, 4000, 9000)] == [10, 7.5, 0, 0]

#----------------------------------------------------------------------------
# Schedule.

def test_lazy_regularization_rescales_adam():
    opt_kwargs = dict(class_name='torch.optim.Adam', lr=0.1, betas=[0, 0.99], eps=1e-8) # An integer, as in old configs.
    main, reg = training_loop.setup_phases('D', D(), opt_kwargs, reg_interval=16)
    assert (main.name, main.interval, reg.name, reg.interval) == ('Dmain', 1, 'Dreg', 16) and main.opt is reg.opt
    group = main.opt.param_groups[0]
    assert group['lr'] == pytest.approx(0.1 * 16 / 17) and group['betas'] == (0.0, pytest.approx(0.99 ** (16 / 17)))
    both, = training_loop.setup_phases('D', D(), opt_kwargs, reg_interval=None)
    assert both.name == 'Dboth' and both.opt.param_groups[0]['lr'] == 0.1

def test_sizes_of_batches():
    def sizes(count, *args):
        return list(itertools.islice(training_loop.batch_sizes(*args), count))
    assert sizes(3, 8, [], 0) == [8, 8, 8]
    assert sizes(5, 8, [[0, 16], [0.03, 4]], 0) == [16, 16, 4, 4, 4]
    assert sizes(3, 8, [[0.01, 16]], 0) == [8, 8, 16] and sizes(2, 8, [[0.01, 16]], 0.5) == [16, 16]
    assert sizes(2, 8, [[0, 16], [0, 4]], 0) == [4, 4]

def test_average_of_weights():
    source, average = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(source.weight, 3.0)
    source.running_mean.fill_(7)
    training_loop.update_ema(average, source, beta=0.75)
    assert average.weight.item() == pytest.approx(1.5) and average.running_mean.item() == 7
    assert training_loop.ema_beta(batch_size=10, cur_nimg=10 ** 9, ema_kimg=0.01, ema_rampup=0.05) == 0.5
    assert training_loop.ema_beta(batch_size=10, cur_nimg=400, ema_kimg=10, ema_rampup=0.05) == pytest.approx(0.5 ** 0.5)
    assert training_loop.ema_beta(batch_size=10, cur_nimg=0, ema_kimg=10, ema_rampup=0.05) == 0
    assert training_loop.ema_beta(batch_size=10, cur_nimg=0, ema_kimg=0.01, ema_rampup=None) == 0.5

def test_gradients_are_made_finite():
    net = D()
    for value, finite in ((math.nan, 0), (math.inf, 1e5), (-math.inf, -1e5), (2, 2)):
        net.scale.grad = torch.tensor(value, dtype=torch.float32)
        training_loop.gather_gradients(net)
        assert net.scale.grad.item() == finite

#----------------------------------------------------------------------------
