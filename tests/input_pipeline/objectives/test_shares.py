"""How full rows are in every recipe, and reports of what falls short."""

import importlib
import itertools
import json

import numpy as np
import pytest

from configs import ablations, tree
from input_pipeline import choices, config, pipeline, tokenizing
from input_pipeline.objectives import features, shares
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.streams import chunks
from input_pipeline.tokenizers import subwords
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import masked_config

# Rows that the authors' rule leaves part-filled: by side and length, a bit less
# than is measured in docs/packing.md.
EXEMPT = {
  # One pair in a row, 10% of them short; a sentence is not cut.
  ('sentence_pairs', 'encoder'): {'inputs': {64: 0.91, 128: 0.8, 512: 0.46}},
  # As many whole sentences as fit: 10% of 128 tokens are left.
  ('full_sentences', 'encoder'): {'inputs': {128: 0.86, 512: 0.94}},
  ('doc_sentences', 'encoder'): {'inputs': {512: 0.94}},
  # Inputs and targets of 512 tokens; a denoiser of 15% fills only the inputs.
  ('ul2', 'encoder_decoder'): {'targets': {128: 0.51, 512: 0.51}},
  # Targets of 192 and 104 tokens, the most that noise may need. A row of a
  # decoder, which no paper has, keeps this room free.
  ('iid_spans', 'encoder_decoder'): {'targets': {512: 0.72}},
  ('iid_spans', 'decoder'): {'inputs': {2048: 0.75}},
  # Texts are cut to the inputs' length before tokens are dropped.
  ('drop_tokens', 'encoder_decoder'): {
    'inputs': {512: 0.82},
    'targets': {512: 0.72},
  },
}


def recipes():
  """(name, config) of every system and size, and of T5's other objectives."""
  for key in tree.SYSTEMS:
    name, _, arg = key.partition(':')
    module = importlib.import_module(f'configs.{name}')
    sizes = module.SIZES
    version = [part for part in arg.split(',') if '=' in part]
    if name == 'llama':
      sizes = sizes[version[0][8:] if version else '1']
    elif name == 't5':
      sizes = sizes['1.0']
    for size in sizes:
      parts = ','.join([size, *version])
      try:
        yield f'{name}:{parts}', module.get_config(parts)
      except ValueError:  # FLAN-UL2 has one size
        continue
  yield 't5:recipe=baseline', tree.config_of('t5:recipe=baseline')
  for objective in ablations.OBJECTIVES:
    for system in 't5', 'llama', 'roberta':
      try:
        changed = ablations.get_config(f'{system},objective={objective}')
        batch_shapes(config.DataConfig(**changed.data), changed.model.family)
      except ValueError:
        continue
      yield f'{system},objective={objective}', changed


def layouts():
  """One recipe for each kind of rows."""
  found = {}
  for name, c in recipes():
    for phase in config.data_config(c).kinds:
      if phase.objective == 'text_to_text':  # instructions are no documents
        continue
      keys = (
        'objective', 'length', 'target_length', 'block', 'pack', 'concatenate',
        'document_tokens', 'noise_density', 'predictions', 'masking',
        'denoisers', 'short_share',
      )  # fmt: skip
      family = c.model.family
      kind = family, *(getattr(phase, key) for key in keys)
      found.setdefault(kind, (f'{name}, {phase.length}', phase, family))
  return found.values()


@pytest.fixture(scope='module')
def documents():
  """Tokens of documents with lengths like those of 1,000 documents of C4.

  Log-normal, with a mean of 480 tokens and a median of 290.
  """
  rng = np.random.default_rng(0)
  sizes = np.exp(rng.normal(np.log(290), 1.0, 4096)).astype(int) + 5
  assert 450 < sizes.mean() < 510
  return [np.full(size, 300, np.int32) for size in sizes]


def shares_filled(settings, family, documents):
  """Share of places filled, of inputs and targets or of one side."""
  tokenizer = Numbers(1000, settings.sentinels, settings.masks)
  shapes = batch_shapes(settings, family)
  rng = np.random.default_rng(1)
  if settings.sentences:
    documents = [
      np.split(d, np.cumsum(rng.integers(5, 40, len(d) // 20)))
      for d in documents
    ]
    documents = [[s for s in d if len(s)] for d in documents]
  filled = places = 0
  count = min(len(documents), max(1024, settings.block))
  for first in range(0, count, settings.block):
    rows = make_rows(
      documents[first : first + settings.block], tokenizer, settings, shapes,
      rng, family,
    )  # fmt: skip
    batch = features.split(rows, shapes)
    sides = {'inputs': 'encoder_segments', 'targets': 'segments'}
    if 'encoder_segments' not in batch:
      sides = {'inputs': 'segments'}
    filled += np.array([(batch[s] > 0).sum() for s in sides.values()])
    places += np.array([batch[s].size for s in sides.values()])
  return dict(zip(sides, filled / places, strict=True))


def test_every_recipe_fills_its_rows(documents):
  seen, missed = set(), {}
  for name, settings, family in layouts():
    found = shares_filled(settings, family, documents)
    seen.add((settings.objective, family))
    exempt = EXEMPT.get((settings.objective, family), {})
    for side, share in found.items():
      if share < exempt.get(side, {}).get(settings.length, 0.95):
        missed[name, side] = share
  assert not missed
  # Their rows are examples.
  tasks = {'text_to_text', 'in_context', *choices.LABELLED}
  tasks |= {*choices.PREFERENCES}
  assert {x for x, _ in seen} == {*choices.OBJECTIVES} - tasks


# ---- Chunks of documents ----------------------------------------------------


@pytest.mark.parametrize(
  ('length', 'block'), [(16, 128), (4096, 128), (8192, 256), (131_072, 4096)]
)
def test_chunks_grow_with_the_rows(length, block):
  settings = masked_config('causal', length=length, block=0)
  assert settings.block == block
  assert masked_config('causal', length=length, block=9).block == 9


def test_all_phases_have_the_same_chunks():
  """A cursor is thus the same place in all phases."""
  settings = masked_config(
    'mlm', length=8192, block=0, phases=((('steps', 5), 0, 64, 4, ''),)
  )
  first, last = settings.kinds
  assert (first.length, first.block) == (64, 256)
  assert (last.length, last.block) == (8192, 256)


def open_file(tmp_path, monkeypatch, count, **changes):
  """`count` documents of one letter each, in one file; 257 ids, bytes."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: subwords.Bytes(0))
  lines = [json.dumps({'text': chr(97 + n % 26)}) for n in range(count)]
  (tmp_path / 'a.json').write_text('\n'.join(lines))
  values = {'source': f'json:{tmp_path}/a.json', 'holdout': 0, 'length': 16}
  settings = masked_config('causal', **values | changes)
  return pipeline.open_data(
    settings, 5, 300, '' if settings.holdout else settings.source,
    family='decoder',
  )  # fmt: skip


def chunks_of(data, batches, stream):
  """For each chunk of a stream, how often each letter is in it."""
  rows = np.arange(data.config.batch)
  mine = rows // (data.config.batch // data.config.streams) == stream
  found = {}
  for batch in itertools.islice(data.batches(data.start(), rows), batches):
    for cursor, targets in zip(
      batch['cursor'][mine], batch['targets'][mine], strict=True
    ):
      chunk = found.setdefault(tuple(cursor[:3].tolist()), np.zeros(26, int))
      for n in range(26):
        chunk[n] += (targets == ord('a') + n + subwords.Bytes.first).sum()
  return list(found.values())[:-1]  # the last one may be incomplete


@pytest.mark.parametrize('changes', [{}, {'documents': 26}, {'holdout': 27}])
def test_a_corpus_smaller_than_a_chunk(changes, tmp_path, monkeypatch):
  """26 documents are in chunks of 256 nine times each, in all four streams."""
  count = 27 if changes else 26
  data = open_file(tmp_path, monkeypatch, count, block=256, **changes)
  for stream in range(4):
    found = chunks_of(data, 20, stream)
    assert len(found) > 1
    assert all((chunk == 9).all() for chunk in found)


@pytest.mark.parametrize(
  'changes', [{'epochs': 9, 'streams': 1, 'block': 256}, {'block': 128}]
)
def test_no_document_twice(changes, tmp_path, monkeypatch):
  """No document is repeated where epochs count or chunks are of usual size."""
  data = open_file(tmp_path, monkeypatch, 26, **changes)
  found = chunks_of(data, 2, 0)
  assert found
  assert all((chunk == 1).all() for chunk in found)


def test_streams_without_documents(tmp_path, monkeypatch, capfd):
  """A source that is read twice has one chunk for four streams.

  What falls short is reported at the end, although few chunks were made.
  """
  data = open_file(tmp_path, monkeypatch, 26, block=256, epochs=2, length=512)
  with pytest.raises(chunks.SourceEnded):
    for _ in data.batches(data.start(), np.arange(16)):
      pass
  out = capfd.readouterr().out
  assert out.count('Rows are 10.2% full: ') == 1  # 52 tokens of 512
  said = [line for line in out.splitlines() if 'streams' in line]
  assert len(said) == 1
  assert said[0].endswith(
    ' of data.streams=4 has no document in data.epochs=2, and its rows are'
    ' padding: there are fewer chunks of data.block=256 documents than streams.'
    ' Lower data.block or data.streams.'
  )


# ---- What falls short is reported -------------------------------------------


def run_chunks(settings, family, documents, count=shares.CHUNKS):
  tokenizer = Numbers(1000, settings.sentinels, settings.masks)
  shapes = batch_shapes(settings, family)
  counted = shares.Shares(settings)
  for seed in range(count):
    rng = np.random.default_rng(seed)
    rows = make_rows(documents, tokenizer, settings, shapes, rng, family)
    counted.add(len(documents), features.split(rows, shapes))
  return counted


def flat(count, size):
  return [np.full(size, 300, np.int32) for _ in range(count)]


def test_a_chunk_too_small_for_its_rows(capsys):
  """10 documents of 30 tokens and EOS fill 0.3 rows of 1,024.

  20 rows need 20 * 1,024 / 31 documents.
  """
  settings = masked_config('causal', length=1024, block=10)
  counted = run_chunks(settings, 'decoder', flat(10, 30), shares.CHUNKS - 1)
  assert not capsys.readouterr().out
  counted.report()  # the end
  assert 'Rows are 30.3% full' in capsys.readouterr().out
  counted.report()
  assert not capsys.readouterr().out
  run_chunks(settings, 'decoder', flat(10, 30), 3 * shares.CHUNKS)
  assert capsys.readouterr().out == (
    'Rows are 30.3% full: a chunk of documents fills 0.3 rows of'
    ' data.length=1024 tokens, the last one in part. Raise data.block=10 to'
    ' about 661, which takes more memory, or lower data.length.\n'
  )


def test_files_too_small_for_their_chunks(capsys):
  settings = masked_config('causal', length=1024, block=100)
  run_chunks(settings, 'decoder', flat(10, 30))
  assert (
    'Chunks have 10 documents, fewer than data.block=100, because a chunk never'
    ' crosses a file: put more documents into a file, about 661, or lower'
    ' data.length.'
  ) in capsys.readouterr().out


@pytest.mark.parametrize(
  ('objective', 'family', 'changes', 'documents'),
  [
    ('causal', 'decoder', {}, flat(100, 300)),  # full
    ('causal', 'decoder', {'pack': False, 'concatenate': False}, flat(8, 9)),
    ('sentence_pairs', 'encoder', {}, [flat(1, 9) for _ in range(8)]),
  ],
)
def test_nothing_is_reported(objective, family, changes, documents, capsys):
  """Full rows, and rows of one document or pair by design, need no report."""
  settings = masked_config(objective, **changes)
  run_chunks(settings, family, documents)
  assert not capsys.readouterr().out


@pytest.mark.parametrize(
  ('changes', 'documents', 'message'),
  [
    (
      {'predictions': 3, 'length': 64},
      flat(50, 200),
      (
        '4.7% of the tokens are predicted, not data.noise_density=15.0%: data.'
        'predictions=3 allows no more. Raise it.'
      ),
    ),
    (
      {'concatenate': False, 'pack': False},
      flat(50, 1),
      (
        '33.3% of the tokens are predicted, not data.noise_density=15.0%: rows'
        ' are so short that one token is a larger share.'
      ),
    ),
  ],
)
def test_a_share_that_is_missed(changes, documents, message, capsys):
  run_chunks(masked_config('mlm', **changes), 'encoder', documents)
  assert message in capsys.readouterr().out
