"""--steady: G's optimizer moves in smaller and smaller steps, each an average of some gradients."""

from spider_plugin.errors import SpiderError
from spider_plugin.options.types import Option

OPTIONS = [
    Option('--steady',          bool,   False,      None,   'The rate of G falls in a straight line to 0 at the end of --kimg, '
           'and its Adam averages gradients (first beta 0.5): less noise in short runs', 'Training options'),
]

ADAM, FADING, BETA = 'torch.optim.Adam', 'spider_plugin.training.steady.FadingAdam', 0.5

def apply_steady(c, options):
    """Put the optimizer of G into the config; lines for the launch log. Raises SpiderError."""
    if not options['steady']:
        return []
    optimizer = c['G_opt_kwargs']
    if optimizer.get('class_name') != ADAM:
        raise SpiderError(f'--steady changes Adam, and this host trains G with {optimizer.get("class_name")}; leave it out.')
    steps = fade_steps(c['total_kimg'] - (c.get('resume_kimg') or 0), c['batch_size'], c.get('G_reg_interval'))
    optimizer.update(class_name=FADING, betas=[BETA, optimizer['betas'][1]], fade_steps=steps)
    return [f'{"Rate of G:":<21s}{optimizer["lr"]:g}, falling to 0 in {steps} steps; first beta {BETA:g}']

def fade_steps(kimg, batch, interval):
    """Return the number of steps of G in a run, at least 1; interval: iterations for each step of regularisation, or None."""
    iterations = max(-int(-kimg * 1000 // batch), 1)
    return iterations + (-(-iterations // interval) if interval else 0)

#----------------------------------------------------------------------------
