"""Shows how a training run is doing: a live bar on a terminal, one plain line per tick everywhere."""

import contextlib
import math
import sys
import time

import torch

import dnnlib

#----------------------------------------------------------------------------

LOSSES = (('G', 'Loss/G/loss'), ('D', 'Loss/D/loss'), ('r1', 'Loss/r1_penalty'), ('pl', 'Loss/pl_penalty'))
BAR_WIDTH = 24
BAR_SECONDS = 0.2       # The bar is drawn at most this often.
PATIENCE = 30           # Seconds after which iterations are too slow to wait for three of them.
LONG = 2 * 24 * 3600    # Seconds of a run on a CPU that call for advice.

class Progress:
    """`step()` after every iteration, `tick()` at every tick; both take the number of real images shown so far."""

    def __init__(self, total_kimg, start_nimg=0, silent=False):
        self.total_nimg = max(total_kimg * 1000, 1)
        self.start_nimg = start_nimg
        self.start_time = time.time()
        self.paused_sec = 0
        self.tick_start = self.start_time, 0, start_nimg    # Of the tick that runs: time, pauses and images before it.
        self.bar_time = 0
        self.silent = silent
        self.terminal = None
        if not silent and sys.__stdout__ is not None and sys.__stdout__.isatty() and sys.stdout.isatty():
            self.terminal = sys.__stdout__ # Past the log: a bar is for eyes only.
        self.losses = None # Those of the last tick.
        self.timed = 0

    def restart_clock(self, cur_nimg):
        """Forgets the time that passed before training."""
        self.start_nimg = cur_nimg
        self.start_time = time.time()
        self.paused_sec = 0
        self.tick_start = self.start_time, 0, cur_nimg
        self.timed = 0  # Iterations since then, until they have been told.

    @contextlib.contextmanager
    def paused(self):
        """What runs inside (snapshots, metrics) counts for the ETA but not for the rate."""
        self.clear()
        start = time.time()
        yield
        self.paused_sec += time.time() - start

    def rate_since_tick(self, cur_nimg):
        """Images a second since this was called last, or since the clock began, without pauses."""
        (start, paused, nimg), self.tick_start = self.tick_start, (time.time(), self.paused_sec, cur_nimg)
        return (cur_nimg - nimg) / max(self.tick_start[0] - start - (self.paused_sec - paused), 1e-6)

    def summary(self, cur_nimg):
        """'1.2/25 kimg   310.5 img/s   ETA 1m 17s   G 0.812   D 1.203'."""
        done = max(cur_nimg - self.start_nimg, 1)
        elapsed = time.time() - self.start_time
        rate = done / max(elapsed - self.paused_sec, 1e-6)
        eta = dnnlib.util.format_time(elapsed * max(self.total_nimg - cur_nimg, 0) / done)
        parts = [f'{cur_nimg / 1000:.4g}/{self.total_nimg / 1000:g} kimg', f'{rate:.1f} img/s', f'ETA {eta}']
        if self.losses is not None:
            means = [(label, self.losses.mean(name)) for label, name in LOSSES]
            parts += [f'{label} {mean:.3f}' for label, mean in means if not math.isnan(mean)] # NaN: never reported.
        return '   '.join(parts)

    def step(self, cur_nimg):
        """Says once how long the run will take, then redraws the live bar, on a terminal."""
        self.tell_time(cur_nimg)
        if self.terminal is None or time.time() - self.bar_time < BAR_SECONDS:
            return
        self.bar_time = time.time()
        done = min(round(BAR_WIDTH * cur_nimg / self.total_nimg), BAR_WIDTH)
        bar = '#' * done + '-' * (BAR_WIDTH - done)
        self.terminal.write(f'\r\x1b[K[{bar}]   {self.summary(cur_nimg)}')
        self.terminal.flush()

    def tell_time(self, cur_nimg):
        """Prints a line after the first iterations, of which the very first one counts only where it takes long."""
        if self.silent or self.timed is None:
            return
        self.timed += 1
        seconds = time.time() - self.start_time
        if self.timed < 4 and seconds < PATIENCE:
            if self.timed == 1:
                self.first = seconds, cur_nimg
            return
        skipped, nimg = self.first if self.timed > 1 else (0, self.start_nimg)
        each = (seconds - skipped) / (cur_nimg - nimg)
        left = each * max(self.total_nimg - cur_nimg, 0)
        batch = (cur_nimg - self.start_nimg) / self.timed
        self.timed = None
        self.clear()
        advice = ''
        if left > LONG and not torch.cuda.is_available():
            advice = '; on a CPU, smaller images, --cbase and --cmax are faster, and snapshots by --snap-minutes come sooner'
        print(f'One iteration takes {each * batch:.2g} s, so {self.total_nimg / 1000:g} kimg take '
              f'{dnnlib.util.format_time(left)}{advice}', flush=True)

    def clear(self):
        """Takes the bar away, before something else is printed."""
        if self.terminal is not None:
            self.terminal.write('\r\x1b[K')
            self.terminal.flush()

    def tick(self, cur_tick, cur_nimg, losses, extra=''):
        """Prints the line of a tick; `losses` is the Collector of the run."""
        self.losses = losses
        if not self.silent:
            self.clear()
            elapsed = dnnlib.util.format_time(time.time() - self.start_time)
            print(f'tick {cur_tick:<5d} {self.summary(cur_nimg)}   time {elapsed}{extra}', flush=True)

#----------------------------------------------------------------------------
