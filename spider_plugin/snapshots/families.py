"""Which network a record is, and which class on this machine may be built for it.

What a record calls its class is only a name. Several hosts call theirs Generator, so its layers decide, and the class is then
looked up in the host that is running: the checkout's on the path, else the reference host's, or a bundle of ours."""

import importlib.util
import sys

from spider_plugin.bundles.source import class_with, features_named
from spider_plugin.errors import SpiderError
from spider_plugin.resources import resource_dir
from spider_plugin.snapshots.records import PersistentRecord

#----------------------------------------------------------------------------
# The table.

FASTGAN = 'pg_modules.networks_fastgan.Generator'    # pickled by reference
_MODULES = {    # where hosts keep a family's Generator
    'stylegan2': ('training.networks_stylegan2', 'pg_modules.networks_stylegan2', 'training.networks'),
    'stylegan3': ('training.networks_stylegan3',),
    'fastgan':   ('pg_modules.networks_fastgan',),
}
OURS = {        # bundle -> its generator
    'dcgan':       'DCGANGenerator',
    'dcgan_paper': 'RadfordGenerator',
    'pggan':       'PGGANGenerator',
    'fastgan':     'FastGANGenerator',
}
_TENSORS = {    # that only this family has
    'synthesis.b4.const':                'stylegan2',
    'synthesis.input.freqs':             'stylegan3',
    'synthesis.init.init.0.weight_orig': 'fastgan',
}

def network_family(record):
    """'stylegan2', 'stylegan3', 'fastgan', a Spider generator's like its host's, or a key of OURS; None for any other."""
    if record.class_name in OURS.values():
        return next(family for family, name in OURS.items() if name == record.class_name)
    if record.class_name == FASTGAN or features_named(record.class_name) is not None:
        names = record.state_dict()
        return next((family for name, family in _TENSORS.items() if name in names), None)
    return None

def trusted_class(record, path):
    """(dotted name of a class on this machine, keyword arguments for it). Raises SpiderError for any other class."""
    family = network_family(record)
    if family is None:
        raise SpiderError(f'{path} holds a {record.class_name} that is unknown here; give a snapshot of a StyleGAN2, StyleGAN3 '
                          'or FastGAN generator or of ours, or pass --trust-pickle if you trust the file.')
    add_host_to_path()
    if record.class_name in OURS.values():      # a checkout may have a family of the same name
        return f'spider_plugin.bundles.{family}.{OURS[family]}', dict(record.init_kwargs)
    module = host_module(family)
    if module is None:
        raise SpiderError(f'{path} holds a {family} generator, which this host does not have; set PYTHONPATH to the checkout '
                          'that wrote it.')
    class_name = f'{module}.Generator'
    for feature in features_named(record.class_name) or ():
        class_name = class_with(class_name, *(['mapped', 'DummyMapping'] if family == 'fastgan' else [feature]))
    return class_name, _arguments(record, family, module)

def host_module(family):
    """The module with this family's Generator in the host that is running, or None."""
    add_host_to_path()
    return next((module for module in _MODULES.get(family, ()) if _is_here(module)), None)

def add_host_to_path():
    """Makes `training`, `torch_utils` and `dnnlib` importable: a checkout's when one is on the path already."""
    if importlib.util.find_spec('torch_utils') is None:
        sys.path.append(str(resource_dir('reference_host')))

def _is_here(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:     # not even its package
        return False

#----------------------------------------------------------------------------
# Arguments: as recorded, in the form that this host's class takes, with what this host's defaults may not be.

_NESTED = ('training.networks', 'pg_modules.networks_fastgan')  # their Generators take synthesis_kwargs as one dict
_OUTER  = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs', 'ngf', 'cond', 'spider', 'dsc')

def _arguments(record, family, module):
    kwargs = dict(record.init_kwargs)
    kwargs.update(kwargs.pop('synthesis_kwargs', {}))
    if family == 'stylegan2':
        kwargs.update(_block_options(record))
    if record.class_name == FASTGAN:
        kwargs.update(fastgan_options(record))
    if module not in _NESTED:
        return kwargs
    kwargs.pop('fused_modconv_default', None)       # a matter of speed, which stylegan2-ada-pytorch does not know
    outer = {key: value for key, value in kwargs.items() if key in _OUTER}
    return dict(outer, synthesis_kwargs={key: value for key, value in kwargs.items() if key not in _OUTER})

def _part(record, *names):
    """The module of a record by that path; an empty record where there is none."""
    for name in names:
        record = record.state.get('_modules', {}).get(name)
        if not isinstance(record, PersistentRecord):
            return PersistentRecord('', '')
    return record

def _block_options(record):
    """What stylegan2-ada-pytorch and stylegan3 have different defaults for, as the layers say."""
    options, synthesis = {}, _part(record, 'synthesis')
    blocks = [_part(synthesis, name).state for name in synthesis.state.get('_modules', {})]
    if blocks and all('use_fp16' in block for block in blocks):
        options['num_fp16_res'] = sum(bool(block['use_fp16']) for block in blocks)
    layer = _part(synthesis, 'b4', 'conv1').state
    if 'conv_clamp' in layer:
        options['conv_clamp'] = layer['conv_clamp']
    return options

def fastgan_options(record):
    """What a FastGAN generator was made with, which its pickle does not say, from its sizes."""
    tensors = record.state_dict()
    options = {key: record.state.get(key) for key in ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')}
    options['ngf'] = tensors['synthesis.init.init.0.weight_orig'].shape[1] // 32
    options['cond'] = int('synthesis.embed.weight' in tensors)
    options['lite'] = not {'synthesis.feat_8.5.weight_orig', 'synthesis.feat_8.conv2.weight_orig'} & tensors.keys()
    if options['cond']:
        options['num_classes'] = len(tensors['synthesis.embed.weight'])
    return options

#----------------------------------------------------------------------------
