"""--cfg values beside a host's own: generators of ours with the discriminator, rates and loss that they need, a module each.

An entry of registry.generators is an OwnGenerator. A host that has a configuration of that name keeps it, ours is then
spider-NAME."""

import dataclasses
from collections.abc import Callable

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class OwnGenerator:
    """edit(c, given, host): puts the networks, their rates and loss into the host's config `c`; `given` holds the names of the
                parameters that the user set. Raises UserError.
    mappings:   the kinds of --spider-mapping that its class takes by its `spider` argument, the default first; none for a
                generator that takes no source."""

    edit:     Callable
    mappings: tuple[str, ...] = ()

#----------------------------------------------------------------------------
