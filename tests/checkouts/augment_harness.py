"""Evaluates the AugmentPipe of a host checkout: harness.py with other calls."""

import importlib
import inspect
import pickle
import sys

import harness
import torch

class Carried(harness.Lifted):
    """A view of torch that draws numbers in float32 and casts them to `dtype`, so that every dtype gets the same numbers."""

    def __init__(self, dtype):
        self.float32 = dtype
        self.rand, self.randn = self.carry(torch.rand), self.carry(torch.randn)

    def carry(self, draw):
        return lambda *args, dtype=None, **kwargs: draw(*args, dtype=torch.float32, **kwargs).to(self.float32)

def modules():
    return [importlib.import_module(name) for name in ['training.augment', 'torch_utils.ops.upfirdn2d']]

#----------------------------------------------------------------------------
# Calls.

def evaluate(cases):
    """Return {dtype: [{output, first and second derivatives} of each case]}.

    A case is (kwargs, p, percentile, seed, images, weights)."""
    augment, _upfirdn2d = modules()
    importlib.import_module('torch_utils.ops.grid_sample_gradfix').enabled = True # As in training.
    results = {}
    for dtype in [torch.float32, torch.float64]:
        torch.set_default_dtype(dtype)
        for module in modules():
            module.torch = Carried(dtype)
        results[dtype] = [evaluate_one(augment.AugmentPipe(**kwargs), p, percentile, seed, images.to(dtype), weights.to(dtype))
                          for kwargs, p, percentile, seed, images, weights in cases]
    return results

def evaluate_one(pipe, p, percentile, seed, images, weights):
    """Return output and derivatives of scores that couple all pixels of an image. The sine's argument is divided to be near 1: a
    float32 of some hundreds is off by 1e-5, and the sine's derivatives with it, however exact the pipe is."""
    pipe.p.fill_(p)
    images.requires_grad_()
    torch.manual_seed(seed)
    output = pipe(images, debug_percentile=percentile)
    first, = torch.autograd.grad((output * weights).sum(), images, retain_graph=True)
    size = output[0].numel() ** 0.5
    coupled = size * ((output * weights).sum(dim=[1, 2, 3]) / size).sin()
    scores = coupled + (output.square() * weights).sum(dim=[1, 2, 3])
    grads, = torch.autograd.grad(scores.sum(), images, create_graph=True)
    second, = torch.autograd.grad(grads.square().sum(), images) # As in R1.
    return dict(output=output.detach(), first=first, second=second)

def describe(kwargs):
    """Return (constructor's parameters with their defaults, buffers, plain attributes) of a pipe."""
    augment, _upfirdn2d = modules()
    pipe = augment.AugmentPipe(**kwargs)
    params = inspect.signature(augment.AugmentPipe.__mro__[1].__init__).parameters.values()
    attributes = {name: value for name, value in vars(pipe).items() if isinstance(value, (float, list)) and name[0] != '_'}
    return [(p.name, p.default) for p in params if p.name != 'self'], dict(pipe.named_buffers()), attributes

def save(path, kwargs, images):
    augment, _upfirdn2d = modules()
    pipe = augment.AugmentPipe(**kwargs)
    pipe.p.fill_(0.6)
    with open(path, 'wb') as file:
        pickle.dump(pipe, file)
    return load(path, images)

def load(path, images):
    """Return the output of a pickled pipe, and its arguments."""
    with open(path, 'rb') as file:
        pipe = pickle.load(file)
    torch.manual_seed(2)
    return pipe(images), dict(pipe.init_kwargs)

CALLS = dict(evaluate=evaluate, describe=describe, save=save, load=load)

#----------------------------------------------------------------------------

if __name__ == '__main__':
    host_dir, job_path, result_path = sys.argv[1:]
    sys.path[0] = host_dir
    harness.mend()
    torch.set_num_threads(1)
    job = torch.load(job_path)
    torch.save(CALLS[job.pop('call')](**job), result_path)
