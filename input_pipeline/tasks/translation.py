"""Translations of WMT: English and German, French or Romanian, both ways.

German as in Vaswani et al. 2017 (validation newstest2013, test newstest2014),
French of WMT 2015, Romanian of WMT 2016 (Raffel et al. 2020, 2.3 and 3.7).
"""

import functools
import re
from collections.abc import Iterator

from input_pipeline.tasks import files, formats, metrics
from input_pipeline.tasks.task import Example, Task

LANGUAGES = {
  'en': 'English',
  'de': 'German',
  'fr': 'French',
  'ro': 'Romanian',
}
# The other language -> TFDS's dataset, and the files of validation and test.
_PAIRS = {
  'de': ('wmt_t2t_translate/de-en', 'newstest2013', 'newstest2014'),
  'fr': ('wmt15_translate/fr-en', 'newstest2014', 'newstest2015'),
  'ro': ('wmt16_translate/ro-en', 'newsdev2016', 'newstest2016'),
}
_SEGMENT = re.compile(r'<seg id="\d+">(.*?)</seg>')


def read(path: str, *, language: str) -> Iterator[Example]:
  """Sentences in English and another language.

  `path` is the English file NAME.en, beside NAME.`language` with as many lines;
  or NAME-src.en.sgm beside NAME-ref.`language`.sgm, as WMT publishes its test
  sets; or JSONL of {"translation": {"en": ..., "de": ...}}.

  Raises:
    ValueError: the files differ in their number of lines; names both.
  """
  if path.endswith('.sgm'):
    other = path.replace('-src.en.sgm', f'-ref.{language}.sgm')
    ours, theirs = _segments(path), _segments(other)
  elif path.endswith('.en'):
    other = f'{path.removesuffix("en")}{language}'
    ours, theirs = (
      [line for _, line in files.lines(name)] for name in (path, other)
    )
  else:
    for place, row in files.jsonl(path, ('translation',)):
      found = files.checked(place, row['translation'], ('en', language))
      yield {name: found[name] for name in ('en', language)}
    return
  if len(ours) != len(theirs):
    raise ValueError(
      f'{path} has {len(ours)} lines, {other} has {len(theirs)}. Line n of one'
      ' must be the translation of line n of the other: fetch both files again.'
    )
  left_out = 0
  for pair in zip(ours, theirs, strict=True):
    if any(pair):
      yield dict(zip(('en', language), pair, strict=True))
    else:
      left_out += 1
  if left_out:
    print(f'{path}: {left_out} pairs of empty lines are left out.', flush=True)


def _segments(path):
  """The sentences of an SGM file, written as they are (as TFDS reads them)."""
  return _SEGMENT.findall(files.text(path))


def translated(
  example: Example, *, source: str, target: str
) -> list[tuple[str, str]]:
  """T5's prompt with the languages' English names."""
  names = f'{LANGUAGES[source]} to {LANGUAGES[target]}'
  return [(f'translate {names}: {example[source]}', example[target])]


def _wmt(source: str, target: str) -> Task:
  language = source if target == 'en' else target
  dataset, validation, test = _PAIRS[language]
  names = {'train': 'train', 'validation': 'val*', 'test': 'test'}
  own = {'train': 'train', 'validation': validation, 'test': test}
  return Task(
    name=f'wmt/{source}_{target}',
    kind='text',
    tfds=(dataset,),
    splits={'train': 'train', 'validation': 'validation', 'test': 'test'},
    files={
      split: (
        f'wmt_en_{language}/{own[split]}.en',
        f'{own[split]}.en',
        f'{own[split]}-src.en.sgm',
        f'{own[split]}-*{language}*-src.en.sgm',
        f'wmt_en_{language}/{name}.json*',
      )
      for split, name in names.items()
    },
    read=functools.partial(read, language=language),
    label=target,
    text_to_text=functools.partial(translated, source=source, target=target),
    decode=formats.as_written,
    metrics=functools.partial(metrics.bleu, language=target),
  )


TASKS = (
  *(_wmt('en', language) for language in _PAIRS),
  *(_wmt(language, 'en') for language in _PAIRS),
)
