"""PaLM 2 (Anil et al. 2023): no architecture, size or recipe was published.

Its report (arXiv:2305.10403) names a mixture of objectives like UL2's, and no
sizes. Cost: not published. The report has its scores.
"""

from configs import paper

ANCESTOR = 'palm:540b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  raise paper.undisclosed('PaLM 2', 'PaLM', ANCESTOR)
