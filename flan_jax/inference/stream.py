"""Streaming: the text of one answer, piece by piece as its tokens are generated.

The programs are those of `generate`, run for one decode step at a time, so that the
pieces of a stream make up its text.
"""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from flan_jax.checkpoints import decoding_weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.inference import generate
from flan_jax.inference.prefill import WaitingPrompts

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts  # imports Jinja

_SHORTEST = 128
"""Minimum padded length: one program serves the short prompts."""

_INVALID = '\ufffd'
"""Character that decoders show for bytes that are no character, or not yet."""

_IN_BYTES = '\ue000'
"""Private-use character, which vocabularies spell in bytes."""


def tokens(
  params: Any,
  sequence: np.ndarray,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  max_tokens: int,
  decoding: Decoding,
  chat: 'ChatPrompts | None' = None,
  sharding: NamedSharding | None = None,
) -> Iterator[int]:
  """Yields the tokens of one answer, each before the next is computed.

  Args:
    params: parameters of `Decoder(config)`.
    sequence: context of the answer, int32 [n].
    config: model config.
    tokenizer: tokenizer of the model.
    max_tokens: limit on the tokens of the answer, EOS included.
    decoding: greedy or sampling; without stop strings or beams.
    chat: chat template, at whose end mark the answer ends, too.
    sharding: sharding of [batch, length] arrays on the mesh of `params`.

  Raises:
    InputError: if the logits are NaN.
  """
  params, config = decoding_weights.prepared(
    params, config, dtype=decoding.weight_dtype, sharded=sharding is not None
  )
  end_id = generate.end_id(tokenizer, chat)
  settings = generate.static_arguments(config, end_id, decoding, sharding)
  scheduler = _One(params, [sequence], tokenizer, decoding, settings, max_tokens, 1)
  yield from scheduler.tokens()


class _One(generate.Scheduler):
  """A scheduler of one prompt, which gives up each token at once.

  Lengths are padded to powers of two: few programs serve a conversation.
  """

  def tokens(self) -> Iterator[int]:
    state = self._insert(self._empty(self._cache_length()))
    slot = self._prompt_of.index(0)
    for count in range(self._max_tokens):
      tokens_BxN, nan_B, done_B = jax.device_get(
        (state.tokens_BxN, state.nan_B, state.done_B)
      )
      token = tokens_BxN[slot, count]
      if nan_B[slot]:
        raise InputError(
          'logits: got NaN; must be finite: the checkpoint is damaged, or its training '
          'diverged'
        )
      if token in (self._tokenizer.eos_id, self._settings['eos_id']):
        return
      yield int(token)
      if done_B[slot]:
        return
      state = self._decode(state, min_done=self._num_slots, max_steps=1)

  def _packed(self) -> WaitingPrompts:
    return WaitingPrompts(
      self._sequences,
      config=self._config,
      batch_size=1,
      shards=self._num_slots,
      length=self._padded(len(self._sequences[0])),
    )

  def _cache_length(self) -> int:
    return _power_of_two(super()._cache_length())

  def _padded(self, length: int) -> int:
    return _power_of_two(length)


def _power_of_two(length: int) -> int:
  return max(_SHORTEST, 1 << (length - 1).bit_length())


def text(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
  """Yields the text of tokens as they come; the pieces make up `decode` of them all.

  A piece is '' while a token waits for those that complete its character. A vocabulary
  may show its bytes in another way once more bytes follow, so only text is given that
  stays the same whatever follows.
  """
  probe = _unfinished(tokenizer)
  taken: list[int] = []
  given = ''
  for token in ids:
    taken.append(token)
    now, then = (tokenizer.decode(taken + more) for more in ([], probe))
    settled = os.path.commonprefix([now, then]).rstrip(_INVALID)
    new = settled[len(given) :] if settled.startswith(given) else ''
    given += new
    yield new
  whole = tokenizer.decode(taken)
  if whole != given:
    yield whole[len(given) :]


def _unfinished(tokenizer: Tokenizer) -> list[int]:
  """Token that begins a character and does not end it; none without such tokens."""
  for token in tokenizer.encode(_IN_BYTES).tolist():
    shown = tokenizer.decode([token])
    if shown and not shown.strip(_INVALID):
      return [token]
  return []
