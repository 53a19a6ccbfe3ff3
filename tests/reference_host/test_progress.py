"""training/progress.py: a live bar on a terminal, plain lines elsewhere."""

import io
import sys

from training.progress import Progress

#----------------------------------------------------------------------------

class Terminal(io.StringIO):
    def isatty(self):
        return True

class Losses:
    """A stand-in for a training_stats.Collector with two names."""
    def mean(self, name):
        return {'Loss/G/loss': 0.5, 'Loss/D/loss': 1.25}.get(name, float('nan'))

def test_lines_without_a_terminal(capsys):
    progress = Progress(total_kimg=2)
    progress.step(500)
    progress.tick(1, 1000, Losses(), extra='   gpu 1.0 GiB')
    out = capsys.readouterr().out
    assert out.startswith('tick 1') and out.count('\n') == 1 and '\r' not in out
    for part in ('1/2 kimg', 'img/s', 'ETA', 'G 0.500', 'D 1.250', 'gpu 1.0 GiB'):
        assert part in out
    assert 'r1' not in out and 'nan' not in out

def test_bar_goes_past_the_log_and_is_cleared(monkeypatch):
    terminal, log = Terminal(), Terminal() # As Logger: stdout is not the terminal itself, but answers for it.
    monkeypatch.setattr(sys, '__stdout__', terminal)
    monkeypatch.setattr(sys, 'stdout', log)
    progress = Progress(total_kimg=2)
    progress.step(1000)
    bar = terminal.getvalue()
    assert bar.startswith('\r') and '[############------------]' in bar and '1/2 kimg' in bar and '\n' not in bar
    assert log.getvalue() == ''
    progress.tick(1, 1000, Losses())
    assert terminal.getvalue().endswith('\r\x1b[K') and '\x1b' not in log.getvalue()

def test_silent_and_at_the_start(capsys):
    progress = Progress(total_kimg=2, silent=True)
    progress.tick(1, 1000, Losses())
    assert capsys.readouterr().out == ''
    assert Progress(total_kimg=0.001).summary(0).startswith('0/0.001 kimg')

def test_snapshots_do_not_slow_the_rate(monkeypatch):
    clock = iter([0, 10, 90, 100])                  # Start, a pause from 10 to 90, and the summary at 100.
    monkeypatch.setattr('time.time', lambda: next(clock))
    progress = Progress(total_kimg=2)
    with progress.paused():
        pass
    assert progress.summary(1000) == '1/2 kimg   50.0 img/s   ETA 1m 40s'

#----------------------------------------------------------------------------
