"""The workers of benchmarks/input_pipeline.py: a pipeline's side each.

A worker reads lines of JSON {'task', 'way'} and answers each with tokens of
text a second. `way` is 'raw' (from text), 'cached' (from tokens), 'arrays' or
'lists' (the tokenizer alone). What a task needs stays open until another task
is asked for, so that repeats find warm pipelines. seqio's worker runs in
another environment, where Treeline is not installed.
"""

import contextlib
import gc
import itertools
import json
import os
import sys
import time

import numpy as np

BATCH, LENGTH, TARGETS = 128, 512, 114


def settle():
  """Waits for the process to be idle; returns the time when it became so."""
  last = time.perf_counter()
  while time.perf_counter() - last < 0.1:
    clock, cpu = time.perf_counter(), time.process_time()
    time.sleep(0.002)
    now = time.perf_counter()
    if time.process_time() - cpu > 0.25 * (now - clock):
      last = now
  return last


def rate_of(iterator, count, seconds):
  """Tokens a second of an endless iterator of batches.

  The clock starts when its buffers are full and stops when they are full again,
  so every batch that counts is made while the clock runs. Tokens are counted
  afterwards.
  """
  next(iterator)
  gc.unfreeze()
  gc.collect()
  gc.freeze()  # as train/loop.py does
  settle()
  start, taken = time.perf_counter(), []
  while time.perf_counter() - start < seconds:
    taken.append(next(iterator))
  end = settle()
  return sum(map(count, taken)) / (end - start)


def rate_of_work(work, seconds):
  """Tokens a second of a function that returns tokens, run again and again."""
  start, tokens = time.perf_counter(), 0
  while time.perf_counter() - start < seconds:
    tokens += work()
  return tokens / (time.perf_counter() - start)


def treeline(setting):
  """Treeline's pipeline: of a source of files, or of its cache."""
  from input_pipeline import config, inspect, pipeline

  def prepare(stack, task, way):
    task = setting['tasks'][task]
    own = {'source': task['source']}
    if way == 'cached':
      own = {'source': task['cache'], 'tokenizer': ''}
    data = pipeline.open_data(
      config.DataConfig(**task['data'] | own), 0, task['vocab_size'],
      eval_source=setting['eval_source'], family=task['family'],
    )  # fmt: skip
    batches = data.batches(data.start(), np.arange(BATCH))
    stack.callback(batches.close)

    def count(batch):
      objective = task['data']['objective']
      return inspect.count(batch, data.tokenizer, objective)['text']

    return lambda: rate_of(batches, count, setting['seconds'])

  return prepare


def library(setting):
  """The tokenizers' own libraries, and transformers' collators."""
  import sentencepiece
  import tokenizers
  import transformers

  from benchmarks import samples

  texts = samples.texts(setting['data'])
  threads = len(os.sched_getaffinity(0))

  def encoder(path, way):
    """A function of texts to lists or arrays of ids."""
    if path.endswith('.model'):
      processor = sentencepiece.SentencePieceProcessor(model_file=path)
      kind = {'arrays': 'numpy', 'lists': int}[way]
      return lambda texts: processor.encode(
        texts, num_threads=threads, return_type=kind
      )
    fast = tokenizers.Tokenizer.from_file(path)

    def encode(texts):
      found = fast.encode_batch_fast(texts, add_special_tokens=False)
      return [encoding.ids for encoding in found]

    return encode

  def collator(task, path):
    tokens = {'pad_token': '[PAD]', 'mask_token': '[MASK]'}
    if task == 'causal':
      tokens = {'pad_token': '<|endoftext|>'}
    tokenizer = transformers.PreTrainedTokenizerFast(
      tokenizer_file=path, **tokens
    )
    return tokenizer, transformers.DataCollatorForLanguageModeling(
      tokenizer,
      mlm=task != 'causal',
      mlm_probability=None if task == 'causal' else 0.15,
      whole_word_mask=task == 'mlm, whole words',
      return_tensors='np',
    )

  def rows(tokenizer, offsets):
    """Rows without end, joined and cut as in transformers' run_mlm.py."""
    options = {'return_attention_mask': False, 'return_token_type_ids': False}
    while True:
      found = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=offsets,
        **options,
      )  # fmt: skip
      joined = {key: list(itertools.chain(*found[key])) for key in found}
      for n in range(0, len(joined['input_ids']) - LENGTH + 1, LENGTH):
        yield {key: joined[key][n : n + LENGTH] for key in joined}

  def prepare(_, task, way):
    path = setting['tasks'][task]['tokenizer']
    if way in ('arrays', 'lists'):
      encode = encoder(path, way)
      return lambda: rate_of_work(
        lambda: sum(map(len, encode(texts))), setting['seconds']
      )
    tokenizer, collate = collator(task, path)
    made = rows(tokenizer, task == 'mlm, whole words')
    if way == 'cached':
      made = itertools.cycle(list(itertools.islice(made, 6 * BATCH)))

    def work():
      batch = collate(list(itertools.islice(made, BATCH)))
      return batch['input_ids'].size

    return lambda: rate_of_work(work, setting['seconds'])

  return prepare


def seqio(setting):
  """T5's own pipeline: seqio's task, its preprocessors, packing.

  It begins with the texts in memory, or with their ids.
  """
  import functools

  import seqio
  import tensorflow as tf
  from t5.data import preprocessors

  from benchmarks import samples

  vocabulary = seqio.SentencePieceVocabulary(
    setting['tasks']['span_corruption']['tokenizer']
  )
  feature = seqio.Feature(vocabulary, add_eos=True)
  texts = samples.texts(setting['data'])
  ids = tf.ragged.constant([vocabulary.encode(text) for text in texts])
  tensors = {'raw': texts, 'cached': tf.cast(ids, tf.int32)}

  def source(split, shuffle_files, seed=None, *, way):
    del split, shuffle_files, seed
    data = tf.data.Dataset.from_tensor_slices(tensors[way]).repeat()
    return data.map(lambda x: {'inputs': '' if way == 'raw' else x[:0],
                               'targets': x})  # fmt: skip

  for way in tensors:
    seqio.TaskRegistry.add(
      way,
      source=seqio.FunctionDataSource(
        functools.partial(source, way=way), splits=['train']
      ),
      preprocessors=[
        *([seqio.preprocessors.tokenize] if way == 'raw' else []),
        preprocessors.span_corruption,
        seqio.preprocessors.append_eos_after_trim,
      ],
      output_features={'inputs': feature, 'targets': feature},
    )

  def count(batch):
    """Tokens of the texts: neither padding, nor EOS, nor sentinels."""
    return sum(
      int(((batch[name] > 1) & (batch[name] < 32_000)).sum())
      for name in ('encoder_input_tokens', 'decoder_target_tokens')
    )

  def prepare(_stack, _task, way):
    data = seqio.get_dataset(
      way,
      {'inputs': LENGTH, 'targets': TARGETS},
      shuffle=True,
      seed=0,
      feature_converter=seqio.EncDecFeatureConverter(pack=True),
    )
    batches = data.batch(BATCH).prefetch(2).as_numpy_iterator()
    return lambda: rate_of(batches, count, setting['seconds'])

  return prepare


def work(name, setting):
  """A worker: a line in for a measurement, a line of JSON out."""
  replies = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print goes to stderr
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setting['cores']])
  sides = {'treeline': treeline, 'library': library, 'seqio': seqio}
  prepare = sides[name](setting)
  print(json.dumps('ready'), file=replies, flush=True)
  with contextlib.ExitStack() as stack:
    current, measures = None, {}
    for line in sys.stdin:
      question = json.loads(line)
      task, way = question['task'], question['way']
      if task != current:
        stack.close()
        current, measures = task, {}
      if way not in measures:
        measures[way] = prepare(stack, task, way)
      print(json.dumps(measures[way]()), file=replies, flush=True)


if __name__ == '__main__':
  work(sys.argv[1], json.loads(sys.argv[2]))
