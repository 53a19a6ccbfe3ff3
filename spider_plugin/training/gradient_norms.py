"""Norms of gradients in the statistics of attached hosts, `Gradients/Gmain` and so on: that of all gradients of a network
together, at each step of its optimizer. The reference host reports them itself.

Hosts sum statistics over ranks by their names, so every rank reports."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from spider_plugin.training.run_watch import loop_above

@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Within this context each step of an optimizer in a training loop reports the norm, under the name of the loop's phase."""
    from torch.nn.utils import get_total_norm
    from torch.optim.optimizer import register_optimizer_step_pre_hook
    stats = importlib.import_module('torch_utils.training_stats')
    def report(optimizer: Any, args: Any, kwargs: Any) -> None:
        name = getattr(loop_above().get('phase'), 'name', None)
        grads = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if isinstance(name, str) and grads:
            stats.report(f'Gradients/{name}', get_total_norm(grads))
    handle = register_optimizer_step_pre_hook(report)
    try:
        yield
    finally:
        handle.remove()
