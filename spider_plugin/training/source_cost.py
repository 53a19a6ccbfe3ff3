"""Measures the cost of the image source, its share of a training step, for the host's statistics and once for its log.

The clock is put around the sources of a bundle when the bundle is loaded, so it is never part of a snapshot."""

import importlib
import time

NAME   = 'Spider/source_share'      # in stats.jsonl; between 0 and 1
WINDOW = 32                         # uses of the source per measurement, about five iterations

class SourceClock:
    """Times the outermost calls of a source.

    report(share):  called with the source's share of the time from the end of one window to the end of the next. A window is
                    discarded when it contains metrics or pictures, which are recognised by more than WINDOW calls in a row
                    without gradients (hosts also draw the fakes for D without gradients)."""

    def __init__(self, report):
        self.report, self.inside, self.begin, self.spans, self.idle = report, False, None, [], 0

    def call(self, function, *args):
        import torch
        if self.inside:
            return function(*args)
        self.idle = 0 if torch.is_grad_enabled() else self.idle + 1
        if self.idle > WINDOW:
            self.begin, self.spans = None, []
            return function(*args)
        self.inside = True
        try:
            start = _now(args[1])
            result = function(*args)
            end = _now(args[1])
        finally:
            self.inside = False
        if self.begin is None:
            self.begin = end
            return result
        self.spans.append((start, end))
        if len(self.spans) == WINDOW:
            self.report(sum(_seconds(*span) for span in self.spans) / max(_seconds(self.begin, end), 1e-9))
            self.begin, self.spans = end, []
        return result

# On a GPU both ends are events of the stream, because the clock of the CPU would measure only the launch.

def _now(tensor):
    if tensor.device.type != 'cuda':
        return time.perf_counter()
    import torch
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(tensor.device))
    return event

def _seconds(start, end):
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1000

#----------------------------------------------------------------------------

def watch(bundle):
    """Put the clock around the sources of a bundle that has just been imported.

    Hosts sum statistics over ranks by their names, so every rank registers the name before training."""
    try:
        stats = importlib.import_module('torch_utils.training_stats')
    except ImportError:
        return      # No host is on the path, so there is no training.
    stats.report(NAME, [])
    told = []
    def report(share):
        stats.report(NAME, share)
        if not told and getattr(stats, '_rank', 0) == 0:
            told.append(True)
            print(f'Spider source:       takes {100 * share:.2g}% of a training step ({NAME} in stats.jsonl)', flush=True)
    clock = SourceClock(report)
    for source in (getattr(bundle, name, None) for name in ('ImageBank', 'GeneratorSource')):
        for method in ('key', 'fetch') if source is not None else ():
            def timed(self, *args, stock=getattr(source, method)):
                return clock.call(stock, self, *args)
            setattr(source, method, timed)

#----------------------------------------------------------------------------
