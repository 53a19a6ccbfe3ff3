"""Evaluates quality metrics of a network pickle.

    python calc_metrics.py --network=network-snapshot-000100.pkl --metrics=fid5k --detector=inception.pt
"""
if __import__('importlib.util').util.find_spec('spider_plugin') or __name__ == '__main__' and print('spider-plugin is not installed: going on without it', file=__import__('sys').stderr): import spider_plugin.hosts.hook  # attaches spider-plugin  # noqa

import os

import click
import torch

import dnnlib
from metrics import detectors, metric_main
from training import option_types, ranks, runtime
from training.runtime import SpiderError
from training.snapshots import load_generator, load_training_set, trust_option

#----------------------------------------------------------------------------

def training_set_of(network_pkl, G, data, trust):
    """Return the options of the dataset the network was trained on, or None.

    They are needed without --data; with it, they may say which number in a dataset.json each class had."""
    if data is None:
        return load_training_set(network_pkl, trust)
    try:
        return load_training_set(network_pkl, trust) if G.c_dim > 0 else None
    except SpiderError: # For what hosts do not write, whose remedy is --data.
        return None

def pick_dataset_kwargs(trained_on, data, mirror):
    """Return the options of the dataset to compare with, the one at `data` or the one the network was trained on."""
    if data is not None:
        kwargs = dnnlib.EasyDict(class_name='training.dataset.ImageFolderDataset', path=data)
        if trained_on and trained_on.get('class_ids') is not None:
            kwargs.class_ids = trained_on['class_ids'] # So that a class is the same in both.
    elif trained_on:
        kwargs = dnnlib.EasyDict(trained_on)
    else:
        raise SpiderError('--data: the network pickle does not name its training set; give a folder or zip')
    if mirror is not None:
        kwargs.xflip = mirror
    return kwargs

def match_dataset(kwargs, G, metrics):
    """Complete the options by the sizes that G needs. Raises SpiderError if the dataset does not fit G or the metrics."""
    with runtime.named('--data'):
        kwargs.use_labels = G.c_dim != 0
        dataset = dnnlib.util.construct_class_by_name(**kwargs)
        found = [dataset.num_channels, dataset.resolution, dataset.label_dim]
        needed = [G.img_channels, G.img_resolution, G.c_dim]
        if found != needed:
            raise SpiderError(f'{kwargs.path} has channels, resolution and label size {found}, but the network has {needed}; '
                              'give the dataset it was trained on')
        kwargs.resolution = dataset.resolution
    metric_main.check_num_real(metrics, dataset.num_raw_images, kwargs.path)
    return kwargs

#----------------------------------------------------------------------------

@click.command(context_settings=dict(max_content_width=120))
@click.option('--network', 'network_pkl', help='Network pickle', metavar='[PATH|URL]', type=option_types.file_type, required=True)
@click.option('--metrics', help='Quality metrics', metavar='[NAME|A,B,C|none]',
              type=option_types.parse_list, default='fid50k_full', show_default=True)
@click.option('--detector', help='Feature network; a TorchScript file is code that will run', metavar='[FILE.pt|URL|NAME]',
              type=option_types.file_type)
@click.option('--data', help='Real images  [default: those it was trained on]', metavar='[ZIP|DIR]', type=option_types.path_type)
@click.option('--mirror', help='Add mirrored real images  [default: as in training]', metavar='BOOL', type=bool)
@click.option('--gpus', help='Number of ranks: GPUs, or processes on a CPU  [default: 1; under torchrun, its ranks]',
              metavar='INT', type=option_types.Whole(1, 1024))
@click.option('--verbose', help='Print progress', metavar='BOOL', type=bool, default=True, show_default=True)
@click.option('--threads', help='CPU threads of each rank  [default on a CPU: all cores, at most 8]', metavar='INT',
              type=option_types.threads_type)
@trust_option
@ranks.entry
def calc_metrics(network_pkl, metrics, detector, data, mirror, gpus, verbose, threads, trust):
    """Evaluate quality metrics of a network pickle.

    Each result is printed as a line of JSON. If the pickle is in a run directory of train.py, the result is also appended to
    metric-NAME.jsonl there. A detector is any TorchScript file that maps uint8 images [N, 3, H, W] to features [N, F], or
    one of inception, demo, and lite1 of the plugin; scores can be compared only with scores of the same detector. TorchScript is
    code, so give a file that you trust.

    \b
    python calc_metrics.py --network=RUN_DIR/network-snapshot-000100.pkl --metrics=fid5k,sid5k
    """
    gpus = gpus or ranks.num_started()
    ranks.check(gpus)
    G = load_generator(network_pkl, torch.device('cpu'), trust)
    metric_main.check_metrics(metrics, detector, G.img_resolution, get_G=lambda: G)
    dataset_kwargs = {}
    if data is not None or G.c_dim > 0 or any(map(metric_main.reads_images, metrics)): # Labels are drawn from it, too.
        trained_on = training_set_of(network_pkl, G, data, trust)
        dataset_kwargs = match_dataset(pick_dataset_kwargs(trained_on, data, mirror), G, metrics)

    run_dir = os.path.dirname(os.path.abspath(network_pkl))
    if not os.path.isfile(os.path.join(run_dir, 'training_options.json')):
        run_dir = None
    if detectors.about(detector):
        print(detectors.about(detector))
    threads = runtime.pin_threads(threads, ranks.num_local(gpus))
    ranks.launch('metrics.evaluation.evaluate', gpus, num_gpus=gpus, network_pkl=network_pkl, run_dir=run_dir, metrics=metrics,
                 dataset_kwargs=dataset_kwargs, detector=detector, verbose=verbose, threads=threads,
                 trust=trust)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    calc_metrics()
