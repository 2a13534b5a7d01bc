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
    ('batch', 18),
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
  'curriculum',
  [
    ((1.0, 16, 0),),
    ((0.6, 16, 0), (0.4, 20, 0)),
    ((0.5, 16),),
    ((0.5, '16', 0),),
    (0.5, 16, 0),  # no phase, but the numbers of one
  ],
)
def test_impossible_curricula(curriculum):
  with pytest.raises(ValueError, match=r'data\.curriculum'):
    data_config(curriculum=curriculum)
  with pytest.raises(ValueError, match=r'data\.length=2'):
    data_config(curriculum=((0.5, 2, 0),))


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
