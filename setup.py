"""Packages spider_plugin and torch_utils_ext, and ships reference_host/, patches/ and configs/ inside spider_plugin."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA_TREES = ['reference_host', 'patches', 'configs']   # spider_plugin/resources.py finds them in either place

class BuildWithTrees(build_py):
    """Copies the data trees into the built package; an editable install reads them from the checkout."""

    def run(self):
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)   # no files of an earlier build
        super().run()
        if not self.editable_mode:
            for source, target in self._tree_files():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode=True):
        files = [] if self.editable_mode else [str(target) for _, target in self._tree_files()]
        return super().get_outputs(include_bytecode) + files

    def _tree_files(self):
        for tree in DATA_TREES:
            for source in sorted(Path(tree).rglob('*')):
                if source.is_file() and '__pycache__' not in source.parts and source.suffix != '.pyc':
                    yield source, Path(self.build_lib) / 'spider_plugin' / source

setup(cmdclass={'build_py': BuildWithTrees})
