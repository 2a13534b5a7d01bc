"""Bard (Google 2023): no architecture, size or recipe was published.

It began on a lightweight version of LaMDA, by its announcement.
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
