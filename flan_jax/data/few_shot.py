"""Few-shot prompts: exemplars with answers before the prompt (FLAN section 4.4).

Exemplars are training examples of the same dataset, drawn by a hash of the example's
id. A prompt is therefore the same in the store, a seqio Task and the evaluator.
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
"""Exemplars come from the first POOL_SIZE training examples, which TFDS shuffled."""

MAX_TOKENS = 960
"""Maximum number of tokens of a few-shot prompt, exemplars included."""

Count = Callable[[Sequence[str]], Sequence[int]]
"""Counts the tokens of each text."""


class FewShotPrompt(NamedTuple):
  """A few-shot prompt.

  Attributes:
    prompt: inputs, exemplars included, and targets.
    exemplars: ids of the exemplars, in order.
  """

  prompt: Prompt
  exemplars: tuple[str, ...]


class FewShotPool:
  """Examples of one dataset that can be exemplars.

  Attributes:
    dataset: the declaration.
    num_fewshot: maximum number of exemplars of a prompt.
    seed: template seed, for the draws.
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
    """Takes the first POOL_SIZE of `examples`, leaving out blank answers.

    Args:
      dataset: see the class.
      examples: training examples in stored order.
      num_fewshot: see the class.
      seed: see the class.
      count: counts the tokens of each text.
      exemplar: renders one example with its answer and the separator after it.
    """
    self.dataset = dataset
    self.num_fewshot = num_fewshot
    self.seed = seed
    self._count = count
    self._exemplar = exemplar
    shown = (example for example in examples if not example.answer.is_blank)
    self._examples = list(itertools.islice(shown, POOL_SIZE))
    self._sizes: dict[tuple[str, int], int] = {}
    if not self._examples:
      raise InputError(
        f'dataset {dataset.name!r}: no training examples to show as exemplars'
      )

  def draw(self, example: Example, epoch: int) -> list[Example]:
    """Draws up to `num_fewshot` exemplars for `example` in `epoch`, all different."""
    return list(itertools.islice(self._walk(example, epoch), self.num_fewshot))

  def _walk(self, example: Example, epoch: int) -> Iterator[Example]:
    """Yields every other example once, in a seeded order."""
    left = list(range(len(self._examples)))
    while left:
      names = ('exemplar', self.seed, example.example_id, epoch, len(left))
      at = stable_hash.key(*names) % len(left)
      left[at], left[-1] = left[-1], left[at]
      other = self._examples[left.pop()]
      if other.example_id != example.example_id and other.values != example.values:
        yield other

  def prompt(
    self, example: Example, template: int, epoch: int, *, max_tokens: int = MAX_TOKENS
  ) -> FewShotPrompt:
    """Renders `example` after as many of its exemplars as fit, up to `num_fewshot`.

    The exemplars are those of `draw` up to the first that does not fit: none is cut,
    and none is skipped for being long. If not even one fits, the prompt is the
    zero-shot one, however long.

    Args:
      example: the example to answer.
      template: index of the template of the example and its exemplars.
      epoch: number of the epoch; each draws other exemplars.
      max_tokens: maximum number of tokens of the prompt.
    """
    drawn = [
      other
      for other in self.draw(example, epoch)
      if prompt_lib.render(self.dataset, template, other).targets.strip()
    ]
    zero_shot = prompt_lib.render(self.dataset, template, example)
    fitting, total = 0, self._count([zero_shot.inputs])[0]
    for other in drawn:
      total += self._size(other, template)
      if total > max_tokens:
        break
      fitting += 1
    # The tokens of joined texts need not add up to those of the parts.
    while fitting < len(drawn) and self._fits(
      example, template, drawn[: fitting + 1], max_tokens
    ):
      fitting += 1
    while fitting and not self._fits(example, template, drawn[:fitting], max_tokens):
      fitting -= 1
    shown = drawn[:fitting]
    prompt = self._together(example, template, shown)
    return FewShotPrompt(prompt, tuple(other.example_id for other in shown))

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
    zero_shot = prompt_lib.render(self.dataset, template, example)
    before = ''.join(self._exemplar(self.dataset, template, other) for other in shown)
    return zero_shot._replace(inputs=before + zero_shot.inputs)
