"""The lineage of a source: the identities of a cascade, from its last stage to the first dataset or generator.

The identity of a source that a generator rendered holds two more entries than that of a dataset:

    latents     number of latents it was rendered from: image i is that of rendered_latents(latents, z_dim)[i]
    source      identity of the generator's own source; missing where it draws from noise

An identity travels in the snapshot, and the identities of all earlier stages travel in it. A file's record of itself may be
damaged or endless, so the walk is bounded."""

from spider_plugin.errors import SpiderError

MAX_DEPTH = 32
_TEXTS    = ('name', 'sha256', 'transform')     # what every identity has

#----------------------------------------------------------------------------

def cascade_stages(identity, path):
    """The identities from a source to the first one of its cascade; `path` is the file that holds them, for messages.

    Raises SpiderError where they are damaged, or one comes back."""
    found, seen = [], set()
    while identity is not None:
        if not isinstance(identity, dict) or not all(isinstance(identity.get(key), str) for key in _TEXTS):
            raise SpiderError(f'{path}: the record of its sources is damaged; give a whole snapshot of ours.')
        if len(found) == MAX_DEPTH:
            raise SpiderError(f'{path}: its cascade has more than {MAX_DEPTH} stages; start from a source further down.')
        if 'latents' in identity and identity['sha256'] in seen:
            raise SpiderError(f'{path}: {identity["name"]} ends up as a source of itself, so the record of its sources is '
                              'damaged; give a whole snapshot of ours.')
        found.append(identity)
        seen.add(identity['sha256'])
        identity = identity.get('source')
    return found

def describe_stages(identities):
    """One line: 'B <- A <- tinyimagenet', from the last stage to the first; a generator without a source draws from noise."""
    names = [identity['name'] for identity in identities]
    return ' <- '.join(names + (['noise'] if identities and 'latents' in identities[-1] else []))

#----------------------------------------------------------------------------
