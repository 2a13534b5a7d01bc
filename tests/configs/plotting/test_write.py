"""The files: whole or not at all, and the same drawing in each."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from configs.plotting import picture, write
from configs.plotting.colours import COLOURS
from configs.systems import SYSTEMS

SVG = '{http://www.w3.org/2000/svg}'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with the tree in every format."""
  folder = tmp_path_factory.mktemp('trees')
  for ending in write.FORMATS:
    write.write(str(folder / f'tree{ending}'))
  return folder


def test_the_kind_of_file_is_that_of_its_name(folder):
  assert (folder / 'tree.png').read_bytes().startswith(b'\x89PNG')
  assert (folder / 'tree.pdf').read_bytes().startswith(b'%PDF')
  assert (folder / 'tree.svg').read_text('utf-8').startswith('<svg ')
  assert (folder / 'tree.html').read_text('utf-8').startswith('<!doctype html>')
  assert len(list(folder.iterdir())) == len(write.FORMATS)
  with pytest.raises(ValueError, match=r'must end in one of \.html, \.png'):
    write.write(str(folder / 'tree.jpg'))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / 'tree.png'
  path.write_bytes(b'the old one')

  def fail(figure, file, **_):
    Path(file).write_bytes(b'half')
    raise OSError('disk full')

  monkeypatch.setattr(picture.Figure, 'savefig', fail)
  with pytest.raises(OSError, match='disk full'):
    write.write(str(path))
  assert path.read_bytes() == b'the old one'
  assert list(tmp_path.iterdir()) == [path]


def test_the_svg_shows_every_system_and_every_edge(folder):
  root = ET.parse(folder / 'tree.svg').getroot()
  texts = [element.text for element in root.iter(f'{SVG}text')]
  groups = [
    g.get('class').split() for g in root.iter(f'{SVG}g') if g.get('class')
  ]
  for s in SYSTEMS.values():
    assert s.name in texts
  boxes = [names for names in groups if 'box' in names]
  legend = 3
  assert len(boxes) == len(SYSTEMS) + legend
  opened = [s.open for s in SYSTEMS.values()]
  assert sum('open' in names for names in boxes) == sum(opened) + 1
  assert sum('undisclosed' in names for names in boxes) == 4 + 1
  edges = [g for g in root.iter(f'{SVG}g') if 'edge' in (g.get('class') or '')]
  said = {' '.join(t.text for t in g.iter(f'{SVG}text')) for g in edges}
  assert said == {s.changed for s in SYSTEMS.values() if s.changed}
  assert not list(root.iter(f'{SVG}a'))


def test_page_and_svg_are_the_same_drawing(folder):
  def shapes(name):
    text = (folder / name).read_text('utf-8')
    svg = text[text.index('<svg ') : text.index('</svg>')]
    return re.findall(r'<(?:rect|text|path class="line")[^>]*>[^<]*', svg)

  assert len(shapes('tree.svg')) > 100
  assert shapes('tree.svg') == shapes('tree.html')


def contrast(one, other):
  """The ratio of WCAG 2.1."""

  def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (
      x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b

  light, dark = sorted(map(luminance, (one, other)), reverse=True)
  return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize('screen', [0, 1])
def test_colours_can_be_read(screen):
  paper = COLOURS['paper'][screen]
  for role, colours in COLOURS.items():
    if role not in ('paper', 'rule', 'trunk'):
      assert contrast(colours[screen], paper) > 4.5, role
