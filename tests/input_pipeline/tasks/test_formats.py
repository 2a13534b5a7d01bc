"""Strings of tasks: the published rules of T5's code on hand-made examples."""

import pytest

from input_pipeline.tasks import catalog, winograd
from input_pipeline.tasks.task import Span

A, B = 'One  two.', 'Three, "four".'
# task -> example, input, target. None as a target: not trained on.
ROWS = [
  ('glue/cola', {'sentence': A, 'label': 'acceptable'},
   'cola sentence: One  two.', 'acceptable'),
  ('glue/sst2', {'sentence': 'hide ', 'label': 'negative'},
   'sst2 sentence: hide ', 'negative'),
  ('glue/mrpc', {'sentence1': A, 'sentence2': B, 'label': 'not_equivalent'},
   f'mrpc sentence1: {A} sentence2: {B}', 'not_equivalent'),
  ('glue/qqp', {'question1': A, 'question2': B, 'label': 'duplicate'},
   f'qqp question1: {A} question2: {B}', 'duplicate'),
  ('glue/stsb', {'sentence1': A, 'sentence2': B, 'label': 3.75},
   f'stsb sentence1: {A} sentence2: {B}', '3.8'),
  ('glue/mnli', {'premise': A, 'hypothesis': B, 'label': 'neutral'},
   f'mnli hypothesis: {B} premise: {A}', 'neutral'),
  ('glue/mnli_matched', {'premise': A, 'hypothesis': B, 'label': None},
   f'mnli hypothesis: {B} premise: {A}', '<unk>'),
  ('glue/ax', {'premise': A, 'hypothesis': B, 'label': None},
   f'mnli hypothesis: {B} premise: {A}', '<unk>'),
  ('glue/qnli', {'question': A, 'sentence': B, 'label': 'entailment'},
   f'qnli question: {A} sentence: {B}', 'entailment'),
  ('glue/rte', {'sentence1': A, 'sentence2': B, 'label': 'not_entailment'},
   f'rte sentence1: {A} sentence2: {B}', 'not_entailment'),
  ('super_glue/boolq', {'question': A, 'passage': B, 'label': 'True'},
   f'boolq passage: {B} question: {A}', 'True'),
  ('super_glue/cb', {'premise': A, 'hypothesis': B, 'label': 'contradiction'},
   f'cb hypothesis: {B} premise: {A}', 'contradiction'),
  ('super_glue/copa',
   {'premise': 'P', 'choice1': 'A', 'choice2': 'B', 'question': 'cause',
    'label': 'choice2'},
   'copa choice1: A choice2: B premise: P question: cause', 'choice2'),
  ('super_glue/multirc',
   {'paragraph': '<b>Sent 1: </b>Hi.<br>Yes.', 'question': 'Q?',
    'answer': 'A', 'label': 'False'},
   'multirc question: Q? answer: A paragraph: Sent 1: Hi. Yes.', 'False'),
  ('super_glue/rte', {'premise': A, 'hypothesis': B, 'label': 'entailment'},
   f'rte hypothesis: {B} premise: {A}', 'entailment'),
  ('super_glue/axg', {'premise': A, 'hypothesis': B, 'label': 'entailment'},
   f'rte hypothesis: {B} premise: {A}', 'entailment'),
  ('super_glue/axb', {'sentence1': A, 'sentence2': B, 'label': 'entailment'},
   f'rte hypothesis: {B} premise: {A}', 'entailment'),
  ('super_glue/wic',
   {'word': 'go', 'sentence1': A, 'sentence2': B, 'label': 'True', 'start1': 3},
   f'wic sentence1: {A} sentence2: {B} word: go', 'True'),
  ('super_glue/wsc',
   {'text': 'Bob asked Tom if he can go .', 'span1_text': 'Tom',
    'span2_text': 'he', 'span2_index': 4, 'label': 'True'},
   'wsc: Bob asked Tom if *he* can go .', 'Tom'),
  ('super_glue/wsc',
   {'text': 'Bob asked Tom if he can go .', 'span1_text': 'Bob',
    'span2_text': 'he', 'span2_index': 4, 'label': 'False'}, None, None),
  ('super_glue/dpr',
   {'sentence': 'Bob asked Tom if he can go, he said.', 'pronoun': 'he',
    'candidates': ['Bob', 'Tom'], 'label': '1'},
   'wsc: Bob asked Tom if *he* can go, he said.', 'Tom'),
  ('glue/wnli',
   {'sentence1': A, 'sentence2': B, 'label': 'entailment'}, None, None),
  ('squad/v1.1',
   {'question': "Who's J.S.?", 'context': 'It  was (J.S.\nBach).',
    'answers': {'text': ['J.S.\nBach', 'Bach'], 'answer_start': [9, 14]}},
   "question: Who ' s J . S . ? context: It was ( J . S . Bach ) . ",
   'J . S . Bach'),
  ('cnn_dailymail', {'article': 'A.', 'highlights': 'B.\nC.'},
   'summarize: A.', 'B.\nC.'),
  ('xsum', {'document': 'A.', 'summary': 'B.'}, 'summarize: A.', 'B.'),
  ('wmt/en_de', {'en': 'A.', 'de': 'B.'},
   'translate English to German: A.', 'B.'),
  ('wmt/en_fr', {'en': 'A.', 'fr': 'B.'},
   'translate English to French: A.', 'B.'),
  ('wmt/ro_en', {'en': 'A.', 'ro': 'B.'},
   'translate Romanian to English: B.', 'A.'),
]  # fmt: skip


@pytest.mark.parametrize('row', ROWS, ids=[row[0] for row in ROWS])
def test_texts_are_those_of_t5(row):
  name, example, source, target = row
  expected = [] if source is None else [(source, target)]
  assert list(catalog.find(name).text_to_text(example)) == expected


@pytest.mark.parametrize(
  ('score', 'target'),
  [(0.0, '0.0'), (2.5, '2.4'), (2.7, '2.8'), (4.9, '4.8'), (5.0, '5.0'),
   (None, '<unk>')],
)  # fmt: skip
def test_scores_are_rounded_to_a_fifth(score, target):
  """TensorFlow rounds halves to even: 2.5 is 12.5 fifths, 4.9 is 24.5."""
  example = {'sentence1': 'a', 'sentence2': 'b', 'label': score}
  ((_, found),) = catalog.find('glue/stsb').text_to_text(example)
  assert found == target


def test_record():
  task = catalog.find('super_glue/record')
  example = {
    'passage': 'He left.\n@highlight\nAnn stayed\n@highlight\nBob went',
    'query': '@placeholder went.',
    'entities': ['Ann', 'Bob'],
    'answers': ['Ann', 'Bob'],
  }
  text = (
    'record query: @placeholder went. entities: Ann, Bob passage: He left. Ann'
    ' stayed. Bob went'
  )
  assert task.text_to_text(example) == [(text, 'Ann'), (text, 'Bob')]
  secret = task.text_to_text({**example, 'answers': None})
  assert secret == [(text, '<unk>')]
  passage = example['passage']
  span = task.texts(example)
  assert span.answers == (
    (passage.index('Ann'), 'Ann'),
    (passage.index('Bob'), 'Bob'),
  )


def test_trivia_has_a_pair_for_each_name_in_each_document():
  task = catalog.find('trivia_qa')
  example = {
    'question': 'Who wrote "Emma"?',
    'entity_pages': {'wiki_context': ['Jane Austen (1775).', 'Nobody.']},
    'search_results': {'search_context': ['By AUSTEN, J.']},
    'answer': {
      'normalized_aliases': ['austen', 'jane austen'],
      'normalized_value': 'jane austen',
    },
  }
  asked = 'question: Who wrote " Emma " ? context:'
  first = f'{asked} Jane Austen ( 1775 ) . '
  assert task.text_to_text(example) == [
    (first, 'austen'),
    (first, 'jane austen'),
    (f'{asked} By AUSTEN , J . ', 'austen'),
  ]
  without = {
    **example,
    'entity_pages': {'wiki_context': ['Nobody.']},
    'search_results': {'search_context': []},
  }
  assert task.text_to_text(without) == []
  assert task.evaluated(without) == (f'{asked} Nobody . ', 'jane austen')


# ---- Pronouns ----
SPECIAL = [
  (('The boy continued to whip the pony , and eventually the pony threw him'
   ' over. John laughed out quite loud. "Good for him," he said. '), 'him',
   'laughed out quite loud. "Good for *him* ," he said.'),
  (('When they had eventually calmed down a bit , and had gotten home, Mr.'
   ' Farley put the magic pebble in an iron safe . Some day they might want to'
   ' use it , but really for now, what more could they wish for?'), 'it',
   'they might want to use *it* , but really for now'),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'pronoun', 'part'), SPECIAL)
def test_two_texts_whose_index_is_wrong(text, pronoun, part):
  example = {'text': text, 'span2_text': pronoun, 'span2_index': 1}
  assert part in winograd.wsc_input(example)


def test_a_wrong_index_of_a_pronoun():
  example = {'text': 'He saw it .', 'span2_text': 'it', 'span2_index': 1}
  with pytest.raises(ValueError, match="word 1 of 'He saw it .' is not"):
    winograd.wsc_input(example)


@pytest.mark.parametrize(
  ('predicted', 'referent', 'same'),
  [
    ('the fuzzy bunny', 'Bunny', True),
    ('bunny', 'the fuzzy bunny', True),
    ('Bob', "Bob's hat", False),
    ("Bob's hat", 'hat', False),
    ("Bob's", "Bob's hat", True),
    ('a cat', 'the dog', False),
    ('', 'the dog', None),
    ('the', 'the dog', None),
  ],
)
def test_nouns_are_compared_without_case_and_determiners(
  predicted, referent, same
):
  assert winograd.same_noun(predicted, referent) is same
  task = catalog.find('super_glue/wsc')
  text = task.decode(predicted, {'span1_text': referent})
  assert text == (None if same is None else str(same))


# Premise, hypothesis, text, noun.
WNLI = [
  ('The fish ate the worm. It was tasty.', 'The worm was tasty.',
   'wsc: The fish ate the worm. *It* was tasty.', 'The worm'),
  ('I stuck a pin through a carrot. When I pulled the pin out, it had a hole.',
   'The carrot had a hole.',
   ('wsc: I stuck a pin through a carrot. When I pulled the pin out, *it* had a'
   ' hole.'), 'The carrot'),
  ('Pete envies Martin because he is very successful, and his wife is nice.',
   "Pete's wife is nice.",
   ('wsc: Pete envies Martin because he is very successful, and *his* wife is'
   ' nice.'), 'Pete'),
  ('I carried the newspaper over my bag to keep it dry.',
   'I carried the newspaper over my bag to keep the bag dry.',
   'wsc: I carried the newspaper over my bag to keep *it* dry.', 'the bag'),
  ('Ann said that the bell rang and it was loud.',
   'Ann said that the bell was loud.',
   'wsc: Ann said that the bell rang and *it* was loud.', 'the bell'),
  ('He left because Tom said that he was ill.', 'Tom said that Tom was ill.',
   'wsc: He left because Tom said that *he* was ill.', 'Tom'),
  ('Emma looked at Ann and saw her.', 'Emma saw Ann.',
   'wsc: Emma looked at Ann and saw *her* .', 'Ann'),
]  # fmt: skip


@pytest.mark.parametrize(('premise', 'hypothesis', 'text', 'noun'), WNLI)
def test_wnli_is_evaluated_as_wsc(premise, hypothesis, text, noun):
  task = catalog.find('glue/wnli')
  example = {'sentence1': premise, 'sentence2': hypothesis}
  assert task.evaluated(example) == (text, noun)
  assert task.decode(f'the {noun}', example) == 'entailment'
  assert task.decode('nobody else', example) == 'not_entailment'
  assert task.decode('', example) is None


def test_wnli_without_a_pronoun():
  example = {'sentence1': 'Ann saw Bob.', 'sentence2': 'Ann saw Bob.'}
  with pytest.raises(ValueError, match="'Ann saw Bob.' has no pronoun"):
    catalog.find('glue/wnli').evaluated(example)


# ---- Answers, and what encoders read ----
def test_answers_are_written_as_in_the_context():
  squad = catalog.find('squad/v1.1')
  example = {'context': 'It was J.S. Bach, not the cats.'}
  for text, answer in (
    ('J . S . Bach', 'J.S. Bach'),
    ('j . s . bach', 'J.S. Bach'),  # the score knows no case
    ('Bach , not', 'Bach, not'),
    ('the cat s', 'the cat s'),  # not one word of the context
    ('the dog', 'the dog'),
    ('unanswerable', ''),
  ):
    assert squad.decode(text, example) == answer


def test_answers_are_read():
  stsb, copa = catalog.find('glue/stsb'), catalog.find('super_glue/copa')
  assert stsb.decode('3.8', {}) == 3.8
  assert stsb.decode('three', {}) is None
  assert copa.decode('choice2', {}) == 'choice2'
  assert copa.decode('choice3', {}) is None
  dpr = catalog.find('super_glue/dpr')
  assert dpr.decode('Tom', {'candidates': ['Bob', 'Tom']}) == '1'
  assert dpr.decode('Ann', {'candidates': ['Bob', 'Tom']}) is None
  assert catalog.find('glue/rte').decode('entail', {}) is None
  tags = catalog.find('conll2003')
  example = {'tokens': ['a', 'b', 'c']}
  assert tags.decode('O B-PER', example) == ['O', 'B-PER']
  assert tags.decode('B-X O O O', example) == [None, 'O', 'O']


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    ('J . S . Bach', 'J.S.  Bach'),
    ('3 . 5', '3.5'),
    ('$ 3 . 5', '$3.5'),
    ('the moon', 'the moon'),  # not in the context
    ('unanswerable', ''),
    ('', ''),
  ],
)
def test_squad_answers_are_as_the_context_has_them(text, answer):
  example = {'context': 'The party (J.S.  Bach) paid US$3.5 for art.'}
  assert catalog.find('squad/v2.0').decode(text, example) == answer


def test_squad_without_an_answer():
  task = catalog.find('squad/v2.0')
  empty = {'text': [], 'answer_start': []}
  example = {'question': 'Q', 'context': 'C', 'answers': empty}
  assert task.text_to_text(example) == [
    ('question: Q context: C', 'unanswerable')
  ]
  assert task.texts(example) == Span('Q', 'C', ())


def test_what_encoders_read():
  def texts(name, **example):
    return catalog.find(name).texts(example)

  assert texts('glue/cola', sentence=A) == (A,)
  assert texts('glue/mnli', premise=A, hypothesis=B) == (A, B)
  assert texts('glue/qnli', question=A, sentence=B) == (A, B)
  assert texts('super_glue/dpr', sentence='Bob saw it.', pronoun='it',
               candidates=['x', 'y']) == [
    ('Bob saw *it*.', 'x'), ('Bob saw *it*.', 'y')]  # fmt: skip
  assert texts('swag', sent1='S.', sent2='He', endings=['a', 'b']) == [
    ('S.', 'He a'), ('S.', 'He b')]  # fmt: skip
  assert texts('race/all', article='T', question='It is _.',
               options=['x', 'y']) == [
    ('T', 'It is x.'), ('T', 'It is y.')]  # fmt: skip
  assert texts('race/all', article='T', question='Why?', options=['x']) == [
    ('T', 'Why? x')]  # fmt: skip


def test_tasks_without_a_form_in_t5():
  def text(name, **example):
    return catalog.find(name).text_to_text(example)

  swag = text(
    'swag', sent1='S.', sent2='He', endings=list('abcd'), label='choice3'
  )
  assert swag == [(
    'swag choice1: a choice2: b choice3: c choice4: d context: S. He',
    'choice3',
  )]  # fmt: skip
  assert text('conll2003', tokens=['Ann', 'ran'], ner=['B-PER', 'O']) == [
    ('conll2003 sentence: Ann ran', 'B-PER O')
  ]
