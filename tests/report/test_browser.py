"""The page in Chromium: nothing overflows at 390 and 1280 pixels, the slider and the legend work, nothing is requested.

The page is shown in a frame of these widths, by a server of this test, and a script beside it measures."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

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
  found.small = Math.min(...[...page.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height));
  const image = page.getElementById('frame0'), last = image.src;
  found.before = page.getElementById('time-at').textContent;
  slider.value = 0; slider.dispatchEvent(new Event('input'));
  found.after = page.getElementById('time-at').textContent; found.moved = image.src !== last && image.src.startsWith('data:');
  found.pairs = page.getElementById('pairs0').style.getPropertyValue('--frame').includes(image.src);
  const box = page.querySelector('input[data-run="1"]'); box.click();
  found.hidden = getComputedStyle(page.querySelector('.chart .run.run1')).display;
  const chart = page.querySelector('svg[data-chart]'), place = chart.getBoundingClientRect();
  chart.dispatchEvent(new PointerEvent('pointermove', {clientX: place.right - 20, clientY: place.top + 20}));
  found.readout = chart.parentNode.querySelector('.at').textContent;
  found.requests = frame.contentWindow.performance.getEntriesByType('resource').map(entry => entry.name);
  found.dark = frame.contentWindow.getComputedStyle(page.body).backgroundColor;
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

@pytest.mark.parametrize('width', [390, 1280])
def test_the_page(width, look, spider_run, make_run):
    name = '00000-a-long-name-without-a-place-to-break_' + 'x' * 60
    page = render([read_run(spider_run), read_run(make_run(name, scores=(100, 60, 44)))])
    found = look(page, width)
    assert found['width'] <= 0 and found['wide'] == [] and not found['overlap'] and found['clipped'] == []
    assert found['small'] >= 9      # pixels of a letter's box
    assert (found['before'], found['after']) == ('at 4 kimg', 'at 0 kimg') and found['moved'] and found['pairs']
    assert found['hidden'] == 'none' and 'kimg: 00001' in found['readout'] and found['requests'] == []

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
