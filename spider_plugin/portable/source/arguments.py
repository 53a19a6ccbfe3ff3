"""The `spider` argument of a generator: JSON in a host's config and in snapshots, read here and nowhere else.

This module is portable: it travels inside snapshots and imports only the standard library and its neighbours."""

import dataclasses
import importlib
import os

from spider_plugin.portable.source.bank import open_source
from spider_plugin.portable.source.mapping import UNCLAMPED

SPIDER_FORMAT = 1   # of the JSON; snapshots carry it as `spider_format`

_KINDS = dict(mapping=str, source=str, noise=(int, float), embed=int, gain=(int, float), learn_skip=bool,
              classes=(list, type(None)))

@dataclasses.dataclass(frozen=True)
class SpiderArguments:
    """How a generator is fed from an image source.

    mapping:    kind of --spider-mapping.
    source:     prepared directory (sources/prepare.py), below the cache root, so that snapshots carry no path of a machine;
                or an absolute path, as earlier versions wrote.
    noise:      standard deviation of Gaussian noise added to source images, in units of the range [-1, 1].
    embed:      MiB of source images that a snapshot carries at most; 0 for none.
    gain:       1 in a fresh residual; 0 where a stock generator is resumed, which then learns it.
    learn_skip: whether a residual learns the factor of the source in its pixels.
    classes:    source class of each target class, -1 for any; None: its own, where source and target have equally many."""

    mapping:    str
    source:     str = ''
    noise:      float = 0.0
    embed:      int = 64
    gain:       float = 1.0
    learn_skip: bool = False
    classes:    list | None = None

    @classmethod
    def read(cls, spider):
        """The arguments in a dict; None for None. Raises ValueError for an entry that this format does not have."""
        if spider is None or isinstance(spider, cls):
            return spider
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(map(str, set(spider) - known))
        if unknown or 'mapping' not in spider:
            what = f'has the unknown entry {unknown[0]!r}' if unknown else 'names no mapping'
            raise ValueError(f'the `spider` argument {what}; it was written by another version of the plugin')
        wrong = next((name for name, value in spider.items() if not isinstance(value, _KINDS[name])), None)
        if wrong is not None or not all(isinstance(label, int) for label in spider.get('classes') or []):
            raise ValueError(f'the `spider` argument has a {wrong or "list of classes"} of another type than the plugin writes')
        return cls(**spider)

    def json(self):
        """The dict that a config holds; `classes` only where there are some."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != 'classes' or value is not None}

    @property
    def residual(self):
        """Whether the source joins the pixels while z stays in the mapping network."""
        return self.mapping == 'residual'

    def open(self):
        """The image source in the prepared directory."""
        root = importlib.import_module('torch_utils_ext.cache_root').cache_root()   # only where the plugin is
        return open_source(os.path.join(root, self.source), noise=self.noise, embed=self.embed,
                           clamp=self.mapping not in UNCLAMPED, classes=self.classes)

def attach_spider(generator, spider, source=None):
    """Gives a generator `spider_format` and `source`; returns its SpiderArguments, None where `spider` is None.

    source: an open image source in place of the one that `spider` names, as when a snapshot is read."""
    arguments = SpiderArguments.read(spider)
    generator.source = None
    if arguments is not None:
        generator.spider_format = SPIDER_FORMAT
        generator.source = arguments.open() if source is None else source
    return arguments

#----------------------------------------------------------------------------
