"""What language models know unasked: zero-shot tables, chains of thought.

GPT-2 (Radford et al. 2019, table 3), GPT-3 (Brown et al. 2020), LLaMA (Touvron
et al. 2023, table 3, from its model card), PaLM with chains of thought (Wei et
al. 2022) and self-consistency (Wang et al. 2023).
"""

from configs.papers.records import ALONE, Column, Row, Table


def _column(name: str, asked: str, metric='accuracy', shots=0) -> Column:
  return Column(name, metric=metric, asked=asked, shots=shots)


_WORDS, _BITS = 'word_perplexity', 'bits_per_byte'
GPT2 = Table(
  'gpt2.table3',
  'zero-shot; perplexities are per published token',
  (
    _column('LAMBADA-ppl', 'lambada', 'perplexity'),
    _column('LAMBADA-acc', 'lambada', 'accuracy_filtered'),
    _column('CBT-CN', 'cbt_cn'),
    _column('CBT-NE', 'cbt_ne'),
    _column('WikiText2', 'wikitext2', _WORDS),
    _column('PTB', 'ptb', _WORDS),
    _column('enwik8', 'enwik8', _BITS),
    _column('text8', 'text8', _BITS),
    _column('WikiText103', 'wikitext103', _WORDS),
    _column('1BW', 'lm1b', _WORDS),
  ),
  (
    Row(
      'SOTA',
      '99.8 59.23 85.7 82.3 39.14 46.54 0.99 1.08 18.3 21.8',
      why='It is the best of other papers, before GPT-2.',
    ),
    Row(
      '117M',
      '35.13 45.99 87.65 83.4 29.41 65.85 1.16 1.17 37.50 75.20',
      checkpoint='gpt2',
    ),
    Row(
      '345M',
      '15.60 55.48 92.35 87.1 22.76 47.33 1.01 1.06 26.37 55.72',
      checkpoint='gpt2-medium',
    ),
    Row(
      '762M',
      '10.87 60.12 93.45 88.0 19.93 40.31 0.97 1.02 22.05 44.575',
      checkpoint='gpt2-large',
    ),
    Row(
      '1542M',
      '8.63 63.24 93.30 89.05 18.34 35.76 0.93 0.98 17.48 42.16',
      checkpoint='gpt2-xl',
    ),
  ),
  ALONE,
  flags=('--window=1024', '--stride=32'),
  note='The paper does not give its stride, its stop words and its '
  'de-tokenizers: docs/evaluation.md has ours. Published weights later than '
  'the paper call 117M and 345M 124M and 355M.',
  texts=(),
)

_GPT3 = {
  'small': '42.7 18.6 33.7 64.6 52.0 63.3',
  'medium': '54.3 9.09 43.6 70.2 52.1 68.5',
  'large': '60.4 6.53 51.0 72.9 57.4 72.4',
  'xl': '63.6 5.44 54.7 75.1 58.7 73.4',
  '2.7b': '67.1 4.60 62.8 75.6 62.3 77.2',
  '6.7b': '70.3 4.00 67.4 78.0 64.5 77.7',
  '13b': '72.5 3.56 70.9 78.5 67.9 79.5',
  '175b': '76.2 3.00 78.9 81.0 70.2 83.2',
}
GPT3 = Table(
  'gpt3.zero_shot',
  'zero-shot; choices are ranked by log probability per token',
  (
    _column('LAMBADA-acc', 'lambada'),
    _column('LAMBADA-ppl', 'lambada', 'perplexity'),
    _column('HellaSwag', 'hellaswag', 'accuracy_token'),
    _column('PIQA', 'piqa', 'accuracy_token'),
    _column('WinoGrande', 'winogrande', 'accuracy_none'),
    _column('StoryCloze', 'storycloze', 'accuracy_token'),
  ),
  tuple(
    Row(size, cells, f'gpt3.py:{size}', recipe=ALONE)
    for size, cells in _GPT3.items()
  ),
  ALONE,
  memory=True,
  texts=("GPT-3's",),
)

LLAMA = Table(
  'llama.zero_shot',
  'zero-shot, and MMLU after five examples',
  (
    _column('BoolQ', 'boolq'),
    _column('PIQA', 'piqa'),
    _column('SIQA', 'siqa'),
    _column('HellaSwag', 'hellaswag'),
    _column('WinoGrande', 'winogrande'),
    _column('ARC-e', 'arc_easy'),
    _column('ARC-c', 'arc_challenge'),
    _column('OBQA', 'openbookqa'),
    _column('COPA', 'copa'),
    _column('MMLU', 'mmlu', shots=5),
  ),
  (
    Row(
      '7B',
      '76.5 79.8 48.9 76.1 70.1 76.7 47.6 57.2 93 35.1',
      checkpoint='llama-7b',
    ),
    Row(
      '13B',
      '78.1 80.1 50.4 79.2 73.0 78.1 52.7 56.4 94 46.9',
      checkpoint='llama-13b',
    ),
    Row(
      '33B',
      '83.1 82.3 50.4 82.8 76.0 81.4 57.8 58.6 92 57.8',
      checkpoint='llama-30b',
    ),
    Row(
      '65B',
      '85.3 82.8 52.3 84.2 77.0 81.5 56.0 60.2 94 63.4',
      checkpoint='llama-65b',
    ),
  ),
  ALONE,
  note='The paper does not print its prompts: ours may differ.',
  texts=(),
)

_VOTES = ('--samples=40', '--temperature=0.7', '--top_k=40')
PALM = Table(
  'palm.gsm8k',
  'word problems after a chain of thought, eight examples',
  tuple(
    _column(name, name.lower(), shots=8)
    for name in ('GSM8K', 'SVAMP', 'ASDiv', 'MAWPS')
  ),
  (
    Row('8B', '4.1m - - -', 'palm.py:8b', recipe=ALONE),
    Row('62B', '29.9m - - -', 'palm.py:62b', recipe=ALONE),
    Row('540B', '56.9 79.0m 73.9m 93.3m', 'palm.py:540b', recipe=ALONE),
    Row(
      '540B-votes',
      '74.4m 86.6m 81.9m -',
      recipe=ALONE,
      start='palm.gsm8k/540B',
      flags=_VOTES,
      note='Self-consistency: the most frequent of 40 answers.',
    ),
  ),
  ALONE,
  note="The examples are drawn from GSM8K's training questions; the paper's "
  'own eight are given with --shots_file (docs/evaluation.md). MAWPS and ASDiv '
  "are the parts that SVAMP's authors publish.",
  texts=("PaLM's",),
)

TABLES = (GPT2, GPT3, LLAMA, PALM)
