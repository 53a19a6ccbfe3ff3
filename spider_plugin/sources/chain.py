"""Cascades: a source that is a generator with a source of its own, and so on, to any depth.

The identity of a source that was rendered by a generator holds two entries more than that of a dataset:

    latents     how many latents it was rendered from: image i is that of rendered_latents(latents, z_dim)[i]
    source      the identity of the generator's own source; missing where it draws from noise

An identity travels in the snapshot, and so does the chain. The generators of a chain are files of their own, its parents; a
tool that needs one finds it by its digest."""

import json
import re
from pathlib import Path

from spider_plugin.errors import UserError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file

MAX_DEPTH = 32
_TEXTS    = ('name', 'sha256', 'transform')     # what every identity has

#----------------------------------------------------------------------------
# What a generator is rendered from: seeded latents, a class drawn for each where there are classes. (torch is imported when it
# is needed: configs are edited in processes that have no use for it.)

def rendered_latents(count, z_dim):
    """float32 [count, z_dim]."""
    import torch
    return torch.randn([count, z_dim], generator=torch.Generator().manual_seed(0))

def rendered_labels(count, c_dim):
    """int64 [count] in [0, c_dim), zero without classes."""
    import torch
    return torch.randint(max(c_dim, 1), [count], generator=torch.Generator().manual_seed(1))

def one_hot(labels, c_dim):
    """int64 [N] -> float32 [N, c_dim], of no columns without classes."""
    import torch
    return torch.nn.functional.one_hot(labels, max(c_dim, 1))[:, :c_dim].to(torch.float32)

#----------------------------------------------------------------------------
# The chain of an identity. What a file says of itself is not believed to have an end.

def chain(identity, path):
    """The identities from a source to the first one of its cascade; `path` is the file that holds them, for messages.

    Raises UserError where they are damaged, or one comes back."""
    found, seen = [], set()
    while identity is not None:
        if not isinstance(identity, dict) or not all(isinstance(identity.get(key), str) for key in _TEXTS):
            raise UserError(f'{path}: the record of its sources is damaged; give a whole snapshot of ours.')
        if len(found) == MAX_DEPTH:
            raise UserError(f'{path}: its cascade has more than {MAX_DEPTH} stages; start from a source further down.')
        if 'latents' in identity and identity['sha256'] in seen:
            raise UserError(f'{path}: {identity["name"]} ends up as a source of itself, so the record of its sources is damaged; '
                            'give a whole snapshot of ours.')
        found.append(identity)
        seen.add(identity['sha256'])
        identity = identity.get('source')
    return found

def describe_chain(identities):
    """One line: 'B <- A <- tinyimagenet', from the last stage to the first; a generator without a source draws from noise."""
    names = [identity['name'] for identity in identities]
    return ' <- '.join(names + (['noise'] if identities and 'latents' in identities[-1] else []))

#----------------------------------------------------------------------------
# Parents. Where a generator was when it was rendered is kept in the cache, under its digest; snapshots do not say it.

def remember_parent(path, sha256):
    entry = cache_dir('parents') / f'{sha256}.json'
    if not entry.is_file() or json.loads(entry.read_text(encoding='utf-8'))['path'] != str(Path(path).resolve()):
        with atomic_file(entry) as temp:
            temp.write_text(json.dumps(dict(path=str(Path(path).resolve()))) + '\n', encoding='utf-8')

def find_parent(identity, network, given=()):
    """The file of the generator that an identity is of.

    network:  the snapshot that asks; files beside it are looked at, by their name.
    given:    {digest: path} of --parent.
    Raises UserError where it is not found."""
    sha256 = identity['sha256']
    if sha256 in given:
        return given[sha256]
    if re.fullmatch('[0-9a-f]{64}', sha256):
        entry = cache_dir('parents') / f'{sha256}.json'
        known = [json.loads(entry.read_text(encoding='utf-8'))['path']] if entry.is_file() else []
        beside = Path(network).resolve().parent / f'{Path(identity["name"]).name}.pkl'
        for path in map(Path, [*known, beside]):
            if path.is_file() and sha256_of_file(path) == sha256:
                return str(path)
    raise UserError(f'{network} needs {identity["name"]}.pkl (sha256 {sha256[:12]}...), the generator that its source images are '
                    'of; give that file as --parent.')

def given_parents(paths, identities):
    """{digest: path} of the files of --parent. Raises UserError for one that is in no chain."""
    wanted = {identity['sha256']: identity['name'] for identity in identities if 'latents' in identity}
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f'--parent={path} does not exist; give the snapshot of an earlier stage.')
        sha256 = sha256_of_file(path)
        if sha256 not in wanted:
            names = ', '.join(f'{name} (sha256 {digest[:12]})' for digest, name in wanted.items()) or 'none'
            raise UserError(f'--parent={path} (sha256 {sha256[:12]}) is no stage of this cascade; its generators are: {names}.')
        found[sha256] = path
    return found

#----------------------------------------------------------------------------
