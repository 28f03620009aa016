"""Batches: examples packed into the arrays that a decoder trains on. numpy only.

One example is `[BOS] inputs EOS targets EOS` (FLAN section 2.4: EOS separates inputs
and targets). One without inputs is a text, `[BOS] targets EOS`; EOS starts it if there
is no BOS. The model reads all tokens but the last and predicts all but the first; the
loss covers the targets. A conversation brings the marks of its chat template; the loss
covers the turns of the assistant.
"""

import hashlib
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from flan_jax.errors import InputError

A = TypeVar('A')


class TokenizedExample(NamedTuple):
  """Token ids of one example, without BOS and EOS.

  Attributes:
    inputs: int32 [n], the prompt.
    targets: int32 [m], the answer.
  """

  inputs: np.ndarray
  targets: np.ndarray

  @property
  def counts(self) -> tuple[int, ...]:
    """Number of input and of target tokens: its row in an index."""
    return len(self.inputs), len(self.targets)

  def joined(self, bos_id: int | None, eos_id: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens, int32 [n], and whether each is learnt, bool [n]."""
    inputs, targets = self
    head = np.array([] if bos_id is None else [bos_id], np.int32)
    end = np.array([eos_id], np.int32)
    separator = end if len(inputs) or bos_id is None else end[:0]
    tokens = np.concatenate([head, inputs, separator, targets, end])
    return tokens, np.arange(len(tokens)) >= len(tokens) - len(targets) - 1

  def runs(self) -> list[tuple[bool, np.ndarray]]:
    """Returns its parts in order, each as (whether it is learnt, tokens)."""
    return [(False, self.inputs), (True, self.targets)]


class Conversation(NamedTuple):
  """Token ids of a conversation, as its chat template gives them, marks included.

  Attributes:
    tokens: int32 [n].
    loss: bool [n], whether a token belongs to a turn of the assistant.
  """

  tokens: np.ndarray
  loss: np.ndarray

  @property
  def counts(self) -> tuple[int, ...]:
    """Number of tokens without and with a loss, and packed length: its index row."""
    learnt = int(np.count_nonzero(self.loss))
    return len(self.tokens) - learnt, learnt, len(self.tokens) - 1

  def joined(self, bos_id: int | None, eos_id: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens, int32 [n], and whether each is learnt, bool [n]."""
    del bos_id, eos_id  # the template has written them
    return self

  def runs(self) -> list[tuple[bool, np.ndarray]]:
    """Returns its parts in order, each as (whether it is learnt, tokens)."""
    edges = np.flatnonzero(np.diff(self.loss)) + 1
    parts = np.split(self.tokens, edges)
    learnt = bool(len(self.loss) and self.loss[0])
    return [(learnt ^ bool(i % 2), part) for i, part in enumerate(parts)]

  def spans(self) -> list[tuple[int, int]]:
    """(first, last) token of each run with a loss, `last` exclusive."""
    edges = np.flatnonzero(np.diff(self.loss, prepend=False, append=False))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

  @property
  def inputs(self) -> np.ndarray:
    """The tokens without a loss."""
    return self.tokens[~self.loss]

  @property
  def targets(self) -> np.ndarray:
    """The tokens with a loss."""
    return self.tokens[self.loss]


Packable = TokenizedExample | Conversation
"""An example of a sequence."""


class Batch(NamedTuple, Generic[A]):
  """Packed sequences. `assemble` makes one of arrays [L]; `stack` makes [B, L].

  Attributes:
    tokens: int32, tokens that the model reads; 0 in padding.
    targets: int32, the next token at each position; 0 in padding.
    loss_mask: float32, 1 if the target belongs to an answer (its EOS included).
    segment_ids: int32, 1, 2, ... per example of the sequence; 0 in padding.
    positions: int32, from 0 in each example.
  """

  tokens: A
  targets: A
  loss_mask: A
  segment_ids: A
  positions: A


def length(n_inputs, n_targets, bos_id: int | None):
  """Number of tokens of an example in a packed sequence; elementwise on arrays.

  The last token is not counted: it is only ever predicted.
  """
  separator = 0 if bos_id is None else (n_inputs > 0) * 1
  return n_inputs + n_targets + 1 + separator


def lengths(index: np.ndarray, bos_id: int | None) -> np.ndarray:
  """Packed length of examples whose `counts` are the rows of `index`, int [n]."""
  if index.shape[1] == 3:  # conversations
    return index[:, 2]
  return length(index[:, 0], index[:, 1], bos_id)


def packed_length(example: Packable, bos_id: int | None) -> int:
  """Number of tokens of an example in a packed sequence."""
  return int(lengths(np.array([example.counts]), bos_id)[0])


def room(max_length, n_targets, bos_id: int | None):
  """Maximum number of input tokens beside `n_targets` in an example of `max_length`."""
  return max_length - n_targets - (1 if bos_id is None else 2)


def assemble(
  examples: Sequence[Packable],
  *,
  sequence_length: int,
  bos_id: int | None,
  eos_id: int,
) -> Batch[np.ndarray]:
  """Packs `examples` into one sequence: a Batch of arrays [sequence_length].

  Raises:
    InputError: if the examples do not fit.
  """
  out = Batch(
    tokens=np.zeros(sequence_length, np.int32),
    targets=np.zeros(sequence_length, np.int32),
    loss_mask=np.zeros(sequence_length, np.float32),
    segment_ids=np.zeros(sequence_length, np.int32),
    positions=np.zeros(sequence_length, np.int32),
  )
  start = 0
  for segment, example in enumerate(examples, start=1):
    joined, learnt = example.joined(bos_id, eos_id)
    stop = start + len(joined) - 1
    if stop > sequence_length:
      total = sum(packed_length(e, bos_id) for e in examples)
      raise InputError(
        f'sequence_length {sequence_length}: the examples have {total} tokens; '
        f'must be at least {total}'
      )
    out.tokens[start:stop] = joined[:-1]
    out.targets[start:stop] = joined[1:]
    out.loss_mask[start:stop] = learnt[1:]
    out.segment_ids[start:stop] = segment
    out.positions[start:stop] = np.arange(stop - start)
    start = stop
  return out


def stack(sequences: Sequence[Batch[np.ndarray]]) -> Batch[np.ndarray]:
  """Stacks sequences of arrays [L] into one Batch of arrays [B, L]."""
  return Batch(*(np.stack(arrays) for arrays in zip(*sequences, strict=True)))


def sequence_digest(sequence: Batch[np.ndarray]) -> str:
  """sha256 (hex) of the five arrays [L] of one sequence, to compare two runs."""
  digest = hashlib.sha256()
  for array, dtype in zip(sequence, ('<i4', '<i4', '<f4', '<i4', '<i4'), strict=True):
    digest.update(np.ascontiguousarray(array, dtype).tobytes())
  return digest.hexdigest()
