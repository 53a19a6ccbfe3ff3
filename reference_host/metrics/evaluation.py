"""The evaluation that calc_metrics.py runs in each of its ranks."""

import torch

from metrics import metric_main, metric_utils
from training import ranks, runtime
from training.snapshots import load_generator

#----------------------------------------------------------------------------

def evaluate(rank, num_gpus, network_pkl, run_dir, metrics, dataset_kwargs, detector, verbose, threads, trust=False):
    """Evaluate metrics of the G_ema of a network pickle.

    Rank 0 prints the results and appends them to the files of run_dir, unless that is None."""
    device = runtime.pick_device(ranks.local_rank())
    if threads is not None:
        torch.set_num_threads(threads)
    with ranks.one_first(): # Each machine downloads once.
        G = load_generator(network_pkl, device, trust)
    kwargs = dict(G=G, dataset_kwargs=dataset_kwargs, detector=detector, num_gpus=num_gpus, rank=rank, device=device,
                  progress=metric_utils.ProgressMonitor(verbose=verbose))
    kwargs.update(shared=metric_main.share(metrics, **kwargs))
    for metric in metrics:
        result = metric_main.calc_metric(metric=metric, **kwargs)
        if rank == 0:
            metric_main.report_metric(result, run_dir=run_dir, snapshot_pkl=network_pkl)

#----------------------------------------------------------------------------
