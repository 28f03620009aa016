"""Control tokens of a `tokenizer.json`: finds them and keeps text from becoming one.

`tokenizers` turns text that spells an added token into that token. This module renames
control tokens, before the file is loaded, to names that no text spells: their ids do
not change, and the text `<|im_end|>` is tokenized like any other.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import input_file

ROLES = ('bos', 'eos', 'pad', 'unk', 'sep', 'cls', 'mask')
"""Roles that a tokenizer_config.json gives to tokens, as `eos_token`."""

_RESERVED = re.compile(r'<[|\uff5c].*[|\uff5c]>', re.DOTALL)
"""Form of the turn markers of released models, as `<|im_start|>`."""


class Vocabulary(NamedTuple):
  """A parsed tokenizer.json.

  Attributes:
    ids: token -> id, of the model and of the added tokens.
    pieces: tokens of the model itself.
    special: added tokens marked special.
    unk: the token for text outside the vocabulary; None if the model has none.
  """

  ids: Mapping[str, int]
  pieces: frozenset[str]
  special: frozenset[str]
  unk: str | None


def parse(model: bytes, *, name: str) -> tuple[dict[str, Any], Vocabulary]:
  """Parses the bytes of a tokenizer.json: (its content, its tokens).

  Raises:
    InputError: if it is none.
  """
  try:
    file = input_file.parse(model, finite=True)
    return file, vocabulary(file)
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise InputError(f'tokenizer {name!r}: not a tokenizer.json ({error})') from None


def vocabulary(file: Mapping[str, Any]) -> Vocabulary:
  """Reads the tokens of a parsed tokenizer.json.

  Raises:
    LookupError, TypeError, ValueError: if it is not a tokenizer.json.
  """
  model = file['model']
  pieces = model['vocab']
  if isinstance(pieces, Mapping):
    ids, unk = dict(pieces), model.get('unk_token')
  else:
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    unk = None if model.get('unk_id') is None else pieces[model['unk_id']][0]
  added = file.get('added_tokens') or []
  texts = [*ids, *(token['content'] for token in added)]
  if not all(isinstance(text, str) for text in texts):
    raise ValueError('a token that is no text')
  for pair in model.get('merges') or ():
    parts = pair.split(' ', 1) if isinstance(pair, str) else pair
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
      raise ValueError(f'merges has {pair!r:.40}; must be pairs of tokens')
  if any(
    type(i) is not int or not 0 <= i < 1 << 31
    for i in (*ids.values(), *(token['id'] for token in added))
  ):
    raise ValueError('a token whose id is no whole number, 0 or more')
  return Vocabulary(
    ids | {token['content']: token['id'] for token in added},
    frozenset(ids),
    frozenset(token['content'] for token in added if token['special']),
    unk if unk in ids else None,
  )


def roles(
  config: Mapping[str, Any], ids: Mapping[str, int], *, name: str
) -> dict[str, str]:
  """Role -> token, for the tokens named in a tokenizer_config.json.

  Roles that are not needed here may name a token that is not in the vocabulary.

  Raises:
    InputError: if EOS, or a BOS that is added, is not in the vocabulary.
  """
  out = {}
  needed = {'eos': True, 'bos': config.get('add_bos_token') is True}
  for role in ROLES:
    token = config.get(f'{role}_token')
    token = token.get('content') if isinstance(token, Mapping) else token
    if isinstance(token, str) and token in ids:
      out[role] = token
    elif token is not None and needed.get(role):
      raise InputError(
        f'tokenizer {name!r}: "{role}_token" in tokenizer_config.json is {token!r}; '
        'must be a token of its vocabulary' + did_you_mean(str(token), ids)
      )
  return out


def find(known: Vocabulary, roles: Iterable[str]) -> frozenset[str]:
  """Finds the control tokens, which text never becomes.

  These are the tokens with a role, and the special added tokens that came with the
  model: those in its own vocabulary, or of the form `<|im_start|>`. Other added tokens
  are a user's own. A token of one character is never a control token: nothing else
  could spell that character.
  """
  own = {
    token
    for token in known.special
    if token in known.pieces or _RESERVED.fullmatch(token)
  }
  named = {token for token in roles if token in known.ids}
  unk = set() if known.unk is None else {known.unk}
  return frozenset(token for token in own | named | unk if len(token) > 1)


def hide(
  file: Mapping[str, Any], control: Iterable[str], ids: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, str]]:
  """Renames the tokens `control` of a parsed tokenizer.json.

  Args:
    file: the tokenizer.json.
    control: control tokens, from `find`.
    ids: token -> id.

  Returns:
    The renamed file, and control token -> new name.
  """
  control = sorted(control)
  stamp = hashlib.sha256(json.dumps(control).encode()).hexdigest()
  new = {token: f'{stamp}-{ids[token]}' for token in control}
  model = dict(file['model'])
  if isinstance(model['vocab'], Mapping):
    model['vocab'] = {new.get(token, token): i for token, i in model['vocab'].items()}
    if model.get('unk_token') is not None:
      model['unk_token'] = new.get(model['unk_token'], model['unk_token'])
  else:
    model['vocab'] = [[new.get(piece, piece), score] for piece, score in model['vocab']]
  if 'merges' in model:
    pairs = (m.split(' ', 1) if isinstance(m, str) else m for m in model['merges'])
    merges = [
      [a, b] for a, b in pairs if a not in new and b not in new and a + b not in new
    ]
    model['merges'] = merges
  added = [
    {**token, 'content': new.get(token['content'], token['content'])}
    for token in file.get('added_tokens') or []
  ]
  return {**file, 'model': model, 'added_tokens': added}, new
