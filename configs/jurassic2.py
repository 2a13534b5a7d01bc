"""Jurassic-2 (AI21 Labs 2023): no architecture, size or recipe was published.

It was announced in three sizes: large, grande and jumbo. Cost and scores of
pretraining: not published.
"""

from configs import paper

ANCESTOR = 'jurassic:jumbo'
SIZES = {}  # none published


def get_config(arg: str = ''):
  raise paper.undisclosed('Jurassic-2', 'Jurassic-1', ANCESTOR)
