"""Tokenizers: SentencePiece, Hugging Face `tokenizer.json`, or plain UTF-8 bytes.

All share one interface, `Tokenizer`; the digest of its file identifies a tokenizer.
"""

import abc
import functools
import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece

from flan_jax.data import control_tokens, token_patterns
from flan_jax.data.piece_table import PieceTable, known_ids
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import atomic_file, input_file

BYTES = 'bytes'

_SPACE = '\u2581'
"""SentencePiece's own sign for a blank: text that contains it needs care."""

_STAND_INS = ('\ue000', '\uf8ff', '\U000f0000')
"""Private-use characters, which vocabularies spell in bytes."""

UNKNOWN = ' \u2047 '
"""Text that SentencePiece, and `decode` here, shows for an unknown token."""

_EOS_NAMES = (
  '</s>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|im_end|>',
  '<eos>',
  '[SEP]',
)


class Tokenizer(abc.ABC):
  """Text to token ids and back.

  Attributes:
    name: display name: `bytes`, or the name of the file.
    filename: name of its file in a store; '' if it needs none.
    vocab_size: number of ids.
    bos_id: token that starts a sequence; None if the model has none.
    eos_id: token that ends inputs and targets.
    pad_id: padding token; no text becomes it.
    unk_id: token for text outside the vocabulary; None if there is no such text.
    digest: sha256 (hex) of the file.
    threads: maximum threads to encode a batch; None for one per core.
  """

  threads: int | None = None
  name: str
  filename: str
  vocab_size: int
  bos_id: int | None
  eos_id: int
  pad_id: int
  unk_id: int | None
  digest: str

  @abc.abstractmethod
  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Encodes each text to token ids, int32 [n], without BOS and EOS.

    No text becomes BOS, EOS, PAD or another control token, even if it spells one.
    """

  @abc.abstractmethod
  def decode(self, ids: Iterable[int]) -> str:
    """Decodes `ids` to text.

    Control tokens and ids past the vocabulary are left out; an unknown token becomes
    UNKNOWN.
    """

  def decode_batch(self, batch: Sequence[np.ndarray]) -> list[str]:
    """Decodes several arrays of ids, each as `decode` does; faster than in turn."""
    return [self.decode(ids) for ids in batch]

  @abc.abstractmethod
  def save(self, path: str | os.PathLike) -> None:
    """Writes the tokenizer to the file `path`, from which `load` reads it back."""

  def encode(self, text: str) -> np.ndarray:
    """Encodes one text to token ids, int32 [n]."""
    return self.encode_batch([text])[0]

  def keeps(self, text: str, ids: Sequence[int]) -> bool:
    """Tells if `ids` decode to `text`, up to `normalize`."""
    back = self.decode(ids)
    return back == text or normalize(back) == normalize(text)


def normalize(text: str) -> str:
  """Removes differences that a vocabulary may make without loss of meaning.

  Runs of blanks become one blank, those at the ends are removed, and characters are in
  Unicode's compatibility form (NFKC). Newlines and tabs are kept.
  """
  if not text.isascii():
    text = unicodedata.normalize('NFKC', text)
  return ' '.join(part for part in text.split(' ') if part)


class Bytes(Tokenizer):
  """UTF-8 bytes, shifted by three: pad 0, eos 1, unk 2 (the ByT5 layout)."""

  name = BYTES
  filename = ''
  vocab_size = 259
  bos_id = None
  eos_id = 1
  pad_id = 0
  unk_id = 2
  digest = hashlib.sha256(b'utf-8 bytes + 3').hexdigest()

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [
      np.frombuffer(text.encode('utf-8'), np.uint8).astype(np.int32) + 3
      for text in texts
    ]

  def decode(self, ids: Iterable[int]) -> str:
    values = bytes(int(i) - 3 for i in ids if 3 <= i < self.vocab_size)
    return values.decode('utf-8', errors='replace')

  def decode_batch(self, batch: Sequence[np.ndarray]) -> list[str]:
    kept = (ids[(ids >= 3) & (ids < self.vocab_size)] - 3 for ids in batch)
    return [
      values.astype(np.uint8).tobytes().decode('utf-8', errors='replace')
      for values in kept
    ]

  def save(self, path: str | os.PathLike) -> None:
    """Does nothing: `load('bytes')` needs no file."""


class SentencePiece(Tokenizer):
  """A SentencePiece model, from the bytes of its `.model` file.

  Attributes:
    model: bytes of the file.
  """

  filename = 'tokenizer.model'

  def __init__(self, model: bytes, *, name: str):
    try:
      self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError):
      raise InputError(
        f'tokenizer {name!r}: not a SentencePiece model, or a truncated one'
      ) from None
    self.model = model
    self.name = name
    self.vocab_size = self._processor.vocab_size()
    self.eos_id = self._processor.eos_id()
    if self.eos_id < 0:
      raise InputError(f'tokenizer {name!r}: no EOS piece; inputs and targets need one')
    self.bos_id = self._processor.bos_id() if self._processor.bos_id() >= 0 else None
    self.unk_id = self._processor.unk_id()
    self.digest = hashlib.sha256(model).hexdigest()
    self._in_bytes = {sign: self._spelled(sign) for sign in (_SPACE, *_STAND_INS)}
    self.pad_id = self._padding()

  def _padding(self) -> int:
    """Finds the pad piece, or another that no text becomes.

    Without a pad piece it is the unknown piece if unknown letters are spelled in bytes,
    and EOS if they become the unknown piece.
    """
    if self._processor.pad_id() >= 0:
      return self._processor.pad_id()
    in_bytes = self._in_bytes[_STAND_INS[0]] is not None
    return self._processor.unk_id() if in_bytes else self.eos_id

  def _spelled(self, sign: str) -> tuple[int, ...] | None:
    """Byte pieces that spell `sign`; None if the model lacks them."""
    ids = [self._processor.piece_to_id(f'<0x{b:02X}>') for b in sign.encode('utf-8')]
    return tuple(ids) if all(self._processor.is_byte(i) for i in ids) else None

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    texts = list(texts)
    threads = min(len(texts), self.threads or os.cpu_count() or 1)
    ids = self._processor.encode(texts, out_type=int, num_threads=max(1, threads))
    out = [np.array(one, np.int32) for one in ids]
    if self._in_bytes[_SPACE] is not None:
      for i, text in enumerate(texts):
        if _SPACE in text:
          out[i] = self._with_spaces(text, out[i])
    return out

  def _with_spaces(self, text: str, plain: np.ndarray) -> np.ndarray:
    """Spells SentencePiece's blank sign in bytes, so that it is not decoded to a blank.

    Encodes the whole text with a stand-in for the sign that the model spells in bytes,
    then replaces its bytes. Returns `plain` if no stand-in works.
    """
    for sign in _STAND_INS:
      spelled = list(self._in_bytes[sign] or ())
      if (
        not spelled
        or sign in text
        or self._processor.encode(sign)[-len(spelled) :] != spelled
      ):
        continue
      found = self._processor.encode(text.replace(_SPACE, sign))
      at = 0
      while at < len(found):
        if found[at : at + len(spelled)] == spelled:
          found[at : at + len(spelled)] = self._in_bytes[_SPACE]
          at += len(spelled)
        else:
          at += 1
      return np.array(found, np.int32)
    return plain

  def decode(self, ids: Iterable[int]) -> str:
    return self._processor.decode([int(i) for i in ids if 0 <= i < self.vocab_size])

  def decode_batch(self, batch: Sequence[np.ndarray]) -> list[str]:
    known = known_ids(batch, self.vocab_size)
    if self._table is not None:
      return [self._table.decode(ids) for ids in known]
    threads = min(len(known), self.threads or os.cpu_count() or 1)
    return self._processor.decode(known, num_threads=threads) if known else []

  @functools.cached_property
  def _table(self) -> PieceTable | None:
    return PieceTable.of(self._processor)

  def save(self, path: str | os.PathLike) -> None:
    atomic_file.write_bytes(path, self.model)


class HuggingFace(Tokenizer):
  """A Hugging Face fast tokenizer: `tokenizer.json` and its `tokenizer_config.json`.

  BOS is added if `tokenizer_config.json` says `add_bos_token: true`, and not if it says
  `false`. If the entry is missing or `null`, the post-processor decides.

  Text never becomes a control token. Control tokens are those with a role (BOS, EOS,
  PAD, UNK, SEP, CLS, MASK) and the special tokens that came with the model: added
  tokens marked special that are in the model's own vocabulary, or of the form
  `<|im_start|>`. All other added tokens, special or not, are a user's own: text that
  spells one becomes it, and `decode` keeps it. To add a token of your own of the form
  `<|ctx|>`, add it with `special=False`, the default of `add_tokens`.

  Attributes:
    roles: role, as 'bos', -> its token.
    control: control token -> the text that `encode` makes it of.
  """

  filename = 'tokenizer.json'

  def __init__(self, model: bytes, config: Mapping[str, Any], *, name: str):
    try:
      import tokenizers
    except ModuleNotFoundError:
      raise InputError(
        f"tokenizer {name!r}: needs `tokenizers`: pip install 'flan_jax[hf]'"
      ) from None
    file, known = control_tokens.parse(model, name=name)
    ids = known.ids
    self._roles = control_tokens.roles(config, ids, name=name)
    if 'eos' not in self._roles:
      eos = next((token for token in _EOS_NAMES if token in ids), None)
      if eos is None:
        raise InputError(
          f'tokenizer {name!r}: no EOS token; name it as "eos_token" in a '
          'tokenizer_config.json beside it'
        )
      self._roles['eos'] = eos
    self.name = name
    control = control_tokens.find(known, self._roles.values())
    hidden, names = control_tokens.hide(file, control, ids)
    self._tokenizer = self._loaded(tokenizers, hidden)
    token_patterns.check(self._tokenizer, file, name=name)
    self.bos_id = self._bos(config, ids)
    if self.bos_id not in (None, self._role_id('bos', ids)):
      # The post-processor's BOS overrides the config's.
      self._roles['bos'] = next(t for t, i in ids.items() if i == self.bos_id)
      control = control_tokens.find(known, self._roles.values())
      hidden, names = control_tokens.hide(file, control, ids)
      self._tokenizer = self._loaded(tokenizers, hidden)
    self._model = model
    self.roles: Mapping[str, str] = self._roles
    self.control: Mapping[str, str] = names
    self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
    self.eos_id = ids[self._roles['eos']]
    self.pad_id = ids[self._roles.get('pad', self._roles['eos'])]
    self.unk_id = None if known.unk is None else ids[known.unk]
    if self.pad_id == self.unk_id and self.pad_id in self.encode(_STAND_INS[0]):
      # Unknown letters would become padding.
      self._roles['pad'] = self._roles['eos']
      self.pad_id = self.eos_id
    self._unk = None
    roles = (self.bos_id, self.eos_id, self.pad_id)
    if known.unk is not None and self.unk_id not in roles:
      self._unk = names.get(known.unk)
    self._left_out = frozenset(ids[t] for t in control if names[t] != self._unk)
    marks = f'{self.bos_id} {self.eos_id} {self.pad_id} {sorted(self._left_out)}'
    self.digest = hashlib.sha256(model + marks.encode()).hexdigest()

  def _loaded(self, library, file: Mapping[str, Any]):
    try:
      with token_patterns.guarded(self.name):
        found = library.Tokenizer.from_str(json.dumps(file))
    except InputError:
      raise
    except Exception as error:  # tokenizers raises no narrower class
      raise InputError(
        f'tokenizer {self.name!r}: not a tokenizer.json ({error})'
      ) from None
    found.no_truncation()
    found.no_padding()
    return found

  def _role_id(self, role: str, ids: Mapping[str, int]) -> int | None:
    token = self._roles.get(role)
    return None if token is None else ids.get(token)

  def _bos(self, config: Mapping[str, Any], ids: Mapping[str, int]) -> int | None:
    if config.get('add_bos_token') is not None:
      return self._role_id('bos', ids) if config['add_bos_token'] else None
    plain = self._tokenizer.encode('a', add_special_tokens=False).ids
    full = self._tokenizer.encode('a', add_special_tokens=True).ids
    return full[0] if full[:1] != plain[:1] else None

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    with token_patterns.guarded(self.name):
      encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(one.ids, np.int32) for one in encoded]

  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, int32 [n], and the (first, last) character of each, int32 [n, 2]."""
    with token_patterns.guarded(self.name):
      one = self._tokenizer.encode(text, add_special_tokens=False)
    return np.array(one.ids, np.int32), np.array(one.offsets, np.int32).reshape(-1, 2)

  def decode(self, ids: Iterable[int]) -> str:
    return self.decode_batch([np.array(list(ids), np.int64)])[0]

  def decode_batch(self, batch: Sequence[np.ndarray]) -> list[str]:
    known = [
      [i for i in ids if i not in self._left_out]
      for ids in known_ids(batch, self.vocab_size)
    ]
    texts = self._tokenizer.decode_batch(known, skip_special_tokens=False)
    if self._unk is None:
      return texts
    return [text.replace(self._unk, UNKNOWN) for text in texts]

  def save(self, path: str | os.PathLike) -> None:
    """Writes `path` and, beside it, `tokenizer_config.json` with the roles."""
    path = pathlib.Path(path)
    atomic_file.write_bytes(path, self._model)
    config: dict[str, Any] = {'add_bos_token': self.bos_id is not None}
    config |= {f'{role}_token': token for role, token in self._roles.items()}
    beside = path.with_name('tokenizer_config.json')
    atomic_file.write_json(beside, config, sort_keys=True, ensure_ascii=False)


def load(path: str | os.PathLike) -> Tokenizer:
  """Loads a tokenizer.

  Args:
    path: the word `bytes`, a SentencePiece `.model` or a Hugging Face
      `tokenizer.json`.

  Raises:
    InputError: if the file is missing or of another kind.
  """
  if str(path) == BYTES:
    return Bytes()
  file = pathlib.Path(path)
  if file.suffix not in ('.model', '.json'):
    raise InputError(
      f'tokenizer {str(path)!r}: must be a SentencePiece .model, a tokenizer.json or '
      "'bytes'" + did_you_mean(str(path), [BYTES])
    )
  if not file.is_file():
    near = [p.name for p in file.parent.glob('*') if p.suffix in ('.model', '.json')]
    raise InputError(
      f'tokenizer {str(path)!r}: no such file{did_you_mean(file.name, near)}'
    )
  if file.suffix == '.model':
    return SentencePiece(input_file.read_bytes(file), name=file.name)
  config = file.with_name('tokenizer_config.json')
  beside = input_file.read_object(config) if config.is_file() else {}
  model = input_file.read_bytes(file)
  return _hugging_face(model, json.dumps(beside, sort_keys=True), file.name)


@functools.lru_cache(4)
def _hugging_face(model: bytes, config: str, name: str) -> Tokenizer:
  """One tokenizer for equal files: to parse 49,152 tokens takes half a second."""
  return HuggingFace(model, json.loads(config), name=name)
