"""What the papers' files share and no paper says: how a run is set up."""

from ml_collections import ConfigDict

from configs import common


def start(family: str) -> ConfigDict:
  """What a paper's file fills in, for a model of this family.

  64 readers divide every published batch. A model that generates shows four
  texts after each evaluation.
  """
  c = common.base()
  c.model.family = family
  c.data.streams = 64
  c.eval.samples = 0 if family in ('encoder', 'electra') else 4
  return c


def on_slice(
  c: ConfigDict,
  topology: str,
  slices: int = 1,
  remat: str = 'full',
  accumulate: int = 1,
  microbatches: int = 0,
  rules: str = 'auto',
  fsdp: int = -1,
  **mesh: int,
) -> None:
  """The TPU slice of a published run, and how the run goes there.

  Args:
    c: the config.
    topology: the slice, as `train.fit` names it: 'v5p:4x4x4'. docs/pods.md says
      whether the step was compiled for it, and what it takes.
    slices: how many such slices.
    remat: what the backward pass recomputes.
    accumulate: parts of a batch.
    microbatches: of a pipeline; 0: as many as stages.
    rules: how arrays are cut over the mesh.
    fsdp: size of this axis of the mesh; -1: all devices that the others leave,
      so that other slices do too.
    **mesh: sizes of other axes; those that are not named are 1.
  """
  c.sharding.topology = topology
  c.sharding.slices = slices if slices > 1 else 0
  c.sharding.microbatches, c.sharding.rules = microbatches, rules
  c.model.remat, c.train.accumulate = remat, accumulate
  sizes = dict.fromkeys(c.sharding.mesh, 1) | {'fsdp': fsdp} | mesh
  c.sharding.mesh.update(sizes)


def tiny(
  c: ConfigDict,
  steps: int = 200,
  batch: int = 16,
  warmup: int = 0,
  rate: float = 0.0,
) -> None:
  """A run of minutes on two CPU cores, on text that every machine has.

  Every paper's file has such a size, which is not a published one. A warmup or
  rate of 0 keeps the schedule's.
  """
  c.model.vocab_size = 4096
  c.model.dtype = 'float32'
  c.data.source = 'docs'
  c.data.holdout = 50
  c.data.length = 128
  c.data.batch = batch
  c.data.streams = 4
  c.schedule.warmup_steps = warmup or c.schedule.warmup_steps
  c.schedule.learning_rate = rate or c.schedule.learning_rate
  c.schedule.decay_steps, c.schedule.unit = 0, 'steps'
  c.train.steps, c.train.phases = steps, ()
  c.train.log_every = 20
  c.eval.every = 100
  c.checkpoint.every = 100


def undisclosed(name: str, ancestor_name: str, ancestor: str) -> ValueError:
  """The error for a system of which there is nothing to build."""
  file, _, size = ancestor.partition(':')
  return ValueError(
    f'The architecture of {name} was never published. Its nearest published '
    f'ancestor is {ancestor_name}: use --config=configs/{file}.py:{size} '
    'instead.'
  )
