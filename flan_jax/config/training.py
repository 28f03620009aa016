"""What a run is, as frozen dataclasses that gin fills. Standard library only."""

import dataclasses

from flan_jax.config.checks import (
  check_at_least,
  check_name,
  check_one_of,
  check_seed,
  nearest_divisor,
)
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.optimizer import Lora, OptimizerConfig
from flan_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """One training run, from data to report.

  Attributes:
    model_dir: where checkpoints, logs and the report go.
    mixture: what trains: a mixture or a single task.
    model: the decoder's shape; None takes it from `initial_checkpoint`.
    train_steps: optimizer steps.
    batch_tokens: positions per step; batch_tokens / sequence_length rows.
    sequence_length: positions per row, packed.
    pack: several examples in one row.
    initial_checkpoint: a folder of ours to start from; None starts at random.
    held_out: clusters to evaluate at the end, or one of them; () for no evaluation,
      None for those that the mixture holds out.
    allow_overlap: datasets or clusters that may train although they share something with a
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
    logits_chunk: positions of a row whose logits exist at a time, those with a loss
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
    loss_spike: a loss above so many times its running average is a spike; None for none.
    hang_s: seconds without a step after which every thread's stack is dumped; 0 never.
  """

  model_dir: str
  mixture: str
  model: DecoderConfig | None = None
  train_steps: int
  batch_tokens: int
  sequence_length: int
  pack: bool = True
  initial_checkpoint: str | None = None
  held_out: str | tuple[str, ...] | None = None
  allow_overlap: str | tuple[str, ...] | None = None
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
  logits_chunk: int | None = None
  attention_kernel: str = 'xla'
  gradient_dtype: str | None = None
  log_period: int = 10
  checkpoint_period: int = 1_000
  keep: int = 2
  bad_step: str = 'stop'
  loss_spike: float | None = None
  hang_s: float = 1_800.0
  mesh: MeshConfig = MeshConfig()
  optimizer: OptimizerConfig = OptimizerConfig()
  lora: Lora = Lora()
  evaluate: EvalConfig = EvalConfig()

  def __post_init__(self):
    check_name('MODEL_DIR', self.model_dir, field='model_dir')
    check_one_of('MISSING', self.missing, ('refuse', 'skip'), field='missing')
    check_one_of('Run.bad_step', self.bad_step, ('stop', 'skip'), field='bad_step')
    if self.loss_spike is not None and self.loss_spike <= 1:
      raise InputError(
        f'Run.loss_spike: got {self.loss_spike}; must be None or above 1, as 3.0 for three times '
        'the average',
        field='loss_spike',
      )
    check_seed('SEED', self.seed, field='seed')
    check_seed('TEMPLATE_SEED', self.template_seed, field='template_seed')
    check_seed('EVAL_SEED', self.eval_seed, field='eval_seed')
    for name, field, least in (
      ('Run.hang_s', 'hang_s', 0),
      ('Run.z_loss', 'z_loss', 0),
      ('Run.vocab_size', 'vocab_size', 1),
      ('TRAIN_STEPS', 'train_steps', 0),
      ('SEQUENCE_LENGTH', 'sequence_length', 8),
      ('BATCH_TOKENS', 'batch_tokens', self.sequence_length),
      ('Run.accumulation', 'accumulation', 1),
      ('Run.log_period', 'log_period', 1),
      ('Run.checkpoint_period', 'checkpoint_period', 1),
      ('Run.keep', 'keep', 1),
    ):
      check_at_least(name, getattr(self, field), least, field=field)
    if self.batch_tokens % self.sequence_length:
      nearest = round(self.batch_tokens / self.sequence_length) * self.sequence_length
      raise InputError(
        f'BATCH_TOKENS: got {self.batch_tokens:,}; must be rows x SEQUENCE_LENGTH '
        f'({self.sequence_length:,}); the nearest is {nearest:,}',
        field='batch_tokens',
      )
    kernels = ('xla', 'splash', 'cudnn')
    kernel = self.attention_kernel
    check_one_of('Run.attention_kernel', kernel, kernels, field='attention_kernel')
    if self.gradient_dtype is not None:
      legal = ('float32', 'bfloat16')
      got = self.gradient_dtype
      check_one_of('Run.gradient_dtype', got, legal, field='gradient_dtype')
    if self.batch_size % self.accumulation:
      nearest = nearest_divisor(self.batch_size, self.accumulation)
      raise InputError(
        f'Run.accumulation: got {self.accumulation}; must divide the '
        f'{self.batch_size} rows of a step; the nearest is {nearest}',
        field='accumulation',
      )
    if self.logits_chunk is not None and (
      self.logits_chunk < 1 or self.sequence_length % self.logits_chunk
    ):
      nearest = nearest_divisor(self.sequence_length, self.logits_chunk)
      raise InputError(
        f'Run.logits_chunk: got {self.logits_chunk}; must divide SEQUENCE_LENGTH '
        f'({self.sequence_length:,}); the nearest is {nearest}',
        field='logits_chunk',
      )
    if self.lora.rank and self.initial_checkpoint is None:
      raise InputError(
        f'LORA_RANK: got {self.lora.rank}, and no model to adapt; give '
        '--gin.INITIAL_CHECKPOINT_PATH=FOLDER',
        field='Lora.rank',
      )

  @property
  def batch_size(self) -> int:
    """Rows of one step, over all hosts."""
    return self.batch_tokens // self.sequence_length
