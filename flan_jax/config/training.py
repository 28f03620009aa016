"""What a run is, as frozen dataclasses that gin fills. Standard library only."""

import dataclasses
import math

from flan_jax.catalog.prompt_style import FORMS, MOST_SHOTS
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, NORMALISATIONS, Decoding
from flan_jax.errors import InputError, did_you_mean

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]
"""Logical axis name -> mesh axis, several, or None (replicated)."""

DATA_PARALLEL: Rules = (
  ('activation_batch', ('data', 'fsdp')),
  ('activation_length', None),
  ('activation_embed', None),
  ('activation_heads', 'model'),
  ('activation_mlp', 'model'),
  ('activation_vocab', 'model'),
  ('embed', 'fsdp'),
  ('vocab', 'model'),
  ('mlp', 'model'),
  ('heads', 'model'),
  ('kv_heads', 'model'),
  ('kv', None),
  ('layers', None),
  ('relpos_buckets', None),
  ('norm', None),
  ('lora_rank', None),
)

MESH_AXES = ('data', 'fsdp', 'model')

LORA_TARGETS = ('query', 'key', 'value', 'output', 'gate', 'up', 'down')
"""Matrices of a layer that may have an adapter."""


def _one_of(name: str, got: str, legal: tuple[str, ...], *, field: str) -> None:
  if got not in legal:
    raise InputError(
      f'{name}: got {got!r}; must be one of {", ".join(legal)}'
      + did_you_mean(got, legal),
      field=field,
    )


def _nearest_divisor(number: int, to: int) -> int:
  divisors = (n for n in range(1, number + 1) if number % n == 0)
  return min(divisors, key=lambda n: abs(n - to))


def _at_least(name: str, got: float, least: float, *, field: str) -> None:
  if got < least:
    message = f'{name}: got {got:,}; must be {least:,} or more'
    raise InputError(message, field=field)


def _seed(name: str, got: int, *, field: str) -> None:
  if not 0 <= got < 2**32:
    nearest = min(max(got, 0), 2**32 - 1)
    raise InputError(
      f'{name}: got {got}; must be 0 to {2**32 - 1}; the nearest is {nearest}',
      field=field,
    )


def _named(name: str, got: str, *, field: str) -> None:
  if not got:
    message = f'{name}: got an empty name; must be a folder, as runs/mine'
    raise InputError(message, field=field)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """How the devices are laid out and what each logical axis is split over.

  Attributes:
    data: devices along the batch; -1 takes all that the other axes leave.
    fsdp: devices along the batch and the parameters' `embed` axis.
    model: devices along heads, mlp and vocabulary.
    rules: logical axis -> mesh axis; the first rule of a name that fits is used, and of
      two names of one array that want the same axis, the one whose rule comes first.
    along: the axes along the torus of a TPU slice, as 'fsdp=x2i.c model=x4.y' (see
      flan_jax.partitioning.torus); None leaves that to JAX. Elsewhere it means nothing.
  """

  data: int = -1
  fsdp: int = 1
  model: int = 1
  rules: Rules = DATA_PARALLEL
  along: str | None = None

  def __post_init__(self):
    logical = [name for name, _ in DATA_PARALLEL]
    for name, over in self.rules:
      _one_of('Mesh.rules', name, tuple(logical), field='rules')
      for axis in (over,) if isinstance(over, str) else over or ():
        over_what = f'Mesh.rules: mesh axis of {name!r}'
        _one_of(over_what, axis, MESH_AXES, field='rules')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """Adafactor (Shazeer and Stern 2018) as t5x runs it, and its schedule.

  Attributes:
    learning_rate: of the constant part of the schedule (FLAN section 2.4: 3e-5).
    schedule: 'constant', or 'rsqrt': learning_rate * sqrt(warmup / step) after it.
    warmup_steps: linear warm-up from 0; 0 for none.
    decay_rate: second moments decay by 1 - step ** -decay_rate.
    multiply_by_parameter_scale: updates relative to each parameter's RMS, but for
      parameters that begin at zero; None: so where the whole model is tuned, and not
      where adapters are (LORA_RANK).
    clipping_threshold: largest RMS of one parameter's update; None for none.
    clip_global_norm: largest norm of the whole gradient; None for none.
    momentum: decay of the first moment; None for none.
    weight_decay: decay per step, not scaled by the learning rate; None for none.
  """

  learning_rate: float = 3e-5
  schedule: str = 'constant'
  warmup_steps: int = 0
  decay_rate: float = 0.8
  multiply_by_parameter_scale: bool | None = None
  clipping_threshold: float | None = 1.0
  clip_global_norm: float | None = None
  momentum: float | None = None
  weight_decay: float | None = None

  def __post_init__(self):
    known = ('constant', 'rsqrt')
    _one_of('Optimizer.schedule', self.schedule, known, field='schedule')
    _at_least('Optimizer.warmup_steps', self.warmup_steps, 0, field='warmup_steps')
    if not 0 < self.learning_rate < math.inf:
      raise InputError(
        f'Optimizer.learning_rate: got {self.learning_rate}; must be above 0, as 3e-5',
        field='learning_rate',
      )

  def scales(self, lora: 'Lora') -> bool:
    """Whether updates are relative to each parameter's RMS, beside these adapters."""
    if self.multiply_by_parameter_scale is None:
      return not lora.rank
    return self.multiply_by_parameter_scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters in place of full tuning (Hu et al. 2021, arXiv 2106.09685).

  Attributes:
    rank: of the matrix that is added to each weight matrix; 0 tunes the whole model.
    alpha: what is added is scaled by alpha / rank.
    targets: matrices of every layer that get an adapter, of query, key, value, output,
      gate, up and down; None for all that the model has.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: tuple[str, ...] | None = None

  def __post_init__(self):
    _at_least('LORA_RANK', self.rank, 0, field='rank')
    if self.alpha <= 0:
      message = f'Lora.alpha: got {self.alpha}; must be above 0'
      raise InputError(message, field='alpha')
    for name in self.targets or ():
      _one_of('Lora.targets', name, LORA_TARGETS, field='targets')
    if self.targets == ():
      message = 'Lora.targets: got (); must name one or more, or be None'
      raise InputError(message, field='targets')
    for setting in dataclasses.fields(self) if not self.rank else ():
      got = getattr(self, setting.name)
      if got != setting.default:
        raise InputError(
          f'Lora.{setting.name}: got {got!r} with LORA_RANK 0, which tunes every '
          'weight and has no adapters; give --gin.LORA_RANK=8, or leave it out',
          field=setting.name,
        )

  @property
  def scale(self) -> float:
    """What the product of an adapter's two matrices is multiplied by."""
    return self.alpha / self.rank


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
  """The held-out evaluation.

  Attributes:
    max_rows: most rows of test, and as many of dev, per dataset; None for all.
    templates: most templates per dataset, of each direction of a translation; None for
      every one not turned around.
    batch_rows: rows of one scoring batch; rounded up to what the mesh divides.
    row_length: tokens of one scoring row; prompts are cut to fit with their options.
    max_decode: most tokens of a generated answer.
    normalisation: what the score of an option is divided by: 'none', 'token' or
      'byte', or compared with: 'unconditional' (evaluate.scoring.Scorer).
    decoding: how free text is written; greedily unless said otherwise.
    base: whether the untuned model is measured beside the tuned one.
    shots: most exemplars before each prompt (FLAN section 4.4); 0 for zero-shot.
    form: the words of the prompts: 'instructions', or 'no_options', 'no_template',
      'dataset_name' (the ablations of section 4.3), or 'continuation'.
    base_form: the words that the untuned model reads; None for the same.
      'continuation' is a prompt that the answer goes on from, for a model that was
      never told to follow instructions.
    period: training steps between two looks at dev of the held-out clusters; None for
      none before the end.
    period_rows: rows of each dataset in such a look, by their first template.
  """

  max_rows: int | None = None
  templates: int | None = None
  batch_rows: int = 8
  row_length: int = 2048
  max_decode: int = 256
  normalisation: str = 'none'
  decoding: Decoding = GREEDY
  base: bool = True
  shots: int = 0
  form: str = 'instructions'
  base_form: str | None = None
  period: int | None = None
  period_rows: int = 64

  def __post_init__(self):
    legal = NORMALISATIONS
    _one_of('NORMALISATION', self.normalisation, legal, field='normalisation')
    forms = (*FORMS, 'continuation')
    _one_of('FORM', self.form, forms, field='form')
    if self.base_form is not None:
      _one_of('BASE_FORM', self.base_form, forms, field='base_form')
    if not 0 <= self.shots <= MOST_SHOTS:
      nearest = min(max(self.shots, 0), MOST_SHOTS)
      raise InputError(
        f'SHOTS: got {self.shots}; must be 0 to {MOST_SHOTS}; the nearest is {nearest}',
        field='shots',
      )
    for name, field in (
      ('MAX_ROWS', 'max_rows'),
      ('TEMPLATES', 'templates'),
      ('EVAL_PERIOD', 'period'),
      ('Evaluate.period_rows', 'period_rows'),
      ('Evaluate.batch_rows', 'batch_rows'),
      ('Evaluate.row_length', 'row_length'),
      ('Evaluate.max_decode', 'max_decode'),
    ):
      value = getattr(self, field)
      if value is not None:
        _at_least(name, value, 1, field=field)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One training run, from data to report.

  Attributes:
    model_dir: where checkpoints, logs and the report go.
    mixture: what trains: a mixture or a single task.
    model: the decoder's shape; None takes it from `initial_checkpoint`.
    train_steps: optimizer steps.
    batch_tokens: positions per step; batch_tokens / row_length rows.
    row_length: positions per row, packed.
    pack: several examples in one row.
    initial_checkpoint: a folder of ours to start from; None starts at random.
    held_out: clusters to evaluate at the end, or one of them; () for no evaluation,
      None for those that the mixture holds out.
    accept: datasets or clusters that may train although they share something with a
      held-out cluster; the guard records them.
    store: rendered examples; None makes them in model_dir/store.
    tokenizer: a file, `bytes`, or `train` to train one on the rendered rows;
      None takes the initial checkpoint's own, or trains one.
    vocab_size: pieces of a tokenizer that is trained.
    tfds_data_dir: raw data; None for TFDS's default.
    missing: 'refuse' or 'skip' datasets that are not prepared.
    seed: of everything random in training: parameters, adapters, the draw of the
      mixture, the order and packing of its examples, stochastic rounding.
    template_seed: of the store: which template each example gets. Runs of several
      seeds share one store.
    eval_seed: of the evaluation: the sample of rows, exemplars and the bootstrap. Runs
      of several seeds are measured on the same examples.
    accumulation: microbatches a step is computed in.
    z_loss: weight of log(Z)**2 per loss token.
    head_chunk: positions of a row whose logits exist at a time, those with a loss
      first, and none that has no loss but for filling a chunk; None for a whole row. It
      spares memory and time where the vocabulary is large, and changes no loss.
    attention_kernel: 'splash' trains with JAX's TPU kernel of that name (v4 and later;
      causal models without a position bias), 'cudnn' with cuDNN's on NVIDIA GPUs (in
      bfloat16); 'xla' with what XLA makes of dense masks.
    gradient_dtype: 'bfloat16' halves the gradients of a step (not the sum of several
      microbatches, which is float32); None leaves them in the parameters' dtype.
    log_period: steps between log lines.
    checkpoint_period: steps between checkpoints.
    keep: how many checkpoints are kept.
    bad_step: what becomes of a step whose loss or gradient is not finite, or whose loss
      spikes: 'stop' ends the run, 'skip' leaves the parameters as they are and counts.
    spike: a loss above so many times its running average is a spike; None for none.
    hang_s: seconds without a step after which every thread's stack is dumped; 0 never.
  """

  model_dir: str
  mixture: str
  model: DecoderConfig | None = None
  train_steps: int
  batch_tokens: int
  row_length: int
  pack: bool = True
  initial_checkpoint: str | None = None
  held_out: str | tuple[str, ...] | None = None
  accept: str | tuple[str, ...] | None = None
  store: str | None = None
  tokenizer: str | None = None
  vocab_size: int = 32_000
  tfds_data_dir: str | None = None
  missing: str = 'refuse'
  seed: int = 0
  template_seed: int = 0
  eval_seed: int = 0
  accumulation: int = 1
  z_loss: float = 0.0
  head_chunk: int | None = None
  attention_kernel: str = 'xla'
  gradient_dtype: str | None = None
  log_period: int = 10
  checkpoint_period: int = 1_000
  keep: int = 2
  bad_step: str = 'stop'
  spike: float | None = None
  hang_s: float = 1_800.0
  mesh: Mesh = Mesh()
  optimizer: Optimizer = Optimizer()
  lora: Lora = Lora()
  evaluate: Evaluate = Evaluate()

  def __post_init__(self):
    _named('MODEL_DIR', self.model_dir, field='model_dir')
    _one_of('MISSING', self.missing, ('refuse', 'skip'), field='missing')
    _one_of('Run.bad_step', self.bad_step, ('stop', 'skip'), field='bad_step')
    if self.spike is not None and self.spike <= 1:
      raise InputError(
        f'Run.spike: got {self.spike}; must be None or above 1, as 3.0 for three times '
        'the average',
        field='spike',
      )
    _seed('SEED', self.seed, field='seed')
    _seed('TEMPLATE_SEED', self.template_seed, field='template_seed')
    _seed('EVAL_SEED', self.eval_seed, field='eval_seed')
    for name, field, least in (
      ('Run.hang_s', 'hang_s', 0),
      ('Run.z_loss', 'z_loss', 0),
      ('Run.vocab_size', 'vocab_size', 1),
      ('TRAIN_STEPS', 'train_steps', 0),
      ('ROW_LENGTH', 'row_length', 8),
      ('BATCH_TOKENS', 'batch_tokens', self.row_length),
      ('Run.accumulation', 'accumulation', 1),
      ('Run.log_period', 'log_period', 1),
      ('Run.checkpoint_period', 'checkpoint_period', 1),
      ('Run.keep', 'keep', 1),
    ):
      _at_least(name, getattr(self, field), least, field=field)
    if self.batch_tokens % self.row_length:
      nearest = round(self.batch_tokens / self.row_length) * self.row_length
      raise InputError(
        f'BATCH_TOKENS: got {self.batch_tokens:,}; must be rows x ROW_LENGTH '
        f'({self.row_length:,}); the nearest is {nearest:,}',
        field='batch_tokens',
      )
    kernels = ('xla', 'splash', 'cudnn')
    kernel = self.attention_kernel
    _one_of('Run.attention_kernel', kernel, kernels, field='attention_kernel')
    if self.gradient_dtype is not None:
      legal = ('float32', 'bfloat16')
      got = self.gradient_dtype
      _one_of('Run.gradient_dtype', got, legal, field='gradient_dtype')
    if self.batch_rows % self.accumulation:
      nearest = _nearest_divisor(self.batch_rows, self.accumulation)
      raise InputError(
        f'Run.accumulation: got {self.accumulation}; must divide the '
        f'{self.batch_rows} rows of a step; the nearest is {nearest}',
        field='accumulation',
      )
    if self.head_chunk is not None and (
      self.head_chunk < 1 or self.row_length % self.head_chunk
    ):
      nearest = _nearest_divisor(self.row_length, self.head_chunk)
      raise InputError(
        f'Run.head_chunk: got {self.head_chunk}; must divide ROW_LENGTH '
        f'({self.row_length:,}); the nearest is {nearest}',
        field='head_chunk',
      )
    if self.lora.rank and self.initial_checkpoint is None:
      raise InputError(
        f'LORA_RANK: got {self.lora.rank}, and no model to adapt; give '
        '--gin.INITIAL_CHECKPOINT_PATH=FOLDER',
        field='Lora.rank',
      )

  @property
  def batch_rows(self) -> int:
    """Rows of one step, over all hosts."""
    return self.batch_tokens // self.row_length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """One evaluation of a checkpoint, apart from any run.

  Attributes:
    checkpoint: a model folder, the MODEL_DIR of a finished run, a Hugging Face folder
      or a GGUF file; the latter two are converted once, into `converted` beside
      output_dir.
    output_dir: where report.json, report.html and predictions.jsonl go.
    clusters: to measure; () where `datasets` names them one by one.
    datasets: to measure, beside those of `clusters`.
    accept: datasets or clusters that may have trained although they share something
      with what is measured; the guard records them.
    base_checkpoint: measured on the same rows and prompts, or None.
    family: the world of the datasets.
    store: a store with the evaluation rows; None reads the raw data.
    tokenizer: None for the checkpoint's own.
    tfds_data_dir: raw data; None for TFDS's default.
    missing: 'refuse' or 'skip' datasets that are not prepared.
    seed: of the sample of rows, of the exemplars and of the test of a
      difference.
    contamination: stores and folders of text to look for the measured rows in, n-gram
      by n-gram; () for none.
    ngram: words of such an n-gram (FLAN appendix C: 13).
    mesh: how the devices of all hosts are laid out.
    evaluate: how.
  """

  checkpoint: str
  output_dir: str
  clusters: str | tuple[str, ...] = ()
  datasets: str | tuple[str, ...] = ()
  accept: str | tuple[str, ...] | None = None
  base_checkpoint: str | None = None
  family: str = 'flan'
  store: str | None = None
  tokenizer: str | None = None
  tfds_data_dir: str | None = None
  missing: str = 'refuse'
  seed: int = 0
  contamination: str | tuple[str, ...] = ()
  ngram: int = 13
  mesh: Mesh = Mesh()
  evaluate: Evaluate = Evaluate()

  def __post_init__(self):
    if not 2 <= self.ngram <= 64:
      raise InputError(
        f'Evaluation.ngram: got {self.ngram}; must be 2 to 64; the nearest is '
        f'{min(max(self.ngram, 2), 64)}',
        field='ngram',
      )
    _named('OUTPUT_DIR', self.output_dir, field='output_dir')
    _seed('EVAL_SEED', self.seed, field='seed')
    _one_of('MISSING', self.missing, ('refuse', 'skip'), field='missing')
    families = ('flan', 'microworld')
    _one_of('Evaluation.family', self.family, families, field='family')
    if not self.clusters and not self.datasets:
      raise InputError(
        "CLUSTERS: not set, nor DATASETS; name one, as in --gin.CLUSTERS='nli'",
        field='clusters',
      )
