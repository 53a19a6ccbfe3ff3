"""Processes that share a list of jobs, on one machine or on several, and meet at a key-value store.

torchrun, or any starter that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts the same command on every rank. Rank
k does every WORLD_SIZE-th job from the k-th on and files the result; rank 0 collects. There are no collective operations:
nobody waits but for a result, and nobody waits for a rank that has died."""

import contextlib
import json
import os
import threading
import time

import click

from spider_plugin.errors import UserError

BEAT     = 2        # Seconds between signs of life.
PATIENCE = 120      # Seconds without one after which a rank counts as dead.

class RankDied(click.ClickException):
    """Nothing that a change of options would mend; exit code 1."""

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

class Crew:
    """One of several ranks, as a context: an error that leaves it is told to the others."""

    def __init__(self, rank, size, address, hosts_store):
        self.rank, self.size, self._address, self._hosts = rank, size, address, hosts_store
        self._seen = {}                                         # Rank -> (its last sign of life, when it came).
        self._stopped = threading.Event()

    def __enter__(self):
        from torch.distributed import PrefixStore, TCPStore
        # torchrun may start ranks anew, beside the keys of those that failed.
        room = f'neighbors/{os.environ.get("TORCHELASTIC_RUN_ID", "")}/{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}'
        connect = lambda hosts: PrefixStore(room, TCPStore(*self._address, is_master=hosts, wait_for_workers=False))
        self._store, self._pulse = connect(self._hosts), connect(False)
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if error is not None:
                reason = (getattr(error, 'message', None) or str(error) or kind.__name__).splitlines()[0]
                with contextlib.suppress(RuntimeError):
                    self._store.set('failure', f'rank {self.rank} failed: {reason}')
            elif self.rank == 0:                                # The store may be here: the last one turns off the light.
                for rank in range(1, self.size):
                    self.wait(f'done/{rank}', rank)
            else:
                self.share(f'done/{self.rank}', True)
        finally:
            self._stopped.set()
            self._beating.join()

    def share(self, key, value):
        """Files anything that JSON can hold."""
        self._store.set(key, json.dumps(value))

    def wait(self, key, maker):
        """What rank `maker` files under `key`, once it has. Raises RankDied where a rank failed, or the maker died."""
        try:
            while not self._store.check([key]):
                if self._store.check(['failure']):
                    raise RankDied(f'{self._store.get("failure").decode()} (what is finished is kept: run the command again).')
                self._look_at(maker)
                time.sleep(0.1)
            return json.loads(self._store.get(key))
        except RuntimeError as error:                           # Of the connection to where rank 0 is.
            raise RankDied(f'{self._address[0]}, the machine of rank 0, cannot be reached any more ({type(error).__name__}); '
                           'what is finished is kept: run the command again.') from error

    def _look_at(self, rank):
        now = time.monotonic()
        sign = self._store.get(f'life/{rank}') if self._store.check([f'life/{rank}']) else b''
        if self._seen.get(rank, (None,))[0] != sign:
            self._seen[rank] = (sign, now)
        elif now - self._seen[rank][1] > PATIENCE:
            raise RankDied(f'rank {rank} has given no sign of life for {PATIENCE} s; what is finished is kept: run the command '
                           'again.')

    def _beat(self):
        beats = 0
        while not self._stopped.is_set():
            beats += 1
            try:
                self._pulse.set(f'life/{self.rank}', str(beats))
            except RuntimeError:                                # The store is gone; whoever waits will notice.
                return
            self._stopped.wait(BEAT)

def crew():
    """The rank that the environment makes of this process."""
    size = int(os.environ.get('WORLD_SIZE', 1))
    if size == 1:
        return Alone()
    missing = {'RANK', 'MASTER_ADDR', 'MASTER_PORT'} - set(os.environ)
    if missing:
        raise UserError(f'WORLD_SIZE={size} asks for several ranks, but {" and ".join(sorted(missing))} is not set; start them '
                        'by torchrun, or set it.')
    rank = int(os.environ['RANK'])
    hosts_store = rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
    return Crew(rank, size, (os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])), hosts_store)

#----------------------------------------------------------------------------
