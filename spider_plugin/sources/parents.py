"""Parents: the generators that rendered the source images of a cascade, and the way to find their files.

The identities of a cascade are those of snapshots/lineage.py. Each of its generators is a separate file; a tool that needs one
finds it by its digest."""

import json
import re
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file

#----------------------------------------------------------------------------
# A generator is rendered from seeded latents, with a class drawn for each if it is conditional. (torch is imported in the
# functions, because processes that only edit configs do not need it.)

def rendered_latents(count, z_dim):
    """Return the latents, float32 [count, z_dim]."""
    import torch
    return torch.randn([count, z_dim], generator=torch.Generator().manual_seed(0))

def rendered_labels(count, c_dim):
    """Return the classes, int64 [count] in [0, c_dim), zero if c_dim is 0."""
    import torch
    return torch.randint(max(c_dim, 1), [count], generator=torch.Generator().manual_seed(1))

def one_hot(labels, c_dim):
    """Return int64 labels [N] as float32 [N, c_dim]; c_dim may be 0."""
    import torch
    return torch.nn.functional.one_hot(labels, max(c_dim, 1))[:, :c_dim].to(torch.float32)

#----------------------------------------------------------------------------
# Parents. Snapshots do not record the path of a parent, so the cache keeps that path under the parent's digest.

def remember_parent(path, sha256):
    entry = cache_dir('parents') / f'{sha256}.json'
    if _remembered(entry) != str(Path(path).resolve()):
        with atomic_file(entry) as temp:
            temp.write_text(json.dumps(dict(path=str(Path(path).resolve()))) + '\n', encoding='utf-8')

def _remembered(entry):
    """The path in a file of remember_parent; None where there is no such file, or none that is whole."""
    try:
        path = json.loads(entry.read_text(encoding='utf-8'))['path']
        return path if isinstance(path, str) and path.isprintable() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None

def find_parent(identity, network, given=()):
    """Return the path of the generator with this identity.

    network:  the snapshot that needs it; a file beside it with the generator's name is tried too.
    given:    {digest: path} of --parent.
    Raises SpiderError if no file with its digest is found."""
    sha256 = identity['sha256']
    if sha256 in given:
        return given[sha256]
    if re.fullmatch('[0-9a-f]{64}', sha256):
        entry = cache_dir('parents') / f'{sha256}.json'
        beside = Path(network).resolve().parent / f'{Path(identity["name"]).name}.pkl'
        for path in map(Path, filter(None, [_remembered(entry), beside])):
            if path.is_file() and sha256_of_file(path) == sha256:
                return str(path)
    raise SpiderError(f'{network} needs {identity["name"]}.pkl (sha256 {sha256[:12]}...), the generator that rendered its source '
                      'images; give that file as --parent.')

def given_parents(paths, identities):
    """Return {digest: path} for the files of --parent. Raises SpiderError for one that is not a stage of the cascade."""
    wanted = {identity['sha256']: identity['name'] for identity in identities if 'latents' in identity}
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise SpiderError(f'--parent={path} does not exist; give the snapshot of an earlier stage.')
        sha256 = sha256_of_file(path)
        if sha256 not in wanted:
            names = ', '.join(f'{name} (sha256 {digest[:12]})' for digest, name in wanted.items()) or 'none'
            raise SpiderError(f'--parent={path} (sha256 {sha256[:12]}) is not a stage of this cascade; its generators are '
                              f'{names}.')
        found[sha256] = path
    return found

#----------------------------------------------------------------------------
