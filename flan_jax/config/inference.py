"""Inference settings: a model over a file of prompts, a task or a mixture."""

import dataclasses
from typing import ClassVar

from flan_jax.config.checks import MAX_LENGTH, count, folder, one_of, or_none, uint32
from flan_jax.config.evaluation import MISSING, EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.setting import check_fields, label, refusal, setting
from flan_jax.errors import InputError

FORMATS = ('jsonl', 'parquet')


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferConfig:
  """One pass of a checkpoint over prompts.

  Attributes:
    checkpoint: as in an evaluation.
    output_dir: folder of predictions.jsonl, or of predictions.parquet.
    prompts: file of prompts, or a pattern: JSON Lines, CSV or Parquet with a column
      `prompt`, else `inputs`, and perhaps `options`; .txt, one prompt a line; '-' for
      standard input, which is either JSON Lines or text.
    mixture: a task or mixture whose prompts are answered instead.
    split: split of the task; None for test, or dev without a test split.
    max_tokens: maximum tokens of a generated answer.
    format: format of the predictions.
    tokenizer: None for the checkpoint's own.
    tfds_data_dir: raw data; None for TFDS's default.
    missing: 'refuse' or 'skip' datasets that are not prepared.
    seed: seed for the sample of examples and the exemplars of a task.
    mesh: layout of the devices of all processes.
    evaluate: batches and decoding; of a task, its prompts.
  """

  SELECTOR: ClassVar[str] = 'Infer'

  checkpoint: str = setting(macro='CHECKPOINT')
  output_dir: str = setting(macro='OUTPUT_DIR', rule=folder)
  prompts: str | None = setting(None, macro='PROMPTS')
  mixture: str | None = setting(None, macro='MIXTURE_OR_TASK_NAME')
  split: str | None = setting(None, macro='SPLIT', rule=or_none(one_of('dev', 'test')))
  max_tokens: int = setting(256, macro='MAX_TOKENS', rule=count(1, MAX_LENGTH))
  format: str = setting('jsonl', macro='FORMAT', rule=one_of(*FORMATS))
  tokenizer: str | None = setting(None, macro='TOKENIZER')
  tfds_data_dir: str | None = setting(None, macro='TFDS_DATA_DIR')
  missing: str = setting('refuse', macro='MISSING', rule=MISSING)
  seed: int = setting(0, macro='EVAL_SEED', rule=uint32)
  mesh: MeshConfig = MeshConfig()
  evaluate: EvalConfig = EvalConfig()

  def __post_init__(self):
    check_fields(self)
    prompts, mixture = (label(InferConfig, name) for name in ('prompts', 'mixture'))
    if not self.prompts and not self.mixture:
      raise InputError(
        f'{prompts}: not set, nor {mixture}; set one, as in '
        f"--gin.{prompts}='prompts.jsonl'",
        field='Infer.prompts',
      )
    if self.prompts and self.mixture:
      raise refusal(self, 'prompts', f'must be None beside {mixture}')
