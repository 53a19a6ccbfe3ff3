"""Callbacks that run when the host imports a module. They cause no import, and every process registers them again.

    after_import('metrics.metric_main', register_metrics)       calls register_metrics(module) as soon as it is loaded
    provide('pkg_resources', fill)                              makes a module by fill(module) if no other finder has one

One finder serves both. It returns the specs of the other finders, and adds the callbacks to their loaders."""

import importlib.machinery
import multiprocessing
import os
import sys
from pathlib import Path

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
    """Let the loader call the acts on the module that it has loaded."""
    stock_exec = loader.exec_module
    def exec_module(module):
        stock_exec(module)
        for act in acts:
            act(module)
    loader.exec_module = exec_module

_finder = _HostImports()

def install():
    """Put the finder first on sys.meta_path, once."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)

#----------------------------------------------------------------------------

def after_import(name, act):
    """Call act(module) after a module is imported, or now if it is imported already.

    name:   name of the module, or a function that says for a name whether the module is meant.
    The same pair (name, act) is registered once."""
    concerns = name if callable(name) else name.__eq__
    _finder.after[name, act] = concerns
    for module in [module for known, module in list(sys.modules.items()) if concerns(known)]:
        act(module)

def provide(name, fill):
    """Offer a module, filled by fill(module), to imports that would fail."""
    _finder.provided[name] = fill

def in_child():
    """Return whether multiprocessing spawned this process. parent_process() alone is None while a child imports the script."""
    return multiprocessing.parent_process() is not None or multiprocessing.current_process().name != 'MainProcess'

def find_elsewhere(name, path=None, target=None):
    """Return the spec of the other finders, or None."""
    specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not _finder)
    return next(filter(None, specs), None)

#----------------------------------------------------------------------------
# The folder of the host is the first entry of sys.path when its script starts. Hosts insert others before it later.

_FOLDER = 'SPIDER_HOST_FOLDER'  # environment variable, for spawned children, which get the sys.path of then
_folder: list[str] = []

def note_folder(folder=None):
    """Note the folder of the host, which is by default that of the running script, if sys.path still begins with it."""
    if folder is None and in_child():
        folder = os.environ.get(_FOLDER)
    elif folder is None:
        scripts = os.environ.get('SPIDER_RUN_SCRIPT'), getattr(sys.modules['__main__'], '__file__', None)
        first = Path(sys.path[0]).resolve()
        folder = first if any(script and Path(script).resolve().parent == first for script in scripts) else None
    if folder is not None:
        os.environ[_FOLDER] = str(folder)
        _folder[:] = [str(folder)]

def host_folder():
    """Return the folder of the host, an absolute path."""
    return _folder[0] if _folder else os.path.abspath(sys.path[0])

#----------------------------------------------------------------------------
