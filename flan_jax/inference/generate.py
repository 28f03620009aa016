"""Generation with a key-value cache and continuous batching.

A prompt is read once, as `[BOS] prompt EOS`; then one token at a time is chosen and
read. Prompts wait in order of length, the longest first; a row that has written EOS or
its `max_new_tokens` is handed to a prompt that waits (Yu et al. 2022, Orca, 3.1).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from flan_jax.checkpoints import weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.inference import beam_search
from flan_jax.inference.sampling import (
  choose,
  context,
  empty_cache,
  padded_length,
  placed,
  read_prompts,
  replicated,
  shards,
)
from flan_jax.model import kv_cache
from flan_jax.model.decoder import Decoder

_SHARE = 4
"""A quarter of the rows take up new prompts together: one program reads them."""

_STEPS = 8
"""Tokens written between two looks for a stop string."""


class Generated(NamedTuple):
  """What `generate` returns.

  Attributes:
    tokens: for each prompt the ids written, without EOS; up to the token that completes
      a stop string.
    texts: for each prompt the text of its tokens, up to a stop string.
    nan: for each prompt, whether the model gave NaN for a token it wrote.
    prefill_tokens: positions of prompts computed, padding included.
    generated_tokens: positions computed one by one, idle rows included.
    seconds: that it took.
  """

  tokens: list[list[int]]
  texts: list[str]
  nan: list[bool]
  prefill_tokens: int
  generated_tokens: int
  seconds: float = 0.0


class Writing(NamedTuple):
  """B rows that write.

  Attributes:
    cache: what each row has read.
    prompt_B: int32, the prompt that a row answers.
    length_B: int32, tokens of that prompt.
    count_B: int32, tokens written.
    tokens_BxN: int32, those tokens; EOS from the end of the answer on.
    done_B: bool, whether the answer has ended; rows without a prompt are done.
    nan_B: bool, whether NaN was met.
    steps: int32, that all rows have taken.
    seed: uint32, of what is drawn.
  """

  cache: kv_cache.Cache
  prompt_B: jax.Array
  length_B: jax.Array
  count_B: jax.Array
  tokens_BxN: jax.Array
  done_B: jax.Array
  nan_B: jax.Array
  steps: jax.Array
  seed: jax.Array


@functools.partial(
  jax.jit,
  static_argnames=('config', 'eos_id', 'decoding', 'sharding'),
  donate_argnames=('state',),
)
def admit(
  params: Any,
  state: Writing,
  prompts_RxL: jax.Array,
  lengths_R: jax.Array,
  prompt_R: jax.Array,
  rows_R: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  decoding: Decoding,
  sharding: NamedSharding | None = None,
) -> Writing:
  """Reads R prompts, gives them rows that are done, and writes their first tokens.

  Args:
    params: of `Decoder(config)`.
    state: of B rows, whose caches hold L tokens or more.
    prompts_RxL: int32, padded on the right.
    lengths_R: int32, tokens of each.
    prompt_R: int32, their places among all prompts.
    rows_R: int32, the rows they are given; B for padding.
    config: of the model.
    eos_id: the token that ends an answer.
    decoding: how tokens are chosen.
    sharding: of the prompts, where there is a mesh.
  """
  L = prompts_RxL.shape[1]
  logits_RxV, read = read_prompts(
    params, prompts_RxL, lengths_R, config=config, cache_length=L
  )
  count_R = jnp.zeros_like(lengths_R)
  token_R = choose(
    logits_RxV, decoding=decoding, prompt_B=prompt_R, count_B=count_R, seed=state.seed
  )
  S, N = state.cache.positions.shape[1], state.tokens_BxN.shape[1]
  written_RxN = jnp.full((len(rows_R), N), eos_id, jnp.int32).at[:, 0].set(token_R)
  unused = ((0, 0), (0, S - L))
  read_RxS = jnp.pad(read.positions, unused, constant_values=-1)

  def put(old, new):
    return old.at[rows_R].set(new, mode='drop')

  cache = kv_cache.Cache(
    keys=state.cache.keys.at[:, rows_R, :, :L].set(read.keys, mode='drop'),
    values=state.cache.values.at[:, rows_R, :, :L].set(read.values, mode='drop'),
    positions=put(state.cache.positions, read_RxS),
  )
  small = Writing(
    cache=None,
    prompt_B=put(state.prompt_B, prompt_R),
    length_B=put(state.length_B, lengths_R),
    count_B=put(state.count_B, count_R + 1),
    tokens_BxN=put(state.tokens_BxN, written_RxN),
    done_B=put(state.done_B, (token_R == eos_id) | (N == 1)),
    nan_B=put(state.nan_B, jnp.isnan(logits_RxV).any(-1)),
    steps=state.steps,
    seed=state.seed,
  )
  return replicated(small, sharding)._replace(cache=cache)


@functools.partial(
  jax.jit,
  static_argnames=('config', 'eos_id', 'decoding', 'sharding'),
  donate_argnames=('state',),
)
def write(
  params: Any,
  state: Writing,
  enough: jax.Array,
  most: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  decoding: Decoding,
  sharding: NamedSharding | None = None,
) -> Writing:
  """Writes token by token until enough rows are done.

  Args:
    params: of `Decoder(config)`.
    state: of B rows.
    enough: int32, rows that are to be done.
    most: int32, steps to take at most.
    config: of the model.
    eos_id: the token that ends an answer.
    decoding: how tokens are chosen.
    sharding: of the prompts, where there is a mesh.
  """
  N = state.tokens_BxN.shape[1]
  last = state.steps + most

  def unfinished(state: Writing) -> jax.Array:
    return (state.done_B.sum() < enough) & (state.steps < last)

  def advance(state: Writing) -> Writing:
    before_Bx1 = state.count_B[:, None] - 1
    logits_Bx1xV, cache = Decoder(config).apply(
      {'params': params},
      jnp.take_along_axis(state.tokens_BxN, jnp.maximum(before_Bx1, 0), axis=1),
      positions_BxL=state.length_B[:, None] + before_Bx1,
      segment_ids_BxL=(~state.done_B).astype(jnp.int32)[:, None],
      cache=state.cache,
    )
    logits_BxV = logits_Bx1xV[:, 0]
    token_B = choose(
      logits_BxV,
      decoding=decoding,
      prompt_B=state.prompt_B,
      count_B=state.count_B,
      seed=state.seed,
    )
    at_B = jnp.where(state.done_B, N, state.count_B)  # N: written nowhere
    rows_B = jnp.arange(len(at_B))
    count_B = jnp.where(state.done_B, state.count_B, state.count_B + 1)
    return state._replace(
      cache=cache,
      count_B=count_B,
      tokens_BxN=state.tokens_BxN.at[rows_B, at_B].set(token_B, mode='drop'),
      done_B=state.done_B | (token_B == eos_id) | (count_B == N),
      nan_B=state.nan_B | (jnp.isnan(logits_BxV).any(-1) & ~state.done_B),
      steps=state.steps + 1,
    )

  state = jax.lax.while_loop(unfinished, advance, state)
  return replicated(state._replace(cache=None), sharding)._replace(cache=state.cache)


def generate(
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  max_new_tokens: int,
  decoding: Decoding = GREEDY,
  separator: bool = True,
  batch_size: int = 8,
  sharding: NamedSharding | None = None,
  on_batch: Callable[[], None] = lambda: None,
) -> Generated:
  """Continuations of `prompts`, in the caller's order.

  Args:
    params: of `Decoder(config)`.
    prompts: token ids without BOS and EOS, int32 [n] each.
    config: of the model.
    tokenizer: gives BOS and EOS, and texts.
    max_new_tokens: most tokens to write, EOS included.
    decoding: greedy, sampling or beam search, and where to stop.
    separator: whether EOS stands between prompt and answer.
    batch_size: decode slots; with beam search, beams.
    sharding: how [rows, length] arrays lie on a mesh, where `params` do. Without one,
      a CPU writes with a second copy of the layers (weights.unstack_layers).
    on_batch: called before each of the programs that the answers take.
  """
  began = time.monotonic()
  sequences = [context(prompt, tokenizer, separator=separator) for prompt in prompts]
  if sharding is None and jax.default_backend() == 'cpu':
    params, config = weights.unstack_layers(params, config)
  settings = {
    'config': config,
    'eos_id': tokenizer.eos_id,
    # Programs are compiled for the way of choosing, whatever the seed and the stops.
    'decoding': dataclasses.replace(decoding, seed=0, stop=()),
    'sharding': sharding,
  }
  if decoding.beams > 1:
    found = beam_search.search(
      params, sequences, max_new_tokens=max_new_tokens, batch_size=batch_size, on_batch=on_batch,
      **settings,
    )  # fmt: skip
    answers = [_until_stop(tokens, decoding, tokenizer) for tokens in found.tokens]
    nan, read, written = found.nan, found.prefill_tokens, found.generated_tokens
  else:
    desk = _Desk(
      params, sequences, tokenizer, decoding, settings, max_new_tokens, batch_size
    )
    answers, nan, read, written = desk.run(on_batch)
  texts = [decoding.trimmed(tokenizer.decode(answer)) for answer in answers]
  return Generated(answers, texts, nan, read, written, time.monotonic() - began)


def _until_stop(
  tokens: list[int], decoding: Decoding, tokenizer: Tokenizer
) -> list[int]:
  """The tokens up to the one that completes a stop string, or all of them."""
  if not decoding.stop or not _stops(tokens, decoding, tokenizer):
    return tokens
  low, high = 0, len(tokens)  # fewest tokens whose text has a stop string
  while low + 1 < high:
    middle = (low + high) // 2
    if _stops(tokens[:middle], decoding, tokenizer):
      high = middle
    else:
      low = middle
  return tokens[:high]


def _stops(tokens: list[int], decoding: Decoding, tokenizer: Tokenizer) -> bool:
  text = tokenizer.decode(tokens)
  return any(stop in text for stop in decoding.stop)


class _Desk:
  """Prompts that wait, and rows that answer them."""

  def __init__(
    self, params, sequences, tokenizer, decoding, settings, max_new_tokens, batch_size
  ):
    self._params = params
    self._sequences = sequences
    self._tokenizer = tokenizer
    self._settings = settings
    self._config: DecoderConfig = settings['config']
    self._decoding: Decoding = decoding
    self._sharding: NamedSharding | None = settings['sharding']
    self._new = max_new_tokens
    parts = shards(self._sharding)
    self._rows = parts
    while self._rows < min(batch_size, len(sequences)):
      self._rows *= 2
    self._rows = max(parts, min(self._rows, batch_size))
    self._together = max(1, self._rows // _SHARE // parts) * parts
    lengths = [len(sequence) for sequence in sequences]
    self._waiting = sorted(range(len(sequences)), key=lambda i: -lengths[i])
    self._answers: list[list[int]] = [[] for _ in sequences]
    self._nan = [False] * len(sequences)
    self._of_row = [-1] * self._rows  # the prompt that a row answers
    self._read = 0

  def run(
    self, on_batch: Callable[[], None]
  ) -> tuple[list[list[int]], list[bool], int, int]:
    """Answers, whether NaN was met, positions read and written."""
    if not self._waiting:
      return [], [], 0, 0
    state = self._empty(self._width())
    while self._waiting or any(i >= 0 for i in self._of_row):
      on_batch()
      state = self._admit(state)
      enough = self._rows
      if self._waiting:
        idle = sum(i < 0 for i in self._of_row)
        enough = min(idle + min(self._together, len(self._waiting)), self._rows)
      state = write(
        self._params,
        state,
        np.int32(enough),
        np.int32(_STEPS if self._decoding.stop else self._new),
        **self._settings,
      )
      state = self._collect(state)
    return self._answers, self._nan, self._read, self._rows * int(state.steps)

  def _width(self) -> int:
    """Slots that the longest prompt and its answer need."""
    prompts = [i for i in self._of_row if i >= 0] + self._waiting[:1]
    longest = max((len(self._sequences[i]) for i in prompts), default=0)
    return padded_length(longest) + self._new

  def _empty(self, slots: int) -> Writing:
    B = self._rows
    return Writing(
      cache=empty_cache(self._config, batch=B, length=slots, sharding=self._sharding),
      prompt_B=jnp.zeros(B, jnp.int32),
      length_B=jnp.zeros(B, jnp.int32),
      count_B=jnp.zeros(B, jnp.int32),
      tokens_BxN=jnp.zeros((B, self._new), jnp.int32),
      done_B=jnp.ones(B, bool),
      nan_B=jnp.zeros(B, bool),
      steps=jnp.int32(0),
      seed=jnp.uint32(self._decoding.seed % 2**32),
    )

  def _admit(self, state: Writing) -> Writing:
    """Gives idle rows to prompts that wait."""
    state = self._shrunk(state)
    R = self._together
    while self._waiting:
      idle = [row for row, i in enumerate(self._of_row) if i < 0][:R]
      if len(idle) < min(R, len(self._waiting)):
        break
      group, self._waiting = self._waiting[: len(idle)], self._waiting[len(idle) :]
      L = padded_length(len(self._sequences[group[0]]))
      prompts_RxL = np.zeros((R, L), np.int32)
      lengths_R, prompt_R = np.zeros((2, R), np.int32)
      rows_R = np.full(R, self._rows, np.int32)
      for place, (row, i) in enumerate(zip(idle, group, strict=False)):
        sequence = self._sequences[i]
        prompts_RxL[place, : len(sequence)] = sequence
        lengths_R[place], prompt_R[place], rows_R[place] = len(sequence), i, row
        self._of_row[row] = i
      state = admit(
        self._params,
        state,
        placed(prompts_RxL, self._sharding),
        lengths_R,
        prompt_R,
        rows_R,
        **self._settings,
      )
      self._read += R * L
    return state

  def _shrunk(self, state: Writing) -> Writing:
    """A shorter cache, once the long prompts are answered."""
    slots = self._width()
    if 2 * slots > state.cache.positions.shape[1]:
      return state
    cache = kv_cache.Cache(
      keys=state.cache.keys[:, :, :, :slots],
      values=state.cache.values[:, :, :, :slots],
      positions=state.cache.positions[:, :slots],
    )
    return state._replace(cache=cache)

  def _collect(self, state: Writing) -> Writing:
    """Takes the answers of rows that are done, by EOS, length or a stop string."""
    tokens_BxN, count_B, done_B, nan_B = jax.device_get(
      (state.tokens_BxN, state.count_B, state.done_B, state.nan_B)
    )
    stopped_B = np.zeros_like(done_B)
    for row, i in enumerate(self._of_row):
      if i < 0:
        continue
      answer = tokens_BxN[row, : count_B[row]].tolist()
      if self._tokenizer.eos_id in answer:
        answer = answer[: answer.index(self._tokenizer.eos_id)]
      if self._decoding.stop:
        kept = _until_stop(answer, self._decoding, self._tokenizer)
        stopped_B[row] = _stops(kept, self._decoding, self._tokenizer)
        answer = kept
      if done_B[row] or stopped_B[row]:
        self._answers[i] = answer
        self._nan[i] = bool(nan_B[row])
        self._of_row[row] = -1
    if not (stopped_B & ~done_B).any():
      return state
    return state._replace(done_B=jnp.asarray(done_B | stopped_B))
