"""Stopping well: SIGINT, SIGTERM and SIGHUP ask a run to end after its iteration; a second one ends it at once.

A signal may come twice for one wish: a terminal gives ^C to every process of a command, and parents pass it on. So those that
follow the first within a moment count as the first."""

import contextlib
import os
import signal
import sys
import threading
import time

SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]
MOMENT  = 1         # Seconds within which a signal is a copy of the first.

_listener   = None  # The one that is listening.
_stopped_by = 0     # The signal that ended training in this process; 0 = none.

#----------------------------------------------------------------------------

class Listener(contextlib.AbstractContextManager):
    """Within: `signum` is the signal that asked to stop, 0 until then.

    children: a function that returns the process ids to which signals are passed on. A signal that was ignored before,
    as nohup does, stays ignored. Outside the main thread, nothing is listened to."""

    def __init__(self, children=lambda: []):
        self.children = children
        self.signum = 0
        self.since = None
        self.previous = {}

    def __enter__(self):
        global _listener
        _listener = self
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) is not signal.SIG_IGN:
                    self.previous[signum] = signal.signal(signum, self.hear)
        return self

    def __exit__(self, *_exc_info):
        global _listener
        _listener = None
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def hear(self, signum, _frame=None):
        now = time.monotonic()
        if self.since is None:
            self.signum, self.since = signum, now
            self.pass_on(signum)
        elif now - self.since > MOMENT:
            self.pass_on(getattr(signal, 'SIGKILL', signum))
            os._exit(128 + signum)

    def pass_on(self, signum):
        for pid in self.children():
            with contextlib.suppress(OSError): # It may have ended already.
                os.kill(pid, signum)

def ignore(_worker=None):
    """Leaves the signals to the process that started this one; for the workers that load data."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)

#----------------------------------------------------------------------------

def requested():
    """The signal that asked this process to stop; 0 = none."""
    return 0 if _listener is None else _listener.signum

def note(signum):
    """Remembers the signal on which training ended, for exit_code()."""
    global _stopped_by
    _stopped_by = signum

def exit_code():
    """128 + the signal that ended training, as a shell has it (130 for SIGINT, 143 for SIGTERM); 0 = none did."""
    return 128 + _stopped_by if _stopped_by else 0

def leave():
    """Ends the process with exit_code(), where a signal ended training."""
    if _stopped_by:
        sys.exit(exit_code())

def say(text):
    """Prints the last words of a run, even where the terminal is gone, as it is after SIGHUP."""
    for number, stream, words in ((1, sys.stdout, text + '\n'), (2, sys.stderr, '')):
        try:
            stream.write(words)
            stream.flush()
        except OSError: # The interpreter flushes the streams once more when it ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)

#----------------------------------------------------------------------------
