"""Parents: the generators that the source images of a cascade were rendered from, and where their files are found.

The identities of a cascade are those of snapshots/lineage.py. Each of its generators is a file of its own; a tool that needs one
finds it by its digest."""

import json
import re
from pathlib import Path

from spider_plugin.errors import SpiderError
from spider_plugin.files.cache import atomic_file, cache_dir, sha256_of_file

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
    Raises SpiderError where it is not found."""
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
    raise SpiderError(f'{network} needs {identity["name"]}.pkl (sha256 {sha256[:12]}...), the generator that its source images '
                      'are of; give that file as --parent.')

def given_parents(paths, identities):
    """{digest: path} of the files of --parent. Raises SpiderError for one that is no stage of the cascade."""
    wanted = {identity['sha256']: identity['name'] for identity in identities if 'latents' in identity}
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise SpiderError(f'--parent={path} does not exist; give the snapshot of an earlier stage.')
        sha256 = sha256_of_file(path)
        if sha256 not in wanted:
            names = ', '.join(f'{name} (sha256 {digest[:12]})' for digest, name in wanted.items()) or 'none'
            raise SpiderError(f'--parent={path} (sha256 {sha256[:12]}) is no stage of this cascade; its generators are: {names}.')
        found[sha256] = path
    return found

#----------------------------------------------------------------------------
