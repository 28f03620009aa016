"""Training settings: frozen dataclasses that gin fills. Standard library only."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

from flan_jax.config import functions
from flan_jax.config.checks import (
  INT32,
  MAX_LENGTH,
  YEAR_S,
  at_least,
  count,
  feature_lengths,
  folder,
  nearest_divisor,
  one_of,
  or_none,
  share,
  uint32,
)
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.evaluation import MISSING, EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.optimizer import OF_MODEL, Lora, OptimizerConfig
from flan_jax.config.recipe import Recipe
from flan_jax.config.setting import check_fields, label, refusal, setting

CHANGES_NO_STEP = (
  'train_steps',
  'eval_seed',
  'tfds_data_dir',
  'store',
  'log_period',
  'checkpoint_period',
  'keep',
  'bad_step',
  'loss_spike',
  'writers',
  'hooks',
  'hang_s',
  'base_responses',
  'mesh',
  'evaluate',
)
"""Settings that do not change what a step computes: a run may resume with others."""


def _loss_spike(value: float | None) -> str:
  legal = value is None or 1 < value < math.inf
  return '' if legal else 'must be None or above 1, as 3.0 for three times the average'


def _validation(value: str | float | None) -> str:
  legal = value is None or isinstance(value, str) or abs(value) <= INT32
  return '' if legal else 'must be a file, a share, as 0.05, or a number of examples'


def _complete(value: OptimizerConfig | Recipe) -> str:
  if not isinstance(value, Recipe):
    return ''
  if not value.called:
    return f'must be called; the nearest is {value}()'
  missing = value.missing(offered=OF_MODEL)
  return f'must have values for {", ".join(missing)}' if missing else ''


def _of_three(value: Recipe | None) -> str:
  """Rule of a loss: a function with what else it needs bound in gin."""
  if value is None:
    return ''
  if value.called:
    return f'must not be called; the nearest is {str(value).removesuffix("()")}'
  positional = functions.find(value.name).by_position[:3]
  if len(positional) < 3:
    return 'must be a function of (logits, targets, mask)'
  missing = value.missing(given=positional)
  return f'must have values for {", ".join(missing)}' if missing else ''


def _called(value: tuple[Recipe, ...]) -> str:
  """Rule of hooks: each is made when the run is built."""
  for recipe in value:
    if not recipe.called:
      return f'must be called; the nearest is {recipe}()'
    if missing := recipe.missing():
      return f'must have values for {", ".join(missing)}'
  return ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
  """One training step and its mesh: settings of TrainConfig.

  TrainConfig checks each of them; here they are checked against one another.

  Attributes:
    batch_size: sequences of a step, over all processes.
    others: as in TrainConfig.
  """

  SELECTOR: ClassVar[str] = 'Run'

  batch_size: int
  sequence_length: int
  accumulation: int
  z_loss: float
  label_smoothing: float
  loss: Recipe | None
  freeze: tuple[str, ...]
  logits_chunk: int | None
  attention_kernel: str
  gradient_dtype: str | None
  bad_step: str
  loss_spike: float | None
  seed: int
  mesh: MeshConfig
  optimizer: OptimizerConfig | Recipe
  lora: Lora

  def __post_init__(self):
    if self.batch_size % self.accumulation:
      nearest = nearest_divisor(self.batch_size, self.accumulation)
      raise refusal(
        self,
        'accumulation',
        f'must divide the {self.batch_size} sequences of a step; the nearest is '
        f'{nearest}',
      )
    for name in ('z_loss', 'label_smoothing') if self.loss is not None else ():
      if getattr(self, name):
        raise refusal(
          self, name, f'must be 0 beside {label(TrainConfig, "loss")} = {self.loss}'
        )
    length, chunk = self.sequence_length, self.logits_chunk
    if chunk is not None and (chunk < 1 or length % chunk):
      nearest = nearest_divisor(length, chunk)
      raise refusal(
        self,
        'logits_chunk',
        f'must divide {label(TrainConfig, "sequence_length")} ({length:,}); the '
        f'nearest is {nearest}',
      )

  @property
  def batch_tokens(self) -> int:
    """Tokens of one step."""
    return self.batch_size * self.sequence_length

  @property
  def guarded(self) -> bool:
    """True if the optimizer counts bad steps: it skips them, or looks for spikes."""
    return self.loss_spike is not None or self.bad_step == 'skip'


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """One training run, from data to report.

  Attributes:
    model_dir: folder of checkpoints, logs and the report.
    mixture: mixture or single task to train on; or a file of prompts and answers, or
      of conversations, as 'data/train.jsonl'.
    model: architecture of the decoder; None takes it from `initial_checkpoint`.
    train_steps: optimizer steps.
    batch_tokens: tokens per step; batch_tokens / sequence_length sequences.
    sequence_length: tokens per packed sequence.
    pack: pack several examples into one sequence.
    initial_checkpoint: model folder, run or step of a run (as 'runs/x@200') to start
      from; None starts from random parameters.
    held_out: clusters to evaluate at the end, or one of them; () for no evaluation,
      None for those that the mixture holds out.
    allow_overlap: datasets or clusters that may train although they share something
      with a held-out cluster; the leakage check records them.
    base_responses: file of the base's answers to the held-out clusters, which runs from
      one base share: read if it is there, written if not. None for no sharing.
    store: rendered examples; None builds them in model_dir/store.
    tokenizer: a file, `bytes`, or `train` to train one on the rendered examples; None
      takes the initial checkpoint's own, or trains one.
    vocab_size: vocabulary size of a tokenizer that is trained.
    tfds_data_dir: raw data; None for TFDS's default.
    inputs: column of the prompt, if MIXTURE_OR_TASK_NAME is a file.
    targets: column of the answer, if MIXTURE_OR_TASK_NAME is a file.
    messages: column of conversations, if MIXTURE_OR_TASK_NAME is a file of them; None
      for `messages`, unless the file also has `inputs` or `targets`.
    chat_template: file of the template that renders conversations, or 'chatml'; None
      for the initial checkpoint's own.
    validation: the examples that do not train, if MIXTURE_OR_TASK_NAME is a file:
      another file, or the share or the number of the file's own, from its end; None for
      those of the files that `{split}` names.
    task_feature_lengths: feature ('inputs', 'targets') -> its maximum tokens, EOS
      included, for every task; None for 1024 and 256. A feature that it lacks keeps
      its own. A seqio task without inputs has the sum, unless it names 'targets'.
    missing: 'refuse' or 'skip' datasets that are not prepared.
    seed: seed for everything random in training: parameters, adapters, the draw of the
      mixture, the order and packing of its examples, stochastic rounding.
    template_seed: seed for the store: the template that each example gets. Runs with
      several seeds share one store.
    shuffle_targets: shuffle the answers within each training dataset: a control, which
      keeps the prompts and what the answers look like, and teaches no task.
    eval_seed: seed for the evaluation: the sample of examples, exemplars and the
      bootstrap. Runs with several seeds are evaluated on the same examples.
    accumulation: microbatches per step.
    z_loss: weight of log(Z)**2 per loss token.
    label_smoothing: share of a target's probability that is spread evenly over the
      vocabulary.
    loss: loss in place of the cross-entropy, as @my.focal: a function of (logits,
      targets, mask), and of arguments that gin binds, that returns the sum over tokens.
    freeze: parameters that stay as they are: names or groups of the model's, as
      'embedding', 'layers/query' or, of every group, 'attention_norm'; `*` stands for
      any letters.
    logits_chunk: tokens of a sequence whose logits exist at a time; tokens with a loss
      come first, and tokens without one only fill the last chunk. None for the whole
      sequence. Saves memory and time with a large vocabulary; the loss is the same.
    attention_kernel: 'splash' trains with JAX's TPU kernel of that name (v4 and later;
      causal models without a position bias), 'cudnn' with cuDNN's on NVIDIA GPUs (in
      bfloat16), 'xla' with dense masks compiled by XLA.
    gradient_dtype: 'bfloat16' halves the gradients of a step (not the sum over
      microbatches, which is float32); None keeps the parameters' dtype.
    log_period: steps between log lines.
    checkpoint_period: steps between checkpoints.
    keep: number of checkpoints to keep.
    bad_step: response to a step whose loss or gradient is not finite, or whose loss
      spikes: 'stop' ends the run, 'skip' keeps the parameters and counts the step.
    loss_spike: a loss above this multiple of its running average is a spike; None for
      none.
    writers: metric writers, or one of them, by the names they are registered with.
    hooks: further hooks between steps, as (@my.Hook(),), after those of every run.
    optimizer: @Optimizer(), Adafactor with its schedule; or a function that returns an
      optax.GradientTransformation, as @optax.adamw().
    hang_s: seconds without a step after which every thread's stack is dumped, at most
      a year; 0 never, fewer than one count as one.
  """

  SELECTOR: ClassVar[str] = 'Run'

  model_dir: str = setting(macro='MODEL_DIR', rule=folder)
  mixture: str = setting(macro='MIXTURE_OR_TASK_NAME')
  model: DecoderConfig | None = None
  train_steps: int = setting(macro='TRAIN_STEPS', rule=count(0))
  batch_tokens: int = setting(macro='BATCH_TOKENS', rule=count(1))
  sequence_length: int = setting(macro='SEQUENCE_LENGTH', rule=count(8, MAX_LENGTH))
  pack: bool = True
  initial_checkpoint: str | None = setting(None, macro='INITIAL_CHECKPOINT_PATH')
  held_out: str | tuple[str, ...] | None = setting(None, macro='HELD_OUT')
  allow_overlap: str | tuple[str, ...] | None = setting(None, macro='ALLOW_OVERLAP')
  base_responses: str | None = setting(None, macro='BASE_RESPONSES')
  store: str | None = setting(None, macro='STORE')
  tokenizer: str | None = setting(None, macro='TOKENIZER')
  vocab_size: int = setting(32_000, rule=count(1))
  tfds_data_dir: str | None = setting(None, macro='TFDS_DATA_DIR')
  inputs: str = setting('inputs', macro='INPUTS')
  targets: str = setting('targets', macro='TARGETS')
  messages: str | None = setting(None, macro='MESSAGES')
  chat_template: str | None = setting(None, macro='CHAT_TEMPLATE')
  validation: str | int | float | None = setting(
    None, macro='VALIDATION', rule=_validation
  )
  task_feature_lengths: Mapping[str, int] | None = setting(
    None, macro='TASK_FEATURE_LENGTHS', rule=feature_lengths
  )
  missing: str = setting('refuse', macro='MISSING', rule=MISSING)
  seed: int = setting(0, macro='SEED', rule=uint32)
  template_seed: int = setting(0, macro='TEMPLATE_SEED', rule=uint32)
  shuffle_targets: bool = setting(False, macro='SHUFFLE_TARGETS')
  eval_seed: int = setting(0, macro='EVAL_SEED', rule=uint32)
  accumulation: int = setting(1, rule=count(1))
  z_loss: float = setting(0.0, rule=at_least(0, finite=True))
  label_smoothing: float = setting(0.0, rule=share)
  loss: Recipe | None = setting(None, rule=_of_three)
  freeze: tuple[str, ...] = ()
  logits_chunk: int | None = setting(None, rule=or_none(count(1)))
  attention_kernel: str = setting('xla', rule=one_of('xla', 'splash', 'cudnn'))
  gradient_dtype: str | None = setting(
    None, rule=or_none(one_of('float32', 'bfloat16'))
  )
  log_period: int = setting(10, rule=count(1))
  checkpoint_period: int = setting(1_000, rule=count(1))
  keep: int = setting(2, rule=count(1))
  bad_step: str = setting('stop', rule=one_of('stop', 'skip'))
  loss_spike: float | None = setting(None, rule=_loss_spike)
  writers: str | tuple[str, ...] = setting(('jsonl', 'tensorboard'), macro='WRITERS')
  hooks: tuple[Recipe, ...] = setting((), rule=_called)
  hang_s: float = setting(1_800.0, rule=count(0, YEAR_S))
  mesh: MeshConfig = MeshConfig()
  optimizer: OptimizerConfig | Recipe = setting(OptimizerConfig(), rule=_complete)
  lora: Lora = Lora()
  evaluate: EvalConfig = EvalConfig()

  def __post_init__(self):
    check_fields(self)
    length = self.sequence_length
    if wrong := at_least(length)(self.batch_tokens):
      raise refusal(self, 'batch_tokens', wrong)
    if self.batch_tokens % length:
      nearest = round(self.batch_tokens / length) * length
      raise refusal(
        self,
        'batch_tokens',
        f'must be sequences x {label(TrainConfig, "sequence_length")} ({length:,}); '
        f'the nearest is {nearest:,}',
      )
    _ = self.step  # holds the settings of a step against one another
    if self.lora.rank and self.initial_checkpoint is None:
      raise refusal(
        self.lora,
        'rank',
        f'give --gin.{label(TrainConfig, "initial_checkpoint")}=FOLDER',
        got=f'{self.lora.rank}, and no model to adapt',
      )

  @property
  def batch_size(self) -> int:
    """Sequences of one step, over all processes."""
    return self.batch_tokens // self.sequence_length

  @property
  def sequences(self) -> int:
    """Sequences of the whole run; those of one step if `train_steps` is 0."""
    return max(self.train_steps, 1) * self.batch_size

  @property
  def step(self) -> StepConfig:
    """The settings of one step."""
    names = (field.name for field in dataclasses.fields(StepConfig))
    return StepConfig(**{name: getattr(self, name) for name in names})
