"""How an encoder reads each task, and how T5 reads those that are not T5's.

Each example is made by hand from the papers and the benchmarks' pages.
"""

import pytest

from input_pipeline.tasks import catalog

A, B = 'He left.', 'Is he gone?'
PAIR = {'sentence1': A, 'sentence2': B}
NLI = {'premise': A, 'hypothesis': B}
WSC = {
  'text': 'Ann saw Bob when she left.', 'span1_text': 'Ann', 'span1_index': 0,
  'span2_text': 'she', 'span2_index': 4,
}  # fmt: skip
# Task, fields of an example, the texts that an encoder reads: one, a pair, or
# of a choice a pair for each.
READ = [
  ('glue/cola', {'sentence': A}, (A,)),
  ('glue/sst2', {'sentence': A}, (A,)),
  ('glue/mrpc', PAIR, (A, B)),
  ('glue/stsb', PAIR, (A, B)),
  ('glue/qqp', {'question1': A, 'question2': B}, (A, B)),
  ('glue/mnli', NLI, (A, B)),
  ('glue/mnli_matched', NLI, (A, B)),
  ('glue/mnli_mismatched', NLI, (A, B)),
  ('glue/qnli', {'question': B, 'sentence': A}, (B, A)),
  ('glue/rte', PAIR, (A, B)),
  ('glue/wnli', PAIR, (A, B)),
  ('glue/ax', NLI, (A, B)),
  ('super_glue/boolq', {'question': 'is he gone', 'passage': A},
   (A, 'is he gone')),
  ('super_glue/cb', NLI, (A, B)),
  ('super_glue/copa', {
    'premise': A, 'choice1': 'It rained.', 'choice2': B, 'question': 'cause'},
   [(f'{A} What was the cause of this?', 'It rained.'),
    (f'{A} What was the cause of this?', B)]),
  ('super_glue/copa', {
    'premise': A, 'choice1': 'It rained.', 'choice2': B, 'question': 'effect'},
   [(f'{A} What happened as a result?', 'It rained.'),
    (f'{A} What happened as a result?', B)]),
  ('super_glue/multirc', {
    'paragraph': A, 'question': 'Who left?', 'answer': 'he'},
   (A, 'Who left? he')),
  ('super_glue/rte', NLI, (A, B)),
  ('super_glue/wic', {**PAIR, 'word': 'leave'}, (f'leave: {A}', B)),
  ('super_glue/wsc', WSC, ('Ann saw Bob when *she* left.', 'Ann')),
  ('super_glue/axb', PAIR, (A, B)),
  ('super_glue/axg', NLI, (A, B)),
  ('super_glue/dpr', {
    'sentence': 'Ann saw Bob when she left.', 'pronoun': 'she',
    'candidates': ['Ann', 'Bob']},
   [('Ann saw Bob when *she* left.', 'Ann'),
    ('Ann saw Bob when *she* left.', 'Bob')]),
  ('swag', {'sent1': A, 'sent2': 'She', 'endings': ['sits.', 'runs.']},
   [(A, 'She sits.'), (A, 'She runs.')]),
  ('race/all', {
    'article': A, 'question': 'Who _ ?', 'options': ['left', 'came']},
   [(A, 'Who left ?'), (A, 'Who came ?')]),
  ('race/high', {
    'article': A, 'question': 'Who left?', 'options': ['he', 'she']},
   [(A, 'Who left? he'), (A, 'Who left? she')]),
  ('race/middle', {
    'article': A, 'question': 'Who _ ?', 'options': ['left', 'came']},
   [(A, 'Who left ?'), (A, 'Who came ?')]),
]  # fmt: skip


def test_every_task_is_here():
  """Spans, tags and texts are read by rules of their own: test_formats.py."""
  kinds = 'classification', 'regression', 'choice'
  tasks = {name for name, task in catalog.TASKS.items() if task.kind in kinds}
  assert tasks == {name for name, *_ in READ}


@pytest.mark.parametrize(('name', 'example', 'texts'), READ)
def test_texts_of_encoders(name, example, texts):
  found = catalog.find(name).texts(example)
  assert (found if isinstance(texts, list) else tuple(found)) == texts


@pytest.mark.parametrize(
  ('name', 'example', 'source', 'target'),
  [
    ('wmt/en_ro', {'en': A, 'ro': B},
     f'translate English to Romanian: {A}', B),
    ('race/all', {
      'article': A, 'question': 'Who?', 'options': ['a', 'b', 'c', 'd'],
      'label': 'B'},
     f'race question: Who? A: a B: b C: c D: d article: {A}', 'B'),
    ('swag', {
      'sent1': A, 'sent2': 'She', 'endings': ['a', 'b', 'c', 'd'],
      'label': 'choice3'},
     'swag choice1: a choice2: b choice3: c choice4: d context: He left. She',
     'choice3'),
    ('conll2003', {'tokens': ['Ann', 'left'], 'ner': ['B-PER', 'O']},
     'conll2003 sentence: Ann left', 'B-PER O'),
  ],
)  # fmt: skip
def test_texts_of_our_own(name, example, source, target):
  found = catalog.find(name).text_to_text(example)
  assert list(found) == [(source, target)]
