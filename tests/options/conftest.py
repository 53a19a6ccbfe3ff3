"""A target in the folder that tests of edits run in, a source, and snapshots that stand for themselves."""

import pytest

from spider_plugin.options import table
from spider_plugin.options.resume import Resumed
from spider_plugin.portable.source.arguments import SpiderArguments

@pytest.fixture(scope='module')
def target_in_this_directory(tmp_path_factory, make_zip):
    path = tmp_path_factory.mktemp('target')
    make_zip(path / 'target.zip', n=24, res=16, seed=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield

@pytest.fixture(scope='module')
def source(tmp_path_factory, make_zip):
    return make_zip(tmp_path_factory.mktemp('source') / 'flies.zip', n=40, res=32, seed=5)

@pytest.fixture
def snapshot(monkeypatch):
    """Sets the `spider` argument and the source identity of the snapshot that --resume names, and what else it carries."""
    def say(spider, identity=None, **bank):
        resumed = Resumed('old.pkl', 'old.pkl', {}, SpiderArguments.read(spider), dict(bank, identity=identity))
        monkeypatch.setattr(table, 'read_resumed', lambda c, options, host: resumed)
        monkeypatch.setattr(table, 'resume_from_what_fits', lambda c, options, host, resumed: []) # There is no file.
    return say
