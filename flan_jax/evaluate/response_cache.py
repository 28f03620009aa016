"""Response cache: answers that an interrupted evaluation has already computed.

A ResponseCache wraps a language model and writes every answer to a file. An equal call,
after an interruption or in a later pass over the same examples, is answered from the
file: same numbers, same report. With several processes, the main one keeps the file and
broadcasts its answers; a process whose call differs is named in an error.
"""

import hashlib
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate.predict import LanguageModel
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Request, Scored
from flan_jax.runtime import atomic_file, multihost, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts


def _sums(params: Any) -> jax.Array:
  """Computes two sums over the bits of every array, modulo 2**32, uint32 [arrays, 2].

  Each element's bits are weighted by its place, so that the order counts. Integer sums
  do not depend on the sharding.
  """

  def sums(leaf: jax.Array) -> jax.Array:
    kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
      along = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
      place = place * jnp.uint32(size % 2**32) + along
    weights = [place * jnp.uint32(odd) | jnp.uint32(1) for odd in _ODD]
    return jnp.stack([(bits * weight).sum(dtype=jnp.uint32) for weight in weights])

  return jnp.stack([sums(leaf) for leaf in jax.tree.leaves(params)])


def _sums_on_host(params: Any) -> np.ndarray:
  """Computes what `_sums` does, of a small model, without a program to compile."""
  out = []
  for leaf in map(np.asarray, map(jnp.asarray, jax.tree.leaves(params))):
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}[leaf.dtype.itemsize]
    bits = np.ascontiguousarray(leaf).view(kind).reshape(-1).astype(np.uint32)
    place = np.arange(leaf.size, dtype=np.uint32)
    weights = [place * np.uint32(odd) | np.uint32(1) for odd in _ODD]
    out.append([(bits * weight).sum(dtype=np.uint32) for weight in weights])
  return np.array(out, np.uint32)


_ODD = (0x9E3779B1, 0x85EBCA77)

_ON_HOST = 2**23
"""Parameters up to which the host sums them sooner than a program is compiled."""


def fingerprint(params: Any) -> str:
  """Hashes the parameters, independently of the mesh."""
  leaves = jax.tree.leaves(params)
  where = getattr(leaves[0], 'sharding', None)
  if isinstance(where, NamedSharding):
    where = NamedSharding(where.mesh, PartitionSpec())
  elif sum(leaf.size for leaf in leaves) <= _ON_HOST:
    sums = _sums_on_host(params)
    return hashlib.blake2b(sums.tobytes(), digest_size=8).hexdigest()
  sums = np.asarray(jax.jit(_sums, out_shardings=where)(params))
  return hashlib.blake2b(sums.tobytes(), digest_size=8).hexdigest()


FORMAT = 3
"""Version of the file and of how answers are computed; other versions are not read."""

UNCHECKED = 2
"""The version before, whose lines have no checksums; its answers are taken over."""


class ResponseCache:
  """A language model with its answers cached in a file.

  One call of `loglikelihood` or `generate` is one line, written when the call is done,
  with its checksum. A torn last line is dropped, and that call computed again; so is
  that of a damaged line. A file of another model or format is overwritten.

  Attributes:
    replayed: number of calls answered from the file.
  """

  def __init__(
    self,
    model: LanguageModel,
    path: str | os.PathLike,
    *,
    model_id: str,
    log: Callable[[str], None] = lambda line: None,
  ):
    """Opens or creates the file.

    Args:
      model: model that answers new calls.
      path: path of the file.
      model_id: name of the model, such as its `fingerprint`.
      log: called with a line if the file is overwritten, damaged, or unchecked.
    """
    self._model = model
    self._path = pathlib.Path(path)
    self._offsets: dict[str, int] = {}  # key of a call -> offset of its line
    self.replayed = 0
    self._file: IO[bytes] | None = None  # of the main process
    if not multihost.is_main_process():
      return
    end = self._read(model_id, log)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    atomic_file.check_output(self._path)
    self._file = self._path.open('r+b' if end else 'w+b')
    self._file.truncate(end)
    if not end:
      _append(self._file, {'format': FORMAT, 'of': model_id})

  @property
  def tokenizer(self) -> Tokenizer:
    return self._model.tokenizer

  @property
  def sequence_length(self) -> int:
    return self._model.sequence_length

  @property
  def max_length(self) -> int | None:
    return self._model.max_length

  @property
  def chat(self) -> 'ChatPrompts | None':
    return self._model.chat

  def loglikelihood(self, requests: Sequence[Request]) -> Scored:
    """Calls the model's `loglikelihood`, or replays it."""
    parts = [part for r in requests for part in (r.prompt, *r.options, _END)]
    key = _key('score', self._model.sequence_length, parts)
    if (found := self._find(key)) is not None:
      scores = [np.array(values, np.float32) for values in found.pop('scores')]
      return Scored(scores, **found)
    scored = self._model.loglikelihood(requests)
    entry = scored._asdict()
    scores = [values.tolist() for values in entry.pop('log_probabilities')]
    self._keep(key, {'scores': scores, **entry})
    return scored

  def generate(self, prompts: Sequence[np.ndarray], *, max_tokens: int) -> Generated:
    """Calls the model's `generate`, or replays it."""
    parts = [part for prompt in prompts for part in (prompt, _END)]
    key = _key('generate', max_tokens, parts)
    if (found := self._find(key)) is not None:
      return Generated(**found)
    generated = self._model.generate(prompts, max_tokens=max_tokens)
    self._keep(key, generated._asdict())
    return generated

  def close(self) -> None:
    if self._file is not None:
      self._file.close()

  def remove(self) -> None:
    """Closes and deletes the file, once the report holds its answers."""
    self.close()
    if self._file is not None:
      self._path.unlink(missing_ok=True)

  def _read(self, model_id: str, log: Callable[[str], None]) -> int:
    """Indexes the file's whole lines; returns their end, or 0 to overwrite the file."""
    if not self._path.is_file():
      return 0
    name = f'response cache {str(self._path)!r}'
    end = damaged = 0
    unchecked = False
    with self._path.open('rb') as file:
      for number, line in enumerate(file):
        if not line.endswith(b'\n'):
          break
        entry = _parsed(line, unchecked=unchecked or number == 0)
        if number == 0:
          if entry is None or not isinstance(entry.get('format', 1), int):
            log(f'{name}: its first line is damaged; starting over')
            return 0
          version = entry.get('format', 1)
          unchecked = version == UNCHECKED
          if version != FORMAT and not unchecked:
            log(f'{name}: has format {version}, this version writes {FORMAT}; '
                'starting over')  # fmt: skip
            return 0
          if entry.get('of') != model_id:
            return 0
        elif entry is None:
          damaged += 1
        else:
          self._offsets[entry['key']] = end
        end += len(line)
    if unchecked and self._offsets:
      log(f'{name}: of an older version, without checksums; its answers are taken as '
          'they are')  # fmt: skip
    if damaged:
      log(f'{name}: {damaged:,} damaged lines are skipped; their answers are computed '
          'again')  # fmt: skip
    return end

  def _find(self, key: str) -> dict[str, Any] | None:
    """Looks up the answer to a call; every process must call it.

    Raises:
      InputError: if the processes' calls differ, for example because their data do.
    """
    multihost.assert_same_on_all({'the evaluated data': key})
    line = None
    if self._file is not None and key in self._offsets:
      self._file.seek(self._offsets[key])
      line = self._file.readline()
    line = multihost.broadcast(line)
    if line is None:
      return None
    self.replayed += 1
    entry = _parsed(line, unchecked=True)
    if entry is None:
      raise InputError(
        f'response cache {str(self._path)!r}: was damaged since it was opened; rerun '
        'the same command'
      )
    return upgraded(entry['answer'], renamed_keys.RESPONSE)

  def _keep(self, key: str, answer: dict[str, Any]) -> None:
    if self._file is not None:
      self._offsets[key] = _append(self._file, {'key': key, 'answer': answer})


def _parsed(line: bytes, *, unchecked: bool) -> dict[str, Any] | None:
  """Parses a line; None if it is damaged.

  Args:
    line: the line, with its end.
    unchecked: whether a line without a checksum may be whole.
  """
  body, mark, tail = line.rpartition(_CHECKSUM)
  if mark:
    body += b'}'
    if tail != _tail(body):
      return None
  elif unchecked:
    body = line
  try:
    entry = json.loads(body)
  except (ValueError, RecursionError):
    return None
  if not isinstance(entry, dict) or entry.keys().isdisjoint({'format', 'of', 'key'}):
    return None
  if 'key' in entry and not isinstance(entry.get('answer'), dict):
    return None
  if entry.get('format') == FORMAT and not mark:
    return None
  return entry


_CHECKSUM = b', "crc32": "'
"""Between the text of a line and the checksum of that text."""


def _tail(body: bytes) -> bytes:
  return b'%08x"}\n' % zlib.crc32(body)


def _append(file: IO[bytes], entry: dict[str, Any]) -> int:
  """Writes a line at the end of the file; returns where it starts."""
  start = file.seek(0, os.SEEK_END)
  body = json.dumps(entry).encode()
  file.write(body[:-1] + _CHECKSUM + _tail(body))
  file.flush()
  return start


_END = np.array([-1], np.int32)


def _key(kind: str, number: int, parts: Sequence[np.ndarray]) -> str:
  digest = hashlib.blake2b(f'{kind}/{number}/'.encode(), digest_size=16)
  for part in parts:
    digest.update(np.int32(len(part)).tobytes())
    digest.update(np.ascontiguousarray(part, np.int32).tobytes())
  return digest.hexdigest()
