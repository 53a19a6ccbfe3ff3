"""The optimizer of --steady, and the edit that puts it into a config."""

import copy

import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.options.steady import ADAM, apply_steady, fade_steps
from spider_plugin.training.steady import FadingAdam

def weights():
    return [torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))]

def train(params, optimizer, steps, seed=0, rates=None):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        params[0].grad = torch.randn([3, 4], generator=rng)
        if rates:
            optimizer.param_groups[0]['lr'] = rates.pop(0)
        optimizer.step()

def test_it_is_adam_with_a_rate_that_falls():
    (ours, theirs), kwargs = (weights(), weights()), dict(betas=[0.5, 0.99], eps=1e-8)
    fading, adam = FadingAdam(ours, lr=0.1, fade_steps=4, **kwargs), torch.optim.Adam(theirs, lr=0.1, **kwargs)
    train(ours, fading, 6)
    train(theirs, adam, 6, rates=[0.1, 0.075, 0.05, 0.025, 0.0, 0.0])
    assert torch.equal(ours[0], theirs[0]) and fading.param_groups[0]['lr'] == 0

def test_a_state_goes_on_where_it_was():
    params = weights()
    fading = FadingAdam(params, lr=0.1, fade_steps=8, betas=[0.5, 0.99])
    train(params, fading, 3)
    state, twin = copy.deepcopy(fading.state_dict()), [torch.nn.Parameter(params[0].detach().clone())]
    again = FadingAdam(twin, lr=0.1, fade_steps=8, betas=[0.5, 0.99])
    again.load_state_dict(state)
    train(params, fading, 3, seed=1)
    train(twin, again, 3, seed=1)
    assert torch.equal(params[0], twin[0]) and again.param_groups[0]['steps_done'] == 6

def test_no_steps_are_refused():
    with pytest.raises(ValueError, match='at least, not 0'):
        FadingAdam(weights(), lr=0.1, fade_steps=0)

@pytest.mark.parametrize('kimg, batch, interval, steps', [
    (2.4, 8, None, 300), (2.401, 8, None, 301), (0.1, 10, 4, 13), (0, 8, None, 1)])
def test_steps_of_a_run(kimg, batch, interval, steps):
    assert fade_steps(kimg, batch, interval) == steps

def test_the_edit():
    c = dict(G_opt_kwargs=dict(class_name=ADAM, lr=0.002, betas=[0.0, 0.99], eps=1e-8), total_kimg=2.4, batch_size=8,
             G_reg_interval=None)
    before = copy.deepcopy(c)
    assert apply_steady(c, dict(steady=False)) == [] and c == before
    line, = apply_steady(c, dict(steady=True))
    assert line == 'Rate of G:           0.002, falling to 0 in 300 steps; first beta 0.5'
    assert c['G_opt_kwargs'] == dict(class_name='spider_plugin.training.steady.FadingAdam', lr=0.002, betas=[0.5, 0.99], eps=1e-8,
                                     fade_steps=300)
    resumed = copy.deepcopy(before) | dict(resume_kimg=1.2)
    apply_steady(resumed, dict(steady=True))
    assert resumed['G_opt_kwargs']['fade_steps'] == 150
    other = copy.deepcopy(before)
    other['G_opt_kwargs']['class_name'] = 'torch.optim.SGD'
    with pytest.raises(SpiderError, match='--steady changes Adam, and this host trains G with torch.optim.SGD; leave it out'):
        apply_steady(other, dict(steady=True))
