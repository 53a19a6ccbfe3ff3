"""The collapse alarm in hosts that have none: a warning line when the signs of D saturate, or when the recall of a metric falls.

Both are read where a host hands them on: in the statistics that it collects for each tick, and in the metrics that it reports.
The images of its generator stay in its training loop, so they are not looked at. The embedded host has an alarm of its own kind
(reference_host/training/collapse.py), which sees them as well."""

import functools
import sys

TICKS     = 8       # ticks in a row with saturated signs
SATURATED = 0.995   # mean sign of D at real images, and its negative at generated ones, from which on D is certain of each
RECALL    = 0.3     # share of the best recall below which it has fallen,
RECALLED  = 0.05    # where the best was at least so large
REMEDY    = 'look at the newest images, and go back to an earlier snapshot with lower learning rates or a higher --gamma'

#----------------------------------------------------------------------------

class Alarm:
    """Warns once, and again only after the sign has passed."""

    def __init__(self):
        self.ticks, self.said, self.best = 0, set(), {}

    def see_signs(self, real, fake):
        """Return the words of a warning or None. real, fake: mean signs of D in a tick, NaN where there are none."""
        self.ticks = self.ticks + 1 if min(abs(real), abs(fake)) > SATURATED else 0
        meaning = 'is certain of every image' if real > 0 > fake else 'does not tell them apart'
        return self._once('signs', self.ticks >= TICKS, f'the signs of D are saturated, {real:+.3f} at real images and '
                          f'{fake:+.3f} at generated ones in {TICKS} ticks: D {meaning}, and G learns nothing from it')

    def see_results(self, results):
        """Return the words of a warning or None. results: {name: number} of a metric."""
        words = None
        for name, value in results.items():
            if name.endswith('_recall'):
                best = self.best[name] = max(self.best.get(name, 0.0), value)
                words = self._once(name, best >= RECALLED and value < RECALL * best,
                                   f'{name} has fallen to {value:.3f} from {best:.3f}; G leaves out parts of the data') or words
        return words

    def _once(self, name, bad, words):
        if not bad:
            self.said.discard(name)
        if not bad or name in self.said:
            return None
        self.said.add(name)
        return f'{words}; {REMEDY}'

def _say(words):
    if words is not None:
        print(f'Warning: {words}', file=sys.stderr, flush=True)

def _host_has_one():
    return 'training.collapse' in sys.modules   # of the embedded host, once it trains

#----------------------------------------------------------------------------

def watch_signs(training_stats):
    """Make the Collector of a host's torch_utils.training_stats look at each tick's signs, in rank 0."""
    collector = getattr(training_stats, 'Collector', None)
    if not hasattr(collector, 'as_dict'):
        return
    alarm, stock = Alarm(), collector.as_dict
    @functools.wraps(stock)
    def as_dict(self):
        found = stock(self)
        if getattr(training_stats, '_rank', 0) == 0 and not _host_has_one():
            means = [getattr(found.get(f'Loss/signs/{kind}'), 'mean', float('nan')) for kind in ('real', 'fake')]
            _say(alarm.see_signs(*means))
        return found
    collector.as_dict = as_dict

def watch_recall(report_metric):
    """Wrap a host's report_metric(result_dict, ...), so that a recall that has fallen is said."""
    alarm = Alarm()
    @functools.wraps(report_metric)
    def reported(result_dict, *args, **kwargs):
        done = report_metric(result_dict, *args, **kwargs)
        results = result_dict.get('results') if isinstance(result_dict, dict) else None
        if isinstance(results, dict) and not _host_has_one():
            _say(alarm.see_results(results))
        return done
    return reported

#----------------------------------------------------------------------------
