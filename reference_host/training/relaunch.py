"""--resume=RUN_DIR and --resume=latest: a run continues in its directory, with the options that are recorded there."""

import dnnlib
from training import ranks, run_dir
from training.runtime import SpiderError

# What may change when a run continues, and where its config has it.
def set_workers(c, workers):
    c.data_loader_kwargs['num_workers'] = workers
    c.data_loader_kwargs.pop('prefetch_factor', None)
    if workers > 0:
        c.data_loader_kwargs['prefetch_factor'] = 2

CHANGEABLE = {
    'kimg':         lambda c, value: c.update(total_kimg=value),
    'gpus':         lambda c, value: c.update(num_gpus=value),
    'batch_gpu':    lambda c, value: c.update(batch_gpu=value),
    'snap':         lambda c, value: c.update(image_snapshot_ticks=value, network_snapshot_ticks=value),
    'snap_minutes': lambda c, value: c.update(snap_minutes=value),
    'keep':         lambda c, value: c.update(keep=value),
    'on_nan':       lambda c, value: c.update(on_nan=value),
    'threads':      lambda c, value: c.update(threads=value),
    'data':         lambda c, value: c.training_set_kwargs.update(path=value),
    'workers':      set_workers,
}
ELSEWHERE = ('resume', 'outdir', 'dry_run', 'preset')   # These say which run, not how it trains.

#----------------------------------------------------------------------------

def config_of(folder, given):
    """The config of the run in a directory, with what the user gives anew; given: {name of an option of train.py: value}.

    Raises SpiderError where another option is given with another value than at the start of the run."""
    c = dnnlib.EasyDict(run_dir.read_json(f'{folder}/{run_dir.OPTIONS}'))
    check_given(folder, given)
    for name in CHANGEABLE.keys() & given.keys():
        CHANGEABLE[name](c, given[name])
    if ranks.started_from_outside():
        c.num_gpus = ranks.num_started()
    ranks.check(c.num_gpus)
    check_split(c, given)
    c.run_dir = folder
    return c

def check_given(folder, given):
    """Raises SpiderError where an option would change what the run has recorded."""
    before = run_dir.read_json(f'{folder}/{run_dir.GIVEN}')
    for name in sorted(given.keys() - CHANGEABLE.keys() - set(ELSEWHERE)):
        now, option = run_dir.plain(given[name]), f'--{name.replace("_", "-")}'
        if name not in before:
            raise SpiderError(f'{option}: the run in {folder} was started without it and continues with its own options; leave '
                              'it out, or start a new run')
        if before[name] != now:
            raise SpiderError(f'{option}: the run in {folder} was started with {before[name]}, not {now}, and continues with its '
                              'own options; leave it out, or start a new run')

def check_split(c, given):
    """Lets a rank handle at most its share of a batch at a time. Raises SpiderError where the batch cannot be divided."""
    sizes = [c.batch_size, *[size for _kimg, size in c.get('batch_schedule') or []]]
    for size in sizes:
        if size % c.num_gpus != 0:
            raise SpiderError(f'--gpus: {size} images do not split evenly over {c.num_gpus} ranks; choose another '
                              'number')
    if 'batch_gpu' not in given:
        c.batch_gpu = min(c.batch_gpu, *[size // c.num_gpus for size in sizes])
    for size in sizes:
        if size // c.num_gpus % c.batch_gpu != 0:
            raise SpiderError(f'--batch-gpu: the {size // c.num_gpus} images of a rank are not a multiple of {c.batch_gpu}; '
                              'give a divisor')

#----------------------------------------------------------------------------
