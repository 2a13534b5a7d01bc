"""The rules of the keys data.*: each names the key and its value."""

import pytest

from tests.helpers.corpora import data_config


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('source', 'c4'),
    ('source', None),
    ('objective', 'copying'),
    ('noise_density', 0.0),
    ('noise_density', 1.0),
    ('mean_span_length', 0.5),
    ('streams', 0),
    ('length', 3),
    ('holdout', 1),
    ('max_bad_share', 2.0),
    ('threads', -1),
  ],
)
def test_impossible_values(key, value):
  with pytest.raises(ValueError, match=rf'data\.{key}={value!r} must '):
    data_config(**{key: value})


@pytest.mark.parametrize(
  ('phases', 'message'),
  [
    ((('steps', 5), 16, 0, 0, ''), r'\[0\] is .* must be \(\(unit, until\)'),
    (((('steps', 5), 16, 0, 0),), r'must be \(\(unit, until\), batch'),
    (((('weeks', 5), 16, 0, 0, ''),), "'weeks', which nothing counts.*tokens"),
    (((('steps', float('inf')), 16, 0, 0, ''),), 'must be .*unit, until'),
    (((('steps', True), 16, 0, 0, ''),), 'must be .*unit, until'),
    (((('rows', 0), 16, 0, 0, ''),), 'ends at 0 rows, but a run begins at 0'),
    (
      ((('steps', 5), 0, 32, 0, ''), (('steps', 4), 0, 48, 0, '')),
      r'\[1\] ends at 4 steps, but the phase before it ends at 5',
    ),
    (
      ((('tokens', 9000), 0, 0, 0, ''), (('rows', 144), 0, 48, 0, '')),
      r'\[1\] ends at 144 rows, but the phase before it ends at 144',
    ),
    (((('steps', 5), 0, 2, 0, ''),), r'phases\[0\]: data\.length=2'),
    (((('steps', 5), 0, 0, 0, 'mlm'),), r'phases\[0\]: data\.predictions=0'),
    (((('steps', 5), 0, 0, 0, 'copying'),), "the objective 'copying'; it must"),
  ],
)
def test_impossible_phases(phases, message):
  with pytest.raises(ValueError, match=message) as caught:
    data_config(phases=phases)
  assert 'train.phases' in str(caught.value)


def test_phases_read_text_alike():
  """A phase may have another objective, but not sentences in place of text."""
  masks = {'noise_density': 0.15, 'masking': 'bert', 'masked_share': 0.8}
  pairs = {'objective': 'sentence_pairs', 'pack': False, 'predictions': 9}
  own = {'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0}
  phases = ((('steps', 5), 0, 32, 9, 'mlm'),)
  with pytest.raises(ValueError, match="'mlm', which reads text without sent"):
    data_config(**masks, **pairs, **own, phases=phases)
  phases = ((('steps', 5), 0, 32, 0, 'prefix'),)
  first, last = data_config(phases=phases).kinds
  assert (first.objective, first.noise_density) == ('prefix', 0.0)
  assert (last.objective, last.noise_density) == ('span_corruption', 0.15)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'mixture': (('docs', 0.5), ('json:x', 0.4))}, 'whose sum is 1, not 0.9'),
    ({'mixture': (('docs', 1.0), ('json:x', 2e-6))}, 'whose sum is 1, not 1.0'),
    ({'mixture': (('docs', 1.5), ('json:x', -0.5))}, r'mixture\[1\].*above 0'),
    ({'mixture': (('docs', 0.5), ('c4', 0.5))}, r"mixture\[1\]='c4' must be"),
    ({'mixture': (('synthetic', 1.0),)}, r"mixture\[0\]='synthetic' must be"),
    ({'mixture': ('docs', 1.0)}, r'be pairs \(source, rate\)'),
    ({'mixture': (('docs', 0.5), ('docs', 0.5))}, 'name a source once'),
    ({'mixture': (('docs', 1.0),), 'source': 'docs'}, "source='docs' must be"),
    ({'documents': -1, 'source': 'docs'}, 'documents=-1 must be 0'),
    ({'epochs': -1, 'source': 'docs'}, 'epochs=-1 must be 0'),
  ],
)
def test_impossible_mixtures(changes, message):
  with pytest.raises(ValueError, match=rf'data\..*{message}'):
    data_config(**({'source': ''} | changes))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'source': 'text:x', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'textfile:x', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'docs', 'text_field': 'body'}, "'body' must be 'text'"),
    ({'source': 'json:x', 'text_field': ''}, "text_field='' must name"),
    ({'source': 'parquett:x'}, r'parquet:GLOB.*textfile:GLOB'),
    ({'source': 'textfiles:x'}, r'parquet:GLOB.*textfile:GLOB'),
  ],
)
def test_text_fields_that_nothing_reads(changes, message):
  with pytest.raises(ValueError, match=message):
    data_config(**changes)
