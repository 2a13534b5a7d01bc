"""Tokens a second of every objective's input pipeline, beside its peers.

  python -m benchmarks.input_pipeline --data=DIR
    [--seqio_python=PEER/bin/python] [--only=causal,mlm] [--cores=1,2]

DIR is the folder of benchmarks/samples.py. The sample of C4 is written into 8
files as allenai/c4 publishes them, each in an order of its own. Treeline reads
these ('raw') or a token cache of them ('cached') and makes batches of 128 rows
of 512 tokens (UL2 of 400): parses, shuffles, tokenizes, cuts, corrupts, packs.
Rates are tokens of text per second: the median of --repeats runs after one
warm-up. Each side runs in its own process, limited to the given cores, and
keeps its pipeline open. The sides take turns.

'lists' and 'arrays' are what the tokenizer's own library takes for the same
texts, in memory already, in batches, on all of these cores: SentencePiece into
lists of ints, its default, and into arrays, its fastest form; `tokenizers` into
lists.

Peers, which begin with texts ('raw') or ids ('cached') in memory: transformers'
DataCollatorForLanguageModeling, rows joined and cut as in its run_mlm.py, for
causal and masked language modelling; for span corruption T5's own pipeline of
seqio and t5, in an environment of its own:

  python3.11 -m venv PEER
  PEER/bin/pip install tensorflow==2.21.0 tensorflow-text==2.21.1 \\
    seqio==0.0.20 babel editdistance gin-config nltk pandas rouge-score \\
    sacrebleu scikit-learn
  PEER/bin/pip install --no-deps t5==0.9.4
"""

import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from benchmarks import machine, samples, workers
from configs import tree
from configs.commands import command
from input_pipeline import prepare
from input_pipeline.sources import paths

HERE = Path(__file__).resolve()
FILES = 8
NONE = {'noise_density': 0.0, 'mean_span_length': 0.0, 'sentinels': 0}
IID = {'mean_span_length': 0.0, 'target_length': 256}
# Objective: the config that it starts from, what of its data it changes.
TASKS = {
  'causal': ('gpt2', {}),
  'prefix': ('t5:small', NONE),
  'span_corruption': ('t5:small', {}),
  'iid_spans': ('t5:small', IID),
  'drop_tokens': ('t5:small', IID | {'sentinels': 0}),
  'bert_style': ('t5:small', {'mean_span_length': 0.0, 'random_share': 0.1}),
  'mass_style': ('t5:small', {'mean_span_length': 0.0}),
  'deshuffling': ('t5:small', NONE),
  # The fourth denoiser has 100 sentinels in 400 tokens.
  'ul2': ('ul2:20b', {'sentinels': 100, 'length': 400}),
  'mlm': ('bert:base', {'objective': 'mlm', 'short_share': 0.0, 'pack': True}),
  'mlm, whole words': (
    'bert:base',
    {'objective': 'mlm', 'short_share': 0.0, 'pack': True, 'whole_words': True},
  ),
  'sentence_pairs': ('bert:base', {}),
  'full_sentences': ('roberta:base', {}),
  'doc_sentences': ('roberta:base', {'objective': 'doc_sentences'}),
}  # fmt: skip
COLLATED = 'causal', 'mlm', 'mlm, whole words'

_DATA = flags.DEFINE_string('data', None, 'The folder.', required=True)
_ONLY = flags.DEFINE_list('only', list(TASKS), 'Which objectives.')
_CORES = flags.DEFINE_list('cores', ['1', '2'], 'How many, one after another.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Of every measurement.')
_SECONDS = flags.DEFINE_float('seconds', 1.5, 'A measurement takes at least.')
_SEQIO_PYTHON = flags.DEFINE_string(
  'seqio_python', '', "Python of seqio's environment; '' leaves it out."
)
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'input_pipeline.json'),
  "JSON of the results; '' writes none.",
)  # fmt: skip


def say(text):
  print(text, file=sys.stderr, flush=True)


def make_task(name, folder, source, vocabularies, caches):
  """What the workers need to know of an objective; makes its token cache."""
  system, changes = TASKS[name]
  config = tree.config_of(system)
  data = config.data
  if 'objective' not in changes and name not in ('causal', 'ul2'):
    data.objective = name
  data.source, data.batch, data.streams, data.length = source, 128, FILES, 512
  config.train.phases = ()
  data.update(changes)
  kind = system.partition(':')[0]
  vocabulary, size = vocabularies[kind]
  data.tokenizer, config.model.vocab_size = vocabulary, size
  family = config.model.family
  kept = vocabulary, name.endswith(('_pairs', '_sentences'))
  if kept not in caches:
    config.eval.source = ''
    caches[kept] = f'{folder}/cache{len(caches)}'
    with contextlib.redirect_stdout(io.StringIO()):
      prepare.prepare(config, caches[kept])
  tokenizer = vocabulary
  if not vocabulary.endswith('.model'):
    tokenizer = f'{caches[kept]}/tokenizer.json'
  return {
    'data': data.to_dict(),
    'family': family,
    'vocab_size': size,
    'source': source,
    'cache': f'cache:{caches[kept]}',
    'tokenizer': tokenizer,
  }


def ways(task, tokenizer):
  """(side, way) of every measurement of an objective."""
  found = [('treeline', 'raw'), ('treeline', 'cached'), ('library', 'lists')]
  if tokenizer.endswith('.model'):
    found.append(('library', 'arrays'))
  peer = 'library' if task in COLLATED else 'seqio'
  if task in COLLATED or (task == 'span_corruption' and _SEQIO_PYTHON.value):
    found += [(peer, 'raw'), (peer, 'cached')]
  return found


def measure(setting, cores):
  """Medians and ranges by objective, 'side way' -> tokens a second."""
  pythons = dict.fromkeys(('treeline', 'library'), sys.executable)
  if _SEQIO_PYTHON.value and 'span_corruption' in setting['tasks']:
    pythons['seqio'] = _SEQIO_PYTHON.value
  results = {}
  with contextlib.ExitStack() as stack:
    sides = {
      side: workers.start(
        stack, python, 'benchmarks.input_pipeline_workers', side,
        setting | {'cores': cores},
      )[0]
      for side, python in pythons.items()
    }  # fmt: skip
    for name, task in setting['tasks'].items():
      found = {}
      for repeat in range(_REPEATS.value + 1):
        for side, way in ways(name, task['tokenizer']):
          question = json.dumps({'task': name, 'way': way})
          rate = workers.ask(sides[side], question)
          if repeat:
            found.setdefault(f'{side} {way}', []).append(rate)
      say(f'{name}, {cores} cores: {ratios(found)}')
      results[name] = {
        key: {
          'median': round(statistics.median(rates)),
          'range': [round(min(rates)), round(max(rates))],
        }
        for key, rates in found.items()
      } | {'ratios': ratios(found)}
  return results


def ratios(found):
  """Medians of Treeline's rates over the others', repeat by repeat."""
  result = {}
  for key in found:
    if not key.startswith('treeline'):
      ours = 'treeline ' + ('cached' if key.endswith('cached') else 'raw')
      pairs = zip(found[ours], found[key], strict=True)
      ratio = statistics.median(own / other for own, other in pairs)
      result[f'{ours} over {key}'] = round(ratio, 3)
  return result


def report(results):
  for cores, objectives in results.items():
    print(f'{cores} cores: million tokens/s from text, from the cache')
    for name, found in objectives.items():
      raw, cached = (
        found[f'treeline {way}']['median'] / 1e6 for way in ('raw', 'cached')
      )
      print(f'  {name:18} {raw:6.2f} {cached:6.2f}  {found["ratios"]}')


def main(_):
  if unknown := set(_ONLY.value) - TASKS.keys():
    raise app.UsageError(f'--only: {unknown} is not among {list(TASKS)}.')
  data = samples.root(_DATA.value)
  with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    source = samples.write(folder, data, FILES, 1)
    vocabularies = samples.vocabularies(data, folder)
    vocabularies['ul2'] = vocabularies['t5']
    caches = {}
    setting = {
      'data': str(data),
      'eval_source': f'json:{data}/c4_sample_1k/c4_100*.gz',
      'seconds': _SECONDS.value,
      'tasks': {
        name: make_task(name, folder, source, vocabularies, caches)
        for name in _ONLY.value
      },
    }
    results = {
      cores: measure(setting, int(cores)) for cores in _CORES.value
    }  # fmt: skip
  report(results)
  if _OUT.value:
    result = machine.describe() | {'cores': results}
    paths.write(_OUT.value, (json.dumps(result, indent=2) + '\n').encode())


if __name__ == '__main__':
  command.start(main)
