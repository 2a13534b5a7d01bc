"""The page: its numbers, links, words and pictures."""

import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib import image

from tests.helpers import browser
from tests.helpers.workdirs import make
from train import report as command
from train.comparing import charts, page, runs
from train.comparing.style import STYLE

# Measures the page after it is laid out: too wide? which text is too small?
MEASURE = """<script>
const wide = document.documentElement.scrollWidth - innerWidth
const sizes = [...document.querySelectorAll('figure')].flatMap(figure => {
  const svg = figure.querySelector('svg')
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width
  return [...svg.querySelectorAll('text')].map(
    text => scale * parseFloat(getComputedStyle(text).fontSize))
})
const open = [...document.querySelectorAll('details')].map(x => x.open)
document.title = JSON.stringify(
  {wide, smallest: Math.min(...sizes), texts: sizes.length,
   back: getComputedStyle(document.body).backgroundColor})
</script>"""


class Reader(HTMLParser):
  """The page's elements: names, attributes, and rows' texts by their id."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.rows, self._row = [], {}, None
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.elements.append((tag, attributes))
    if tag == 'tr':
      self._row = self.rows.setdefault(attributes.get('id'), [])

  def handle_data(self, data):
    if self._row is not None and data.strip():
      self._row.append(data.strip())

  def all(self, tag):
    return [attributes for name, attributes in self.elements if name == tag]


def read(folder):
  return runs.read_all(runs.find([str(folder)]))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Two configs of two seeds, a run under way, and an empty workdir."""
  folder = tmp_path_factory.mktemp('page') / 'some <runs>'
  for seed in range(2):
    make(folder / f'a{seed}', seed=seed, mfu=0.421, samples='<i>x</i> & y')
    make(folder / f'b{seed}', seed=seed, lift=0.5, schedule__learning_rate=0.1)
  make(folder / 'c', until=120, schedule__learning_rate=0.2)
  (folder / 'd').mkdir()
  return folder


@pytest.fixture(scope='module')
def report(folder):
  return page.build(read(folder), 'some <runs>')


@pytest.fixture(scope='module')
def reader(report):
  return Reader(report.html)


def test_the_page_needs_nothing_else(report, reader):
  assert not reader.all('script')
  assert not reader.all('img')
  for tag, attributes in reader.elements:
    for name in ('src', 'href', 'xlink:href', 'style', 'content'):
      value = attributes.get(name) or ''
      assert 'http' not in value, (tag, value)
      if value and name in ('src', 'href', 'xlink:href'):
        assert value.startswith(('#', 'data:,')), (tag, value)
  assert '@import' not in STYLE
  assert 'url(' not in STYLE
  assert len(report.html) < 1_000_000


def test_every_link_leads_to_a_place_of_the_page(reader):
  places = [x['id'] for _, x in reader.elements if 'id' in x]
  assert len(places) == len(set(places))
  linked = {x['href'][1:] for x in reader.all('a')}
  assert linked <= set(places)
  assert {'run-1-step-200', 'run-5-step-120', 'run-6'} <= linked


def test_numbers_are_in_the_rows_they_link_to(report):
  """A mean's parts, as they are in metrics.jsonl and in the run's table."""
  rows = Reader(report.html).rows
  part = report.html.split('id="results"')[1].split('</section>')[0]
  links = re.findall(r'<a href="#(run-\d+-step-\d+)"[^>]*>([^<]+)</a>', part)
  assert len(links) > 10
  for place, text in links:
    assert text in rows[place], (place, text)


def test_what_the_page_says(report):
  text = html.unescape(re.sub(r'<wbr>|<[^>]*>', '', report.html))
  for words in (
    '6 runs: 4 complete, 1 unfinished, 1 empty.',
    'd: empty, no run has begun.',
    'unfinished, at step 120 of 200, last written',
    'mean over the last 2 steps',
    'held-out loss, not smoothed',
    'schedule.learning_rate',
    "Welch's t-test",
    'worse',
    'no test: not all runs of both are complete',
    '42.1%',  # MFU
    '83.3%',  # goodput
    '<i>x</i> & y',
    '0123456789abcdef0123456789abcdef01234567',
  ):
    assert words in text, words
  assert 'model.embed_dim' not in text  # the same in all
  assert '<i>' not in report.html


def test_tables_and_charts_are_accessible(reader):
  tables, captions = reader.all('table'), reader.all('caption')
  assert len(tables) == len(captions) > 10
  assert all(x.get('scope') in ('row', 'col') for x in reader.all('th'))
  regions = [x for x in reader.all('div') if x.get('role') == 'region']
  assert len(regions) == len(tables)
  assert all(x['aria-label'] and x['tabindex'] == '0' for x in regions)
  assert reader.all('html')[0]['lang'] == 'en'
  # The tables have what the charts show; their points are no stops of Tab.
  drawn = reader.all('svg')
  assert all(x['aria-hidden'] == 'true' for x in drawn)
  stops = [x for x in reader.all('a') if 'step' in x['href']]
  assert {x.get('tabindex') for x in stops} == {None, '-1'}


def test_charts(report):
  assert sorted(report.pngs) == ['eval.loss.png', 'train.loss.png']
  for data in report.pngs.values():
    picture = image.imread(io.BytesIO(data))
    assert picture.shape[0] > 900
    assert picture.shape[1] > 1200
    assert picture.std() > 0.01
  for axis in ('step', 'tokens', 'FLOPs', 'hours of all starts'):
    assert f'held-out loss by {axis}<' in report.html
  # Colours are those of the page, light or dark.
  assert 'var(--line0)' in report.html
  assert 'var(--ink)' in report.html
  assert '#0102' not in report.html
  assert not re.search(r'(stroke|fill): #(?!none)', report.html)


def test_rewards_and_divergence_are_drawn(tmp_path):
  """Of runs of train.align; an accuracy of others is in the tables alone."""
  more = {'kl': 0.2, 'accuracy': 0.5}
  for method, expected in (('', []), ('kto', ['train.accuracy', 'train.kl'])):
    place = make(tmp_path / f'x{method}', more=more, align__method=method)
    made = page.build(read(place), 'a title')
    names = [f'{x}.png' for x in ('eval.loss', *expected, 'train.loss')]
    assert sorted(made.pngs) == names
  assert 'training KL by step<' in made.html


def test_a_chart_shows_what_runs_recorded(folder, monkeypatch):
  """Each run is a line, over each axis; ends far apart get a logarithm."""
  found = page.grouping.grouped(read(folder))
  curves = charts.curves_of(found, 'eval/loss', 'loss')
  assert [len(x) for x in curves.lines] == [2, 2, 1]
  assert curves.axes() == ['step', 'tokens', 'flops', 'hours']
  one = curves.lines[2][0]
  assert one.steps.tolist() == [0, 50, 100]
  assert one.values.tolist() == [one.run.at(s, 'eval/loss') for s in one.steps]
  assert one.along('tokens').tolist() == [0, 50_000, 100_000]
  assert not charts.is_logarithmic(curves, 'tokens')
  monkeypatch.setattr(charts, 'FAR', 1.5)
  assert charts.is_logarithmic(curves, 'tokens')
  drawn = charts.svg(curves, 'tokens', lambda run, step: f'#{run.name}-{step}')
  assert '(logarithmic)' in drawn
  assert 'href="#c-100"' in drawn
  assert 'href="#c-0"' not in drawn  # no logarithm


def test_no_two_of_many_groups_look_alike():
  assert len({charts.style(i) for i in range(32)}) == 32
  assert len({charts.DASHES[charts.style(i)[1]] for i in range(4)}) == 4


def test_a_run_of_few_minutes(tmp_path):
  """Its hours are not rounded on the axis, and its one number is seen."""
  found = read(make(tmp_path / 'run', steps=10, eval_every=5))
  curves = charts.curves_of(page.grouping.grouped(found), 'train/loss', 'loss')
  assert [len(one.values) for one in curves.lines[0]] == [1]
  drawn = charts.svg(curves, 'hours', lambda run, step: '#')
  labels = re.findall(r'<text[^>]*>(0\.\d+)</text>', drawn)
  assert len({*labels}) == len(labels) > 3
  assert re.search(r'<use [^>]*var\(--line0\)', drawn)


def test_other_tokenizers_show_bits_per_byte_alone(tmp_path):
  make(tmp_path / 'a')
  make(tmp_path / 'b', tokenizer='b' * 64, model__vocab_size=512)
  found = page.build(read(tmp_path), 'two')
  assert list(found.pngs) == ['eval.bits_per_byte.png']
  assert 'different tokenizers' in found.html
  _, text = found.html.split('</header>')
  for words in ('training loss', 'held-out loss', 'perplexity', 'accuracy'):
    assert words not in text


def test_runs_without_any_number(tmp_path):
  make(tmp_path / 'a', until=0, eval_every=1000)
  (tmp_path / 'a' / 'metrics.jsonl').write_text('')
  found = page.build(read(tmp_path), 'none yet')
  assert 'No run has a number yet.' in found.html
  assert 'No run has been evaluated yet.' in found.html
  assert not found.pngs


@pytest.mark.parametrize('width', [390, 1280])
def test_in_a_browser(report, tmp_path, width):
  """No console message, nothing too wide, and text of a legible size.

  Chromium's window is at least 500 pixels wide: a frame has the phone's width.
  """
  browser.find()
  policy = re.search(r'<meta http-equiv="Content-Sec[^>]*>', report.html)[0]
  measured = report.html.replace(policy, '').replace('</body>', MEASURE)
  (tmp_path / 'page.html').write_text(measured)
  (tmp_path / 'plain.html').write_text(report.html)
  frame = tmp_path / 'frame.html'
  frame.write_text(
    f'<iframe src="page.html" width="{width}" height="800"></iframe>'
    '<script>onload = () => setTimeout(() => {'
    'document.title = frames[0].document.title}, 100)</script>'
  )
  flags = '--dump-dom', '--virtual-time-budget=3000'
  more = '--allow-file-access-from-files', '--window-size=1400,900'
  shown, said = browser.open_page(frame.as_uri(), tmp_path / 'a', *flags, *more)
  assert not said
  found = page_title(shown)
  assert found['wide'] <= 0
  assert found['texts'] > 100
  assert found['smallest'] > 9
  _, said = browser.open_page(
    (tmp_path / 'plain.html').as_uri(), tmp_path / 'a', *flags
  )
  assert not said  # with its own policy


def test_light_and_dark_in_a_browser(report, tmp_path):
  browser.find()
  (tmp_path / 'page.html').write_text(report.html)
  means = {}
  for name, more in (('light', ()), ('dark', ('--force-dark-mode',))):
    picture = tmp_path / f'{name}.png'
    browser.open_page(
      (tmp_path / 'page.html').as_uri(), tmp_path / 'profile',
      f'--screenshot={picture}', '--window-size=1280,2000', *more,
      '--blink-settings=preferredColorScheme=0' if more else '--no-pings',
    )  # fmt: skip
    means[name] = image.imread(picture)[..., :3].mean()
  assert means['light'] > 0.85
  assert means['dark'] < 0.3


def page_title(shown: str) -> dict:
  return json.loads(html.unescape(re.search('<title>(.*?)</title>', shown)[1]))


def test_the_style_has_every_colour_twice():
  for i in range(len(charts.COLOURS)):
    assert STYLE.count(f'--line{i}:') == 2


def test_lines_contrast_with_the_page():
  """At least 3:1, as WCAG 1.4.11 asks of graphics."""

  def luminance(code):
    parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [
      x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

  for light, dark in charts.COLOURS:
    assert 1.05 / (luminance(light) + 0.05) >= 3
    assert (luminance(dark) + 0.05) / (luminance('#14171a') + 0.05) >= 3


def test_pictures_are_written_beside_the_page(report, tmp_path):
  paths = command.write(report, str(tmp_path / 'x.html'))
  names = sorted(Path(path).name for path in paths)
  assert names == ['x.eval.loss.png', 'x.html', 'x.train.loss.png']
  assert (tmp_path / 'x.html').read_text() == report.html
