"""Norms of gradients in a loop with the variables of NVlabs' loops."""

import types

import pytest
import torch

from spider_plugin.training.gradient_norms import reported

def training_loop(gradients):
    """Two phases that share an optimizer, whose steps have these gradients."""
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros([])), torch.nn.Parameter(torch.zeros(3))]
    opt = torch.optim.SGD(weights, lr=1.0)
    phases = [types.SimpleNamespace(name=name) for name in ('Gmain', 'Greg')]
    for phase, (first, second) in zip(phases, gradients):   # noqa: B007  (the report looks at it)
        weights[0].grad, weights[1].grad = torch.tensor([first, 0.0]), torch.tensor(second)
        opt.step()
    return phase

def test_each_step_reports_under_its_phase(monkeypatch):
    from torch_utils import training_stats
    found = []
    monkeypatch.setattr(training_stats, 'report', lambda name, value: found.append((name, float(value))))
    with reported():
        training_loop([(3.0, 4.0), (0.0, 2.0)])
    assert found == [('Gradients/Gmain', 5.0), ('Gradients/Greg', 2.0)]
    training_loop([(3.0, 4.0)])
    assert len(found) == 2

def test_other_optimizers_are_left_alone(monkeypatch):
    from torch_utils import training_stats
    monkeypatch.setattr(training_stats, 'report', lambda name, value: pytest.fail(name))
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    with reported():
        torch.optim.SGD([weight], lr=1.0).step()
