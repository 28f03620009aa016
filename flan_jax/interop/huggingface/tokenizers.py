"""Loads the tokenizer of a model from any of its files, and saves it.

BOS, EOS and padding come from the model's files and are never guessed from token text.
Every loader returns a `flan_jax.data.tokenizers.Tokenizer`.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from flan_jax.checkpoints import model_dir
from flan_jax.data import bpe, control_tokens
from flan_jax.data import tokenizers as tokenizers_lib
from flan_jax.data.tokenizers import Bytes, HuggingFace, SentencePiece, Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop.huggingface.gguf import File
from flan_jax.interop.huggingface.source import inside, read_json
from flan_jax.runtime import input_file

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MODERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
  r' ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_SPLITS: Mapping[str, tuple[str, ...]] = {
  'gpt-2': (_GPT2,),
  'olmo': (_GPT2,),
  'smollm': (r'\p{N}', _GPT2),
  'starcoder': (r'\p{N}', _GPT2),
  'refact': (r'\p{N}', _GPT2),
  'llama-bpe': (_MODERN.format(digits=r'\p{N}{1,3}'),),
  'qwen2': (_MODERN.format(digits=r'\p{N}'),),
}
"""tokenizer.ggml.pre -> patterns that split text before pairs are merged."""

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_ROLES = ('bos', 'eos', 'padding')
_SPACE = '\u2581'


def _library():
  try:
    import tokenizers
  except ModuleNotFoundError:
    raise InputError(
      "`tokenizers`: not installed; pip install 'flan_jax[hf]'"
    ) from None
  return tokenizers


def _byte_level(
  vocabulary: Mapping[str, int],
  merges: list[tuple[str, str]],
  *,
  splits: tuple[str, ...],
  special: list[str],
  defined: list[str],
  whole_words: bool = False,
) -> bytes:
  """Returns the tokenizer.json of a byte-level BPE."""
  lib = _library()
  model = lib.models.BPE(dict(vocabulary), merges, ignore_merges=whole_words)
  out = lib.Tokenizer(model)
  pre_tokenizers = [
    lib.pre_tokenizers.Split(lib.Regex(pattern), behavior='isolated')
    for pattern in splits
  ]
  byte_level = lib.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  out.pre_tokenizer = lib.pre_tokenizers.Sequence([*pre_tokenizers, byte_level])
  out.decoder = lib.decoders.ByteLevel()
  out.add_special_tokens([lib.AddedToken(t, normalized=False) for t in special])
  out.add_tokens([lib.AddedToken(t, normalized=False) for t in defined])
  return out.to_str().encode('utf-8')


def from_gguf(file: File) -> Tokenizer | None:
  """The tokenizer inside a GGUF file; None if it has none.

  Raises:
    InputError: if its model or its pre-tokenizer is not supported.
  """
  kind = file.field('tokenizer.ggml.model')
  if kind is None:
    return None
  if kind == 'llama':
    return SentencePiece(_sentencepiece(file), name='tokenizer.model')
  if kind != 'gpt2':
    raise InputError(
      f"{file.where}: tokenizer.ggml.model: got {kind!r}; must be 'llama' "
      "(SentencePiece) or 'gpt2' (byte-level BPE)"
    )
  pre_tokenizer = file.field('tokenizer.ggml.pre', 'gpt-2')
  if pre_tokenizer not in _SPLITS:
    raise InputError(
      f'{file.where}: tokenizer.ggml.pre: got {pre_tokenizer!r}; must be one of '
      f'{", ".join(_SPLITS)}{did_you_mean(pre_tokenizer, _SPLITS)}'
    )
  tokens = file.field('tokenizer.ggml.tokens')
  kinds = file.field('tokenizer.ggml.token_type') or [1] * len(tokens)
  merges = [tuple(m.split(' ', 1)) for m in file.field('tokenizer.ggml.merges')]
  model = _byte_level(
    {token: i for i, token in enumerate(tokens)},
    merges,
    splits=_SPLITS[pre_tokenizer],
    special=[t for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL],
    defined=[t for t, k in zip(tokens, kinds, strict=True) if k == _USER_DEFINED],
    whole_words=pre_tokenizer == 'llama-bpe',
  )
  ids = {
    f'{role}_token': file.field(f'tokenizer.ggml.{key}_token_id')
    for role, key in [('bos', 'bos'), ('eos', 'eos'), ('pad', 'padding')]
  }
  names = {key: tokens[i] for key, i in ids.items() if i is not None}
  add_bos = bool(
    file.field('tokenizer.ggml.add_bos_token', pre_tokenizer == 'llama-bpe')
  )
  return HuggingFace(model, {**names, 'add_bos_token': add_bos}, name='tokenizer.json')


def _sentencepiece(file: File) -> bytes:
  """The vocabulary of a GGUF file as a serialized SentencePiece model."""
  spm = bpe.messages()
  tokens = file.field('tokenizer.ggml.tokens')
  scores = file.field('tokenizer.ggml.scores')
  kinds = file.field('tokenizer.ggml.token_type')
  if not (scores and kinds and len(tokens) == len(scores) == len(kinds)):
    raise InputError(
      f'{file.where}: tokenizer.ggml: tokens, scores and types differ in length'
    )
  unknown = file.field('tokenizer.ggml.unknown_token_id', 0)
  roles = {file.field(f'tokenizer.ggml.{key}_token_id') for key in _ROLES}
  model = spm.ModelProto()
  for i, (token, score, kind) in enumerate(zip(tokens, scores, kinds, strict=True)):
    if i == unknown:
      kind = spm.ModelProto.SentencePiece.UNKNOWN
    elif i in roles and len(token) > 1 and kind in (_NORMAL, _USER_DEFINED):
      kind = _CONTROL  # text must never encode to EOS or padding
    model.pieces.add(piece=token, score=score, type=kind)
  trainer = model.trainer_spec
  trainer.model_type = spm.TrainerSpec.BPE
  trainer.vocab_size = len(tokens)
  trainer.byte_fallback = True
  trainer.unk_id = unknown
  trainer.unk_piece = tokens[unknown]
  add_bos = file.field('tokenizer.ggml.add_bos_token', True)
  for name, key in [('bos', 'bos'), ('eos', 'eos'), ('pad', 'padding')]:
    i = file.field(f'tokenizer.ggml.{key}_token_id')
    if name == 'bos' and not add_bos:
      i = None
    setattr(trainer, f'{name}_id', -1 if i is None else i)
    if i is not None:
      setattr(trainer, f'{name}_piece', tokens[i])
  model.normalizer_spec.name = 'identity'
  model.normalizer_spec.add_dummy_prefix = bool(
    file.field('tokenizer.ggml.add_space_prefix', True)
  )
  model.normalizer_spec.remove_extra_whitespaces = False
  return model.SerializeToString(deterministic=True)


def from_folder(folder: pathlib.Path, config: Mapping[str, Any]) -> Tokenizer | None:
  """The tokenizer of a Hugging Face folder; None if it has none.

  Args:
    folder: folder with tokenizer.json, tokenizer.model, or vocab.json and merges.txt.
    config: config of the model; its token ids apply if the tokenizer names none.
  """
  saved = (config.get('flan_jax') or {}).get('tokenizer')
  if saved == tokenizers_lib.BYTES:
    return Bytes()
  files = {
    name: inside(folder, name)
    for name in ('tokenizer.json', 'tokenizer.model', 'vocab.json', 'merges.txt')
  }
  have = {name for name, path in files.items() if path.is_file()}
  if 'tokenizer.model' in have and ('tokenizer.json' not in have or saved == 'model'):
    return SentencePiece(
      input_file.read_bytes(files['tokenizer.model']), name='tokenizer.model'
    )
  if 'tokenizer.json' in have:
    model = input_file.read_bytes(files['tokenizer.json'])
  elif {'vocab.json', 'merges.txt'} <= have:
    model = _from_merges(files['vocab.json'], files['merges.txt'])
  else:
    return None
  names: dict[str, Any] = {}
  for name in ('special_tokens_map.json', 'tokenizer_config.json'):
    path = inside(folder, name)
    names |= read_json(path) if path.is_file() else {}
  return HuggingFace(
    model, _with_special_tokens(model, names, config), name='tokenizer.json'
  )


def _with_special_tokens(
  model: bytes, names: dict[str, Any], config: Mapping[str, Any]
):
  """Adds the special tokens that `names` lacks, by the token ids of `config`."""
  _, known = control_tokens.parse(model, name='tokenizer.json')
  token_of = {i: token for token, i in known.ids.items()}
  for name in ('bos', 'eos', 'pad'):
    i = config.get(f'{name}_token_id')
    i = i[0] if isinstance(i, list) and i else i
    if isinstance(i, int) and names.get(f'{name}_token') is None:
      names[f'{name}_token'] = token_of.get(i)
  return names


def _from_merges(vocabulary: pathlib.Path, merges: pathlib.Path) -> bytes:
  lines = merges.read_text(encoding='utf-8').split('\n')
  pairs = [
    (first, second)
    for first, blank, second in (line.partition(' ') for line in lines)
    if blank and not first.startswith('#version')
  ]
  pieces = read_json(vocabulary)
  made = {a + b for a, b in pairs}
  special = [t for t in pieces if len(t) > 1 and t not in made]
  return _byte_level(pieces, pairs, splits=(_GPT2,), special=special, defined=[])


def from_model_folder(folder: pathlib.Path) -> Tokenizer | None:
  """The tokenizer of a flan_jax model folder; None if it has none."""
  try:
    return tokenizers_lib.load(model_dir.tokenizer_file(str(folder)))
  except InputError:
    names = ('tokenizer.model', 'tokenizer.json', 'tokenizer.bytes')
    if any((folder / name).exists() for name in names):
      raise
    return None


def save(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
  """Saves the tokenizer in a flan_jax model folder."""
  if tokenizer.filename:
    tokenizer.save(folder / tokenizer.filename)
  else:
    (folder / 'tokenizer.bytes').touch()


def special_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
  """The fields of config.json that name special tokens."""
  if tokenizer is None:
    return {}
  return {
    'bos_token_id': tokenizer.bos_id,
    'eos_token_id': tokenizer.eos_id,
    'pad_token_id': tokenizer.pad_id,
  }


def mark(tokenizer: Tokenizer | None) -> dict[str, str]:
  """The entry of config.json that restores the same tokenizer on import."""
  if isinstance(tokenizer, Bytes):
    return {'tokenizer': tokenizers_lib.BYTES}
  if isinstance(tokenizer, SentencePiece):
    return {'tokenizer': 'model'}
  return {}
