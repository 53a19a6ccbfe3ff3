"""Processes that share a list of jobs, on one machine or on several, through a key-value store.

torchrun, or any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the same command on every rank. Rank
k does every WORLD_SIZE-th job from the k-th on and stores the result; rank 0 collects the results. There are no collective
operations. A rank that waits for a result stops waiting when the rank that makes it has died."""

import contextlib
import datetime
import json
import os
import threading
import time

from spider_plugin.errors import Failure, SpiderError

BEAT     = 2        # Seconds between signs of life.
PATIENCE = 120      # Seconds without one after which a rank counts as dead.
HEARING  = 10       # Seconds that a failing rank waits for the others to read its failure, because the store may end with it.

class RankDied(Failure):
    """A rank failed for a reason that options cannot correct; exit code 1."""

#----------------------------------------------------------------------------

class Alone:
    """The only rank."""

    rank, size = 0, 1

    def __init__(self):
        self._filed = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def share(self, key, value):
        self._filed[key] = value

    def wait(self, key, maker):
        return self._filed[key]

    def meet(self, point):
        pass

class Crew:
    """One of several ranks, as a context manager. An error that leaves the context is reported to the other ranks."""

    def __init__(self, rank, size, address, hosts_store):
        self.rank, self.size, self._address, self._hosts = rank, size, address, hosts_store
        self._seen = {}                                         # Rank -> (its last sign of life, when it came).
        self._stopped = threading.Event()

    def __enter__(self):
        from torch.distributed import PrefixStore, TCPStore
        # torchrun may restart ranks while the store still has the keys of those that failed.
        prefix = f'neighbors/{os.environ.get("TORCHELASTIC_RUN_ID", "")}/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}'
        connect = lambda hosts: PrefixStore(prefix, TCPStore(*self._address, is_master=hosts, wait_for_workers=False,
                                                           timeout=datetime.timedelta(seconds=PATIENCE)))
        try:
            self._store, self._pulse = connect(self._hosts), connect(False)
        except RuntimeError as error:
            raise self._cut_off(error) from error
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if error is not None:
                self._confess(error)
            elif self.rank == 0:                                # The store may be in this process, so rank 0 leaves last.
                for rank in range(1, self.size):
                    self.wait(f'done/{rank}', rank)
            else:
                self.share(f'done/{self.rank}', True)
        finally:
            self._stopped.set()
            self._beating.join()

    def share(self, key, value):
        """Store a value for JSON under `key`."""
        self._store.set(key, json.dumps(value))

    def wait(self, key, maker):
        """Wait until rank `maker` has stored a value under `key`, and return it.

        Raises RankDied if any rank failed, or if the maker died."""
        try:
            while not self._store.check([key]):
                if self._store.check(['failure']):
                    self._store.add('heard', 1)
                    raise RankDied(self._store.get('failure').decode())
                self._look_at(maker)
                time.sleep(0.1)
            return json.loads(self._store.get(key))
        except RuntimeError as error:
            raise self._cut_off(error) from error

    def meet(self, point):
        """Wait until all ranks have called this with the same `point`. Raises RankDied if one of them failed."""
        self.share(f'{point}/{self.rank}', True)
        if self.rank == 0:
            for rank in range(1, self.size):
                self.wait(f'{point}/{rank}', rank)
            self.share(point, True)
        self.wait(point, 0)

    def _cut_off(self, error):
        return RankDied(f'{self._address[0]}, the machine of rank 0, cannot be reached ({type(error).__name__}); finished '
                        'results are kept, so run the command again.')

    def _confess(self, error):
        """Report to the other ranks why this one fails, unless it fails because of another rank."""
        if isinstance(error, RankDied):
            return
        reason = (getattr(error, 'message', None) or str(error) or type(error).__name__).splitlines()[0]
        with contextlib.suppress(RuntimeError):
            self._store.set('failure', f'rank {self.rank} failed: {reason}')
            self._store.add('heard', 1)
            for _ in range(10 * HEARING):
                if self._store.add('heard', 0) >= self.size:
                    break
                time.sleep(0.1)

    def _look_at(self, rank):
        now = time.monotonic()
        sign = self._store.get(f'life/{rank}') if self._store.check([f'life/{rank}']) else b''
        if self._seen.get(rank, (None,))[0] != sign:
            self._seen[rank] = (sign, now)
        elif now - self._seen[rank][1] > PATIENCE:
            raise RankDied(f'rank {rank} has given no sign of life for {PATIENCE} s; finished results are kept, so run the '
                           'command again.')

    def _beat(self):
        beats = 0
        while not self._stopped.is_set():
            beats += 1
            try:
                self._pulse.set(f'life/{self.rank}', str(beats))
            except RuntimeError:                                # The store is gone; a rank that waits will get the error.
                return
            self._stopped.wait(BEAT)

def crew():
    """Return this process's rank as the environment sets it: Alone without WORLD_SIZE, else a Crew."""
    size = int(os.environ.get('WORLD_SIZE', 1))
    if size == 1:
        return Alone()
    missing = {'RANK', 'MASTER_ADDR', 'MASTER_PORT'} - set(os.environ)
    if missing:
        raise SpiderError(f'WORLD_SIZE={size} asks for several ranks, but {" and ".join(sorted(missing))} is not set; start them '
                          'by torchrun, or set it.')
    rank = int(os.environ['RANK'])
    hosts_store = rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
    return Crew(rank, size, (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])), hosts_store)

#----------------------------------------------------------------------------
