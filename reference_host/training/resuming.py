"""--resume with a network pickle: what of it fits the networks that will train. It is looked at before the run has a folder, and
copied in the ranks."""

import textwrap

import torch

import dnnlib
from torch_utils import misc
from training import snapshots
from training.runtime import SpiderError, printable

NETWORKS = ('G', 'D', 'G_ema')
LEAST    = 0.1      # Part of G's tensors below which a pickle is of another architecture.

#----------------------------------------------------------------------------

def check(c, say=None):
    """Raises SpiderError unless the networks of the config can start from its network pickle; say: gets the lines of what has no
    counterpart."""
    source = snapshots.load_networks(c.resume_pkl, option='--resume')
    if source.get('told'):
        return # By a plan for these networks.
    dataset = dnnlib.util.construct_class_by_name(**c.training_set_kwargs)
    shape = dict(c_dim=dataset.label_dim, img_resolution=dataset.resolution, img_channels=dataset.num_channels)
    dataset.close()
    with torch.random.fork_rng(devices=[]):
        built = {name: dnnlib.util.construct_class_by_name(**c[f'{name}_kwargs'], **shape) for name in 'GD'}
    for line in compared(source, dict(built, G_ema=built['G']), c.resume_pkl):
        if say is not None:
            say(printable(line))

def resume(networks, resume_pkl, resume_p):
    """Copies what a network pickle holds into the networks, by name, and with resume_p the augmentation probability. A line says
    for each network which tensors have no counterpart, unless the file says that a plan has told.

    Raises SpiderError as compared() does."""
    source = snapshots.load_networks(resume_pkl, option='--resume')
    for line in compared(source, networks, resume_pkl):
        print(line)
    for key in NETWORKS:
        misc.copy_params_and_buffers(source[key], networks[key], require_all=False)
    pipe, words = networks.augment_pipe, ''
    if resume_p and pipe is not None and source['augment_pipe'] is not None:
        pipe.p.copy_(source['augment_pipe'].p)
        words = f' with augmentation probability {float(pipe.p):.3f}'
    print(f'Fine-tuning from {resume_pkl}{words}: its weights alone; --resume=RUN_DIR continues a run exactly')

def compared(source, networks, resume_pkl):
    """A list of lines: for each network which tensors have no counterpart.

    source: of load_networks(). Raises SpiderError where a shape differs, a weight is not finite, or next to nothing of G is
    there."""
    lines = []
    for key in NETWORKS:
        if (name := misc.not_finite(source[key])) is not None:
            raise SpiderError(f'--resume: {name} of {key} in {resume_pkl} is not finite, as training diverged; take an earlier '
                              'snapshot')
        if key == 'G':
            check_that_some_fits(source, networks[key], resume_pkl)
        try:
            misc.check_shapes(source[key], networks[key])
        except ValueError as err:
            raise SpiderError(f'--resume: {key} of {resume_pkl} does not fit; use the resolution, labels and network '
                              f'options it was trained with ({textwrap.shorten(str(err), 160)})') from err
        if (words := missing_words(source[key], networks[key])) and not source.get('told'):
            lines.append(f'--resume: {key}: {words}')
    return lines

def check_that_some_fits(source, G, resume_pkl):
    there, here = names_of(source['G']), names_of(G)
    if there & {name for name, _ in G.named_parameters()} and (source.get('told') or len(there & here) >= LEAST * len(here)):
        return
    found = len(there & here)
    raise SpiderError(f'--resume: {f"only {found} of {len(here)} tensors" if found else "no tensor"} of G in {resume_pkl} '
                      f'{"fit" if found > 1 else "fits"} the networks of this run; resume from a snapshot of the same '
                      'architecture')

def names_of(module):
    """The names of a module's parameters and buffers, a set."""
    return {name for name, _ in misc.named_params_and_buffers(module)}

def missing_words(src, dst):
    """Words about the tensors that only one of two modules has, '' where both have the same."""
    there, here = names_of(src), [name for name, _ in misc.named_params_and_buffers(dst)]
    new, unused = [name for name in here if name not in there], sorted(there - set(here))
    words = [f'{len(here) - len(new)} of {len(here)} tensors copied']
    for names, where in ((new, 'not in the file'), (unused, 'only in the file')):
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            words.append(f'{len(names)} {where}: {", ".join(names[:3])}{more}')
    return '; '.join(words) if new or unused else ''

#----------------------------------------------------------------------------
