"""Rendering: rows put into words by their drawn template, tokenised, fitted to limits.

An example that is too long keeps its instruction and its OPTIONS whole: what is cut
is the longest field, from its far end, and the row is rendered again.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flan_jax import catalogue, templates
from flan_jax.catalogue import Dataset, Prompt, Row
from flan_jax.data import draw, rows
from flan_jax.data.exemplars import TOKENS, Pool, Shown
from flan_jax.data.rows import Example
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.fields import Choice, Text

POLICY = (
  'inputs: the longest field is cut from its far end, never the instruction or '
  'OPTIONS; targets: cut from the far end where they are free text; a row that no '
  'template fits is dropped as too_long'
)

_ROUNDS = 16
_WORD = 32
"""A cut goes back to the last blank if it is this near, in characters."""


class Limits(NamedTuple):
  """Most tokens of an example, each counted with its EOS (FLAN section 2.4)."""

  inputs: int = 1024
  targets: int = 256


class Rendered(NamedTuple):
  """A row in words, in tokens.

  Attributes:
    template: index of the template used.
    prompt: its words, fields cut as they had to be.
    example: their token ids, targets cut as they had to be.
    cut_inputs: whether a field was cut to fit.
    cut_targets: whether the target was cut to fit.
    redrawn: whether the drawn template did not fit and another was taken.
    exemplars: ids of the rows shown before it, in their order.
  """

  template: int
  prompt: Prompt
  example: Example
  cut_inputs: bool
  cut_targets: bool
  redrawn: bool
  exemplars: tuple[str, ...] = ()


def is_blank(prompt: Prompt) -> bool:
  """Whether a prompt has nothing to read or nothing to write."""
  return not (prompt.inputs.strip() and prompt.targets.strip())


def cuttable(dataset: Dataset, template: int) -> dict[str, int]:
  """Fields of a template's inputs that may be cut -> how often each occurs.

  The answer and the parts of OPTIONS of a classification are never cut.
  """
  text = dataset.templates[template].inputs
  kept = {templates.OPTIONS}
  if dataset.has_options:
    kept.add('answer')
  if isinstance(dataset.answer, Choice) and not isinstance(dataset.answer.options, str):
    kept.update(n for option in dataset.answer.options for n in templates.names(option))
  found = [name for _, name in templates.parse(text) if name is not None]
  return {name: found.count(name) for name in found if name not in kept}


def _cap(lengths: Sequence[int], counts: Sequence[int], excess: int) -> int:
  """The largest cap on every field that takes `excess` tokens off; below 1: none."""
  lo, hi = 0, max(lengths, default=0)
  while lo < hi:
    cap = (lo + hi + 1) // 2
    off = sum(c * max(0, n - cap) for n, c in zip(lengths, counts, strict=True))
    lo, hi = (cap, hi) if off >= excess else (lo, cap - 1)
  return lo


def _shorten(text: str, tokens: int, cap: int) -> str:
  """The head of a text of `tokens` tokens that has about `cap`, at a word's end."""
  keep = min(len(text) - 1, len(text) * cap // tokens)
  head = text[:keep]
  if not text[keep].isspace():
    blank = max(head.rfind(' '), head.rfind('\n'))
    if blank > keep - _WORD:
      head = head[:blank]
  return head.rstrip()


class Renderer:
  """Renders rows of one dataset.

  Attributes:
    dataset: the declaration.
    tokenizer: of inputs and targets.
    seed: data seed, of the templates drawn.
    limits: most tokens of inputs and targets.
    row_length: most positions of a whole example; None for no further limit.
    pool: exemplars to show before each prompt; None for zero-shot.
  """

  def __init__(
    self,
    dataset: Dataset,
    *,
    tokenizer: Tokenizer,
    seed: int,
    limits: Limits,
    row_length: int | None = None,
    pool: Pool | None = None,
  ):
    self.dataset = dataset
    self.tokenizer = tokenizer
    self.seed = seed
    self.limits = limits
    self.row_length = row_length
    self.pool = pool

  def __call__(self, batch: Sequence[Row], epoch: int) -> list[Rendered | None]:
    """Renders each row of `batch` by its template of `epoch`.

    Where that template cannot fit (or leaves nothing to read or write), the next one
    of the row's walk is taken. None stands for a row that no template fits: whether a
    row is None does not depend on the epoch.
    """
    out: list[Rendered | None] = [None] * len(batch)
    orders = [self._order(row, epoch) for row in batch]
    prompts = [
      self._prompts(row, order, epoch) for row, order in zip(batch, orders, strict=True)
    ]
    left = list(range(len(batch)))
    while left:
      drawn = [(i, next(prompts[i], None)) for i in left]
      work = [(i, *found) for i, found in drawn if found is not None]
      tried = self._attempt([(batch[i], *found) for i, *found in work])
      left = []
      for (i, *_), rendered in zip(work, tried, strict=True):
        if rendered is None:
          left.append(i)
        else:
          out[i] = rendered._replace(redrawn=rendered.template != orders[i][0])
    return out

  def _order(self, row: Row, epoch: int) -> tuple[int, ...]:
    """Templates in the order that `row` tries them in `epoch`; the drawn one first."""
    count = len(self.dataset.templates)
    lap, step = divmod(epoch, count)
    walk = draw.walk(self.seed, row.row_id, count, lap=lap)
    return walk[step:] + walk[:step]

  def _prompts(
    self, row: Row, order: Sequence[int], epoch: int
  ) -> Iterator[tuple[int, Shown]]:
    for template in order:
      prompt = catalogue.render(self.dataset, template, row)
      if is_blank(prompt):
        continue
      shown = Shown(prompt, ())
      if self.pool is not None:
        (targets,) = self.tokenizer.encode_batch([prompt.targets])
        room = self._room(min(len(targets), self.limits.targets - 1))
        shown = self.pool.prompt(row, template, epoch, most=min(TOKENS, room))
      yield template, shown

  def _attempt(self, work: Sequence[tuple[Row, int, Shown]]) -> list[Rendered | None]:
    """Tokenises each (row, template, prompt); None where it cannot be made to fit."""
    prompts = [shown.prompt for *_, shown in work]
    inputs = self.tokenizer.encode_batch([prompt.inputs for prompt in prompts])
    targets = self.tokenizer.encode_batch([prompt.targets for prompt in prompts])
    out: list[Rendered | None] = [None] * len(work)
    long: dict[int, int] = {}
    for i, (_, template, shown) in enumerate(work):
      most = self.limits.targets - 1
      cut = len(targets[i]) > most
      if cut and not self._is_free_text(template):
        continue
      targets[i] = targets[i][:most]
      room = self._room(len(targets[i]))
      if len(inputs[i]) > room:
        long[i] = room
      example = Example(inputs[i], targets[i])
      out[i] = Rendered(
        template, shown.prompt, example, False, cut, False, shown.exemplars
      )
    # Only what shows no exemplar can be too long: a pool keeps the others short.
    fitted = self._fit({i: (*work[i][:2], inputs[i], room) for i, room in long.items()})
    for i in long:
      if i in fitted:
        prompt, inputs[i] = fitted[i]
        example = Example(inputs[i], targets[i])
        out[i] = out[i]._replace(prompt=prompt, example=example, cut_inputs=True)
      else:
        out[i] = None
    return out

  def _is_free_text(self, template: int) -> bool:
    turned = self.dataset.templates[template].turned_around
    return turned or isinstance(self.dataset.answer, Text)

  def _room(self, n_targets: int) -> int:
    """Most input tokens beside `n_targets` target tokens."""
    room = self.limits.inputs - 1
    if self.row_length is not None:
      taken = rows.length(0, n_targets, self.tokenizer.bos_id)
      room = min(room, self.row_length - taken)
    return room

  def _fit(
    self, work: dict[int, tuple[Row, int, np.ndarray, int]]
  ) -> dict[int, tuple[Prompt, np.ndarray]]:
    """Words and input tokens of (row, template, tokens, room), cut until they fit.

    All of a round are tokenised together; those that cannot fit are left out.
    """
    out: dict[int, tuple[Prompt, np.ndarray]] = {}
    for attempt in range(_ROUNDS):
      fields = {
        i: cuttable(self.dataset, template) for i, (_, template, *_) in work.items()
      }
      texts = [row.values[name] for i, (row, *_) in work.items() for name in fields[i]]
      sizes = iter([len(ids) for ids in self.tokenizer.encode_batch(texts)])
      cut: dict[int, Row] = {}
      for i, (row, _, tokens, room) in work.items():
        lengths = [next(sizes) for _ in fields[i]]
        # Tokens are not spread evenly over a field: each round takes off more.
        excess = len(tokens) - room + 2**attempt - 1
        cap = _cap(lengths, list(fields[i].values()), excess)
        if cap >= 1:
          values = dict(row.values)
          for name, n in zip(fields[i], lengths, strict=True):
            if n > cap:
              values[name] = _shorten(values[name], n, cap)
          if all(values[name] or not row.values[name] for name in fields[i]):
            cut[i] = row._replace(values=values)
      order = list(cut)
      prompts = [catalogue.render(self.dataset, work[i][1], cut[i]) for i in order]
      encoded = self.tokenizer.encode_batch([prompt.inputs for prompt in prompts])
      again = {}
      for i, prompt, ids in zip(order, prompts, encoded, strict=True):
        _, template, _, room = work[i]
        if len(ids) <= room:
          out[i] = prompt, ids
        else:
          again[i] = (cut[i], template, ids, room)
      work = again
      if not work:
        break
    return out
