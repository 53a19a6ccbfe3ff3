"""Signs of life of ranks, and what they say: a rank that is dead or stopped, and one that keeps the others waiting.

A thread of each rank writes a sign into a store every second. A thread cannot write while a library holds the interpreter's lock,
as some do for minutes, so on Linux a process on this machine whose processor time grows counts as alive as well. With a sign
comes the number of exchanges that the rank has begun, and whether it is in one. All ranks begin the same ones, so a rank that has
begun fewer than others, which wait, is late. It may be busy or hang, which nobody outside can tell; so it is named, and ended
only when an exchange would end by itself."""

import functools
import socket
import threading
import time

BEAT = 1    # Seconds between signs of life.

#----------------------------------------------------------------------------
# Exchanges.

_begun, _ended = 0, 0   # Exchanges of this process.

def exchange(function):
    """Decorator of the functions in which all ranks wait for each other."""
    @functools.wraps(function)
    def counted(*args, **kwargs):
        global _begun, _ended
        _begun += 1
        try:
            return function(*args, **kwargs)
        finally:
            _ended += 1
    return counted

#----------------------------------------------------------------------------

class Heart(threading.Thread):
    """Writes the signs of life of this rank into a store until stop()."""

    def __init__(self, store, rank, started=True):
        super().__init__(daemon=True)
        self.store = store
        self.rank = rank
        self.stopped = threading.Event()
        self.beats = 0
        self.beat()
        if started:
            self.start()

    def beat(self):
        self.beats += 1
        self.store.set(f'life/{self.rank}', f'{self.beats} {socket.gethostname()} {_begun} {int(_begun > _ended)}')

    def run(self):
        while not self.stopped.wait(BEAT):
            self.pulse()

    def pulse(self):
        try:
            self.beat()
        except RuntimeError: # The store went with the parent, whose end the main thread notices.
            self.stopped.set()

    def stop(self):
        self.stopped.set()
        if self.is_alive():
            self.join() # A thread that is inside of the store must not outlive the interpreter.

#----------------------------------------------------------------------------

class Lives:
    """The signs of some ranks as seen from one process.

    store: where they are. pids: {rank: number of its process, or None where it may be on another machine}.
    patience, late: seconds without a sign, and seconds of keeping others waiting, that are borne."""

    def __init__(self, store, pids, patience, late):
        self.store, self.pids, self.patience, self.bearable = store, pids, patience, late
        self.signs  = {}                            # Rank -> (sign, processor time).
        self.silent = dict.fromkeys(pids, 0.0)      # Rank -> seconds without a new sign.
        self.slow   = dict.fromkeys(pids, 0.0)      # Rank -> seconds that others have waited for it.
        self.named  = set()                         # (rank, exchange) of which it was said.
        self.clock  = time.monotonic()

    def look(self, ranks):
        """Reads the signs of the ranks that are there.

        Time in which this process did not look does not count: it may have been stopped with all the others, as by ^Z."""
        now = time.monotonic()
        passed, self.clock = min(now - self.clock, 2 * BEAT), now
        self.there = list(ranks)
        for rank in self.there:
            key = f'life/{rank}'
            sign = (self.store.get(key).decode() if self.store.check([key]) else '', processor_time(self.pids[rank]))
            fresh = sign != self.signs.get(rank) or sign == ('', None) # Where nothing is known, nothing is missed.
            self.silent[rank] = 0.0 if fresh else self.silent[rank] + passed
            self.signs[rank] = sign
        most = max((self._begun(rank) for rank in self.there), default=0)
        waited_for = all(self._waits(rank) for rank in self.there if self._begun(rank) == most)
        for rank in self.there:
            behind = waited_for and self._begun(rank) < most and not self._waits(rank)
            self.slow[rank] = self.slow[rank] + passed if behind else 0.0

    def _field(self, rank, number, default):
        sign = self.signs.get(rank, ('',))[0].split()
        return sign[number] if len(sign) > number else default

    def _begun(self, rank):
        return int(self._field(rank, 2, 0))

    def _waits(self, rank):
        return self._field(rank, 3, '0') == '1'

    def machine(self, rank):
        """Name of the machine of a rank; None before its first sign."""
        return self._field(rank, 1, None)

    def _name(self, rank):
        pid = self.pids[rank]
        return f'rank {rank} on {self.machine(rank)}' if pid is None else f'rank {rank} (process {pid})'

    def dead(self, of='', but=None):
        """Words about a rank without a sign of life; None where there is none such. but: a rank that is left out."""
        for rank in self.there:
            if rank != but and self.silent[rank] > self.patience:
                if self.pids[rank] is None:
                    return f'{self._name(rank)} died: no sign of life for {self.patience} s'
                return (f'rank {rank} {of} (process {self.pids[rank]}) gave no sign of life for {self.patience} s, as a stopped '
                        'process does')
        return None

    def late(self, to=None):
        """Words about a rank that keeps the others waiting, once for each exchange; None where there is none.

        to: the rank that would say it, None for another process. Of several, the first of those that wait speaks."""
        if to is not None and to != next((rank for rank in self.there if self._waits(rank)), None):
            return None
        for rank in self.there:
            key = rank, self._begun(rank)
            if self.slow[rank] > self.bearable and key not in self.named:
                self.named.add(key)
                return (f'{self._name(rank)} has kept the other ranks waiting for {self.bearable} s; it is busy, or it hangs: '
                        '`py-spy dump --pid PROCESS` shows where it is')
        return None

    def too_late(self, seconds):
        """Words about a rank that has kept the others waiting for so many seconds; None where there is none."""
        rank = next((rank for rank in self.there if self.slow[rank] > seconds), None)
        return None if rank is None else f'{self._name(rank)} has kept the other ranks waiting for {seconds:.0f} s'

def processor_time(pid):
    """Clock ticks of processor time of a process on this machine; None where the system does not say."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as f:
            user, system = f.read().rpartition(b')')[2].split()[11:13]
        return int(user) + int(system)
    except (OSError, ValueError):
        return None

#----------------------------------------------------------------------------
