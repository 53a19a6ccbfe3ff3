"""Images of any generator: those of hosts, and those of forks (under --trust-pickle), whose calls and results may differ."""

import inspect

import torch

from spider_plugin.errors import SpiderError, out_of_memory, shown

# Options of a call that mean nothing at these values, so that a generator without them draws the same.
_NEUTRAL = dict(truncation_psi=1.0)
_NAMES   = dict(truncation_psi='--trunc')

CAMERAS = 'draws from cameras (its c is a camera), which is not supported; `spider export` writes its tensors'

def check_drawable(generator: torch.nn.Module, path: object) -> None:
    """Raise SpiderError for a generator that does not draw from a latent and a class; `path` is for messages."""
    if hasattr(generator, 'rendering_kwargs'):
        raise SpiderError(f'{path} holds a {shown(type(generator).__name__, 80)}, which {CAMERAS}.')
    if not isinstance(getattr(generator, 'z_dim', None), int) or not isinstance(getattr(generator, 'c_dim', 0), int):
        raise SpiderError(f'{path} holds a {shown(type(generator).__name__, 80)}, which does not say how long its latents and '
                          'labels are (z_dim, c_dim); use a snapshot of a StyleGAN2/3-style generator.')

def classes_of(generator: torch.nn.Module) -> int:
    """Return the length of a generator's labels, 0 for one without."""
    return int(getattr(generator, 'c_dim', 0))

@torch.no_grad()
def draw(generator: torch.nn.Module, z: torch.Tensor, c: torch.Tensor, path: object, **options: object) -> torch.Tensor:
    """Return images [N, C, H, W] in about [-1, 1] of latents z [N, z_dim] and labels c [N, c_dim], float32 both.

    path:       of the snapshot, for messages.
    options:    truncation_psi, noise_mode: handed on where the generator takes them. A truncation that it cannot take is refused.
    Raises SpiderError for a generator that cannot be called so, or that gives no images."""
    known = options_taken(generator.forward, options, path)
    try:
        images = generator(z, c, **known)
    except Exception as error:      # code of a fork, or tensors whose shapes do not fit each other
        if out_of_memory(error):
            raise
        raise SpiderError(f'{path} cannot be drawn from ({type(error).__name__}: {shown(error)}); use a complete snapshot of a '
                          'StyleGAN2/3-style generator.') from error
    return images_of(images, len(z), path)

def options_taken(function: object, options: dict[str, object], path: object) -> dict[str, object]:
    """Return the options that a function's signature takes. Raises SpiderError where one that is left out means something."""
    try:
        parameters = inspect.signature(function).parameters.values()    # type: ignore[arg-type]
    except (TypeError, ValueError):     # no Python function
        return options
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return options
    names = {parameter.name for parameter in parameters}
    for name in options.keys() - names:
        if name in _NEUTRAL and options[name] != _NEUTRAL[name]:
            raise SpiderError(f'{_NAMES[name]}={options[name]}: {path} holds a generator that takes no truncation; leave the '
                              'option out.')
    return {name: value for name, value in options.items() if name in names}

def images_of(result: object, count: int, path: object) -> torch.Tensor:
    """Return the images in what a generator gives: a tensor, the first one in a tuple, or the entry `image` of a dict.

    Raises SpiderError where there are none of the form [count, C, H, W]."""
    found = result
    if isinstance(result, dict):
        found = result.get('image')
    elif isinstance(result, (tuple, list)):
        found = next((part for part in result if isinstance(part, torch.Tensor) and part.ndim == 4), None)
    if not isinstance(found, torch.Tensor) or found.ndim != 4 or len(found) != count or not found.is_floating_point():
        got = list(found.shape) if isinstance(found, torch.Tensor) else type(result).__name__
        raise SpiderError(f'{path} holds a generator that gives {got} for {count} latents, no images [{count}, channels, height, '
                          'width]; use a snapshot of a StyleGAN2/3-style generator.')
    return found

def check_square(images: torch.Tensor, path: object, option: str) -> None:
    """Raise SpiderError for images [N, C, H, W] that are not square, or that have neither one channel nor three."""
    _, channels, height, width = images.shape
    if height != width:
        raise SpiderError(f'{option}: {path} draws images of {width}x{height}, and square ones are needed; render them with '
                          '`spider generate`, crop them, and give their folder.')
    if channels not in (1, 3):
        raise SpiderError(f'{option}: {path} draws images of {channels} channels, and 1 or 3 are needed; render them with '
                          '`spider generate`, convert them, and give their folder.')
