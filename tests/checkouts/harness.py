"""Evaluates the networks of a host checkout, in a separate process that imports only the checkout and torch.

    python harness.py HOST_DIR job.pt results.pt

The job is a dict: `call` names one of CALLS below, the rest are its arguments.
"""

import importlib.util
import inspect
import pickle
import re
import sys
import types

import torch

#----------------------------------------------------------------------------
# Repairs that public checkouts need to be imported on a current stack.

def mend():
    if importlib.util.find_spec('pkg_resources') is None: # Newer setuptools do not ship it.
        stub = types.ModuleType('pkg_resources')
        stub.parse_version = torch.torch_version.TorchVersion
        sys.modules['pkg_resources'] = stub

def mend_torchvision():
    """Make `import torchvision` work for the rest of the process; return what must live as long, or None.

    A wheel that was built for another torch fails for the lack of two operators. They are defined, by name only, after that
    import has failed and never before: the library of a wheel that fits defines them too, and its second definition aborts."""
    try:
        importlib.import_module('torchvision')
    except ModuleNotFoundError:
        pass
    except RuntimeError:
        print('Test: torchvision does not fit this torch; its operators are names only')
        for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
            del sys.modules[name]
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        return library

class Lifted:
    """A view of torch in which float32 is float64, so that casts and dtype checks of modules that use it compute in float64."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)

LIFTED = ['training.networks_stylegan2', 'training.networks_stylegan3', 'torch_utils.ops.upfirdn2d',
          'torch_utils.ops.conv2d_resample', 'torch_utils.ops.filtered_lrelu']

def lift(lifted):
    """Lift the modules of networks to float64, or restore them; tensors made without a dtype follow."""
    for name in LIFTED:
        module = importlib.import_module(name)
        if hasattr(module, 'torch'):
            module.torch = Lifted() if lifted else torch
    torch.set_default_dtype(torch.float64 if lifted else torch.float32)

#----------------------------------------------------------------------------
# Calls.

def networks(G_kwargs, D_kwargs):
    """G and D, from the class names and arguments that a training config has."""
    import dnnlib
    return [dnnlib.util.construct_class_by_name(**kwargs) for kwargs in [G_kwargs, D_kwargs]]

def derivatives(prefix, scalar, tensors):
    """Return {prefix.name: d scalar / d tensor}, with zeros for tensors on which scalar does not depend."""
    grads = torch.autograd.grad(scalar, list(tensors.values()), retain_graph=True, allow_unused=True)
    return {f'{prefix}.{name}': torch.zeros_like(t) if g is None else g.detach()
            for (name, t), g in zip(tensors.items(), grads)}

def evaluate(G_kwargs, D_kwargs, inputs, variants, weights=None, lift_casts=False):
    """Outputs, first derivatives, and second derivatives through R1 and path length, of G and D with given weights.

    variants: arguments of G.synthesis, a dict for each. Returns ({(dtype, number of the variant): {name: tensor}}, the
    weights: made here if none are given).
    """
    weights = weights or new_weights(G_kwargs, D_kwargs)
    results = {}
    for dtype in [torch.float32, torch.float64]:
        lift(lift_casts and dtype == torch.float64)
        for i, options in enumerate(variants):
            G, D = networks(G_kwargs, D_kwargs)
            for net, state in zip([G, D], weights):
                net.to(dtype).load_state_dict(state)
            results[dtype, i] = evaluate_one(G, D, [t.to(dtype) for t in inputs], options)
    return results, weights

def evaluate_one(G, D, inputs, options):
    z, c, real, weight_img, weight_logit = inputs
    z, c, real = [t.requires_grad_() for t in [z, c, real]]
    G_params, D_params = dict(G.named_parameters(), z=z, c=c), dict(D.named_parameters(), real=real, c=c)
    out = {}

    ws = G.mapping(z, c)
    img = G.synthesis(ws, **options)
    out['G.ws'], out['G.img'] = ws.detach(), img.detach()
    out['G.truncated'] = G(z, c, truncation_psi=0.7, truncation_cutoff=3, **options).detach()
    out.update(derivatives('G', (img * weight_img).sum(), G_params))
    pl_grads, = torch.autograd.grad((img * weight_img).sum(), ws, create_graph=True)
    lengths = pl_grads.square().sum(dim=2).mean(dim=1).sqrt()
    out.update(derivatives('path_length', (lengths - 0.5).square().mean(), G_params))

    logits = D(real, c)
    out['D.logits'] = logits.detach()
    out.update(derivatives('D', (logits * weight_logit).sum(), D_params))
    r1_grads, = torch.autograd.grad(logits.sum(), real, create_graph=True)
    out.update(derivatives('r1', r1_grads.square().sum(dim=[1, 2, 3]).mean(), D_params))

    out['G.updated'] = G(z, c, update_emas=True, **options).detach()
    out.update({f'G.{name}': buffer for name, buffer in G.named_buffers() if name.endswith(('_avg', '_ema'))})
    return out

def new_weights(G_kwargs, D_kwargs):
    """Return state dicts of a new G and D, with every tensor moved away from special values such as zero.

    The signals of StyleGAN3's layers L0_... are also moved away from the kink of the activation, because the last bit of
    samples close to it would choose the derivative.
    """
    states = [net.state_dict() for net in networks(G_kwargs, D_kwargs)]
    for state in states:
        for name, tensor in state.items():
            if not name.endswith('filter'):
                tensor.add_(torch.randn_like(tensor), alpha=0.2)
            if re.fullmatch(r'synthesis\.L\w+\.bias', name):
                tensor.sign_().mul_(2.5)
            if name.endswith('magnitude_ema'):
                tensor.add_(6) # What such biases lead to.
            if name.endswith('transform'):
                tensor[2] = torch.eye(3)[2] # It stays affine.
    return states

def signatures(module):
    """{name: [(parameter, kind, default), ...], each as text} of all classes and functions of a module of networks."""
    found = {}
    for name, obj in vars(importlib.import_module(module)).items():
        functions = {f'{name}.{k}': getattr(obj, k) for k in ['__init__', 'forward'] if isinstance(obj, type)} or {name: obj}
        for key, function in functions.items():
            if key.endswith('.__init__'):
                function = obj.__mro__[1].__init__ # Beneath the persistent decorator.
            if isinstance(function, types.FunctionType) and not name.startswith('_'):
                function = inspect.getclosurevars(function).nonlocals.get('fn', function) # Beneath a plain decorator.
                params = inspect.signature(function).parameters.values()
                found[key] = [(p.name, str(p.kind), repr(p.default)) for p in params]
    return found

AUGMENTATIONS = ['xflip', 'scale', 'rotate', 'brightness', 'hue', 'noise']

def save(path, G_kwargs, D_kwargs, seed):
    """Write a snapshot as training does."""
    import dnnlib
    torch.manual_seed(seed)
    G, D = [net.eval() for net in networks(G_kwargs, D_kwargs)]
    augment_pipe = None
    if importlib.util.find_spec('training.augment'):
        augment_pipe = importlib.import_module('training.augment').AugmentPipe(**dict.fromkeys(AUGMENTATIONS, 1))
    data = dict(G=G, D=D, G_ema=G, augment_pipe=augment_pipe, training_set_kwargs=dnnlib.EasyDict(path='none'))
    with open(path, 'wb') as file:
        pickle.dump(data, file)
    return generate(path)

def generate(path):
    """Return images and scores of a snapshot for fixed latents."""
    import dnnlib
    import legacy
    with dnnlib.util.open_url(path) as file:
        data = legacy.load_network_pkl(file)
    G, D = data['G_ema'], data['D']
    z = torch.linspace(-2, 2, 4 * G.z_dim).reshape(4, G.z_dim).sin()
    c = torch.eye(4, G.c_dim)
    img = G(z, c, noise_mode='const')
    if data['augment_pipe'] is not None:
        assert data['augment_pipe'](img).shape == img.shape
    return dict(img=img.detach(), logits=D(img, c).detach(), kwargs=dict(data['training_set_kwargs']),
                init_kwargs=dict(G.init_kwargs))

CALLS = dict(evaluate=evaluate, signatures=signatures, save=save, generate=generate)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path[0] = host_dir
    mend()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = torch.load(job_path)
    torch.save(CALLS[job.pop('call')](**job), result_path)
