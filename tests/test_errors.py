"""Texts from files come to a terminal escaped and cut, whatever sentence they are in."""

import pytest

from spider_plugin.errors import MAX_LINE, Failure, SpiderError, printable, shown

EVIL = '\x1b]0;owned\x07\nTick 1 ok\r\u202e\ud800'

@pytest.mark.parametrize('error', [SpiderError, Failure])
def test_a_sentence_is_one_line(error):
    message = error(f'{EVIL} is damaged; copy it again.').message
    assert message.isprintable() and message.endswith(' is damaged; copy it again.') and '\\x1b]0;owned' in message
    assert len(error('x' * 10_000).message) == MAX_LINE

def test_words_of_any_language_stay():
    assert printable('Füchse, 狐, 🦊') == 'Füchse, 狐, 🦊'

def test_what_is_shown_is_ascii_and_short():
    assert shown(EVIL).isascii() and shown(EVIL).isprintable() and len(shown(EVIL * 100)) == 160
