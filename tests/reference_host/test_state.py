"""training/state.py and its neighbours: what is gathered is what is restored, and what does not fit is refused."""

import collections
import copy
import itertools
import json
import os
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import dnnlib
from torch_utils import misc, training_stats
from training import files, loading, relaunch, resuming, run_dir, snapshots, state
from training.loss import StyleGAN2Loss
from training.networks_stylegan2 import Discriminator, Generator
from training.report import Reporter, not_finite, strict
from training.runtime import SpiderError
from training.training_loop import AdaptiveAugment, setup_phases

#----------------------------------------------------------------------------

@pytest.fixture(autouse=True)
def no_statistics(monkeypatch):
    """Statistics of this test alone."""
    monkeypatch.setattr(training_stats, '_pending', {})
    monkeypatch.setattr(training_stats, '_cumulative', {})

class Pipe(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('p', torch.zeros([]))

class Report:
    """As a Reporter, as far as states go."""
    def __init__(self):
        self.value = None
    def state_dict(self):
        return dict(value=self.value, logs={})
    def load_state_dict(self, state):
        self.value = state['value']

def make_run(seed, num_gpus=1, images=12):
    """The parts of a run at its beginning."""
    torch.manual_seed(seed)
    common = dict(c_dim=0, img_resolution=8, img_channels=3, channel_base=64, channel_max=8)
    G, D = Generator(z_dim=8, w_dim=8, mapping_kwargs=dict(num_layers=1), **common), Discriminator(**common)
    networks = dnnlib.EasyDict(G=G.requires_grad_(False), D=D.requires_grad_(False), G_ema=copy.deepcopy(G).eval(),
                               augment_pipe=Pipe())
    opt = dict(class_name='torch.optim.Adam', lr=0.002, betas=[0, 0.99], eps=1e-8)
    return dnnlib.EasyDict(at=state.start(0), networks=networks, device=torch.device('cpu'), rank=0, num_gpus=num_gpus, seed=5,
                           phases=[*setup_phases('G', G, opt, 4), *setup_phases('D', D, opt, 16)], report=Report(),
                           loss=StyleGAN2Loss(torch.device('cpu'), G, D, pl_weight=2), training_set=list(range(images)),
                           augment=AdaptiveAugment(networks.augment_pipe, target=0.6, kimg=1))

def advance(run):
    """Leaves traces in every part, from the global random numbers."""
    for opt in state.optimizers(run.phases).values():
        for param in opt.param_groups[0]['params']:
            param.grad = torch.randn_like(param)
        opt.step()
    run.loss.pl_mean.add_(torch.rand([]) + np.random.rand() + random.random())
    training_stats.report('Loss/signs/real', torch.randn([7]).sign())
    run.augment.adapt(8)
    training_stats.report('Loss/signs/real', torch.randn([3]))
    run.report.value = random.random()
    run.at.nimg += 8

def traces(run):
    """All that training depends on, as one flat list of tensors and numbers."""
    found = [tensor for module in run.networks.values() for tensor in misc.params_and_buffers(module)]
    for opt in state.optimizers(run.phases).values():
        found += [value for moments in opt.state.values() for value in moments.values()]
    found += [run.loss.pl_mean, run.report.value]
    found += [torch.rand([5]), *np.random.rand(3).tolist(), np.random.randn(), random.gauss(0, 1)]
    run.augment.signs.update()
    return found + [run.augment.signs['Loss/signs/real'], training_stats._cumulative['Loss/signs/real']]

def same(first, second):
    return len(first) == len(second) and all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, second))

def saved(run, folder):
    """Path of the state of a run, written beside its snapshot."""
    snapshot = f'{folder}/network-snapshot-000000.pkl'
    snapshots.save_pickle(snapshots.snapshot_data({}, **{name: run.networks[name] for name in ('G', 'D', 'G_ema')},
                                                  augment_pipe=None), snapshot)
    state.save(state.gather(run, evaluate=True), snapshot)
    return state.path_of(snapshot)

@pytest.fixture
def with_pipe(monkeypatch):
    """The pipe of these tests has no persistent class, so it goes past the pickle."""
    stock = state.restore_networks
    def restore_networks(networks, found):
        stock({name: networks[name] for name in ('G', 'D', 'G_ema')}, found)
        networks.augment_pipe.p.fill_(found['p'])
    monkeypatch.setattr(state, 'restore_networks', restore_networks)

#----------------------------------------------------------------------------
# Restoring.

def test_another_process_goes_on_with_the_same_numbers(tmp_path, with_pipe):
    run = make_run(seed=0)
    advance(run)
    np.random.randn()   # Half of a pair: numpy keeps the other half.
    random.gauss(0, 1)
    path, p = saved(run, tmp_path), float(run.networks.augment_pipe.p)
    advance(run)
    truth = traces(run)

    other = make_run(seed=1)
    advance(other)
    training_stats._pending.clear()
    training_stats._cumulative.clear()
    found = dict(state.load(path), p=p)
    assert found['at'] == dict(state.start(0), nimg=8) and found['evaluate']
    state.restore(other, found)
    advance(other)
    assert same(traces(other), truth)

@pytest.mark.parametrize('change', ['ranks', 'reseed'])
def test_other_random_numbers(tmp_path, with_pipe, change):
    """Where the number of ranks changes, and after rolling back. Statistics that were under way are kept."""
    run = make_run(seed=0)
    advance(run)
    path = saved(run, tmp_path)
    straight = torch.rand([5])
    drawn = []
    num_gpus = 2 if change == 'ranks' else 1
    for rank in range(num_gpus):
        other = make_run(seed=0, num_gpus=num_gpus)
        other.rank = rank
        state.restore(other, dict(state.load(path), p=0), reseed=int(change == 'reseed'))
        drawn.append(torch.rand([5]))
        count = training_stats._pending['Loss/signs/real'][0]
        assert count == (3 if rank == 0 else 0)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations([straight, *drawn], 2))

def test_files_are_plain_data(tmp_path):
    """Nothing in a state is unpickled but tensors and plain data."""
    path = saved(make_run(seed=0), tmp_path)
    assert torch.load(path, weights_only=True)['format'] == state.FORMAT

def test_losses_of_the_plugin():
    from spider_plugin.training.hinge import ProjectedHingeLoss
    from spider_plugin.training.progressive import ProgressiveLoss
    hinge, other = (ProjectedHingeLoss.__new__(ProjectedHingeLoss) for _ in range(2))
    hinge.seen = 40
    other.load_state_dict(hinge.state_dict())
    assert other.seen == 40
    grown, other = (ProgressiveLoss.__new__(ProgressiveLoss) for _ in range(2))
    grown.growth, other.growth = types.SimpleNamespace(start=(0, 1.5)), types.SimpleNamespace(start=None)
    grown.count = 3
    other.load_state_dict(grown.state_dict())
    assert (other.count, other.growth.start) == (3, (0, 1.5))

#----------------------------------------------------------------------------
# Refusals.

def test_states_without_their_snapshot_are_passed_over(tmp_path, capsys):
    run = make_run(seed=0)
    path = saved(run, tmp_path)
    snapshot = tmp_path / 'network-snapshot-000000.pkl'
    for name in ('000001', '000002', '000003'):
        (tmp_path / f'training-state-{name}.pt').write_bytes(open(path, 'rb').read()[: 1000 if name == '000003' else None])
    assert state.newest(tmp_path) == str(tmp_path / 'training-state-000002.pt') # The digest is that of its snapshot.
    assert 'training-state-000003.pt cannot be read' in capsys.readouterr().out
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    assert state.newest(tmp_path) is None
    assert capsys.readouterr().out.count('belongs to another network-snapshot-000000.pkl') == 3
    with pytest.raises(SpiderError, match='--resume: .* has no usable training state.*--resume='):
        run_dir.state_to_continue(tmp_path)
    snapshot.unlink()
    assert run_dir.state_to_continue(tmp_path) is None
    assert 'which is not there' in capsys.readouterr().out

def test_other_formats_and_other_data_are_refused(tmp_path):
    run = make_run(seed=0)
    path = saved(run, tmp_path)
    with pytest.raises(SpiderError, match='12 images, and 13 are there'):
        state.restore(make_run(seed=0, images=13), state.load(path))
    with pytest.raises(SpiderError, match='the image source is not the one'):
        state.restore(run, dict(state.load(path), source='{"name": "other"}'))
    torch.save(dict(torch.load(path), format=state.FORMAT + 1), path)
    with pytest.raises(SpiderError, match='has format 2, this version reads 1'):
        state.load(path)

def test_bad_weights_are_named():
    net = torch.nn.BatchNorm1d(2)
    assert not_finite(net) is None
    net.running_var[1] = float('inf')
    assert not_finite(net) == 'running_var'

@pytest.mark.parametrize('bad', ['G', 'D', 'G_ema'])
def test_snapshots_that_diverged_are_refused(bad, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, 'reader', None)  # As without the plugin, which another test may have attached in this process.
    run, path = make_run(seed=0), str(tmp_path / 'network-snapshot-000001.pkl')
    run.networks.augment_pipe = None
    next(run.networks[bad].parameters()).view(-1)[0] = float('nan')
    snapshots.save_pickle(snapshots.snapshot_data({}, **run.networks), path)
    with pytest.raises(SpiderError, match=f'--resume: .* of {bad} in .* is not finite, as training diverged'):
        resuming.resume(make_run(seed=1).networks, path, resume_p=False)
    if bad == 'G_ema':
        with pytest.raises(SpiderError, match='--network: .* is not finite, as training diverged'):
            snapshots.load_generator(path, torch.device('cpu'))

@pytest.mark.parametrize('whole_kimg', [True, False])
def test_names_of_snapshots_are_unique_and_sort_by_time(whole_kimg):
    """At ticks and between them, several within one thousand images."""
    report = types.SimpleNamespace(run=types.SimpleNamespace(at=state.start(0)), whole_kimg=whole_kimg)
    names = []
    for nimg, at_tick in ((0, True), (200, False), (900, True), (1100, True), (1500, False), (2300, True), (2900, True)):
        report.run.at.nimg = nimg
        names.append(Reporter.next_name(report, at_tick))
    assert len(set(names)) == len(names) and names == sorted(names)
    assert ('000001' in names) == whole_kimg

def test_strict_json():
    line = strict({'a': {'mean': float('nan'), 'num': 3}, 'b': float('-inf'), 'c': 0.5})
    assert json.dumps(line, allow_nan=False) == '{"a": {"mean": null, "num": 3}, "b": null, "c": 0.5}'

#----------------------------------------------------------------------------
# The order of images.

@pytest.mark.parametrize('ranks', [1, 2, 3])
@pytest.mark.parametrize('shuffle', [True, False])
def test_sampler_starts_anywhere(ranks, shuffle):
    """The joint sequence of all ranks from `start` on is the rest of one rank's from the beginning, over several epochs."""
    def draw(ranks, start, count):
        samplers = [iter(misc.InfiniteSampler(range(7), rank, ranks, shuffle, seed=3, start=start)) for rank in range(ranks)]
        return [next(sampler) for _ in range(count // ranks) for sampler in samplers]
    whole = draw(1, 0, 60)
    for start in (0, 1, 6, 7, 20, 21):
        assert draw(ranks, start, 36) == whole[start : start + 36]

@pytest.mark.parametrize('ranks', [1, 2])
def test_ten_resumes_show_every_image_as_often_as_one_run(ranks, make_zip, tmp_path):
    """Through the loader, over some epochs; a run that began the order anew would show the same few images ten times."""
    path, batch, parts = make_zip(tmp_path / 'set.zip', n=30, res=8), 6, 10
    def shown(start, batches):
        images = collections.Counter()
        for rank in range(ranks):
            _, loader = loading.setup_data(dict(class_name='training.dataset.ImageFolderDataset', path=path), {},
                                           torch.device('cpu'), seed=0, num_gpus=ranks, rank=rank,
                                           sizes=itertools.repeat(batch), batch_gpu=batch // ranks, start=start)
            for _ in range(batches):
                images.update(image.numpy().tobytes() for part, _labels in next(loader) for image in part)
            loader.close()
        return images
    straight, resumed = shown(0, 2 * parts), collections.Counter()
    for part in range(parts):
        resumed += shown(part * 2 * batch, 2)
    assert resumed == straight and len(straight) == 30 and sum(straight.values()) == 120
    assert max(straight.values()) - min(straight.values()) <= 3

def test_random_datasets_repeat_from_any_place():
    """A dataset that draws at random gives the same images at the same place, and leaves the global generators alone."""
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 5
        def __getitem__(self, idx):
            return idx + torch.rand([]).item() + np.random.rand() + random.random()
    def draw(start, count):
        places = loading.shares(itertools.count(), itertools.repeat(2), 1, start)
        loader = torch.utils.data.DataLoader(loading.Seeded(Noisy(), 0), generator=torch.Generator(),
                                             batch_sampler=((place, [0, 1]) for place, _ in places))
        return [batch.tolist() for batch in itertools.islice(loader, count)]
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    whole = draw(0, 4)
    assert draw(4, 2) == whole[2:] and whole[0] != whole[1]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[2], random.getstate())

@pytest.mark.parametrize('start, drawn', [(0, True), (8, False)])
def test_loading_draws_from_the_training_generator_once(make_zip, tmp_path, start, drawn):
    """A seed gives the curves of version 0.1.0, whose loader drew one number at the first batch of a run."""
    path = make_zip(tmp_path / 'set.zip', n=4)
    torch.manual_seed(0)
    _, batches = loading.setup_data(dict(class_name='training.dataset.ImageFolderDataset', path=path), {}, torch.device('cpu'),
                                    seed=0, num_gpus=1, rank=0, sizes=itertools.repeat(2), batch_gpu=2, start=start)
    next(batches), next(batches)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    if drawn:
        torch.empty([], dtype=torch.int64).random_()
    assert torch.equal(after, torch.get_rng_state())

#----------------------------------------------------------------------------
# Run directories.

def test_logs_are_cut_back_to_the_state(tmp_path, monkeypatch):
    (tmp_path / 'log.txt').write_text('tick 1\nmetric\nStopped\ntick 2\nmetric\ntick')
    (tmp_path / 'stats.jsonl').write_text('{}\n{"half')
    (tmp_path / 'metric-fid.jsonl').write_text('{"cur_nimg": 8}\n{"cur_nimg": null}\n{"cur_nimg": 16}\n{"cur')
    (tmp_path / f'a.pkl.{2**22 + 1}.tmp').write_text('of a process that is gone')
    (tmp_path / 'b.pkl.1.tmp').write_text('of a process that lives')
    monkeypatch.setattr(state, 'load', lambda path: dict(at=dict(nimg=8), report=dict(logs={'log.txt': 7, 'stats.jsonl': 3})))
    run_dir.tidy(tmp_path, 'a state', whole_log=True)
    assert (tmp_path / 'log.txt').read_text().endswith('tick')
    run_dir.tidy(tmp_path, 'a state')
    assert (tmp_path / 'log.txt').read_text() == 'tick 1\nmetric\nStopped\n'
    assert (tmp_path / 'stats.jsonl').read_text() == '{}\n'
    assert (tmp_path / 'metric-fid.jsonl').read_text() == '{"cur_nimg": 8}\n{"cur_nimg": null}\n'
    assert sorted(path.name for path in tmp_path.glob('*.tmp')) == ['b.pkl.1.tmp']
    run_dir.tidy(tmp_path, None) # From the beginning.
    assert (tmp_path / 'log.txt').read_text() == (tmp_path / 'stats.jsonl').read_text() == ''

def test_the_newest_snapshots_are_kept(tmp_path):
    for digits in ('000001', '000002', '000002500', '000010'):
        (tmp_path / f'network-snapshot-{digits}.pkl').write_text('')
        (tmp_path / f'training-state-{digits}.pt').write_text('')
    files.link(tmp_path / 'network-snapshot-000010.pkl', tmp_path / 'network-snapshot-latest')
    run_dir.prune(tmp_path, None)
    assert len(run_dir.snapshots_of(tmp_path)) == 4
    run_dir.prune(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == ['network-snapshot-000002500.pkl', 'network-snapshot-000010.pkl',
                                            'network-snapshot-latest', 'training-state-000002500.pt', 'training-state-000010.pt']
    assert os.readlink(tmp_path / 'network-snapshot-latest') == 'network-snapshot-000010.pkl'

def test_the_best_snapshot_is_kept(tmp_path):
    scores = {'000001': 30.0, '000002': 5.0, '000003': float('nan'), '000004': 9.0, '000005': 7.0, '000000': 1.0}
    lines = [json.dumps(dict(results=dict(fid1k=score, other=0), snapshot_pkl=f'network-snapshot-{digits}.pkl', cur_nimg=0))
             for digits, score in scores.items()]
    (tmp_path / 'metric-fid1k.jsonl').write_text('\n'.join(lines) + '\n')
    for digits in sorted(scores)[1:]: # 000000 is gone.
        (tmp_path / f'network-snapshot-{digits}.pkl').write_text('')
        (tmp_path / f'training-state-{digits}.pt').write_text('')
    assert run_dir.best_snapshot(tmp_path, 'fid1k', rises=True) == 'network-snapshot-000001.pkl'
    assert run_dir.best_snapshot(tmp_path, 'fid5k', rises=False) is None
    best = run_dir.best_snapshot(tmp_path, 'fid1k', rises=False)
    assert best == 'network-snapshot-000002.pkl'
    run_dir.prune(tmp_path, 1, best)
    assert run_dir.snapshots_of(tmp_path) == ['network-snapshot-000002.pkl', 'network-snapshot-000005.pkl']
    assert (tmp_path / 'training-state-000002.pt').exists() and not (tmp_path / 'training-state-000004.pt').exists()

def test_a_run_that_is_best_before_training(tmp_path):
    from training.report import Reporter
    def reporter(*values):
        scores = [dict(results=dict(fid1k=value), cur_nimg=i * 10, snapshot_pkl='') for i, value in enumerate(values)]
        (tmp_path / 'metric-fid1k.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in scores))
        reporter = Reporter.__new__(Reporter)
        reporter.folder, reporter.metrics = str(tmp_path), ['fid1k']
        return reporter
    words = reporter(50.0, 71.25, 60.5, float('nan')).unimproved()
    assert 'the best fid1k of this run is that of its start, 50, before training' in words and '60.5 at best' in words
    assert reporter(50.0, 71.0, 49.0).unimproved() is None
    assert reporter(50.0).unimproved() is None
    assert run_dir.untrained_and_best(tmp_path, 'fid1k', rises=True) is None
    assert run_dir.untrained_and_best(tmp_path, 'fid5k', rises=False) is None
    nothing = reporter(1.0, 2.0)
    nothing.metrics = []
    assert nothing.unimproved() is None

def test_which_metrics_rise():
    from metrics import metric_main
    rising = [name for name in metric_main.list_valid_metrics() if metric_main.rises(name)]
    assert {'pr50k3_full', 'is50k', 'eqt50k_int', 'eqr50k'} <= set(rising)
    assert not {'fid50k_full', 'kid50k_full', 'ppl2_wend'} & set(rising)

RACER = """
import sys
sys.path.insert(0, sys.argv[1])
from training import run_dir
print('ready', flush=True)
sys.stdin.readline()
for _ in range(10):
    print(run_dir.make(*sys.argv[2:]))
"""

def test_runs_that_start_at_once_have_numbers_of_their_own(tmp_path):
    """Half of them with names of their own, which alone would not collide."""
    command = [sys.executable, '-c', RACER, os.path.dirname(os.path.dirname(run_dir.__file__)), tmp_path / 'runs']
    racers = [subprocess.Popen([*command, f'cfg{i // 2}'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
              for i in range(8)]
    for racer in racers:
        assert racer.stdout.readline() == 'ready\n'
    for racer in racers:
        racer.stdin.write('\n')
        racer.stdin.flush()
    made = [line for racer in racers for line in racer.communicate()[0].splitlines()]
    assert [racer.returncode for racer in racers] == [0] * 8
    names = sorted(os.listdir(tmp_path / 'runs'))
    assert sorted(made) == [str(tmp_path / 'runs' / name) for name in names]
    assert [name.partition('-')[0] for name in names] == [f'{number:05d}' for number in range(80)]

def test_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run_dir, 'PATIENCE', 0)
    hold = 'import fcntl, sys\nf = open(sys.argv[1], "a")\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint(1, flush=True)\nsys.stdin.read()'
    other = subprocess.Popen([sys.executable, '-c', hold, tmp_path / '.lock'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    with pytest.raises(SpiderError, match='--resume: another process trains in'):
        with run_dir.alone(tmp_path):
            raise AssertionError('two at a time')
    other.kill()
    other.communicate()
    with run_dir.alone(tmp_path):
        pass

def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    def write(f):
        f.write(b'half')
        raise OSError(28, 'No space left on device')
    with pytest.raises(SpiderError, match='file cannot be written .No space left on device.'):
        files.write_whole(path, write)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['file']

def make_recorded(path, **changes):
    given = dict(cfg='stylegan2', batch=16, gamma=1.0, glr=0.002)
    config = dict(num_gpus=1, batch_size=16, batch_gpu=16, total_kimg=1, training_set_kwargs=dict(path='set.zip'),
                  data_loader_kwargs=dict(num_workers=0), run_dir='elsewhere', **changes)
    path.mkdir()
    run_dir.write_json(path / run_dir.GIVEN, given)
    run_dir.write_json(path / run_dir.OPTIONS, config)
    return str(path)

def test_which_run_is_meant(tmp_path):
    assert run_dir.find('latest', tmp_path) is None and run_dir.find('a.pkl', tmp_path) is None
    first = make_recorded(tmp_path / '00009-a')
    (tmp_path / '00010-without-options').mkdir()
    assert run_dir.find('latest', tmp_path) == run_dir.find(first, None) == first
    second = make_recorded(tmp_path / '00011-b')
    assert run_dir.find('latest', tmp_path) == second
    assert run_dir.next_run_dir(tmp_path, 'c') == str(tmp_path / '00012-c')
    with pytest.raises(SpiderError, match='holds no training_options.json'):
        run_dir.find(str(tmp_path / '00010-without-options'), None)

def test_recorded_options_hold(tmp_path):
    path = make_recorded(tmp_path / '00000-a')
    c = relaunch.config_of(path, dict(kimg=2.0, gpus=2, workers=3, cfg='stylegan2', outdir='any', data='moved.zip'))
    assert (c.total_kimg, c.num_gpus, c.batch_gpu, c.run_dir) == (2.0, 2, 8, path) and c.training_set_kwargs.path == 'moved.zip'
    assert c.data_loader_kwargs == dict(num_workers=3, prefetch_factor=2)
    assert relaunch.config_of(path, {}).batch_gpu == 16
    for given, words in ((dict(glr=0.01), '--glr: .* started with 0.002, not 0.01'),
                         (dict(mirror=True), '--mirror: .* without it'),
                         (dict(gpus=3), '--gpus: 16 images'),
                         (dict(batch_gpu=5), '--batch-gpu: the 16 images')):
        with pytest.raises(SpiderError, match=words):
            relaunch.config_of(path, given)

#----------------------------------------------------------------------------
