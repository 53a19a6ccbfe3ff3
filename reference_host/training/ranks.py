"""Ranks: the processes that work together, on one machine or on several.

A script decorates its main() with `entry` and hands the work over by `launch('module.function', num_ranks, ...)`. With
`--gpus=N` launch() spawns N ranks. Under torchrun, or any starter that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT,
every rank runs the script: rank 0 reads the options, the others wait for the work that it launches. CPU tensors travel by
gloo, CUDA tensors by nccl.

A rank that dies takes the others with it: the parent of spawned ranks sees it at once; ranks of torchrun watch each other. A rank
that gives no sign of life counts as dead, and one that keeps the others waiting is named (training/lives.py)."""

import contextlib
import datetime
import functools
import os
import socket
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing

import dnnlib
from training import stopping, trouble
from training.lives import BEAT, Heart, Lives, exchange
from training.runtime import SpiderError

TIMEOUT  = datetime.timedelta(minutes=30)   # of one collective operation: the longest that ranks wait for one of them.
GRACE    = 3                                # Seconds in which the other ranks may end by themselves when one has ended.
PATIENCE = 30                               # Seconds without a sign of life after which a rank counts as dead.
LATE     = 300                              # Seconds that a rank keeps the others waiting before it is named.

class RankDied(SpiderError):
    """A rank ended, and the others with it: nothing that a change of options would surely mend."""

    exit_code = 1

#----------------------------------------------------------------------------
# Who is there.

def started_from_outside():
    """Was this process started as one of several ranks, as torchrun does?"""
    return {'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'} <= set(os.environ)

def num_started():
    """Ranks that were started from outside; 1 where there are none."""
    return int(os.environ['WORLD_SIZE']) if started_from_outside() else 1

def local_rank():
    """Number of this rank among those of its machine."""
    return int(os.environ.get('LOCAL_RANK', 0))

def num_local(num_ranks):
    """How many of num_ranks share this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', num_ranks)) if started_from_outside() else num_ranks

def check(num_ranks):
    """Raises SpiderError unless --gpus=num_ranks can be served."""
    if started_from_outside() and num_ranks != num_started():
        raise SpiderError(f'--gpus: {num_started()} ranks were started from outside (torchrun), not {num_ranks}; leave '
                          '--gpus out')
    if torch.cuda.is_available() and num_local(num_ranks) > torch.cuda.device_count():
        raise SpiderError(f'--gpus: {num_local(num_ranks)} ranks on this machine need as many GPUs, but there are '
                          f'{torch.cuda.device_count()}; use --gpus={torch.cuda.device_count()}')
    if torch.backends.mps.is_available() and num_ranks > 1:
        raise SpiderError('--gpus: MPS serves one rank; use --gpus=1')

#----------------------------------------------------------------------------
# What ranks say to each other. Without a process group each of these is that of a single rank.

@exchange
def agree(value):
    """Rank 0's value, on every rank; anything that can be pickled."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device('cpu'))
    return box[0]

@exchange
def gather(value):
    """The values of all ranks, in their order, on every rank; anything that can be pickled."""
    if not dist.is_initialized():
        return [value]
    box = [None] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return box

@exchange
def largest(values):
    """The largest of each of some integers over the ranks, on every rank."""
    if not dist.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.tolist()

@exchange
def meet():
    """Waits until all ranks are here."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros([]))

@contextlib.contextmanager
def one_first():
    """On each machine one rank runs the body first, and the others after it: they find in the cache what it made."""
    if local_rank() != 0:
        meet()
    yield
    if local_rank() == 0:
        meet()

@exchange
@torch.no_grad()
def copy_from_first(tensors):
    """Overwrites tensors by those of rank 0."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)

@exchange
@torch.no_grad()
def average(tensors):
    """Replaces tensors of one dtype and device by their means over the ranks, in one exchange."""
    if not dist.is_initialized() or dist.get_world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.view_as(tensor))

#----------------------------------------------------------------------------
# Work.

def entry(main):
    """Decorator of a script's main(): among ranks started from outside only rank 0 runs it, the others what it launches."""
    @functools.wraps(main)
    def run(*args, **kwargs):
        trouble.print_anything()
        if not started_from_outside():
            with trouble.explained(trains='batch_gpu' in kwargs):
                main(*args, **kwargs)
            stopping.leave()
            return
        rank, address = int(os.environ['RANK']), (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']))
        hosts_store = rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
        with _group(rank, num_started(), address, hosts_store, watched=True):
            if rank == 0:
                main(*args, **kwargs)
                agree(None) # That was all.
            else:
                while (work := agree(None)) is not None:
                    _run(rank, work)
        stopping.leave() # The other ranks have left the group as well.
    return run

def launch(func_name, num_ranks, **kwargs):
    """Calls the function with the dotted name as f(rank=..., **kwargs) on every rank; returns when all are done.

    kwargs are pickled. Raises SpiderError where a rank did, RankDied where one was killed."""
    work = (func_name, kwargs)
    if started_from_outside():
        _run(0, agree(work))
    elif num_ranks == 1:
        _run(0, work)
    else:
        _spawn(num_ranks, work)

def keep_waiting():
    """Lets the ranks that wait for rank 0 wait on: they give up after TIMEOUT. For work of rank 0 before it launches any."""
    if started_from_outside():
        launch('training.ranks.wait_on', num_started())

def wait_on(rank):
    """What keep_waiting() launches."""

def _run(rank, work):
    func_name, kwargs = work
    with contextlib.ExitStack() as stack:
        if rank > 0: # Rank 0 speaks for all.
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, 'w'))))
        stack.enter_context(trouble.explained(trains=func_name == 'training.training_loop.run_rank'))
        dnnlib.util.call_func_by_name(func_name=func_name, rank=rank, **kwargs)

def _spawn(num_ranks, work):
    """Ranks as children of this process, which lets them meet at a store of its own, passes signals on to them, and ends all
    when one fails."""
    store = dist.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    children = []
    with stopping.Listener(lambda: [child.pid for child in children]) as listener:
        try:
            context = torch.multiprocessing.spawn(_spawned, args=(num_ranks, ('127.0.0.1', store.port), work), nprocs=num_ranks,
                                                  join=False)
            children += context.processes
            if listener.signum: # It came before there were any.
                listener.pass_on(listener.signum)
            lives = Lives(_room(store, 'life'), {rank: child.pid for rank, child in enumerate(children)}, PATIENCE, LATE)
            while not context.join(timeout=BEAT, grace_period=GRACE):
                _watch_over(lives, children)
        except torch.multiprocessing.ProcessRaisedException as err:
            if 'SpiderError: ' in str(err):
                raise SpiderError(str(err)) from None
            raise
        except torch.multiprocessing.ProcessExitedException as err:
            _explain(err, listener.signum, num_ranks)
    if listener.signum:
        stopping.note(listener.signum)

def _watch_over(lives, children):
    """Says which rank keeps the others waiting. Raises RankDied, with all ranks ended, where one gives no sign of life or keeps
    them waiting for as long as an exchange may take."""
    lives.look([rank for rank, child in enumerate(children) if child.is_alive()])
    verdict = lives.dead(f'of {len(children)}') or lives.too_late(TIMEOUT.total_seconds() - 2 * PATIENCE)
    if verdict is None:
        if (words := lives.late()) is not None:
            print(f'Warning: {words}', file=sys.stderr, flush=True)
        return
    for child in children: # SIGKILL ends a stopped process, too.
        child.kill()
    for child in children:
        child.join()
    raise RankDied(f'{verdict}, so the others were ended; --resume continues from the last snapshot')

def _explain(err, signum, num_ranks):
    """Raises RankDied in words for a rank that ended; one that ended on a signal to stop is noted.

    signum: the signal that this process has passed on, 0 = none."""
    by_signal = err.exit_code - 128
    if signum or by_signal in stopping.SIGNALS:
        stopping.note(signum or by_signal)
        return
    how = err.signal_name or f'exit code {err.exit_code}'
    raise RankDied(f'rank {err.error_index} of {num_ranks} (process {err.error_pid}) died of {how}, so the '
                   'others were ended; where memory ran out, use fewer ranks or a smaller --batch-gpu') from None

def _spawned(rank, num_ranks, address, work):
    trouble.print_anything()
    os.environ['LOCAL_RANK'] = str(rank)
    try:
        with _group(rank, num_ranks, address, hosts_store=False, watched=False):
            _run(rank, work)
    except SpiderError as err: # The parent knows it by the name of its class.
        raise SpiderError(err.message) from None
    stopping.leave()

#----------------------------------------------------------------------------
# Life and death.

@contextlib.contextmanager
def _group(rank, num_ranks, address, hosts_store, watched):
    """Within: this process is a rank of a group whose store is at address (host, port).

    Only some failures are a rank's own. Where the connection to another one broke, it waits to be ended, by its watch
    or its parent, who know which."""
    def connect(room, hosts=False):
        return _room(dist.TCPStore(*address, is_master=hosts, wait_for_workers=False), room)
    store = connect('group', hosts_store)
    watch = Watch(connect('watch'), rank, num_ranks) if watched else None
    heart = None if watched else Heart(connect('life'), rank)
    dist.init_process_group('cpu:gloo,cuda:nccl' if torch.cuda.is_available() else 'gloo', store=store, rank=rank,
                            world_size=num_ranks, timeout=TIMEOUT)
    try:
        if watch is not None:
            meet() # Everybody has given a sign of life.
            watch.start()
        yield
        meet()
        if watch is not None:
            watch.stop()
        dist.destroy_process_group()
        if heart is not None:
            heart.stop()
    except BaseException as err:
        if lost_connection(err):
            time.sleep(PATIENCE + 10)
        if watch is not None:
            watch.confess(err)
        raise

def _room(store, name):
    """A part of a store. torchrun may start ranks anew, beside the keys of those that failed."""
    key = f'ranks/{os.environ.get("TORCHELASTIC_RUN_ID", "")}/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}'
    return dist.PrefixStore(f'{key}/{name}', store)

def lost_connection(err):
    """Did the connection to another rank break?"""
    return isinstance(err, dist.DistError) or isinstance(err, RuntimeError) and 'gloo' in str(err).lower()

class Watch(Heart):
    """Gives signs of life, looks for those of the other ranks, and ends this process when one of them fails or dies."""

    def __init__(self, store, rank, num_ranks):
        self.num_ranks = num_ranks
        self.lives = Lives(store, dict.fromkeys(range(num_ranks)), PATIENCE, LATE)
        super().__init__(store, rank, started=False)

    def pulse(self):
        verdict = self.look()
        if verdict is not None and not self.stopped.is_set():
            print(f'Error: rank {self.rank} ends because {verdict}', file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(1)

    def look(self):
        """What ends this rank, in words; None while all is well."""
        try:
            self.beat()
            if self.store.check(['failure']):
                self.store.add('heard', 1)
                return self.store.get('failure').decode()
            self.lives.look(range(self.num_ranks))
            verdict = self.lives.dead(but=self.rank)
            if verdict is None and (words := self.lives.late(to=self.rank)) is not None:
                print(f'Warning: {words}', file=sys.stderr, flush=True)
            return verdict
        except RuntimeError: # The store is where rank 0 is.
            where = self.lives.machine(0) or os.environ.get('MASTER_ADDR')
            return f'the machine of rank 0, {where}, cannot be reached any more: rank 0, or another rank there, died'

    def confess(self, err):
        """Tells the other ranks that this one fails, and gives them a moment to hear it."""
        self.stop()
        reason = (getattr(err, 'message', None) or str(err) or type(err).__name__).strip().splitlines()[0]
        with contextlib.suppress(RuntimeError):
            self.store.set('failure', f'rank {self.rank} on {socket.gethostname()} failed: {reason}')
            for _ in range(50):
                if self.store.add('heard', 0) >= self.num_ranks - 1:
                    break
                time.sleep(0.1)

#----------------------------------------------------------------------------
