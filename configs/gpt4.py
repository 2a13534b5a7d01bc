"""GPT-4 (OpenAI 2023): no architecture, size or recipe was published.

Its report (arXiv:2303.08774) gives no details of model, hardware, data or
training (section 2). Cost: not published. The report has its scores.
"""

from configs import paper

ANCESTOR = 'gpt3:175b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  raise paper.undisclosed('GPT-4', 'GPT-3', ANCESTOR)
