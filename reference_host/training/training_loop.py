"""The main training loop."""

import copy
import json
import os
import textwrap
import time

import numpy as np
import torch

import dnnlib
from metrics import metric_main
from torch_utils import misc, training_stats
from training import ranks, runtime, snapshots
from training.progress import Progress
from training.runtime import SpiderError

#----------------------------------------------------------------------------

def training_loop(
    run_dir                 = '.',      # Output directory.
    training_set_kwargs     = {},       # Options of the training set.
    data_loader_kwargs      = {},       # Options of torch.utils.data.DataLoader.
    G_kwargs                = {},       # Options of the generator.
    D_kwargs                = {},       # Options of the discriminator.
    G_opt_kwargs            = {},       # Options of the generator's optimizer.
    D_opt_kwargs            = {},       # Options of the discriminator's optimizer.
    augment_kwargs          = None,     # Options of the augmentation pipe. None = no augmentation.
    loss_kwargs             = {},       # Options of the loss.
    metrics                 = [],       # Metrics to evaluate at every network snapshot.
    detector                = None,     # Feature network of the metrics.
    metric_at_start         = False,    # Evaluate the metrics before training, too?
    random_seed             = 0,        # Seed of everything random.
    num_gpus                = 1,        # Number of ranks that train together.
    rank                    = 0,        # Rank of this process.
    batch_size              = 4,        # Images per iteration, over all ranks.
    batch_gpu               = 4,        # Images that one rank handles at a time.
    batch_schedule          = None,     # [[kimg, images per iteration], ...]: from then on in place of batch_size. None = never.
    ema_kimg                = 10,       # Half-life of the moving average of G's weights, in kimg.
    ema_rampup              = 0.05,     # The half-life is at most this fraction of the images so far. None = no limit.
    G_reg_interval          = None,     # Regularize G at every n-th iteration. None = within the main loss.
    D_reg_interval          = 16,       # Regularize D at every n-th iteration. None = within the main loss.
    augment_p               = None,     # Augmentation probability at the start. None = that of resume_pkl, else 0.
    ada_target              = None,     # Target of adaptive augmentation. None = fixed probability.
    ada_interval            = 4,        # Iterations between adaptions.
    ada_kimg                = 500,      # Adaption speed: kimg in which the probability can move by one.
    total_kimg              = 25000,    # Length of the training in thousands of real images.
    kimg_per_tick           = 4,        # Interval of progress lines in kimg.
    image_snapshot_ticks    = 50,       # Interval of image snapshots in ticks. None = none.
    network_snapshot_ticks  = 50,       # Interval of network snapshots in ticks. None = none.
    resume_pkl              = None,     # Network pickle to start from.
    resume_kimg             = 0,        # kimg to count from.
    cudnn_benchmark         = True,     # Let cuDNN time its algorithms?
    threads                 = None,     # CPU threads of torch. None = leave as it is.
    abort_fn                = None,     # Called at every tick; training ends when it returns True.
    progress_fn             = None,     # Called with (kimg so far, total kimg).
):
    device = setup_process(random_seed * num_gpus + rank, rank, num_gpus, cudnn_benchmark, threads)
    sizes, sizes_to_load = (batch_sizes(batch_size, batch_schedule or [], resume_kimg) for _ in range(2)) # Loading is ahead.
    training_set, batches = setup_data(training_set_kwargs, data_loader_kwargs, device, random_seed, num_gpus, rank,
                                       sizes_to_load, batch_gpu)
    networks = setup_networks(training_set, G_kwargs, D_kwargs, augment_kwargs, augment_p, resume_pkl, device, batch_gpu,
                              verbose=rank == 0)
    loss = dnnlib.util.construct_class_by_name(device=device, G=networks.G, D=networks.D,
                                               augment_pipe=networks.augment_pipe, **loss_kwargs)
    phases = [*setup_phases('G', networks.G, G_opt_kwargs, G_reg_interval),
              *setup_phases('D', networks.D, D_opt_kwargs, D_reg_interval)]
    averages = moving_averages(networks.G, networks.D, loss)
    augment = AdaptiveAugment(networks.augment_pipe, ada_target, ada_kimg)

    cur_nimg = round(resume_kimg * 1000)
    report = Reporter(run_dir, networks, training_set, training_set_kwargs, metrics, detector, device, batch_gpu,
                      total_kimg, cur_nimg, num_gpus, rank)
    report.start(cur_nimg, network=network_snapshot_ticks is not None, evaluate=metric_at_start)
    if progress_fn is not None:
        progress_fn(cur_nimg // 1000, total_kimg)

    cur_tick, tick_start_nimg, batch_idx, done = 0, cur_nimg, 0, False
    while not done:
        batch_size = next(sizes)
        train_iteration(loss, phases, training_set, next(batches), networks.G.z_dim, device, batch_size, batch_gpu,
                        num_gpus, batch_idx, cur_nimg)
        ranks.average(averages)
        cur_nimg += batch_size
        batch_idx += 1
        if batch_idx % ada_interval == 0:
            augment.adapt(ada_interval * batch_size)
        update_ema(networks.G_ema, networks.G, ema_beta(batch_size, cur_nimg, ema_kimg, ema_rampup))
        report.progress.step(cur_nimg)

        done = cur_nimg >= total_kimg * 1000
        if not done and cur_nimg < tick_start_nimg + kimg_per_tick * 1000:
            continue
        if abort_fn is not None and ranks.agree(abort_fn()):
            done = True
        cur_tick += 1
        tick_start_nimg = cur_nimg
        report.tick(cur_tick, cur_nimg,
            images  = image_snapshot_ticks is not None and (done or cur_tick % image_snapshot_ticks == 0),
            network = network_snapshot_ticks is not None and (done or cur_tick % network_snapshot_ticks == 0))
        if progress_fn is not None:
            progress_fn(cur_nimg // 1000, total_kimg)
    report.close()

def run_rank(rank, run_dir, **options):
    """training_loop() as one of its ranks, with what rank 0 prints in the log of the run."""
    file_name = os.path.join(run_dir, 'log.txt') if rank == 0 else None
    with dnnlib.util.Logger(file_name=file_name, file_mode='a', should_flush=True):
        training_loop(rank=rank, run_dir=run_dir, **options)

#----------------------------------------------------------------------------
# Setup.

def setup_process(seed, rank, num_gpus, cudnn_benchmark, threads):
    """Seeds, backend switches and CPU threads of this rank; returns its device."""
    device = runtime.pick_device(ranks.local_rank())
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = cudnn_benchmark
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if threads is not None:
        torch.set_num_threads(threads)
    training_stats.init_multiprocessing(rank=rank, sync_device=device if num_gpus > 1 else None)
    return device

def batch_sizes(batch_size, schedule, start_kimg):
    """Images of each iteration without an end, for schedule [[kimg, images], ...] in ascending order; batch_size before it."""
    nimg = start_kimg * 1000
    while True:
        size = next((size for kimg, size in reversed(schedule) if nimg >= round(kimg * 1000)), batch_size)
        yield size
        nimg += size

def setup_data(training_set_kwargs, data_loader_kwargs, device, seed, num_gpus, rank, sizes, batch_gpu):
    """The dataset, and an endless iterator of (images [batch_gpu, C, H, W] in [-1, 1], labels), in lists that make up
    this rank's share of a batch; sizes: images of each batch over all ranks."""
    training_set = dnnlib.util.construct_class_by_name(**training_set_kwargs)
    sampler = misc.InfiniteSampler(dataset=training_set, rank=rank, num_replicas=num_gpus, seed=seed)
    indices = iter(sampler)
    shares = ([next(indices) for _ in range(size // num_gpus)] for size in sizes)
    loader = torch.utils.data.DataLoader(dataset=training_set, batch_sampler=shares, **data_loader_kwargs)

    def batches():
        for images, labels in loader:
            images = images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1
            labels = labels.to(device, non_blocking=True)
            yield list(zip(images.split(batch_gpu), labels.split(batch_gpu), strict=True))

    return training_set, batches()

def setup_networks(training_set, G_kwargs, D_kwargs, augment_kwargs, augment_p, resume_pkl, device, batch_gpu, verbose):
    """G and D ready to train, G's moving average, and the augmentation pipe (or None), on the device, equal in all ranks."""
    shape = dict(c_dim=training_set.label_dim, img_resolution=training_set.resolution,
                 img_channels=training_set.num_channels)
    G = dnnlib.util.construct_class_by_name(**G_kwargs, **shape).train().requires_grad_(False)
    D = dnnlib.util.construct_class_by_name(**D_kwargs, **shape).train().requires_grad_(False)
    pipe = None
    if augment_kwargs is not None:
        pipe = dnnlib.util.construct_class_by_name(**augment_kwargs).train().requires_grad_(False)
        pipe.p.fill_(augment_p or 0)
    networks = dnnlib.EasyDict(G=G, D=D, G_ema=copy.deepcopy(G).eval(), augment_pipe=pipe)
    if resume_pkl is not None:
        with ranks.one_first(): # One download for each machine.
            resume_networks(networks, resume_pkl, resume_p=augment_p is None)
    for module in networks.values():
        if module is not None:
            ranks.copy_from_first(misc.params_and_buffers(module.to(device)))
    if verbose:
        z, c = torch.zeros([batch_gpu, G.z_dim], device=device), torch.zeros([batch_gpu, G.c_dim], device=device)
        img = misc.print_module_summary(G, [z, c])
        misc.print_module_summary(D, [img, c])
    return networks

def resume_networks(networks, resume_pkl, resume_p):
    """Copies what a network pickle holds into the networks, by name, and with resume_p the augmentation probability.

    Raises SpiderError where a shape differs."""
    source = snapshots.load_networks(resume_pkl, option='--resume')
    for key in ('G', 'D', 'G_ema'):
        try:
            misc.copy_params_and_buffers(source[key], networks[key], require_all=False)
        except ValueError as err:
            raise SpiderError(f'--resume: {key} of {resume_pkl} does not fit; use the resolution, labels and network '
                              f'options it was trained with ({textwrap.shorten(str(err), 160)})') from err
    pipe, words = networks.augment_pipe, ''
    if resume_p and pipe is not None and source['augment_pipe'] is not None:
        pipe.p.copy_(source['augment_pipe'].p)
        words = f' with augmentation probability {float(pipe.p):.3f}'
    print(f'Resuming from {resume_pkl}{words}')

def setup_phases(name, module, opt_kwargs, reg_interval):
    """The training phases of one network. Lazy regularization (Karras et al. 2020, Appendix B) lets main and
    regularization phase share one optimizer, whose time constants shrink by interval / (interval + 1)."""
    opt_kwargs = dict(opt_kwargs, betas=[float(beta) for beta in opt_kwargs['betas']]) # Integers are refused by torch.
    if reg_interval is None:
        opt = dnnlib.util.construct_class_by_name(params=module.parameters(), **opt_kwargs)
        return [dnnlib.EasyDict(name=name + 'both', module=module, opt=opt, interval=1)]
    ratio = reg_interval / (reg_interval + 1)
    opt_kwargs.update(lr=opt_kwargs['lr'] * ratio, betas=[beta ** ratio for beta in opt_kwargs['betas']])
    opt = dnnlib.util.construct_class_by_name(params=module.parameters(), **opt_kwargs)
    return [dnnlib.EasyDict(name=name + 'main', module=module, opt=opt, interval=1),
            dnnlib.EasyDict(name=name + 'reg', module=module, opt=opt, interval=reg_interval)]

#----------------------------------------------------------------------------
# One iteration.

def train_iteration(loss, phases, training_set, real, z_dim, device, batch_size, batch_gpu, num_gpus, batch_idx,
                    cur_nimg):
    """Runs the phases that are due, each with latents and labels of its own.

    Latents are drawn for the phases that rest, too, so that the random stream does not depend on the intervals."""
    all_z = torch.randn([len(phases) * batch_size // num_gpus, z_dim], device=device)
    all_c = [training_set.get_label(np.random.randint(len(training_set))) for _ in range(len(all_z))]
    all_c = torch.from_numpy(np.stack(all_c)).to(device)
    shares = zip(all_z.split(batch_size // num_gpus), all_c.split(batch_size // num_gpus), strict=True)
    for phase, (z, c) in zip(phases, shares, strict=True):
        if batch_idx % phase.interval == 0:
            run_phase(loss, phase, real, z.split(batch_gpu), c.split(batch_gpu), cur_nimg)

def run_phase(loss, phase, real, gen_z, gen_c, cur_nimg):
    """Accumulates the gradients of a phase over the parts of the batch, and steps its optimizer."""
    phase.opt.zero_grad(set_to_none=True)
    phase.module.requires_grad_(True)
    gain = phase.interval / len(real) # The loss of every part is a mean over that part.
    for (real_img, real_c), z, c in zip(real, gen_z, gen_c, strict=True):
        loss.accumulate_gradients(phase=phase.name, real_img=real_img, real_c=real_c, gen_z=z, gen_c=c, gain=gain,
                                  cur_nimg=cur_nimg)
    phase.module.requires_grad_(False)
    gather_gradients(phase.module)
    phase.opt.step()

def gather_gradients(module):
    """Averages gradients over the ranks, and makes them finite."""
    grads = [param.grad for param in module.parameters() if param.grad is not None]
    ranks.average(grads)
    for grad in grads:
        torch.nan_to_num(grad, nan=0, posinf=1e5, neginf=-1e5, out=grad)

def moving_averages(G, D, loss):
    """What each rank averages over its own images: buffers named *_avg and *_ema, and the mean path length. The means of
    these over the ranks keep the ranks equal."""
    buffers = [buffer for net in (G, D) for name, buffer in net.named_buffers() if name.endswith(('_avg', '_ema'))]
    return buffers + [loss.pl_mean] if isinstance(getattr(loss, 'pl_mean', None), torch.Tensor) else buffers

class AdaptiveAugment:
    """Adapts the augmentation probability p so that the mean sign of D at real images comes to `target` (Karras et al.
    2020, "Training Generative Adversarial Networks with Limited Data", section 3, r_t); p stays fixed with target=None."""

    def __init__(self, pipe, target, kimg):
        self.pipe = pipe
        self.target = target
        self.kimg = kimg    # Thousands of images in which p can move by one.
        self.signs = training_stats.Collector(regex='Loss/signs/real') if self.active() else None

    def active(self):
        return self.pipe is not None and self.target is not None

    def adapt(self, images):
        """images: how many there were since the last time."""
        if self.active():
            self.signs.update()
            direction = np.sign(self.signs['Loss/signs/real'] - self.target)
            self.pipe.p.copy_((self.pipe.p + direction * images / (self.kimg * 1000)).clamp(0, 1))

def ema_beta(batch_size, cur_nimg, ema_kimg, ema_rampup):
    """Weight of the old average after one more batch: 0.5 ^ (batch / half-life)."""
    half_life = ema_kimg * 1000
    if ema_rampup is not None:
        half_life = min(half_life, cur_nimg * ema_rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))

@torch.no_grad()
def update_ema(G_ema, G, beta):
    """Averages the parameters of G; its buffers are copied."""
    for average, param in zip(G_ema.parameters(), G.parameters(), strict=True):
        average.copy_(param.lerp(average, beta))
    for average, buffer in zip(G_ema.buffers(), G.buffers(), strict=True):
        average.copy_(buffer)

#----------------------------------------------------------------------------
# Reports.

class Reporter:
    """Everything a run tells the world: progress lines, stats.jsonl, image grids, network pickles, metrics."""

    def __init__(self, run_dir, networks, training_set, training_set_kwargs, metrics, detector, device, batch_gpu,
                 total_kimg, start_nimg, num_gpus, rank):
        self.run_dir = run_dir
        self.networks = networks
        self.training_set_kwargs = training_set_kwargs
        self.metrics = metrics
        self.metric_kwargs = dict(dataset_kwargs=training_set_kwargs, detector=detector, device=device,
                                  num_gpus=num_gpus, rank=rank)
        self.is_leader = rank == 0
        self.progress = Progress(total_kimg, start_nimg, silent=not self.is_leader)
        self.collector = training_stats.Collector(regex='.*')
        self.start_time = time.time()
        self.stats_jsonl = None
        if self.is_leader:
            self.stats_jsonl = open(os.path.join(run_dir, 'stats.jsonl'), 'a')
            grid_size, images, labels = snapshots.setup_snapshot_image_grid(training_set)
            snapshots.save_image_grid(images, os.path.join(run_dir, 'reals.png'), drange=[0, 255], grid_size=grid_size)
            self.grid = snapshots.SampleGrid(grid_size, labels, networks.G.z_dim, batch_gpu, device)

    def start(self, cur_nimg, network, evaluate):
        """The state before training."""
        self.save_images('fakes_init.png')
        if network or evaluate:
            self.save_network(cur_nimg, write=network, evaluate=evaluate)
        self.progress.restart_clock(cur_nimg)

    def tick(self, cur_tick, cur_nimg, images, network):
        extra = ''
        if torch.cuda.is_available():
            extra = f'   gpu {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB'
            torch.cuda.reset_peak_memory_stats()
        training_stats.report0('Progress/tick', cur_tick)
        training_stats.report0('Progress/kimg', cur_nimg / 1000)
        if self.networks.augment_pipe is not None:
            p = float(self.networks.augment_pipe.p)
            training_stats.report0('Progress/augment', p)
            extra = f'   augment {p:.3f}{extra}'
        training_stats.report0('Timing/total_sec', time.time() - self.start_time)
        self.collector.update()
        self.progress.tick(cur_tick, cur_nimg, self.collector, extra=extra)
        if self.is_leader:
            line = dict(self.collector.as_dict(), timestamp=time.time())
            self.stats_jsonl.write(json.dumps(line) + '\n')
            self.stats_jsonl.flush()
        with self.progress.paused():
            if images:
                self.save_images(f'fakes{cur_nimg // 1000:06d}.png')
            if network:
                self.save_network(cur_nimg, write=True, evaluate=True)

    def save_images(self, fname):
        if self.is_leader:
            self.grid.save(self.networks.G_ema, os.path.join(self.run_dir, fname))

    def save_network(self, cur_nimg, write, evaluate):
        for module in self.networks.values() if self.metric_kwargs['num_gpus'] > 1 else []:
            if module is not None:
                misc.check_ddp_consistency(module)
        data = snapshots.snapshot_data(self.training_set_kwargs, **self.networks)
        fname = os.path.join(self.run_dir, f'network-snapshot-{cur_nimg // 1000:06d}.pkl')
        if write and self.is_leader:
            snapshots.save_pickle(data, fname)
        for metric in self.metrics if evaluate else []:
            result = metric_main.calc_metric(metric=metric, G=data['G_ema'], **self.metric_kwargs)
            if self.is_leader:
                metric_main.report_metric(result, run_dir=self.run_dir, snapshot_pkl=fname, cur_nimg=cur_nimg)

    def close(self):
        if self.is_leader:
            self.stats_jsonl.close()
            self.progress.clear()
            print('Done.')

#----------------------------------------------------------------------------
