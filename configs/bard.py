"""Bard (Google 2023): no architecture, size or recipe was published.

Its announcement says that it began on a lightweight version of LaMDA. Cost and
scores: not published.
"""

from configs import paper

ANCESTOR = 'lamda:137b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  raise paper.undisclosed('Bard', 'LaMDA', ANCESTOR)
