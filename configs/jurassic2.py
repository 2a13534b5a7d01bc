"""Jurassic-2 (AI21 Labs 2023): no architecture, size or recipe was published.

It was announced in three sizes: large, grande and jumbo. Cost and scores of
pretraining: not published.
"""

ANCESTOR = 'jurassic:jumbo'
SIZES = {}  # none published


def get_config(arg: str = ''):
  """Raises ValueError: there is nothing to build."""
  del arg
  raise ValueError(
    'The architecture of Jurassic-2 was never published. Its nearest published '
    'ancestor is Jurassic-1: use --config=configs/jurassic.py:jumbo instead.'
  )
