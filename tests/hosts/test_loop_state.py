"""Training states of attached hosts: a loop of the usual shape that is interrupted and continues ends with the bits of a straight
one."""

import importlib
import inspect
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from spider_plugin.errors import SpiderError
from spider_plugin.hosts import saving
from spider_plugin.options.state import apply_state
from spider_plugin.training import loop_state

# A host's loop in little: a network of three numbers, an optimizer for G and D together, a p that grows, a snapshot after every
# second iteration. COUNTS and PLACE are how it counts on, and how it continues by itself, if it does.

LOOP = """
import os, pickle, types
import numpy as np
import torch
import misc

class Loss:
    def __init__(self):
        self.pl_mean = torch.zeros([])

def training_loop(run_dir='.', G_opt_kwargs={}, loss_kwargs={}, num_gpus=1, rank=0, batch_size=4, random_seed=0, total=6,
                  ada_kimg=500, ema_rampup=0.05, resume_pkl=None, COUNTSprogress_fn=None):
    torch.manual_seed(random_seed), np.random.seed(random_seed)
    images = iter(misc.InfiniteSampler(range(10), rank=rank, num_replicas=num_gpus))
    G, augment_pipe, loss = torch.nn.Linear(3, 1), types.SimpleNamespace(p=torch.zeros([])), Loss()
    cur_nimg, batch_idx = COUNT, 0
    snapshot = os.path.join(run_dir, 'network-snapshotDIGITS.pkl')
    if PLACE and os.path.isfile(snapshot):
        resume_pkl = snapshot
    if resume_pkl is not None:
        with open(resume_pkl, 'rb') as f:
            data = pickle.load(f)
        G.load_state_dict(data['G'])
        if PLACE:
            cur_nimg, batch_idx = data['progress']
    opt = torch.optim.Adam(G.parameters(), **G_opt_kwargs)
    phases = [types.SimpleNamespace(name=name, opt=opt) for name in ('Gmain', 'Greg', 'Dmain')]
    if progress_fn is not None:
        progress_fn(0, total)
    seen = []
    while True:
        batch = [next(images) for _ in range(batch_size // num_gpus)]
        seen += batch
        real = torch.tensor(batch, dtype=torch.float32)
        opt.zero_grad()
        (G(torch.randn([len(batch), 3])).squeeze(1) - real + np.random.rand()).square().mean().add(loss.pl_mean).backward()
        opt.step()
        loss.pl_mean.add_(torch.rand([]))
        augment_pipe.p.add_(1 / ada_kimg)
        cur_nimg += batch_size
        batch_idx += 1
        if batch_idx % 2 == 0 and rank == 0:
            snapshot = os.path.join(run_dir, f'network-snapshotDIGITS.pkl')
            with open(snapshot, 'wb') as f:
                pickle.dump(dict(G=G.state_dict(), progress=(cur_nimg, batch_idx)), f)
            with open(os.path.join(run_dir, 'best_model.pkl'), 'wb') as f:
                pickle.dump(0, f)
        if progress_fn is not None:
            progress_fn(0, total)
        if batch_idx >= total:
            break
    return types.SimpleNamespace(G=G.state_dict(), seen=seen, nimg=cur_nimg, pl_mean=loss.pl_mean, p=augment_pipe.p,
                                 draw=torch.rand([]) + np.random.rand(), lr=opt.param_groups[0]['lr'], ema_rampup=ema_rampup)
"""
SHAPES = {  # of NVlabs/stylegan3, of its predecessor, of Projected GAN where it continues in a run directory
    'counts':   dict(COUNTS='resume_kimg=0, ', COUNT='resume_kimg * 1000', DIGITS='-{cur_nimg:06d}', PLACE='False'),
    'restarts': dict(COUNTS='', COUNT='0', DIGITS='-{batch_idx:06d}', PLACE='False'),
    'in place': dict(COUNTS='resume_kimg=0, ', COUNT='resume_kimg * 1000', DIGITS='', PLACE='True'),
}

class InfiniteSampler(torch.utils.data.Sampler):
    def __init__(self, dataset, rank, num_replicas):
        self.dataset, self.rank, self.num_replicas = dataset, rank, num_replicas
    def __iter__(self):
        order = np.random.RandomState(1)
        for i in range(1000):
            idx = int(order.randint(len(self.dataset)))
            if i % self.num_replicas == self.rank:
                yield idx

@pytest.fixture
def make_loop(tmp_path, monkeypatch):
    """make_loop(shape) -> the module of a training loop that the plugin has extended."""
    misc = types.ModuleType('misc')
    misc.InfiniteSampler = InfiniteSampler
    monkeypatch.setitem(sys.modules, 'misc', misc)
    monkeypatch.syspath_prepend(tmp_path)
    def make(shape):
        text = LOOP
        for word, value in SHAPES[shape].items():
            text = text.replace(word, value)
        name = f'loop_{shape.replace(" ", "_")}'
        (tmp_path / f'{name}.py').write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        loop = importlib.import_module(name)
        saving.extend(loop)
        return loop
    return make

ADAM = dict(lr=0.1, betas=(0.5, 0.9))

def config(**changes):
    return dict(G_opt_kwargs=ADAM, loss_kwargs=dict(blur_init_sigma=10), batch_size=4, **changes)

class Host:
    """What options/state.py asks of a host."""
    def __init__(self, loop):
        self.arguments = inspect.signature(loop.training_loop).parameters
    def loop_takes(self, name):
        return name in self.arguments
    def local_file(self, path):
        return path

def launch(loop, run_dir, resume=None, **changes):
    """Train as the host's script does, in which --resume sets arguments for fine-tuning."""
    run_dir.mkdir(parents=True, exist_ok=True)
    c = config(**changes)
    if resume is not None:
        c.update(resume_pkl=resume, ada_kimg=100, ema_rampup=None)
        c['loss_kwargs'] = dict(blur_init_sigma=0)
    lines = apply_state(c, dict(save_state=True), resume, Host(loop))
    return loop.training_loop(run_dir=str(run_dir), **c), c, lines

def check_equal(result, straight):
    for name, tensor in straight.G.items():
        assert torch.equal(result.G[name], tensor), name
    assert (result.pl_mean, result.p, result.draw) == (straight.pl_mean, straight.p, straight.draw)

def newest(run_dir):
    return str(max(run_dir.glob('network-snapshot*.pkl')))

#----------------------------------------------------------------------------

@pytest.mark.parametrize('shape', ['counts', 'restarts'])
def test_a_run_continues_from_a_snapshot(shape, make_loop, tmp_path, capsys):
    loop = make_loop(shape)
    straight = launch(loop, tmp_path / 'straight')[0]
    first = launch(loop, tmp_path / 'first', total=4)[0]
    assert sorted(os.listdir(tmp_path / 'first'))[-2:] == [f'training-state-0000{number}.pt' for number in
                                                           (('08', '16') if shape == 'counts' else ('02', '04'))]
    result, c, lines = launch(loop, tmp_path / 'second', resume=newest(tmp_path / 'first'), total=2)
    check_equal(result, straight)
    assert first.seen + result.seen == straight.seen and 'continues that of' in lines[0]
    said = capsys.readouterr().out
    assert c['ada_kimg'] == 500
    if shape == 'counts':
        assert (result.nimg, c['ema_rampup'], c['loss_kwargs']) == (24, 0.05, dict(blur_init_sigma=10))
        assert type(result.nimg) is int and 'at 0.016 kimg: optimizers, loss, order of the images, augmentation p' in said
        assert 'Anew: ticks, intervals' in said
    else:
        assert (result.nimg, c['ema_rampup'], c['loss_kwargs']) == (8, None, dict(blur_init_sigma=0))
        assert 'Anew: image count and its schedules, ticks, intervals' in said

def test_a_chain_of_runs(make_loop, tmp_path):
    loop = make_loop('counts')
    straight, resume, seen = launch(loop, tmp_path / 'straight', total=10)[0], None, []
    for i in range(5):
        result = launch(loop, tmp_path / str(i), resume=resume, total=2)[0]
        seen, resume = seen + result.seen, newest(tmp_path / str(i))
    check_equal(result, straight)
    assert seen == straight.seen

def test_a_host_that_continues_in_its_run_directory(make_loop, tmp_path, capsys):
    loop = make_loop('in place')
    straight = launch(loop, tmp_path / 'straight')[0]
    first = launch(loop, tmp_path / 'run', total=4)[0]
    result = launch(loop, tmp_path / 'run')[0]
    check_equal(result, straight)
    assert first.seen + result.seen == straight.seen and result.nimg == 24
    assert 'Anew: nothing.' in capsys.readouterr().out
    launch(loop, tmp_path / 'run', total=8, random_seed=1)
    assert 'The training state is left out: ' in capsys.readouterr().out

def test_other_ranks_than_before(make_loop, tmp_path, capsys):
    """Together they see the rest of the sequence; random numbers begin anew."""
    loop = make_loop('counts')
    straight, first = launch(loop, tmp_path / 'straight')[0], launch(loop, tmp_path / 'first', total=4)[0]
    resume = newest(tmp_path / 'first')
    ranks = [launch(loop, tmp_path / 'second', resume=resume, total=2, num_gpus=2, rank=rank)[0] for rank in range(2)]
    both = [image for pair in zip(ranks[0].seen, ranks[1].seen, strict=True) for image in pair]
    assert first.seen + both == straight.seen
    said = capsys.readouterr().out
    assert said.count('Continuing from') == 1 and 'Anew: random numbers, ticks' in said

def test_without_the_option_nothing_is_written(make_loop, tmp_path):
    loop = make_loop('counts')
    straight = loop.training_loop(run_dir=str(tmp_path), G_opt_kwargs=ADAM)
    assert not list(tmp_path.glob('*.pt')) and loop.misc.InfiniteSampler is InfiniteSampler
    check_equal(launch(loop, tmp_path / 'kept')[0], straight)
    assert loop.misc.InfiniteSampler is InfiniteSampler
    assert not (tmp_path / 'kept' / 'best_model.pt').exists()

def test_progress_is_still_told(make_loop, tmp_path):
    loop, told = make_loop('counts'), []
    launch(loop, tmp_path / 'run', total=2, progress_fn=lambda *args: told.append(args))
    assert told == [(0, 2)] * 3

def test_a_snapshot_without_a_state_is_fine_tuned(make_loop, tmp_path):
    loop = make_loop('counts')
    launch(loop, tmp_path / 'first', total=2)
    snapshot = newest(tmp_path / 'first')
    os.remove(loop_state.path_of(snapshot))
    result, c, lines = launch(loop, tmp_path / 'second', resume=snapshot, total=2)
    assert 'is fine-tuned' in lines[0] and c['ada_kimg'] == 100 and result.nimg == 8

def damage(snapshot, state):
    with open(state, 'r+b') as file:
        file.truncate(100)

def replace(snapshot, state):
    with open(snapshot, 'wb') as file:
        pickle.dump(0, file)

def renumber(snapshot, state):
    torch.save(dict(torch.load(state), format=2), state)

@pytest.mark.parametrize('act, changes, words', [
    (damage, {}, 'cannot be read as a training state .* remove it'),
    (replace, {}, 'belongs to another snapshot than the one beside it'),
    (renumber, {}, 'has format 2, and this version reads 1'),
    (None, dict(random_seed=1), 'was trained with another random_seed; give the options of before'),
])
def test_states_of_no_use_are_refused(make_loop, tmp_path, act, changes, words):
    loop = make_loop('counts')
    launch(loop, tmp_path / 'first', total=2)
    snapshot = newest(tmp_path / 'first')
    if act is not None:
        act(snapshot, loop_state.path_of(snapshot))
    with pytest.raises(SpiderError, match=words):
        launch(loop, tmp_path / 'second', resume=snapshot, **changes)

def test_hosts_without_a_state(make_loop, tmp_path):
    host = Host(make_loop('counts'))
    host.arguments = [*host.arguments, 'state_file']
    with pytest.raises(SpiderError, match='--save-state has no effect in this host.*--resume=RUN_DIR'):
        apply_state(config(), dict(save_state=True), None, host)
    host.arguments = ['run_dir']
    with pytest.raises(SpiderError, match='--save-state finds no progress_fn'):
        apply_state(config(), dict(save_state=True), None, host)
    assert apply_state(config(), dict(save_state=False), None, host) == []
