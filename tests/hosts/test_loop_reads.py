"""What the source of a loop reads of its networks is found without running it, and said where a network of ours lacks it."""

import types

import forks
import pytest
import torch

from spider_plugin.hosts import loop_reads
from spider_plugin.hosts.loop_reads import Read, missing, reads_in, sentences

LOOP = '''
def training_loop(num_gpus, ada_target=None):
    print(G.z_dim)
    if ada_target is not None and num_gpus > 1:
        print(G.ledger)
        if cur_tick > 20:
            print(networks.D.diffusion.p)
        else:
            print(self.G.synthesis.b4.const)
'''

def test_chains_and_the_conditions_around_them():
    assert reads_in(LOOP) == [
        Read('G', ('z_dim',), 3), Read('G', ('ledger',), 5, ('ada_target is not None and num_gpus > 1',)),
        Read('D', ('diffusion', 'p'), 7, ('ada_target is not None and num_gpus > 1', 'cur_tick > 20')),
        Read('G', ('synthesis', 'b4', 'const'), 9, ('ada_target is not None and num_gpus > 1', 'not (cur_tick > 20)'))]

@pytest.mark.parametrize('source', [
    'G.ledger = 1\nprint(G.ledger)', "if hasattr(G, 'ledger'):\n    G.ledger.add()", "getattr(G, 'ledger', None)\nG.ledger",
    'try:\n    G.ledger.add()\nexcept AttributeError:\n    pass', 'G.ledger += 1', 'del G.ledger', 'F.ledger', 'G',
    "setattr(self.G, 'ledger', 1)\nG.ledger", 'import G.ledger'])
def test_what_the_loop_sets_asks_for_or_catches_is_no_read(source):
    assert not [read for read in reads_in(source) if read.names == ('ledger',) and read.network == 'G']

@pytest.mark.parametrize('source', ['with x:\n    G.ledger', 'f(G.ledger.add(1))', 'try:\n    G.ledger\nfinally:\n    pass',
                                    '[G.ledger for _ in x]', 'G.ledger[0] = 1', 'lambda: self.G.ledger', 'opts.G.ledger',
                                    'for x in G.ledger: pass', 'class A:\n    def f(self):\n        return self.G.ledger'])
def test_reads_are_found_wherever_they_are(source):
    assert [read.names[0] for read in reads_in(source)] == ['ledger']

def names(values=None, here=None):
    class Host(torch.nn.Module):
        ledger, z_dim = 7, 4
        synthesis = types.SimpleNamespace(b4=types.SimpleNamespace(const=1))
    stock = dict(G=Host(), D=types.SimpleNamespace(diffusion=types.SimpleNamespace(p=1)))
    if here is None:
        here = dict(G=types.SimpleNamespace(z_dim=4, synthesis=types.SimpleNamespace()), D=types.SimpleNamespace())
    return [name for _, name in missing(reads_in(LOOP), here, stock, values or {})]

def test_what_only_the_hosts_network_has_is_missing():
    assert names() == ['ledger', 'diffusion', 'synthesis.b4']
    assert names(here=dict(G=types.SimpleNamespace(z_dim=4, ledger=1, synthesis=types.SimpleNamespace(b4=torch)))) == \
        ['synthesis.b4.const']
    assert names(here={}) == []

@pytest.mark.parametrize('values, matters', [
    (dict(ada_target=None), False), (dict(ada_target=0.6, num_gpus=1), False), (dict(num_gpus=1), False),
    (dict(ada_target=0.6, num_gpus=2), True), (dict(ada_target=0.6), True), ({}, True), (dict(num_gpus='x'), True)])
def test_a_branch_that_this_run_does_not_take_does_not_matter(values, matters):
    assert bool(names(values)) == matters

@pytest.mark.parametrize('test, value', [
    ('not a', False), ('a or b', True), ('b or a', True), ('b and c', None), ('a == 3', True), ('a != 3', False),
    ('a >= 4', False), ('a is None', False), ('a < 4 and a > 2', True), ('f(a)', None),
    ('a < b', None), ('1 < a < 2', None), ('a % 2 == 1', None),
    ('x.a', None), ('"x" < a', None), ('a in (1, 3)', None)])
def test_conditions(test, value):
    assert loop_reads._value(test, dict(a=3)) is value

def test_a_name_that_the_loop_sets_anew_is_no_argument():
    source = 'if warm:\n    G.ledger\nwarm = 1\nif cold:\n    G.album\n'
    assert loop_reads._never_set(source, dict(warm=0, cold=0)) == dict(cold=0)

def test_a_loss_has_what_its_methods_set():
    class Loss:
        kind = 'hinge'
        def __init__(self, G):
            self.G, self.pl_mean = G, 0
    loss = loop_reads.instance_of(Loss)
    assert hasattr(loss, 'pl_mean') and hasattr(loss, 'kind') and not hasattr(loss, 'style') and type(loss).__name__ == 'Loss'

def test_sources_that_cannot_be_read_say_nothing():
    assert sentences([types.ModuleType('built'), None], dict(G=1), dict(G=1), {}, '/') == []

@pytest.mark.slow
def test_a_launch_says_it(tmp_path, make_zip):
    data = make_zip(tmp_path / 'set.zip', n=8, res=64)
    reads = '    if len(str(batch_gpu)) > 9:\n        print(G.ledger)\n    if batch_gpu > 100000:\n        print(G.album)\n'
    tree = forks.make(tmp_path, {
        'training/training_loop.py': [(forks.BUILT, reads + forks.BUILT)],
        'training/networks_stylegan2.py': [(forks.GENERATOR, '    ledger = album = 7\n\n' + forks.GENERATOR)]})
    dcgan, spider = forks.launches(tree, [['--cfg=dcgan'], ['--cfg=stylegan2', '--spider-source=strokes']], data, tmp_path)
    note, = [line for line in dcgan.splitlines() if line.startswith('Note')]
    assert note.startswith('Note: the host reads G.ledger under `if len(str(batch_gpu)) > 9` (training/training_loop.py, line')
    assert note.endswith('which DCGANGenerator does not have; the dry iteration did not come there, and a run that does will '
                         'end.')
    assert 'Note' not in spider and all('Dry run; exiting' in text for text in (dcgan, spider))
