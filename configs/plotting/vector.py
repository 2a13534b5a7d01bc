"""The tree as SVG, light or dark as the reader's screen is.

Texts are texts, as wide as they were measured whichever font draws them. With
links each system is a link to '#KEY' and each line one to '#to-KEY', where KEY
is `name_of` the system.
"""

import re
from html import escape

from configs.plotting import layout
from configs.plotting.colours import COLOURS, SHADE
from configs.plotting.layout import FONT, SMALL, Box, Drawing, Edge, Text

TITLE = 'The evolutionary tree of language models'
# The letter of a path before each point; the third and fourth are one curve.
CODES = {2: ('M', 'L'), 5: ('M', 'L', 'Q', '', 'L')}
STYLE = """
.tree text { font-family: 'DejaVu Sans', Verdana, sans-serif; fill: var(--ink);
  dominant-baseline: central; }
.tree .year { fill: var(--faint); text-anchor: middle; }
.tree .edge text, .tree .legend > text { fill: var(--faint); }
.tree .heading { font-weight: bold; fill: var(--own); }
.tree .ground { fill: var(--own); fill-opacity: SHADE; }
.tree .grid { stroke: var(--paper); stroke-width: 1.2; }
.tree .line { fill: none; stroke: var(--own); }
.tree .box rect { fill: var(--own); stroke: var(--own); stroke-width: 1.4; }
.tree .box text { fill: var(--paper); }
.tree .closed rect { fill: var(--paper); }
.tree .closed text { fill: var(--own); }
.tree .target { fill: none; stroke: transparent; stroke-width: 14; }
""".replace('SHADE', str(SHADE))


def palette() -> str:
  """CSS: the colours as variables, and --own, that of an element's role."""
  sets = [
    ' '.join(f'--{role}: {pair[i]};' for role, pair in COLOURS.items())
    for i in (0, 1)
  ]
  roles = '\n'.join(f'.{role} {{ --own: var(--{role}); }}' for role in COLOURS)
  return (
    f':root {{ color-scheme: light dark; {sets[0]} }}\n'
    '@media (prefers-color-scheme: dark) {\n'
    f'  :root {{ {sets[1]} }}\n}}\n'
    # Paper is white whatever the screen is.
    f'@media print {{\n  :root {{ {sets[0]} }}\n}}\n{roles}\n'
  )


def name_of(key: str) -> str:
  """A system's name in links: letters, digits and hyphens."""
  return re.sub(r'[^a-z0-9]+', '-', key)


def picture(drawing: Drawing) -> str:
  """A whole SVG file."""
  style = (
    f'<style>{palette()}svg {{ background: var(--paper); }}{STYLE}</style>'
  )
  return element(drawing, style=style)


def element(
  drawing: Drawing, said: dict[str, str] | None = None, style: str = ''
) -> str:
  """The drawing as an <svg> element.

  Args:
    drawing: what is drawn.
    said: link -> what it says to those who hear the page; None: no links.
    style: what stands before the drawing.
  """
  d = drawing
  size = f'{d.width:.0f}', f'{d.height:.0f}'
  role = 'img' if said is None else 'group'
  lines = [
    '<svg xmlns="http://www.w3.org/2000/svg" class="tree"',
    f'viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}"',
    f'role="{role}" aria-label="{TITLE}">{style}',
  ]
  hidden = '' if said is None else ' aria-hidden="true"'
  lines.append(f'<g{hidden}>')
  for band in d.bands:
    lines.append(
      f'<rect class="ground {band.branch}" y="{band.y:.1f}" '
      f'width="{d.width:.0f}" height="{band.height:.1f}"/>'
    )
  for year, x in d.years:
    lines.append(
      f'<path class="grid" d="M{x:.1f} 0V{d.axis:.1f}"/><text class="year" '
      f'x="{x:.1f}" y="{d.axis + layout.AXIS / 2:.1f}" '
      f'font-size="{FONT}">{year}</text>'
    )
  for band in d.bands:
    x, y = layout.heading(band)
    lines.append(
      f'<text class="heading {band.branch}" x="{x:.1f}" y="{y:.1f}" '
      f'font-size="{FONT}">{band.branch}</text>'
    )
  lines.append(f'<g class="{d.trunk.role}">{_line(d.trunk)}</g>')
  for box, text in d.legend:
    lines.append(f'<g class="legend">{_box(box)}{_text(text)}</g>')
  lines.append('</g>')
  arriving = {edge.key: edge for edge in d.edges}
  for key, box in d.boxes.items():
    name = name_of(key)
    if key in arriving:
      edge = arriving[key]
      drawn = _line(edge) + ''.join(map(_text, edge.label))
      if said is not None:
        drawn += f'<path class="target" d="{_path(edge.points[-2:])}"/>'
      drawn = f'<g class="edge {edge.role}">{drawn}</g>'
      lines.append(_link(f'to-{name}', drawn, said))
    lines.append(_link(name, _box(box), said))
  return '\n'.join([*lines, '</svg>\n'])


def _link(name, drawn, said):
  if said is None:
    return drawn
  text = escape(said[name])
  return f'<a href="#{name}" aria-label="{text}">{drawn}</a>'


def _path(points):
  return ' '.join(
    f'{code}{x:.1f} {y:.1f}'
    for code, (x, y) in zip(CODES[len(points)], points, strict=True)
  )


def _line(edge: Edge):
  return (
    f'<path class="line" stroke-width="{edge.thickness:.2f}" '
    f'd="{_path(edge.points)}"/>'
  )


def _box(box: Box):
  state = 'open' if box.open else 'closed'
  text = Text(box.x + layout.PAD, box.y, box.width - 2 * layout.PAD, box.name)
  return (
    f'<g class="box {state} {box.role}"><rect x="{box.x:.1f}" '
    f'y="{box.y - layout.BOX / 2:.1f}" width="{box.width:.1f}" '
    f'height="{layout.BOX}" rx="4"/>{_text(text, FONT)}</g>'
  )


def _text(text: Text, size=SMALL):
  return (
    f'<text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{size}" '
    f'textLength="{text.width:.1f}" lengthAdjust="spacingAndGlyphs">'
    f'{escape(text.text)}</text>'
  )
