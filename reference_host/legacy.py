"""Reads network snapshots of this host and of other StyleGAN-style codebases with the same persistence format."""

import pickle

import torch

from torch_utils import misc

#----------------------------------------------------------------------------

def load_network_pkl(f, force_fp16=False):
    """Read a snapshot from a binary file, a dict with at least the modules 'G', 'D', 'G_ema', 'augment_pipe' (module or
    None) and 'training_set_kwargs' (dict or None).

    This executes the source that the file carries, so open only files that you trust.
    force_fp16: run the four highest resolutions of every network in half precision on cuda.
    Raises pickle.UnpicklingError if the file is not such a snapshot.
    """
    data = _Unpickler(f).load()
    if not isinstance(data, dict):
        raise pickle.UnpicklingError(f'A network snapshot holds a dict, this file holds a {type(data).__name__}.')
    data = dict(augment_pipe=None, training_set_kwargs=None) | data
    for key, types in _ENTRIES.items():
        if not isinstance(data.get(key), types):
            raise pickle.UnpicklingError(f'The entry {key!r} of this network snapshot is a {type(data.get(key)).__name__}.')
    if force_fp16:
        data.update({key: _to_fp16(data[key]) for key in ['G', 'D', 'G_ema']})
    return data

_ENTRIES = dict(G=torch.nn.Module, D=torch.nn.Module, G_ema=torch.nn.Module,
                augment_pipe=(torch.nn.Module, type(None)), training_set_kwargs=(dict, type(None)))

class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module.startswith('dnnlib.tflib'):
            raise pickle.UnpicklingError('This is a TensorFlow snapshot; convert it with the legacy.py of '
                                         'NVlabs/stylegan3, then use the result.')
        return super().find_class(module, name)

def _to_fp16(net):
    """Return the same network, built again with half precision and with the clamp that half precision needs."""
    kwargs = net.init_kwargs
    options = kwargs.get('synthesis_kwargs', kwargs) # Some codebases nest them.
    options.update(num_fp16_res=4, conv_clamp=256)
    if kwargs == net.init_kwargs:
        return net
    new = type(net)(*net.init_args, **kwargs).eval().requires_grad_(False)
    misc.copy_params_and_buffers(net, new, require_all=True)
    return new
