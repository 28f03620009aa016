"""`flan export --lm-eval`: takes evaluation data out as tasks of lm-eval."""

import argparse

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

_OTHERS = {
  'out': None, 'format': 'jsonl', 'sampled': None, 'sequence_length': None,
  'unpacked': False, 'epochs': None, 'chat': False, 'shard_size': 100_000,
  'workers': None, 'inputs': 'inputs', 'targets': 'targets', 'vocab_size': None,
  'template_seed': None,
}  # fmt: skip
"""Options of the other exports -> their defaults."""


def run(options: argparse.Namespace) -> int:
  for name, default in _OTHERS.items():
    if getattr(options, name) != default:
      raise InputError(f'--{name.replace("_", "-")}: has no effect with --lm-eval')
  split = None if options.splits == 'train' else options.splits
  if split not in (None, 'dev', 'test'):
    raise InputError(f'--splits {split!r}: with --lm-eval must be dev or test')
  from flan_jax.catalog import prompt_style
  from flan_jax.cli import materialize
  from flan_jax.config import checks
  from flan_jax.config.evaluation import EvalConfig

  given = {
    name: getattr(options, name)
    for name in (
      'max_examples',
      'templates',
      'num_fewshot',
      'prompt_style',
      'options_style',
    )
    if getattr(options, name) is not None
  }
  checks.check('--seed', options.seed, checks.or_none(checks.uint32))
  lengths = materialize.feature_lengths(options.task_feature_lengths)
  style = given.get('prompt_style', 'instructions')
  if style == 'continuation' or prompt_style.is_chat(style):
    raise InputError(
      f'--prompt-style {style!r}: has no end mark between prompt and answer, which '
      'these tasks are made for; give another'
    )
  evaluate = EvalConfig(**given, task_feature_lengths=lengths)
  progress = Progress()
  console.quiet_absl()
  from flan_jax.jobs import export_lm_eval

  summary = export_lm_eval.export(
    export_lm_eval.LmEvalConfig(
      out=options.lm_eval,
      tokenizer=options.tokenizer,
      mixture=options.mixture,
      datasets=_names(options.datasets),
      clusters=_names(options.clusters),
      family=options.family or 'flan',
      store=options.store,
      split=split,
      evaluate=evaluate,
      seed=options.seed or 0,
      data_dir=options.data_dir,
      missing=options.missing or 'refuse',
    ),
    progress=progress,
  )
  if options.json:
    console.print_json(summary)
  else:
    rows = list(summary['tasks'].items())
    console.table(options.lm_eval, {'task': 'left', 'examples': 'right'}, rows)
  progress.stage(f'Done: {options.lm_eval}')
  return 0


def _names(given: str | None) -> tuple[str, ...]:
  return tuple(name.strip() for name in (given or '').split(',') if name.strip())
