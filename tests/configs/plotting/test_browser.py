"""The page in a browser, used by mouse and by keyboard."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

import pytest

from configs.plotting.write import write

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
# Uses the page, and writes what it saw into an element.
PROBE = """
const seen = {errors: []};
addEventListener('error', (event) => seen.errors.push(event.message));
addEventListener('load', async () => {
  const settle = () => new Promise((done) => setTimeout(done, 100));
  const note = async (name) => {
    await settle();
    const cards = [...document.querySelectorAll('section')];
    const shown = (x) => getComputedStyle(x).display !== 'none';
    const here = document.activeElement;
    seen[name] = {
      shown: cards.filter(shown).map((card) => card.id),
      focus: here.id || here.getAttribute('href'),
      marked: [...document.querySelectorAll('[aria-current]')].map(
        (link) => link.getAttribute('href')),
    };
  };
  const link = (to) => document.querySelector(`svg a[href="#${to}"]`);
  const click = (x) => x.dispatchEvent(
    new MouseEvent('click', {bubbles: true, cancelable: true, view: window}));
  const escape = () => document.activeElement.dispatchEvent(
    new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
  await note('start');
  click(link('to-llama').querySelector('text'));
  await note('edge');
  escape();
  await note('closed');
  click(link('bert').querySelector('rect'));
  await note('system');
  click(document.querySelector('#bert a[href="#roberta"]'));
  await note('inside');
  click(document.querySelector('#roberta .close'));
  await note('again');
  seen.tabs = [...document.querySelectorAll('svg a')].every(
    (x) => x.tabIndex === 0);
  seen.loaded = performance.getEntriesByType('resource').map((x) => x.name);
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  const box = link('bert').querySelector('rect').getBoundingClientRect();
  const name = link('bert').querySelector('text').getBoundingClientRect();
  seen.fits = name.left > box.left && name.right < box.right;
  const result = document.createElement('pre');
  result.id = 'seen';
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
"""


@pytest.mark.skipif(not BROWSER, reason='needs Chromium, which is not here')
@pytest.mark.parametrize('width', [1600, 500])
def test_the_page_is_used(tmp_path, width):
  path = tmp_path / 'tree.html'
  write(str(path))
  text = path.read_text('utf-8')
  path.write_text(
    text.replace('<body>', f'<body><script>{PROBE}</script>'), 'utf-8'
  )
  done = subprocess.run(
    [
      BROWSER, '--headless', '--disable-gpu', '--virtual-time-budget=20000',
      f'--window-size={width},900', f'--user-data-dir={tmp_path / "profile"}',
      *['--no-sandbox'] * (os.getuid() == 0), '--dump-dom', path.as_uri(),
    ],
    capture_output=True, text=True, encoding='utf-8', timeout=180,
  )  # fmt: skip
  found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
  assert found, done.stderr[-2000:]
  seen = json.loads(unescape(found[1]))
  assert seen['errors'] == []
  assert seen['start']['shown'] == []
  edge = ['#to-llama']
  assert seen['edge'] == {
    'shown': ['to-llama'], 'focus': 'to-llama', 'marked': edge,
  }  # fmt: skip
  # Escape shows the tree alone, and the focus returns to the edge.
  assert seen['closed'] == {'shown': [], 'focus': '#to-llama', 'marked': []}
  assert seen['system'] == {
    'shown': ['bert'], 'focus': 'bert', 'marked': ['#bert', '#bert'],
  }  # fmt: skip
  assert seen['inside']['shown'] == ['roberta']
  assert seen['inside']['focus'] == 'roberta'
  assert seen['again'] == {'shown': [], 'focus': '#bert', 'marked': []}
  assert seen['tabs']
  assert seen['loaded'] == []
  assert not seen['wide']
  assert seen['fits']
