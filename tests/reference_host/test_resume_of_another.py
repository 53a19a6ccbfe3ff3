"""--resume without an option of the plugin, of a snapshot whose tensors are others: what is left out is said, and where nothing
of G fits, training does not start."""

import importlib

import pytest
import torch

from spider_plugin.snapshots.resume_plan import module_of

@pytest.fixture
def resume(host, monkeypatch):
    """resume({'G': ..., 'D': ..., 'G_ema': modules in the file}, module that trains) -> what is printed or raised."""
    resuming = importlib.import_module('training.resuming')
    def run(found, net):
        monkeypatch.setattr(resuming.snapshots, 'load_networks', lambda url, option: dict(found, augment_pipe=None))
        EasyDict = importlib.import_module('dnnlib').EasyDict
        resuming.resume(EasyDict(G=net, D=net, G_ema=net, augment_pipe=None), 'x.pkl', True)
    return run

def tensors(*names):
    return module_of({name: torch.ones(2) for name in names})

def trained(*names):
    net = torch.nn.Module()
    for name in names:
        net.register_parameter(name, torch.nn.Parameter(torch.zeros(2), requires_grad=False))
    return net

def test_a_snapshot_of_the_same_networks_says_nothing(resume, capsys):
    net = trained('a', 'b')
    resume(dict.fromkeys(('G', 'D', 'G_ema'), tensors('a', 'b')), net)
    assert capsys.readouterr().out.startswith('Fine-tuning from x.pkl') and float(net.a.sum()) == 2

def test_tensors_without_a_counterpart_are_counted(resume, capsys):
    resume(dict.fromkeys(('G', 'D', 'G_ema'), tensors('a', 'z')), trained('a', 'b', 'c', 'd', 'e'))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '--resume: G: 1 of 5 tensors copied; 4 not in the file: b, c, d and 1 more; 1 only in the file: z'
    assert [line[:13] for line in lines[:3]] == ['--resume: G: ', '--resume: D: ', '--resume: G_e']

def test_nothing_of_g_is_refused(resume):
    with pytest.raises(Exception, match='--resume: no tensor of G in x.pkl fits the networks of this run; resume from'):
        resume(dict.fromkeys(('G', 'D', 'G_ema'), tensors('z')), trained('a'))

def test_a_discriminator_that_is_not_there_is_said(resume, capsys):
    resume(dict(G=tensors('a'), D=torch.nn.Module(), G_ema=tensors('a')), trained('a'))
    assert '--resume: D: 0 of 1 tensors copied; 1 not in the file: a' in capsys.readouterr().out
