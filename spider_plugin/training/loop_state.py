"""Training states of attached hosts: what a host's training loop holds beside its snapshot, and needs in order to continue.

A loop calls its argument progress_fn before the first iteration and after each tick. From there the variables of the loop are
read, whose names are those of NVlabs' loops: cur_nimg, phases, loss, augment_pipe. They cannot be set from outside, but what
they refer to can be changed, and arguments of the loop say where its count of images begins. docs/resume.md lists what goes on
and what begins anew in each host."""

import contextlib
import itertools
import os
import random
import sys

import numpy as np
import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files.cache import sha256_of_file
from spider_plugin.files.whole import WholeFile

FORMAT    = 1
SNAPSHOT  = 'network-snapshot'      # The names of snapshots and of their states begin so.
STATE     = 'training-state'
SCHEDULES = ('ada_kimg', 'ema_rampup')      # Arguments of the loop that hosts change for fine-tuning.

#----------------------------------------------------------------------------
# Files.

def path_of(snapshot):
    """'.../network-snapshot-000010.pkl' -> '.../training-state-000010.pt'."""
    folder, name = os.path.split(snapshot)
    return os.path.join(folder, name.removesuffix('.pkl').replace(SNAPSHOT, STATE) + '.pt')

def load(snapshot, same):
    """Return the training state beside a snapshot, or None where there is none. Raise SpiderError where it is of no use.

    same:   {name: digest} of the parts of the config that must be those of before."""
    path = path_of(snapshot)
    if path == snapshot or not os.path.isfile(path):
        return None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        version, digest, before = state['format'], state['sha256'], state['same']
    except Exception as error: # A damaged file can fail anywhere.
        raise SpiderError(f'{path} cannot be read as a training state ({shown(error)}); remove it to fine-tune the snapshot '
                          'beside it.') from error
    if version != FORMAT:
        raise SpiderError(f'{path} has format {shown(version)}, and this version reads {FORMAT}; remove it to fine-tune the '
                          'snapshot beside it.')
    if digest != sha256_of_file(snapshot):
        raise SpiderError(f'{path} belongs to another snapshot than the one beside it; take an earlier snapshot, or remove it to '
                          'fine-tune this one.')
    if changed := [name for name in same if before.get(name) != same[name]]:
        raise SpiderError(f'{snapshot} was trained with another {changed[0]}; give the options of before to continue with '
                          '--save-state, or copy the snapshot into another folder to fine-tune it.')
    return state

#----------------------------------------------------------------------------

class _Kimg(int):
    """A number of images, as an argument in thousands of images: times 1000, it is that number."""

    def __mul__(self, other):
        return int(self) * other // 1000

class LoopState:
    """The training state of a run, in one of its ranks.

    arguments:  all arguments of the host's training_loop(), by name; changed in place so that it continues.
    same:       {name: digest} of the parts of the config that must not change.
    resume:     the snapshot whose state continues; None = begin anew, unless the host itself continues in the run directory.
    Raises SpiderError."""

    def __init__(self, arguments, same, resume):
        self.arguments, self.same, self.resume = arguments, same, resume
        self.saved = self._in_run_dir() or (None if resume is None else load(resume, same))
        self.shown = self.saved['at']['shown'] if self.saved else 0     # Images taken from the dataset before this run.
        self.schedules = {name: arguments[name] for name in SCHEDULES if name in arguments}
        self.frame, self.first, self.progress_fn = None, 0, arguments['progress_fn']
        arguments['progress_fn'] = self._progress
        if self.saved and 'resume_kimg' in arguments:
            arguments['resume_kimg'] = _Kimg(self.saved['at']['nimg'])

    def _in_run_dir(self):
        """Return the state of a run directory that has a snapshot before training: the host continues there by itself."""
        snapshot = os.path.join(self.arguments['run_dir'], f'{SNAPSHOT}.pkl')
        if not os.path.isfile(snapshot):
            return None
        self.resume = snapshot
        try:
            return load(snapshot, self.same)
        except SpiderError as error:
            self._say(f'The training state is left out: {error.message}')
            return None

    @contextlib.contextmanager
    def applied(self, misc):
        """Within this context, samplers of the host's module `misc` begin after the images that were shown."""
        stock = misc.InfiniteSampler
        misc.InfiniteSampler = _sampler_from(stock, self.shown)
        try:
            yield
        finally:
            misc.InfiniteSampler, self.frame = stock, None

    def _progress(self, *args):
        """The loop's progress_fn. The first call, before the first iteration, finds the loop and restores the state."""
        if self.frame is None:
            self.frame = sys._getframe(1)
            self.first = self.frame.f_locals['cur_nimg']
            if self.saved:
                self._restore(**self.saved)
                self.saved = None   # As large as the networks.
        if self.progress_fn is not None:
            self.progress_fn(*args)

    def save(self, snapshot):
        """Write the state beside a snapshot that the loop has just written. Other pickles have none."""
        if not os.path.basename(snapshot).startswith(SNAPSHOT):
            return
        state = dict(self._gather(self.frame.f_locals), sha256=sha256_of_file(snapshot))
        with WholeFile(path_of(snapshot)) as file:
            torch.save(state, file)

    def _gather(self, loop):
        """Return the state. loop: the variables of the loop, by name."""
        pipe = loop.get('augment_pipe')
        return dict(
            format      = FORMAT,
            same        = self.same,
            schedules   = self.schedules,
            blur        = self.arguments['loss_kwargs'].get('blur_init_sigma'),
            at          = dict(nimg=loop['cur_nimg'], shown=self.shown + loop['cur_nimg'] - self.first),
            optimizers  = {name: opt.state_dict() for name, opt in _optimizers(loop).items()},
            loss        = _loss_state(loop['loss']),
            augment_p   = None if pipe is None else float(pipe.p),
            random      = _random_state() if self.arguments['num_gpus'] == 1 else None)

    def _restore(self, at, optimizers, loss, augment_p, random, **_rest):
        """Put a state into the loop, and say what continues and what begins anew."""
        loop, adapts, draws = self.frame.f_locals, augment_p is not None, random is not None and self.arguments['num_gpus'] == 1
        for name, opt in _optimizers(loop).items():
            opt.load_state_dict(optimizers[name])
        _set_loss_state(loop['loss'], loss)
        if adapts:
            loop['augment_pipe'].p.fill_(augment_p)
        if draws:
            _set_random_state(random)
        self._say_what_continues(at['nimg'], adapts, draws, counts=loop['cur_nimg'] == at['nimg'], ticks=loop['batch_idx'] > 0)

    def _say_what_continues(self, nimg, adapts, draws, counts, ticks):
        on, anew = ['optimizers', 'loss', 'order of the images', *['augmentation probability'] * adapts], []
        for part, continues in (('random numbers', draws), ('image count and its schedules', counts), ('ticks', ticks),
                                ('intervals of regularization', ticks)):
            (on if continues else anew).append(part)
        self._say(f'Continuing from {self.resume} at {nimg / 1000:g} kimg: {", ".join(on)}. '
                  f'Anew: {", ".join(anew) or "nothing"}.')

    def _say(self, words):
        if self.arguments['rank'] == 0:
            print(words, flush=True)

#----------------------------------------------------------------------------
# Parts of a loop.

def _optimizers(loop):
    """{'G': the optimizer of its phases, 'D': ...}."""
    return {phase.name[0]: phase.opt for phase in loop['phases']}

def _loss_state(loss):
    """Return what a loss remembers: its state_dict(), or its tensors, such as the mean path length."""
    if hasattr(loss, 'state_dict'):
        return loss.state_dict()
    return {name: value for name, value in vars(loss).items() if isinstance(value, torch.Tensor)}

def _set_loss_state(loss, state):
    if hasattr(loss, 'load_state_dict'):
        loss.load_state_dict(state)
        return
    for name, value in state.items():
        getattr(loss, name).copy_(value)

def _sampler_from(stock, shown):
    """Return a host's class of samplers, whose ranks together begin after the first `shown` images of the sequence."""
    class Continued(stock):
        def __iter__(self):
            return itertools.islice(super().__iter__(), shown // self.num_replicas, None)
    return Continued

def _random_state():
    """Return that of all global generators, as tensors and plain data."""
    kind, keys, *rest = np.random.get_state()
    return dict(torch=torch.get_rng_state(), numpy=(kind, keys.tolist(), *rest), python=random.getstate(),
                cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None)

def _set_random_state(state):
    torch.set_rng_state(state['torch'])
    np.random.set_state(state['numpy'])
    random.setstate(state['python'])
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])

#----------------------------------------------------------------------------
