"""`spider push` and `spider pull`: snapshots on the Hugging Face hub, with a model card.

A snapshot goes up with its card (README.md for people, NAME.json for programs) in one commit, so that a repository has all of it
or nothing. What comes down is read by the restricted reader before it gets its name, and its checksum is compared; nothing in it
is executed.
huggingface_hub finds the token (HF_TOKEN, or `hf auth login`) and the endpoint (HF_ENDPOINT); neither is printed."""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

from spider_plugin.errors import SpiderError, shown
from spider_plugin.files import checksum
from spider_plugin.snapshots.export import describe
from spider_plugin.snapshots.records import PersistentRecord, read_pickle

MARK = '<!-- written by spider push -->'    # a card without it is somebody's, and stays

_ADDRESS = re.compile(r'hf://([\w.-]{1,96})/([\w.-]{1,96})(?:@([\w./-]{1,100}?))?(?:/(.+))?')

def parse_address(text):
    """Return (OWNER/NAME, revision or None, file or None) of hf://OWNER/NAME[@REVISION][/FILE]. Raises SpiderError."""
    match = _ADDRESS.fullmatch(text)
    file = match and match[4]
    if match is None or (file and (not file.isprintable() or any(part in ('', '.', '..') for part in file.split('/')))):
        raise SpiderError(f'{shown(text, 80)} is not the address of a repository; give hf://OWNER/NAME or hf://OWNER/NAME/FILE.pkl.')
    return f'{match[1]}/{match[2]}', match[3], file

def _api():
    try:
        import huggingface_hub
    except ImportError as error:
        raise SpiderError("hf:// needs the package huggingface_hub; run pip install 'spider-plugin[hub]'.") from error
    return huggingface_hub.HfApi(endpoint=os.environ.get('HF_ENDPOINT') or None)

@contextlib.contextmanager
def _said(address):
    """Within this context, an error of the hub is one sentence, without what a server or a header says."""
    from huggingface_hub import errors
    try:
        yield
    except SpiderError:
        raise
    except errors.EntryNotFoundError as error:
        raise SpiderError(f'{address}: the repository has no such file; look at its files, and give one of them.') from error
    except errors.RepositoryNotFoundError as error:
        raise SpiderError(f'{address} does not exist, or is private; check the name, or log in with `hf auth login` or '
                          'HF_TOKEN.') from error
    except errors.RevisionNotFoundError as error:
        raise SpiderError(f'{address}: the repository has no such revision; leave it out, or give one that it has.') from error
    except errors.HFValidationError as error:
        raise SpiderError(f'{address} is no name that the hub allows; give hf://OWNER/NAME.') from error
    except Exception as error:  # of the hub's client, its HTTP library, and the disk
        status = getattr(getattr(error, 'response', None), 'status_code', None)
        if status in (401, 403):
            raise SpiderError(f'{address}: the hub does not allow that (HTTP {status}); log in with `hf auth login` or HF_TOKEN, '
                              'as somebody who may.') from error
        reason = f'HTTP {status}' if status else type(error).__name__
        raise SpiderError(f'{address}: the hub cannot be reached, or refuses ({reason}); check the network and HF_ENDPOINT, and '
                          'try again.') from error

#----------------------------------------------------------------------------

def push(path, address, private=False):
    """Upload the host pickle at `path` to hf://OWNER/NAME[/FILE], with its card; return lines about it.

    The repository is made where it does not exist. A README.md that `spider push` did not write stays. Raises SpiderError."""
    repository, revision, file = parse_address(address)
    path = Path(path)
    file = file or path.name
    if not file.endswith('.pkl'):
        raise SpiderError(f'{address} names a file that does not end in .pkl; give a name that does, or none.')
    card = describe(path, file.rpartition('/')[2])
    api = _api()
    from huggingface_hub import CommitOperationAdd
    with _said(address):
        api.create_repo(repository, private=private or None, exist_ok=True)
        files = {file: str(path), f'{file.removesuffix(".pkl")}.json': (json.dumps(card, indent=2) + '\n').encode()}
        kept = not _ours(api, repository, revision)
        if not kept:
            files['README.md'] = model_card(card, repository, file).encode()
        api.create_commit(repository, [CommitOperationAdd(name, content) for name, content in files.items()],
                          commit_message=f'Add {file}', revision=revision)
    return [f'{address}: {", ".join(files)}', *(['Its README.md was not written by spider push, and stays.'] if kept else [])]

def _ours(api, repository, revision):
    """Whether the repository has no README.md, or one of `spider push`."""
    if not api.file_exists(repository, 'README.md', revision=revision):
        return True
    with tempfile.TemporaryDirectory() as folder:
        text = Path(api.hf_hub_download(repository, 'README.md', revision=revision, local_dir=folder)).read_bytes()
    return MARK.encode() in text

_SOURCE = ('name', 'licence', 'sha256', 'transform', 'cascade', 'mapping', 'match', 'images')

def model_card(card, repository, file):
    """Return the text of README.md for a card of `spider export`."""
    network, source = card['network'], card['source']
    size = 'x'.join(str(network['resolution'] or '?') for _ in range(2))
    lines = ['---', 'library_name: spider-plugin', 'tags:', '- gan', '- image-generation', '- spider-gan', '---', MARK, '',
             f'# {repository.partition("/")[2]}', '',
             f'A generator of {size} images: {_plain(network["family"] or network["class_name"])}, {card["numbers"]:,} numbers.',
             '']
    if source is not None:
        lines += ['## Source', '', 'It draws from source images in place of noise.', '', '| | |', '|---|---|']
        lines += [f'| {key} | {_plain(source[key])} |' for key in _SOURCE if source.get(key) not in (None, '')]
        lines += ['', 'The snapshot carries these images; their licence applies to them.', '']
    lines += ['## Use', '', '```bash', "pip install 'spider-plugin[hub]'", f'spider pull hf://{repository}/{file}',
              f'spider generate --network={file.rpartition("/")[2]} --seeds=0-3 --outdir=out', '```', '',
              f'Licence: {card["licence"]}.', '', f'SHA-256 of `{file}`: `{card["input"]["sha256"]}`.', '']
    return '\n'.join(lines)

def _plain(value):
    """A value as text that is no markup, on one line."""
    return re.sub(r'([\\`*_{}\[\]<>|#])', r'\\\1', ' '.join(str(value).split())[:300])

#----------------------------------------------------------------------------

def pull(address, out=None):
    """Download hf://OWNER/NAME[/FILE] to `out`, by default its name in the working directory; return lines about it.

    Without FILE, the repository must have one .pkl. Raises SpiderError, also for a file that is no network pickle, and for one
    that has changed since it was written; then nothing is left."""
    repository, revision, file = parse_address(address)
    api = _api()
    with _said(address):
        file = file or _only_pickle(api.list_repo_files(repository, revision=revision), address)
    final = Path(out or file.rpartition('/')[2])
    if final.exists():
        raise SpiderError(f'{final} exists; give another name with --out.')
    if not final.parent.is_dir():
        raise SpiderError(f'--out={final}: {final.parent} is no folder; make it, or give another name.')
    try:
        with tempfile.TemporaryDirectory(prefix='.pull-', dir=final.parent) as folder:
            with _said(address):
                found = Path(api.hf_hub_download(repository, file, revision=revision, local_dir=folder))
            has_checksum = _check(found, address)
            os.replace(found, final)
    except OSError as error:
        raise SpiderError(f'{final} cannot be written ({error.strerror or error}); give another name with --out.') from error
    return [f'{final}: ' + ('its checksum is right' if has_checksum else 'it has no checksum, as other programs write none')]

def _only_pickle(files, address):
    found = [name for name in files if name.endswith('.pkl')]
    if len(found) != 1:
        names = ', '.join(shown(name, 60) for name in found[:10]) or 'none'
        raise SpiderError(f'{address} has {len(found)} network pickles ({names}); give hf://OWNER/NAME/FILE.pkl for one of them.')
    return found[0]

def _check(path, address):
    """Return whether a file has a checksum, after reading it. Raises SpiderError that names the address."""
    try:
        has_checksum = checksum.check(path)
        networks = [value for value in read_pickle(path).values() if isinstance(value, PersistentRecord)]
    except SpiderError as error:
        raise SpiderError(error.message.replace(str(path), address)) from error
    if not networks:
        raise SpiderError(f'{address} holds no network; give the address of a snapshot.')
    return has_checksum

#----------------------------------------------------------------------------
