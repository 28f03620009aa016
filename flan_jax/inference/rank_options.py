"""Rank classification: the log-probability of every option, given its prompt.

A prompt is computed once, and its options branch off from it; several such trees are
packed into a sequence, and no token attends to another tree or branch. The result is
that of one sequence `[BOS] prompt EOS option EOS` per option. The score is the sum of
the log-probabilities of the option and its EOS, by default not normalized by length
(FLAN section 2.4; t5's rank classification).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax.sharding import NamedSharding

from flan_jax.config import checks
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, NORMALIZATIONS, Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.inference import generate as generate_lib
from flan_jax.inference import stream as stream_lib
from flan_jax.inference.generate import Generated
from flan_jax.inference.log_likelihood import LogLikelihood
from flan_jax.inference.prefix_tree import ScoredSequence
from flan_jax.inference.sampling import context, shards
from flan_jax.runtime import metering

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts  # imports Jinja


class Request(NamedTuple):
  """A prompt and its options, as token ids without BOS and EOS.

  Attributes:
    prompt: int32 [n].
    options: one int32 [m] per option.
    name: dataset, template and example, for messages.
  """

  prompt: np.ndarray
  options: tuple[np.ndarray, ...]
  name: str = ''


class Scored(NamedTuple):
  """Results of `Scorer.loglikelihood`, in the order of the requests.

  Attributes:
    log_probabilities: float32 [options] for each request, in nats, with the scorer's
      normalization; NaN if the model's output is not finite.
    tokens_scored: tokens computed, padding included.
    tokens_naive: tokens that one sequence per option would have taken, in batches of
      the same size, in order of length, each padded to its longest.
    seconds: wall time.
    unpadded_tokens: tokens computed, without padding.
  """

  log_probabilities: list[np.ndarray]
  tokens_scored: int
  tokens_naive: int
  seconds: float = 0.0
  unpadded_tokens: int = 0


def alike(options: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
  """Groups the indices of options with equal tokens: their scores tie exactly."""
  groups: dict[bytes, list[int]] = {}
  for k, option in enumerate(options):
    groups.setdefault(np.asarray(option, np.int32).tobytes(), []).append(k)
  return [tuple(group) for group in groups.values() if len(group) > 1]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
  """A language model for the evaluator: log-likelihoods and generation.

  Attributes:
    params: parameters of `Decoder(config)`.
    config: model config.
    tokenizer: tokenizer of prompts and options.
    batch_size: packed sequences, or prompts, of a batch.
    sequence_length: maximum length of a packed sequence when scoring. Batches of more
      and shorter sequences are used if that is cheaper; a prompt that does not fit with
      its option runs in parts. Reduced to config.longest if the model has one.
    max_length: limit on the tokens of a prompt with its option or answer, for models
      that accept more than they were trained on; config.longest always holds.
    eos: scores the EOS after an option (FLAN), or leaves it out (lm-eval).
    separator: puts EOS between prompt and option, as in FLAN's training; a model that
      never saw it there may do better without.
    chat: chat template by which the model is asked; then prompts and options are whole
      as they come, with the template's tokens, nothing is added to them, and an answer
      ends at the template's end mark.
    normalization: 'none'; 'token' and 'byte' divide by the length of the option, EOS
      counting as one token and no byte; 'unconditional' subtracts the score of the
      option after an empty prompt (Brown et al. 2020, arXiv 2005.14165, 2.4).
    decoding: generation settings.
    sharding: sharding of [batch, length] arrays on the mesh of `params`
      (partitioning.mesh.batch_sharding); it must divide `batch_size`.
    on_batch: called between two batches, at the same points on every process; may raise
      to stop there.

  Raises:
    InputError: if the mesh does not divide `batch_size`, or the normalization is
      unknown; names the nearest legal value.
  """

  params: Any
  config: DecoderConfig
  tokenizer: Tokenizer
  batch_size: int = 8
  sequence_length: int = 1280
  max_length: int | None = None
  eos: bool = True
  separator: bool = True
  chat: 'ChatPrompts | None' = None
  normalization: str = 'none'
  decoding: Decoding = GREEDY
  sharding: NamedSharding | None = None
  on_batch: Callable[[], None] = lambda: None

  def __post_init__(self):
    if self.config.longest is not None:
      shorter = min(self.sequence_length, self.config.longest)
      object.__setattr__(self, 'sequence_length', shorter)
    checks.check('normalization', self.normalization, checks.one_of(*NORMALIZATIONS))
    parts = shards(self.sharding)
    if self.batch_size % parts:
      nearest = max(1, round(self.batch_size / parts)) * parts
      raise InputError(
        f'evaluation batch_size: got {self.batch_size}; must be a multiple of the '
        f'{parts} parts of the mesh; the nearest is {nearest}',
        field='Evaluate.batch_size',
      )

  @functools.cached_property
  def likelihood(self) -> LogLikelihood:
    """Scores of any token sequences, with the same batches; keeps their shapes."""
    return LogLikelihood(
      self.params,
      config=self.config,
      batch_size=self.batch_size,
      sequence_length=self.sequence_length,
      sharding=self.sharding,
      on_batch=self.on_batch,
    )

  def loglikelihood(self, requests: Sequence[Request]) -> Scored:
    """Scores every option of every request, in the caller's order.

    Every batch has at most batch_size x sequence_length tokens, in one of a few shapes,
    so that few programs are compiled. A sequence with a NaN score runs again, alone in
    its packed sequence, so that it cannot spoil its neighbors.

    Raises:
      InputError: if a prompt with its option exceeds the model's length, or an option
        has no token to score; names the request.
    """
    began = time.monotonic()
    distinct = _Distinct()
    conditional, unconditional = [], []
    for i, request in enumerate(requests):
      prompt = self._context(request.prompt)
      for k, option in enumerate(request.options):
        name = request.name or f'request {i}'
        sequence = self._sequence(prompt, option, name, k)
        conditional.append(distinct.add(sequence))
        if self.normalization == 'unconditional':
          empty = sequence._replace(context=self._nothing)
          unconditional.append(distinct.add(empty))
    sums, computed = self.likelihood.sums(
      distinct.sequences, progress=metering.reporter(len(requests))
    )
    scores = sums[conditional]
    if self.normalization == 'unconditional':
      scores = scores - sums[unconditional]
    elif self.normalization != 'none':
      sizes = [self._size(option) for r in requests for option in r.options]
      scores = scores / np.array(sizes, np.float64)
    counts = [len(request.options) for request in requests]
    out = np.split(scores.astype(np.float32), np.cumsum(counts))[:-1]
    naive = [distinct.sequences[i].length for i in conditional]
    naive += [distinct.sequences[i].length for i in set(unconditional)]
    seconds = time.monotonic() - began
    return Scored(out, computed.padded, self._naive(naive), seconds, computed.unpadded)

  def generate(self, prompts: Sequence[np.ndarray], *, max_tokens: int) -> Generated:
    """Generates continuations of `[BOS] prompt EOS`, in the caller's order.

    Raises:
      InputError: if a prompt with its answer may exceed the model's length.
    """
    for i, prompt in enumerate(prompts):
      length = len(self._context(prompt)) + max_tokens - 1  # the last is no input
      self._check(length, f'prompt {i} and {max_tokens} new tokens')
    return generate_lib.generate(
      self.params,
      prompts,
      config=self.config,
      tokenizer=self.tokenizer,
      max_tokens=max_tokens,
      decoding=self.decoding,
      separator=self.separator,
      chat=self.chat,
      batch_size=self.batch_size,
      sharding=self.sharding,
      on_batch=self.on_batch,
    )

  def stream(self, prompt: np.ndarray, *, max_tokens: int) -> Iterator[str]:
    """Yields the text that `generate` makes of one prompt, token by token.

    Raises:
      InputError: at the call, if a prompt with its answer may exceed the model's
        length; at a token, if its logits are NaN.
    """
    return self.stream_after(self._context(prompt), max_tokens=max_tokens)

  def stream_after(self, context: np.ndarray, *, max_tokens: int) -> Iterator[str]:
    """Yields the text after a context of any form, to which nothing is added.

    Raises:
      InputError: as `stream`.
    """
    length = len(context) + max_tokens - 1  # the last is no input
    self._check(length, f'the prompt and {max_tokens} new tokens')
    tokens = stream_lib.tokens(
      self.params,
      context,
      config=self.config,
      tokenizer=self.tokenizer,
      max_tokens=max_tokens,
      decoding=self.decoding,
      chat=self.chat,
      sharding=self.sharding,
    )
    return stream_lib.text(tokens, self.tokenizer)

  def _context(self, prompt: np.ndarray) -> np.ndarray:
    """Returns `[BOS] prompt EOS`; an answer to no prompt is a text of its own."""
    if self.chat is not None:
      return np.asarray(prompt, np.int32)
    separator = self.separator and len(prompt) > 0
    return context(prompt, self.tokenizer, separator=separator)

  @property
  def _nothing(self) -> np.ndarray:
    """The context of an empty prompt."""
    if self.chat is not None:
      return self.chat.prompt('')
    return context(np.zeros(0, np.int32), self.tokenizer, separator=self.separator)

  def _sequence(
    self, prompt: np.ndarray, option: np.ndarray, name: str, k: int
  ) -> ScoredSequence:
    end = [self.tokenizer.eos_id] if self.eos and self.chat is None else []
    answer = np.concatenate([option, end]).astype(np.int32)
    if not len(answer):
      raise InputError(
        f'{name}: option {k} has no token, and without EOS nothing to score; must '
        'have one or more'
      )
    sequence = ScoredSequence(prompt, answer)
    self._check(sequence.length, f'{name}: prompt and option {k}')
    return sequence

  def _check(self, length: int, what: str) -> None:
    limits = [n for n in (self.max_length, self.config.longest) if n is not None]
    if limits and length > min(limits):
      raise InputError(
        f'{what} have {length} tokens; must be at most {min(limits)}, the length that '
        'the model was trained for'
      )

  def _size(self, option: np.ndarray) -> int:
    """Returns the divisor of an option's score."""
    if self.normalization == 'token':
      return len(option) + (self.eos and self.chat is None)
    return max(1, len(self.tokenizer.decode(option.tolist()).encode('utf-8')))

  def _naive(self, lengths: Sequence[int]) -> int:
    lengths = sorted(lengths, reverse=True)
    batches = (
      lengths[i : i + self.batch_size] for i in range(0, len(lengths), self.batch_size)
    )
    return sum(len(batch) * batch[0] for batch in batches)


class _Distinct:
  """Distinct sequences; options with equal tokens are one, so that they tie exactly."""

  def __init__(self):
    self.sequences: list[ScoredSequence] = []
    self._indices: dict[tuple[bytes, bytes], int] = {}

  def add(self, sequence: ScoredSequence) -> int:
    """Returns the index of the sequence, which is appended if new."""
    key = sequence.context.tobytes(), sequence.answer.tobytes()
    index = self._indices.setdefault(key, len(self.sequences))
    if index == len(self.sequences):
      self.sequences.append(sequence)
    return index
