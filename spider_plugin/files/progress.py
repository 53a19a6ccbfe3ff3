"""Progress lines on stderr, every few seconds, for work that takes long."""

import sys
import time

class Progress:
    """Prints the units done, the rate and the time left.

    what:     the beginning of each line.
    total:    number of units, or None if it is not known.
    unit:     'images', or another plural; with 'MB', units are bytes.
    done:     units that existed before, which do not count in the rate.
    seconds:  least time between two lines."""

    def __init__(self, what, total, unit='images', done=0, seconds=3.0):
        self.what, self.total, self.unit, self.first, self.seconds = what, total, unit, done, seconds
        self.start = self.shown = time.monotonic()

    def update(self, done):
        """Report that `done` of `total` units are done."""
        now = time.monotonic()
        if now - self.shown > self.seconds and done != self.total:
            self.shown = now
            print(self.line(done, now - self.start), file=sys.stderr, flush=True)

    def line(self, done, elapsed):
        """Return the line for `done` units after `elapsed` seconds."""
        rate = (done - self.first) / elapsed
        number = (lambda value: f'{value / 1e6:.1f}') if self.unit == 'MB' else (lambda value: f'{value:.0f}')
        speed = f'{number(rate)} MB/s' if self.unit == 'MB' else f'{number(rate)}/s'
        if self.total is None:
            return f'{self.what}: {number(done)} {self.unit}, {speed}'
        minutes, seconds = divmod(int((self.total - done) / max(rate, 1e-9)), 60)
        left = f'{minutes}:{seconds:02d} left' if rate > 0 else 'waiting'
        return f'{self.what}: {number(done)} of {number(self.total)} {self.unit}, {speed}, {left}'
