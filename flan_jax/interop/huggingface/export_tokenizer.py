"""The `tokenizer.json` of an exported model, which tokenizes as the model was trained.

A tuned model gets one whose plain call gives BOS and the tokens of the text, and with
it a chat template (chat_template.py). A model that was only converted keeps the file of
its source.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flan_jax.data import control_tokens
from flan_jax.data.tokenizers import Bytes, HuggingFace, SentencePiece, Tokenizer
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import (
  chat_template,
  sentencepiece_json,
  source_files,
)
from flan_jax.interop.huggingface.sentencepiece_json import NEVER, SAMPLES
from flan_jax.interop.huggingface.source import read_json
from flan_jax.runtime.progress import Progress


class Exported(NamedTuple):
  """The files of a tokenizer, as `transformers` reads them.

  Attributes:
    file: tokenizer.json, parsed.
    config: tokenizer_config.json, parsed.
  """

  file: dict[str, Any]
  config: dict[str, Any]


def save(
  tokenizer: Tokenizer,
  folder: pathlib.Path,
  *,
  source: pathlib.Path,
  tuned: bool,
  progress: Progress,
) -> None:
  """Writes what `transformers` loads; SentencePiece's own file too.

  Args:
    tokenizer: the model's tokenizer.
    folder: destination; a chat template that it holds stays.
    source: the model folder, whose tokenizer_config.json may be that of its source.
    tuned: whether the model was tuned here: it gets FLAN's chat template then.
    progress: receiver of status lines.

  Raises:
    InputError: if the written files would tokenize differently.
  """
  if tokenizer.filename:
    tokenizer.save(folder / tokenizer.filename)
  settings = source_files.tokenizer_settings(source)
  if not tuned and 'tokenizer_class' in settings:  # the files of a Hugging Face folder
    _write_config(folder, settings)
    return
  found = plain = _as_it_is(tokenizer, source)
  if tuned:
    found, template, spelled = _as_trained(found, tokenizer)
    if not (folder / chat_template.FILE).exists():
      (folder / chat_template.FILE).write_text(template, encoding='utf-8')
    if spelled:
      progress.line(
        f'warning: in `transformers`, text that spells {" or ".join(spelled[:4])} '
        'becomes a control token; remove it from prompts'
      )
  else:
    found = _adding_bos(found, tokenizer)
  if found.file is not plain.file or not isinstance(tokenizer, HuggingFace):
    text = json.dumps(found.file, ensure_ascii=False, separators=(',', ':'))
    (folder / 'tokenizer.json').write_text(text, encoding='utf-8')
  config = {'clean_up_tokenization_spaces': False, **found.config}
  _write_config(folder, {**config, 'tokenizer_class': 'PreTrainedTokenizerFast'})


def _write_config(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  text = json.dumps(config, indent=2, ensure_ascii=False) + '\n'
  (folder / 'tokenizer_config.json').write_text(text, encoding='utf-8')


def _as_it_is(tokenizer: Tokenizer, source: pathlib.Path) -> Exported:
  """Returns the files before they are made to add BOS.

  A SentencePiece model is translated, and a `tokenizer.json` read back from `source`.

  Raises:
    InputError: if the translation of a SentencePiece model tokenizes differently.
  """
  if isinstance(tokenizer, Bytes):
    return Exported(_bytes(), {'eos_token': '</s>', 'pad_token': '<pad>'})
  if isinstance(tokenizer, SentencePiece):
    model, names = sentencepiece_json.translate(tokenizer)
    return Exported(json.loads(model), names)
  config = read_json(source / 'tokenizer_config.json')
  return Exported(read_json(source / tokenizer.filename), config)


def _bytes() -> dict[str, Any]:
  """UTF-8 bytes shifted by three, as the tokenizer.json of a byte-level BPE."""
  special = {'<pad>': 0, '</s>': 1, '<unk>': 2}
  letters = {sign: byte + 3 for byte, sign in enumerate(_byte_signs())}
  step = {
    'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True,
    'use_regex': False,
  }  # fmt: skip
  return {
    'version': '1.0',
    'added_tokens': [_special(token, i) for token, i in special.items()],
    'normalizer': None,
    'pre_tokenizer': step,
    'post_processor': None,
    'decoder': step,
    'model': {'type': 'BPE', 'vocab': {**special, **letters}, 'merges': []},
  }


def _byte_signs() -> list[str]:
  """GPT-2's sign of every byte: itself if printable in Latin-1, else from U+0100 on."""
  printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _special(token: str, i: int) -> dict[str, Any]:
  return {
    'id': i, 'content': token, 'single_word': False, 'lstrip': False, 'rstrip': False,
    'normalized': False, 'special': True,
  }  # fmt: skip


def _as_trained(
  found: Exported, tokenizer: Tokenizer
) -> tuple[Exported, str, list[str]]:
  """Returns the files of a tuned model, its chat template, and what `_check` found.

  Raises:
    InputError: if they tokenize a sample differently from training.
  """
  known = control_tokens.vocabulary(found.file)
  token_of = {i: token for token, i in known.ids.items()}
  roles = {
    f'{role}_token': token_of[i]
    for role, i in [
      ('bos', tokenizer.bos_id), ('eos', tokenizer.eos_id), ('pad', tokenizer.pad_id)
    ]
    if i is not None
  }  # fmt: skip
  roles = {**_tokens(found.config, known.ids), **roles}
  file = dict(found.file, truncation=None, padding=None)
  added = {token['content']: token for token in file.get('added_tokens') or []}
  control = control_tokens.find(known, roles.values())
  file['model'] = _never_from_text(file['model'], control)
  control &= {*added, *roles.values()}
  marks = chat_template.marks_of(control, set(added) - control)
  added |= {token: _special(token, known.ids[token]) for token in control}
  file['added_tokens'] = sorted(added.values(), key=lambda token: token['id'])
  file['post_processor'] = _post_processor(roles, known.ids, bos=tokenizer.bos_id)
  file['normalizer'] = _without_joint(file.get('normalizer'))
  file['pre_tokenizer'] = _each_part_alone(file.get('pre_tokenizer'))
  out = Exported(file, {**roles, 'add_bos_token': tokenizer.bos_id is not None})
  spelled = _check(out, tokenizer, control=control, marks=marks)
  template = chat_template.of(bos=tokenizer.bos_id is not None, marks=marks)
  return out, template, spelled


def _tokens(config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, str]:
  """`eos_token` and the like of a tokenizer_config.json, as plain strings."""
  out = {}
  for role in control_tokens.ROLES:
    token = config.get(f'{role}_token')
    token = token.get('content') if isinstance(token, Mapping) else token
    if token in ids:
      out[f'{role}_token'] = token
  return out


def _never_from_text(
  model: Mapping[str, Any], control: frozenset[str]
) -> dict[str, Any]:
  """A unigram model whose control tokens cost too much to be chosen for a text."""
  if isinstance(model['vocab'], Mapping):
    return dict(model)
  pieces = [[piece, NEVER if piece in control else s] for piece, s in model['vocab']]
  return {**model, 'vocab': pieces}


def _adding_bos(found: Exported, tokenizer: Tokenizer) -> Exported:
  """Returns the files with a post-processor that adds BOS, if they state one."""
  ids = control_tokens.vocabulary(found.file).ids
  roles = _tokens(found.config, ids)
  stated = found.config.get('add_bos_token', tokenizer.bos_id is not None)
  if not stated or 'bos_token' not in roles:
    return found
  bos = ids[roles['bos_token']]
  if _loaded(found.file).encode('a', add_special_tokens=True).ids[:1] == [bos]:
    return found
  step = _post_processor(roles, ids, bos=bos)
  return found._replace(file={**found.file, 'post_processor': step})


def _loaded(file: Mapping[str, Any]):
  import tokenizers

  return tokenizers.Tokenizer.from_str(json.dumps(file))


def _post_processor(
  roles: Mapping[str, str], ids: Mapping[str, int], *, bos: int | None
) -> dict[str, Any] | None:
  """A step that puts BOS before every text; None without BOS."""
  if bos is None:
    return None
  token = roles['bos_token']
  assert ids[token] == bos, (token, bos)
  parts = {
    name: [
      {'SpecialToken': {'id': token, 'type_id': type_id}},
      {'Sequence': {'id': name, 'type_id': type_id}},
    ]
    for type_id, name in enumerate('AB')
  }
  return {
    'type': 'TemplateProcessing',
    'single': parts['A'],
    'pair': parts['A'] + parts['B'],
    'special_tokens': {token: {'id': token, 'ids': [bos], 'tokens': [token]}},
  }


def _without_joint(normalizer: Mapping[str, Any] | None) -> dict[str, Any]:
  """A normalizer that removes the joints of the chat template first."""
  step = {
    'type': 'Replace',
    'pattern': {'String': chat_template.JOINT},
    'content': '',
  }
  if normalizer is None:
    return step
  steps = (
    normalizer['normalizers'] if normalizer['type'] == 'Sequence' else [normalizer]
  )
  return {'type': 'Sequence', 'normalizers': [step, *(s for s in steps if s != step)]}


def _each_part_alone(step: Any) -> Any:
  """A pre-tokenizer that begins a text after a control token as any other text.

  Prompt and answer are tokenized apart in training, so each has the blank that a
  tokenizer puts before the first word of a text.
  """
  if isinstance(step, list):
    return [_each_part_alone(one) for one in step]
  if not isinstance(step, Mapping):
    return step
  out = {key: _each_part_alone(value) for key, value in step.items()}
  if out.get('type') == 'Metaspace' and out.get('prepend_scheme') == 'first':
    out['prepend_scheme'] = 'always'
  return out


def _check(
  out: Exported,
  tokenizer: Tokenizer,
  *,
  control: Iterable[str],
  marks: list[str],
) -> list[str]:
  """Compares texts and rendered prompts with the tokens of training.

  Returns:
    Control tokens that a prompt becomes in spite of the template.

  Raises:
    InputError: if a sample has other tokens.
  """
  there = _loaded(out.file)
  head = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  begin, end = out.config.get('bos_token', '') if head else '', out.config['eos_token']

  def agrees(text: str) -> bool:
    prompt = chat_template.render(text, marks)
    want = [*head, *tokenizer.encode(text).tolist(), tokenizer.eos_id]
    return there.encode(f'{begin}{prompt}{end}', add_special_tokens=False).ids == want

  for sample in SAMPLES:
    want = [*head, *tokenizer.encode(sample).tolist()]
    if there.encode(sample).ids != want or not agrees(sample):
      raise InputError(
        f'tokenizer {tokenizer.name!r}: its exported tokenizer.json tokenizes '
        f'{sample[:20]!r} differently; this model cannot be exported'
      )
  return [token for token in sorted(control) if not agrees(f'The mark {token}.')]
