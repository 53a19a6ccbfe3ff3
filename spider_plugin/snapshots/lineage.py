"""The lineage of a source: the identities of a cascade, from its last stage to the first dataset or generator.

The identity of a source that a generator rendered holds two more entries than that of a dataset:

    latents     number of latents it was rendered from; image i was rendered from rendered_latents(latents, z_dim)[i]
    source      identity of the generator's source; missing if it draws from noise

The identity is part of the snapshot, and contains the identities of all earlier stages. The record in a file may be damaged or
endless, so the number of stages is bounded."""

from spider_plugin.errors import SpiderError

MAX_DEPTH = 32
_TEXTS    = ('name', 'sha256', 'transform')     # entries of every identity

#----------------------------------------------------------------------------

def cascade_stages(identity, path):
    """Return the identities from a source to the first one of its cascade; `path` is the file that holds them, for messages.

    Raises SpiderError if they are damaged, or if one is repeated."""
    found, seen = [], set()
    while identity is not None:
        if not isinstance(identity, dict) or not all(isinstance(identity.get(key), str) for key in _TEXTS):
            raise SpiderError(f'{path}: the record of its sources is damaged; give a complete snapshot of spider-plugin.')
        if len(found) == MAX_DEPTH:
            raise SpiderError(f'{path}: its cascade has more than {MAX_DEPTH} stages; start from an earlier source.')
        if 'latents' in identity and identity['sha256'] in seen:
            raise SpiderError(f'{path}: {identity["name"]} is a source of itself, so the record of its sources is '
                              'damaged; give a complete snapshot of spider-plugin.')
        found.append(identity)
        seen.add(identity['sha256'])
        identity = identity.get('source')
    return found

def describe_stages(identities):
    """Return a line such as 'B <- A <- tinyimagenet', from the last stage to the first; it may end in 'noise'."""
    names = [identity['name'] for identity in identities]
    return ' <- '.join(names + (['noise'] if identities and 'latents' in identities[-1] else []))

#----------------------------------------------------------------------------
