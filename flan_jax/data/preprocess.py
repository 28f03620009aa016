"""Rendering: training examples to text, by the drawn template, and to tokens.

`flan_jax.data.prompts` cuts inputs to their limit, as everywhere; targets are never cut
within a sentence.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flan_jax.catalog import chats
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.excerpts import sentence_ends
from flan_jax.catalog.prompt import Prompt
from flan_jax.data import batch as batch_lib
from flan_jax.data import prompts, raw_records, stable_hash
from flan_jax.data.batch import Packable, TokenizedExample
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError

if TYPE_CHECKING:
  from flan_jax.data.chat import ChatTemplate

POLICY = (
  'inputs: the field that holds the answer is cut around it, where none does the '
  'longest field from its far end, never the instruction or OPTIONS; targets: a text '
  'declared by sentences is cut after a sentence, any other is whole; a row that does '
  'not fit so takes its next template; one that no template fits is dropped as too_long'
)


class Limits(NamedTuple):
  """Maximum tokens of inputs and targets, each with its EOS (FLAN section 2.4).

  Attributes:
    inputs, targets: those of an example.
    text: those of a text, which has no inputs; None for the sum of the two.
  """

  inputs: int = 1024
  targets: int = 256
  text: int | None = None

  @classmethod
  def of(cls, lengths: Mapping[str, int] | None) -> 'Limits':
    """The limits of TASK_FEATURE_LENGTHS; None for the default ones."""
    given = dict(lengths or {})
    return cls(**given, text=given.get('targets'))

  @property
  def lengths(self) -> dict[str, int]:
    """Maximum tokens of inputs, targets and text."""
    text = self.inputs + self.targets if self.text is None else self.text
    return {'inputs': self.inputs, 'targets': self.targets, 'text': text}

  def as_json(self) -> dict[str, int]:
    """The limits that are set."""
    return {name: n for name, n in self._asdict().items() if n is not None}


class RenderedExample(NamedTuple):
  """An example as text and as tokens.

  Attributes:
    template: index of the template used.
    prompt: text, cut to the limits.
    tokens: token ids of the text, or of a conversation.
    cut_inputs: whether a field was cut to fit.
    cut_targets: whether the target lost sentences to fit, a conversation turns.
    redrawn: whether the drawn template did not fit and another was used.
    exemplars: ids of the few-shot exemplars before it, in order.
  """

  template: int
  prompt: Prompt
  tokens: Packable
  cut_inputs: bool
  cut_targets: bool
  redrawn: bool
  exemplars: tuple[str, ...] = ()


def is_blank(prompt: Prompt) -> bool:
  """Tells if the inputs or the targets of a prompt are blank."""
  return not (prompt.inputs.strip() and prompt.targets.strip())


class Renderer:
  """Renders examples of one dataset.

  Attributes:
    dataset: the declaration.
    tokenizer: tokenizer of inputs and targets.
    seed: template seed, for the draws.
    limits: maximum tokens of inputs and targets.
    sequence_length: maximum tokens of a whole example; None for no further limit.
    pool: pool of few-shot exemplars; None for zero-shot.
    chat_template: text of the model's chat template, for conversations.
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
    chat_template: str = '',
  ):
    self.dataset = dataset
    self.tokenizer = tokenizer
    self.seed = seed
    self.limits = limits
    self.sequence_length = sequence_length
    self.pool = pool
    self.chat_template = chat_template

  def __call__(
    self, batch: Sequence[Example], epoch: int
  ) -> list[RenderedExample | None]:
    """Renders each example of `batch` with its template of `epoch`.

    If that template does not fit (or leaves inputs or targets blank), the next one in
    the example's template order is used. None stands for an example that no template
    fits; this does not depend on the epoch.
    """
    out: list[RenderedExample | None] = [None] * len(batch)
    if batch and batch[0].tokens is not None:
      return [self._tokenized(example) for example in batch]
    if self.dataset.messages:
      return [self._conversation(example) for example in batch]
    orders = [self._order(example, epoch) for example in batch]
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

  def _tokenized(self, example: Example) -> RenderedExample | None:
    """An example that has its tokens; its inputs are cut at their end to fit."""
    assert example.tokens is not None
    inputs, targets = (np.asarray(ids, np.int32) for ids in example.tokens)
    room = len(inputs)
    if self.sequence_length is not None:
      taken = batch_lib.length(len(inputs), len(targets), self.tokenizer.bos_id)
      room = self.sequence_length - taken + len(inputs)
    if room < min(1, len(inputs)):
      return None
    cut = inputs[:room]
    prompt = prompt_lib.render(self.dataset, 0, example)
    tokens = TokenizedExample(cut, targets)
    return RenderedExample(0, prompt, tokens, len(cut) < len(inputs), False, False)

  @functools.cached_property
  def _chat(self) -> 'ChatTemplate':
    from flan_jax.data.chat import ChatTemplate  # imports Jinja

    return ChatTemplate(self.chat_template, self.tokenizer)

  def _conversation(self, example: Example) -> RenderedExample | None:
    """A conversation, up to the last turn of the assistant with which it fits."""
    turns = chats.of_json(example.values[self.dataset.messages])
    ends = [i + 1 for i, turn in enumerate(turns) if turn['role'] == chats.ASSISTANT]
    prompt = prompt_lib.render(self.dataset, 0, example)
    limit = self.sequence_length
    for end in reversed(ends):
      try:
        tokens = self._chat.conversation(turns[:end])
      except InputError as error:
        raise raw_records.bad_example(self.dataset, example.example_id, error) from None
      size = batch_lib.packed_length(tokens, self.tokenizer.bos_id)
      if (limit is None or size <= limit) and tokens.loss[1:].any():
        return RenderedExample(0, prompt, tokens, False, end < ends[-1], False)
    return None

  def _order(self, example: Example, epoch: int) -> tuple[int, ...]:
    """Templates in the order to try them in `epoch`; the drawn one first."""
    count = len(self.dataset.templates)
    cycle, step = divmod(epoch, count)
    order = stable_hash.template_order(
      self.seed, example.example_id, count, cycle=cycle
    )
    return order[step:] + order[:step]

  def _attempt(
    self, work: Sequence[tuple[Example, int]], epoch: int, *, redrawn: bool
  ) -> list[RenderedExample | None]:
    """Tokenizes each (example, template); None if it is blank or does not fit."""
    out: list[RenderedExample | None] = [None] * len(work)
    drawn = [
      prompt_lib.render(self.dataset, template, example) for example, template in work
    ]
    targets = self._targets(
      [template for _, template in work], [prompt.targets for prompt in drawn]
    )
    kept = [(i, found) for i, found in enumerate(targets) if found is not None]
    fitted = prompts.fit(
      self.dataset,
      [work[i] for i, _ in kept],
      tokenizer=self.tokenizer,
      max_tokens=[self._max_inputs(len(target.ids)) for _, target in kept],
      pool=self.pool,
      epoch=epoch,
      rendered=[drawn[i] for i, _ in kept],
    )
    for (i, target), prompt in zip(kept, fitted, strict=True):
      if prompt is not None:
        text, ids, cut = target
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
    self, templates: Sequence[int], texts: Sequence[str]
  ) -> list['_Target | None']:
    """Tokenizes targets; None if a target is blank or does not fit."""
    max_tokens = self.limits.targets - 1
    out: list[_Target | None] = []
    encoded = self.tokenizer.encode_batch(texts)
    for template, text, ids in zip(templates, texts, encoded, strict=True):
      found = None
      if not text.strip():
        pass
      elif len(ids) <= max_tokens:
        found = _Target(text, ids, False)
      elif is_by_sentences(self.dataset, template):
        heads = [text[:end] for end in sentence_ends(text)]
        fitting = [
          _Target(head, ids, True)
          for head, ids in zip(heads, self.tokenizer.encode_batch(heads), strict=True)
          if len(ids) <= max_tokens
        ]
        found = fitting[-1] if fitting else None
      out.append(found)
    return out

  def _max_inputs(self, n_targets: int) -> int:
    """Maximum number of input tokens beside `n_targets` target tokens."""
    found = self.limits.inputs - 1
    if self.sequence_length is not None:
      room = batch_lib.room(self.sequence_length, n_targets, self.tokenizer.bos_id)
      found = min(found, room)
    return found


class _Target(NamedTuple):
  """A target: its text, its tokens, and whether it lost sentences."""

  text: str
  ids: np.ndarray
  cut: bool


def is_by_sentences(dataset: Dataset, template: int) -> bool:
  """Tells if a template's target is one field that may be cut after a sentence."""
  text = dataset.templates[template].targets
  if text == '{answer}' and isinstance(dataset.answer, Text):
    text = dataset.answer.text
  names = template_lib.names(text)
  if len(names) != 1 or text != f'{{{names[0]}}}' or names[0] not in dataset.fields:
    return False
  return dataset.field(names[0]).by_sentences
