"""PaLM 2 (Anil et al. 2023): no architecture, size or recipe was published.

Its report names a mixture of objectives like UL2's, and no sizes.
"""

ANCESTOR = 'palm:540b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  """Raises ValueError: there is nothing to build."""
  del arg
  raise ValueError(
    'The architecture of PaLM 2 was never published. Its nearest published '
    'ancestor is PaLM: use --config=configs/palm.py:540b instead.'
  )
