"""Rows: examples laid end to end, as the arrays a decoder trains on. numpy only.

One example is the sequence `[BOS] inputs EOS targets EOS` (FLAN section 2.4: inputs
and targets are separated by EOS); the model reads all of it but the last token and
predicts all of it but the first, and the loss counts what belongs to the targets.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.errors import InputError


class TokenizedExample(NamedTuple):
  """Token ids of one example, without BOS and EOS.

  Attributes:
    inputs: int32 [n], what the model reads.
    targets: int32 [m], what it writes.
  """

  inputs: np.ndarray
  targets: np.ndarray


class Batch(NamedTuple):
  """Packed rows. `assemble` makes one row of arrays [L]; `stack` makes [B, L].

  Attributes:
    tokens: int32, what the model reads; 0 in padding.
    targets: int32, the next token of each position; 0 in padding.
    loss_mask: float32, 1 where the target belongs to an answer (its EOS included).
    segment_ids: int32, 1, 2, ... per example of the row; 0 in padding.
    positions: int32, from 0 in each example.
  """

  tokens: np.ndarray
  targets: np.ndarray
  loss_mask: np.ndarray
  segment_ids: np.ndarray
  positions: np.ndarray


def length(n_inputs, n_targets, bos_id: int | None):
  """Positions that an example takes up in a row; elementwise on arrays.

  The whole sequence less its last token, which is only ever predicted.
  """
  return n_inputs + n_targets + (1 if bos_id is None else 2)


def assemble(
  examples: Sequence[TokenizedExample],
  *,
  sequence_length: int,
  bos_id: int | None,
  eos_id: int,
) -> Batch:
  """Lays `examples` end to end in one row: a Batch of arrays [sequence_length].

  Raises:
    InputError: if they do not fit.
  """
  row = Batch(
    tokens=np.zeros(sequence_length, np.int32),
    targets=np.zeros(sequence_length, np.int32),
    loss_mask=np.zeros(sequence_length, np.float32),
    segment_ids=np.zeros(sequence_length, np.int32),
    positions=np.zeros(sequence_length, np.int32),
  )
  head = np.array([] if bos_id is None else [bos_id], np.int32)
  end = np.array([eos_id], np.int32)
  start = 0
  for segment, (inputs, targets) in enumerate(examples, start=1):
    sequence = np.concatenate([head, inputs, end, targets, end])
    stop = start + len(sequence) - 1
    if stop > sequence_length:
      total = sum(length(len(e.inputs), len(e.targets), bos_id) for e in examples)
      raise InputError(
        f'sequence_length {sequence_length}: the examples of the row take up {total} positions; '
        f'must be at least {total}'
      )
    row.tokens[start:stop] = sequence[:-1]
    row.targets[start:stop] = sequence[1:]
    row.loss_mask[stop - len(targets) - 1 : stop] = 1
    row.segment_ids[start:stop] = segment
    row.positions[start:stop] = np.arange(stop - start)
    start = stop
  return row


def stack(rows: Sequence[Batch]) -> Batch:
  """Rows of arrays [L] as one Batch of arrays [B, L]."""
  return Batch(*(np.stack(arrays) for arrays in zip(*rows, strict=True)))


def sequence_digest(row: Batch) -> str:
  """sha256 (hex) of the five arrays of one row [L]: what two runs compare."""
  digest = hashlib.sha256()
  for array, dtype in zip(row, ('<i4', '<i4', '<f4', '<i4', '<i4'), strict=True):
    digest.update(np.ascontiguousarray(array, dtype).tobytes())
  return digest.hexdigest()
