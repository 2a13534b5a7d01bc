"""Evaluation: exact token-weighted means over the held-out split.

`python -m train.evaluate --workdir=W [--step=N]` evaluates a checkpoint as the
run itself did at that step, and prints a line of JSON. --adapter=NAME is one of
several in --workdir. --step=best is the best
one by the run's `checkpoint.best`, --step=best:TASK that of one of its tasks.
With --config=FILE.py (and --config.KEY=VALUE) it uses another config, for other
data or devices; that config must describe the same model. A run that has
learned a task gets the metrics of the task; --predictions=DIR writes its
answers in the format of the benchmark, with --source=task:NAME@test for a split
without labels.

--texts=SOURCE gives the perplexity of a decoder on the texts of a source, by
document, in windows of --window tokens that each predict --stride: of a run, or
of a published checkpoint (--from=CHECKPOINT). Repeat it for several. An encoder
gets a pseudo-perplexity.

--tasks=lambada,hellaswag,gsm8k asks a run or a published checkpoint prompted
tasks, whose files lie in --task_folder, after --shots examples, and prints a
table; --out=FILE.json keeps the scores, --predictions=DIR what each question
got. --samples=40 --temperature=0.7 takes the answer that most samples give.

--lm_eval=lambada_openai,hellaswag scores tasks of lm-evaluation-harness (the
extra `lm_eval`) with a decoder, RWKV or an encoder-decoder;
--include_path=DIR adds tasks of your own, and --out=FILE keeps all results.

--no_answer_threshold=X leaves a question of SQuAD 2.0 without an answer if the
score of no answer exceeds that of the answer by more than X. The scores have
the thresholds that are best for the evaluated split.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import json
import math

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import terminal
from input_pipeline import pipeline
from input_pipeline.streams.corpus import HELD_OUT
from input_pipeline.tasks import submission
from train import applying
from train.aligning import reference
from train.evaluation import asking, harness_command
from train.evaluation.held_out import (
  evaluate,
  evaluate_sources,
  make_eval_step,
  open_sources,
)
from train.evaluation.perplexity import (
  perplexity,
  pseudo_perplexity,
  read_documents,
)
from train.finetuning import scoring
from train.generation.making import make_writer
from train.generation.options import Options
from train.parallel import processes
from train.runs import adapters, command, opening, workdir
from train.runs.checkpoint import parse_step

# What is evaluated in place of the run's held-out split, by flag.
KINDS = 'texts', 'tasks', 'lm_eval'
# A flag -> the kinds that use it; '': the held-out split.
USES = {
  **dict.fromkeys(('documents', 'text_field', 'published_form'), ('texts',)),
  **dict.fromkeys(('window', 'batch'), KINDS),
  'stride': ('texts', 'tasks'),
  **dict.fromkeys(asking.OPTIONS, ('tasks',)),
  **dict.fromkeys(('task_folder', 'shots_file'), ('tasks',)),
  **dict.fromkeys(('shots', 'limit', 'out'), ('tasks', 'lm_eval')),
  'include_path': ('lm_eval',),
  **dict.fromkeys(('source', 'no_answer_threshold'), ('',)),
  'predictions': ('', 'tasks'),
}


def evaluate_run(
  folder: str,
  step: int | str | None = None,
  config: ConfigDict | None = None,
  source: str = '',
  predictions: str = '',
  no_answer_threshold: float | None = None,
  weights: str | None = None,
) -> dict[str, float]:
  """'step', and what `evaluate` returns of the checkpoint; see open_run.

  For tasks there are also the numbers 'TASK/METRIC', and the mean 'score'.

  Args:
    folder: the workdir.
    step: of the checkpoint, 'best' or 'best:TASK'; None: the newest.
    config: None: the run's own.
    source: evaluated in place of the config's, such as 'task:glue/rte@test'.
    predictions: a folder for the answers to each task; '': they are not
      written.
    no_answer_threshold: of `Task.unanswerable`; None: 0.
    weights: 'average', 'last' or None; see `opening.part_of`.

  Raises:
    ValueError: a threshold is given, and no question can be left unanswered.
  """
  if source:
    config = workdir.read_config(folder) if config is None else config
    config = config.copy_and_resolve_references()
    config.eval.source = source
  run = opening.open_run(folder, step, config, weights)
  data = opening.open_data(run)
  reference.attach(data, folder, run.config)
  if no_answer_threshold is not None:
    _check_threshold(data, no_answer_threshold)
  threshold = no_answer_threshold or 0.0
  scores = scoring.make_scoring(run.setup, data, threshold)(run.params)
  for one in scores:
    if predictions and jax.process_index() == 0:
      written = submission.write(
        one.task, one.split, one.examples, one.predictions, predictions,
        threshold,
      )  # fmt: skip
      terminal.say(
        f'{written.path}: {written.rows:,} predictions'
        + ' for the examples of data.holdout' * (one.split == HELD_OUT)
        + f', {written.replaced} replaced because the format cannot hold them'
      )
  means = {}
  if not scores or any(one.metrics for one in scores):
    eval_step = make_eval_step(
      run.model, data, run.config.train.loss_chunk, run.setup.criterion,
      run.setup.mesh,
    )  # fmt: skip

    def means_of(data):
      return evaluate(
        eval_step,
        run.params,
        run.setup.evaluation(data),
        run.config.eval.batches,
        run.setup.criterion.means,
      )

    others = open_sources(run.config, data, folder)
    with run.setup.on_mesh():
      means = means_of(data)
      means |= evaluate_sources(others, means_of, data.config)
  return {'step': run.step} | means | scoring.means(scores)


def _check_threshold(data: pipeline.Data, threshold: float) -> None:
  """Raises ValueError unless an evaluated task can use the threshold."""
  tasks = [x.source.task for x in data.evaluated if x.labels]
  if math.isnan(threshold) or not (
    data.config.objective == 'span' and any(x.unanswerable for x in tasks)
  ):
    names = ', '.join(x.name for x in tasks) or 'no task'
    raise ValueError(
      f'--no_answer_threshold={threshold} is a number for a model with a head '
      'that answers questions of which some have no answer, as those of '
      f'squad/v2.0; {names} as {data.config.objective} is evaluated here.'
    )


def main():
  if bool(_WORKDIR.value) == bool(_FROM.value):
    raise ValueError('Give --workdir of a run, or --from=CHECKPOINT.')
  own = _STEP.value or _WEIGHTS.value or _ADAPTER.value
  if _FROM.value and (own or _CONFIG.value is not None):
    raise ValueError(
      '--from=CHECKPOINT has one step and its own config: leave --step, '
      '--weights, --adapter and --config out.'
    )
  if _PEFT.value and not _FROM.value:
    raise ValueError('--peft=FOLDER needs --from=CHECKPOINT, its base.')
  kinds = [kind for kind in KINDS if flags.FLAGS[kind].value] or ['']
  if len(kinds) > 1:
    raise ValueError(f'Give one of {", ".join(f"--{x}" for x in kinds)}.')
  for name, uses in USES.items():
    _check_use(name, uses, kinds[0])
  if flags.FLAGS.lm_eval:
    harness_command.score(_model, _WINDOW.value)
    return
  for name, least in (('documents', 0), ('batch', 1)):
    if (value := flags.FLAGS[name].value) < least:
      raise ValueError(f'--{name}={value} must be at least {least}.')
  processes.join()
  if _TEXTS.value:
    _read_texts(_model())
  elif _TASKS.value:
    _ask(_model())
  elif _FROM.value:
    raise ValueError(
      '--from=CHECKPOINT is evaluated on --texts=SOURCE, --tasks=NAMES or '
      '--lm_eval=NAMES.'
    )
  else:
    _evaluate_run()


def _check_use(name, uses, kind):
  """Raises ValueError for a flag that has no use with the kind's."""
  found = flags.FLAGS[name]
  if found.value == found.default or kind in uses:
    return
  needed = ' or '.join(f'--{other}' for other in uses if other)
  raise ValueError(
    f'--{name}={found.value} '
    + (f'has no use with --{kind}.' if kind else f'needs {needed}.')
  )


def _model():
  if _FROM.value:
    return applying.open_published(_FROM.value, _PEFT.value)
  step = parse_step(_STEP.value)
  folder = adapters.folder(_WORKDIR.value, _ADAPTER.value)
  return opening.open_run(folder, step, _CONFIG.value, _WEIGHTS.value)


def _evaluate_run():
  found = evaluate_run(
    adapters.folder(_WORKDIR.value, _ADAPTER.value),
    parse_step(_STEP.value),
    _CONFIG.value,
    _SOURCE.value,
    _PREDICTIONS.value,
    _THRESHOLD.value,
    _WEIGHTS.value,
  )
  if jax.process_index() == 0:
    print(json.dumps(found))


def _read_texts(model):
  """Prints a line of JSON for each of --texts."""
  for source in _TEXTS.value:
    if model.model.config.family == 'encoder':
      for name in ('window', 'stride', 'published_form'):
        if flags.FLAGS[name].value:
          raise ValueError(
            f'--{name} has no use with an encoder, which reads whole texts.'
          )
      texts = read_documents(source, _FIELD.value, _DOCUMENTS.value)
      found = pseudo_perplexity(model, texts, _BATCH.value)
    else:
      found = perplexity(
        make_writer(model), source, _WINDOW.value, _STRIDE.value,
        _DOCUMENTS.value, _FIELD.value, _FORM.value, _BATCH.value,
      )  # fmt: skip
    if jax.process_index() == 0:
      print(json.dumps({'texts': source} | found), flush=True)


def _ask(model):
  """Prints a table of the scores on --tasks."""
  values = {name: flags.FLAGS[name].value for name in asking.OPTIONS}
  settings = {name: flags.FLAGS[name].value for name in asking.SETTINGS}
  settings['shots'] = settings['shots'] or 0
  asked = asking.Asking(
    tasks=tuple(_TASKS.value),
    options=Options(**values),
    **settings,
  )
  found = asking.ask_all(model, asked, _OUT.value, _PREDICTIONS.value)
  if jax.process_index() == 0:
    print(asking.table(found))


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.')
  _FROM = flags.DEFINE_string(
    'from', '', 'A published checkpoint, in place of a run.'
  )
  _ADAPTER = adapters.define_flag()
  _PEFT = flags.DEFINE_string(
    'peft', '', "A folder with peft's LoRA for --from."
  )
  _TEXTS = flags.DEFINE_multi_string(
    'texts', (), 'A source of texts, such as textfile:wiki.test.raw.'
  )
  _FIELD = flags.DEFINE_string(
    'text_field', 'text', 'Where JSON and Parquet files have --texts.'
  )
  _WINDOW = flags.DEFINE_integer(
    'window', 0, "Tokens read at once; 0: a row's, or the checkpoint's."
  )
  _STRIDE = flags.DEFINE_integer(
    'stride', 0, 'Tokens that a window predicts; 0: all it reads.'
  )
  _DOCUMENTS = flags.DEFINE_integer(
    'documents', 0, 'How many of --texts are read; 0: all.'
  )
  _FORM = flags.DEFINE_string(
    'published_form', '', "Of --texts, taken out: wikitext's, ptb's or lm1b's."
  )
  flags.DEFINE_list(
    'lm_eval', [], 'Tasks of lm-evaluation-harness, such as lambada_openai.'
  )
  flags.DEFINE_string(
    'include_path', '', 'A folder with YAML files of tasks of your own.'
  )
  _TASKS = flags.DEFINE_list('tasks', [], 'Prompted tasks, such as lambada.')
  flags.DEFINE_string(
    'task_folder', '', 'Has the files of --tasks, as they are published.'
  )
  flags.DEFINE_integer(
    'shots', None, "Examples before each question; of --lm_eval, the task's."
  )
  flags.DEFINE_string('shots_file', '', 'A JSONL file of examples.')
  flags.DEFINE_integer('limit', 0, 'The first so many questions; 0: all.')
  flags.DEFINE_integer('samples', 1, 'Answers whose most frequent one counts.')
  flags.DEFINE_float('temperature', 0.0, 'Of answers that are drawn.')
  flags.DEFINE_integer('top_k', 0, 'Draw from so many tokens; 0: all.')
  flags.DEFINE_float('top_p', 1.0, 'Draw from the likeliest tokens with it.')
  flags.DEFINE_integer('length', 0, "Tokens of an answer; 0: the task's.")
  flags.DEFINE_integer('seed', 0, 'Of examples and answers that are drawn.')
  _BATCH = flags.DEFINE_integer('batch', 8, 'Texts that are read at once.')
  _OUT = flags.DEFINE_string('out', '', 'A JSON file for the scores.')
  _STEP = flags.DEFINE_string(
    'step',
    '',
    "A number, 'best' or 'best:TASK'; default: the newest checkpoint.",
  )
  _WEIGHTS = flags.DEFINE_enum('weights', None, *opening.WEIGHTS)
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, "configs/FILE.py[:ARG]; default: the run's config."
  )
  _SOURCE = flags.DEFINE_string(
    'source', '', "Evaluated in place of the config's: task:glue/rte@test."
  )
  _PREDICTIONS = flags.DEFINE_string(
    'predictions', '',
    "A folder: the answers to each task, in its benchmark's format, or what"
    ' each question of --tasks got.',
  )  # fmt: skip
  _THRESHOLD = flags.DEFINE_float(
    'no_answer_threshold', None,
    'How much likelier no answer may be than an answer that is given (SQuAD '
    '2.0); default: 0.',
  )  # fmt: skip
  processes.define_flags()
  command.run(main)
