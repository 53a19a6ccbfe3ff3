"""Importing `spider_plugin.bundles.<name>` makes that bundle; see spider_plugin/bundles/source.py.

Hosts resolve class names such as `spider_plugin.bundles.dcgan.DCGANGenerator` by importing, in every rank."""

import importlib.abc
import importlib.machinery
import linecache
import sys

from spider_plugin.bundles.source import bundle_source

#----------------------------------------------------------------------------
# The source is kept where `inspect.getsource` looks, because hosts put it into their pickles.

class _BundleFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if not fullname.startswith(__name__ + '.'):
            return None
        try:
            bundle_source(fullname[len(__name__) + 1 :])
        except KeyError:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, _BundleLoader(), origin=f'<{fullname}>')
        spec.has_location = True
        return spec

class _BundleLoader(importlib.abc.InspectLoader):
    def get_source(self, fullname):
        return bundle_source(fullname[len(__name__) + 1 :])

    def get_filename(self, fullname):
        return f'<{fullname}>'

    def exec_module(self, module):
        source, filename = self.get_source(module.__name__), self.get_filename(module.__name__)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, 'exec'), module.__dict__)

sys.meta_path.append(_BundleFinder())

#----------------------------------------------------------------------------
