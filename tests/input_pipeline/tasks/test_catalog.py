"""Tasks by name, and their examples from the real files and from TFDS."""

import json
import os

import numpy as np
import pytest

from input_pipeline.tasks import catalog
from input_pipeline.tasks.task import KINDS, Task

# task, split, folder, examples (the numbers that their papers report).
COUNTS = [
  ('glue/cola', 'train', 'glue', 8551),
  ('glue/cola', 'validation', 'glue', 527 + 516),
  ('glue/sst2', 'train', 'glue', 67349),
  ('glue/sst2', 'validation', 'glue', 872),
  ('glue/mrpc', 'train', 'glue', 4076),
  ('glue/mrpc', 'validation', 'glue', 1725),
  ('glue/stsb', 'train', 'glue', 5749),
  ('glue/stsb', 'validation', 'glue', 1500),
  ('glue/qnli', 'validation', 'glue', 5463),
  ('glue/rte', 'train', 'glue', 2490),
  ('glue/rte', 'validation', 'glue', 277),
  ('super_glue/boolq', 'validation', 'superglue', 3270),
  ('super_glue/cb', 'train', 'superglue', 250),
  ('super_glue/cb', 'validation', 'superglue', 56),
  ('super_glue/copa', 'train', 'superglue', 400),
  ('super_glue/copa', 'validation', 'superglue', 100),
  ('super_glue/multirc', 'train', 'superglue', 27243),
  ('super_glue/multirc', 'validation', 'superglue', 4848),
  ('super_glue/rte', 'train', 'superglue', 2490),
  ('super_glue/rte', 'validation', 'superglue', 277),
  ('super_glue/wic', 'train', 'superglue', 5428),
  ('super_glue/wic', 'validation', 'superglue', 638),
  ('super_glue/wsc', 'train', 'superglue', 554),
  ('super_glue/wsc', 'validation', 'superglue', 104),
  ('super_glue/axb', 'test', 'superglue', 1104),
  ('super_glue/axg', 'test', 'superglue', 356),
  ('glue/mrpc', 'train', 'hf_test_samples', 6),
  ('glue/stsb', 'validation', 'hf_test_samples', 9),
  ('wmt/en_ro', 'train', 'hf_test_samples', 11),
  ('wmt/en_ro', 'validation', 'wmt16_enro', 1999),
]
# task, file, examples.
FILES = [
  ('squad/v2.0', 'squad/squad2_dev_5articles.json', 1407),
  ('squad/v2.0', 'squad/hf_squad_sample.json', 14),
  ('super_glue/record', 'superglue/ReCoRD/fewglue_train32.jsonl', 32),
  ('swag', 'hf_test_samples/swag/sample.json', 10),
  ('conll2003', 'hf_test_samples/conll/sample.json', 10),
  ('xsum', 'hf_test_samples/xsum/sample.json', 10),
  ('wmt/en_ro', 'hf_test_samples/wmt16/sample.json', 10),
]


@pytest.fixture
def data():
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  return folder


def check(task, examples):
  """Each example can be written and read, and its own target is right."""
  for example in examples:
    json.dumps(example)  # for the data's fingerprint
    for source, target in task.text_to_text(example):
      assert source
      assert target
    if task.texts:
      task.texts(example)
    if task.kind == 'classification' and task.text_to_text(example):
      ((_, target),) = task.text_to_text(example)
      assert task.decode(target, example) == example['label']


@pytest.mark.parametrize(
  ('name', 'split', 'folder', 'count'),
  COUNTS,
  ids=[f'{x[0]}-{x[1]}' for x in COUNTS],
)
def test_examples_of_real_files(data, capsys, name, split, folder, count):
  task = catalog.find(name)
  examples = catalog.examples(task, split, os.path.join(data, folder))
  assert len(examples) == count
  assert f'{name}, {split}: {count} examples of' in capsys.readouterr().out
  check(task, examples[:3000])


@pytest.mark.parametrize(('name', 'path', 'count'), FILES)
def test_examples_of_single_files(data, name, path, count):
  task = catalog.find(name)
  examples = list(task.read(os.path.join(data, path)))
  assert len(examples) == count
  check(task, examples)


def test_answers_of_real_questions_are_in_their_place(data):
  task = catalog.find('squad/v2.0')
  path = os.path.join(data, 'squad/squad2_dev_5articles.json')
  examples = list(task.read(path))
  assert sum(not x['answers']['text'] for x in examples) == sum(
    x['is_impossible'] for x in examples
  )
  for example in examples:
    span = task.texts(example)
    for start, text in span.answers:
      assert span.context[start : start + len(text)] == text
    ((_, target),) = task.text_to_text(example)
    answer = task.decode(target, example)
    assert answer == (span.answers[0][1] if span.answers else '')


def test_half_of_wsc_is_trained_on(data):
  """T5 counts 259 examples of WSC: those whose noun is right."""
  task = catalog.find('super_glue/wsc')
  folder = os.path.join(data, 'superglue')
  examples = catalog.examples(task, 'train', folder)
  assert sum(len(task.text_to_text(x)) for x in examples) == 259
  for example in examples:
    assert task.decode(example['span1_text'], example) == 'True'


@pytest.mark.parametrize(
  ('name', 'split', 'folder'),
  [
    *(('glue/cola', 'validation', 'glue'), ('glue/mrpc', 'validation', 'glue')),
    ('super_glue/cb', 'validation', 'superglue'),
    ('super_glue/copa', 'validation', 'superglue'),
    ('super_glue/multirc', 'validation', 'superglue'),
    ('wmt/en_ro', 'validation', 'hf_test_samples'),
  ],
)
def test_targets_that_are_read_back_score_100(data, name, split, folder):
  for module in ('sklearn', 'sacrebleu'):
    pytest.importorskip(module)
  task = catalog.find(name)
  examples = catalog.examples(task, split, os.path.join(data, folder))
  predictions = [task.decode(task.text_to_text(x)[0][1], x) for x in examples]
  scores = task.metrics(examples, predictions)
  names = task.averaged or tuple(scores)[:1]
  assert [scores[name] for name in names] == pytest.approx([100] * len(names))


@pytest.mark.parametrize(
  ('name', 'path', 'score'),
  [
    ('squad/v2.0', 'squad/squad2_dev_5articles.json', 'exact_match'),
    ('super_glue/record', 'superglue/ReCoRD/fewglue_train32.jsonl', 'f1'),
    ('conll2003', 'hf_test_samples/conll/sample.json', 'f1'),
    ('xsum', 'hf_test_samples/xsum/sample.json', 'rouge1'),
    ('swag', 'hf_test_samples/swag/sample.json', 'accuracy'),
  ],
)
def test_targets_of_single_files_score_100(data, name, path, score):
  pytest.importorskip('rouge_score')
  task = catalog.find(name)
  examples = list(task.read(os.path.join(data, path)))
  predictions = [task.decode(task.text_to_text(x)[0][1], x) for x in examples]
  assert task.metrics(examples, predictions)[score] == pytest.approx(100)


# ---- Records ----
def test_every_task_is_whole():
  for name, task in catalog.TASKS.items():
    assert isinstance(task, Task)
    assert task.name == name
    assert task.kind in KINDS
    assert task.splits.keys() == task.files.keys()
    assert (task.texts is None) == (task.kind == 'text')
    if task.kind in ('classification', 'tagging', 'choice'):
      assert len(set(task.labels)) == len(task.labels) > 1
  for names in catalog.GROUPS.values():
    for name in names:
      assert next(iter(catalog.find(name).splits)) == 'train'


def test_fields_and_classes_are_those_of_tfds():
  tfds = pytest.importorskip('tensorflow_datasets')
  same = [x for x in catalog.TASKS.values() if x.tfds and not x.convert]
  for task in same:
    for name in task.tfds:
      features = tfds.builder(name).info.features
      label = features[task.label]
      names = getattr(getattr(label, 'feature', label), 'names', None)
      if names and task.labels:
        assert tuple(names) == task.labels, name


@pytest.mark.parametrize(
  ('name', 'split', 'folder'),
  [(x[0], x[1], x[2]) for x in COUNTS if x[0].startswith(('glue', 'super'))],
)
def test_examples_have_the_fields_of_tfds(data, name, split, folder):
  tfds = pytest.importorskip('tensorflow_datasets')
  task = catalog.find(name)
  features = tfds.builder(task.tfds[0]).info.features
  examples = catalog.examples(task, split, os.path.join(data, folder))
  assert examples[0].keys() == features.keys()


def test_names():
  assert catalog.find('glue/rte').name == 'glue/rte'
  for name, message in (
    ('glue/sts-b', "task 'glue/sts-b' is unknown. Did you mean 'glue/stsb'"),
    ('glue', "'glue' is several tasks: name one, glue/cola, glue/sst2"),
    ('squad', r'name one, squad/v1.1 or squad/v2.0\.'),
    ('summarization', 'is a group of one task: name cnn_dailymail'),
  ):
    with pytest.raises(ValueError, match=message):
      catalog.find(name)


# ---- Folders ----
HEADER = 'sentence1\tsentence2\tlabel\n'


def rte(tmp_path, **files):
  (tmp_path / 'RTE').mkdir()
  for name, text in files.items():
    (tmp_path / 'RTE' / f'{name}.tsv').write_text(text)
  return catalog.find('glue/rte'), str(tmp_path)


def test_the_first_layout_that_is_there(tmp_path, capsys):
  folder = tmp_path / 'CoLA'
  folder.mkdir()
  (folder / 'out_of_domain_dev.tsv').write_text('a\t0\t*\tSecond.\n')
  (folder / 'in_domain_dev.tsv').write_text('a\t1\t\tFirst.\n')
  task = catalog.find('glue/cola')
  read = catalog.examples(task, 'validation', str(tmp_path))
  assert [x['sentence'] for x in read] == ['First.', 'Second.']
  assert '2 examples of' in capsys.readouterr().out
  (folder / 'dev.tsv').write_text('a\t1\t\tOnly.\n')
  read = catalog.examples(task, 'validation', str(tmp_path))
  assert [x['sentence'] for x in read] == ['Only.']


def test_what_is_missing(tmp_path):
  task, folder = rte(tmp_path, dev=HEADER, test=HEADER + 'a\tb\t0\n')
  with pytest.raises(ValueError, match="no split 'dev', only 'train'"):
    catalog.examples(task, 'dev', folder)
  with pytest.raises(ValueError, match='Looked for .*RTE/train.tsv. Name'):
    catalog.examples(task, 'train', folder)
  with pytest.raises(ValueError, match="split 'validation' of task glue/rte is"
                     ' empty: .*dev.tsv'):  # fmt: skip
    catalog.examples(task, 'validation', folder)
  with pytest.raises(ValueError, match='no file of split .train. of task swag'):
    catalog.examples(catalog.find('swag'), 'train', '')


def test_labels_are_secret_only_in_tests(tmp_path, capsys):
  text = 'sentence1\tsentence2\na\tb\n'
  task, folder = rte(tmp_path, train=text, test=text)
  (example,) = catalog.examples(task, 'test', folder)
  assert example['label'] is None
  assert '(1 without a label)' in capsys.readouterr().out
  with pytest.raises(ValueError, match='1 of the 1 examples of split .train.'):
    catalog.examples(task, 'train', folder)


def test_classes_are_counted(tmp_path, capsys):
  text = HEADER + 'a\tb\t0\na\tb\tentailment\n'
  task, folder = rte(tmp_path, train=text)
  catalog.examples(task, 'train', folder)
  assert '(entailment 2, not_entailment 0)' in capsys.readouterr().out


# ---- TFDS ----
@pytest.fixture
def prepared(tmp_path, monkeypatch):
  """(name, features, split -> records) -> prepared datasets of TFDS."""
  tfds = pytest.importorskip('tensorflow_datasets')
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))

  def prepare(name, features, splits):
    dataset, _, config = name.partition('/')
    folder = tmp_path / name / '1.0.0'
    folder.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
      name=dataset,
      version=tfds.core.Version('1.0.0'),
      data_dir=str(folder),
      module_name='',
      config_name=config,
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10)
    writer.initialize_splits(list(splits))
    writer.add_examples(splits)
    writer.close_all()

  return tfds, prepare


def test_tfds_gives_the_same_examples_as_files(prepared, capsys):
  tfds, prepare = prepared
  text = tfds.features.Text()
  names = ['entailment', 'not_entailment']
  features = tfds.features.FeaturesDict({
    'sentence1': text, 'sentence2': text, 'idx': np.int32,
    'label': tfds.features.ClassLabel(names=names),
  })  # fmt: skip
  row = {'sentence1': 'a', 'sentence2': 'ß', 'idx': 0}
  prepare(
    'glue/rte',
    features,
    {'train': [{**row, 'label': 1}], 'test': [{**row, 'label': -1}]},
  )
  task = catalog.find('glue/rte')
  assert catalog.examples(task, 'train') == [{**row, 'label': 'not_entailment'}]
  assert catalog.examples(task, 'test') == [{**row, 'label': None}]
  assert 'tfds:glue/rte@train' in capsys.readouterr().out
  with pytest.raises(ValueError, match="no split 'validation', only test,"):
    catalog.examples(task, 'validation')
  with pytest.raises(ValueError, match="'glue/mrpc' is not prepared"):
    catalog.examples(catalog.find('glue/mrpc'), 'train')


def test_tfds_with_other_classes(prepared):
  tfds, prepare = prepared
  text = tfds.features.Text()
  features = tfds.features.FeaturesDict({
    'sentence': text, 'idx': np.int32,
    'label': tfds.features.ClassLabel(names=['good', 'bad']),
  })  # fmt: skip
  prepare('glue/cola', features,
          {'train': [{'sentence': 'a', 'idx': 0, 'label': 1}]})  # fmt: skip
  with pytest.raises(ValueError, match="of the dataset 'glue/cola' are"):
    catalog.examples(catalog.find('glue/cola'), 'train')


def test_tfds_records_that_are_converted(prepared):
  tfds, prepare = prepared
  text = tfds.features.Text()
  several = tfds.features.Sequence(text)
  features = tfds.features.FeaturesDict({
    'article': text, 'questions': several, 'answers': several,
    'options': tfds.features.Sequence(several), 'example_id': text,
  })  # fmt: skip
  options = [list('abcd'), list('efgh')]
  record = {
    'article': 'T', 'questions': ['Q', 'R'], 'answers': ['B', 'D'],
    'options': options, 'example_id': 'x',
  }  # fmt: skip

  prepare('race/high', features, {'dev': [record]})
  read = catalog.examples(catalog.find('race/high'), 'validation')
  assert [x['label'] for x in read] == ['B', 'D']
  assert read[1]['options'] == list('efgh')
