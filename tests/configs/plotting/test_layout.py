"""Nothing in the drawing of the tree overlaps."""

import itertools

from configs import lineage
from configs.plotting import layout
from configs.systems import SYSTEMS, UNDISCLOSED

DRAWING = layout.lay_out(SYSTEMS, lineage.edges())


def rectangles():
  """What must not overlap: name -> (left, top, right, bottom)."""
  found = {}
  for key, box in DRAWING.boxes.items():
    half = layout.BOX / 2
    found[f'box {key}'] = (
      box.x, box.y - half, box.x + box.width, box.y + half,
    )  # fmt: skip
  for edge in DRAWING.edges:
    for i, line in enumerate(edge.label):
      half = layout.SMALL / 2
      found[f'label {edge.key} {i}'] = (
        line.x, line.y - half, line.x + line.width, line.y + half,
      )  # fmt: skip
  for band in DRAWING.bands:
    x, y = layout.heading(band)
    width = 1.2 * layout.text_width(band.branch, layout.FONT)  # it is bold
    half = layout.FONT / 2
    found[f'heading {band.branch}'] = (x, y - half, x + width, y + half)
  return found


def overlap(a, b):
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def strokes(edge):
  """The straight parts of a line, as rectangles with its thickness."""
  half = edge.thickness / 2
  for (x0, y0), (x1, y1) in itertools.pairwise(edge.points):
    if x0 == x1:
      yield x0 - half, min(y0, y1), x0 + half, max(y0, y1)
    else:
      yield x0, y0 - half, x1, y0 + half


def test_boxes_labels_and_headings_do_not_overlap():
  found = rectangles()
  assert len(found) > 2 * len(SYSTEMS)
  for (one, a), (other, b) in itertools.combinations(found.items(), 2):
    assert not overlap(a, b), (one, other)
  for name, (left, top, right, bottom) in found.items():
    assert left >= 0, name
    assert top >= 0, name
    assert right <= DRAWING.width, name
    assert bottom <= DRAWING.axis, name


def test_no_line_crosses_a_box_or_a_label():
  found = rectangles()
  for edge in DRAWING.edges:
    for stroke in strokes(edge):
      crossed = [
        name for name, other in found.items() if overlap(stroke, other)
      ]
      assert not crossed, edge.key


def test_lines_join_the_boxes():
  for edge in DRAWING.edges:
    parent, child = DRAWING.boxes[edge.parent], DRAWING.boxes[edge.key]
    (x0, y0), (x1, y1) = edge.points[0], edge.points[-1]
    assert (x1, y1) == (child.x, child.y)
    assert parent.x < x0 <= parent.x + parent.width
    assert abs(y0 - parent.y) in (0, layout.BOX / 2)
    assert [line.text for line in edge.label]
    words = ' '.join(line.text for line in edge.label)
    assert words == SYSTEMS[edge.key].changed
  assert {edge.key: edge.parent for edge in DRAWING.edges} == lineage.edges()


def test_systems_stand_at_their_dates_in_their_branches():
  places = {}
  for key, s in SYSTEMS.items():
    box = DRAWING.boxes[key]
    places.setdefault(s.year + (s.month - 1) / 12, set()).add(box.x)
    (band,) = (b for b in DRAWING.bands if b.branch == s.branch)
    assert band.y < box.y < band.y + band.height
  assert all(len(xs) == 1 for xs in places.values())
  xs = [places[date].pop() for date in sorted(places)]
  assert xs == sorted(xs)
  for year, x in DRAWING.years:
    assert x == layout.LEFT + layout.YEAR * (year - layout.START)


def test_branches_grow_thinner_from_the_trunk():
  thickness = {edge.key: edge.thickness for edge in DRAWING.edges}
  assert DRAWING.trunk.points[-1][0] == DRAWING.boxes['transformer'].x
  assert DRAWING.trunk.thickness > max(thickness.values())
  for edge in DRAWING.edges:
    if edge.parent in thickness:
      assert edge.thickness < thickness[edge.parent]


def test_filled_is_open_and_grey_cannot_be_trained():
  for key, s in SYSTEMS.items():
    box = DRAWING.boxes[key]
    assert box.open == s.open
    assert box.role == (s.changed if s.changed == UNDISCLOSED else s.branch)
