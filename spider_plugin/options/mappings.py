"""Mapping kinds: how a source image enters a generator (--spider-mapping).

An entry of registry.mappings is a MappingKind. A kind of another package names the module that files its builder under the same
name by `mapping_input` (portable/source/mapping.py); docs/write-a-plugin.md shows one."""

import dataclasses

from spider_plugin import registry
from spider_plugin.options.generators import IMAGE, VECTOR

@dataclasses.dataclass(frozen=True)
class MappingKind:
    """size:    resolution of the source images unless --spider-size says otherwise; None: that of the target.
    min_size:   the smallest resolution that works.
    z_dim:      length of z that the kind needs; None: any.
    needs:      what a generator must do with a source: VECTOR or IMAGE (options/generators.py).
    match:      whether a dataset source is moved to the mean and covariance of the target where no option says so.
    module:     the module of another package that holds the builder; None for a kind of the plugin."""

    size:     int | None
    min_size: int
    z_dim:    int | None = None
    needs:    str = VECTOR
    match:    bool = False
    module:   str | None = None

BUILTIN = {
    'residual':    MappingKind(size=None, min_size=8, needs=IMAGE, match=True),
    'paper-16x32': MappingKind(size=32,   min_size=4, z_dim=512),
    'paper-23x23': MappingKind(size=32,   min_size=4, z_dim=512),
    'encoder':     MappingKind(size=32,   min_size=8),
    'whitened':    MappingKind(size=32,   min_size=4),
}
for _name, _kind in BUILTIN.items():
    registry.mappings.register(_name)(_kind)
