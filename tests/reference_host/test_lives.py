"""training/lives.py: who counts as dead, who is late, and who is only busy."""

import os
import subprocess
import sys

import pytest

from training import lives, ranks
from training.lives import Heart, Lives

class Store(dict):
    """As a TCPStore, as far as it is used."""
    def check(self, keys):
        return all(key in self for key in keys)
    def get(self, key):
        return self[key].encode()
    def set(self, key, value):
        self[key] = value

class World:
    """Two ranks, a clock, and processor times; one second passes with each look."""

    def __init__(self, monkeypatch, pids=None):
        self.now, self.ticks, self.store = 0.0, {}, Store()
        monkeypatch.setattr(lives.time, 'monotonic', lambda: self.now)
        monkeypatch.setattr(lives, 'processor_time', lambda pid: self.ticks.get(pid))
        self.lives = Lives(self.store, pids or {0: 100, 1: 101}, patience=30, late=300)
        self.beats = 0

    def live(self, seconds, beating=(0, 1), begun=(5, 5), waits=(0, 0), busy=()):
        """What was said in so many seconds: (rank, second) pairs would be of no use, so words alone."""
        said = []
        for _ in range(seconds):
            self.now += 1
            self.beats += 1
            for rank in beating:
                self.store.set(f'life/{rank}', f'{self.beats} machine {begun[rank]} {waits[rank]}')
            for rank in busy:
                self.ticks[100 + rank] = self.ticks.get(100 + rank, 0) + 3
            self.lives.look((0, 1))
            said += filter(None, (self.lives.dead('of 2'), self.lives.late()))
        return said

@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    world.ticks = {100: 0, 101: 0}
    return world

def test_a_silent_rank_is_named_after_its_patience(world):
    assert world.live(100) == []
    assert world.live(30, beating=[0]) == []
    words, *_ = world.live(2, beating=[0])
    assert words == 'rank 1 of 2 (process 101) gave no sign of life for 30 s, as a stopped process does'

def test_a_rank_that_was_never_heard_is_named(world):
    assert 'rank 1 of 2' in world.live(40, beating=[0])[0]

def test_a_rank_whose_thread_cannot_write_but_works_is_alive(world):
    """As in a library that holds the interpreter's lock for minutes."""
    assert world.live(600, beating=[0], busy=[1]) == []

def test_without_processor_times_ranks_that_start_are_waited_for(monkeypatch):
    world = World(monkeypatch)
    assert world.live(600, beating=[0]) == []
    assert world.live(5) == []
    assert 'rank 1' in world.live(40, beating=[0])[0]

def test_a_pause_of_everybody_is_no_silence(world):
    """^Z and fg, or a machine that slept."""
    world.live(10)
    world.now += 3600
    assert world.live(20, beating=[0]) == []
    assert world.live(5) == []

def test_a_rank_that_keeps_others_waiting_is_named_once_and_not_ended(world):
    assert world.live(300, begun=(6, 5), waits=(1, 0)) == []
    said = world.live(200, begun=(6, 5), waits=(1, 0))
    assert said == ['rank 1 (process 101) has kept the other ranks waiting for 300 s; it is busy, or it hangs: '
                    '`py-spy dump --pid PROCESS` shows where it is']
    assert world.lives.too_late(1000) is None
    assert world.lives.too_late(400) == 'rank 1 (process 101) has kept the other ranks waiting for 400 s'
    assert world.live(10) == [] and world.lives.too_late(1) is None
    assert len(world.live(400, begun=(8, 7), waits=(1, 0))) == 1

def test_ranks_that_work_side_by_side_wait_for_nobody(world):
    assert world.live(2000, begun=(6, 6)) == [] # A long iteration.
    assert world.live(2000, begun=(6, 6), waits=(1, 1)) == [] # A long exchange.
    assert world.live(2000, begun=(7, 6)) == [] # None of the first waits.

def test_only_the_first_that_waits_speaks(world):
    world.live(301, begun=(6, 5), waits=(1, 0))
    world.lives.named.clear()
    assert world.lives.late(to=1) is None and 'rank 1' in world.lives.late(to=0)

def test_exchanges_are_counted():
    before = lives._begun
    ranks.meet()
    assert ranks.agree(3) == 3 and ranks.largest([1]) == [1]
    assert lives._begun == lives._ended == before + 3

def test_a_heart_beats_until_it_is_stopped():
    store = Store()
    heart = Heart(store, 1)
    beats, machine, begun, waits = store['life/1'].split()
    assert beats == '1' and machine and begun.isdigit() and waits == '0'
    heart.stop()
    assert not heart.is_alive()

@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs /proc')
def test_processor_time_grows_with_work():
    process = subprocess.Popen([sys.executable, '-c', 'print(1, flush=True)\nwhile True: pass'], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        first = lives.processor_time(process.pid)
        while lives.processor_time(process.pid) == first:
            pass
        assert lives.processor_time(process.pid) > first
    finally:
        process.kill()
        process.communicate()
    assert lives.processor_time(process.pid) is None

#----------------------------------------------------------------------------
