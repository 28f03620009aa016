"""`flan show`: one task's prompts as a person reads them."""

import itertools
import os
import sys

import numpy as np
from rich import console as console_lib
from rich import text as text_lib

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data import tokenizers
from flan_jax.data.raw_records import first_examples
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError


def colored(text: str, values: dict[str, str]) -> text_lib.Text:
  """A template filled in, its fields in color."""
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
    InputError: at an unknown task, split or template, or unprepared data.
  """
  dataset = registry.task(task)
  many = len(dataset.templates)
  if template is not None and not 0 <= template < many:
    raise InputError(f'--template: got {template}; {task} has 0 to {many - 1}')
  if count < 1:
    raise InputError(f'--n: got {count}; must be 1 or more')
  pieces = tokenizers.load(tokenizer)
  if split == 'train' and 'train' not in dataset.slices:
    split = 'test'
  examples = first_examples(dataset, split, count, data_dir=data_dir)
  console = console_lib.Console(
    soft_wrap=True, highlight=False, width=None if _sized() else _WIDTH
  )
  cycle = (
    itertools.cycle(range(many)) if template is None else itertools.repeat(template)
  )
  for example, index in zip(examples, cycle, strict=False):
    _show_one(console, dataset, index, example, pieces)
  return 0


def _show_one(
  console: console_lib.Console,
  dataset: Dataset,
  index: int,
  example: Example,
  pieces: Tokenizer,
) -> None:
  template = dataset.templates[index]
  prompt = prompt_lib.render(dataset, index, example)
  values = {
    **example.values,
    template_lib.OPTIONS: template_lib.options_block(example.answer.options),
  }
  inputs, targets = pieces.encode_batch([prompt.inputs, prompt.targets])
  kind = f', {template.kind}' if template.kind else ''
  title = f'{dataset.task} template {index}{kind}, example {example.example_id} '
  console.print(title + '─' * (console.width - len(title)))
  counts = [
    _counts(pieces, text, ids)
    for text, ids in ((prompt.inputs, inputs), (prompt.targets, targets))
  ]
  console.print(text_lib.Text('inputs', style='bold'), counts[0])
  console.print(colored(template.inputs, values))
  console.print(text_lib.Text('targets', style='bold'), counts[1])
  console.print(colored(template.targets, values))
  if example.answer.options:
    console.print(text_lib.Text('options', style='bold'))
    for i, option in enumerate(example.answer.options):
      right = ' (right)' if i in example.answer.gold else ''
      console.print(text_lib.Text(f'  {i}: {option}{right}'))
  console.print()


_WIDTH = 80
"""Where neither a terminal nor COLUMNS says it."""


def _sized() -> bool:
  return sys.stdout.isatty() or os.environ.get('COLUMNS', '').isdigit()


def _counts(pieces: Tokenizer, text: str, ids: np.ndarray) -> str:
  """How many tokens a text has, and what the vocabulary loses of it."""
  unknown = int((ids == pieces.unk_id).sum()) if pieces.unk_id is not None else 0
  said = [f'{len(ids)} tokens']
  said += [f'{unknown} unknown'] if unknown else []
  if not pieces.keeps(text, ids.tolist()):
    said.append('changed by a round trip')
  return f'({", ".join(said)})'
