"""Evaluation settings: the protocol, and the job that evaluates a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from flan_jax.config.checks import (
  MAX_LENGTH,
  between,
  count,
  count_or_indices,
  feature_lengths,
  folder,
  one_of,
  or_none,
  switch,
  uint32,
)
from flan_jax.config.decoding import GREEDY, NORMALIZATIONS, Decoding
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.setting import check_fields, label, setting
from flan_jax.errors import InputError

MAX_FEWSHOT = 16
"""Maximum number of exemplars in a few-shot prompt (FLAN section 4.4)."""

MAX_BATCH = 2**20
"""Maximum number of sequences of a scoring batch."""

MISSING = one_of('refuse', 'skip')


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """The held-out evaluation.

  Attributes:
    max_examples: maximum examples of test, and of dev, per dataset; None for all.
    dev: evaluate dev, too, on which the best template is chosen; False for test alone,
      in about half the time. A dataset without test is evaluated on dev either way.
    templates: maximum templates per dataset, in each direction of a translation; or a
      tuple of indices of templates, as (0, 3); None for all that are not inverted.
    batch_size: sequences of one scoring batch; rounded up to a multiple that the mesh
      divides.
    sequence_length: tokens of one scoring sequence; prompts are truncated so that their
      options fit.
    max_decode: maximum tokens of a generated answer.
    normalization: divisor of the score of an option: 'none', 'token' or 'byte';
      'unconditional' subtracts its score without the prompt.
    decoding: generation settings of free-text answers; greedy by default.
    base: evaluate the untuned model beside the tuned one.
    num_fewshot: maximum exemplars before each prompt (FLAN section 4.4); 0 for
      zero-shot.
    prompt_style: 'instructions', or 'no_options', 'no_template', 'dataset_name' (the
      ablations of section 4.3), 'continuation', 'chat' (a user's turn in the model's
      own chat template), or a registered one.
    base_prompt_style: prompt style of the untuned model; None for the same.
      'continuation' is a prompt that the answer continues, for a model never tuned to
      follow instructions.
    separator: 'eos' between prompt and answer, as in FLAN's training; 'none' if they
      are one text. None for the style's own: 'none' of 'continuation' and 'chat', which
      have no other, and 'eos' of all others.
    eos: whether the EOS after an answer is scored; None if EOS separates it from its
      prompt. In the style 'chat' it is the template's end mark that is scored.
    options_style: style of the OPTIONS block: 'bullets', 'letters', 'numbers', 'none',
      or a registered one; labeled options are ranked by their labels.
    task_feature_lengths: feature ('inputs', 'targets') -> its maximum tokens, EOS
      included; None for 1024 and 256. Prompts of every dataset are cut to 'inputs'; a
      seqio task has both.
    eval_period: training steps between two evaluation steps on dev, of the held-out
      clusters and of the training datasets; the last step has one, too. None evaluates
      at the end alone.
    eval_examples: examples of each dataset in an evaluation step. Their metric is
      measured in the first template; their loss, of training datasets, in the template
      of each one's first epoch.
    validation_metrics: measure the metric of training datasets, too, beside their loss;
      False for the loss alone, which generates no answer and takes a fraction of the
      time.
  """

  SELECTOR: ClassVar[str] = 'Evaluate'

  max_examples: int | None = setting(None, macro='MAX_EXAMPLES', rule=or_none(count(1)))
  dev: bool = setting(True, macro='DEV', rule=switch)
  templates: int | tuple[int, ...] | list[int] | None = setting(
    None, macro='TEMPLATES', rule=or_none(count_or_indices)
  )
  batch_size: int = setting(8, rule=count(1, MAX_BATCH))
  sequence_length: int = setting(2048, rule=count(1, MAX_LENGTH))
  max_decode: int = setting(256, rule=count(1, MAX_LENGTH))
  normalization: str = setting(
    'none', macro='NORMALIZATION', rule=one_of(*NORMALIZATIONS)
  )
  decoding: Decoding = GREEDY
  base: bool = True
  num_fewshot: int = setting(0, macro='NUM_FEWSHOT', rule=between(0, MAX_FEWSHOT))
  prompt_style: str = setting('instructions', macro='PROMPT_STYLE')
  base_prompt_style: str | None = setting(None, macro='BASE_PROMPT_STYLE')
  separator: str | None = setting(
    None, macro='SEPARATOR', rule=or_none(one_of('eos', 'none'))
  )
  eos: bool | None = setting(None, macro='EOS')
  options_style: str = setting('bullets', macro='OPTIONS_STYLE')
  task_feature_lengths: Mapping[str, int] | None = setting(
    None, macro='TASK_FEATURE_LENGTHS', rule=feature_lengths
  )
  eval_period: int | None = setting(None, macro='EVAL_PERIOD', rule=or_none(count(1)))
  eval_examples: int = setting(64, rule=count(1))
  validation_metrics: bool = setting(True, rule=switch)

  def __post_init__(self):
    check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalJobConfig:
  """One evaluation of a checkpoint, apart from any run.

  Attributes:
    checkpoint: a model folder, the MODEL_DIR of a finished run, a step of a run as
      'runs/x@200', a Hugging Face folder or a GGUF file; the latter two are converted
      once, into `converted` beside output_dir.
    checkpoints: several of them, evaluated in one start; 'runs/x@*' stands for every
      step that the run keeps. () if `checkpoint` names one.
    output_dir: folder of report.json, report.html and predictions.jsonl; of several
      checkpoints, each has a folder of its own in it.
    clusters: clusters to evaluate; () if `datasets` names them one by one.
    datasets: datasets to evaluate, in addition to those of `clusters`; or files of
      examples, as 'test.jsonl'.
    inputs: column of the prompt, in such a file.
    targets: column of the answer, in such a file.
    allow_overlap: datasets or clusters that may have trained although they share
      something with the evaluated ones; the leakage check records them.
    base_checkpoint: model evaluated on the same examples and prompts, or None.
    family: dataset family.
    store: a store with the evaluation examples; None reads the raw data.
    tokenizer: None for the checkpoint's own.
    tfds_data_dir: raw data; None for TFDS's default.
    missing: 'refuse' or 'skip' datasets that are not prepared.
    seed: seed for the sample of examples, the exemplars and the test of a difference.
    contamination: stores and folders of text to search for the evaluated examples, by
      n-grams; () for none.
    ngram: words of such an n-gram (FLAN appendix C: 13).
    mesh: layout of the devices of all processes.
    evaluate: the protocol.
  """

  SELECTOR: ClassVar[str] = 'Evaluation'

  checkpoint: str | None = setting(None, macro='CHECKPOINT')
  checkpoints: str | tuple[str, ...] = setting((), macro='CHECKPOINTS')
  output_dir: str = setting(macro='OUTPUT_DIR', rule=folder)
  clusters: str | tuple[str, ...] = setting((), macro='CLUSTERS')
  datasets: str | tuple[str, ...] = setting((), macro='DATASETS')
  inputs: str = setting('inputs', macro='INPUTS')
  targets: str = setting('targets', macro='TARGETS')
  allow_overlap: str | tuple[str, ...] | None = setting(None, macro='ALLOW_OVERLAP')
  base_checkpoint: str | None = setting(None, macro='BASE_CHECKPOINT')
  family: str = setting('flan', macro='FAMILY')
  store: str | None = setting(None, macro='STORE')
  tokenizer: str | None = setting(None, macro='TOKENIZER')
  tfds_data_dir: str | None = setting(None, macro='TFDS_DATA_DIR')
  missing: str = setting('refuse', macro='MISSING', rule=MISSING)
  seed: int = setting(0, macro='EVAL_SEED', rule=uint32)
  contamination: str | tuple[str, ...] = setting((), macro='CONTAMINATION')
  ngram: int = setting(13, rule=between(2, 64))
  mesh: MeshConfig = MeshConfig()
  evaluate: EvalConfig = EvalConfig()

  def __post_init__(self):
    check_fields(self)
    if (self.checkpoint is None) == (not self.checkpoints):
      one, several = (
        label(EvalJobConfig, name) for name in ('checkpoint', 'checkpoints')
      )
      given = 'both set' if self.checkpoint else 'not set'
      raise InputError(
        f'{one}, {several}: {given}; set one of them, as in --gin.{one}=runs/x',
        field='Evaluation.checkpoint',
      )
    if not self.clusters and not self.datasets:
      clusters, datasets = (
        label(EvalJobConfig, name) for name in ('clusters', 'datasets')
      )
      raise InputError(
        f"{clusters}: not set, nor {datasets}; set one, as in --gin.{clusters}='nli'",
        field='Evaluation.clusters',
      )
