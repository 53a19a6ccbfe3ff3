"""Writes pickles of a checkout, and draws their images, in a separate process:

    python pickles_harness.py HOST_DIR write SNAPSHOT RESULTS.pt CLASS_NAME KWARGS_JSON [dill]
    python pickles_harness.py HOST_DIR rebuild SNAPSHOT RESULTS.pt
    python pickles_harness.py HOST_DIR stock SNAPSHOT RESULTS.pt

`write` makes a snapshot as the training of an attached host does, or by dill, of a tiny G whose tensors are moved away from
where they start. `rebuild` loads it by the plugin's reader, `stock` by the host's. All save the state dict of G_ema and images
of it."""

import importlib.util
import json
import pickle
import sys

import harness
import torch

def projected_discriminator():
    """Return projected-gan's D with random weights, including the feature network; None if timm is not installed."""
    if importlib.util.find_spec('timm') is None:
        print('timm is not installed: the snapshot has no D')
        return None
    import timm
    create = timm.create_model
    def without_weights(name, pretrained):
        print(f'{name}: random weights')
        model = create(name, pretrained=False)
        model.act1 = getattr(model, 'act1', torch.nn.Identity())
        return model
    timm.create_model = without_weights
    from pg_modules.discriminator import ProjectedDiscriminator
    return ProjectedDiscriminator(c_dim=0, diffaug=True, interp224=True, backbone_kwargs=dict(
        cout=8, expand=True, proj_type=2, num_discs=4, cond=0, separable=True))

def discriminator(class_name, kwargs):
    import dnnlib
    if class_name.startswith('pg_modules'):
        return projected_discriminator()
    module = 'training.networks' if class_name == 'training.networks.Generator' else 'training.networks_stylegan2'
    sizes = {key: kwargs[key] for key in ('c_dim', 'img_resolution', 'img_channels')}
    return dnnlib.util.construct_class_by_name(class_name=f'{module}.Discriminator', channel_base=64, channel_max=8, **sizes)

def write(snapshot, class_name, kwargs, *how):
    import dnnlib
    torch.manual_seed(0)
    G = dnnlib.util.construct_class_by_name(class_name=class_name, **kwargs).eval()
    for name, tensor in G.state_dict().items():
        if tensor.is_floating_point() and not name.endswith(('filter', 'transform', '_u', '_v')):
            tensor.add_(torch.rand_like(tensor), alpha=0.1)
    data = dict(G=G, D=discriminator(class_name, kwargs), G_ema=G, training_set_kwargs=dnnlib.EasyDict(path='none'))
    if class_name.startswith('pg_modules'):
        data['progress'] = dict(cur_nimg=torch.LongTensor([64]), best_fid=9999)
    elif importlib.util.find_spec('training.augment'):
        data['augment_pipe'] = importlib.import_module('training.augment').AugmentPipe(xflip=1, brightness=1, imgfilter=1)
    from spider_plugin.hosts.saving import open_whole
    with (open if how else open_whole)(snapshot, 'wb') as file:
        (importlib.import_module('dill') if how else pickle).dump(data, file)
    return G

def rebuild(snapshot):
    from spider_plugin.snapshots.rebuild import load_generator
    G = load_generator(snapshot)
    assert not any(name.startswith('_imported_module_') for name in sys.modules)
    return G

def stock(snapshot):
    import legacy
    with open(snapshot, 'rb') as file:
        return legacy.load_network_pkl(file)['G_ema']

def draw(G):
    torch.manual_seed(1) # FastGAN draws noise in its noise layers regardless of its arguments.
    z, c = torch.linspace(-2, 2, 3 * G.z_dim).reshape(3, G.z_dim).sin(), torch.eye(3, max(G.c_dim, 1))[:, : G.c_dim]
    with torch.no_grad():
        return G(z, c, noise_mode='const', force_fp32=True) # stylegan2-ada also computes in half precision on a CPU.

if __name__ == '__main__':
    host, call, snapshot, results, *rest = sys.argv[1:]
    sys.path[0] = host
    harness.mend()
    library = harness.mend_torchvision()
    torch.set_num_threads(1)
    load = dict(rebuild=rebuild, stock=stock)
    network = write(snapshot, rest[0], json.loads(rest[1]), *rest[2:]) if call == 'write' else load[call](snapshot)
    modules = [cls.__module__ for cls in type(network).__mro__]
    torch.save(dict(state=network.state_dict(), images=draw(network), modules=modules), results)
