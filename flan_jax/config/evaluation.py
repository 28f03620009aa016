"""Evaluation settings: how to measure, and what a job of its own measures."""

import dataclasses

from flan_jax.config.checks import check_at_least, check_name, check_one_of, check_seed
from flan_jax.config.decoding import GREEDY, NORMALIZATIONS, Decoding
from flan_jax.config.mesh import MeshConfig
from flan_jax.errors import InputError

PROMPT_STYLES = ('instructions', 'no_options', 'no_template', 'dataset_name')
"""The arms of the ablation of instructions (FLAN section 4.3), and of OPTIONS."""

MAX_FEWSHOT = 16
"""Most exemplars of a few-shot prompt (FLAN section 4.4)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """The held-out evaluation.

  Attributes:
    max_examples: most rows of test, and as many of dev, per dataset; None for all.
    templates: most templates per dataset, of each direction of a translation; None for
      every one not turned around.
    batch_size: rows of one scoring batch; rounded up to what the mesh divides.
    sequence_length: tokens of one scoring row; prompts are cut to fit with their options.
    max_decode: most tokens of a generated answer.
    normalization: what the score of an option is divided by: 'none', 'token' or
      'byte', or compared with: 'unconditional' (evaluate.scoring.Scorer).
    decoding: how free text is written; greedily unless said otherwise.
    base: whether the untuned model is measured beside the tuned one.
    num_fewshot: most exemplars before each prompt (FLAN section 4.4); 0 for zero-shot.
    prompt_style: the words of the prompts: 'instructions', or 'no_options', 'no_template',
      'dataset_name' (the ablations of section 4.3), or 'continuation'.
    base_prompt_style: the words that the untuned model reads; None for the same.
      'continuation' is a prompt that the answer goes on from, for a model that was
      never told to follow instructions.
    eval_period: training steps between two looks at dev of the held-out clusters; None for
      none before the end.
    eval_examples: rows of each dataset in such a look, by their first template.
  """

  max_examples: int | None = None
  templates: int | None = None
  batch_size: int = 8
  sequence_length: int = 2048
  max_decode: int = 256
  normalization: str = 'none'
  decoding: Decoding = GREEDY
  base: bool = True
  num_fewshot: int = 0
  prompt_style: str = 'instructions'
  base_prompt_style: str | None = None
  eval_period: int | None = None
  eval_examples: int = 64

  def __post_init__(self):
    legal = NORMALIZATIONS
    check_one_of('NORMALIZATION', self.normalization, legal, field='normalization')
    prompt_styles = (*PROMPT_STYLES, 'continuation')
    check_one_of('PROMPT_STYLE', self.prompt_style, prompt_styles, field='prompt_style')
    if self.base_prompt_style is not None:
      check_one_of(
        'BASE_PROMPT_STYLE',
        self.base_prompt_style,
        prompt_styles,
        field='base_prompt_style',
      )
    if not 0 <= self.num_fewshot <= MAX_FEWSHOT:
      nearest = min(max(self.num_fewshot, 0), MAX_FEWSHOT)
      raise InputError(
        f'NUM_FEWSHOT: got {self.num_fewshot}; must be 0 to {MAX_FEWSHOT}; the nearest is {nearest}',
        field='num_fewshot',
      )
    for name, field in (
      ('MAX_EXAMPLES', 'max_examples'),
      ('TEMPLATES', 'templates'),
      ('EVAL_PERIOD', 'eval_period'),
      ('Evaluate.eval_examples', 'eval_examples'),
      ('Evaluate.batch_size', 'batch_size'),
      ('Evaluate.sequence_length', 'sequence_length'),
      ('Evaluate.max_decode', 'max_decode'),
    ):
      value = getattr(self, field)
      if value is not None:
        check_at_least(name, value, 1, field=field)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalJobConfig:
  """One evaluation of a checkpoint, apart from any run.

  Attributes:
    checkpoint: a model folder, the MODEL_DIR of a finished run, a Hugging Face folder
      or a GGUF file; the latter two are converted once, into `converted` beside
      output_dir.
    output_dir: where report.json, report.html and predictions.jsonl go.
    clusters: to measure; () where `datasets` names them one by one.
    datasets: to measure, beside those of `clusters`.
    allow_overlap: datasets or clusters that may have trained although they share something
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
  allow_overlap: str | tuple[str, ...] | None = None
  base_checkpoint: str | None = None
  family: str = 'flan'
  store: str | None = None
  tokenizer: str | None = None
  tfds_data_dir: str | None = None
  missing: str = 'refuse'
  seed: int = 0
  contamination: str | tuple[str, ...] = ()
  ngram: int = 13
  mesh: MeshConfig = MeshConfig()
  evaluate: EvalConfig = EvalConfig()

  def __post_init__(self):
    if not 2 <= self.ngram <= 64:
      raise InputError(
        f'Evaluation.ngram: got {self.ngram}; must be 2 to 64; the nearest is '
        f'{min(max(self.ngram, 2), 64)}',
        field='ngram',
      )
    check_name('OUTPUT_DIR', self.output_dir, field='output_dir')
    check_seed('EVAL_SEED', self.seed, field='seed')
    check_one_of('MISSING', self.missing, ('refuse', 'skip'), field='missing')
    families = ('flan', 'microworld')
    check_one_of('Evaluation.family', self.family, families, field='family')
    if not self.clusters and not self.datasets:
      raise InputError(
        "CLUSTERS: not set, nor DATASETS; name one, as in --gin.CLUSTERS='nli'",
        field='clusters',
      )
