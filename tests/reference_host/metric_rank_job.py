"""One of the ranks of test_metrics_ranks.py.

    python metric_rank_job.py FOLDER RANK NUM_RANKS
"""

import functools
import os
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'reference_host'))

from metrics import metric_main  # noqa: E402

#----------------------------------------------------------------------------

class Pooled(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_lpips: bool = False):
        return torch.nn.functional.adaptive_avg_pool2d(img.to(torch.float32) / 64, 2).flatten(1)

class Grey(torch.nn.Module):
    z_dim, c_dim, img_resolution, img_channels = 3, 0, 16, 3

    class Synthesis(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.input = torch.nn.Module()
            self.input.register_buffer('transform', torch.eye(3))

        def forward(self, ws, noise_mode, force_fp32):
            ramp = torch.linspace(-1, 1, 16)
            return ws[:, 0, :, None, None] * 0.3 + ramp * ws[:, :1, :1, None] * 0.2 + ramp[:, None] * 0.1

    def __init__(self):
        super().__init__()
        self.synthesis = self.Synthesis()

    def mapping(self, z, c):
        return z[:, None]

    def forward(self, z, c):
        return self.synthesis(self.mapping(z, c), 'const', True)

SIZES = dict(fid=dict(max_real=None, num_gen=100), kid=dict(max_real=30, num_gen=100), pr=dict(max_real=35, num_gen=70),
             ppl=dict(num_samples=30), eqt_int=dict(num_samples=20), eqr=dict(num_samples=8))

def scores(folder, rank, num_ranks, names=SIZES, together=False):
    """Return the scores of every kind of metric at a small size; together: from one pass over generated images."""
    kwargs = dict(G=Grey(), detector=f'{folder}/pooled.pt', device=torch.device('cpu'), num_gpus=num_ranks, rank=rank,
                  dataset_kwargs=dict(class_name='training.dataset.ImageFolderDataset', path=f'{folder}/set.zip'))
    results = {}
    for name in names:
        fn = functools.partial(getattr(metric_main, name), name=name, **SIZES[name])
        fn.pick_detector = getattr(getattr(metric_main, name), 'pick_detector', lambda url: None)
        if together:
            fn.generated = dict(metric_main.GENERATED[fn.func], max_items=SIZES[name]['num_gen'])
        metric_main._metric_dict[name] = fn
    kwargs.update(shared=metric_main.share(names, **kwargs))
    for name in names:
        results.update(metric_main.calc_metric(name, **kwargs).results)
    return results

def main(folder, rank, num_ranks):
    torch.set_num_threads(1)
    os.environ['DNNLIB_CACHE_DIR'] = f'{folder}/disk{rank}' # Separate machines.
    os.environ['LOCAL_RANK'] = '0'
    if not os.path.exists(f'{folder}/pooled.pt'):
        torch.jit.script(Pooled()).save(f'{folder}/pooled.pt')
    if num_ranks > 1:
        torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=num_ranks)
    first = scores(folder, rank, num_ranks)
    again = scores(folder, rank, num_ranks, ['fid', 'kid', 'pr']) # Rank 0 reads the features that it kept; the others have none.
    together = scores(folder, rank, num_ranks, ['fid', 'kid', 'pr'], together=True)
    torch.save((first, again, together), f'{folder}/rank{rank}.pt')
    if num_ranks > 1:
        torch.distributed.destroy_process_group()

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
