"""Bard (Google 2023): no architecture, size or recipe was published.

Its announcement says that it began on a lightweight version of LaMDA. Cost and
scores: not published.
"""

ANCESTOR = 'lamda:137b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  """Raises ValueError: there is nothing to build."""
  del arg
  raise ValueError(
    'The architecture of Bard was never published. Its nearest published '
    'ancestor is LaMDA: use --config=configs/lamda.py:137b instead.'
  )
