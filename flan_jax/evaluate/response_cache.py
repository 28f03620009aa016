"""What an interrupted evaluation has already computed.

A Journal stands in for a language model and writes down every answer. Asked the same
again, after an interruption or in a later pass over the same examples, it reads the answer
instead of computing it: same numbers, same report. Of several hosts the first keeps
the file, and tells the others what it finds there; those that ask something else than
it does are named.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.data.tokenizers import Tokenizer
from flan_jax.evaluate.predict import LanguageModel
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Request, Scored
from flan_jax.runtime import multihost, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded


def _sums(params: Any) -> jax.Array:
  """Two sums over the bits of every array, modulo 2**32, uint32 [arrays, 2].

  Each number's bits are weighted by its place, so that the order counts; whole numbers
  add up to the same however an array is laid over devices.
  """

  def of(leaf: jax.Array) -> jax.Array:
    kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
      along = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
      place = place * jnp.uint32(size % 2**32) + along
    weights = [place * jnp.uint32(odd) | jnp.uint32(1) for odd in _ODD]
    return jnp.stack([(bits * weight).sum(dtype=jnp.uint32) for weight in weights])

  return jnp.stack([of(leaf) for leaf in jax.tree.leaves(params)])


_ODD = (0x9E3779B1, 0x85EBCA77)


def fingerprint(params: Any) -> str:
  """A short name of these very parameters, the same on any mesh."""
  first = jax.tree.leaves(params)[0]
  where = getattr(first, 'sharding', None)
  if isinstance(where, NamedSharding):
    where = NamedSharding(where.mesh, PartitionSpec())
  sums = np.asarray(jax.jit(_sums, out_shardings=where)(params))
  return hashlib.blake2b(sums.tobytes(), digest_size=8).hexdigest()


FORMAT = 2
"""Of the file, and of how its answers were computed: other files are not read."""


class ResponseCache:
  """A language model whose answers are kept in a file.

  One call of `score` or `generate` is one line, written when the call is done: a torn
  last line is dropped, and that call computed again. A file of another model, or of
  another format, is started anew.

  Attributes:
    replayed: calls answered from the file.
  """

  def __init__(
    self,
    model: LanguageModel,
    path: str | os.PathLike,
    *,
    of: str,
    say: Callable[[str], None] = lambda line: None,
  ):
    """Opens or creates the file.

    Args:
      model: what answers where the file does not.
      path: of the file.
      of: names the parameters, as `fingerprint` does.
      say: told, in a line, of a file that is started anew for its format.
    """
    self._model = model
    self._path = pathlib.Path(path)
    self._at: dict[str, int] = {}  # key of a call -> where its line begins
    self.replayed = 0
    self._file = None
    if not multihost.is_main_process():
      return
    end = self._read(of, say)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._file = self._path.open('r+b' if end else 'w+b')
    self._file.truncate(end)
    if not end:
      self._append({'format': FORMAT, 'of': of})

  @property
  def tokenizer(self) -> Tokenizer:
    return self._model.tokenizer

  @property
  def sequence_length(self) -> int:
    return self._model.sequence_length

  @property
  def max_length(self) -> int | None:
    return self._model.max_length

  def score(self, requests: Sequence[Request]) -> Scored:
    """As the model's; computed once."""
    parts = [part for r in requests for part in (r.prompt, *r.options, _END)]
    key = _key('score', self._model.sequence_length, parts)
    if (found := self._find(key)) is not None:
      scores = [np.array(values, np.float32) for values in found.pop('scores')]
      return Scored(scores, **found)
    scored = self._model.score(requests)
    entry = scored._asdict()
    scores = [values.tolist() for values in entry.pop('log_probabilities')]
    self._keep(key, {'scores': scores, **entry})
    return scored

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_new_tokens: int
  ) -> Generated:
    """As the model's; computed once."""
    key = _key(
      'generate', max_new_tokens, [p for prompt in prompts for p in (prompt, _END)]
    )
    if (found := self._find(key)) is not None:
      return Generated(**found)
    generated = self._model.generate(prompts, max_new_tokens=max_new_tokens)
    self._keep(key, generated._asdict())
    return generated

  def close(self) -> None:
    if self._file is not None:
      self._file.close()

  def remove(self) -> None:
    """Closes and deletes the file: its answers are in the report now."""
    self.close()
    if self._file is not None:
      self._path.unlink(missing_ok=True)

  def _read(self, of: str, say: Callable[[str], None]) -> int:
    """Indexes the whole lines of the file; returns where they end, 0 to start anew."""
    if not self._path.is_file():
      return 0
    end = 0
    with self._path.open('rb') as file:
      for number, line in enumerate(file):
        if not line.endswith(b'\n'):
          break
        entry = json.loads(line)
        if number == 0 and entry.get('format') != FORMAT:
          say(
            f'journal {str(self._path)!r}: format {entry.get("format", 1)}; this '
            f'version writes {FORMAT}: started anew'
          )
          return 0
        if number == 0 and entry.get('of') != of:
          return 0
        if number:
          self._at[entry['key']] = end
        end += len(line)
    return end

  def _find(self, key: str) -> dict[str, Any] | None:
    """The answer to a call; all hosts must ask it.

    Raises:
      InputError: if they do not ask the same, as where their data differ.
    """
    multihost.assert_same_on_all({'the evaluated data': key})
    line = None
    if key in self._at:
      self._file.seek(self._at[key])
      line = self._file.readline()
    line = multihost.broadcast(line)
    if line is None:
      return None
    self.replayed += 1
    return upgraded(json.loads(line)['answer'], renamed_keys.RESPONSE)

  def _keep(self, key: str, answer: dict[str, Any]) -> None:
    if self._file is not None:
      self._at[key] = self._append({'key': key, 'answer': answer})

  def _append(self, entry: dict[str, Any]) -> int:
    start = self._file.seek(0, os.SEEK_END)
    self._file.write(json.dumps(entry).encode() + b'\n')
    self._file.flush()
    return start


_END = np.array([-1], np.int32)


def _key(kind: str, number: int, parts: Sequence[np.ndarray]) -> str:
  digest = hashlib.blake2b(f'{kind}/{number}/'.encode(), digest_size=16)
  for part in parts:
    digest.update(np.int32(len(part)).tobytes())
    digest.update(np.ascontiguousarray(part, np.int32).tobytes())
  return digest.hexdigest()
