"""Readers of published files: layouts, and what is wrong with a file."""

import hashlib
import json

import pytest

from input_pipeline.tasks import catalog, files, tagging


def write(tmp_path, name, content):
  path = tmp_path / name
  path.parent.mkdir(parents=True, exist_ok=True)
  data = content if isinstance(content, bytes) else content.encode()
  path.write_bytes(data)
  return str(path)


def failure(task, path):
  with pytest.raises(ValueError) as error:
    list(catalog.find(task).read(path))
  return str(error.value).replace(path, 'FILE')


# ---- Lines ----
def test_marks_and_line_ends_of_any_system(tmp_path):
  plain = 'sentence\tlabel\nHe "left.\t1\nSo\u2028 it is \t0\n'
  expected = [
    {'sentence': 'He "left.', 'label': 'positive', 'idx': 0},
    {'sentence': 'So\u2028 it is ', 'label': 'negative', 'idx': 1},
  ]
  others = (plain.replace('\n', end) for end in ('\r\n', '\r'))
  for n, text in enumerate(
    (plain, '\ufeff' + plain, plain.rstrip('\n'), *others)
  ):
    path = write(tmp_path, f'{n}.tsv', text)
    assert list(catalog.find('glue/sst2').read(path)) == expected


def test_quotes_have_no_meaning_in_a_tsv(tmp_path):
  path = write(tmp_path, 'x.tsv', 'sentence\tlabel\n"a\t1\nb"\t0\n')
  read = list(catalog.find('glue/sst2').read(path))
  assert [x['sentence'] for x in read] == ['"a', 'b"']


# ---- Bad files ----
HEADER = 'sentence1\tsentence2\tlabel\n'
BAD = [
  ('glue/rte', 'sentence1\tlabel\na\tentailment\n',
   "FILE, line 1: there is no column 'sentence2', only sentence1, label"),
  ('glue/rte', HEADER + 'a\tb\tentailment\na\tb\tc\tentailment\n',
   'FILE, line 3 has 4 columns, not the 3 of sentence1, sentence2, label'),
  ('glue/rte', HEADER + 'a\tb\n', 'FILE, line 2 has 2 columns, not the 3'),
  ('glue/rte', HEADER + 'a\tb\tneutral\n',
   ("FILE, line 2: label 'neutral' is unknown. It must be 'entailment' or"
   " 'not_entailment'")),
  ('glue/rte', HEADER + 'a\tb\t2\n', "FILE, line 2: label '2' is unknown"),
  ('glue/rte', b'sentence1\tsentence2\tlabel\nna\xefve\tb\t0\n',
   'FILE, line 2: byte 0xef is not UTF-8'),
  ('glue/rte', '', 'FILE is empty'),
  ('glue/stsb', 'sentence1\tsentence2\tscore\na\tb\thigh\n',
   "FILE, line 2: score 'high' is not a finite number"),
  ('glue/stsb', 'sentence1\tsentence2\tscore\na\tb\t1\na\tb\tnan\n',
   "FILE, line 3: score 'nan' is not a finite number"),
  ('glue/stsb', 'sentence1\tsentence2\tscore\na\tb\t-inf\n',
   "FILE, line 2: score '-inf' is not a finite number"),
  ('glue/stsb', 'sentence1\tsentence2\tscore\na\tb\t5.2\n',
   "FILE, line 2: score '5.2' is not in 0 to 5"),
  ('glue/cola', 'gj04\t1\tbad\n', 'FILE, line 1 has 3 columns, not the 4'),
  ('glue/cola', 'bc\t0\t*\tSecond\tlost half.\n',
   'FILE, line 1 has 5 columns, not the 4'),
  ('super_glue/cb', '{"premise": "a", "hypothesis": "b"}\n',
   "FILE, line 1: there is no field 'idx', only premise, hypothesis"),
  ('super_glue/cb', '{"premise": "a", "hypothesis": "b", "idx": "x"}\n',
   "FILE, line 1: idx 'x' is not a whole number"),
  ('super_glue/cb', '{"premise": "a", "hypothesis": null, "idx": 0}\n',
   "FILE, line 1: the field 'hypothesis' is null"),
  ('super_glue/copa', json.dumps({
    'premise': 'a', 'choice1': 'b', 'choice2': 'c', 'question': 'why',
    'idx': 0}),
   "FILE, line 1: question 'why' must be 'cause' or 'effect'"),
  ('super_glue/record', json.dumps({
    'idx': 1.5, 'passage': {'text': 'a', 'entities': []},
    'qas': [{'query': 'q', 'idx': 0}]}),
   'FILE, line 1: idx 1.5 is not a whole number'),
  ('glue/rte', HEADER.replace('2', '1'),
   "FILE, line 1: there is no column 'sentence2', only sentence1, sentence1"),
  ('glue/sst2', 'sentence\tlabel\tlabel\n',
   "FILE, line 1: 2 columns have the name 'label'"),
  ('super_glue/cb', '\n{"premise": \n',
   'FILE, line 2: not a JSON object: Expecting value'),
  ('super_glue/cb', '[1]\n', "FILE, line 1: '[1]' is not a JSON object"),
  ('super_glue/dpr', 'A saw B.\nit\nA,B\nC\n',
   "FILE, line 4: 'C' is not one of two candidates"),
  ('super_glue/dpr', 'A saw B.\nit\nA,B\nA\n\nB saw A.\n',
   'FILE, line 6: the last example has 1 lines, not 4'),
  ('squad/v1.1', '{"data": [\n{]}', 'FILE, line 2: not JSON'),
  ('squad/v1.1', '{"version": "1.1"}', "FILE: there is no field 'data'"),
  ('squad/v1.1', json.dumps({'data': [{'paragraphs': [{'context': 'C', 'qas': [
    {'id': 'x', 'question': 'Q', 'answers': []}]}]}]}),
   "FILE, question 1 ('x') has no answer. Version 2.0 has such questions"),
  ('trivia_qa', '{"Data": [{"Question": "Q"}]}',
   "FILE, question 1: there is no field 'QuestionId', 'QuestionSource'"),
  ('conll2003', 'U.N. NNP I-NP I-ORG\nofficial NN I-NP\n',
   'FILE, line 2 has 3 columns, the lines before it have 4'),
  ('conll2003', '\nU.N. NNP I-NP I-GPE\n',
   "FILE, line 2, word 1 of its sentence ('U.N.'): tag 'I-GPE' is unknown"),
  ('conll2003', 'The DT I-NP O\nU.N. NNP I-NP -1\n',
   "FILE, line 1, word 2 of its sentence ('U.N.') has no tag"),
  ('race/all', json.dumps({'article': 'T', 'id': 'h1.txt', 'questions': ['Q'],
    'options': [['a', 'b']], 'answers': ['A']}),
   "FILE: 'Q' has 2 options and the answer 'A'"),
  ('race/all', json.dumps({'article': 'T', 'id': 'h1.txt', 'questions': ['Q'],
    'options': [['a', 'b', 'c', 'd']], 'answers': []}),
   'as many questions as lists of options and answers, not 1, 1, 0'),
]  # fmt: skip


@pytest.mark.parametrize(('task', 'content', 'message'), BAD)
def test_bad_files_are_named_with_the_line(tmp_path, task, content, message):
  assert message in failure(task, write(tmp_path, 'x.txt', content))


def test_bad_csv(tmp_path):
  header = 'sent1,sent2,ending0,ending1,ending2,ending3,label\n'
  good = header + '"S, ""x""\nnext",He,a,b,c,d,2\n'
  (example,) = catalog.find('swag').read(write(tmp_path, 'a.csv', good))
  assert example['sent1'] == 'S, "x"\nnext'
  assert example['label'] == 'choice3'
  old = write(tmp_path, 'old.csv', header[:-1] + '\rS,He,a,b,c,d,2\r')
  assert [x['sent1'] for x in catalog.find('swag').read(old)] == ['S']
  more = good + 'S,He,a,b,c,d,e,1\n'
  found = failure('swag', write(tmp_path, 'b.csv', more))
  assert found.startswith('FILE, line 4 has 8 columns, not the 7')
  found = failure('swag', write(tmp_path, 'c.csv', good + 'S,He,a,b,c,d,4\n'))
  assert found.startswith("FILE, line 4: label '4' is unknown")
  found = failure('swag', write(tmp_path, 'd.csv', header + '"S,He\n'))
  assert found.startswith('FILE, line 2: unexpected end of data')


def test_broken_rows_of_qqp_are_left_out_and_counted(tmp_path, capsys):
  text = (
    'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n'
    '0\t1\t2\ta\tb\t0\n1\t3\t4\tc\nd\t1\n2\t5\t6\te\tf\t1\n'
  )
  path = write(tmp_path, 'x.tsv', text)
  read = list(catalog.find('glue/qqp').read(path))
  assert [(x['question1'], x['label']) for x in read] == [
    ('a', 'not_duplicate'),
    ('e', 'duplicate'),
  ]
  assert f'2 rows are left out: {path}, line 3 has 4' in capsys.readouterr().out


def test_answers_in_the_wrong_place_are_counted(tmp_path, capsys):
  qas = [
    {'id': name, 'question': 'Q', 'answers': [{'text': 'C', 'answer_start': n}]}
    for n, name in enumerate('xyz')
  ]
  data = {'data': [{'paragraphs': [{'context': 'C.', 'qas': qas}]}]}
  path = write(tmp_path, 'x.json', json.dumps(data))
  assert len(list(catalog.find('squad/v1.1').read(path))) == 3
  assert (
    'in 2 questions an answer does not begin at its answer_start, such as'
    in (capsys.readouterr().out)
  )


# ---- Layouts ----
def test_glue_test_files(tmp_path):
  """Test files have an index, and no labels."""
  path = write(tmp_path, 'a.tsv', 'index\tsentence\n7\tHe left.\n')
  assert list(catalog.find('glue/cola').read(path)) == [
    {'sentence': 'He left.', 'label': None, 'idx': 7}
  ]
  text = 'id\tquestion1\tquestion2\n0\ta\tb\n1\ta\n2\tc\td\n'
  found = catalog.find('glue/qqp').read(write(tmp_path, 'q.tsv', text))
  assert [example['idx'] for example in found] == [0, 2]
  text = 'index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\ta\tb\n'
  (example,) = catalog.find('glue/mrpc').read(write(tmp_path, 'b.tsv', text))
  assert example == {
    'sentence1': 'a', 'sentence2': 'b', 'label': None, 'idx': 0
  }  # fmt: skip
  text = 'index\tsentence1\tsentence2\n0\ta\tb\n'
  (example,) = catalog.find('glue/ax').read(write(tmp_path, 'c.tsv', text))
  assert example == {
    'premise': 'a', 'hypothesis': 'b', 'label': None, 'idx': 0
  }  # fmt: skip


def test_wsc_spans_become_parts_of_the_text(tmp_path):
  def read(text, index, span):
    target = {
      'span1_index': index, 'span1_text': span,
      'span2_index': 0, 'span2_text': text.split()[0],
    }  # fmt: skip
    row = {'text': text, 'target': target, 'idx': 0, 'label': True}
    path = write(tmp_path, 'x.jsonl', json.dumps(row))
    (example,) = catalog.find('super_glue/wsc').read(path)
    assert example['label'] == 'True'
    return example['span1_text']

  assert read('He saw the dog.', 2, 'The dog.') == 'the dog'
  assert read('She saw It .', 2, 'it') == 'It'
  assert read('He saw big dogs .', 2, 'big\ndogs') == 'big dogs'
  with pytest.raises(ValueError, match="line 1: span1_text 'a cat'"):
    read('He saw dogs .', 2, 'a cat')


def test_definite_pronouns(tmp_path):
  text = 'A saw B, it ran.\nit\nA, B\nB\n\nC saw D.\nit\nC,D\nC\n'
  path = write(tmp_path, 'train.c.txt', text)
  read = list(catalog.find('super_glue/dpr').read(path))
  assert [(x['candidates'], x['label']) for x in read] == [
    (['A', 'B'], '1'),
    (['C', 'D'], '0'),
  ]


def test_multirc_has_an_example_for_each_answer(tmp_path):
  answers = [{'text': 'No', 'idx': 0, 'label': 0}, {'text': 'Yes', 'idx': 1}]
  question = {'question': 'Q?', 'answers': answers, 'idx': 7}
  row = {'idx': 3, 'passage': {'text': 'P', 'questions': [question]}}
  path = write(tmp_path, 'x.jsonl', json.dumps(row))
  first, second = catalog.find('super_glue/multirc').read(path)
  assert first == {
    'paragraph': 'P', 'question': 'Q?', 'answer': 'No', 'label': 'False',
    'idx': {'paragraph': 3, 'question': 7, 'answer': 0},
  }  # fmt: skip
  assert second['label'] is None


def test_record_has_an_example_for_each_query(tmp_path):
  text = 'Bob met Ann. Bob left.'
  entities = [{'start': n, 'end': n + 2} for n in (0, 8, 13)]
  answers = [{'start': n, 'end': n + 2, 'text': 'Bob'} for n in (0, 13)]
  queries = [
    {'query': '@placeholder left.', 'idx': 5, 'answers': answers},
    {'query': '@placeholder met.', 'idx': 6},
  ]
  passage = {'text': text, 'entities': entities}
  row = {'idx': 3, 'passage': passage, 'qas': queries}
  path = write(tmp_path, 'x.jsonl', json.dumps(row))
  first, second = catalog.find('super_glue/record').read(path)
  assert first == {
    'passage': text, 'query': '@placeholder left.', 'entities': ['Ann', 'Bob'],
    'answers': ['Bob'], 'idx': {'passage': 3, 'query': 5},
  }  # fmt: skip
  assert second['answers'] is None


def test_tags_begin_with_b(tmp_path):
  text = (
    '-DOCSTART- -X- -X- O\n\nU.N. NNP I-NP I-ORG\nofficial NN I-NP O\n'
    'Rolf NNP I-NP I-PER\nEkeus NNP I-NP I-PER\nSue NNP I-NP B-PER\n\n'
    'Peter NNP I-NP I-PER\n'
  )
  first, second = tagging.read_conll(write(tmp_path, 'eng.train', text))
  assert first['tokens'] == ['U.N.', 'official', 'Rolf', 'Ekeus', 'Sue']
  assert first['ner'] == ['B-ORG', 'O', 'B-PER', 'I-PER', 'B-PER']
  assert second == {'tokens': ['Peter'], 'ner': ['B-PER']}
  # Files of TFDS have these tags already.
  assert tagging.iob2(first['ner']) == first['ner']


def test_trivia_reads_the_evidence_that_is_there(tmp_path, capsys):
  answer = {
    'Aliases': ['Emma '], 'NormalizedAliases': ['emma'],
    'NormalizedValue': 'emma', 'Type': 'FreeForm', 'Value': 'Emma',
  }  # fmt: skip
  pages = [{'Filename': 'a.txt', 'Title': 'A'}, {'Filename': 'b.txt'}]
  row = {
    'Question': 'Q? ', 'QuestionId': '1', 'QuestionSource': 'S',
    'EntityPages': pages, 'Answer': answer,
  }  # fmt: skip
  secret = {k: row[k] for k in ('Question', 'QuestionId', 'QuestionSource')}
  content = json.dumps({'Data': [row, secret]})
  path = write(tmp_path, 'qa/wikipedia-train.json', content)
  write(tmp_path, 'evidence/wikipedia/a.txt', ' About Emma.\n')
  first, second = catalog.find('trivia_qa').read(path)
  assert first['entity_pages']['wiki_context'] == ['About Emma.']
  assert first['answer']['aliases'] == ['Emma']
  assert second['answer'] is None
  assert '1 documents are missing and left out' in capsys.readouterr().out


def test_stories_of_cnn(tmp_path, capsys):
  addresses = ('http://cnn.com/a', 'http://dm.co.uk/b', 'http://cnn.com/c')
  names = [hashlib.sha1(x.encode()).hexdigest() for x in addresses]
  story = (
    'First line\n\nHe said "so"\n\n@highlight\n\nHe spoke\n\n@highlight\n\nSo.'
  )
  write(tmp_path, f'cnn/stories/{names[0]}.story', story)
  write(tmp_path, f'dailymail/stories/{names[1]}.story', story)
  write(tmp_path, f'cnn/stories/{names[2]}.story', 'Only text.')
  lines = '\n'.join(addresses[::-1]) + '\n'
  path = write(tmp_path, 'all_train.txt', lines)
  read = list(catalog.find('cnn_dailymail').read(path))
  assert [x['publisher'] for x in read] == ['cnn', 'dm']
  assert read[0]['article'] == 'First line. He said "so"'
  assert read[0]['highlights'] == 'He spoke.\nSo.'
  assert '1 stories without a text are left out' in capsys.readouterr().out
  write(tmp_path, 'all_train.txt', lines + 'http://cnn.com/d\n')
  assert "FILE, line 4: 'http://cnn.com/d' has no story" in failure(
    'cnn_dailymail', path
  )


def test_parallel_lines(tmp_path, capsys):
  path = write(tmp_path, 'newstest2013.en', 'A\n\u2028B\n')
  write(tmp_path, 'newstest2013.de', 'C\nD\n')
  assert list(catalog.find('wmt/en_de').read(path)) == [
    {'en': 'A', 'de': 'C'},
    {'en': '\u2028B', 'de': 'D'},
  ]
  write(tmp_path, 'newstest2013.de', 'C\nD')  # the last line has no end
  assert len(list(catalog.find('wmt/en_de').read(path))) == 2
  write(tmp_path, 'newstest2013.de', '\nD\n')
  catalog.examples(catalog.find('wmt/en_de'), 'validation', str(tmp_path))
  assert '(1 with an empty text)' in capsys.readouterr().out
  write(tmp_path, 'newstest2013.en', 'A\n\n')
  write(tmp_path, 'newstest2013.de', 'C\n\n')
  assert len(list(catalog.find('wmt/en_de').read(path))) == 1
  assert '1 pairs of empty lines are left out' in capsys.readouterr().out
  write(tmp_path, 'newstest2013.de', 'C\n')
  assert 'FILE has 2 lines' in failure('wmt/en_de', path)


def test_test_sets_of_wmt(tmp_path):
  """SGM: a sentence is a segment, with its entities as they are."""
  for kind, language, texts in (
    *(('src', 'en', ('A &amp; B', 'C')), ('ref', 'de', ('D', ' E'))),
  ):
    lines = [f'<seg id="{n}">{text}</seg>' for n, text in enumerate(texts, 1)]
    text = '\n'.join(['<refset trglang="any">', '<p>', *lines, '</p>'])
    name = f'newstest2014-deen-{kind}.{language}.sgm'
    write(tmp_path, name, text)
  assert catalog.examples(catalog.find('wmt/de_en'), 'test', str(tmp_path)) == [
    {'en': 'A &amp; B', 'de': 'D'},
    {'en': 'C', 'de': ' E'},
  ]


def test_secret_labels():
  for value in (None, '', -1, '-1'):
    assert files.class_name('x', value, ('a', 'b')) is None
  assert files.class_name('x', 0, ('a', 'b')) == 'a'
  assert files.class_name('x', False, ('False', 'True')) == 'False'
