"""Arguments that the layers of a fork have beside those of StyleGAN2 and StyleGAN3.

This module is portable: it travels inside snapshots and imports only the standard library."""

import inspect

def check_defaults(forward, others):
    """Raise TypeError for an argument in `others`, {name: value}, that is not its default in the host's forward: a layer of the
    plugin computes what the host's does without it."""
    if others:
        parameters = inspect.signature(forward).parameters
        for name, value in others.items():
            default = parameters[name].default if name in parameters else None
            if value is not default and not (isinstance(value, (bool, int, float, str)) and value == default):
                raise TypeError(f'a layer gets {name}={str(value)[:40]!r}, which separable and fast layers do not serve')
