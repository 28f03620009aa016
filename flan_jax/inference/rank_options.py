"""Rank classification: the log-probability of every option, given its prompt.

A prompt is read once and its options are branches that grow from it; several such
trees are packed into a row, and no token sees another tree or another branch. That
is exactly as if every option had a row `[BOS] prompt EOS option EOS` of its own. The
score is the sum of the log-probabilities of the option and its EOS, not normalized by
length (FLAN section 2.4; t5's rank classification), unless asked otherwise.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import NamedSharding

from flan_jax.config import checks
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, NORMALIZATIONS, Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.inference import generate as generate_lib
from flan_jax.inference.generate import Generated
from flan_jax.inference.log_likelihood import Likelihood, Progress
from flan_jax.inference.prefix_tree import Path
from flan_jax.inference.sampling import context, shards


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
    log_probabilities: float32 [options] for each request, in nats, normalized as the
      scorer was told; NaN where the model gave no number.
    tokens_scored: positions computed, padding included.
    tokens_naive: positions that one row per option would have taken: batches of as
      many rows, in order of length, each padded to its longest.
    seconds: that it took.
  """

  log_probabilities: list[np.ndarray]
  tokens_scored: int
  tokens_naive: int
  seconds: float = 0.0


def alike(options: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
  """Groups of options that tokenize alike, as indices: their scores tie exactly."""
  groups: dict[bytes, list[int]] = {}
  for k, option in enumerate(options):
    groups.setdefault(np.asarray(option, np.int32).tobytes(), []).append(k)
  return [tuple(group) for group in groups.values() if len(group) > 1]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
  """A language model as the evaluator sees it.

  Attributes:
    params: of `Decoder(config)`.
    config: of the model.
    tokenizer: of prompts and options.
    batch_size: packed sequences, or prompts, of a batch.
    sequence_length: positions of a row when scoring, at most: rows are made shorter, and
      as many more of them, where that is cheaper. A prompt that does not fit with its
      option is read in parts. Not more than config.longest, where the model has that.
    max_length: most tokens of a prompt with its option or answer, for models that can
      read more than they were made for; none reads more than config.longest.
    eos: whether the EOS after an option counts (FLAN), or not (lm-eval).
    separator: whether EOS stands between prompt and option, as in FLAN's training; a
      model that never saw it there may do better without.
    normalization: 'none'; 'token' and 'byte' divide by the length of the option, EOS
      being one token and no byte; 'unconditional' subtracts the score of the option
      after an empty prompt (Brown et al. 2020, arXiv 2005.14165, 2.4).
    decoding: how answers are generated.
    sharding: how [rows, length] arrays lie on a mesh (train.mesh.batch_sharding), where
      `params` do; it must divide `rows`.
    on_batch: called between two batches, at the same places on every host: it may raise,
      to end the work there.

  Raises:
    InputError: the mesh does not divide `rows` (names the nearest legal number), or
      there is no such normalization.
  """

  params: Any
  config: DecoderConfig
  tokenizer: Tokenizer
  batch_size: int = 8
  sequence_length: int = 1280
  max_length: int | None = None
  eos: bool = True
  separator: bool = True
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
        f'rows of an evaluation batch: got {self.batch_size}; the mesh splits them in '
        f'{parts}; the nearest multiple is {nearest}',
        field='Evaluate.batch_size',
      )

  def score(
    self, requests: Sequence[Request], *, progress: Progress | None = None
  ) -> Scored:
    """Scores every option of every request, in the caller's order.

    Every batch has at most rows x sequence_length positions, in one of a few shapes: few
    programs are compiled. A sequence whose score is NaN is scored again in a row of
    its own, so that it cannot spoil its neighbors in the packed row.

    Raises:
      InputError: a prompt with its option exceeds what the model can read, or an
        option has no token to score; names the request.
    """
    began = time.monotonic()
    paths = _Paths()
    conditional, unconditional = [], []
    for i, request in enumerate(requests):
      follows = self._context(request.prompt)
      for k, option in enumerate(request.options):
        path = self._path(follows, option, f'{request.name or f"request {i}"}', k)
        conditional.append(paths.add(path))
        if self.normalization == 'unconditional':
          empty = path._replace(context=self._context(request.prompt[:0]))
          unconditional.append(paths.add(empty))
    likelihood = Likelihood(
      self.params,
      config=self.config,
      batch_size=self.batch_size,
      sequence_length=self.sequence_length,
      sharding=self.sharding,
      on_batch=self.on_batch,
    )
    sums, scored = likelihood.sums(paths.found, progress=progress)
    scores = sums[conditional]
    if self.normalization == 'unconditional':
      scores = scores - sums[unconditional]
    elif self.normalization != 'none':
      sizes = [self._size(option) for r in requests for option in r.options]
      scores = scores / np.array(sizes, np.float64)
    counts = [len(request.options) for request in requests]
    out = np.split(scores.astype(np.float32), np.cumsum(counts))[:-1]
    naive = [paths.found[i].length for i in conditional]
    naive += [paths.found[i].length for i in set(unconditional)]
    seconds = time.monotonic() - began
    return Scored(out, scored, self._naive(naive), seconds)

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_new_tokens: int
  ) -> Generated:
    """Continuations of `[BOS] prompt EOS` by `decoding`, in the caller's order.

    Raises:
      InputError: a prompt with its answer may exceed what the model can read.
    """
    for i, prompt in enumerate(prompts):
      length = len(self._context(prompt)) + max_new_tokens - 1  # the last is not read
      self._check(length, f'prompt {i} and {max_new_tokens} new tokens')
    return generate_lib.generate(
      self.params,
      prompts,
      config=self.config,
      tokenizer=self.tokenizer,
      max_new_tokens=max_new_tokens,
      decoding=self.decoding,
      separator=self.separator,
      batch_size=self.batch_size,
      sharding=self.sharding,
      on_batch=self.on_batch,
    )

  def _context(self, prompt: np.ndarray) -> np.ndarray:
    return context(prompt, self.tokenizer, separator=self.separator)

  def _path(self, follows: np.ndarray, option: np.ndarray, name: str, k: int) -> Path:
    end = [self.tokenizer.eos_id] if self.eos else []
    path = Path(follows, np.concatenate([option, end]).astype(np.int32))
    if not len(path.answer):
      raise InputError(
        f'{name}: option {k} has no token, and without EOS nothing to score; must '
        'have one or more'
      )
    self._check(path.length, f'{name}: prompt and option {k}')
    return path

  def _check(self, length: int, what: str) -> None:
    limits = [n for n in (self.max_length, self.config.longest) if n is not None]
    if limits and length > min(limits):
      raise InputError(
        f'{what} take up {length} positions; must be at most {min(limits)}, the length '
        'that the model was made for'
      )

  def _size(self, option: np.ndarray) -> int:
    """What the score of an option is divided by."""
    if self.normalization == 'token':
      return len(option) + self.eos
    return max(1, len(self.tokenizer.decode(option.tolist()).encode('utf-8')))

  def _naive(self, lengths: Sequence[int]) -> int:
    lengths = sorted(lengths, reverse=True)
    batches = (
      lengths[i : i + self.batch_size] for i in range(0, len(lengths), self.batch_size)
    )
    return sum(len(batch) * batch[0] for batch in batches)


class _Paths:
  """Distinct paths; options that tokenize alike are one, so that they tie exactly."""

  def __init__(self):
    self.found: list[Path] = []
    self._at: dict[tuple[bytes, bytes], int] = {}

  def add(self, path: Path) -> int:
    """The index of the path."""
    key = path.context.tobytes(), path.answer.tobytes()
    at = self._at.setdefault(key, len(self.found))
    if at == len(self.found):
      self.found.append(path)
    return at
