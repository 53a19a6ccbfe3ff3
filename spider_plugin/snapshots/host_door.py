"""Snapshots for the reference host, whose scripts read them through these functions where the plugin is installed.

Networks that are drawn from are built by known classes (snapshots/rebuild.py). Networks that only give their tensors to others,
when training resumes, are bare modules with these tensors. Nothing that the file carries is executed."""

from spider_plugin.errors import SpiderError
from spider_plugin.snapshots.rebuild import load_generator
from spider_plugin.snapshots.records import PersistentRecord, read_pickle
from spider_plugin.snapshots.resume_plan import NETWORKS, module_of

__all__ = ['load_generator', 'read_networks', 'read_training_set']

_DATASET = 'training.dataset.ImageFolderDataset'
_KEYS    = dict(path=str, use_labels=bool, max_size=int, xflip=bool, random_seed=int, resolution=int,    # of its options
                class_ids=list)

def read_networks(path):
    """Return {'G', 'D', 'G_ema': bare modules of their tensors, 'augment_pipe': one or None, 'told': whether a launch log has
    said which tensors are missing} of the host pickle at `path`.

    Raises SpiderError where a network is missing."""
    contents = read_pickle(path)
    missing = [name for name in NETWORKS if not isinstance(contents.get(name), PersistentRecord)]
    if missing:
        raise SpiderError(f'{path} holds no {" and no ".join(missing)}; give a network-snapshot-*.pkl, which holds G, D '
                          'and G_ema.')
    data = {name: module_of(contents[name].state_dict()) for name in NETWORKS}
    pipe = contents.get('augment_pipe')
    return dict(data, augment_pipe=module_of(pipe.state_dict()) if isinstance(pipe, PersistentRecord) else None,
                told=contents.get('told') is True)

def read_training_set(path):
    """Return the options of the dataset that the host pickle at `path` was trained on, a dict, or None.

    The class is always the host's; a file that names another one is refused, because the class would be called."""
    kwargs = read_pickle(path).get('training_set_kwargs')
    if kwargs is None or kwargs == {}:
        return None
    if not isinstance(kwargs, dict) or kwargs.get('class_name') != _DATASET or not isinstance(kwargs.get('path'), str):
        raise SpiderError(f'{path} names its training set in a way that hosts do not; give the dataset by --data.')
    if any(not isinstance(kwargs.get(key), (kind, type(None))) for key, kind in _KEYS.items()) or \
            any(not isinstance(number, int) for number in kwargs.get('class_ids') or ()):
        raise SpiderError(f'{path} holds options of its training set that hosts do not write; give the dataset by --data.')
    return dict(class_name=_DATASET, **{key: kwargs[key] for key in _KEYS if key in kwargs})
