"""--save-state: a training state beside each snapshot of an attached host, from which --resume continues."""

import hashlib
import json

from spider_plugin.errors import SpiderError
from spider_plugin.options.types import Option

OPTIONS = [
    Option('--save-state',      bool,   False,      None,   'In attached hosts: write the state of training beside each '
           'snapshot, and continue from it with --resume', 'Resume options'),
]

# What must not change where training continues, and in it the entries that may: where images are, a blur for fine-tuning, the
# length of a run, and how an optimizer computes its step.
SAME = ('training_set_kwargs', 'G_kwargs', 'D_kwargs', 'G_opt_kwargs', 'D_opt_kwargs', 'loss_kwargs', 'augment_kwargs',
        'batch_size', 'G_reg_interval', 'D_reg_interval', 'random_seed')
FREE = ('path', 'blur_init_sigma', 'fade_steps', 'fused')

def apply_state(c, options, resume, host):
    """Lets the host's loop keep training states (training/loop_state.py); lines for the launch log.

    resume: the snapshot that the user gave, or None. Raises SpiderError where its state is of no use, and in a host that
    cannot have one."""
    if not options['save_state']:
        return []
    if host.loop_takes('state_file'):
        raise SpiderError('--save-state has no effect in this host, which keeps a state beside each snapshot anyway; leave it '
                          'out, and continue a run with --resume=RUN_DIR.')
    if not host.loop_takes('progress_fn'):
        raise SpiderError('--save-state finds no progress_fn in this host\'s training loop; leave it out, or use a host like '
                          'NVlabs/stylegan3.')
    same = {name: _digest(c.get(name)) for name in SAME}
    c['spider_state'] = dict(same=same, resume=None)
    if resume is None:
        return [_line('beside each snapshot')]
    from spider_plugin.training.loop_state import load
    state = load(host.local_file(resume), same)
    if state is None:
        return [_line(f'beside each snapshot; there is none beside {resume}, so it is fine-tuned')]
    c['spider_state']['resume'] = host.local_file(resume)
    counts_on = host.loop_takes('resume_kimg')  # Otherwise images are counted from 0, where a ramp-up would forget the average,
    c.update({name: value for name, value in state['schedules'].items() if counts_on or name != 'ema_rampup'})
    if counts_on and state['blur'] is not None: # and a blur begin again.
        c['loss_kwargs']['blur_init_sigma'] = state['blur']
    return [_line(f'beside each snapshot, and continues that of {resume}')]

def _line(words):
    return f'{"Training state:":<21s}{words}'

def _digest(value):
    if isinstance(value, dict):
        value = {name: entry for name, entry in value.items() if name not in FREE}
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
