"""Rank classification: the log-probability of every option, given its prompt.

Each option is a sequence `[BOS] prompt EOS option EOS` of its own; sequences are
packed by length into rows, and no token sees another sequence. The score is the sum
of the log-probabilities of the option and its EOS, not normalised by length (FLAN
section 2.4; t5's rank classification).
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flan_jax.data import plan
from flan_jax.data import rows as rows_lib
from flan_jax.data.rows import Batch, Example
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate import generation
from flan_jax.evaluate.generation import Generated
from flan_jax.model import attention
from flan_jax.model.config import DecoderConfig, flops_per_token
from flan_jax.model.decoder import Decoder

_SHORTEST = 64
"""Rows are not made shorter than this: there is little attention left to save."""

Progress = Callable[[int, int], None]
"""Called with (sequences done, sequences in all)."""


class Request(NamedTuple):
  """A prompt and its options, as token ids without BOS and EOS.

  Attributes:
    prompt: int32 [n].
    options: one int32 [m] per option.
    name: dataset, template and row, for messages.
  """

  prompt: np.ndarray
  options: tuple[np.ndarray, ...]
  name: str = ''


class Scored(NamedTuple):
  """What `Scorer.score` returns.

  Attributes:
    log_probabilities: float32 [options] for each request, in nats; NaN where the
      model gave no number.
    tokens_scored: positions computed, padding included.
    tokens_naive: positions that one row per option would have taken: batches of as
      many rows, in order of length, each padded to its longest.
    seconds: that it took.
  """

  log_probabilities: list[np.ndarray]
  tokens_scored: int
  tokens_naive: int
  seconds: float = 0.0


@functools.partial(jax.jit, static_argnames=('config', 'sharding'))
def log_probabilities(
  params: Any,
  batch: Batch,
  *,
  config: DecoderConfig,
  sharding: jax.sharding.NamedSharding | None = None,
) -> jax.Array:
  """Summed log-probability of the answer in every segment, float32 [B, L + 1].

  Args:
    params: of `Decoder(config)`.
    batch: packed rows, arrays [B, L].
    config: of the model.
    sharding: of the batch, where there is a mesh; the result is on every device.

  Returns:
    At [b, s] the sum over segment s of row b, in nats; segment 0 is padding, and
    segments that do not occur are 0.
  """
  prefix_BxL = None
  if config.attention == 'prefix':
    prefix_BxL = attention.prefix_mask(
      batch.loss_mask,
      positions_BxL=batch.positions,
      segment_ids_BxL=batch.segment_ids,
    )
  logits_BxLxV = Decoder(config).apply(
    {'params': params},
    batch.tokens,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
    prefix_BxL=prefix_BxL,
  )
  chosen_BxL = jnp.take_along_axis(logits_BxLxV, batch.targets[..., None], axis=-1)
  logp_BxL = chosen_BxL[..., 0] - jax.nn.logsumexp(logits_BxLxV, axis=-1)
  sums = functools.partial(jax.ops.segment_sum, num_segments=batch.tokens.shape[1] + 1)
  answers_BxL = jnp.where(batch.loss_mask > 0, logp_BxL, 0.0)
  return generation.replicated(jax.vmap(sums)(answers_BxL, batch.segment_ids), sharding)


class _Sequence(NamedTuple):
  """One distinct sequence and where its score goes."""

  example: Example
  length: int
  places: list[tuple[int, int]]  # (request, option)


def _sequences(
  requests: Sequence[Request], *, bos_id: int | None, row_length: int
) -> list[_Sequence]:
  """One sequence per distinct option of each request.

  Options that tokenise alike are one sequence, so that they tie exactly.
  """
  out = []
  for i, (prompt, options, name) in enumerate(requests):
    by_option: dict[bytes, _Sequence] = {}
    for k, option in enumerate(options):
      same = by_option.get(option.tobytes())
      if same is not None:
        same.places.append((i, k))
        continue
      length = rows_lib.length(len(prompt), len(option), bos_id)
      if length > row_length:
        raise InputError(
          f'{name or f"request {i}"}: prompt and option {k} take up {length} '
          f'positions; must be at most row_length {row_length}'
        )
      by_option[option.tobytes()] = _Sequence(Example(prompt, option), length, [(i, k)])
    out.extend(by_option.values())
  return out


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
  """A language model as the evaluator sees it.

  Attributes:
    params: of `Decoder(config)`.
    config: of the model.
    tokenizer: of prompts and options.
    rows: rows of a batch, for scoring and for generation.
    row_length: positions of a row when scoring; prompt and option must fit. Where
      sequences are short, rows are halved in length and doubled in number as long as
      that saves FLOPs.
    sharding: how [rows, length] arrays lie on a mesh (train.mesh.batch_sharding), where
      `params` do; it must divide `rows`.

  Raises:
    InputError: if the mesh does not divide `rows`; names the nearest legal number.
  """

  params: Any
  config: DecoderConfig
  tokenizer: Tokenizer
  rows: int = 8
  row_length: int = 1280
  sharding: jax.sharding.NamedSharding | None = None

  def __post_init__(self):
    if self.sharding is None:
      return
    over = self.sharding.spec[0] if self.sharding.spec else None
    axes = (over,) if isinstance(over, str) else tuple(over or ())
    parts = math.prod(self.sharding.mesh.shape[axis] for axis in axes)
    if self.rows % parts:
      nearest = max(1, round(self.rows / parts)) * parts
      raise InputError(
        f'rows of an evaluation batch: got {self.rows}; the mesh splits them in '
        f'{parts}; the nearest multiple is {nearest}'
      )

  def score(
    self, requests: Sequence[Request], *, progress: Progress | None = None
  ) -> Scored:
    """Scores every option of every request, in the caller's order.

    Every batch has rows x row_length positions, in one of a few shapes: few programs
    are compiled. A sequence whose score is NaN is scored again in a row of its own, so
    that it cannot spoil its neighbours in the packed row.

    Raises:
      InputError: if a prompt and its option do not fit in a row; names the request.
    """
    began = time.monotonic()
    out = [np.full(len(r.options), np.nan, np.float32) for r in requests]
    sequences = _sequences(
      requests, bos_id=self.tokenizer.bos_id, row_length=self.row_length
    )
    layout = self._layout(np.array([s.length for s in sequences], np.int64))
    scored = done = 0
    spoilt = []
    for bins, found in self._forward(sequences, layout):
      scored += self.rows * self.row_length
      for members, sums in zip(bins, found, strict=False):
        for segment, index in enumerate(members, start=1):
          for i, k in sequences[index].places:
            out[i][k] = sums[segment]
          if np.isnan(sums[segment]) and len(members) > 1:
            spoilt.append(index)
        done += len(members)
      if progress is not None:
        progress(done, len(sequences))
    alone = layout._replace(packed=[[index] for index in spoilt])
    for bins, found in self._forward(sequences, alone):
      scored += self.rows * self.row_length
      for (index,), sums in zip(bins, found, strict=False):
        for i, k in sequences[index].places:
          out[i][k] = sums[1]
    seconds = time.monotonic() - began
    return Scored(out, scored, self._naive(requests), seconds)

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_new_tokens: int
  ) -> Generated:
    """Greedy continuations of `[BOS] prompt EOS`, in the caller's order."""
    return generation.generate(
      self.params,
      prompts,
      config=self.config,
      tokenizer=self.tokenizer,
      max_new_tokens=max_new_tokens,
      rows=self.rows,
      sharding=self.sharding,
    )

  def _layout(self, lengths: np.ndarray) -> '_Layout':
    """The cheapest shape of batch for sequences of these lengths."""
    longest = int(lengths.max(initial=0))
    best = None
    rows, row_length = self.rows, self.row_length
    while True:
      packed = _packed(lengths, row_length=row_length)
      batches = -(-len(packed) // rows)
      flops = batches * flops_per_token(self.config, row_length).forward
      if best is None or flops < best[0]:
        best = flops, _Layout(packed, rows, row_length)
      if row_length % 2 or row_length // 2 < max(longest, _SHORTEST):
        return best[1]
      rows, row_length = rows * 2, row_length // 2

  def _forward(
    self, sequences: Sequence[_Sequence], layout: '_Layout'
  ) -> Iterator[tuple[Sequence[Sequence[int]], np.ndarray]]:
    """Yields (members of each row, sums [rows, row_length + 1]) batch by batch."""
    packed, rows, row_length = layout
    row = functools.partial(
      rows_lib.assemble,
      row_length=row_length,
      bos_id=self.tokenizer.bos_id,
      eos_id=self.tokenizer.eos_id,
    )
    for start in range(0, len(packed), rows):
      bins = packed[start : start + rows]
      filled = [
        row([sequences[index].example for index in members]) for members in bins
      ]
      filled += [row([])] * (rows - len(bins))
      batch = rows_lib.stack(filled)
      if self.sharding is not None:
        batch = jax.device_put(batch, self.sharding)
      sums = log_probabilities(
        self.params, batch, config=self.config, sharding=self.sharding
      )
      yield bins, np.asarray(sums)

  def _naive(self, requests: Sequence[Request]) -> int:
    bos_id = self.tokenizer.bos_id
    lengths = sorted(
      (
        rows_lib.length(len(r.prompt), len(option), bos_id)
        for r in requests
        for option in r.options
      ),
      reverse=True,
    )
    batches = (lengths[i : i + self.rows] for i in range(0, len(lengths), self.rows))
    return sum(len(batch) * batch[0] for batch in batches)


class _Layout(NamedTuple):
  """Sequences laid into rows, and the shape of a batch."""

  packed: list[list[int]]
  rows: int
  row_length: int


def _packed(lengths: np.ndarray, *, row_length: int) -> list[list[int]]:
  """Indices of `lengths`, row by row."""
  row_of = plan.best_fit(lengths, row_length)
  out: list[list[int]] = [[] for _ in range(int(row_of.max(initial=-1)) + 1)]
  for index, row in enumerate(row_of.tolist()):
    out[row].append(index)
  return out
