"""Translates a SentencePiece model to a Hugging Face tokenizer.json."""

from typing import Any

from flan_jax.data import bpe
from flan_jax.data.tokenizers import SentencePiece
from flan_jax.errors import InputError
from flan_jax.interop.huggingface.logit_check import PARAGRAPH

_SPACE = '\u2581'

SAMPLES = (
  PARAGRAPH,
  'Two  blanks,\ttab,\nnewline.\n\n  Digits 1234567 and 3.14 (100%).',
  'Žluťoučký kůň, 中文字符, emoji 🙂, ½ naïve — “quotes”',
)
"""Texts that two tokenizers are compared on."""

NEVER = -1e6
"""Score of a unigram piece that no text becomes, far below that of any path."""


def translate(tokenizer: SentencePiece) -> tuple[bytes, dict[str, Any]]:
  """Returns tokenizer.json and the fields of tokenizer_config.json.

  Raises:
    InputError: if the translation tokenizes a sample differently.
  """
  import tokenizers as lib

  spm = bpe.messages()
  model = spm.ModelProto.FromString(tokenizer.model)
  kinds = spm.ModelProto.SentencePiece
  trainer, normalizer = model.trainer_spec, model.normalizer_spec
  if trainer.model_type == spm.TrainerSpec.BPE:
    vocabulary = {piece.piece: i for i, piece in enumerate(model.pieces)}
    out = lib.Tokenizer(
      lib.models.BPE(
        vocabulary,
        _merges(model.pieces, kinds),
        unk_token=model.pieces[trainer.unk_id].piece,
        fuse_unk=True,
        byte_fallback=trainer.byte_fallback,
      )
    )
  else:
    spelled = (kinds.NORMAL, kinds.USER_DEFINED)
    pairs = [(p.piece, p.score if p.type in spelled else NEVER) for p in model.pieces]
    out = lib.Tokenizer(
      lib.models.Unigram(
        pairs, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback
      )
    )
  steps = []
  if normalizer.precompiled_charsmap:
    steps.append(lib.normalizers.Precompiled(normalizer.precompiled_charsmap))
  if normalizer.remove_extra_whitespaces:
    steps += [
      lib.normalizers.Strip(),
      lib.normalizers.Replace(lib.Regex(' {2,}'), ' '),
    ]
  if normalizer.add_dummy_prefix:
    steps.append(lib.normalizers.Prepend(_SPACE))
  steps.append(lib.normalizers.Replace(' ', _SPACE))
  out.normalizer = lib.normalizers.Sequence(steps)
  undo = [
    lib.decoders.Replace(_SPACE, ' '),
    lib.decoders.ByteFallback(),
    lib.decoders.Fuse(),
  ]
  if normalizer.add_dummy_prefix:
    undo.append(lib.decoders.Strip(' ', 1, 0))
  if model.denormalizer_spec.precompiled_charsmap:
    undo.append(lib.decoders.Replace('\n ', '\n'))
  out.decoder = lib.decoders.Sequence(undo)
  for kind, special in [(kinds.CONTROL, True), (kinds.USER_DEFINED, False)]:
    found = [piece.piece for piece in model.pieces if piece.type == kind]
    added = [lib.AddedToken(t, normalized=False, special=special) for t in found]
    (out.add_special_tokens if special else out.add_tokens)(added)
  for sample in SAMPLES:
    if out.encode(sample, add_special_tokens=False).ids != list(
      tokenizer.encode(sample)
    ):
      raise InputError(
        f'tokenizer {tokenizer.name!r}: its translation to tokenizer.json tokenizes '
        f'{sample[:20]!r} differently; this model cannot be exported'
      )
  names: dict[str, Any] = {'add_bos_token': tokenizer.bos_id is not None}
  for key, i in [
    ('bos', tokenizer.bos_id),
    ('eos', tokenizer.eos_id),
    ('pad', tokenizer.pad_id),
  ]:
    if i is not None:
      names[f'{key}_token'] = model.pieces[i].piece
  return out.to_str().encode('utf-8'), names


def _merges(pieces, kinds) -> list[tuple[str, str]]:
  """The pairs that merge to each piece, the pieces of the best score first.

  SentencePiece merges the two neighbors that form the piece of the best score. All ways
  to split a piece are listed, in the order of their parts.
  """
  ranks = {
    piece.piece: i for i, piece in enumerate(pieces) if piece.type == kinds.NORMAL
  }
  scores = {piece.piece: piece.score for piece in pieces}
  found = []
  for piece in ranks:
    cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
    cuts = [(a, b) for a, b in cuts if a in ranks and b in ranks]
    cuts.sort(key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
    found += [(-scores[piece], ranks[piece], cut) for cut in cuts]
  found.sort(key=lambda entry: entry[:2])
  return [cut for _, _, cut in found]
