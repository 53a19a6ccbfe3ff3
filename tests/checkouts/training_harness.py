"""A module that is copied beside a checkout's train.py and imported after the hook. It makes the run tiny and records values.

SPIDER_TINY is JSON: values for the config, by dotted name, and `log`, a prefix of files. Each rank writes LOG-RANK.json."""

import functools
import hashlib
import json
import os
import traceback

import torch

from spider_plugin.hosts import imports, plain_resume
from spider_plugin.hosts.shims import stack
from spider_plugin.options import table as config

TINY = json.loads(os.environ['SPIDER_TINY'])

#----------------------------------------------------------------------------
# The first edit of the config, in the parent: the plugin shall see the networks that will train; and the last.

def _shrink(c):
    for name, value in TINY['config'].items():
        *path, last = name.split('.')
        part = c
        for key in path:
            part = part.setdefault(key, type(c)())
        part[last] = value

def _before(function):
    def shrunk(c, *args, **kwargs):
        _shrink(c)
        return function(c, *args, **kwargs)
    return shrunk

config.apply_options = _before(config.apply_options)
plain_resume.plan_lines = _before(plain_resume.plan_lines)
stack.mend_launch = _before(stack.mend_launch)

#----------------------------------------------------------------------------
# In each rank: what was built, how its weights moved, their gradients, and which source images were asked for by whom.

seen = dict(uses=[], keys=[], grads={})
built = {}

def _watch_loop(training_loop):
    import dnnlib
    stock_loop, stock_construct = training_loop.training_loop, dnnlib.util.construct_class_by_name

    def construct(*args, class_name=None, **kwargs):
        obj = stock_construct(*args, class_name=class_name, **kwargs)
        if isinstance(obj, torch.nn.Module):
            name = 'G' if hasattr(obj, 'mapping') or class_name.endswith('Generator') else \
                'D' if class_name.endswith('Discriminator') else None
            if name is not None and name not in built:
                built[name] = obj, {name: x.clone() for name, x in obj.state_dict().items()}, _features(obj)
                if name == 'G':
                    _watch_source(type(obj))
        return obj

    @functools.wraps(stock_loop)
    def loop(rank=0, **c):
        dnnlib.util.construct_class_by_name = construct
        stock_loop(rank=rank, **c)
        G, before, _ = built['G']
        after = {name: x.cpu() for name, x in G.state_dict().items()}
        params = {name for name, _ in G.named_parameters()}
        result = dict(
            rank=rank, class_name=type(G).__name__, uses=seen['uses'], keys=seen['keys'],
            still=sorted(name for name in params if torch.equal(before[name].cpu(), after[name])), params=sorted(params),
            no_grad=sorted(name for name, p in G.named_parameters() if not seen['grads'].get(id(p))),
            weights=hashlib.sha256(b''.join(after[name].numpy().tobytes() for name in sorted(params))).hexdigest(),
            finite=all(bool(after[name].isfinite().all()) for name in params), D=_moves(*built['D']) if 'D' in built else None)
        with open(f'{TINY["log"]}-{rank}.json', 'w') as file:
            json.dump(result, file)
    training_loop.training_loop = loop
    # It runs networks on uninitialised memory, of which stylegan2-ada-pytorch's w_avg may keep NaN.
    training_loop.misc.print_module_summary = lambda module, inputs: None

def _features(D):
    """Return a digest of the weights of a frozen feature network."""
    tensors = getattr(getattr(getattr(D, 'feature_network', None), 'features', None), 'tensors', {})
    return hashlib.sha256(b''.join(tensor.numpy().tobytes() for _, tensor in sorted(tensors.items()))).hexdigest()

def _moves(D, before, features):
    params = {name for name, _ in D.named_parameters()}
    still = sorted(name for name, x in D.state_dict().items() if torch.equal(before[name].cpu(), x.cpu()))
    return dict(class_name=type(D).__name__, params=sorted(params), still=still, features=[features, _features(D)],
                finite=all(bool(p.isfinite().all()) for p in D.parameters()))

def _watch_source(cls):
    import sys
    bank = getattr(sys.modules.get(cls.__mro__[1].__module__), 'ImageBank', None)
    for name in ('key', 'fetch') if bank is not None else ():
        def use(self, x, *args, name=name, stock=getattr(bank, name)):
            seen['uses'].append([name, [frame.name for frame in traceback.extract_stack()]])
            out = stock(self, x, *args)
            if name == 'key' and 'accumulate_gradients' in seen['uses'][-1][1]:
                seen['keys'].append(out[:, 0].int().tolist())
            return out
        setattr(bank, name, use)

_stock_step = torch.optim.Adam.step

def _step(self, *args, **kwargs):
    for p in self.param_groups[0]['params']:
        if p.grad is not None:
            seen['grads'][id(p)] = max(seen['grads'].get(id(p), 0.0), float(p.grad.square().mean()))
    return _stock_step(self, *args, **kwargs)

torch.optim.Adam.step = _step

imports.after_import('training.training_loop', _watch_loop)

#----------------------------------------------------------------------------
# A save that never ends: TINY['hang'] is a file that appears when half of the second snapshot is written.

def _hang_at_the_second_save(training_loop):
    import pickle
    import time
    import types
    saves = []
    def dump(data, file):
        whole = pickle.dumps(data)
        saves.append(file)
        file.write(whole if len(saves) == 1 else whole[:len(whole) // 2])
        if len(saves) == 2:
            file.flush()
            open(TINY['hang'], 'w').close()
            time.sleep(600)
    training_loop.pickle = types.SimpleNamespace(dump=dump)

if 'hang' in TINY:
    imports.after_import('training.training_loop', _hang_at_the_second_save)

#----------------------------------------------------------------------------
# Path lengths of TINY['paths'] samples in place of 50000, measured in pixels in place of VGG16, which is at a URL.

class Pixels(torch.nn.Module):
    def forward(self, img, **kwargs):
        return img.flatten(1)

def _few_paths(module):
    measure = module.compute_ppl
    if hasattr(module, 'metric_utils'):
        module.metric_utils.get_feature_detector = lambda *args, **kwargs: Pixels()
    def few(opts, num_samples, **kwargs):
        return measure(opts, num_samples=TINY['paths'], **kwargs)
    module.compute_ppl = few

if 'paths' in TINY:
    imports.after_import('metrics.perceptual_path_length', _few_paths)

#----------------------------------------------------------------------------
# Feature networks of timm, which imports torchvision, with random weights.

def _random_backbone(builder):
    def load_pretrained(*args, **kwargs):
        print('Test: the feature network has random weights')
    builder.load_pretrained = load_pretrained

if TINY.get('backbone'):
    import harness
    _library = harness.mend_torchvision()
    imports.after_import('timm.models._builder', _random_backbone)

#----------------------------------------------------------------------------
