"""What a benchmark writes into a page of docs/: the parts between <!-- NAME --> and <!-- end of NAME -->."""

def fill(page, parts):
    """Replaces parts of the file `page`, {name: text or list of lines}. Raises ValueError where it lacks the two marks of one."""
    text = page.read_text()
    for name, part in parts.items():
        first, last = f'<!-- {name} -->\n', f'<!-- end of {name} -->\n'
        if first not in text or last not in text:
            raise ValueError(f'{page} has no part {name!r}: put the lines {first.strip()} and {last.strip()} where it belongs')
        before, _, rest = text.partition(first)
        part = part if isinstance(part, str) else '\n'.join(part) + '\n'
        text = f'{before}{first}{part}{last}{rest.partition(last)[2]}'
    page.write_text(text)

#----------------------------------------------------------------------------
