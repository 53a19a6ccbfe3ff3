"""The main training loop."""

import contextlib
import copy
import os

import numpy as np
import torch

import dnnlib
from torch_utils import misc, training_stats
from training import ranks, resuming, runtime, state, stopping
from training import run_dir as run_dirs
from training.loading import batch_sizes, closes_loaders, setup_data
from training.report import Diverged, Reporter

ROLLBACKS = 3   # How often --on-nan=rollback goes back before it gives up.

#----------------------------------------------------------------------------

@closes_loaders
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
    snap_minutes            = None,     # A snapshot also when so many minutes have passed since the last. None = never.
    keep                    = None,     # Keep so many snapshots, the newest. None = all.
    rolls_back              = False,    # Does the caller go back to a state when training diverges?
    resume_pkl              = None,     # Network pickle to start from.
    resume_kimg             = 0,        # kimg to count from.
    state_file              = None,     # Training state to continue from, in place of both.
    reseed                  = 0,        # Not 0 = draw other random numbers from that state on than before.
    cudnn_benchmark         = True,     # Let cuDNN time its algorithms?
    threads                 = None,     # CPU threads of torch. None = leave as it is.
    abort_fn                = None,     # Called at every tick; training ends when it returns True.
    progress_fn             = None,     # Called with (kimg so far, total kimg).
):
    device = setup_process((random_seed * num_gpus + rank) % 2**32, rank, num_gpus, cudnn_benchmark, threads)
    saved = None if state_file is None else state.load(state_file)
    at = state.start(round(resume_kimg * 1000))
    at.update(saved['at'] if saved else {})
    sizes, sizes_to_load = (batch_sizes(batch_size, batch_schedule or [], at.nimg / 1000) for _ in range(2)) # Loading is ahead.
    training_set, batches = setup_data(training_set_kwargs, data_loader_kwargs, device, random_seed, num_gpus, rank,
                                       sizes_to_load, batch_gpu, start=at.shown)
    networks = setup_networks(training_set, G_kwargs, D_kwargs, augment_kwargs, augment_p, None if saved else resume_pkl,
                              device, batch_gpu, verbose=rank == 0 and not saved)
    loss = dnnlib.util.construct_class_by_name(device=device, G=networks.G, D=networks.D,
                                               augment_pipe=networks.augment_pipe, **loss_kwargs)
    phases = [*setup_phases('G', networks.G, G_opt_kwargs, G_reg_interval),
              *setup_phases('D', networks.D, D_opt_kwargs, D_reg_interval)]
    averages = moving_averages(networks.G, networks.D, loss)
    augment = AdaptiveAugment(networks.augment_pipe, ada_target, ada_kimg)
    run = dnnlib.EasyDict(at=at, networks=networks, phases=phases, loss=loss, augment=augment, training_set=training_set,
                          device=device, batch_gpu=batch_gpu, num_gpus=num_gpus, rank=rank, seed=random_seed)
    run.report = report = Reporter(run, run_dir, training_set_kwargs, metrics, detector, total_kimg, kimg_per_tick, keep,
                                   snap_minutes)
    if saved:
        state.restore(run, saved, reseed)
        report.proceed(saved['snapshot'], evaluate=saved['evaluate'])
        saved = None # As large as the networks.
    else:
        needed = rolls_back or metric_at_start or not report.only_tick # Else one snapshot, at the end, is all of a run.
        report.start(network=network_snapshot_ticks is not None and needed, evaluate=metric_at_start)
    if progress_fn is not None:
        progress_fn(at.nimg // 1000, total_kimg)

    signum, done = 0, at.batch > 0 and at.nimg >= total_kimg * 1000
    while not done and not signum:
        batch_size = next(sizes)
        train_iteration(loss, phases, training_set, next(batches), networks.G.z_dim, device, batch_size, batch_gpu,
                        num_gpus, at.batch, at.nimg)
        ranks.average(averages)
        at.update(nimg=at.nimg + batch_size, shown=at.shown + batch_size, batch=at.batch + 1)
        if at.batch % ada_interval == 0:
            augment.adapt(ada_interval * batch_size)
        update_ema(networks.G_ema, networks.G, ema_beta(batch_size, at.nimg, ema_kimg, ema_rampup))
        report.progress.step(at.nimg)

        done = at.nimg >= total_kimg * 1000
        signum, due = ranks.largest([stopping.requested(), report.snapshot_is_due()])
        if not done and at.nimg < at.tick_nimg + kimg_per_tick * 1000:
            if signum or due:
                report.save_between_ticks()
                if progress_fn is not None:
                    progress_fn(at.nimg // 1000, total_kimg)
            continue
        if abort_fn is not None and ranks.agree(abort_fn()):
            done = True
        at.update(tick=at.tick + 1, tick_nimg=at.nimg)
        regular = network_snapshot_ticks is not None and (done or at.tick % network_snapshot_ticks == 0)
        pictured = image_snapshot_ticks is not None and (done or at.tick % image_snapshot_ticks == 0)
        report.tick(images   = pictured or signum or due,
                    network  = regular or signum or due,
                    evaluate = regular and not signum)
        if progress_fn is not None:
            progress_fn(at.nimg // 1000, total_kimg)
    batches.close()
    report.close(signum)

def run_rank(rank, run_dir, state_file=None, on_nan='stop', **options):
    """training_loop() as one of its ranks, with what rank 0 prints in the log of the run, until it ends, is stopped by a
    signal, or diverges and must not roll back, which raises Diverged."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping.Listener())
        if rank == 0:
            stack.enter_context(run_dirs.alone(run_dir))
            run_dirs.tidy(run_dir, state_file)
        stack.enter_context(dnnlib.util.Logger(file_name=os.path.join(run_dir, 'log.txt') if rank == 0 else None, file_mode='a',
                                               should_flush=True))
        for attempt in range(ROLLBACKS + 1):
            try:
                return training_loop(rank=rank, run_dir=run_dir, state_file=state_file, reseed=attempt,
                                     rolls_back=on_nan == 'rollback', **options)
            except Diverged as err:
                state_file = ranks.agree(state.newest(run_dir) if rank == 0 else None)
                if on_nan != 'rollback' or attempt == ROLLBACKS or state_file is None:
                    raise
                print(f'{err.message}\nRolling back to {state_file}, with other random numbers ({attempt + 1} of {ROLLBACKS})')
            if rank == 0:
                run_dirs.tidy(run_dir, state_file, whole_log=True)
            ranks.meet()

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
            resuming.resume(networks, resume_pkl, resume_p=augment_p is None)
    for module in networks.values():
        if module is not None:
            ranks.copy_from_first(misc.params_and_buffers(module.to(device)))
    if verbose:
        z, c = torch.zeros([batch_gpu, G.z_dim], device=device), torch.zeros([batch_gpu, G.c_dim], device=device)
        img = misc.print_module_summary(G, [z, c])
        misc.print_module_summary(D, [img, c])
    return networks

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
    training_stats.report(f'Gradients/{phase.name}', gather_gradients(phase.module))
    phase.opt.step()

def gather_gradients(module):
    """Averages gradients over the ranks, and makes them finite; returns the norm of all of them together, a scalar tensor."""
    grads = [param.grad for param in module.parameters() if param.grad is not None]
    ranks.average(grads)
    for grad in grads:
        torch.nan_to_num(grad, nan=0, posinf=1e5, neginf=-1e5, out=grad)
    return torch.nn.utils.get_total_norm(grads)

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
