"""The study of methods on real images: its table, and the record that docs/real-images.md is written from."""

import json

from benchmarks.convergence import real_method

def line(images, fd, seed=0, arm='steady', recall=0.25):
    return dict(pair='p', match=1, arm=arm, seed=seed, images=images, cpu_seconds=images / 10, fd=fd, precision=0.5,
                recall=recall, latent=0.1)

def test_a_row_for_each_length_with_its_seeds():
    lines = [line(0, 100), line(8, 130, recall=0.5), line(16, 90), line(0, 101, seed=1), line(16, 95, seed=1),
             line(0, 100, seed=2), line(8, 99, seed=2)]
    assert real_method.table(lines).splitlines()[2:] == [
        '| p | steady | 8 | 2 | 100 | 99 | 99 | 0.25, 0.25 | 0.10 | 1 |',
        '| p | steady | 16 | 0 1 | 100 101 | 130 95 | 90 95 | 0.25, 0.25 0.25 | 0.10 0.10 | 2 |']

def test_the_page_has_the_tables_of_the_record():
    lines = real_method.lines_of(real_method.RESULTS)
    page = (real_method.ROOT / 'docs' / 'real-images.md').read_text(encoding='utf-8')
    for known in (True, False):
        assert real_method.table([line for line in lines if (line['arm'] in real_method.ARMS) == known]) in page
    assert json.dumps(lines).count('"options"') == len({(one['pair'], one['arm'], one['seed']) for one in lines})
