"""A line on stderr every few seconds while something takes long."""

import sys
import time

class Progress:
    """Says how much is done, how fast it goes and how long it will still take.

    what:   begins the line.
    total:  of units; None where nobody knows.
    unit:   'images', or another plural; 'MB' counts in bytes.
    done:   units that were there before, which say nothing about the rate."""

    def __init__(self, what, total, unit='images', done=0, seconds=3.0):
        self.what, self.total, self.unit, self.first, self.seconds = what, total, unit, done, seconds
        self.start = self.shown = time.monotonic()

    def update(self, done):
        """`done` of `total` units are there."""
        now = time.monotonic()
        if now - self.shown > self.seconds and done != self.total:
            self.shown = now
            print(self.line(done, now - self.start), file=sys.stderr, flush=True)

    def line(self, done, elapsed):
        """The line for `done` units after `elapsed` seconds."""
        rate = (done - self.first) / elapsed
        number = (lambda value: f'{value / 1e6:.1f}') if self.unit == 'MB' else (lambda value: f'{value:.0f}')
        speed = f'{number(rate)} MB/s' if self.unit == 'MB' else f'{number(rate)}/s'
        if self.total is None:
            return f'{self.what}: {number(done)} {self.unit}, {speed}'
        minutes, seconds = divmod(int((self.total - done) / max(rate, 1e-9)), 60)
        left = f'{minutes}:{seconds:02d} left' if rate > 0 else 'waiting'
        return f'{self.what}: {number(done)} of {number(self.total)} {self.unit}, {speed}, {left}'
