"""How images reach the training loop: from any place in the sequence on, the same ones in the same order."""

import functools
import hashlib

import torch

import dnnlib
from torch_utils import misc
from training import runtime, stopping

#----------------------------------------------------------------------------

def batch_sizes(batch_size, schedule, start_kimg):
    """Images of each iteration without an end, for schedule [[kimg, images], ...] in ascending order; batch_size before it."""
    nimg = start_kimg * 1000
    while True:
        size = next((size for kimg, size in reversed(schedule) if nimg >= round(kimg * 1000)), batch_size)
        yield size
        nimg += size

def seed_of(*parts):
    """A seed in [0, 2^32) that differs where any of the numbers does."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], 'little')

class Seeded(torch.utils.data.Dataset):
    """A dataset in batches, for a loader whose sampler gives (place, indices): what the dataset draws at random follows from
    seed and place, so that the workers of a loader have no state that would have to be kept."""

    def __init__(self, dataset, *seed):
        self.dataset, self.seed = dataset, seed

    def __len__(self):
        return len(self.dataset)

    def __getitems__(self, request):
        place, indices = request
        with runtime.seeded(seed_of(*self.seed, place), torch.device('cpu')):
            return [self.dataset[idx] for idx in indices]

#----------------------------------------------------------------------------

def setup_data(training_set_kwargs, data_loader_kwargs, device, seed, num_gpus, rank, sizes, batch_gpu, start=0):
    """The dataset, and an endless iterator of (images [batch_gpu, C, H, W] in [-1, 1], labels), in lists that make up
    this rank's share of a batch; sizes: images of each batch over all ranks; start: images that all ranks have had."""
    training_set = dnnlib.util.construct_class_by_name(**training_set_kwargs)
    sampler = misc.InfiniteSampler(dataset=training_set, rank=rank, num_replicas=num_gpus, seed=seed, start=start)
    loader = torch.utils.data.DataLoader(dataset=Seeded(training_set, seed, num_gpus, rank),
                                         batch_sampler=shares(iter(sampler), sizes, num_gpus, start),
                                         worker_init_fn=stopping.ignore,
                                         generator=torch.Generator() if start else None, # A run draws once, at its beginning.
                                         **data_loader_kwargs)

    def batches():
        loaded = iter(loader)
        try:
            for images, labels in loaded:
                images = images.to(device, non_blocking=True).to(torch.float32) / 127.5 - 1
                labels = labels.to(device, non_blocking=True)
                yield list(zip(images.split(batch_gpu), labels.split(batch_gpu), strict=True))
        finally: # An error refers to the loader through its traceback, which would keep it open until the process ends.
            if hasattr(loaded, '_shutdown_workers'):
                loaded._shutdown_workers()

    _open.append(batches())
    return training_set, _open[-1]

_open = [] # Iterators whose workers may run.

def closes_loaders(function):
    """Decorator of a function that calls setup_data(): its workers end with it, also by an error.

    The workers leave signals to the run, so a process that ends with workers would wait for them for ever."""
    @functools.wraps(function)
    def closing(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        finally:
            while _open:
                _open.pop().close()
    return closing

def shares(indices, sizes, num_gpus, start):
    """(images before the batch, this rank's indices of it) for each batch."""
    for size in sizes:
        yield start, [next(indices) for _ in range(size // num_gpus)]
        start += size

#----------------------------------------------------------------------------
