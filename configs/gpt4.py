"""GPT-4 (OpenAI 2023): no architecture, size or recipe was published.

Its report (arXiv:2303.08774) gives no details of model, hardware, data or
training (section 2). Cost: not published. The report has its scores.
"""

ANCESTOR = 'gpt3:175b'
SIZES = {}  # none published


def get_config(arg: str = ''):
  """Raises ValueError: there is nothing to build."""
  del arg
  raise ValueError(
    'The architecture of GPT-4 was never published. Its nearest published '
    'ancestor is GPT-3: use --config=configs/gpt3.py:175b instead.'
  )
