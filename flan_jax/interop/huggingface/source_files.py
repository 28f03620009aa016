"""Files that stand beside the weights of an imported model and leave with it again.

An import keeps the chat template, generation settings, tokenizer settings, card and
license of its source. An export of the same model returns them. A run that starts from
it writes none of them: its model is asked in another way.
"""

import json
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

from flan_jax.checkpoints import model_dir, weights
from flan_jax.data import chat_template as chat_templates
from flan_jax.data.tokenizers import HuggingFace, SentencePiece
from flan_jax.interop.huggingface import chat_template, gguf
from flan_jax.interop.huggingface.source import Source, inside, read_json
from flan_jax.runtime import input_file

CARD = 'README.md'
GENERATION = model_dir.GENERATION
TEMPLATES = 'additional_chat_templates'
PATTERNS = (GENERATION, CARD, 'LICENSE*', 'NOTICE*')
"""Names of the files that are kept as they are."""

TOKEN_IDS = ('bos_token_id', 'eos_token_id', 'pad_token_id')

LICENSE = ('license', 'license_name', 'license_link')
"""Entries of a card's header, and of conversion.json, about the license."""

_ELSEWHERE = ('auto_map', 'chat_template', 'name_or_path', 'tokenizer_file')
"""Fields of tokenizer_config.json that are code, a path, or kept in a file."""


def keep(source: Source, path: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies the files of a source into a model folder.

  Args:
    source: the opened source.
    path: its folder or GGUF file.
    folder: the model folder, which holds its tokenizer already.
  """
  if isinstance(source, gguf.File):
    template = source.field('tokenizer.chat_template')
    _write_templates(folder, {'default': template} if template else {})
    return
  for pattern in PATTERNS:
    for file in sorted(path.glob(pattern)):
      if inside(path, file.name).is_file():
        shutil.copyfile(file, folder / file.name)
  found = tokenizer_settings(path)
  _write_templates(folder, _templates(path, found))
  settings = {k: v for k, v in found.items() if k not in _ELSEWHERE}
  if 'auto_map' in found or not any((path / file).is_file() for file in _TOKENIZERS):
    settings.pop('tokenizer_class', None)  # its code or its files are not here
  if settings and any((folder / file).exists() for file in _TOKENIZERS):
    _keep_settings(folder / 'tokenizer_config.json', settings)


_TOKENIZERS = (HuggingFace.filename, SentencePiece.filename)


def tokenizer_settings(folder: pathlib.Path) -> dict[str, Any]:
  """tokenizer_config.json of a folder, and the older special_tokens_map.json."""
  settings: dict[str, Any] = {}
  for name in ('special_tokens_map.json', 'tokenizer_config.json'):
    path = inside(folder, name)
    settings |= read_json(path) if path.is_file() else {}
  return settings


def template_of(path: pathlib.Path) -> str | None:
  """The chat template of a Hugging Face folder or a GGUF file; None for none."""
  if path.is_dir():
    return _templates(path, tokenizer_settings(path)).get('default')
  return gguf.File(path).field('tokenizer.chat_template')


def _keep_settings(path: pathlib.Path, settings: dict[str, Any]) -> None:
  """Adds the source's settings to those that were saved with the tokenizer."""
  own = read_json(path) if path.is_file() else {}
  if settings.get('add_bos_token') is None:
    own.pop('add_bos_token', None)  # the post-processor decides
  text = json.dumps({**settings, **own}, indent=2, sort_keys=True, ensure_ascii=False)
  path.write_text(text + '\n', encoding='utf-8')


def _templates(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, str]:
  """Name -> chat template, from any of the files that have held them."""
  out = chat_templates.named(settings.get('chat_template'))
  older = inside(path, 'chat_template.json')
  if older.is_file():
    out = chat_templates.named(read_json(older).get('chat_template'))
  files = [path / chat_template.FILE, *sorted((path / TEMPLATES).glob('*.jinja'))]
  for file in files:
    if file.is_file():
      name = 'default' if file.name == chat_template.FILE else file.stem
      within = inside(path, str(file.relative_to(path)))
      out[name] = input_file.read_text(within, max_bytes=chat_templates.MAX_BYTES)
  return out


def _write_templates(folder: pathlib.Path, templates: Mapping[str, str]) -> None:
  for name, text in templates.items():
    path = folder / chat_template.FILE
    if name != 'default':
      if not re.fullmatch(r'[\w-]+', name):
        continue
      path = folder / TEMPLATES / f'{name}.jinja'
      path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8')


def give_back(folder: pathlib.Path, destination: pathlib.Path) -> None:
  """Copies what `keep` kept from a model folder into an exported one."""
  for pattern in (*PATTERNS, chat_template.FILE):
    for file in folder.glob(pattern):
      shutil.copyfile(inside(folder, file.name), destination / file.name)
  if (folder / TEMPLATES).is_dir():
    shutil.copytree(inside(folder, TEMPLATES), destination / TEMPLATES)


def token_ids(folder: pathlib.Path) -> dict[str, Any]:
  """BOS, EOS and padding of config.json as an import recorded them; {} if it did not.

  A source may name several EOS tokens, of which training knows one.
  """
  ids = recorded(folder).get('token_ids', {})
  return {k: v for k, v in ids.items() if k in TOKEN_IDS}


def recorded(folder: pathlib.Path) -> dict[str, Any]:
  """conversion.json of a model folder; {} if it was not converted."""
  path = folder / 'conversion.json'
  return weights.read_object(path) if path.is_file() else {}


def described(source: Source, path: pathlib.Path) -> dict[str, Any]:
  """Entries of conversion.json: what a source's own files say about it."""
  said = {'token_ids': {k: source.config.get(k) for k in TOKEN_IDS}}
  if isinstance(source, gguf.File):
    names = {
      **{key: key.replace('_', '.') for key in LICENSE},
      'languages': 'languages',
    }
    found = {key: source.field(f'general.{name}') for key, name in names.items()}
    return {**said, **{key: value for key, value in found.items() if value}}
  return {**said, **(header(path / CARD) if inside(path, CARD).is_file() else {})}


def header(card: pathlib.Path) -> dict[str, Any]:
  """The license and `languages` in the YAML header of a model card.

  Only plain values and plain lists are read; other YAML is left out.
  """
  lines = card.read_text(encoding='utf-8', errors='replace').split('\n')
  if lines[:1] != ['---'] or '---' not in lines[1:]:
    return {}
  fields: dict[str, list[str]] = {}
  key = ''
  for line in lines[1 : lines.index('---', 1)]:
    field = re.fullmatch(r'(\w+):\s*(.*)', line)
    item = re.fullmatch(r'\s*-\s*(.+)', line)
    if field:
      key = field[1]
      values = field[2].strip('[] ').split(',')
      fields[key] = [value.strip(' \'"') for value in values if value.strip()]
    elif item:
      fields.setdefault(key, []).append(item[1].strip(' \'"'))
  out: dict[str, Any] = {key: fields[key][0] for key in LICENSE if fields.get(key)}
  return {**out, 'languages': fields['language']} if fields.get('language') else out
