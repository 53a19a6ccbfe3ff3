"""Keywords that a host's training loop passes to its loss, and that a loss of the plugin has no use for.

Settings of the host's loss (numbers, names, None) are left out. A network is not: the host's loss trains it, or shows the
images through it, and training without it would be another training than the one that was asked for."""

from typing import Any

import torch

# What networks of that name are for, in small letters.
MEANING = {
    'cvd':              'a second discriminator, over feature networks',
    'diffusion':        'the noise that D sees the images through',
    'diffaug':          'the augmentation of what D sees',
    'dhead':            'a contrastive head of D',
    'ghead':            'a contrastive head of G',
    'contrastive_head': 'a contrastive head',
    'd_ema':            'a moving average of D',
    'encoder':          'an encoder that trains beside G',
    'teacher':          'a network that G is compared with',
}

class NotServed(TypeError):
    """A loss of the plugin cannot stand in for that of the host; the message is a clause for a sentence."""

left_out: list[str] = []    # names of the settings that the losses of this process have left out, for the launch log

def leave_out(loss: type, others: dict[str, Any]) -> None:
    """Check the keywords `others` that a loss of the plugin does not take. Raises NotServed if one of them is a network."""
    left_out[:] = others
    for name, value in others.items():
        if isinstance(value, torch.nn.Module):
            meaning = MEANING.get(name.lower(), 'a network of its own')
            raise NotServed(f'its loss gets {meaning} ({name}, a {type(value).__name__}), which {loss.__name__} does not serve')
