"""The options of a run that nobody gave, from the pictures, the device and a measured iteration.

The plans are tried from the best pictures to the fastest; the first one whose iteration is fast enough is taken. With few
pictures Projected GAN learns fastest (Sauer et al. 2021), with FastGAN's light generator (Liu et al. 2021); it needs the
weights of a feature network. Where these are not at hand, the smallest generator of the plugin trains on a CPU, and StyleGAN2
on a GPU, whose gamma follows StyleGAN2-ADA (Karras et al. 2020): 0.0002 resolution^2 / batch."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

HOURS = 8           # That a run on a CPU should take at most,
LEAST = 50          # and the kimg that must fit into them: an iteration is slow where they do not.
LENGTHS = (25, 50, 100, 200, 500, 1000)     # kimg of a run
BUSY = 1.5          # Seconds for one of the CPU from which on other programs are in the way.
SNAP_MINUTES, KEEP = 10, 10
MIRROR_BELOW = 5000     # pictures

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Plan:
    """Networks and sizes. cbase: value of --cbase, None for a cfg that keeps its own; disc_size: that of --disc-size, None where
    the discriminator is not projected."""

    cfg:        str
    resolution: int
    batch:      int
    cbase:      int | None = None
    disc_size:  int | None = None

    @property
    def gamma(self) -> float:
        if self.disc_size is not None:
            return 0
        return 0.5 if self.cfg == 'dcgan' else float(f'{0.0002 * self.resolution ** 2 / self.batch:.2g}')

@dataclasses.dataclass(frozen=True)
class Chosen:
    """The value of an option, and why."""

    option: str
    value:  Any
    why:    str

def plans(on_cpu: bool, has_features: bool, side: int, given: Mapping[str, Any]) -> list[Plan]:
    """Return the plans for a device, from the best pictures to the fastest.

    side:   of the pictures, as Photos.side has it.
    given:  values of the user, who wins: resolution, batch, cbase."""
    most = max(min(64 if on_cpu else 256, side), 32)
    sides = [given['resolution']] if given.get('resolution') else [most, *([32] if on_cpu and most > 32 else [])]
    rows = []
    for resolution in sides:
        if has_features:
            widths = (4096, 2048) if on_cpu else (16384,)
            rows += [Plan('fastgan_lite', resolution, 8 if on_cpu else 16, width, 128 if on_cpu else
                          max(resolution, 224) // 32 * 32) for width in widths]
        elif on_cpu:
            rows.append(Plan('dcgan', resolution, 16))
        else:
            rows.append(Plan('stylegan2', resolution, 16, 16384 if resolution < 512 else 32768))
    changed = {key: given[key] for key in ('batch', 'cbase') if given.get(key)}
    rows = [dataclasses.replace(plan, **changed) for plan in rows]
    return [plan for i, plan in enumerate(rows) if plan not in rows[:i]]

@dataclasses.dataclass(frozen=True)
class Measured:
    """A plan with the seconds of its iteration now, and on a machine with nothing else to do; threads: of the CPU."""

    plan:    Plan
    threads: int | None
    now:     float
    alone:   float

    def hours(self, kimg: float, alone: bool = False) -> float:
        """Return how long so many kimg take."""
        return kimg * 1000 / self.plan.batch * (self.alone if alone else self.now) / 3600

    @property
    def length(self) -> int:
        """The most kimg of LENGTHS that fit into HOURS, the least of them where none does."""
        return max((kimg for kimg in LENGTHS if self.hours(kimg, alone=True) <= HOURS), default=LENGTHS[0])

    @property
    def tick(self) -> float:
        """The kimg of a tick that takes about a minute, from one iteration to 4 kimg."""
        return min(max(round(60 / self.now), 1) * self.plan.batch / 1000, 4)

def pick(rows: Sequence[Plan], threads: Sequence[int | None],
         measure: Callable[[Plan, int | None], tuple[float, float]]) -> Measured:
    """Return the first plan whose LEAST kimg fit into HOURS, else the fastest.

    threads:    numbers to choose from, the least first. More than there are free cores are slow, so a busy machine gets the
                least.
    measure:    (plan, threads) -> seconds of an iteration, and those of the CPU."""
    first = [_measured(rows[0], threads[0], measure)]
    if first[0].now == first[0].alone:
        first += [_measured(rows[0], number, measure) for number in threads[1:]]
    tried = [min(first, key=lambda found: found.now)]
    for plan in rows[1:]:
        if tried[-1].hours(LEAST, alone=True) <= HOURS:
            return tried[-1]
        tried.append(_measured(plan, tried[0].threads, measure))
    return min(tried, key=lambda found: found.hours(1, alone=True))

def _measured(plan, threads, measure):
    seconds, cpu = measure(plan, threads)
    busy = threads == 1 and seconds > BUSY * cpu
    return Measured(plan, threads, seconds, cpu if busy else seconds)

def options(found: Measured, number: int, on_cpu: bool, has_features: bool) -> list[Chosen]:
    """Return the options of a run of a plan; number: of pictures."""
    plan, rows = found.plan, []
    if plan.disc_size is not None:
        rows += [Chosen('--cfg', plan.cfg, 'a light generator that learns from few images'),
                 Chosen('--disc', 'projected', 'judges by features of ImageNet, whose weights are installed'),
                 Chosen('--disc-heads', 'separable', 'fewer weights'),
                 Chosen('--disc-size', plan.disc_size, 'pixels that the features see')]
    else:
        better = '' if has_features else "; pip install 'spider-plugin[imagenet]' allows a better one"
        rows.append(Chosen('--cfg', plan.cfg, ('small enough for a CPU' if on_cpu else 'the usual one for a GPU') + better))
    if plan.cbase is not None:
        rows.append(Chosen('--cbase', plan.cbase, 'widths: more is better and slower'))
    rows += [Chosen('--batch', plan.batch, 'images of an iteration'),
             Chosen('--gamma', plan.gamma, 'R1, which a projected discriminator has not' if plan.disc_size is not None else
                    'weight of R1'),
             Chosen('--kimg', found.length, 'thousands of images that the run sees'),
             Chosen('--tick', found.tick, 'thousands of images for a line of progress, about a minute'),
             Chosen('--snap-minutes', SNAP_MINUTES, 'pictures, snapshot and report by the clock; the first after one minute'),
             Chosen('--keep', KEEP, 'newest snapshots that stay')]
    if number < MIRROR_BELOW:
        rows.append(Chosen('--mirror', True, 'twice as many images; --mirror=0 for letters and logos'))
    if on_cpu:
        rows.append(Chosen('--workers', 0, 'small images load fast enough'))
        rows += [] if found.threads is None else [Chosen('--threads', found.threads, 'CPU threads, the fastest of those tried')]
    return rows

def estimate(found: Measured, kimg: float, device: str) -> list[str]:
    """Return lines about the time of a run, of `kimg` and of more."""
    cores = f', {found.threads} thread{"s" * (found.threads != 1)}' if device == 'cpu' and found.threads else ''
    lines = [f'One iteration of {found.plan.batch} images takes {found.now:.2g} s here ({device}{cores}), so {kimg:g} kimg take '
             f'about {words_of(found.hours(kimg))}.']
    if found.now > found.alone:
        lines.append(f'Other programs keep this machine busy: alone, an iteration would take {found.alone:.2g} s, and {kimg:g} '
                     f'kimg {words_of(found.hours(kimg, alone=True))}.')
    if kimg > found.length and found.hours(kimg) > HOURS:
        lines.append(f'Try --kimg={found.length}: {words_of(found.hours(found.length))}.')
    elif kimg < 1000:
        lines.append(f'1000 kimg would take {words_of(found.hours(1000))}.')
    return [*lines, '^C stops with a snapshot, from which `spider train --resume=latest` continues.']

def words_of(time: float) -> str:
    """Return words for a number of hours: '40 minutes', '6.5 hours', '12 days'."""
    if time < 1.5:
        return f'{max(round(time * 60), 1)} minutes'
    return f'{time:.2g} hours' if time < 48 else f'{time / 24:.0f} days'

#----------------------------------------------------------------------------
