"""--resume without an option of the plugin in a host that unpickles by itself: the launch says which tensors have no counterpart,
in the words of the reference host, and the host goes on as ever."""

import types

import forks
import pytest
import torch

from spider_plugin.hosts import plain_resume
from spider_plugin.snapshots.resume_plan import module_of

def in_file(*names, shape=(2,)):
    return module_of({name: torch.ones(shape) for name in names})

def trained(*names):
    net = torch.nn.Module()
    for name in names:
        net.register_parameter(name, torch.nn.Parameter(torch.zeros(2), requires_grad=False))
    return net

def lines(found, here, D=None):
    host = types.SimpleNamespace(networks=lambda: dict(G=here, D=D))
    return plain_resume.plan_lines({}, found, host)

MANY = tuple('abcdefghijkl')

def test_a_snapshot_of_the_same_networks_says_nothing():
    net = trained('a', 'b')
    assert lines(dict(G=in_file('a', 'b'), D=in_file('a', 'b'), G_ema=in_file('a', 'b'), augment_pipe=None), net, net) == []

@pytest.mark.parametrize('found, here, words', [
    (in_file('a', 'z'), trained(*'abcde'),
     'G: 1 of 5 tensors copied; 4 not in the file: b, c, d and 1 more; 1 only in the file: z'),
    (in_file('a', 'b', 'c'), trained('a', 'b'), 'G: 2 of 2 tensors copied; 1 only in the file: c'),
    (in_file('a'), trained('a', 'b'), 'G: 1 of 2 tensors copied; 1 not in the file: b'),
    (in_file('a', shape=[3]), trained('a'),
     'G: 0 of 1 tensors copied; 1 of other shapes at which this host may stop: a [3] -> [2]'),
], ids=['another', 'deeper there', 'deeper here', 'wider'])
def test_what_has_no_counterpart_is_counted(found, here, words):
    assert lines(dict(G=found), here) == [f'--resume: {words}']

@pytest.mark.parametrize('found, warned', [
    (in_file('z'), True), (in_file('z', *MANY[:1]), True), (in_file('z', *MANY[:2]), False)],
    ids=['nothing', 'one of twelve', 'two of twelve'])
def test_another_architecture_is_warned_of(found, warned):
    said = lines(dict(G=found, G_ema=found), trained(*MANY))
    assert any(line.startswith('Warning: next to nothing of the snapshot fits') for line in said) == warned
    assert [line[:13] for line in said[:2]] == ['--resume: G: ', '--resume: G_e']

def test_buffers_alone_are_another_architecture():
    net = trained('weight')
    net.register_buffer('filter', torch.ones(2))
    assert lines(dict(G=in_file('filter')), net)[-1].startswith('Warning: ')

def test_networks_that_cannot_be_built_and_are_not_there_are_left_out(monkeypatch):
    def fails():
        raise RuntimeError('no feature network')
    assert plain_resume.plan_lines({}, dict(G=in_file('a')), types.SimpleNamespace(networks=fails)) == []
    assert lines(dict(G=None, D=in_file('z'), G_ema=in_file('a')), trained('a', 'b')) == [
        '--resume: G_ema: 1 of 2 tensors copied; 1 not in the file: b']
    monkeypatch.setenv('RANK', '1')
    assert lines(dict(G=in_file('z')), trained('a')) == []

def test_an_attached_host_says_it_and_goes_on(tmp_path, make_snapshot, make_zip):
    """A fork that unpickles: the reference host without its own reader, check and word about tensors."""
    tree = forks.make(tmp_path, {'training/snapshots.py': [('\nreader = None', '\n')],
                                 'train.py': [('resuming.check(c, say=print if dry_run else None)', 'pass')]})
    data = make_zip(tmp_path / 'set.zip', n=8, res=32)
    resume = f'--resume={make_snapshot()}'
    plain, other, none = forks.launches(tree, [['--cfg=stylegan2', resume], ['--cfg=stylegan3-t', resume], ['--cfg=stylegan2']],
                                        data, tmp_path)
    assert '--resume: G: ' in plain and 'not in the file: synthesis.b32.' in plain and 'tensors copied' not in none
    assert 'Warning: next to nothing of the snapshot fits' in other and '--resume: G_ema: ' in other
    assert all('Dry run; exiting' in text for text in (plain, other, none))
