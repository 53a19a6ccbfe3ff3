"""Work to do when a module of the host is imported. Nothing is imported for it, and every process does it again.

    after_import('metrics.metric_main', register_metrics)       register_metrics(module), as soon as it is loaded
    provide('pkg_resources', fill)                              a module of ours, filled by fill(module), where nobody has one

One finder serves all of it. It finds as the other finders do, and lets the callback follow."""

import importlib.machinery
import multiprocessing
import sys

class _HostImports:
    def __init__(self):
        self.after, self.provided = {}, {}

    def find_spec(self, name, path=None, target=None):
        acts = [act for (_, act), concerns in self.after.items() if concerns(name)]
        if not acts and name not in self.provided:
            return None
        spec = find_elsewhere(name, path, target)
        if spec is None and name in self.provided:
            return importlib.machinery.ModuleSpec(name, _Filled(self.provided[name]))
        if spec is not None and acts and not isinstance(spec.loader, type | None): # Loaders of built-in modules are classes.
            _follow(spec.loader, acts)
        return spec

class _Filled:
    def __init__(self, fill):
        self.create_module, self.exec_module = lambda spec: None, fill

def _follow(loader, acts):
    """Lets the loader call the acts on the module that it has loaded."""
    stock_exec = loader.exec_module
    def exec_module(module):
        stock_exec(module)
        for act in acts:
            act(module)
    loader.exec_module = exec_module

_finder = _HostImports()

def install():
    """Puts the finder first on sys.meta_path, once."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)

#----------------------------------------------------------------------------

def after_import(name, act):
    """Calls act(module) after a module is imported, or now, if it is there already.

    name: of the module, or a function of a name that says whether it is meant; the same pair twice is registered once."""
    concerns = name if callable(name) else name.__eq__
    _finder.after[name, act] = concerns
    for module in [module for known, module in list(sys.modules.items()) if concerns(known)]:
        act(module)

def provide(name, fill):
    """Offers a module that fill(module) fills, to imports that would fail."""
    _finder.provided[name] = fill

def in_child():
    """Was this process spawned by another one of ours? parent_process() does not know while the script is imported again."""
    return multiprocessing.parent_process() is not None or multiprocessing.current_process().name != 'MainProcess'

def find_elsewhere(name, path=None, target=None):
    """The spec that the other finders have, or None."""
    specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not _finder)
    return next(filter(None, specs), None)

#----------------------------------------------------------------------------
