"""Wordings of tasks about one or two sentences."""

from input_pipeline.instructions.wording import (
  Fields,
  Wording,
  classified,
)
from input_pipeline.tasks import formats

# ---- Does one text follow from another ----
_NLI = (
  '{premise}\n\nGiven this, can we say that "{hypothesis}"?',
  'Text: {premise}\nClaim: {hypothesis}\nDoes the claim follow from the text?',
  (
    'Read this and decide whether the sentence after it must be true.\n\n'
    '{premise}\n\nSentence: {hypothesis}'
  ),
  'Suppose it is true that {premise}\nIs it then true that {hypothesis}',
  'If someone tells you "{premise}", should you conclude "{hypothesis}"?',
)
_NLI_INVERTED = (
  (
    (
      'Write a claim about the text. To the question whether it follows from'
      ' the text, the answer must be "{answer}".\n\nText: {premise}'
    ),
    '{hypothesis}',
  ),
  (
    (
      'Does the claim "{hypothesis}" follow? Write a text for which the answer'
      ' is "{answer}".'
    ),
    '{premise}',
  ),
)
_THREE = {
  'entailment': 'yes',
  'neutral': "it's impossible to say",
  'contradiction': 'no',
}
_TWO = {'entailment': 'yes', 'not_entailment': 'no'}


def _nli(words, labels, premise='premise', hypothesis='hypothesis'):
  words = {label: words[label] for label in labels}
  return Wording(
    classified(words, premise=premise, hypothesis=hypothesis),
    _NLI,
    _NLI_INVERTED,
    labels,
  )


_PAIR = 'sentence1', 'sentence2'
_QNLI = Wording(
  classified(_TWO, question='question', sentence='sentence'),
  (
    (
      'Question: {question}\nSentence: {sentence}\nDoes the sentence answer the'
      ' question?'
    ),
    'Someone asks: {question}\nCan they find the answer here? {sentence}',
    '{sentence}\n\nIs this enough to answer "{question}"?',
    'I want to know this: {question} Will I know it after reading "{sentence}"',
  ),
  (
    (
      (
        'Is the question answered by the sentence? Write a question for which'
        ' the answer is "{answer}".\n\nSentence: {sentence}'
      ),
      '{question}',
    ),
  ),
  tuple(_TWO),
)

# ---- Do two texts say the same ----
_SAME = (
  'First: {first}\nSecond: {second}\nDo both say the same?',
  '{first}\n{second}\nHave these two the same meaning?',
  'Would "{second}" be a good way to put "{first}" in other words?',
  'Compare what these mean.\n1. {first}\n2. {second}\nIs it the same thing?',
)
_SAME_INVERTED = (
  (
    (
      'Do two texts say the same? Write a second one so that the answer is'
      ' "{answer}".\n\nFirst: {first}'
    ),
    '{second}',
  ),
)


def _same(labels, first, second, prompts=_SAME):
  words = dict(zip(labels, ('no', 'yes'), strict=True))
  return Wording(
    classified(words, first=first, second=second),
    prompts,
    _SAME_INVERTED,
    labels,
  )


_ASKED = (
  'Question 1: {first}\nQuestion 2: {second}\nDo they ask the same?',
  '{first}\n{second}\nWould one answer do for both of these questions?',
  (
    'A forum has the question "{first}". Somebody asks "{second}". Is it a'
    ' duplicate?'
  ),
  'Are "{first}" and "{second}" the same question?',
)


def _similar(example):
  """STS-B: numbers are rounded to the nearest 0.2, as T5 writes them."""
  [(_, target)] = formats.scored(example, prefix='', fields=())
  answer = '' if example['label'] is None else target
  texts = {'first': example['sentence1'], 'second': example['sentence2']}
  return Fields(texts, answer)


_STSB = Wording(
  _similar,
  (
    (
      'How much alike in meaning are these, from 0 (not at all) to 5 (the'
      ' same)?\n{first}\n{second}'
    ),
    (
      'Give a number from 0.0 to 5.0 for how close the two are.\nA: {first}\n'
      'B: {second}'
    ),
    (
      '{first}\n{second}\nOn a scale up to 5, where 5 is the same meaning, how'
      ' similar are they?'
    ),
  ),
  (
    (
      (
        'Write a sentence that is alike in meaning to the given one to the'
        ' degree {answer} of 5.\n\n{first}'
      ),
      '{second}',
    ),
  ),
  decode=formats.as_number,
)

# ---- One text ----
_SST2 = Wording(
  classified({'negative': 'negative', 'positive': 'positive'}, text='sentence'),
  (
    'Review: {text}\nIs the review positive or negative?',
    'What did the writer think of the film? {text}',
    (
      '"{text}"\nSay whether this praises or criticises the film: positive or'
      ' negative.'
    ),
    'Here is a part of a film review.\n\n{text}\n\nWhat is its mood?',
    'Decide on the sentiment.\n{text}',
  ),
  (
    ('Write a {answer} sentence about a film.', '{text}'),
    ('Make up part of a film review. Its mood: {answer}.', '{text}'),
  ),
  ('negative', 'positive'),
)
_COLA = Wording(
  classified({'unacceptable': 'no', 'acceptable': 'yes'}, text='sentence'),
  (
    '{text}\nIs this sentence good English?',
    'Would a native speaker accept this sentence? "{text}"',
    'Check the grammar and answer yes or no: is it right?\n\n{text}',
    'Sentence: {text}\nIs it well formed?',
  ),
  (
    (
      'Is it good English? Write a sentence with the answer "{answer}".',
      '{text}',
    ),
  ),
  ('unacceptable', 'acceptable'),
)

# ---- Words in a text ----
_TRUTH = {'False': 'no', 'True': 'yes'}
_WIC = Wording(
  classified(_TRUTH, word='word', first='sentence1', second='sentence2'),
  (
    '{first}\n{second}\nDoes "{word}" mean the same in both sentences?',
    'Is the word "{word}" used in one sense here?\n1. {first}\n2. {second}',
    'Look at "{word}" in "{first}" and in "{second}". Is it the same meaning?',
  ),
  (
    (
      (
        'Is "{word}" used in the same sense as in "{first}"? Write a sentence'
        ' for which the answer is "{answer}".'
      ),
      '{second}',
    ),
  ),
  ('False', 'True'),
)
_WSC = Wording(
  classified(_TRUTH, text='text', noun='span1_text', pronoun='span2_text'),
  (
    '{text}\nDoes "{pronoun}" stand for "{noun}" here?',
    'Read: {text}\nIs {noun} what is meant by "{pronoun}"?',
    'In the text below, is "{pronoun}" another word for "{noun}"?\n\n{text}',
  ),
  (),
  ('False', 'True'),
)


def _referent(example):
  both = tuple(example['candidates'])
  texts = {'text': example['sentence'], 'pronoun': example['pronoun']}
  return Fields(texts, both[int(example['label'])], both)


_DPR = Wording(
  _referent,
  (
    '{text}\nWho or what is "{pronoun}"?',
    'In this sentence, what does "{pronoun}" stand for? {text}',
    'Name the person or thing that "{pronoun}" refers to.\n\n{text}',
  ),
  (
    (
      'Write a sentence in which "{pronoun}" stands for {answer}.',
      '{text}',
    ),
  ),
  ('0', '1'),
)

WORDINGS = {
  'glue/mnli': _nli(_THREE, ('entailment', 'neutral', 'contradiction')),
  'glue/rte': _nli(_TWO, ('entailment', 'not_entailment'), *_PAIR),
  'glue/wnli': _nli(_TWO, ('not_entailment', 'entailment'), *_PAIR),
  'glue/qnli': _QNLI,
  'super_glue/cb': _nli(_THREE, ('entailment', 'contradiction', 'neutral')),
  'super_glue/rte': _nli(_TWO, ('entailment', 'not_entailment')),
  'glue/mrpc': _same(('not_equivalent', 'equivalent'), *_PAIR),
  'glue/qqp': _same(
    ('not_duplicate', 'duplicate'), 'question1', 'question2', _ASKED
  ),
  'glue/stsb': _STSB,
  'glue/sst2': _SST2,
  'glue/cola': _COLA,
  'super_glue/wic': _WIC,
  'super_glue/wsc': _WSC,
  'super_glue/dpr': _DPR,
}
