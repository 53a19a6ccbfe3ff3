"""One iteration of a host's training loop, in a process of its own, on the CPU, with a few random images. hosts/dry_run.py starts
the process, and says there what is made of the result.

The loop itself runs, with its data loader, summaries, phases, sample images and snapshot, because no reading of its source could
say as much about a host that nobody listed."""

import ast
import contextlib
import copy
import importlib
import inspect
import json
import linecache
import os
import pickle
import re
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spider_plugin.hosts import imports, loop_reads, saving
from spider_plugin.hosts.capabilities import built, import_name
from spider_plugin.hosts.saving import LOOP_MODULE
from spider_plugin.hosts.shims import cpu_device, stack

SIDE, CHANNELS, FEATURES = 32, 32, 128  # Of the small networks: image, widest layer, image that a feature network sees.
BATCH = 4   # Of two images, a result without a second part could be taken apart in two.

#----------------------------------------------------------------------------

class Images(torch.utils.data.Dataset):
    """Random images with the attributes of hosts' datasets: item i is (uint8 [channels, resolution, resolution], float32
    [label_dim]), where the label is one-hot. What else a loop asks of its dataset is that of the host's class."""

    name, has_onehot_labels = 'random', True

    def __init__(self, resolution: int, channels: int, label_dim: int, host_class: str = '', **_other: object) -> None:
        self.image_shape, self.label_shape = [channels, resolution, resolution], [label_dim]
        self.resolution, self.num_channels, self.label_dim = resolution, channels, label_dim
        self.has_labels = self._use_labels = label_dim > 0
        self._host_class, self._raw_shape, self._raw_labels = host_class, [8, *self.image_shape], None
        self._raw_idx, self._xflip = np.arange(8), np.zeros(8, np.uint8)
        with contextlib.suppress(Exception):    # of a host's code; it does so to find label_dim, and may keep more of them
            self._get_raw_labels()

    def __getattr__(self, name: str) -> Any:
        host_class = self.__dict__.get('_host_class')
        found = inspect.getattr_static(import_name(host_class), name, None) if host_class and not name.startswith('__') else None
        if found is None:
            raise AttributeError(f'the dataset has no attribute {name!r}')
        return found.__get__(self, type(self)) if hasattr(found, '__get__') else found

    def _load_raw_labels(self) -> np.ndarray:
        return np.stack([self.get_label(idx) for idx in range(8)])

    def _load_raw_image(self, raw_idx: int) -> np.ndarray:
        return self[raw_idx][0]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        return np.random.RandomState(idx).randint(0, 256, self.image_shape).astype(np.uint8), self.get_label(idx)

    def get_label(self, idx: int) -> np.ndarray:
        return (np.arange(self.label_dim) == idx % max(self.label_dim, 1)).astype(np.float32)

    def get_details(self, idx: int) -> Any:
        details = importlib.import_module('dnnlib').EasyDict
        return details(raw_idx=idx, xflip=False, raw_label=np.int64(idx % max(self.label_dim, 1)))

    def close(self) -> None:
        pass

#----------------------------------------------------------------------------
# The config, made small. A part that is not known stays as it is.

_WIDTHS = dict(channel_max=CHANNELS, channel_base=64 * CHANNELS, ngf=4)     # {argument of a network: the most of it}
_NO_NETWORKS = {'training_set_kwargs', 'data_loader_kwargs', 'loss_kwargs', 'augment_kwargs', 'G_opt_kwargs', 'D_opt_kwargs'}

def small_side(resolution: int) -> int:
    """Return the side of the images for the small networks of an iteration at that resolution."""
    return min(resolution, SIDE) if resolution & (resolution - 1) == 0 else resolution

def shrink(c: Any, folder: str) -> None:
    """Make the networks of a config narrow, in place, and their source small; folder: where a small source goes."""
    _shrink_what_is_as_wide(c)
    for part in filter(None, (c.get('G_kwargs'), c.get('D_kwargs'))):
        if 'channel_max' in _arguments(part.get('class_name')):
            part.setdefault('channel_max', CHANNELS)
        for kwargs in (part, *(value for value in part.values() if isinstance(value, dict))):
            for key, most in _WIDTHS.items():
                if isinstance(kwargs.get(key), int):
                    kwargs[key] = min(kwargs[key], most)
    if str(c.get('D_kwargs', {}).get('class_name')).endswith('ProjectedDiscriminator') and 'heads' in c['D_kwargs']:
        c['D_kwargs']['feature_resolution'] = FEATURES
    if isinstance(c.get('G_kwargs', {}).get('dsc'), dict):
        c['G_kwargs']['dsc']['res'] = [0, SIDE]
    spider = c.get('G_kwargs', {}).get('spider')
    if spider is not None:
        spider['source'] = small_bank(spider, folder)

def _shrink_what_is_as_wide(c: Any) -> None:
    """Make networks that a fork has beside G and D, such as heads for the features of D, as narrow as D will be: in a config,
    they have the number that is the widest layer of D."""
    widest = (c.get('D_kwargs') or {}).get('channel_max', 0)
    for name, part in c.items():
        if name.endswith('_kwargs') and name not in {'G_kwargs', 'D_kwargs', *_NO_NETWORKS} and isinstance(part, dict):
            part.update({key: CHANNELS for key, value in part.items() if type(value) is int and value == widest > CHANNELS})

def _arguments(class_name: Any) -> Any:
    try:
        return inspect.signature(import_name(class_name)).parameters
    except Exception:   # of a host's code; the loop will say it
        return {}

def small_bank(spider: dict, folder: str) -> str:
    """Return a prepared directory in `folder` with a few images of a source, no larger than SIDE; that of `spider` itself where
    it is small, or a generator."""
    from torch_utils_ext.cache_root import cache_root
    path = os.path.join(cache_root(), spider['source'])
    if os.path.isfile(os.path.join(path, 'generator.json')):
        return spider['source']
    images = np.load(os.path.join(path, 'images.npy'), mmap_mode='r')
    if images.shape[2] <= SIDE:
        return spider['source']
    step = images.shape[2] // SIDE
    info = json.loads(Path(path, 'bank.json').read_text(encoding='utf-8'))
    chosen = list(range(min(len(images), 16)))
    if info['labels'] is not None:      # at least an image of each class
        chosen = sorted({label: i for i, label in enumerate(info['labels'])}.values())
        info['labels'] = [info['labels'][i] for i in chosen]
    os.makedirs(folder)
    np.save(os.path.join(folder, 'images.npy'), np.ascontiguousarray(images[chosen][:, :, ::step, ::step]))
    Path(folder, 'bank.json').write_text(json.dumps(info), encoding='utf-8')
    return folder

def resumed(path: Any, folder: str, small: bool) -> str | None:
    """Return the path of the pickle that an iteration resumes from: that of the config if the plugin wrote it
    (snapshots/resume_plan.py), None for another one, which is not opened. For small networks it is one without their tensors."""
    from torch_utils_ext.cache_root import cache_root
    if not isinstance(path, str) or not Path(path).is_relative_to(Path(cache_root(), 'resume')):
        return None
    if not small:
        return path
    with open(path, 'rb') as file:
        contents = pickle.load(file)
    contents.update({name: torch.nn.Module() for name, value in contents.items()
                     if isinstance(value, torch.nn.Module) and name != 'augment_pipe'})
    path = os.path.join(folder, 'resumed.pkl')
    with open(path, 'wb') as file:
        pickle.dump(contents, file)
    return path

def arguments(c: Any, parameters: Any, run_dir: str, target: dict) -> dict[str, Any]:
    """Return the arguments of a training loop with these parameters for one iteration of the config, whose snapshot goes into
    run_dir; target: resolution, channels and label_dim of the images."""
    data = dict(c['training_set_kwargs'], class_name=f'{__name__}.Images', **target)
    data['host_class'] = c['training_set_kwargs'].get('class_name', '')
    wanted = dict(
        run_dir=run_dir, rank=0, num_gpus=1, batch_size=BATCH, batch_schedule=None, total_kimg=BATCH / 2000, kimg_per_tick=1e-3,
        image_snapshot_ticks=1, network_snapshot_ticks=1, metrics=[], resume_kimg=0, ada_interval=1,
        abort_fn=None, progress_fn=None, cudnn_benchmark=False, state_file=None, threads=None, data_loader_kwargs={},
        training_set_kwargs=type(c['training_set_kwargs'])(data), **{name: BATCH for name in parameters if 'batch_gpu' in name})
    return {name: wanted.get(name, c[name] if name in c else None) for name in parameters if name in wanted or name in c}

#----------------------------------------------------------------------------
# The process.

class _Nothing:
    """Stands in for tensorboard's writer: any attribute and any call of it is itself."""

    def __getattr__(self, name: str) -> '_Nothing':
        if name.startswith('__'):
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> '_Nothing':
        return self

class _Dynamo(types.ModuleType):
    """Stands in for torch._dynamo, which optimizers import, and which takes longer to import than the iteration does. It makes
    way for the real one where code asks for more than they do."""

    @staticmethod
    def graph_break() -> None:
        pass

    @staticmethod
    def disable(function: Any, *_args: object, **_kwargs: object) -> Any:
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

def _without_waiting() -> None:
    """Put stand-ins in place of what takes time and has no part in training, and make grids of sample images small."""
    board = types.ModuleType('torch.utils.tensorboard')
    board.SummaryWriter = _Nothing()    # type: ignore[attr-defined]
    sys.modules['torch.utils.tensorboard'] = board
    if 'torch._dynamo' not in sys.modules:
        sys.modules['torch._dynamo'] = torch._dynamo = _Dynamo('torch._dynamo')
    cpu_device.GRID = 2
    for module in list(sys.modules.values()):
        if inspect.isfunction(setup := vars(module).get('setup_snapshot_image_grid')):
            vars(module)['setup_snapshot_image_grid'] = cpu_device.small_grid(setup)
    for name in ('timm.models._builder', 'timm.models.helpers'):    # of timm now, and before 0.9
        imports.after_import(name, _without_weights)

def _without_weights(builder: Any) -> None:
    """Have timm leave the weights of feature networks random: an iteration serves as well with them, and downloads nothing."""
    builder.load_pretrained = lambda *args, **kwargs: None

def job(c: Any, target: dict, small: bool, out: str, forked: bool, stock: Any = None) -> None:
    """Run one iteration of the config `c`, and write out/result.json: the fields of a dry_run.Result. The host prints into
    out/log.txt.

    target: resolution, channels and label_dim of the images; small: whether they and the networks are made small; forked:
    whether this process is a copy of the one that started it; stock: the config without the options, for a look at what the loop
    reads of its networks elsewhere."""
    with open(os.path.join(out, 'log.txt'), 'w') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if forked:
        torch.set_num_threads(1)    # OpenMP's threads did not come along.
    start, result = time.perf_counter(), {}
    try:
        result.update(_iterate(copy.deepcopy(c), target, small, out))
        if stock is not None:
            result['reads'] = _read_in_vain(copy.deepcopy(c), copy.deepcopy(stock), target, out)
    except SystemExit as end:
        if end.code not in (None, 0, 3):    # 3: the word of projected-gan for a run that goes on
            result.update(kind='SystemExit', message=str(end.code))
    except BaseException as error:
        result.update(kind=type(error).__name__, message=str(error) or asserted(error), frames=frames(error),
                      of_plugin=lacks(error, c))
    result['seconds'] = time.perf_counter() - start
    Path(out, 'result.json').write_text(json.dumps(result), encoding='utf-8')

_TAKER = re.compile(r'(?:(\w+)\.)?(\w+)\(\) (?:got an? \w+|missing|takes)')      # of a call that does not fit

def lacks(error: BaseException, c: Any) -> bool:
    """Return whether an error says that an object of the plugin lacks what the host wants of it; c: the config that names it."""
    if isinstance(error, AttributeError):
        return any(cls.__module__.startswith('spider_plugin.') and cls is not Images for cls in type(error.obj).__mro__)
    if not isinstance(error, TypeError) or not (match := _TAKER.match(str(error))):
        return type(error).__name__ == 'NotServed'
    names = [str(part['class_name']) for part in c.values() if isinstance(part, dict) and 'class_name' in part]
    return any(name.startswith('spider_plugin.') and name.endswith(f'.{match[1] or match[2]}') for name in names)

def asserted(error: BaseException) -> str:
    """Return the statement, `assert ...`, of an AssertionError; '' for others, and where its source is not there."""
    if not isinstance(error, AssertionError) or not (calls := frames(error)):
        return ''
    file, line, _name = calls[-1]
    with contextlib.suppress(SyntaxError):
        return next((ast.unparse(node) for node in ast.walk(ast.parse(''.join(linecache.getlines(file))))
                     if isinstance(node, ast.Assert) and node.lineno <= line <= (node.end_lineno or line)), '')
    return ''

def frames(error: BaseException) -> list[list]:
    """Return [[file, line, function], ...] of an error's traceback, the outermost call first."""
    return [[frame.filename, frame.lineno, frame.name] for frame in traceback.extract_tb(error.__traceback__)]

def _iterate(c: Any, target: dict, small: bool, out: str) -> dict:
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        os.environ.pop(name, None)
    os.environ.update(SPIDER_DEVICE='cpu', WANDB_MODE='disabled', TORCH_UTILS_EXT='off')    # kernels take longer to build
    loop = importlib.import_module(LOOP_MODULE).training_loop
    saving.watching = False         # no page, no trackers
    cpu_device.arm()
    _without_waiting()
    stack.mend_launch(c)
    cpu_device.mend_launch(c)
    if small:
        shrink(c, os.path.join(out, 'source'))
        target = dict(target, resolution=small_side(target['resolution']))
    run_dir = os.path.join(out, 'run')
    os.makedirs(run_dir)
    parameters = inspect.signature(loop).parameters
    if 'resume_pkl' in c:   # the reference host, which takes state_file, looks at it by itself
        c['resume_pkl'] = None if 'state_file' in parameters else resumed(c['resume_pkl'], out, small)
    loop(**arguments(c, parameters, run_dir, target))
    keywords = sys.modules.get('spider_plugin.training.host_keywords')
    return dict(snapshot=_reading(run_dir), left_out=keywords.left_out if keywords else [])

def _read_in_vain(c: Any, stock: Any, target: dict, out: str) -> list[str]:
    """Return clauses about attributes that the loop and the loss read in branches that the iteration did not reach."""
    try:
        loop = importlib.import_module(LOOP_MODULE)
        parameters = inspect.signature(loop.training_loop).parameters
        values = {name: c.get(name, parameter.default) for name, parameter in parameters.items()
                  if name in c or parameter.default is not parameter.empty}
        modules = [loop, inspect.getmodule(import_name(c['loss_kwargs']['class_name']))] if 'loss_kwargs' in c else [loop]
        for i, config in enumerate((c, stock)):
            shrink(config, os.path.join(out, f'looked_at_{i}'))
        shape = dict(c_dim=target['label_dim'], img_resolution=small_side(target['resolution']), img_channels=target['channels'])
        here, before = _networks(c, shape), _networks(stock, shape)
        return loop_reads.sentences(modules, here, before, values, str(Path(str(loop.__file__)).parents[1]))
    except Exception:   # of a host's code; the iteration has succeeded all the same
        return []

def _networks(c: Any, shape: dict) -> dict[str, Any]:
    """Return {name in the source of a loop: network, or a stand-in for the loss} of a config."""
    found = {}
    for name in 'GD':
        kwargs = dict(c[f'{name}_kwargs'])
        found[name] = built(import_name(kwargs.pop('class_name')), kwargs, shape)
    if 'loss_kwargs' in c:
        found['loss'] = loop_reads.instance_of(import_name(c['loss_kwargs']['class_name']))
    return found | dict(G_ema=found['G'])

def _reading(run_dir: str) -> str | None:
    """Return why the plugin does not read the snapshot of the iteration, None if it does."""
    from spider_plugin.snapshots.records import read_pickle
    pickles = sorted(Path(run_dir).rglob('*.pkl'))
    if not pickles:
        return 'the host wrote no snapshot'
    try:
        contents = read_pickle(str(pickles[-1]))
    except Exception as error:
        return str(error).replace(str(pickles[-1]), 'the snapshot')
    return None if hasattr(contents.get('G_ema'), 'state_dict') else 'it holds no G_ema'

#----------------------------------------------------------------------------
