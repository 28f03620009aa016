"""Rendering: training examples put into words by their drawn template, and tokens.

Inputs are fitted to their limit by `flan_jax.data.prompts`, as everywhere; targets are
never cut in a sentence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.excerpts import sentence_ends
from flan_jax.catalog.prompt import Prompt
from flan_jax.data import batch as batch_lib
from flan_jax.data import prompts, stable_hash
from flan_jax.data.batch import TokenizedExample
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.tokenizers import Tokenizer

POLICY = (
  'inputs: the field that holds the answer is cut around it, where none does the '
  'longest field from its far end, never the instruction or OPTIONS; targets: a text '
  'declared by sentences is cut after a sentence, any other is whole; a row that does '
  'not fit so takes its next template; one that no template fits is dropped as too_long'
)


class Limits(NamedTuple):
  """Most tokens of an example, each counted with its EOS (FLAN section 2.4)."""

  inputs: int = 1024
  targets: int = 256


class RenderedExample(NamedTuple):
  """A row in words, in tokens.

  Attributes:
    template: index of the template used.
    prompt: its words, cut as they had to be.
    example: their token ids.
    cut_inputs: whether a field was cut to fit.
    cut_targets: whether the target lost sentences to fit.
    redrawn: whether the drawn template did not fit and another was taken.
    exemplars: ids of the examples shown before it, in their order.
  """

  template: int
  prompt: Prompt
  tokens: TokenizedExample
  cut_inputs: bool
  cut_targets: bool
  redrawn: bool
  exemplars: tuple[str, ...] = ()


def is_blank(prompt: Prompt) -> bool:
  """Whether a prompt has nothing to read or nothing to write."""
  return not (prompt.inputs.strip() and prompt.targets.strip())


class Renderer:
  """Renders examples of one dataset.

  Attributes:
    dataset: the declaration.
    tokenizer: of inputs and targets.
    seed: template seed, of the templates drawn.
    limits: most tokens of inputs and targets.
    sequence_length: most positions of a whole example; None for no further limit.
    pool: exemplars to show before each prompt; None for zero-shot.
  """

  def __init__(
    self,
    dataset: Dataset,
    *,
    tokenizer: Tokenizer,
    seed: int,
    limits: Limits,
    sequence_length: int | None = None,
    pool: FewShotPool | None = None,
  ):
    self.dataset = dataset
    self.tokenizer = tokenizer
    self.seed = seed
    self.limits = limits
    self.sequence_length = sequence_length
    self.pool = pool

  def __call__(
    self, batch: Sequence[Example], epoch: int
  ) -> list[RenderedExample | None]:
    """Renders each row of `batch` by its template of `epoch`.

    Where that template cannot fit (or leaves nothing to read or write), the next one
    of the row's walk is taken. None stands for a row that no template fits: whether a
    row is None does not depend on the epoch.
    """
    out: list[RenderedExample | None] = [None] * len(batch)
    orders = [self._order(row, epoch) for row in batch]
    left = list(range(len(batch)))
    for step in range(len(self.dataset.templates)):
      work = [(batch[i], orders[i][step]) for i in left]
      tried = self._attempt(work, epoch, redrawn=step > 0)
      for i, rendered in zip(left, tried, strict=True):
        out[i] = rendered
      left = [i for i in left if out[i] is None]
      if not left:
        break
    return out

  def _order(self, row: Example, epoch: int) -> tuple[int, ...]:
    """Templates in the order that `row` tries them in `epoch`; the drawn one first."""
    count = len(self.dataset.templates)
    cycle, step = divmod(epoch, count)
    walk = stable_hash.template_order(self.seed, row.example_id, count, cycle=cycle)
    return walk[step:] + walk[:step]

  def _attempt(
    self, work: Sequence[tuple[Example, int]], epoch: int, *, redrawn: bool
  ) -> list[RenderedExample | None]:
    """Tokenizes each (row, template); None where it is blank or does not fit."""
    out: list[RenderedExample | None] = [None] * len(work)
    asked = [prompt_lib.render(self.dataset, template, row) for row, template in work]
    written = [prompt.targets for prompt in asked]
    targets = self._targets([template for _, template in work], written)
    kept = [i for i, found in enumerate(targets) if found is not None]
    fitted = prompts.fit(
      self.dataset,
      [work[i] for i in kept],
      tokenizer=self.tokenizer,
      max_tokens=[self._room(len(targets[i].ids)) for i in kept],
      pool=self.pool,
      epoch=epoch,
      rendered=[asked[i] for i in kept],
    )
    for i, prompt in zip(kept, fitted, strict=True):
      if prompt is not None:
        text, ids, cut = targets[i]
        out[i] = RenderedExample(
          work[i][1],
          Prompt(prompt.text, text),
          TokenizedExample(prompt.ids, ids),
          prompt.cut,
          cut,
          redrawn,
          prompt.exemplars,
        )
    return out

  def _targets(
    self, drawn: Sequence[int], texts: Sequence[str]
  ) -> list['_Target | None']:
    """Targets with their tokens; None where they are blank or do not fit."""
    most = self.limits.targets - 1
    out: list[_Target | None] = []
    encoded = self.tokenizer.encode_batch(texts)
    for template, text, ids in zip(drawn, texts, encoded, strict=True):
      found = None
      if not text.strip():
        pass
      elif len(ids) <= most:
        found = _Target(text, ids, False)
      elif is_by_sentences(self.dataset, template):
        heads = [text[:end] for end in sentence_ends(text)]
        fitting = [
          _Target(head, ids, True)
          for head, ids in zip(heads, self.tokenizer.encode_batch(heads), strict=True)
          if len(ids) <= most
        ]
        found = fitting[-1] if fitting else None
      out.append(found)
    return out

  def _room(self, n_targets: int) -> int:
    """Most input tokens beside `n_targets` target tokens."""
    room = self.limits.inputs - 1
    if self.sequence_length is not None:
      taken = batch_lib.length(0, n_targets, self.tokenizer.bos_id)
      room = min(room, self.sequence_length - taken)
    return room


class _Target(NamedTuple):
  """What is written: its string, its tokens, and whether it lost sentences."""

  text: str
  ids: np.ndarray
  cut: bool


def is_by_sentences(dataset: Dataset, template: int) -> bool:
  """Whether a template's target is one field that its first sentences can stand for."""
  text = dataset.templates[template].targets
  if text == '{answer}' and isinstance(dataset.answer, Text):
    text = dataset.answer.text
  names = template_lib.names(text)
  if len(names) != 1 or text != f'{{{names[0]}}}' or names[0] not in dataset.fields:
    return False
  return dataset.field(names[0]).by_sentences
