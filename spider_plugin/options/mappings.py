"""Mapping kinds: how a source image enters a generator (--spider-mapping).

An entry of registry.mappings is a MappingKind. Its module files a builder under the same name by `mapping_input`
(portable/source/mapping.py); docs/write-a-plugin.md shows one."""

import dataclasses

from spider_plugin import registry
from spider_plugin.errors import SpiderError
from spider_plugin.options.generators import IMAGE, VECTOR
from spider_plugin.options.packages import check_module, foreign

MODULE = 'spider_plugin.portable.source.mapping'

@dataclasses.dataclass(frozen=True)
class MappingKind:
    """size:    resolution of the source images unless --spider-size says otherwise; None: that of the target.
    min_size:   the smallest resolution that works.
    z_dim:      length of z that the kind needs; None: any.
    needs:      what a generator must do with a source: VECTOR or IMAGE (options/generators.py).
    match:      whether a dataset source is moved to the mean and covariance of the target where no option says so.
    module:     dotted name of the module that files the builder; a kind must name it."""

    size:     int | None
    min_size: int
    z_dim:    int | None = None
    needs:    str = VECTOR
    match:    bool = False
    module:   str = ''

    def check(self, name):
        """Raise SpiderError for values that cannot be; the registry calls it."""
        what = f'mapping {name!r}'
        if not self.module:
            raise SpiderError(f'The {what} names no module; give the one that holds its mapping_input, such as module=__name__.')
        check_module(what, self.module)
        if self.needs not in (VECTOR, IMAGE) or self.needs == IMAGE and foreign(self.module):
            raise SpiderError(f'The {what} needs {self.needs!r}; a kind of another package makes a vector, so leave needs out.')
        for field in ('size', 'min_size', 'z_dim'):
            value = getattr(self, field)
            if value is not None and (value < 1 or field != 'z_dim' and value & (value - 1)):
                kind = 'number' if field == 'z_dim' else 'power of two'
                raise SpiderError(f'The field {field} of the {what} is {value}; give a {kind} from 1 on.')

BUILTIN = {
    'residual':    MappingKind(size=None, min_size=8, needs=IMAGE, match=True, module=MODULE),
    'paper-16x32': MappingKind(size=32,   min_size=4, z_dim=512, module=MODULE),
    'paper-23x23': MappingKind(size=32,   min_size=4, z_dim=512, module=MODULE),
    'encoder':     MappingKind(size=32,   min_size=8, module=MODULE),
    'whitened':    MappingKind(size=32,   min_size=4, module=MODULE),
}
for _name, _kind in BUILTIN.items():
    registry.mappings.register(_name)(_kind)
