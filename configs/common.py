"""Every config key, spelled out once; those of the model in model_keys.py.

A paper's file starts from `base()` and sets the choices of the paper. A key
that has no value is off. The run checks at its start that every key which the
choices need is set, and that no other is.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.model_keys import MODEL, Key

# The letters are those of models/__init__.py. A default of 0, '', () or False
# means that the feature is off, unless the meaning says otherwise.
# fmt: off
KEYS = {
  'seed': Key(0, 'seed of everything that is random'),

  **MODEL,

  # The data: where text comes from.
  'data.source': Key(
    str, 'json:, parquet:, text: or textfile:GLOB, tfds:NAME[@SPLIT], '
    "cache:DIR, task:NAME, preferences:GLOB, docs or synthetic; '' if there "
    'is a mixture'),
  'data.text_field': Key(
    'text', 'json, parquet and tfds: the field that holds the text'),
  'data.mixture': Key(
    (), '(source, rate) of each source; rate is its share of the rows'),
  'data.rates': Key(
    'given', 'how to read the rates of a mixture. given: shares; examples: '
    'counts of examples, 0 to count them; equal: all are the same',
    ('given', 'examples', 'equal')),
  'data.rate_cap': Key(0, 'the largest count of examples; 0: any'),
  'data.rate_temperature': Key(1.0, 'rates are counts to the power 1 / this'),
  'data.task_folder': Key(
    '', "tasks' files as their authors publish them; '': from TFDS"),
  'data.chat_template': Key(
    '', "how chats are written: plain, chatml, llama2, llama3, own (of the "
    "tokenizer's files) or a Jinja file; '': as --from has it, or plain"),
  'data.shots': Key(
    0, 'flan/ tasks: the most worked examples before a question'),
  'data.shot_share': Key(0.0, 'flan/ tasks: share with worked examples'),
  'data.option_share': Key(0.0, 'flan/ tasks: share that lists the options'),
  'data.inverted_share': Key(
    0.0, 'flan/ tasks: share that asks for a part of the example, given the '
    'answer'),
  'data.documents': Key(0, 'read only the first ones of a source; 0: all'),
  'data.epochs': Key(0, 'how often each document is read; 0: without end'),
  'data.holdout': Key(
    0, 'every holdout-th document is kept for evaluation; 0: none'),
  'data.max_bad_share': Key(
    0.001, 'largest share of unreadable documents, of at least 1,000'),
  # How it is tokenized.
  'data.tokenizer': Key(
    '', "a file or a folder; '': one is trained on the source"),
  'data.tokenizer_kind': Key('unigram', 'kind of a trained tokenizer', (
    'unigram', 'bpe', 'wordpiece', 'byte_bpe', 'bytes')),
  'data.lowercase': Key(False, 'wordpiece: no capitals and no accents'),
  'data.normalization': Key(
    '', "trained unigram and bpe: their normalisation; '' is nmt_nfkc for a "
    'unigram that is not lossless, and none for others',
    ('', 'none', 'nfkc', 'nmt_nfkc')),
  'data.lossless': Key(
    False, 'a trained unigram keeps white space, splits digits and spells rare '
    'characters in bytes; other kinds but wordpiece always do'),
  'data.sentinels': Key(0, 'pieces <extra_id_N> of the vocabulary'),
  'data.borrow_sentinels': Key(
    False, 'spans beyond data.sentinels are marked by ordinary pieces, from '
    "the last one down, as in T5's published code"),
  # What is learnt.
  'data.objective': Key(str, 'what is made of a text', (
    'causal', 'prefix', 'span_corruption', 'iid_spans', 'drop_tokens',
    'bert_style', 'mass_style', 'deshuffling', 'ul2', 'text_to_text', 'mlm',
    'sentence_pairs', 'full_sentences', 'doc_sentences', 'classification',
    'regression', 'choice', 'tagging', 'span', 'preference', 'desirable',
    'reward', 'in_context')),
  'data.framing': Key(
    '', 'the special tokens around the texts of a task', ('', 'bert', 'roberta',
    'gpt1')),
  'data.choices': Key(0, 'C, pairs of texts of an example of a choice'),
  'data.orders': Key(
    '', 'orders of two texts that are read: their own; each, as two training '
    'examples; both, as one whose two outputs are added', ('', 'each', 'both')),
  'data.label_scale': Key(0.0, 'regression: labels are divided by this'),
  'data.prompts': Key(
    '', 'in_context: what the examples of a prompt are of',
    ('', 'linear', 'copying', 'classification')),
  'data.dimensions': Key(
    0, 'in_context: numbers (linear) or symbols (classification) of an x'),
  'data.loss_on_inputs': Key(
    False, 'a decoder learns the inputs of pairs too, not the targets alone'),
  'data.noise_density': Key(0.0, 'share of tokens that is corrupted or masked'),
  'data.mean_span_length': Key(0.0, 'mean length of a corrupted span'),
  'data.target_length': Key(0, "T, if the objective's targets vary in length"),
  'data.denoisers': Key(
    (), "UL2: (mode, noise density, mean span or 'iid', share of the rows) of "
    'each; mean span 0: up to the end, with density 0 of a prefix, 1 of all'),
  'data.predictions': Key(0, 'P, the most masked tokens in a row'),
  'data.masking': Key('', 'whose rule decides how many tokens are masked', (
    'bert', 'roberta', 'electra')),
  'data.masked_share': Key(0.0, 'share of the chosen tokens that read [MASK]'),
  'data.random_share': Key(0.0, 'share of them that read a random token'),
  'data.whole_words': Key(False, 'mask whole words'),
  'data.duplicates': Key(
    0, 'n: epochs e and e + n have the same masks; 0: no two epochs have'),
  'data.short_share': Key(0.0, 'share of the documents with shorter pairs'),
  'data.single_sentences': Key(
    False, 'sentence_pairs: both parts are one sentence, not several'),
  # Rows and batches.
  'data.batch': Key(int, 'rows of a batch, over all devices and hosts'),
  'data.length': Key(
    int, 'tokens of a row; of an encoder-decoder, tokens of the inputs'),
  'data.concatenate': Key(True, 'join documents before cutting rows'),
  'data.start': Key(
    'pad', 'what a text begins with, or the id of a token; none: rows are '
    'windows of length + 1 tokens', ('none', 'bos', 'eos', 'pad')),
  'data.bos': Key(-1, "the id of BOS; -1: the vocabulary's own"),
  'data.pack': Key(True, 'put short examples together in a row'),
  'data.block': Key(
    0, 'documents of a chunk, which is read, shuffled and packed together; 0: '
    '128, or length / 32 if that is more'),
  'data.document_tokens': Key(
    0, 'a longer document gives one random piece of this length; 0: all of it'),
  'data.streams': Key(
    8, 'independent readers, which take turns at the rows'),
  'data.threads': Key(
    0, 'threads that read; 0: one a core; only the speed depends on them'),

  # The optimizer.
  'optimizer.name': Key(
    str, 'the optimizer', ('adafactor', 'adamw', 'lamb', 'lion', 'muon')
  ),
  'optimizer.clip': Key(0.0, 'largest global norm of the gradients; 0: any'),
  'optimizer.weight_decay': Key(
    float, 'weights shrink by this times the learning rate (AdamW), or times '
    'its square (Adafactor)'),
  'optimizer.decay': Key('matrices', 'weights that decay', ('matrices', 'all')),
  'optimizer.decay_except': Key(
    (), 'parts of the names of those that do not: embed, mlp/output, ...'),
  'optimizer.b1': Key(float, 'decay of the first moment'),
  'optimizer.b2': Key(float, 'AdamW: decay of the second moment'),
  'optimizer.epsilon': Key(float, 'AdamW: added to the root'),
  'optimizer.bias_correction': Key(bool, 'AdamW: correct both moments'),
  'optimizer.decay_rate': Key(
    float, 'Adafactor: exponent of the decay of the second moment'),
  'optimizer.epsilon1': Key(float, 'Adafactor: added to squared gradients'),
  'optimizer.epsilon2': Key(float, 'Adafactor: least scale of a parameter'),
  'optimizer.clip_threshold': Key(float, 'Adafactor: largest RMS of an update'),
  'optimizer.factor_from': Key(
    int, 'Adafactor: least size of dimensions that are factored'),
  'optimizer.parameter_scale': Key(
    bool, 'Adafactor: rates are relative to the scale of a parameter'),
  'optimizer.moments_dtype': Key(
    'float32', 'type in which moments are kept; bfloat16 is rounded at random',
    ('float32', 'bfloat16')),
  'optimizer.multipliers': Key(
    {}, 'AdamW: factors of the learning rate, by name of the parameter'),
  'optimizer.momentum': Key(
    float, "Muon: decay of the mean of the layers' matrices' gradients"),
  'optimizer.matrix_rate': Key(
    float, "Muon: factor of the layers' matrices' learning rate"),

  # What is trained.
  'tuning.train': Key('all', 'which parameters are trained', (
    'all', 'lora', 'adapters', 'head', 'unfreezing', 'two_stage')),
  'tuning.rank': Key(0, 'lora: R, the rank of the change of a matrix'),
  'tuning.alpha': Key(0.0, 'lora: the change is alpha / R times A B'),
  'tuning.matrices': Key(
    (), 'lora: which matrices change: attention/query, mlp/output, ...'),
  'tuning.base_dtype': Key(
    '', 'lora, adapters, head: the type that frozen matrices are kept in',
    ('', 'bfloat16')),
  'tuning.layer_decay': Key(
    0.0, 'factor of the rate from a layer to the one below; 0: one rate'),

  # Alignment: python -m train.align.
  'align.method': Key('', 'what is minimised in place of the usual loss', (
    '', 'reward', 'dpo', 'ipo', 'kto', 'orpo', 'simpo', 'ppo', 'grpo', 'rloo',
    'filter')),
  'align.beta': Key(
    0.0, 'dpo, ipo, kto: how much the distance to the reference counts; simpo: '
    'factor of the log-probabilities; orpo: weight of the odds ratio; ppo, '
    'rloo: what a nat of KL takes from the reward; grpo: weight of the KL'),
  'align.margin': Key(
    0.0, 'simpo: gamma, by how much the chosen answer must be better'),
  'align.desirable_weight': Key(0.0, 'kto: weight of desirable answers'),
  'align.undesirable_weight': Key(0.0, 'kto: weight of the others'),
  # Of answers that are written and rewarded: ppo, grpo, rloo, filter.
  'align.rewards': Key(
    (), '(name, factor) of each part of the reward: exact, number, regex, '
    'tests, FILE.py:FUNCTION or model:WORKDIR (docs/reinforcement.md)'),
  'align.filters': Key(
    (), 'filter: (name, least) of what an answer must have, as of rewards'),
  'align.reward_seconds': Key(
    0.0, 'seconds that a function, a pattern or a test has for an answer'),
  'align.reward_memory': Key(0, 'MiB of memory that its process may take'),
  'align.samples': Key(0, 'G, how many answers are written to each prompt'),
  'align.answer_length': Key(0, 'the most tokens of an answer, with its end'),
  'align.epochs': Key(0, 'how often the answers of a batch are learned from'),
  'align.minibatches': Key(0, 'into how many updates an epoch is cut'),
  'align.clip': Key(
    0.0, 'how far from 1 the ratio of new to old probability counts'),
  'align.value_clip': Key(0.0, 'ppo: how far from the old a value counts'),
  'align.value_weight': Key(0.0, "ppo: weight of the values' loss"),
  'align.discount': Key(0.0, 'ppo: gamma, of rewards to come'),
  'align.gae_decay': Key(0.0, 'ppo: lambda, of advantages'),
  'align.kl_target': Key(
    0.0, 'ppo, rloo: the KL of an answer, in nats, that beta is adapted to; 0: '
    'beta is fixed'),

  # The learning rate.
  'schedule.name': Key(str, 'how the rate changes', (
    'constant', 'inverse_sqrt', 'noam', 'linear', 'linear_from_start',
    'linear_throughout', 'cosine', 'exponential', 'wsd', 'wsd_linear')),
  'schedule.learning_rate': Key(
    float, 'the largest rate; inverse_sqrt and noam: their factor'),
  'schedule.unit': Key(
    'steps', 'what the next keys count; tokens: rows times their length',
    ('steps', 'rows', 'tokens')),
  'schedule.warmup_steps': Key(int, 'how long the warm-up takes'),
  'schedule.end_fraction': Key(float, 'the last rate, a share of the largest'),
  'schedule.constant_steps': Key(
    int, 'exponential, wsd: how long before the decay, warm-up included'),
  'schedule.decay_steps': Key(0, 'where the decay ends; 0: at train.steps'),
  'schedule.restarts': Key(
    (), '(step, rate, steps of warm-up) of each point where it begins again'),
  'schedule.first_step': Key(
    0, 'of a run that goes on from another one: the step whose rate is its '
    'first rate'),

  # Training, evaluation and checkpoints.
  'train.steps': Key(int, 'updates of the parameters'),
  'train.phases': Key(
    (), '((unit, until), batch, length, predictions, objective) of each phase '
    "before the last, which data.* describes; 0 and '' are as there; units: "
    'steps, rows, tokens'),
  'train.epochs': Key(
    0.0, 'train.finetune: how often each example is read, for train.steps'),
  'train.warmup_share': Key(
    0.0, 'train.finetune: warm-up as a share of train.steps'),
  'train.accumulate': Key(1, 'parts of a batch that are computed in turn'),
  'train.accumulate_dtype': Key(
    'float32', 'type of the sum of their gradients', ('float32', 'bfloat16')),
  'train.z_loss': Key(0.0, 'factor of the loss log^2 Z'),
  'train.label_smoothing': Key(0.0, 'probability spread over all tokens'),
  'train.max_logit_loss': Key(0.0, 'factor of (largest logit)^2 / 2'),
  'train.dropout_until': Key(
    0, 'the step from which on nothing is dropped (ALBERT: Lan et al. 2020, '
    '4.8); 0: there is none'),
  'train.ema_decay': Key(
    0.0, 'decay of a moving average of the parameters, which evaluations use; '
    '0: there is none'),
  'train.spike_factor': Key(
    0.0, 'a loss above this times the median of the last train.spike_window '
    'steps is a spike, after which the run goes back (PaLM, Chowdhery et al. '
    '2022, 5.1); 0: none is looked for'),
  'train.spike_window': Key(0, 'steps whose median loss it is'),
  'train.spike_back': Key(
    0, 'steps that the run goes back from a spike; PaLM: about 100'),
  'train.spike_skip': Key(
    0, 'batches that it skips there; PaLM: about 200 to 500'),
  'train.loss_chunk': Key(
    -1, 'tokens of a row whose logits are in memory together; 0: all; -1: all '
    'if the float32 logits take at most 1 GiB on a device, else as many as '
    'take 256 MiB'),
  'train.log_every': Key(100, 'steps between rows of metrics'),
  'eval.source': Key('', "'': the held-out documents of data.source"),
  'eval.sources': Key(
    (), 'further texts that are evaluated too, each with its own numbers: '
    "pairs (name, source) such as ('wiki', 'textfile:wiki.txt')"),
  'eval.every': Key(10_000, 'steps between evaluations'),
  'eval.batches': Key(0, 'the most batches to evaluate; 0: the whole split'),
  'eval.samples': Key(0, 'rows that are decoded after an evaluation'),
  'eval.beams': Key(
    1, 'for tasks of free text (summaries, translations), the texts that are '
    'searched at once; 1: the likeliest token is taken, as for other tasks'),
  'eval.ranked': Key(
    False, 'tasks in words that list their options (task:flan/NAME): whether '
    'the likeliest option is the answer, as in the first FLAN; else the model '
    'writes it'),
  'eval.length_penalty': Key(
    0.6, 'with eval.beams, larger values prefer longer texts (GNMT, 7)'),
  'checkpoint.every': Key(5_000, 'steps between checkpoints'),
  'checkpoint.keep': Key(2, 'how many of the newest checkpoints are kept'),
  'checkpoint.keep_every': Key(
    0, 'checkpoints at multiples of this are kept too; 0: none'),
  'checkpoint.best': Key(
    '', "the best by this metric is kept too: loss, ...; by score each task's"),

  # Devices.
  'sharding.rules': Key(
    'auto', 'how arrays are cut over the mesh: auto, along every axis larger '
    'than 1; replicated; or some of fsdp, zero1, sequence, tensor, stage, '
    "joined by '_'"),
  'sharding.microbatches': Key(
    0, 'stage: into how many parts a batch (or part of train.accumulate) is '
    'cut that follow one another through the stages; 0: as many as stages'),
  'sharding.repeats': Key(
    1, 'stage: how many groups of layers each stage has, which do not follow '
    'one another: more idle less, and send more'),
  'sharding.slices': Key(
    0, 'groups of devices, such as nodes, with a slow network between them, '
    'over which data and stage may lie; 0: TPU slices say, others are one'),
  'sharding.topology': Key(
    '', 'the TPU slice of the published run, such as v5p:4x4x4 (docs/pods.md); '
    'train.fit takes it, training does not read it'),
  'sharding.context': Key(
    'gather', 'how a query sees keys of other devices where mesh.sequence cuts '
    'rows: gather, each device gets them all; ring, they are passed around'),
  'sharding.compiler_options': Key(
    (), "XLA's options for the training step, each NAME=VALUE; those of "
    "another platform (xla_tpu_..., xla_gpu_...) are left out"),
  'sharding.mesh.data': Key(-1, 'size of this axis; -1: all other devices'),
  **{f'sharding.mesh.{axis}': Key(1, 'size of this axis') for axis in (
    'fsdp', 'sequence', 'tensor', 'expert', 'stage')},
}
# fmt: on


def base() -> ConfigDict:
  """A config with every key and its default, unlocked: `finish` locks it."""
  config = {}
  for key, (default, *_) in KEYS.items():
    *groups, name = key.split('.')
    group = config
    for part in groups:
      group = group.setdefault(part, {})
    group[name] = placeholder(default) if isinstance(default, type) else default
  return ConfigDict(config)


def finish(config: ConfigDict) -> ConfigDict:
  """Locks a config: from here on an unknown key is an error."""
  return config.lock()
