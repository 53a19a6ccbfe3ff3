"""Images of a generator that is a source, and the class by which every process of a run builds it again."""

import inspect

import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.snapshots.drawing import check_square, classes_of, draw
from spider_plugin.snapshots.sizes import batch_for
from spider_plugin.sources.parents import one_hot, rendered_labels, rendered_latents
from spider_plugin.sources.resize import resize_area

#----------------------------------------------------------------------------

def drawn_size(generator, path, trust=False):
    """Return (channels, side) of the images that a generator draws. Of one that was unpickled an image is drawn, since a fork's
    attributes may mean something else. Raises SpiderError unless the images are square."""
    if not trust:
        return generator.img_channels, generator.img_resolution
    z = rendered_latents(1, generator.z_dim).to(next((tensor.device for tensor in generator.parameters()), 'cpu'))
    image = draw(generator, z, one_hot(rendered_labels(1, classes_of(generator)), classes_of(generator)).to(z.device), path,
                 noise_mode='const')
    check_square(image, path, '--spider-source')
    return tuple(image.shape[1:3])

def rendered_blocks(generator, label, size, path, batch=32):
    """Yield images uint8 [<= batch, C, size, size] of the seeded latents, one for each of the classes `label` [M]."""
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    generator = generator.to(device)
    z, batch = rendered_latents(len(label), generator.z_dim), batch_for(generator, batch)
    for z_batch, labels in zip(z.split(batch), label.split(batch)):
        c_batch = one_hot(labels, classes_of(generator))
        images = draw(generator, z_batch.to(device), c_batch.to(device), path, noise_mode='const').to(torch.float32).cpu()
        yield resize_area(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy(), size)

def known_arguments(path, trust):
    """Return (class name, arguments by name) of the known class by which ranks will run the generator, whose tensors fit it.

    Raises SpiderError."""
    from spider_plugin.snapshots.families import known_class, lacks_family, network_family
    from spider_plugin.snapshots.rebuild import fitting_arguments, rebuild_generator
    from spider_plugin.snapshots.records import generator_record
    render = 'give a number of images to render now, such as --spider-bank=100k'
    try:
        record = generator_record(path)
        family = network_family(record)
        known = None if lacks_family(family) else known_class(record, path)
        built = known and rebuild_generator(record, path)
        kwargs = known and _by_name(type(built), record.init_args) | fitting_arguments(record, known, path)
    except Exception as error:      # of any type, for arguments that the class was not made for
        if not trust:
            raise
        raise SpiderError(f'--spider-bank=online runs a known class in every process, also with --trust-pickle, but '
                          f'{shown(error).split(";")[0]}; {render}.') from error
    if known is None:
        raise SpiderError(f'--spider-bank=online: {path} is a {family} generator, and this host has no such network to run for '
                          f'every batch; {render}.')
    return known.class_name, kwargs

def _by_name(cls, args):
    """Return {name: value} of positional arguments of a class, whose own __init__ may hand them on to that of a base."""
    for init in (base.__dict__['__init__'] for base in cls.__mro__ if '__init__' in base.__dict__):
        parameters = list(inspect.signature(init).parameters.values())[1:]
        names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        if len(names) >= len(args):
            return dict(zip(names, args))
    return {}
