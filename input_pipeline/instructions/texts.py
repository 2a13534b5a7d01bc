"""Wordings of tasks about longer texts: questions, choices, texts to write."""

from input_pipeline.instructions.wording import (
  Fields,
  Wording,
  classified,
  written,
)
from input_pipeline.tasks import reading

# ---- Questions about a text ----
_BOOLQ = Wording(
  classified(
    {'False': 'no', 'True': 'yes'}, text='passage', question='question'
  ),
  (
    '{text}\n\n{question}?',
    'Answer yes or no after reading.\n\n{text}\n\nQuestion: {question}?',
    'Question: {question}?\nThe text that answers it: {text}',
    '{text}\n\nAccording to this, {question}?',
  ),
  (
    (
      (
        'Ask something about the text to which the answer is "{answer}".\n\n'
        '{text}'
      ),
      '{question}?',
    ),
  ),
  ('False', 'True'),
)
_MULTIRC = Wording(
  classified(
    {'False': 'no', 'True': 'yes'},
    text='paragraph',
    question='question',
    reply='answer',
  ),
  (
    '{text}\n\nQuestion: {question}\nIs "{reply}" a right answer?',
    (
      'Read the text. Somebody asks "{question}" and somebody else replies'
      ' "{reply}". Is that correct?\n\n{text}'
    ),
    '{text}\n\n{question} Would it be right to say "{reply}"?',
  ),
  (),
  ('False', 'True'),
)


def _squad(example):
  answers = (example['answers'] or reading.NO_ANSWERS)['text']
  answer = answers[0] if answers else reading.UNANSWERABLE
  texts = {
    'text': example['context'].strip(),
    'question': example['question'].strip(),
  }
  return Fields(texts, answer if example['answers'] is not None else '')


_SPAN = (
  '{text}\n\n{question}',
  'Answer with words of the text.\n\nText: {text}\n\nQuestion: {question}',
  'Question: {question}\n\nFind the answer here: {text}',
  'Read this: {text}\n\nNow tell me: {question}',
)
_UNANSWERED = (
  '{text}\n\n{question} (If the text does not say, write "unanswerable".)',
  (
    'Text: {text}\n\nQuestion: {question}\nAnswer with words of the text, or'
    ' with "unanswerable".'
  ),
)
_SPAN_INVERTED = (
  (
    (
      'Ask a question about the text to which the answer is "{answer}".\n\n'
      '{text}'
    ),
    '{question}',
  ),
)


def _span_answer(text: str, example: dict) -> str:
  """'' is no answer, as the metrics of SQuAD have it."""
  found = text.strip()
  return '' if found == reading.UNANSWERABLE else found


def _record(example):
  answers = example['answers'] or ('',)
  passage = example['passage'].replace('\n@highlight\n', '\n- ')
  texts = {'text': passage, 'question': example['query']}
  return Fields(texts, answers[0], tuple(example['entities']))


_RECORD = Wording(
  _record,
  (
    '{text}\n\n{question}\nWho or what is "@placeholder"?',
    (
      'Read the news, then say which name belongs in the gap'
      ' "@placeholder".\n\n{text}\n\nSentence: {question}'
    ),
    (
      'Sentence with a gap: {question}\nFill in @placeholder from the text:'
      ' {text}'
    ),
  ),
)


def _trivia(example):
  answer = (example['answer'] or {}).get('value', '')
  return Fields({'question': example['question'].strip()}, answer)


_TRIVIA = Wording(
  _trivia,
  (
    '{question}',
    'Trivia: {question}',
    'Do you know this? {question}',
    'Answer in a few words. {question}',
  ),
  (('Make up a trivia question whose answer is "{answer}".', '{question}'),),
)


# ---- Choices ----
def _copa(example):
  both = example['choice1'].strip(), example['choice2'].strip()
  asked = {'cause': 'Why did it happen?', 'effect': 'What happened then?'}
  texts = {
    'premise': example['premise'].strip(),
    'asked': asked[example['question']],
  }
  label = example['label']
  return Fields(texts, both[label == 'choice2'] if label else '', both)


_COPA = Wording(
  _copa,
  (
    '{premise} {asked}',
    '{premise}\n{asked} Choose what is more likely.',
    'Somebody tells you: {premise} {asked}',
  ),
  (
    (
      (
        'A story has two sentences. To the question "{asked}" about the first'
        ' one the second answers "{answer}". Write the first one.'
      ),
      '{premise}',
    ),
  ),
  ('choice1', 'choice2'),
)


def _swag(example):
  options = tuple(x.strip() for x in example['endings'])
  texts = {'context': f'{example["sent1"]} {example["sent2"]}'}
  label = example['label']
  return Fields(texts, options[int(label[-1]) - 1] if label else '', options)


_SWAG = Wording(
  _swag,
  (
    '{context} ... How does it go on?',
    'Continue in the most likely way: {context}',
    'What comes next? {context}',
  ),
  (('Write the beginning of a text that ends: {answer}', '{context}'),),
  ('choice1', 'choice2', 'choice3', 'choice4'),
)


def _race(example):
  options = tuple(x.strip() for x in example['options'])
  texts = {
    'text': example['article'].strip(),
    'question': example['question'].strip(),
  }
  return Fields(texts, options['ABCD'.index(example['label'])], options)


_RACE = Wording(
  _race,
  (
    '{text}\n\n{question}',
    'An exam asks about a text. Text: {text}\n\nQuestion: {question}',
    'Question: {question}\n\nRead this before you answer: {text}',
  ),
  (
    (
      (
        'Write an exam question on the text with the answer "{answer}".\n\n'
        '{text}'
      ),
      '{question}',
    ),
  ),
  ('A', 'B', 'C', 'D'),
)

# ---- Texts to write ----
_SUMMARY = (
  '{text}\n\nSum this up.',
  'Write a short summary of the article.\n\n{text}',
  'What are the main points of this text? {text}',
  'Article: {text}\n\nIn brief:',
)
_SUMMARY_INVERTED = (
  ('Write an article that has this summary: {answer}', '{text}'),
)
_LANGUAGES = {
  'de': 'German',
  'en': 'English',
  'fr': 'French',
  'ro': 'Romanian',
}


def _translation(source, target):
  into, of = _LANGUAGES[target], _LANGUAGES[source]
  return Wording(
    written(target, text=source),
    (
      f'{{text}}\n\nTranslate this into {into}.',
      f'How do you say this in {into}? {{text}}',
      f'{of}: {{text}}\n{into}:',
      f'Here is a sentence in {of}. Put it into {into}.\n\n{{text}}',
    ),
    ((f'{{answer}}\n\nTranslate this into {of}.', '{text}'),),
  )


WORDINGS = {
  'super_glue/boolq': _BOOLQ,
  'super_glue/multirc': _MULTIRC,
  'super_glue/record': _RECORD,
  'super_glue/copa': _COPA,
  'squad/v1.1': Wording(_squad, _SPAN, _SPAN_INVERTED),
  'squad/v2.0': Wording(_squad, _UNANSWERED, decode=_span_answer),
  'trivia_qa': _TRIVIA,
  'swag': _SWAG,
  **dict.fromkeys(('race/all', 'race/high', 'race/middle'), _RACE),
  'cnn_dailymail': Wording(
    written('highlights', text='article'), _SUMMARY, _SUMMARY_INVERTED
  ),
  'xsum': Wording(
    written('summary', text='document'), _SUMMARY, _SUMMARY_INVERTED
  ),
  **{
    f'wmt/{source}_{target}': _translation(source, target)
    for language in ('de', 'fr', 'ro')
    for source, target in (('en', language), (language, 'en'))
  },
}
