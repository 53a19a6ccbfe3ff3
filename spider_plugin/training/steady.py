"""An Adam whose rate falls to 0 over the run, for any host's training loop: what --steady trains G with."""

import torch

#----------------------------------------------------------------------------
# Hosts construct an optimizer from its name and arguments, and call step() for each iteration. The count is in the parameter
# groups, so that the state of training has it.

class FadingAdam(torch.optim.Adam):
    """Adam whose rate falls in a straight line from `lr` at the first step to 0 at step `fade_steps`, where it stays.

    params, lr, further arguments: those of torch.optim.Adam. Raises ValueError for fade_steps below 1."""

    def __init__(self, params, lr, fade_steps, **kwargs):
        if fade_steps < 1:
            raise ValueError(f'a rate fades over one step at least, not {fade_steps}')
        super().__init__(params, lr=lr, **kwargs)
        self.fade_steps = fade_steps
        for group in self.param_groups:
            group.update(first_lr=lr, steps_done=0)

    def step(self, closure=None):
        """Do one step at the rate that is due; see torch.optim.Adam."""
        for group in self.param_groups:
            group['lr'] = group['first_lr'] * max(1 - group['steps_done'] / self.fade_steps, 0)
            group['steps_done'] += 1
        return super().step(closure)

#----------------------------------------------------------------------------
