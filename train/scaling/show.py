"""A fit, and predictions, as text."""

from typing import Any

_NAMES = {
  'params': 'N', 'tokens': 'D', 'flops': 'C', 'unique': 'U', 'steps': 'S',
  'tokens_per_param': 'D / N', 'loss': 'loss',
}  # fmt: skip


def fit(result: dict[str, Any]) -> str:
  """What `fit` has found: the values of law.json, as text."""
  lines = [f'{result["source"]}: {result["runs"]} runs']
  lines += [f'  {note}' for note in result['notes']]
  for law in result['laws']:
    share = f'{law["interval"]:.0%}'
    lines += ['', f'{law["law"]}: {law["text"]}']
    lines.append(f'  {"":10}{"fit":>12}  {share} interval')
    for name, x in law['parameters'].items():
      lines.append(f'  {name:10}{x[0]:>12.5g}  {_span(x)}')
    if 'objective' in law:
      lines.append(
        f'  Sum of Huber losses {law["objective"]:.6g}; reached by '
        f'{law["agreeing"]:.0%} of the best starts.'
      )
    for other in law.get('beside', ()):
      lines += _beside(other, share)
    lines += [f'  Warning: {text}' for text in law['warnings']]
  return '\n'.join(lines)


def rows(found: list[dict[str, Any]]) -> str:
  """Predictions, one below the other."""
  lines = []
  for row in found:
    lines += [''] * bool(lines)
    for name, x in row.items():
      if name == 'warnings':
        lines += [f'  Warning: {text}' for text in x]
      elif isinstance(x, list):
        lines.append(f'  {_NAMES[name]:10}{x[0]:>12.4g}  {_span(x)}')
      else:
        lines.append(f'  {_NAMES[name]:10}{x:>12.4g}')
  return '\n'.join(lines)


def _span(triple):
  low, high = triple[1:]
  return 'none' if low != low else f'{low:.5g} to {high:.5g}'


def _beside(other, share):
  own, its = other['objective_of_fit'], other['objective']
  lines = [
    (
      f'  {other["paper"]} on these runs: sum of Huber losses {its:.4g}, of '
      f'the fit {own:.4g}; losses are {other["mean_residual"]:+.2%} off its '
      'predictions in the mean.'
    )
  ]
  for name, x in other['exponents'].items():
    (value, low, high), (first, last) = x['fit'], x['published']
    verdict = 'missed' if x['missed'] else 'met'
    lines.append(
      f'    {name}: published {first:g} to {last:g}, here {value:.3f} ({share} '
      f'interval {low:.3f} to {high:.3f}): {verdict}. An interval so narrow '
      f'needs about {x["runs_needed"]:,} runs.'
    )
  return lines
