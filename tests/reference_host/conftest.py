"""Puts the reference host's tree first on the path, as for its scripts, and this folder last, for modules that tests share. Other
hosts run in separate processes."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'reference_host'))
sys.path.append(str(pathlib.Path(__file__).parent))

@pytest.fixture(scope='module')
def data(tmp_path_factory, make_zip):
    """Images for training_runs.py."""
    return make_zip(tmp_path_factory.mktemp('data') / 'set.zip', n=24, res=16)
