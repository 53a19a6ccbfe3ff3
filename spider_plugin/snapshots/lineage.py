"""The lineage of a source: the identities of a cascade, from its last stage to the first dataset or generator.

The identity of a source that a generator rendered holds two more entries than that of a dataset:

    latents     number of latents it was rendered from; image i was rendered from rendered_latents(latents, z_dim)[i]
    source      identity of the generator's source; missing if it draws from noise

The identity is part of the snapshot, and contains the identities of all earlier stages. The record in a file may be damaged or
endless, so the number of stages is bounded."""

from spider_plugin.errors import SpiderError, printable

MAX_DEPTH   = 32
MAX_TEXT    = 1000      # letters of an entry
MAX_LATENTS = 1 << 24
_TEXTS    = ('name', 'sha256', 'transform')     # entries of every identity

#----------------------------------------------------------------------------

def cascade_stages(identity, path):
    """Return the identities from a source to the first one of its cascade; `path` is the file that holds them, for messages.

    Raises SpiderError if they are damaged, or if one is repeated."""
    found, seen = [], set()
    while identity is not None:
        if not _is_identity(identity):
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

def _is_identity(identity):
    if not isinstance(identity, dict):
        return False
    texts, latents = [identity.get(key) for key in _TEXTS], identity.get('latents', 1)
    return all(isinstance(text, str) and len(text) <= MAX_TEXT and '\0' not in text for text in texts) and \
        type(latents) is int and 0 < latents <= MAX_LATENTS

def plain_identity(identity, path):
    """Return the identity of a source, checked as by cascade_stages, with the entries that the plugin writes and no others."""
    plain = None
    for stage in reversed(cascade_stages(identity, path)):
        texts = {key: stage[key] for key in (*_TEXTS, 'licence', 'match', 'strength') if isinstance(stage.get(key), str)}
        plain = {key: text[:MAX_TEXT] for key, text in texts.items()} | \
            {key: value for key, value in (('latents', stage.get('latents')), ('source', plain)) if value is not None}
        plain.setdefault('licence', 'unknown')
    return plain

def describe_stages(identities):
    """Return a line such as 'B <- A <- tinyimagenet', from the last stage to the first; it may end in 'noise'."""
    names = [printable(identity['name'], 80) for identity in identities]
    return ' <- '.join(names + (['noise'] if identities and 'latents' in identities[-1] else []))

#----------------------------------------------------------------------------
