"""Files of prompted tasks, as their authors publish them, made by hand."""

import json
import os

ARC = {
  'question': {
    'stem': 'What melts?',
    'choices': [{'text': 'ice', 'label': 'A'}, {'text': 'air', 'label': 'B'}],
  },
  'answerKey': 'B',
}
RACE = {
  'id': 'high1',
  'article': 'It rains.',
  'questions': ['Why?'],
  'options': [['a', 'b', 'c', 'd']],
  'answers': ['C'],
}
CBT = """1 Once there was a cat .
2 `` It is mine , '' said Tom .
3 The XXXXX ran .\tcat\t\tcat|Tom|dog
"""
STORY = (
  'InputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,'
  'RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\n'
  's,One.,Two.,Three.,Four.,Five.,"Six, six.",2\n'
)
FOLD = (
  'Question,Numbers,Equation,Answer\n'
  'Tom has number0 cats and number1 dogs . How many ?,3.0 2.5,+,5.5\n'
)
# Task -> files, the split that is asked, and its first item: contexts and
# continuations, and the right one.
PUBLISHED = {
  'lambada': (
    {'lambada_test_plain_text.txt': "`` i do n't , '' he gave her a rose\n"},
    (('"i don\'t," he gave her a', ' rose'),),
    0,
  ),
  'cbt_cn': (
    {'cbtest_CN_test_2500ex.txt': CBT},
    tuple(
      ('Once there was a cat. "It is mine," said Tom. The', f' {x} ran.')
      for x in ('cat', 'Tom', 'dog')
    ),
    0,
  ),
  'hellaswag': (
    {
      'hellaswag_val.jsonl': {
        'activity_label': 'Baking',
        'ctx_a': 'A man bakes [header] it.',
        'ctx_b': 'the Man',
        'endings': ['eats  it.', 'sings.'],
        'label': 1,
      }
    },
    tuple(
      ('Baking: A man bakes it. The man', f' {x}')
      for x in ('eats it.', 'sings.')
    ),
    1,
  ),
  'piqa': (
    {
      'piqa/dev.jsonl': {'goal': 'To dry', 'sol1': 'wait', 'sol2': 'wet it'},
      'piqa/dev-labels.lst': '0\n',
    },
    tuple(('Question: To dry\nAnswer:', f' {x}') for x in ('wait', 'wet it')),
    0,
  ),
  'siqa': (
    {
      'siqa/dev.jsonl': {
        'context': 'Kim ran.',
        'question': 'Why?',
        'answerA': 'late',
        'answerB': 'ill',
        'answerC': 'old',
      },
      'siqa/dev-labels.lst': '3\n',
    },
    tuple(
      ('Kim ran.\nQuestion: Why?\nAnswer:', f' {x}')
      for x in ('late', 'ill', 'old')
    ),
    2,
  ),
  'winogrande': (
    {
      'winogrande/dev.jsonl': {
        'sentence': 'Ann met Eve; _ smiled.',
        'option1': 'Ann',
        'option2': 'Eve',
        'answer': '2',
      }
    },
    (
      ('Ann met Eve; Ann', ' smiled.'),
      ('Ann met Eve; Eve', ' smiled.'),
    ),
    1,
  ),
  'arc_easy': (
    {'ARC-Easy/ARC-Easy-Test.jsonl': ARC},
    tuple(('Question: What melts?\nAnswer:', f' {x}') for x in ('ice', 'air')),
    1,
  ),
  'openbookqa': (
    {'openbookqa/test.jsonl': ARC},
    tuple(('Question: What melts?\nAnswer:', f' {x}') for x in ('ice', 'air')),
    1,
  ),
  'boolq': (
    {
      'BoolQ/val.jsonl': {
        'passage': 'It is.',
        'question': 'is it',
        'label': True,
      }
    },
    tuple(
      ('It is.\nQuestion: is it?\nAnswer:', f' {x}') for x in ('no', 'yes')
    ),
    1,
  ),
  'copa': (
    {
      'COPA/val.jsonl': {
        'premise': 'It fell.',
        'question': 'cause',
        'choice1': 'I let go.',
        'choice2': 'It was held.',
        'label': 0,
      }
    },
    tuple(('It fell because', f' {x}') for x in ('i let go.', 'it was held.')),
    0,
  ),
  'storycloze': (
    {'cloze_test_test__spring2016 - cloze_test_ALL_test.csv': STORY},
    tuple(('One. Two. Three. Four.', f' {x}') for x in ('Five.', 'Six, six.')),
    1,
  ),
  'race_high': (
    {'RACE/test/high/1.txt': RACE},
    tuple(('It rains.\nQuestion: Why?\nAnswer:', f' {x}') for x in 'abcd'),
    2,
  ),
  'mmlu': (
    {'test/abstract_algebra_test.csv': '"1, 2?",a,b,c,d,B\n'},
    tuple(
      (
        (
          'The following are multiple choice questions (with answers) about '
          'abstract algebra.\n\n1, 2?\nA. a\nB. b\nC. c\nD. d\nAnswer:'
        ),
        f' {x}',
      )
      for x in 'ABCD'
    ),
    1,
  ),
  'gsm8k': (
    {
      'gsm8k/test.jsonl': {
        'question': 'How many?',
        'answer': 'It is 1+2=<<1+2=3>>3\nSo 3 more.\n#### 1,003',
      }
    },
    (('Q: How many?\nA:', ' It is 1+2=3. So 3 more. The answer is 1,003.'),),
    0,
  ),
  'svamp': (
    {
      'SVAMP.json': [
        {'Body': 'Tom has 3 cats', 'Question': 'How many?', 'Answer': 3.0}
      ]
    },
    (('Q: Tom has 3 cats. How many?\nA:', ' The answer is 3.'),),
    0,
  ),
  'mawps': (
    {'cv_mawps/fold0/dev.csv': FOLD, 'cv_mawps/fold1/dev.csv': FOLD},
    (('Q: Tom has 3 cats and 2.5 dogs. How many?\nA:', ' The answer is 5.5.'),),
    0,
  ),
}
PUBLISHED['asdiv'] = (
  {'cv_asdiv-a/fold0/dev.csv': FOLD},
  *PUBLISHED['mawps'][1:],
)
PUBLISHED['arc_challenge'] = (
  {'ARC-Challenge/ARC-Challenge-Test.jsonl': ARC},
  *PUBLISHED['arc_easy'][1:],
)
PUBLISHED['race_middle'] = (
  {'test/middle/1.txt': RACE},
  *PUBLISHED['race_high'][1:],
)
PUBLISHED['cbt_ne'] = (
  {'data/cbtest_NE_test_2500ex.txt': CBT},
  *PUBLISHED['cbt_cn'][1:],
)


def write(folder, files):
  for name, content in files.items():
    path = folder / name
    os.makedirs(path.parent, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)
