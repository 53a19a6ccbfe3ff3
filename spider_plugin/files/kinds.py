"""What a downloaded file is, by its bytes: where no digest is published, a login page must not be kept as an archive."""

import os
import re
import zipfile
from pathlib import Path

from spider_plugin.files import checksum

_PAGE = re.compile(rb'\s*(<!doctype|<html|<\?xml|<head|<body|<script)', re.IGNORECASE)    # the beginning of a page
KINDS = dict(zip=re.compile(rb'PK(\x03\x04|\x05\x06)'), pickle=re.compile(rb'\x80[\x02-\x05]'))     # the beginning of each kind

class WrongFile(Exception):
    """A file is another one than it should be; the message says how."""

def check_beginning(head: bytes, kinds: tuple) -> None:
    """Raise WrongFile if a file that begins with `head` is a page, or of none of these keys of KINDS; no keys allow all else."""
    if _PAGE.match(head):
        raise WrongFile('a web page, perhaps of a login')
    if kinds and not any(KINDS[kind].match(head) for kind in kinds):
        raise WrongFile(f'no {" and no ".join(kinds)}' if head else 'empty')

def check_content(path: Path, kinds: tuple) -> None:
    """Raise WrongFile as check_beginning() does, and if a zip or a pickle has no end."""
    with open(path, 'rb') as file:
        head = file.read(1024)
    check_beginning(head, kinds)
    if 'zip' in kinds and KINDS['zip'].match(head) and not zipfile.is_zipfile(path):
        raise WrongFile('a zip that is cut off')
    if 'pickle' in kinds and KINDS['pickle'].match(head):
        _check_pickle(path)

def _check_pickle(path):
    try:
        if checksum.check(path):
            return
    except checksum.Changed as error:
        raise WrongFile('a pickle whose checksum does not fit') from error
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b'.':
            raise WrongFile('a pickle that is cut off')
