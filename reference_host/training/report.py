"""Everything a run tells the world: progress lines, stats.jsonl, image grids, network pickles with their states, metrics."""

import json
import math
import os
import signal
import time

import torch

from metrics import metric_main
from torch_utils import misc, training_stats
from torch_utils.misc import not_finite
from training import collapse, files, ranks, run_dir, runtime, snapshots, state, stopping
from training.progress import Progress
from training.runtime import SpiderError

#----------------------------------------------------------------------------

FIRST_MINUTES = 0.5     # Until the first snapshot by the clock. The time doubles at each one, up to --snap-minutes.

class Diverged(SpiderError):
    """Losses or weights are not finite any more; raised in all ranks."""

class Reporter:
    """One for each rank; rank 0 writes and speaks.

    run: what state.gather() takes, with the rank, num_gpus and batch_gpu."""

    def __init__(self, run, folder, training_set_kwargs, metrics, detector, total_kimg, kimg_per_tick, keep, snap_minutes):
        self.run = run
        self.folder = folder
        self.training_set_kwargs = training_set_kwargs
        self.metrics = metrics
        self.metric_kwargs = dict(dataset_kwargs=training_set_kwargs, detector=detector, device=run.device,
                                  num_gpus=run.num_gpus, rank=run.rank)
        self.only_tick = kimg_per_tick >= total_kimg - run.at.nimg / 1000
        self.whole_kimg = kimg_per_tick >= 1 or self.only_tick
        self.keep = keep
        self.snap_minutes = snap_minutes
        self.wait_minutes = FIRST_MINUTES # Until the next snapshot by the clock.
        self.is_leader = run.rank == 0
        self.progress = Progress(total_kimg, run.at.nimg, silent=not self.is_leader)
        self.collector = training_stats.Collector(regex='.*')
        self.start_time = self.saved_time = time.time()
        self.stats_jsonl = None
        if self.is_leader:
            self.stats_jsonl = open(os.path.join(folder, 'stats.jsonl'), 'a')
            self.grid_size, self.images, labels = snapshots.setup_snapshot_image_grid(run.training_set)
            self.grid = snapshots.SampleGrid(self.grid_size, labels, run.networks.G.z_dim, run.batch_gpu, run.device)
            calls = -(-collapse.IMAGES // run.batch_gpu)
            self.watch = collapse.CollapseWatch(self.images, self.grid.z[:calls], self.grid.c[:calls])

    # What a state keeps of it.

    def state_dict(self):
        logs = {name: os.path.getsize(os.path.join(self.folder, name)) for name in run_dir.LOGS
                if os.path.isfile(os.path.join(self.folder, name))}
        return dict(collector=self.collector.state_dict(), seconds=time.time() - self.start_time, logs=logs,
                    collapse=self.watch.state_dict() if self.is_leader else None)

    def load_state_dict(self, state):
        self.collector.load_state_dict(state['collector'])
        self.start_time = time.time() - state['seconds']
        if self.is_leader and state.get('collapse') is not None: # States of before the alarm have none.
            self.watch.load_state_dict(state['collapse'])

    # Events.

    def start(self, network, evaluate):
        """The state before training."""
        if self.is_leader:
            snapshots.save_image_grid(self.images, os.path.join(self.folder, 'reals.png'), drange=[0, 255],
                                      grid_size=self.grid_size)
        self.save_images('fakes_init.png')
        if network or evaluate:
            name = self.next_name(at_tick=True)
        if network:
            self.save_network(name, evaluate)
        if evaluate:
            self.evaluate(name)
        self.progress.restart_clock(self.run.at.nimg)

    def proceed(self, snapshot, evaluate):
        """The state is restored that belongs to the path `snapshot`; evaluate: metrics were due there, and may be missing."""
        missing = [metric for metric in self.metrics if evaluate and self.run.at.nimg not in self.evaluated(metric)]
        self.evaluate(snapshots.digits(snapshot), ranks.agree(missing))
        print(f'Continuing from {snapshot} and its state: {self.run.at.nimg / 1000:g} kimg')
        self.progress.restart_clock(self.run.at.nimg)

    def tick(self, images, network, evaluate):
        """Prints and writes the statistics of a tick, images, and the network. Raises Diverged."""
        at, extra = self.run.at, ''
        training_stats.report0('Resources/cpu_mem_gb', runtime.memory_gib())
        if torch.cuda.is_available():
            peak = training_stats.report0('Resources/peak_gpu_mem_gb', torch.cuda.max_memory_allocated() / 2**30)
            extra = f'   gpu {peak:.1f} GiB'
            torch.cuda.reset_peak_memory_stats()
        training_stats.report0('Progress/tick', at.tick)
        training_stats.report0('Progress/kimg', at.nimg / 1000)
        if self.run.networks.augment_pipe is not None:
            p = float(self.run.networks.augment_pipe.p)
            training_stats.report0('Progress/augment', p)
            extra = f'   augment {p:.3f}{extra}'
        training_stats.report0('Timing/total_sec', time.time() - self.start_time)
        training_stats.report0('Timing/images_per_sec', self.progress.rate_since_tick(at.nimg))
        self.collector.update()
        self.progress.tick(at.tick, at.nimg, self.collector, extra=extra)
        if self.is_leader:
            line = dict(self.collector.as_dict(), timestamp=time.time())
            self.stats_jsonl.write(json.dumps(strict(line), allow_nan=False) + '\n')
            self.stats_jsonl.flush()
        self.check_losses()
        if self.is_leader:
            signs = [self.collector.mean(f'Loss/signs/{kind}') for kind in ('real', 'fake')]
            self.warn(self.watch.see_tick(*signs, self.run.networks.G))
        name = self.next_name(at_tick=True)
        with self.progress.paused():
            if images:
                self.save_images(f'fakes{name}.png')
            if network:
                self.save_network(name, evaluate)
            if network and evaluate:
                self.evaluate(name)

    def snapshot_is_due(self):
        """Have --snap-minutes, or the shorter time that counts at first, passed since the last one? Rank 0's clock counts."""
        if not self.is_leader or self.snap_minutes is None:
            return False
        return time.time() - self.saved_time > min(self.wait_minutes, self.snap_minutes) * 60

    def save_between_ticks(self):
        """Images and a snapshot by the clock, or because a signal stops the run."""
        name = self.next_name(at_tick=False)
        with self.progress.paused():
            self.save_images(f'fakes{name}.png')
            self.save_network(name, evaluate=False)

    def close(self, signum):
        """signum: the signal that ended training, and is noted; 0 = none did."""
        if self.is_leader:
            self.stats_jsonl.close()
            self.progress.clear()
            self.warn(self.unimproved())
        if not signum:
            print('Done.')
            return
        stopping.note(signum)
        stopping.say(f'Stopped by {signal.Signals(signum).name} at {self.run.at.nimg / 1000:g} kimg: the snapshot and its state '
                     f'are in {self.folder}; --resume={self.folder} continues')

    # Snapshots. Their names sort by time: thousands of images in six digits, and where two would be equal, images in nine.

    def next_name(self, at_tick):
        at = self.run.at
        whole = self.whole_kimg and at_tick and at.nimg // 1000 > at.named // 1000
        at.named = at.nimg
        return f'{at.nimg // 1000:06d}' if whole else f'{at.nimg:09d}'

    def save_images(self, name):
        if self.is_leader:
            self.grid.save(self.run.networks.G_ema, os.path.join(self.folder, name))

    def save_network(self, name, evaluate):
        """The snapshot, then its state, which is of no use without it. Raises Diverged instead of writing bad weights."""
        for module in self.run.networks.values() if self.run.num_gpus > 1 else []:
            if module is not None:
                misc.check_ddp_consistency(module)
        self.check_weights()
        data = state.gather(self.run, evaluate)
        if self.is_leader:
            snapshot = os.path.join(self.folder, f'network-snapshot-{name}.pkl')
            files.check_space(self.folder, size_of(self.run, data), 'the snapshot with its state')
            snapshots.save_pickle(snapshots.snapshot_data(self.training_set_kwargs, **self.run.networks), snapshot)
            state.save(data, snapshot)
            files.link(snapshot, os.path.join(self.folder, 'network-snapshot-latest'))
            run_dir.prune(self.folder, self.keep, self.best())
        self.saved_time, self.wait_minutes = time.time(), self.wait_minutes * 2

    def evaluate(self, name, metrics=None):
        """Computes and writes the metrics of the snapshot, which is saved. One that fails is said, and training goes on."""
        G = snapshots.snapshot_data(self.training_set_kwargs, G_ema=self.run.networks.G_ema)['G_ema']
        metrics = self.metrics if metrics is None else metrics
        shared = metric_main.share(metrics, G=G, **self.metric_kwargs)
        for metric in metrics:
            try:
                result = metric_main.calc_metric(metric=metric, G=G, shared=shared, **self.metric_kwargs)
            except Exception as err: # A metric, of this host or of a plugin, can fail in any way.
                self.metric_failed(metric, name, err)
                continue
            if self.is_leader:
                self.warn(self.watch.see_metric(result.results))
                metric_main.report_metric(result, run_dir=self.folder, cur_nimg=self.run.at.nimg,
                                          snapshot_pkl=os.path.join(self.folder, f'network-snapshot-{name}.pkl'))
                if (best := self.best()) is not None:
                    files.link(os.path.join(self.folder, best), os.path.join(self.folder, 'network-snapshot-best'))

    def best(self):
        """Name of the snapshot with the best value of the first metric; None without a value."""
        metric = next(iter(self.metrics), None)
        return metric and run_dir.best_snapshot(self.folder, metric, rises=metric_main.rises(metric))

    def unimproved(self):
        """A sentence if the first metric, known before training, was better there than ever after; else None."""
        metric = next(iter(self.metrics), None)
        rises = metric is not None and metric_main.rises(metric)
        values = metric and run_dir.untrained_and_best(self.folder, metric, rises)
        if not values or (values[1] >= values[0]) == rises:
            return None
        return f'the best {metric} of this run is that of its start, {values[0]:.4g}, before training, after which it was ' \
               f'{values[1]:.4g} at best; train longer, or give a smaller --glr'

    def metric_failed(self, metric, name, err):
        """Says so. Other ranks may wait inside of the metric for this one, so with them the run ends, by SpiderError."""
        if self.run.num_gpus > 1 and ranks.lost_connection(err):
            raise err
        words = f'{metric} failed at {self.run.at.nimg / 1000:g} kimg ({first_line(err)})'
        if self.run.num_gpus > 1:
            raise SpiderError(f'--metrics: {words}; network-snapshot-{name}.pkl is saved, and --resume continues from it with '
                              'the metric') from err
        self.warn(f'{words}; training goes on without it, and calc_metrics.py computes it from network-snapshot-{name}.pkl')

    def evaluated(self, metric):
        """Numbers of images at which the metric is known."""
        path = os.path.join(self.folder, f'metric-{metric}.jsonl')
        if not os.path.isfile(path):
            return set()
        with open(path) as f:
            return {json.loads(line).get('cur_nimg') for line in f}

    # Divergence and collapse.

    def warn(self, words):
        if words is not None and self.is_leader: # The log has it, too.
            self.progress.clear()
            print(f'Warning: {words}', flush=True)

    def check_losses(self):
        bad = [name for name in self.collector.names() if name.startswith('Loss/') and self.collector.num(name) > 0
               and not math.isfinite(self.collector.mean(name))]
        if bad:
            self.diverged(f'{bad[0]} is not finite')

    def check_weights(self):
        for key, module in self.run.networks.items():
            if module is not None and (name := not_finite(module)):
                self.diverged(f'{name} of {key} is not finite')

    def diverged(self, words):
        kept = ranks.agree(run_dir.snapshots_of(self.folder) if self.is_leader else None)
        last = f'the last good snapshot is {os.path.join(self.folder, kept[-1])}' if kept else 'there is no snapshot yet'
        raise Diverged(f'--on-nan: training diverged by {self.run.at.nimg / 1000:g} kimg ({words}); {last}; lower --glr and '
                       '--dlr or raise --gamma, or take --on-nan=rollback')

#----------------------------------------------------------------------------

def size_of(run, data):
    """Bytes that a snapshot and its state take, about: what is a tensor in the networks, in the bank that the source embeds, and
    in the optimizers."""
    tensors = [tensor for module in run.networks.values() if module is not None for tensor in misc.params_and_buffers(module)]
    tensors += [value for opt in data['optimizers'].values() for moments in opt['state'].values() for value in moments.values()
                if isinstance(value, torch.Tensor)]
    source = getattr(run.networks.G, 'source', None)
    source = getattr(source, 'bank', source) # A generator as source travels as the bank of its images.
    embedded = source.num_embedded() * source.images[0].nbytes if hasattr(source, 'num_embedded') and len(source.images) else 0
    return sum(tensor.nbytes for tensor in tensors) + embedded + (1 << 16)

def first_line(err):
    """What an error says, on one line."""
    text = getattr(err, 'message', None) or str(err) or type(err).__name__
    return f'{type(err).__name__}: {" ".join(text.split())[:160]}'

def strict(value):
    """The value with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

#----------------------------------------------------------------------------
