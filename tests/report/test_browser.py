"""The pages in Chromium: nothing overflows at 390 and 1280 pixels, the slider and the legend work, nothing is requested.

A page is shown in a frame of these widths, by a server of this test, and a script beside it measures."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
import torch

from spider_plugin.demo import report as demo_report
from spider_plugin.neighbors import report as neighbour_report
from spider_plugin.neighbors.compare import find_neighbors
from spider_plugin.neighbors.words import suggestion
from spider_plugin.report.live import SECONDS, Server
from spider_plugin.report.page import render
from spider_plugin.report.runs import read_run

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason='there is no Chromium on this machine')]

FRAME = '''<!doctype html><body style="margin: 0">
<iframe id="page" src="page.html" style="border: 0; width: %dpx; height: 900px"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById('page');
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement, found = {}, slider = page.getElementById('time');
  found.width = root.scrollWidth - root.clientWidth;
  found.wide = [...page.querySelectorAll('main *')].filter(node => !node.closest('.wide *, svg') &&
    node.getBoundingClientRect().right > root.clientWidth + 0.5).map(node => node.outerHTML.slice(0, 120));
  const boxes = [...page.querySelectorAll('.chart')].map(chart => chart.getBoundingClientRect());
  found.overlap = boxes.some((a, i) => boxes.slice(i + 1).some(b => a.left < b.right - 1 && b.left < a.right - 1 &&
    a.top < b.bottom - 1 && b.top < a.bottom - 1));
  found.clipped = [...page.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
    return box.left < all.left - 1 || box.right > all.right + 1 || box.bottom > all.bottom + 1; }).map(text => text.textContent);
  found.crossed = [...page.querySelectorAll('svg')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
    return texts.filter(([text, a], i) => texts.slice(i + 1).some(([other, b]) => a.left < b.right - 2 && b.left < a.right - 2 &&
      a.top + 4 < b.bottom - 4 && b.top + 4 < a.bottom - 4)).map(([text]) => text.textContent); });
  found.small = Math.min(...[...page.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height));
  const box = page.querySelector('input[data-run="1"]') ?? page.querySelector('input[data-run="7"]'); box.click();
  const hidden = page.querySelector('.chart .run.run' + box.dataset.run);
  found.hidden = frame.contentWindow.getComputedStyle(hidden).display;
  const chart = page.querySelector('svg[data-chart]'), place = chart.getBoundingClientRect();
  chart.dispatchEvent(new PointerEvent('pointermove', {clientX: place.right - 20, clientY: place.top + 20}));
  found.readout = chart.parentNode.querySelector('.at').textContent;
  found.requests = frame.contentWindow.performance.getEntriesByType('resource').map(entry => entry.name);
  const shade = node => frame.contentWindow.getComputedStyle(node);
  found.dark = shade(page.body).backgroundColor;
  found.faint = [...page.querySelectorAll('h1, h2, p, td, th, li, figcaption, svg text, .card, pre')].filter(node => {
    const light = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce((sum, part) => sum + part, 0);
    let behind = node;
    while (behind && shade(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const ink = node instanceof frame.contentWindow.SVGElement ? shade(node).fill : shade(node).color;
    return Math.abs(light(ink) - light(shade(behind ?? page.body).backgroundColor)) < 170;
  }).map(node => node.textContent.slice(0, 60));
  if (slider) {
  const image = page.getElementById('frame0'), last = image.src;
  found.before = page.getElementById('time-at').textContent;
  slider.value = 0; slider.dispatchEvent(new Event('input'));
  found.after = page.getElementById('time-at').textContent; found.moved = image.src !== last && image.src.startsWith('data:');
  found.pairs = page.getElementById('pairs0').style.getPropertyValue('--frame').includes(image.src);
  }
  document.getElementById('found').textContent = JSON.stringify(found);
};
</script></body>'''

@pytest.fixture
def look(tmp_path):
    """look(page, width, *options of the browser) -> what the script found."""
    folder = tmp_path / 'served'
    folder.mkdir()
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    def look(page, width, *options):
        (folder / 'page.html').write_text(page)
        (folder / 'frame.html').write_text(FRAME % width)
        command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}',
                   f'--window-size={max(width, 500)},1000', '--virtual-time-budget=5000', *options, '--dump-dom',
                   f'http://127.0.0.1:{server.server_address[1]}/frame.html']
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        found = re.search('<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stdout[-500:] + done.stderr[-2000:]
        return json.loads(html.unescape(found[1]))
    yield look
    server.shutdown()

def check(found):
    assert found['wide'] == [] and found['width'] <= 0 and not found['overlap'] and found['clipped'] == []
    assert found['crossed'] == [] and found['faint'] == []
    assert found['small'] >= 9      # pixels of a letter's box
    assert found['hidden'] == 'none' and found['readout'] and found['requests'] == []

@pytest.mark.parametrize('width', [390, 1280])
def test_the_page(width, look, spider_run, make_run):
    name = '00000-a-long-name-without-a-place-to-break_' + 'x' * 60
    page = render([read_run(spider_run), read_run(make_run(name, scores=(100, 60, 44)))])
    found = look(page, width)
    check(found)
    assert (found['before'], found['after']) == ('at 4 kimg', 'at 0 kimg') and found['moved'] and found['pairs']
    assert 'kimg: 00001' in found['readout']

def neighbours_page(make_zip, folder):
    """The page of a comparison with a contradiction, a long name, and a source that cannot be used."""
    def distance(images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1).repeat(1, 3)[:, :12] / 64
    distance.identity, distance.name = 'pooling', 'pooling'
    name = 'a-long-name-without-a-place-to-break_' + 'x' * 60
    sources = [make_zip(folder / f'{name}.zip', n=100, res=16, seed=seed) for seed, name in enumerate(('a', 'b', name))]
    summary = find_neighbors(make_zip(folder / 'target.zip', n=100, res=16, seed=9), [*map(str, sources), 'strokes', 'gone.zip'],
                             distance, quiet=True)
    return neighbour_report.render(summary, *suggestion(summary))

def demo_page():
    curves = dict(spider=[[0, 2400.0], [100, 500.0], [200, 600.0]], baseline=[[0, 9000.0], [100, 2000.0], [200, 700.0]])
    recall, images = [[0, 0.25], [100, 0.3], [200, 0.5]], torch.zeros([8, 3, 32, 32], dtype=torch.uint8)
    runs = {name: dict(curve=curve, recall=recall, best=dict(iteration=100, score=curve[1][1], recall=0.3),
                       last=dict(iteration=200, score=curve[2][1], recall=0.5)) for name, curve in curves.items()}
    rows = dict.fromkeys(demo_report.COPY_ROWS, 3.25)
    summary = dict(seed=7, quick=False, pair='maps', score_name='FD (lite1)', **runs, untrained=dict(score=2400.0, recall=0.25),
                   adds_to_source=True, goal=dict(score=700.0, spider=90.0, baseline=None),
                   reference_scores=dict(fresh_target=40.0), copy_check=dict(pixels=rows, features=rows),
                   settings=dict(cfg='fastgan_lite', spider={'spider-mapping': 'residual'}, noise={}),
                   versions=dict(torch='2'), seconds=dict(total=1.0), attribution='NASA')
    names = ('spider', 'spider_best', 'sources', 'raw', 'nearest', 'redrawn', 'baseline', 'baseline_best', 'target', 'fresh')
    return demo_report.render(summary, dict(dict.fromkeys(names, images), spider_stages={0: images}, baseline_stages={0: images}))

@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('kind', ['neighbors', 'demo'])
def test_the_other_pages(kind, width, scheme, look, make_zip, tmp_path, monkeypatch):
    monkeypatch.setenv('SPIDER_CACHE_DIR', str(tmp_path / 'cache'))
    page = demo_page() if kind == 'demo' else neighbours_page(make_zip, tmp_path)
    found = look(page, width, f'--blink-settings=preferredColorScheme={int(scheme == "light")}')
    check(found)
    assert (sum(map(int, re.findall(r'\d+', found['dark'])[:3])) < 150) == (scheme == 'dark')

def test_light_and_dark(look, spider_run, make_run):
    page = render([read_run(spider_run), read_run(make_run('00000-run'))])
    light, dark = (look(page, 600, f'--blink-settings=preferredColorScheme={scheme}')['dark'] for scheme in (1, 0))
    shade = lambda colour: sum(map(int, re.findall(r'\d+', colour)[:3]))
    assert shade(light) > 600 and shade(dark) < 150

def test_a_live_page_refreshes_itself(make_run, tmp_path):
    run, loads = make_run('run'), []
    def render_and_go_on(script):
        page = render([read_run(run)], live=script)
        loads.append(page)
        if len(loads) == 1:
            with open(run / 'stats.jsonl', 'a') as file:
                file.write('{"Progress/kimg": {"mean": 77}}\n')
        return page
    with Server([run], render_and_go_on) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}',
                   f'--virtual-time-budget={4000 * SECONDS}', '--dump-dom', server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        server.shutdown()
    assert len(loads) == 2 and '77 of 4 thousand images' in done.stdout
