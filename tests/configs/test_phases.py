"""The ramps of the papers: their batches, steps and tokens."""

import numpy as np
import pytest

from configs import bert, bloom, chinchilla, gopher, gpt3, llama, mt_nlg, palm
from configs.phases import counts, line, make_plan, of, ramp, steps_in
from train.learning.schedules import make_schedule
from train.parallel.sharding import padded


def batch_at(config, unit, count):
  """The rows of the batch that begins after so many tokens or rows."""
  begun = [p for p in of(config) if p.counts(p.first)[unit] <= count]
  return begun[-1].batch


# A config, and the paper's billions of tokens.
TOTALS = [
  (gpt3.get_config('175b'), 300),  # Brown et al. 2020, 2.1
  (gpt3.get_config('small'), 300),
  (bloom.get_config('176b'), 366),  # BigScience 2022, table 3 and 3.5
  (bloom.get_config('560m'), 341),
  (mt_nlg.get_config('530b'), 270),  # Smith et al. 2022, 3.2
  (palm.get_config('8b'), 780),  # Chowdhery et al. 2022, 3
  (palm.get_config('62b'), 780),
  (gopher.get_config('280b'), 300),  # Rae et al. 2021, 3.2
  (chinchilla.get_config('70b'), 1400),  # Hoffmann et al. 2022, table 4
  (llama.get_config('size=405b,version=3'), 15_600),  # Llama Team 2024, 3
]


@pytest.mark.parametrize(('config', 'billions'), TOTALS)
def test_tokens_of_a_run(config, billions):
  """The last step ends less than a batch before the paper's total."""
  steps = config.train.steps
  read = counts(of(config), steps)['tokens']
  assert read <= billions * 1e9 < counts(of(config), steps + 1)['tokens']


def test_gpt3():
  """B: linear from 32k tokens, and a warm-up of 375M tokens."""
  config = gpt3.get_config('175b')
  for tokens in np.linspace(0, 11.99e9, 400):
    wanted = 16 + (1536 - 16) * tokens / 12e9
    assert abs(batch_at(config, 'tokens', tokens) - wanted) < 8 + 1
  assert of(config)[0].batch * 2048 == 32_768
  assert batch_at(config, 'tokens', 12.1e9) == 1536
  rate = make_schedule(config.schedule, config.train.steps, of(config))
  warm = steps_in(config, 'tokens', 375e6)
  # Along the line itself: the tokens over the slope, times a logarithm.
  slope = 1520 / 12e9
  exact = np.log(1 + 375e6 * slope / 16) / (slope * 2048)
  assert exact == pytest.approx(5313, abs=1)
  assert warm == pytest.approx(exact, rel=0.06)
  assert float(rate(warm // 2)) < 6e-5 * 0.5
  assert float(rate(warm + 1)) == pytest.approx(6e-5, rel=1e-5)
  assert float(rate(config.train.steps)) == pytest.approx(6e-6)


def test_bloom():
  """Batches grow for 12,658 steps, and rates for 910."""
  config = bloom.get_config('176b')
  plan = of(config)
  assert (plan[-1].first, plan[-1].rows) == (12_658, 9_765_808)
  assert [p.batch for p in plan] == list(range(192, 2049, 16))
  rate = make_schedule(config.schedule, config.train.steps, plan)
  for step in (0, 100, 438, 439, 500, 909):
    rows = counts(plan, step)['rows']
    expected = 6e-5 * rows / 183_105
    assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
  assert counts(plan, 909)['rows'] < 183_105 <= counts(plan, 910)['rows']
  for step in (910, 12_000, 60_000, config.train.steps):
    done = (counts(plan, step)['rows'] - 183_105) / (200e6 - 183_105)
    cosine = 6e-6 + 5.4e-5 * (1 + np.cos(np.pi * done)) / 2
    assert float(rate(step)) == pytest.approx(cosine, rel=1e-5)
  small = bloom.get_config('560m')
  assert [p.batch for p in of(small)] == [192, 224, 256]


def test_what_a_ramp_costs():
  """On 128 parts of a mesh; input_pipeline/README.md has these numbers."""
  config = bloom.get_config('176b')
  plan = of(config)
  sizes = padded([phase.batch for phase in plan], 128)
  assert len(set(sizes)) == 6
  steps = [(p.last or config.train.steps) - p.first for p in plan]
  text = np.array([n * p.batch for n, p in zip(steps, plan, strict=True)])
  rows = np.multiply(steps, sizes)
  assert 1 - text.sum() / rows.sum() == pytest.approx(0.011, abs=5e-4)
  assert 1 - text[:-1].sum() / rows[:-1].sum() == pytest.approx(0.17, abs=5e-3)
  for phase, size in zip(plan, sizes, strict=True):
    least = -(-phase.batch // 128) * 128
    assert 0.75 * size <= least <= size


def test_the_others():
  mt = of(mt_nlg.get_config('530b'))
  assert [p.batch for p in mt] == list(range(32, 1921, 32))
  assert mt[-1].tokens == pytest.approx(12e9, rel=1e-3)
  large = of(palm.get_config('540b'))
  assert [(p.first, p.batch) for p in large] == [
    (0, 512), (50_000, 1024), (115_000, 2048),
  ]  # fmt: skip
  assert palm.get_config('540b').train.steps == 255_000
  assert [p.batch for p in of(palm.get_config('8b'))] == [256, 512]
  assert [p.batch for p in of(gopher.get_config('280b'))] == [1536, 3072]
  first, last = of(chinchilla.get_config('70b'))
  assert (first.batch * 2048, last.batch * 2048) == (1_572_864, 3_145_728)
  assert last.tokens == pytest.approx(0.7e12, rel=1e-5)
  found = of(llama.get_config('size=405b,version=3'))
  assert [(p.batch * p.length, p.length) for p in found] == [
    (2**22, 4096), (2**23, 8192), (2**24, 8192),
  ]  # fmt: skip
  assert found[1].tokens == pytest.approx(252e6, rel=0.02)
  assert found[2].tokens == pytest.approx(2.87e12, rel=1e-5)
  short, whole = of(bert.get_config('large'))
  assert (short.last, short.length, short.predictions) == (900_000, 128, 20)
  assert (whole.length, whole.predictions) == (512, 77)


def test_a_line_ends_where_a_ramp_does():
  for make in (line, ramp):
    plan = make_plan(make('rows', 1000, 4, 12, 2), 12, 8)
    assert [p.batch for p in plan] == [4, 6, 8, 10, 12]
  ends = [end for (_, end), *_ in line('rows', 1000, 4, 12, 2)]
  assert ends == [125, 375, 625, 875]
