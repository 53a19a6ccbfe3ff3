"""The pages: every link and path in them leads somewhere, and the first two pages stay short."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from spider_plugin.errors import SpiderError

ROOT  = Path(__file__).resolve().parent.parent
PAGES = sorted(path for pattern in ('*.md', 'docs/*.md', '*/README.md') for path in ROOT.glob(pattern))
BASES = ('', 'spider_plugin', 'torch_utils_ext', 'reference_host')  # pages name paths from any of these
LINK  = r'!?\[[^\]]*\]\((?![a-z]+:)([^)\s]+)\)'

def page_id(path):
    return path.relative_to(ROOT).as_posix()

def without_code(text):
    """The text without fenced and indented blocks."""
    text = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
    return '\n'.join(line for line in text.splitlines() if not line.startswith('    '))

def without_spans(text):
    """The text without code, code spans, and the parts that benchmarks write."""
    text = re.sub(r'<!-- ([\w ]+) -->\n.*?<!-- end of \1 -->', '', text, flags=re.DOTALL)
    return re.sub(r'`[^`\n]+`', '', without_code(text))

def words_not_used(text):
    """Words of a page for which docs/glossary.md has others, and decimal numbers without a digit before the point."""
    return re.findall(r'\b(?:backbones?|trusted|ours|theirs)\b|(?<![\w.])\.\d+', without_spans(text), flags=re.IGNORECASE)

def anchors(path):
    """Anchors of a page's headings, as code forges make them."""
    headings = re.findall(r'^#+ (.+)$', without_code(path.read_text(encoding='utf-8')), flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}

def broken_links(path, text):
    """Relative links of a page's text that lead to no file or heading."""
    broken = []
    for link in re.findall(LINK, without_code(text)):
        file, _, anchor = link.partition('#')
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    return broken

def missing_paths(text):
    """Paths in backticks that start with a folder of the repository and are not there."""
    folders = {path.name for base in BASES for path in (ROOT / base).iterdir() if path.is_dir()}
    spans = re.findall(r'`([^`\n]+)`', without_code(text))
    words = [word.rstrip('.,:;') for span in spans for word in span.split() if '/' in word and word.split('/')[0] in folders]
    paths = [word for word in words if not re.search(r'[*{}$<>=]|[A-Z]{3,}|\.\.\.|::', word)]
    return [path for path in paths if not any((ROOT / base / path).exists() for base in BASES)]

#----------------------------------------------------------------------------

@pytest.mark.parametrize('page', PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    assert not broken_links(page, page.read_text(encoding='utf-8'))

@pytest.mark.parametrize('page', [page for page in PAGES if page.name != 'CHANGELOG.md'], ids=page_id)
def test_paths_are_there(page):
    assert not missing_paths(page.read_text(encoding='utf-8'))

def test_what_is_not_there_is_found():
    links = '[a](no.md) [b](../README.md) [c](glossary.md#images) [d](glossary.md#nothing) [e](https://x.org/y)'
    assert broken_links(ROOT / 'docs' / 'page.md', links) == ['no.md', 'glossary.md#nothing']
    paths = '`docs/no.md` `docs/glossary.md` `hosts/hook.py` `hosts/no.py` `configs/NAME.json`\n\n    `docs/x.md`'
    assert missing_paths(paths) == ['docs/no.md', 'hosts/no.py']

@pytest.mark.parametrize('page', [page for page in PAGES if page.name not in ('CHANGELOG.md', 'CONTRIBUTING.md')], ids=page_id)
def test_words_are_those_of_the_glossary(page):
    assert not words_not_used(page.read_text(encoding='utf-8'))     # CONTRIBUTING.md names the words that are not used

def test_words_that_are_not_used_are_found():
    text = 'Our backbone is .20, not 0.20, `--disc-backbone`.\n<!-- a table -->\n| backbone |\n<!-- end of a table -->\nOurs.'
    assert words_not_used(text) == ['backbone', '.20', 'Ours']

def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').split()) <= 800

def test_the_map_is_short_and_opens_with_the_way():
    text = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 150
    first = text.split('\n## ')[1]
    assert first.startswith('The way of an option')
    steps = [first.index(f'{number}  {word} ') for number, word in
             enumerate(('option', 'edit', 'config', 'rank', 'bundle', 'source'), start=1)]
    assert steps == sorted(steps)

def test_every_page_of_docs_can_be_reached_from_the_readme():
    found, todo = set(), [ROOT / 'README.md']
    while todo:
        page = todo.pop()
        if page in found or page.suffix != '.md':
            continue
        found.add(page)
        files = [link.partition('#')[0] for link in re.findall(LINK, without_code(page.read_text(encoding='utf-8')))]
        todo += [(page.parent / file).resolve() for file in files if file]
    assert not sorted(page.name for page in (ROOT / 'docs').glob('*.md') if page not in found)

#----------------------------------------------------------------------------

def script(path):
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

#----------------------------------------------------------------------------

def test_the_picture_of_the_readme_shows_every_row_under_its_words():
    picture = script(ROOT / 'tools' / 'readme_picture.py')
    colours = torch.tensor([[255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    drawn = picture.draw([(f'row {i}', colours[i][None, :, None, None].expand(picture.COLUMNS, 3, 32, 32)) for i in range(2)])
    for i in range(2):
        top = i * (picture.LABEL + picture.SIDE)
        corners = (picture.GAP, top + picture.LABEL), (drawn.width - picture.GAP - 1, top + picture.LABEL + picture.SIDE - 1)
        assert [drawn.getpixel(corner) for corner in corners] == [tuple(colours[i].tolist())] * 2
        assert drawn.crop((0, top, drawn.width, top + picture.LABEL)).convert('L').getextrema()[0] < 128     # words
    assert Image.open(picture.PAGE).width == drawn.width

def test_the_picture_of_the_readme_needs_a_demo(tmp_path):
    picture = script(ROOT / 'tools' / 'readme_picture.py')
    with pytest.raises(SpiderError, match='holds no finished demo; run `spider demo'):
        picture.rows_of(tmp_path)

#----------------------------------------------------------------------------
