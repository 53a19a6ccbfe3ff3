"""A pickle may name a folder, and a generator.json in that folder any callable. A source comes from the pickle itself alone."""

import json
import pickle as P
import runpy
import types
from pathlib import Path

import pytest

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.sources.prepare import prepare_source

H = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / 'hostile_pickles.py')))
SPIDER = H.dict_of(mapping=H.text('residual'), source=H.text('model'), noise=H.number(0), embed=H.number(64))
PLACES = {
    'position':         dict(_init_args=H.tuple_of(H.number(8), H.number(0), H.number(16), H.number(3), P.NONE, SPIDER)),
    'keyword':          dict(_init_kwargs=H.sizes(spider=SPIDER)),
    'source':           dict(_init_kwargs=H.sizes(source=SPIDER)),
    'synthesis_kwargs': dict(_init_kwargs=H.sizes(synthesis_kwargs=H.dict_of(spider=SPIDER))),
    'mapping_kwargs':   dict(_init_kwargs=H.sizes(mapping_kwargs=H.dict_of(source=SPIDER))),
}
NAMES = ['Generator', 'SpiderGenerator', 'SpiderDSCFastGenerator',
         *sorted({declared.generator for declared in registry.generators.values() if declared.module})]

def hostile(class_name, place):
    """A snapshot of a StyleGAN2-like network of this class that names the folder `model`."""
    part = H.module(_modules=H.dict_of(b4=H.module(_parameters=H.dict_of(const=H.tensor()))))
    state = dict(_init_kwargs=P.EMPTY_DICT) | PLACES[place] | dict(_modules=H.dict_of(synthesis=part))
    return H.snapshot(H.call(H.RECORD, H.dict_of(
        type=H.text('class'), version=H.number(6), module_src=H.text(''), class_name=H.text(class_name),
        state=H.dict_of(**state))))

@pytest.mark.parametrize('class_name', NAMES)
@pytest.mark.parametrize('place', PLACES)
def test_a_folder_that_a_pickle_names_is_never_opened(place, class_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model').mkdir()
    call = dict(class_name='os.system', init_kwargs=dict(command='echo > executed'))
    (tmp_path / 'model' / 'generator.json').write_text(json.dumps(call))
    path = tmp_path / 'network.pkl'
    path.write_bytes(hostile(class_name, place))
    for read in (load_generator, lambda path: prepare_source(path, size=16)):
        with pytest.raises(SpiderError):
            read(str(path))
    assert not (tmp_path / 'executed').exists()
