"""A run that is watched from inside a loop with the variables of NVlabs' loops: its page, its sources, its trackers."""

import json
import sys

import numpy as np
import PIL.Image
import pytest
import torch

from spider_plugin.portable.source.bank import ImageBank
from spider_plugin.report.command import write_report
from spider_plugin.training import run_watch, trackers
from spider_plugin.training.run_watch import RunWatch

IDENTITY = dict(name='toy', sha256='0', transform='', licence='')

class Network:
    """A generator with a source of two images, one black, one white."""

    def __init__(self):
        images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
        self.source = ImageBank.from_images(images, IDENTITY)

def training_loop(run_dir, ticks=2, progress_fn=None, G_ema=None, rank=0):
    """Writes what a loop of NVlabs writes, in its order."""
    grid_size, grid_z, grid_c = (4, 2), torch.randn([8, 64]).split(4), torch.zeros([8, 0]).split(4)
    picture = PIL.Image.new('RGB', (64, 32))
    picture.save(run_dir / 'fakes_init.png')
    with open(run_dir / 'stats.jsonl', 'w') as stats:
        progress_fn(0, 1)
        for tick in range(ticks):
            picture.save(run_dir / f'fakes{tick:06d}.png')
            with open(run_dir / 'metric-fid.jsonl', 'a') as file:
                file.write(json.dumps(dict(results=dict(fid=5.0 - tick), snapshot_pkl=f'network-snapshot-{tick:06d}.pkl')) + '\n')
            stats.write(json.dumps({'Progress/kimg': dict(num=1, mean=tick, std=0), 'timestamp': 7.0}) + '\n')
            stats.flush()
            progress_fn(tick, 1)
    return [grid_size, grid_z, grid_c, G_ema, rank]

@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / '00000-run'
    folder.mkdir()
    (folder / 'training_options.json').write_text(json.dumps(dict(training_set_kwargs=dict(resolution=16))))
    return folder

def watched(run_dir, record=None, write_page=lambda folder: write_report([folder]), **options):
    arguments = dict(run_dir=run_dir, progress_fn=None, **options)
    watch = RunWatch(arguments, record or {}, write_page)
    with watch.applied():
        return training_loop(**arguments)

#----------------------------------------------------------------------------

def test_a_page_and_the_sources(run_dir):
    pages = []
    z = watched(run_dir, G_ema=Network(), write_page=lambda folder: pages.append(write_report([folder]).read_text()))[1]
    assert len(pages) == 3 and 'fid, lower is better' in pages[-1] and pages[-1].count('class="cell source"') == 8
    sources = np.asarray(PIL.Image.open(run_dir / 'sources.png'))
    assert sources.shape == (8, 16, 3)
    shades = Network().source.sample(torch.cat(z))[:, 0, 0, 0]
    assert [int(sources[4 * (i // 4), 4 * (i % 4), 0]) for i in range(8)] == [255 * int(shade > 0) for shade in shades]

def test_a_generator_without_a_source_has_no_picture_of_it(run_dir):
    watched(run_dir, G_ema=torch.nn.Module())
    assert not (run_dir / 'sources.png').exists() and (run_dir / 'report.html').exists()

def test_a_tick_without_a_snapshot_writes_no_page(run_dir, monkeypatch):
    pages = []
    monkeypatch.setattr(RunWatch, '_pictures', lambda self: ['the same'])
    watched(run_dir, write_page=pages.append)
    assert pages == [str(run_dir)]

def test_the_progress_of_the_host_is_still_said(run_dir):
    said = []
    arguments = dict(run_dir=run_dir, progress_fn=lambda *args: said.append(args))
    with RunWatch(arguments, {}, lambda folder: None).applied():
        training_loop(**arguments)
    assert said == [(0, 1), (0, 1), (1, 1)]

def test_what_fails_is_said_once_and_stops_nothing(run_dir, capsys):
    def fail(folder):
        raise OSError('the disk is full')
    assert watched(run_dir, write_page=fail)
    assert capsys.readouterr().err == 'Warning: The report failed (OSError: the disk is full); training goes on\n'

def test_a_source_that_is_lost_stops_nothing(run_dir, capsys):
    G = Network()
    G.source.key = None
    assert watched(run_dir, G_ema=G)
    assert capsys.readouterr().err.count('The picture of the sources failed') == 1 and (run_dir / 'report.html').exists()

#----------------------------------------------------------------------------
# Trackers.

class Tracker:
    made = []

    def __init__(self, run_dir, options, nimg):
        self.options, self.nimg, self.got, self.closed = options, nimg, [], False
        Tracker.made.append(self)

    def numbers(self, values, nimg, seconds=None):
        self.got.append((values, nimg, seconds))

    def picture(self, name, image, nimg):
        self.got.append((name, image.size, nimg))

    def close(self):
        self.closed = True

@pytest.fixture
def tracker(monkeypatch):
    monkeypatch.setitem(trackers.OPENERS, 'toy', Tracker)
    monkeypatch.setattr(Tracker, 'made', [])
    return Tracker

def test_trackers_get_each_line_once(run_dir, tracker):
    watched(run_dir, dict(track=['toy']))
    made, = tracker.made
    assert made.closed and made.nimg == 0 and made.options['training_set_kwargs'] == dict(resolution=16)
    numbers = [entry for entry in made.got if isinstance(entry[0], dict)]
    assert numbers == [({'Progress/kimg': 0}, 0, 7.0), ({'Metrics/fid': 5.0}, 0, None),
                       ({'Progress/kimg': 1}, 1000, 7.0), ({'Metrics/fid': 4.0}, 1000, None)]
    pictures = [entry for entry in made.got if entry not in numbers]
    assert pictures == [('Images/fakes', (64, 32), nimg) for nimg in (0, 0, 1000)]

def test_a_run_that_continues_sends_nothing_twice(run_dir, tracker):
    watched(run_dir, dict(track=['toy']))
    lines = (run_dir / 'stats.jsonl').read_text()
    tails = run_watch._Tails(str(run_dir))
    assert tails.skip() == 1000 and list(tails.numbers()) == [] == list(tails.pictures())
    (run_dir / 'stats.jsonl').write_text(lines + '{"Progress/kimg": {"mean": 2}}\n{"Progress/k')
    assert [nimg for _, nimg, _ in tails.numbers()] == [2000]
    (run_dir / 'stats.jsonl').write_text(lines)     # the run went back
    assert list(tails.numbers()) == []

def test_a_tracker_that_fails_stops_nothing(run_dir, tracker, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError('no network')
    monkeypatch.setattr(tracker, 'numbers', fail)
    monkeypatch.setitem(trackers.OPENERS, 'bad', fail)
    assert watched(run_dir, dict(track=['bad', 'toy'])) and tracker.made[0].closed
    err = capsys.readouterr().err
    assert err.count('The tracker Tracker failed (RuntimeError: no network); training goes on') == 1 and 'The tracker bad' in err

def test_tensorboard(run_dir):
    pytest.importorskip('tensorboard')
    watched(run_dir, dict(track=['tensorboard']))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run_dir)).Reload()
    assert [(event.step, event.value) for event in events.Scalars('Metrics/fid')] == [(0, 5.0), (1000, 4.0)]
    assert 'Progress/kimg' in events.Tags()['scalars'] and 'Images/fakes' in events.Tags()['images']

def test_wandb_offline(run_dir, monkeypatch):
    pytest.importorskip('wandb')
    for name in ('WANDB_API_KEY', 'WANDB_MODE'):
        monkeypatch.delenv(name, raising=False)
    watched(run_dir, dict(track=['wandb']))
    stored, = (run_dir / 'wandb').glob('offline-run-*/run-*.wandb')
    assert b'Metrics/fid' in stored.read_bytes()
    assert 'wandb' in sys.modules
