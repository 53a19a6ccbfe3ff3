"""Packages spider_plugin and torch_utils_ext, and ships reference_host/, patches/ and configs/ inside spider_plugin.

The package index shows README.md away from the repository, so its relative links become links to the files of this version."""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HOME = 'https://github.com/spider-plugin/spider-plugin'
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

#----------------------------------------------------------------------------

def version():
    """Return __version__ of spider_plugin, which is not imported."""
    return re.search(r"^__version__ = '(.+)'$", Path('spider_plugin/__init__.py').read_text(encoding='utf-8'), re.M).group(1)

def with_absolute_links(text, tag):
    """Return a Markdown text whose relative links lead to the files at a tag of the repository; blocks of code stay as they are.

    Links within the page, `#part`, stay relative; pictures lead to the file itself."""
    relative = r'(?![a-z]+:|[#/])(?:\./)?([^\s()"]+)'
    def absolute(part):
        part = re.sub(rf'(!\[[^\]]*\]\(|src="){relative}', rf'\1{HOME}/raw/{tag}/\2', part)
        return re.sub(rf'(\]\(|href="){relative}', rf'\1{HOME}/blob/{tag}/\2', part)
    parts = re.split(r'(^```.*?^```$)', text, flags=re.M | re.S)
    return ''.join(part if part.startswith('```') else absolute(part) for part in parts)

if __name__ == '__main__':
    readme = Path('README.md').read_text(encoding='utf-8')
    setup(cmdclass={'build_py': BuildWithTrees}, long_description=with_absolute_links(readme, f'v{version()}'),
          long_description_content_type='text/markdown')
