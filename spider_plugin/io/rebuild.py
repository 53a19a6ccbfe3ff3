"""Live generators from host pickles, without executing what the pickles carry.

A pickle is read into inert records (io/restricted.py). What a record calls its class is only a name: it is looked up in a
table of classes that are already on this machine (the checkout's own, or the reference host's, or a bundle of ours), built
with the recorded arguments, and given the recorded tensors, all of them, with equal shapes."""

import contextlib
import importlib.util
import pickle
import sys

from spider_plugin.errors import UserError
from spider_plugin.io.restricted import PersistentRecord, generator_record
from spider_plugin.resources import resource_dir

#----------------------------------------------------------------------------

def load_generator(path, key='G_ema', trust=False):
    """The generator in the host pickle at `path`: an eval-mode module on the cpu that needs no gradient.

    trust:  unpickle as hosts do, which runs code that the file carries.
    Raises UserError where the file has none, or one whose class is not in the table."""
    if trust:
        generator = _unpickle(path, key)
    else:
        generator = rebuild_generator(generator_record(path, key), path)
    return generator.eval().requires_grad_(False)

def rebuild_generator(record, path):
    """The module that a record describes; `path` is for messages."""
    class_name, kwargs = trusted_class(record, path)
    generator_class = _import_class(class_name, path)
    with _embedded_source(record, class_name):
        try:
            generator = generator_class(*record.init_args, **kwargs)
            generator.load_state_dict(record.state_dict(), strict=True)
        except (TypeError, RuntimeError, ValueError, KeyError, AttributeError, AssertionError) as error:
            reason = ' '.join(str(error).split())[:160]
            raise UserError(f'{path}: its {record.class_name} does not fit {class_name} ({reason}); set PYTHONPATH '
                            'to the checkout that wrote it, or pass --trust-pickle if you trust the file.') from error
    return generator

#----------------------------------------------------------------------------
# The table. Several hosts call their class Generator; the tensors' names tell which network it is.

def trusted_class(record, path):
    """(dotted name of a class on this machine, keyword arguments for it). Raises UserError for any other class."""
    kwargs = dict(record.init_kwargs)
    if record.class_name == 'Generator':
        kwargs.update(kwargs.pop('synthesis_kwargs', {}))   # nested in stylegan2-ada-pytorch, flat elsewhere
        return f'{_host_module(record, path)}.Generator', kwargs
    if record.class_name == 'SpiderGenerator':
        return f'spider_plugin.bundles.spider_on_{_host_module(record, path).replace(".", "__")}.SpiderGenerator', kwargs
    if record.class_name == 'DCGANGenerator':
        return 'spider_plugin.bundles.dcgan.DCGANGenerator', kwargs
    raise _untrusted(record, path)

def _host_module(record, path):
    names = record.state_dict()
    if 'synthesis.b4.const' in names:
        return 'training.networks_stylegan2'
    if 'synthesis.input.freqs' in names:
        return 'training.networks_stylegan3'
    raise _untrusted(record, path)

def _untrusted(record, path):
    return UserError(f'{path} holds a {record.class_name} that is unknown here; give a snapshot of a StyleGAN2 or StyleGAN3 '
                     'generator or of ours, or pass --trust-pickle if you trust the file.')

#----------------------------------------------------------------------------
# Hosts' modules come from the checkout that is running, else from the reference host.

def _import_class(class_name, path):
    module, _, name = class_name.rpartition('.')
    add_host_to_path()
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f'{path} needs {class_name}, which is not here ({error}); set PYTHONPATH to the checkout '
                        'that wrote it.') from error

def add_host_to_path():
    """Makes `training`, `torch_utils` and `dnnlib` importable: a checkout's when one is on the path already."""
    if importlib.util.find_spec('torch_utils') is None:
        sys.path.append(str(resource_dir('reference_host')))

def _unpickle(path, key):
    add_host_to_path()
    try:
        with open(path, 'rb') as file:
            return pickle.load(file)[key]
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror}); check the path.') from error
    except Exception as error:      # code that the file carries ran here
        raise UserError(f'{path} cannot be unpickled ({type(error).__name__}: {error}); set PYTHONPATH to the '
                        'checkout that wrote it.') from error

#----------------------------------------------------------------------------
# A Spider generator draws from the bank that its pickle carries, not from the directory it was trained with: while it is
# built, its module opens that bank whatever path it is asked for.

def embedded_bank_state(record):
    """What the record's source pickled (images, labels, identity, ...), or None where it has no source."""
    source = record.state.get('source')
    return source.state if isinstance(source, PersistentRecord) and source.class_name == 'ImageBank' else None

@contextlib.contextmanager
def _embedded_source(record, class_name):
    state = embedded_bank_state(record)
    module = sys.modules[class_name.rpartition('.')[0]]
    if state is None or not hasattr(module, 'open_source'):
        yield
        return
    bank = module.ImageBank.__new__(module.ImageBank)
    bank.__setstate__(dict(state))
    opener, module.open_source = module.open_source, lambda *args, **kwargs: bank
    try:
        yield
    finally:
        module.open_source = opener

#----------------------------------------------------------------------------
