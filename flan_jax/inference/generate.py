"""Generation with a key-value cache and continuous batching.

A prompt is prefilled once, as `[BOS] prompt EOS`, packed with others; then tokens are
decoded one at a time. A decode slot that has reached EOS or `max_tokens` goes to a
waiting prompt (Yu et al. 2022, Orca, 3.1), the longest first.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from flan_jax.checkpoints import decoding_weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.inference import beam_search, prefill
from flan_jax.inference.decode_state import DecodeState, decode, insert
from flan_jax.inference.prefill import Filled, Prefilled, WaitingPrompts
from flan_jax.inference.sampling import (
  context,
  empty_cache,
  padded_length,
  placed,
  shards,
)
from flan_jax.runtime import metering

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts  # imports Jinja

_SLOTS_PER_INSERT = 4
"""Divides the slots: a quarter of them take new prompts together, in one program."""

_STOP_PERIOD = 8
"""Decode steps between two checks for a stop string."""


class Generated(NamedTuple):
  """Results of `generate`, in the order of the prompts.

  Attributes:
    tokens: generated ids of each prompt, without EOS; up to the token that completes a
      stop string.
    texts: text of each prompt's tokens, up to a stop string.
    nan: True if the logits of a generated token were NaN, for each prompt.
    prefill_tokens: prompt tokens computed, padding included.
    generated_tokens: tokens computed one at a time, idle slots included.
    seconds: wall time.
    unpadded_tokens: tokens computed, without padding and idle slots.
  """

  tokens: list[list[int]]
  texts: list[str]
  nan: list[bool]
  prefill_tokens: int
  generated_tokens: int
  seconds: float = 0.0
  unpadded_tokens: int = 0


def generate(
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  max_tokens: int,
  decoding: Decoding = GREEDY,
  separator: bool = True,
  chat: 'ChatPrompts | None' = None,
  batch_size: int = 8,
  sharding: NamedSharding | None = None,
  on_batch: Callable[[], None] = lambda: None,
) -> Generated:
  """Generates continuations of `prompts`, in the caller's order.

  Args:
    params: parameters of `Decoder(config)`.
    prompts: token ids without BOS and EOS, int32 [n] each.
    config: model config.
    tokenizer: tokenizer of the model.
    max_tokens: limit on the tokens of an answer, EOS included.
    decoding: greedy, sampling or beam search, and stop strings.
    separator: puts EOS between prompt and answer, if there is a prompt.
    chat: chat template of the prompts; they are whole as they come, and an answer ends
      at its end mark, too.
    batch_size: decode slots; with beam search, beams.
    sharding: sharding of [batch, length] arrays on the mesh of `params`. Without one, a
      CPU decodes with a second copy of the matrices (decoding_weights.for_decoding).
    on_batch: called before each program that is run.

  Raises:
    InputError: if decoding.weight_dtype is int8 and there is a mesh.
  """
  if not prompts:
    return Generated([], [], [], prefill_tokens=0, generated_tokens=0)
  began = time.monotonic()
  sequences = [
    context(prompt, tokenizer, separator=separator and len(prompt) > 0)
    if chat is None
    else np.asarray(prompt, np.int32)
    for prompt in prompts
  ]
  params, config = decoding_weights.prepared(
    params, config, dtype=decoding.weight_dtype, sharded=sharding is not None
  )
  settings = static_arguments(config, end_id(tokenizer, chat), decoding, sharding)
  if decoding.beams > 1:
    found = beam_search.search(
      params,
      sequences,
      max_tokens=max_tokens,
      batch_size=batch_size,
      on_batch=on_batch,
      **settings,
    )
    ended = [_until_end(tokens, {tokenizer.eos_id}) for tokens in found.tokens]
    answers = [_until_stop(tokens, decoding, tokenizer) for tokens in ended]
    nan, prefilled, generated = found.nan, found.prefill_tokens, found.generated_tokens
    unpadded = sum(map(len, sequences))
  else:
    scheduler = Scheduler(
      params, sequences, tokenizer, decoding, settings, max_tokens, batch_size
    )
    answers, nan, generated = scheduler.run(on_batch)
    prefilled, unpadded = scheduler.waiting.computed, scheduler.waiting.unpadded
  texts = [decoding.trimmed(tokenizer.decode(answer)) for answer in answers]
  seconds = time.monotonic() - began
  # Prefill gives an answer's first token; decoding the others, and EOS.
  decoded = sum(min(len(answer), max_tokens - 1) for answer in answers)
  unpadded += decoding.beams * decoded
  return Generated(answers, texts, nan, prefilled, generated, seconds, unpadded)


def end_id(tokenizer: Tokenizer, chat: 'ChatPrompts | None') -> int:
  """Id of the token that ends an answer: EOS, or the end mark of a chat template."""
  return tokenizer.eos_id if chat is None else chat.end_id


def static_arguments(
  config: DecoderConfig,
  end_id: int,
  decoding: Decoding,
  sharding: NamedSharding | None,
) -> dict[str, Any]:
  """Static arguments of `insert` and `decode`, and of beam search."""
  return {
    'config': config,
    'eos_id': end_id,
    # A program serves every seed and every stop string.
    'decoding': dataclasses.replace(decoding, seed=0, stop=(), weight_dtype=None),
    'sharding': sharding,
  }


def _until_stop(
  tokens: list[int], decoding: Decoding, tokenizer: Tokenizer
) -> list[int]:
  """Returns the tokens up to the one that completes a stop string, or all of them."""
  if not decoding.stop or not _has_stop(tokens, decoding, tokenizer):
    return tokens
  low, high = 0, len(tokens)  # high: shortest known prefix with a stop string
  while low + 1 < high:
    middle = (low + high) // 2
    if _has_stop(tokens[:middle], decoding, tokenizer):
      high = middle
    else:
      low = middle
  return tokens[:high]


def _until_end(tokens: list[int], ends: Container[int]) -> list[int]:
  return list(itertools.takewhile(lambda token: token not in ends, tokens))


def _has_stop(tokens: list[int], decoding: Decoding, tokenizer: Tokenizer) -> bool:
  text = tokenizer.decode(tokens)
  return any(stop in text for stop in decoding.stop)


class Scheduler:
  """Assigns waiting prompts to decode slots, and collects their answers."""

  def __init__(
    self, params, sequences, tokenizer, decoding, settings, max_tokens, batch_size
  ):
    self._params = params
    self._sequences = sequences
    self._tokenizer = tokenizer
    self._settings = settings
    self._config: DecoderConfig = settings['config']
    self._decoding: Decoding = decoding
    self._sharding: NamedSharding | None = settings['sharding']
    self._max_tokens = max_tokens
    parts = shards(self._sharding)
    self._num_slots = parts
    while self._num_slots < min(batch_size, len(sequences)):
      self._num_slots *= 2
    self._num_slots = max(parts, min(self._num_slots, batch_size))
    self._insert_size = max(1, self._num_slots // _SLOTS_PER_INSERT // parts) * parts
    self._ready: list[Prefilled] = []
    self._filled: Filled | None = None
    self._answers: list[list[int]] = [[] for _ in sequences]
    self._nan = [False] * len(sequences)
    self._prompt_of = [-1] * self._num_slots  # index of each slot's prompt
    self._alone = [False] * len(sequences)
    self._reported = 0  # tokens
    self.waiting = self._packed()

  def _packed(self) -> WaitingPrompts:
    return WaitingPrompts(
      self._sequences,
      config=self._config,
      batch_size=self._insert_size,
      shards=shards(self._sharding),
    )

  @property
  def _left(self) -> int:
    """Number of prompts without a slot."""
    return len(self._ready) + self.waiting.left

  def run(
    self, on_batch: Callable[[], None]
  ) -> tuple[list[list[int]], list[bool], int]:
    """Returns answers, NaN flags and generated tokens."""
    state = self._empty(self._cache_length())
    while self._left or any(i >= 0 for i in self._prompt_of):
      on_batch()
      state = self._insert(state)
      min_done = self._num_slots
      if self._left:
        idle = sum(i < 0 for i in self._prompt_of)
        group = min(self._insert_size, self._left)
        min_done = min(idle + group, self._num_slots)
      max_steps = _STOP_PERIOD if self._decoding.stop else self._max_tokens
      state = self._decode(state, min_done=min_done, max_steps=max_steps)
      state = self._collect(state)
    return self._answers, self._nan, self._num_slots * int(state.steps)

  def _decode(
    self, state: DecodeState, *, min_done: int, max_steps: int
  ) -> DecodeState:
    return decode(
      self._params, state, np.int32(min_done), np.int32(max_steps), **self._settings
    )

  def _padded(self, length: int) -> int:
    """Length that a prompt is padded to."""
    return padded_length(length)

  def _cache_length(self) -> int:
    """Cache length for the longest current prompt and its answer."""
    prompts = [i for i in self._prompt_of if i >= 0] + [p.prompt for p in self._ready]
    lengths = [len(self._sequences[i]) for i in prompts]
    return self._padded(max([self.waiting.longest, *lengths])) + self._max_tokens

  def _empty(self, cache_length: int) -> DecodeState:
    B = self._num_slots
    cache = empty_cache(
      self._config, batch=B, length=cache_length, sharding=self._sharding
    )
    empty = {
      'prompt_B': np.zeros(B, np.int32),
      'length_B': np.zeros(B, np.int32),
      'count_B': np.zeros(B, np.int32),
      'tokens_BxN': np.zeros((B, self._max_tokens), np.int32),
      'done_B': np.ones(B, bool),
      'nan_B': np.zeros(B, bool),
      'steps': np.int32(0),
      'seed': np.uint32(self._decoding.seed % 2**32),
    }
    # Unlike jnp.zeros, device_put compiles nothing.
    return DecodeState(cache=cache, **jax.device_put(empty))

  def _insert(self, state: DecodeState) -> DecodeState:
    """Inserts waiting prompts into idle slots."""
    state = self._shrunk(state)
    Q = self._insert_size
    while self._left:
      idle = [slot for slot, i in enumerate(self._prompt_of) if i < 0][:Q]
      if len(idle) < min(Q, self._left):
        break
      if not self._ready:
        packed, self._ready = self.waiting.take()
        packed = placed(packed, self._sharding)
        self._filled = prefill.forward(self._params, packed, config=self._config)
      assert self._filled is not None  # where those that are ready lie
      group, self._ready = self._ready[: len(idle)], self._ready[len(idle) :]
      P = min(
        self._filled.hidden_RxLxD.shape[1],
        state.cache.positions.shape[1] - self._max_tokens,
      )
      prompt_Q, length_Q, row_Q = np.zeros((3, Q), np.int32)
      places_QxP = np.zeros((Q, P), np.int32)
      slots_Q = np.full(Q, self._num_slots, np.int32)
      for q, (slot, new) in enumerate(zip(idle, group, strict=False)):
        length_Q[q] = len(new.places)
        prompt_Q[q], row_Q[q], slots_Q[q] = new.prompt, new.row, slot
        places_QxP[q, : length_Q[q]] = new.places
        self._prompt_of[slot] = new.prompt
        self._alone[new.prompt] = new.alone
      state = insert(
        self._params,
        state,
        self._filled,
        prompt_Q,
        length_Q,
        row_Q,
        places_QxP,
        slots_Q,
        **self._settings,
      )
    if not self._ready:
      self._filled = None
    return state

  def _shrunk(self, state: DecodeState) -> DecodeState:
    """Shortens the cache once the long prompts are answered."""
    length = self._cache_length()
    if 2 * length > state.cache.positions.shape[1]:
      return state
    cache = state.cache.map(lambda x: x[:, :, :, :length])._replace(
      positions=state.cache.positions[:, :length],
    )
    return state._replace(cache=cache)

  def _collect(self, state: DecodeState) -> DecodeState:
    """Collects the answers of slots done by EOS, length or a stop string."""
    tokens_BxN, count_B, done_B, nan_B, steps = jax.device_get(
      (state.tokens_BxN, state.count_B, state.done_B, state.nan_B, state.steps)
    )
    answered = 0
    stopped_B = np.zeros_like(done_B)
    for slot, i in enumerate(self._prompt_of):
      if i < 0:
        continue
      answer = tokens_BxN[slot, : count_B[slot]].tolist()
      answer = _until_end(answer, {self._tokenizer.eos_id, self._settings['eos_id']})
      if self._decoding.stop:
        kept = _until_stop(answer, self._decoding, self._tokenizer)
        stopped_B[slot] = _has_stop(kept, self._decoding, self._tokenizer)
        answer = kept
      if nan_B[slot] and not self._alone[i]:  # a neighbor's NaN, maybe
        self.waiting.put_alone(i)
        self._prompt_of[slot] = -1
        stopped_B[slot] = True
      elif done_B[slot] or stopped_B[slot]:
        self._answers[i] = answer
        self._nan[i] = bool(nan_B[slot])
        self._prompt_of[slot] = -1
        answered += 1
    tokens = self.waiting.computed + self._num_slots * int(steps)
    metering.computed(answered, tokens - self._reported)
    self._reported = tokens
    if not (stopped_B & ~done_B).any():
      return state
    return state._replace(done_B=jnp.asarray(done_B | stopped_B))
