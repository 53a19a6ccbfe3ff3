"""Packages spider_plugin and torch_utils_ext, ships reference_host/, patches/ and configs/ inside spider_plugin, and makes the
README of the metadata, whose links may not be relative."""

import re
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

#----------------------------------------------------------------------------
# A package index shows the README without the files beside it.

def readme_of_the_metadata(text, repository):
    """Return the README `text` with absolute links.

    repository: address under which blob/HEAD/PATH is a file's page and raw/HEAD/PATH its content, as on GitHub and Gitea. None:
                the words of a picture stay, and the words of a link with the path of the file."""
    def image(match):
        return f'![{match[1]}]({repository}/raw/HEAD/{match[2]})' if repository else f'(Picture: {match[1]}.)'
    def link(match):
        return f'[{match[1]}]({repository}/blob/HEAD/{match[2]})' if repository else f'{match[1]} (`{match[2]}`)'
    relative = r'\((?![a-z]+:|#)([^)\s]+)\)'
    text = re.sub(rf'!\[([^\]]*)\]{relative}', image, text)
    return re.sub(rf'(?<!!)\[([^\]]*)\]{relative}', link, text)

def repository():
    """Return [project.urls] Repository of pyproject.toml, or None. Python 3.10 has no TOML reader."""
    found = re.search(r'^Repository = "(.+?)/?"$', Path('pyproject.toml').read_text(encoding='utf-8'), re.MULTILINE)
    return found and found[1]

#----------------------------------------------------------------------------

if __name__ == '__main__':
    setup(cmdclass={'build_py': BuildWithTrees}, long_description_content_type='text/markdown',
          long_description=readme_of_the_metadata(Path('README.md').read_text(encoding='utf-8'), repository()))
