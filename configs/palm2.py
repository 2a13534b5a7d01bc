"""PaLM 2 (Anil et al. 2023): no architecture, size or recipe was published.

Its report (arXiv:2305.10403) names a mixture of objectives like UL2's, and no
sizes. Cost: not published. The report has its scores.
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
