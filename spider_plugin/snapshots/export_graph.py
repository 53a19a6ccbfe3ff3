"""Graphs of generators for other runtimes: ONNX and TorchScript files, which draw from z without the plugin and without a host.

    images = graph(z)           z float32 [N, z_dim], standard normal, as the hosts' gen_images.py draws it for a seed
    images = graph(z, c)        c float32 [N, c_dim], one-hot, where the generator has classes

A graph holds the source images that the snapshot carries, and finds the one of z by the hash that training uses. Noise inputs are
constant, truncation is off, everything is in single precision, and the ops of torch_utils_ext are their references. Each file is
compared with torch before it gets its name."""

import contextlib
import importlib.util
import inspect
import logging
import warnings

import torch

from spider_plugin.errors import SpiderError, shown
from spider_plugin.snapshots.drawing import check_drawable, classes_of, options_taken
from spider_plugin.snapshots.rebuild import load_generator

KINDS     = {'.onnx': 'ONNX', '.ts': 'TorchScript'}
TOLERANCE = 1e-4        # of images in [-1, 1], between the runtime of a file and torch
LARGEST   = 1900 << 20  # bytes of tensors; an ONNX file holds less than 2 GiB
CHECKED   = (1, 2, 5)   # batches that are drawn from a file

class Drawing(torch.nn.Module):
    """z, and c where there are classes -> images float32 [N, C, H, W] in about [-1, 1]."""

    def __init__(self, generator, path):
        super().__init__()
        self.generator, self.labelled = generator, classes_of(generator) > 0
        wanted = dict(noise_mode='const', force_fp32=True)
        if 'fused_modconv' in _parameters_of_blocks(generator):    # a kernel for each sample makes the graph one of its batch
            wanted['fused_modconv'] = False
        self.options = options_taken(generator.forward, wanted, path)

    def inputs(self, count, seed=0):
        """(z,) or (z, c) of `count` samples."""
        rng = torch.Generator().manual_seed(seed)
        z, labels = torch.randn([count, self.generator.z_dim], generator=rng), classes_of(self.generator)
        return (z, torch.eye(labels)[torch.arange(count) % labels]) if self.labelled else (z,)

    def forward(self, z, c=None):
        c = c if self.labelled else z.new_zeros([z.shape[0], 0])
        images = self.generator(z, c, **self.options)
        return images[0] if isinstance(images, (tuple, list)) else images

def _parameters_of_blocks(generator):
    """Names of the parameters of the parts of the synthesis network."""
    parts = getattr(generator, 'synthesis', torch.nn.Module()).children()
    return {name for part in parts for name in inspect.signature(part.forward).parameters}

def write_graph(path, temp, kind, key=None, trust=False, said=None):
    """Write the generator in the host pickle at `path` as a graph to `temp`; return the notes for its card.

    kind:   '.onnx' or '.ts'.
    key:    G_ema or G; None: G_ema.
    said:   {name: text} that an ONNX file carries as its metadata.
    Raises SpiderError for a file without a generator, one that cannot be exported, and a result that differs from torch."""
    _check_packages(kind)
    generator = load_generator(path, key or 'G_ema', trust)
    check_drawable(generator, path)
    for module in generator.modules():
        if hasattr(module, 'use_fp16'):
            module.use_fp16 = False
    drawing = Drawing(generator, path).eval()
    notes = dict(inputs=['z', 'c'][: 1 + drawing.labelled], checked_to=TOLERANCE)
    failure = None
    for batch in (None, 1):     # a convolution with a kernel for each sample has a graph for one sample only
        try:
            with _quiet(), torch.no_grad():
                drawing(*drawing.inputs(2))     # makes what is made once
                _WRITERS[kind](drawing, temp, batch, said or {})
                difference = _difference(drawing, temp, kind, CHECKED if batch is None else (1, 1))
        except SpiderError:
            raise
        except Exception as error:  # the exporters of torch raise errors of many types
            failure = f'{type(error).__name__}: {shown(error)}'
            continue
        if difference <= TOLERANCE:
            return notes | dict(batch='any' if batch is None else batch, difference=difference)
        failure = f'its images differ from those of torch by {difference:.2g}'
    raise SpiderError(f'{path}: its {type(generator).__name__} cannot be exported to {KINDS[kind]} ({failure}); `spider export '
                      '--out NAME.safetensors` writes its tensors.')

def _check_packages(kind):
    missing = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if kind == '.onnx' and missing:
        raise SpiderError(f"An .onnx file needs the package {missing[0]}; run pip install 'spider-plugin[onnx]', or give a name "
                          'that ends in .ts.')

@contextlib.contextmanager
def _quiet():
    """Exporters print much that is not for the user."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)

#----------------------------------------------------------------------------
# TorchScript, by tracing.

def _write_torchscript(drawing, temp, batch, said):
    torch.jit.trace(drawing, drawing.inputs(batch or 2), check_trace=False).save(str(temp))

def _draw_torchscript(temp):
    return torch.jit.load(str(temp))

#----------------------------------------------------------------------------
# ONNX.

def _write_onnx(drawing, temp, batch, said):
    size = sum(tensor.nbytes for tensor in drawing.state_dict().values())
    size += getattr(getattr(getattr(drawing.generator, 'source', None), 'images', None), 'nbytes', 0)
    if size > LARGEST:
        raise SpiderError(f'The network and its source images have {size >> 20} MiB, more than an .onnx file holds; give a name '
                          'that ends in .ts.')
    inputs, any_size = drawing.inputs(batch or 2), torch.export.Dim('batch')
    program = torch.export.export(drawing, inputs, strict=False,
                                  dynamic_shapes=tuple({} if batch else {0: any_size} for _ in inputs))
    exported = torch.onnx.export(program, dynamo=True, verbose=False, input_names=['z', 'c'][: len(inputs)],
                                 output_names=['images'])
    exported.model.metadata_props.update(said)
    exported.save(str(temp), external_data=False)

def _draw_onnx(temp):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(temp), providers=['CPUExecutionProvider'])
    names = [entry.name for entry in session.get_inputs()]
    return lambda *inputs: torch.from_numpy(session.run(None, dict(zip(names, (x.numpy() for x in inputs))))[0])

_WRITERS = {'.onnx': _write_onnx, '.ts': _write_torchscript}
_READERS = {'.onnx': _draw_onnx, '.ts': _draw_torchscript}

def _difference(drawing, temp, kind, batches):
    """The largest difference between the images of a file and those of torch."""
    draw, largest = _READERS[kind](temp), 0.0
    for seed, count in enumerate(batches):
        inputs = drawing.inputs(count, seed + 1)
        largest = max(largest, float((draw(*inputs) - drawing(*inputs)).abs().max()))
    return largest

#----------------------------------------------------------------------------
