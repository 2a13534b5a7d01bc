"""`eval.beams` searches the answers of tasks of free text, and no others."""

import jax
import numpy as np
import pytest

from configs.finetune import t5
from input_pipeline import pipeline
from models.beams import beam_search
from tests.helpers import labelled
from train.finetuning import adoption, scoring
from train.generation.prompts import until_eos
from train.learning.state import create_state
from train.setup import set_up

LENGTH = 6


@pytest.mark.parametrize(
  ('kind', 'beams'), [('text', 3), ('classification', 1)]
)
def test_beams_of_free_text(kind, beams, tmp_path):
  task = labelled.write_task(tmp_path / 'task', count=32, held_out=4)
  config = t5.get_config('size=tiny').unlock()
  config.data.source = f'{task},kind={kind}'
  config.data.tokenizer_kind, config.model.vocab_size = 'bytes', 384
  config.data.batch = config.data.streams = 4
  config.data.length, config.data.target_length = 64, LENGTH
  config.eval.beams, config.eval.length_penalty = 3, 0.0
  setup = set_up(adoption.resolve(config.lock()), jax.devices()[:1])
  data = pipeline.open_data(
    setup.data, 0, config.model.vocab_size, family='encoder_decoder'
  )
  parts = setup.model, setup.optimizer, setup.state, data.start(), 0
  params = create_state(*parts, tuning=setup.tuning).params

  (found,) = scoring.make_scoring(setup, data)(params)
  (corpus,) = data.evaluated
  rows = [
    own[0] for own in corpus.labels.encode(found.examples, data.tokenizer).rows
  ]
  source, segments = np.zeros((2, 4, 64), 'int32')
  for n, row in enumerate(rows):
    source[n, : len(row['inputs'])] = row['inputs']
    segments[n, : len(row['inputs'])] = 1
  texts = beam_search(
    params, source, segments, model=setup.model, length=LENGTH,
    eos=data.tokenizer.eos, beams=beams, start=0, penalty=0.0,
    vocabulary=data.tokenizer.size,
  ).tokens  # fmt: skip
  expected = [
    found.task.decode(until_eos(data.tokenizer, ids), example)
    for ids, example in zip(
      np.asarray(texts)[:, 0], found.examples, strict=True
    )
  ]
  assert found.predictions == [
    x if kind == 'text' or x in found.task.labels else None for x in expected
  ]
