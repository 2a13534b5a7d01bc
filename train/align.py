"""Alignment: a model learns from preferences, or to judge them.

  python -m train.align --config=configs/align/dpo.py[:ARG]
    --from=RUN[:STEP]|CHECKPOINT --workdir=W
    --config.data.source=preferences:FILE.jsonl

--from is a workdir, or a published checkpoint in Hugging Face layout; it
decides the sizes of the model and the tokenizer, and is the reference of the
methods that have one. ARG names the model's family: family=encoder_decoder. A
run that was stopped resumes, as with `python -m train`; `python -m
train.evaluate --workdir=W` reports its numbers on held-out pairs.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import terminal
from train import loop
from train.aligning import beginning
from train.finetuning import adoption
from train.parallel import processes
from train.runs import adapters, command, workdir


def align(config: ConfigDict, folder: str, source: str) -> None:
  """Aligns one run, or resumes it.

  Args:
    config: from `configs/align/`.
    folder: the workdir.
    source: a workdir (WORKDIR[:STEP]) or a published checkpoint; '': the stored
      base of the workdir's adapters.

  Raises:
    ValueError: a setting that cannot work, before anything is compiled.
  """
  base = adapters.stored(folder)
  if not (source or base):
    raise ValueError(
      'Give --from=RUN|CHECKPOINT: alignment begins with a model that has '
      'learned. A run that has begun resumes without --config too.'
    )
  if adoption.is_published(source):
    config = adoption.adopt_published_template(config, folder, source)
    config = beginning.resolve(config)
    config = adoption.begin_published(config, folder, source)
    source = ''
  else:  # how chats are written decides which examples can be read
    config = beginning.resolve(adoption.adopt(config, source or base))
  if jax.process_index() == 0:
    terminal.say(beginning.described(config))
  loop.train(config, folder, init_from=source, init_flag='--from')


def main():
  processes.join()
  folder = adapters.begin(_WORKDIR.value, _ADAPTER.value)
  if _CONFIG.value is None:
    if not workdir.begun(folder):
      raise ValueError(
        'Give --config=align/FILE.py: only a run that has begun resumes '
        'without it.'
      )
    loop.train(None, folder)
    return
  align(_CONFIG.value, folder, _FROM.value)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/align/FILE.py[:family=FAMILY].', lock_config=True
  )
  _WORKDIR = flags.DEFINE_string(
    'workdir', None, "The run's folder.", required=True
  )
  _ADAPTER = adapters.define_flag(
    'A name: the run is WORKDIR/adapters/NAME, and what is frozen is stored '
    'once for all adapters, in WORKDIR/base.'
  )
  _FROM = flags.DEFINE_string(
    'from', '', 'WORKDIR[:STEP], or a published checkpoint.'
  )
  processes.define_flags()
  flags.adopt_module_key_flags(processes)
  command.run(main)
