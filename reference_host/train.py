"""Trains a GAN on a folder or zip of images.

    python train.py --outdir=training-runs --cfg=stylegan2 --data=images.zip --gpus=1 --batch=16 --gamma=1
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import json
import os

import click
import torch

import dnnlib
from metrics import detectors, metric_main
from training import augment, ranks, relaunch, resuming, run_dir, runtime
from training.option_types import (
    MOST_KIMG,
    Grouped,
    Real,
    Whole,
    file_type,
    parse_list,
    parse_words,
    path_type,
    seed_type,
    threads_type,
)
from training.runtime import SpiderError

#----------------------------------------------------------------------------
# Launch.

def print_options(c):
    metrics = 'none (turn on with --metrics=fid5k)'
    if c.metrics:
        metrics = ', '.join(c.metrics) + (f' with detector {c.detector}' if c.detector is not None else '')
    each = ' for each rank' if c.num_gpus > 1 else ''
    print(f'\nTraining options:\n{json.dumps(c, indent=2)}\n')
    for name, value in (
            ('Output directory',    c.run_dir),
            ('Device',              f'{runtime.pick_device().type}, {c.num_gpus} of them in all' if c.num_gpus > 1 else
                                    runtime.pick_device().type),
            ('CPU threads',         f'{c.threads or torch.get_num_threads()}{each} (set with --threads)'),
            ('Batch size',          f'{c.batch_size} images'),
            ('Training duration',   f'{c.total_kimg:g} kimg'),
            ('Dataset path',        c.training_set_kwargs.path),
            ('Dataset size',        f'{c.training_set_kwargs.max_size} images'),
            ('Dataset resolution',  c.training_set_kwargs.resolution),
            ('Dataset labels',      c.training_set_kwargs.use_labels),
            ('Dataset x-flips',     c.training_set_kwargs.xflip),
            ('Quality metrics',     metrics)):
        print(f'{name + ":":<21s}{value}')
    if c.metrics and detectors.about(c.detector):
        print(detectors.about(c.detector))
    print(flush=True)

def launch_training(c, desc, outdir, dry_run):
    """Makes the numbered run directory, writes the options into it, and trains with the config `c` in all ranks."""
    run_dir.check_outdir(outdir)
    if c.get('resume_pkl') is not None:
        resuming.check(c, say=print if dry_run else None) # A rank says it, too, where the run's log has it.
    c.run_dir = run_dir.next_run_dir(outdir, desc) if dry_run else run_dir.make(outdir, desc)
    print_options(c)
    if dry_run:
        print('Dry run; exiting.')
        return
    run_dir.record(c.run_dir, c, given_options())
    ranks.launch('training.training_loop.run_rank', c.num_gpus, **c)

def continue_training(folder, dry_run):
    """Trains on in a run directory, with the options that are recorded there and what may change."""
    c = relaunch.config_of(folder, given_options())
    metric_main.check_metrics(c.get('metrics', []), c.get('detector'), c.training_set_kwargs.get('resolution'))
    with runtime.named('--data'):
        dataset = dnnlib.util.construct_class_by_name(**c.training_set_kwargs)
        dataset.check_images(ranks.keep_waiting)
    metric_main.check_num_real(c.get('metrics', []), dataset.num_raw_images, c.training_set_kwargs.path)
    print_options(c)
    state_file = run_dir.state_to_continue(folder)
    print(f'Continuing the run in {folder} from {state_file or "its beginning, as it has no snapshot yet"}')
    if dry_run:
        print('Dry run; exiting.')
        return
    ranks.launch('training.training_loop.run_rank', c.num_gpus, state_file=state_file, **c)

def given_options():
    """{name: value} of the options that the user gave, by whatever way."""
    ctx, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    return {name: value for name, value in ctx.params.items() if ctx.get_parameter_source(name) not in (None, default)}

#----------------------------------------------------------------------------
# Options.

def init_dataset_kwargs(data):
    """(options, name) of the dataset at a path, after a look at all of its images."""
    kwargs = dnnlib.EasyDict(class_name='training.dataset.ImageFolderDataset', path=data, use_labels=True, max_size=None,
                             xflip=False)
    with runtime.named('--data'):
        dataset = dnnlib.util.construct_class_by_name(**kwargs)
        class_ids, lines = dataset.number_classes()
        if class_ids is not None:               # Into the options of the run and of its snapshots.
            kwargs.class_ids = class_ids
            dataset = dnnlib.util.construct_class_by_name(**kwargs)
        for line in [dataset.left_out, dataset.check_images(ranks.keep_waiting), *lines]:
            if line is not None:
                print(runtime.printable(line))
        kwargs.resolution = dataset.resolution  # Be explicit about it.
        kwargs.use_labels = dataset.has_labels  # Labels can only be used if there are any.
        kwargs.max_size = len(dataset)          # Be explicit about it.
        return kwargs, dataset.name

def check_batch(opts):
    """Raises SpiderError where the batch cannot be divided as asked."""
    if opts.batch % opts.gpus != 0:
        raise SpiderError(f'--batch: {opts.batch} images do not split evenly over {opts.gpus} ranks (--gpus); choose a multiple')
    if opts.batch // opts.gpus % opts.batch_gpu != 0:
        raise SpiderError(f'--batch: the {opts.batch // opts.gpus} images of a rank are not a multiple of '
                          f'--batch-gpu={opts.batch_gpu}; change one of them')
    if opts.batch_gpu % opts.mbstd_group != 0:
        raise SpiderError(f'--mbstd-group: the {opts.batch_gpu} images handled at a time do not split into groups of '
                          f'{opts.mbstd_group}; choose a divisor of {opts.batch_gpu}')

def check_augmentation(opts):
    """Raises SpiderError where an option of the augmentation belongs to another --aug."""
    for name, modes in (('p', ['fixed']), ('target', ['ada']), ('augpipe', ['ada', 'fixed'])):
        if opts[name] is not None and opts.aug not in modes:
            raise SpiderError(f'--{name}: it has no effect with --aug={opts.aug}; leave it out or use --aug={modes[0]}')

def check_freezed(freezed, resolution):
    """Raises SpiderError where D has fewer layers than --freezed."""
    layers = 3 * (resolution.bit_length() - 3) + 1  # Three in each block from the resolution down to 8, and the colours.
    if freezed > layers:
        raise SpiderError(f'--freezed: D has {layers} layers for {resolution}x{resolution} images, not {freezed}; give at most '
                          f'{layers}')

def check_required():
    """Raises SpiderError for the first option that a new run needs and that nobody gave."""
    ctx = click.get_current_context()
    for param in ctx.command.params:
        if param.name in REQUIRED and ctx.params[param.name] is None:
            raise SpiderError(f'{param.opts[0]}: a new run needs it; give it, or continue a run with --resume')

def check_resume(path):
    """Raises SpiderError unless there is a file to resume from."""
    if path is not None and not dnnlib.util.is_url(path) and not os.path.isfile(path):
        raise SpiderError(f'--resume: {path} does not exist; give a network pickle (network-snapshot-*.pkl) or its URL, a run '
                          'directory, or latest')

#----------------------------------------------------------------------------
# What a --cfg stands for: StyleGAN2 (Karras et al. 2020), and StyleGAN3-T and -R (Karras et al. 2021).

CFG_PRESETS = {
    'stylegan2': dnnlib.EasyDict(
        G_module = 'training.networks_stylegan2', G_kwargs = dict(fused_modconv_default='inference_only'), # Trains faster.
        widen = 1, map_depth = 8, glr = 0.002, style_mixing = 0.9, pl_weight = 2.0, blur = 0),
    'stylegan3-t': dnnlib.EasyDict(
        G_module = 'training.networks_stylegan3', G_kwargs = {},
        widen = 1, map_depth = 2, glr = 0.0025, style_mixing = 0.0, pl_weight = 0.0, blur = 0),
    'stylegan3-r': dnnlib.EasyDict(
        G_module = 'training.networks_stylegan3', G_kwargs = dict(conv_kernel=1, use_radial_filters=True),
        widen = 2, map_depth = 2, glr = 0.0025, style_mixing = 0.0, pl_weight = 0.0, blur = 10),
}

#----------------------------------------------------------------------------
# Config: every option, put where the training loop reads it. All of it is JSON.

def configure_data(c, opts):
    """Adds the dataset and its loader; returns the name of the dataset."""
    c.training_set_kwargs, dataset_name = init_dataset_kwargs(opts.data)
    if opts.cond and not c.training_set_kwargs.use_labels:
        raise SpiderError(f'--cond: {opts.data} has no labels; add them to its dataset.json or use --cond=False')
    if c.training_set_kwargs.use_labels and not opts.cond:
        print('The dataset has labels, which are not used; use them with --cond=True')
    if not opts.cond:
        c.training_set_kwargs.pop('class_ids', None)
    c.training_set_kwargs.update(use_labels=opts.cond, xflip=opts.mirror, random_seed=opts.seed)
    c.data_loader_kwargs = dnnlib.EasyDict(pin_memory=torch.cuda.is_available(), num_workers=opts.workers)
    if opts.workers > 0:
        c.data_loader_kwargs.prefetch_factor = 2
    return dataset_name

def configure_networks(c, opts):
    """Adds the networks of --cfg and their optimizers."""
    half = torch.cuda.is_available() and not opts.fp32
    precision = dict(num_fp16_res=4 if half else 0, conv_clamp=256 if half else None)
    preset = CFG_PRESETS[opts.cfg]
    c.G_kwargs = dnnlib.EasyDict(class_name=f'{preset.G_module}.Generator', z_dim=512, w_dim=512,
                                 mapping_kwargs=dnnlib.EasyDict(num_layers=opts.map_depth or preset.map_depth),
                                 channel_base=opts.cbase * preset.widen, channel_max=opts.cmax * preset.widen,
                                 **preset.G_kwargs, **precision)
    if opts.cfg != 'stylegan2':
        c.G_kwargs.magnitude_ema_beta = 0.5 ** (opts.batch / 20e3)
    c.D_kwargs = dnnlib.EasyDict(class_name='training.networks_stylegan2.Discriminator',
                                 block_kwargs=dnnlib.EasyDict(freeze_layers=opts.freezed),
                                 mapping_kwargs=dnnlib.EasyDict(),
                                 epilogue_kwargs=dnnlib.EasyDict(mbstd_group_size=opts.mbstd_group),
                                 channel_base=opts.cbase, channel_max=opts.cmax, **precision)
    adam = dict(class_name='torch.optim.Adam', betas=[0.0, 0.99], eps=1e-8)
    c.G_opt_kwargs = dnnlib.EasyDict(adam, lr=preset.glr if opts.glr is None else opts.glr)
    c.D_opt_kwargs = dnnlib.EasyDict(adam, lr=opts.dlr)

def sketch_of_G(c):
    """The generator of the config with very few channels, to look at what it can do."""
    resolution = c.training_set_kwargs.resolution
    kwargs = dict(c.G_kwargs, channel_base=resolution, channel_max=1)
    return dnnlib.util.construct_class_by_name(**kwargs, c_dim=0, img_resolution=resolution, img_channels=1)

def configure_loss(c, opts):
    """Adds the loss and the intervals of its regularisation."""
    preset = CFG_PRESETS[opts.cfg]
    mixing, pl_weight = [preset[name] if opts[name] is None else opts[name] for name in ('style_mixing', 'pl_weight')]
    c.loss_kwargs = dnnlib.EasyDict(class_name='training.loss.StyleGAN2Loss', r1_gamma=opts.gamma,
                                    style_mixing_prob=mixing, pl_weight=pl_weight, pl_no_weight_grad=True)
    if preset.blur and opts.resume is None: # Keeps D from looking at fine detail before G has found its shapes.
        c.loss_kwargs.update(blur_init_sigma=preset.blur, blur_fade_kimg=opts.batch * 200 / 32)
    c.update(G_reg_interval=4 if pl_weight > 0 else None, D_reg_interval=16)

def configure_augmentation(c, opts):
    """Adds the augmentation pipe, and what sets its probability."""
    if opts.aug == 'noaug':
        return
    pipe = augment.augpipe_specs[opts.augpipe or 'bgc']
    c.augment_kwargs = dnnlib.EasyDict(class_name='training.augment.AugmentPipe', **pipe)
    if opts.aug == 'fixed':
        c.augment_p = 0.2 if opts.p is None else opts.p
    else:
        c.update(ada_target=0.6 if opts.target is None else opts.target, ada_kimg=500 if opts.resume is None else 100)

def configure_training(c, opts):
    """Adds the schedule."""
    c.update(num_gpus=opts.gpus, batch_size=opts.batch, batch_gpu=opts.batch_gpu, random_seed=opts.seed)
    c.update(total_kimg=opts.kimg, kimg_per_tick=opts.tick)
    c.update(image_snapshot_ticks=opts.snap, network_snapshot_ticks=opts.snap)
    c.update(snap_minutes=opts.snap_minutes, keep=opts.keep, on_nan=opts.on_nan)
    c.update(ema_kimg=opts.batch * 10 / 32, cudnn_benchmark=not opts.nobench)
    c.threads = runtime.pick_threads(opts.threads, ranks.num_local(opts.gpus))
    if opts.resume is not None:
        c.update(resume_pkl=opts.resume, ema_rampup=None) # The average starts from the resumed one.

#----------------------------------------------------------------------------

REQUIRED = ('outdir', 'cfg', 'data', 'batch', 'gamma')  # By a new run. One that continues has them recorded.

@click.command(cls=Grouped, context_settings=dict(max_content_width=120),
               headings=dict(outdir='Options of a new run', cond='Features', p='Hyperparameters', desc='Run'))

# Required.
@click.option('--outdir', help='Folder to put the run into  [required]', metavar='DIR', type=path_type)
@click.option('--cfg', help='Base configuration  [required]', type=click.Choice(list(CFG_PRESETS)))
@click.option('--data', help='Training images  [required]', metavar='[ZIP|DIR]', type=path_type)
@click.option('--gpus', help='Number of ranks: GPUs, or processes on a CPU  [default: 1; under torchrun, its ranks]',
              metavar='INT', type=Whole(1, 1024))
@click.option('--batch', help='Images per iteration  [required]', metavar='INT', type=Whole(1, 2**20))
@click.option('--gamma', help='Weight of R1  [required]', metavar='FLOAT', type=Real(0, 10**6))

# Features.
@click.option('--cond', help='Train with labels', metavar='BOOL', type=bool, default=False, show_default=True)
@click.option('--mirror', help='Add mirrored images', metavar='BOOL', type=bool, default=False, show_default=True)
@click.option('--aug', help='Augmentation', type=click.Choice(['noaug', 'ada', 'fixed']),
              default='ada', show_default=True)
@click.option('--resume', help='Continue exactly, in its directory, a run or the latest run of --outdir, with the options it was '
              'started with; or fine-tune a network pickle in a new run', metavar='[latest|RUN_DIR|PKL|URL]', type=file_type)
@click.option('--freezed', help='Freeze the first layers of D', metavar='INT',
              type=Whole(0, 100), default=0, show_default=True)

# Hyperparameters.
@click.option('--p', help='Probability of --aug=fixed  [default: 0.2]', metavar='FLOAT',
              type=Real(0, 1))
@click.option('--target', help='Mean sign of D that --aug=ada steers to  [default: 0.6]', metavar='FLOAT',
              type=Real(-1, 1))
@click.option('--augpipe', help='What may be augmented: b(lit) g(eometry) c(olour) f(ilter) n(oise) c(utout)  [default: bgc]',
              type=click.Choice(list(augment.augpipe_specs)))
@click.option('--batch-gpu', help='Images handled at a time  [default: all]', metavar='INT', type=Whole(1, 2**20))
@click.option('--cbase', help='Feature maps times resolution', metavar='INT',
              type=Whole(1, 2**22), default=32768, show_default=True)
@click.option('--cmax', help='Most feature maps', metavar='INT',
              type=Whole(1, 8192), default=512, show_default=True)
@click.option('--glr', help='Learning rate of G  [default: 0.002, 0.0025 for stylegan3]', metavar='FLOAT',
              type=Real(0, 10))
@click.option('--dlr', help='Learning rate of D', metavar='FLOAT',
              type=Real(0, 10), default=0.002, show_default=True)
@click.option('--map-depth', help='Layers of the mapping network  [default: 8, 2 for stylegan3]', metavar='INT',
              type=Whole(1, 64))
@click.option('--style-mixing', help='Probability of mixing styles; 0 suits images of 32 pixels and less  '
              '[default: 0.9, 0 for stylegan3]', metavar='FLOAT', type=Real(0, 1))
@click.option('--pl-weight', help='Weight of path length regularization; 0 suits images of 32 pixels and less  '
              '[default: 2, 0 for stylegan3]', metavar='FLOAT', type=Real(0, 10**6))
@click.option('--mbstd-group', help='Group size of the minibatch standard deviation', metavar='INT',
              type=Whole(1, 4096), default=4, show_default=True)

# The rest.
@click.option('--desc', help='Words for the name of the run directory', metavar='STR',
              type=parse_words)
@click.option('--metrics', help='Quality metrics', metavar='[NAME|A,B,C|none]',
              type=parse_list, default='none', show_default=True)
@click.option('--detector', help='Feature network of the metrics; a TorchScript file is code that will run',
              metavar='[FILE.pt|URL|NAME]', type=file_type)
@click.option('--metric-at-start', help='Evaluate the metrics before training, too', metavar='BOOL',
              type=bool, default=False, show_default=True)
@click.option('--kimg', help='Length of the training in thousands of images', metavar='KIMG',
              type=Real(0, MOST_KIMG, min_open=True), default=25000, show_default=True)
@click.option('--tick', help='Interval of progress lines', metavar='KIMG',
              type=Real(0, MOST_KIMG, min_open=True), default=4, show_default=True)
@click.option('--snap', help='Interval of snapshots', metavar='TICKS',
              type=Whole(1, 10**9), default=50, show_default=True)
@click.option('--snap-minutes', help='Also images and a snapshot when so many minutes have passed since the last; the first ones '
              'come sooner', metavar='MINUTES', type=Real(0, 10**7, min_open=True))
@click.option('--keep', help='Keep this many snapshots and their states, the newest, and the best by the first of --metrics  '
              '[default: all]', metavar='INT', type=Whole(1, 10**6))
@click.option('--on-nan', help='When losses or weights are no longer finite: stop, or go back to the last snapshot and on with '
              'other random numbers', type=click.Choice(['stop', 'rollback']), default='stop', show_default=True)
@click.option('--seed', help='Random seed', metavar='INT', type=seed_type, default=0, show_default=True)
@click.option('--fp32', help='No mixed precision (never on a CPU)', metavar='BOOL',
              type=bool, default=False, show_default=True)
@click.option('--nobench', help='No cuDNN benchmarking', metavar='BOOL', type=bool, default=False, show_default=True)
@click.option('--workers', help='Processes that load data', metavar='INT',
              type=Whole(0, 256), default=2, show_default=True)
@click.option('--threads', help='CPU threads of each rank  [default on a CPU: all cores, at most 8]', metavar='INT',
              type=threads_type)
@click.option('-n', '--dry-run', help='Print the options and exit', is_flag=True)
@ranks.entry
def main(**kwargs):
    """Train a GAN on a folder or zip of images, as dataset_tool.py writes it.

    Example, on a CPU:

    \b
    python train.py --outdir=training-runs --cfg=stylegan2 --data=images.zip --gpus=1 --batch=16 --gamma=1 \\
        --cbase=4096 --cmax=64 --kimg=100 --tick=1 --snap=10
    """
    opts = dnnlib.EasyDict(kwargs)
    if (folder := run_dir.find(opts.resume, opts.outdir)) is not None:
        continue_training(folder, opts.dry_run)
        return
    check_required()
    if opts.resume == 'latest':
        print(f'No run in {opts.outdir} yet: a new one starts')
        opts.resume = None
    opts.gpus = opts.gpus or ranks.num_started()
    opts.batch_gpu = opts.batch_gpu or max(opts.batch // opts.gpus, 1)
    ranks.check(opts.gpus)
    check_batch(opts)
    check_augmentation(opts)
    check_resume(opts.resume)
    run_dir.check_outdir(opts.outdir)

    c = dnnlib.EasyDict()
    dataset_name = configure_data(c, opts)
    check_freezed(opts.freezed, c.training_set_kwargs.resolution)
    configure_networks(c, opts)
    configure_loss(c, opts)
    configure_augmentation(c, opts)
    configure_training(c, opts)
    metric_main.check_metrics(opts.metrics, opts.detector, c.training_set_kwargs.resolution, get_G=lambda: sketch_of_G(c))
    metric_main.check_num_real(opts.metrics, c.training_set_kwargs.max_size, opts.data)
    c.update(metrics=opts.metrics, detector=opts.detector, metric_at_start=opts.metric_at_start)

    desc = f'{opts.cfg}-{dataset_name}-gpus{opts.gpus}-batch{opts.batch}-gamma{opts.gamma:g}'
    if opts.desc is not None:
        desc += f'-{opts.desc}'
    launch_training(c=c, desc=desc, outdir=opts.outdir, dry_run=opts.dry_run)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main()
