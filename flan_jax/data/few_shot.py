"""Exemplars: examples shown with their answers before a few-shot prompt (FLAN section 4.4).

They are training examples of the same dataset, drawn by a hash of the row's own name, so
that a prompt is the same whoever asks for it: the store, a seqio Task, the evaluator.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.prompt import Prompt
from flan_jax.data import stable_hash
from flan_jax.errors import InputError

POOL_SIZE = 1024
"""Exemplars come from the first so many training examples, which TFDS has shuffled."""

MAX_TOKENS = 960
"""Most tokens of a few-shot prompt, exemplars and question together."""

Count = Callable[[Sequence[str]], Sequence[int]]
"""Number of tokens of each text."""


class Shown(NamedTuple):
  """A few-shot prompt.

  Attributes:
    prompt: what is read and written.
    exemplars: ids of the examples shown, in their order.
  """

  prompt: Prompt
  exemplars: tuple[str, ...]


class FewShotPool:
  """The examples of one dataset that can be shown, and how many are.

  Attributes:
    dataset: the declaration.
    num_fewshot: most exemplars of a prompt.
    seed: template seed, of the draws.
  """

  def __init__(
    self,
    dataset: Dataset,
    examples: Iterable[Example],
    *,
    num_fewshot: int,
    seed: int,
    count: Count,
    exemplar: Callable[[Dataset, int, Example], str] = prompt_lib.exemplar,
  ):
    """Takes the first POOL_SIZE of `examples`, which are training examples in stored order.

    An example whose answer is blank is never shown.

    `exemplar` puts one example into words with its answer, and what parts it from the
    next.
    """
    self.dataset = dataset
    self.num_fewshot = num_fewshot
    self.seed = seed
    self._count = count
    self._exemplar = exemplar
    shown = (example for example in examples if not example.answer.is_blank)
    self._rows = list(itertools.islice(shown, POOL_SIZE))
    self._sizes: dict[tuple[str, int], int] = {}
    if not self._rows:
      raise InputError(
        f'dataset {dataset.name!r}: no training examples to show as exemplars'
      )

  def draw(self, example: Example, epoch: int) -> list[Example]:
    """The exemplars of `example` in `epoch`, each another example; fewer if there are none."""
    return list(itertools.islice(self._walk(example, epoch), self.num_fewshot))

  def _walk(self, example: Example, epoch: int) -> Iterator[Example]:
    """Rows other than `example` in a seeded order, each once."""
    left = list(range(len(self._rows)))
    while left:
      names = ('exemplar', self.seed, example.example_id, epoch, len(left))
      at = stable_hash.key(*names) % len(left)
      left[at], left[-1] = left[-1], left[at]
      other = self._rows[left.pop()]
      if other.example_id != example.example_id and other.values != example.values:
        yield other

  def prompt(
    self, example: Example, template: int, epoch: int, *, max_tokens: int = MAX_TOKENS
  ) -> Shown:
    """`example` in words after as many of its exemplars as fit, up to `num_fewshot`.

    The exemplars are those of `draw` up to the first that does not fit: none is cut,
    and none is passed over for being long. Where not even one fits the prompt is the
    zero-shot one, however long.

    Args:
      example: what is asked.
      template: puts the example and its exemplars into words.
      epoch: another epoch draws other exemplars.
      max_tokens: most tokens of the prompt.
    """
    drawn = [
      other
      for other in self.draw(example, epoch)
      if prompt_lib.render(self.dataset, template, other).targets.strip()
    ]
    asked = prompt_lib.render(self.dataset, template, example)
    fitting, total = 0, self._count([asked.inputs])[0]
    for other in drawn:
      total += self._size(other, template)
      if total > max_tokens:
        break
      fitting += 1
    # Pieces of text need not have as many tokens together as apart.
    while fitting < len(drawn) and self._fits(
      example, template, drawn[: fitting + 1], max_tokens
    ):
      fitting += 1
    while fitting and not self._fits(example, template, drawn[:fitting], max_tokens):
      fitting -= 1
    shown = drawn[:fitting]
    prompt = self._together(example, template, shown)
    return Shown(prompt, tuple(other.example_id for other in shown))

  def _size(self, example: Example, template: int) -> int:
    key = (example.example_id, template)
    if key not in self._sizes:
      text = self._exemplar(self.dataset, template, example)
      self._sizes[key] = self._count([text])[0]
    return self._sizes[key]

  def _fits(
    self, example: Example, template: int, shown: Sequence[Example], max_tokens: int
  ) -> bool:
    prompt = self._together(example, template, shown)
    return self._count([prompt.inputs])[0] <= max_tokens

  def _together(
    self, example: Example, template: int, shown: Sequence[Example]
  ) -> Prompt:
    asked = prompt_lib.render(self.dataset, template, example)
    before = ''.join(self._exemplar(self.dataset, template, other) for other in shown)
    return asked._replace(inputs=before + asked.inputs)
