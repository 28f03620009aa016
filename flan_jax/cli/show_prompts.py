"""`flan show`: prompts of one task, for the terminal."""

import collections
import itertools
import os
import sys

import numpy as np
from rich import console as console_lib
from rich import text as text_lib

from flan_jax.catalog import names
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.source import SeqioTask
from flan_jax.config import checks
from flan_jax.data import raw_records, tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.raw_records import first_examples
from flan_jax.data.store import parts
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics


def colored(text: str, values: dict[str, str]) -> text_lib.Text:
  """Fills in a template; its fields are in color."""
  out = text_lib.Text()
  for literal, name in template_lib.parse(text):
    out.append(literal)
    if name == template_lib.OPTIONS:
      out.append(values[name], style='magenta')
    elif name is not None:
      out.append(values[name], style='cyan')
  return out


def show(
  task: str,
  *,
  count: int,
  template: int | None,
  split: str,
  tokenizer: str,
  data_dir: str | None,
) -> int:
  """Prints `count` examples of a task; example k in template k, or each in `template`.

  Raises:
    InputError: if the task, split or template is unknown, or the data not prepared.
  """
  found = names.get(task)
  dataset = found.style.apply(found.dataset)
  metrics.check_declared([dataset])
  num_templates = len(dataset.templates)
  if found.template is not None and template not in (None, found.template):
    raise InputError(
      f'--template: got {template}; {task} has template {found.template} alone; must '
      'be that one, or absent'
    )
  template = found.template if template is None else template
  rule = checks.or_none(checks.between(0, num_templates - 1))
  checks.check('--template', template, rule)
  checks.check('--n', count, checks.at_least(1))
  loaded = tokenizers.load(tokenizer)
  if isinstance(dataset.source, SeqioTask) and dataset.is_tokenized:
    loaded = dataset.source.tokenizer()  # its tokens are its own
  if split == 'train' and 'train' not in dataset.slices:
    split = 'test'
  examples = first_examples(dataset, split, count, data_dir=data_dir)
  if not examples:
    print(f'{dataset.name}: no example of {split!r} with a label to show')
    return 0
  pool = _pool(dataset, found.style.num_fewshot, loaded, data_dir)
  console = console_lib.Console(
    soft_wrap=True, highlight=False, width=None if _sized() else _WIDTH
  )
  cycle = (
    itertools.cycle(range(num_templates))
    if template is None
    else itertools.repeat(template)
  )
  for example, index in zip(examples, cycle, strict=False):
    _show_one(console, dataset, index, example, loaded, pool, found.style.suffix)
  return 0


def _pool(
  dataset: Dataset, num_fewshot: int, tokenizer: Tokenizer, data_dir: str | None
) -> FewShotPool | None:
  """The exemplars of a few-shot variant, as its training task draws them."""
  if not num_fewshot:
    return None
  examples = parts.training_examples(
    dataset,
    seed=0,
    sizes=raw_records.sizes(dataset, data_dir=data_dir),
    data_dir=data_dir,
    filters=collections.Counter(),
  )
  return parts.few_shot_pool(
    dataset, examples, num_fewshot=num_fewshot, seed=0, tokenizer=tokenizer
  )


def _show_one(
  console: console_lib.Console,
  dataset: Dataset,
  index: int,
  example: Example,
  tokenizer: Tokenizer,
  pool: FewShotPool | None,
  suffix: str,
) -> None:
  template = dataset.templates[index]
  zero_shot = prompt = prompt_lib.render(dataset, index, example)
  if pool is not None:
    prompt = pool.prompt(example, index, 0).prompt
  exemplars = prompt.inputs.removesuffix(zero_shot.inputs)
  shown = prompt_lib.shown_options(dataset, index, example)
  block, label = template_lib.options_block(example.answer.options), None
  if shown is not None:
    block, label = shown.block, prompt_lib.label(shown, example)
    template = template if block else template.without_options
  values = {**example.values, template_lib.OPTIONS: block}
  inputs, targets = example.tokens or tokenizer.encode_batch(
    [prompt.inputs, prompt.targets]
  )
  kind = f', {template.kind}' if template.kind else ''
  title = (
    f'{dataset.task}{suffix} template {index}{kind}, example {example.example_id} '
  )
  console.print(title + '─' * (console.width - len(title)))
  counts = [
    _counts(tokenizer, text, ids)
    for text, ids in ((prompt.inputs, inputs), (prompt.targets, targets))
  ]
  console.print(text_lib.Text('inputs', style='bold'), counts[0])
  console.print(text_lib.Text(exemplars), colored(template.inputs, values), sep='')
  console.print(text_lib.Text('targets', style='bold'), counts[1])
  answered = values if label is None else {**values, 'answer': label}
  console.print(colored(template.targets, answered))
  if example.answer.options:
    console.print(text_lib.Text('options', style='bold'))
    for i, option in enumerate(example.answer.options):
      right = ' (right)' if i in example.answer.gold else ''
      console.print(text_lib.Text(f'  {i}: {option}{right}'))
  console.print()


_WIDTH = 80
"""Console width without a terminal or COLUMNS."""


def _sized() -> bool:
  return sys.stdout.isatty() or os.environ.get('COLUMNS', '').isdigit()


def _counts(tokenizer: Tokenizer, text: str, ids: np.ndarray) -> str:
  """Describes the tokens of a text: their number, and the losses of the vocabulary."""
  unknown = int((ids == tokenizer.unk_id).sum()) if tokenizer.unk_id is not None else 0
  parts = [f'{len(ids)} tokens']
  parts += [f'{unknown} unknown'] if unknown else []
  if not tokenizer.keeps(text, ids.tolist()):
    parts.append('changed by a round trip')
  return f'({", ".join(parts)})'
