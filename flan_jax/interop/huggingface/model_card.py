"""The model card of an exported model: README.md, with the hub's YAML header.

It says only what the model's own files record: its lineage, the settings of its run,
its report, and the license of the model that it started from.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import registry
from flan_jax.catalog.lineage import Lineage, Training
from flan_jax.checkpoints import model_dir, weights
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.interop.huggingface import chat_template, source_files
from flan_jax.report import schema, statements
from flan_jax.runtime import renamed_keys, yaml_text
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.train import step_model

SHIPPED_LICENSE = 'apache-2.0'
"""License of the models that ship with flan_jax: its own."""

_ASK = """\
from transformers import pipeline
ask = pipeline('text-generation', model='{path}')
print(ask([{{'role': 'user', 'content': '...'}}])[0]['generated_text'][-1]['content'])
"""

_PLAIN = """\
from transformers import pipeline
print(pipeline('text-generation', model='{path}')('...')[0]['generated_text'])
"""


class _Card(NamedTuple):
  """The facts of a card.

  Attributes:
    folder: the model folder.
    name: name of the model.
    path: name of the exported folder.
    lineage: its lineage.
    tuned: whether it was tuned here.
    tokenizer: its tokenizer; None if it has none.
    chat: whether the exported folder has a chat template.
    settings: settings of its run; empty if unknown.
    record: its training.json; empty if it has none.
  """

  folder: pathlib.Path
  name: str
  path: str
  lineage: Lineage
  tuned: bool
  tokenizer: Tokenizer | None
  chat: bool
  settings: Mapping[str, Any]
  record: Mapping[str, Any]


def write(
  destination: pathlib.Path,
  folder: pathlib.Path,
  *,
  path: str,
  lineage: Lineage,
  tuned: bool,
  tokenizer: Tokenizer | None,
  chat: bool,
) -> None:
  """Writes the card of the model `folder` into `destination`.

  Args:
    destination: folder of the card.
    folder: the model folder.
    path: name of the exported folder.
    lineage: lineage of the model.
    tuned: whether it was tuned here.
    tokenizer: its tokenizer; None if it has none.
    chat: whether the exported folder has a chat template.
  """
  trainings = lineage.trainings
  name = trainings[-1].model if trainings else folder.absolute().name
  card = _Card(
    folder, name, path, lineage, tuned, tokenizer, chat, _settings(folder),
    _record(folder),
  )  # fmt: skip
  parts = [_header(card), f'# {name}', _summary(card), *_asking(card), *_seen(card)]
  parts += [*_tuning(card), *_results(card), *_license(card)]
  text = '\n\n'.join(parts) + '\n'
  (destination / source_files.CARD).write_text(text, encoding='utf-8')


def _settings(folder: pathlib.Path) -> dict[str, Any]:
  """run.json of the run whose model this is; {} if it is not beside it."""
  path = folder.parent / 'run.json'
  if folder.name != 'model' or not path.is_file():
    return {}
  return upgraded(weights.read_object(path), renamed_keys.RUN)


def _record(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / model_dir.PROVENANCE
  if not path.is_file():
    return {}
  return upgraded(weights.read_object(path), renamed_keys.TRAINING)


def _origin(folder: pathlib.Path) -> Mapping[str, Any]:
  """conversion.json of the first model, found by the settings of the runs since.

  {} if a folder is gone, or if the first model was trained from random parameters.
  """
  for _ in range(100):
    if folder == model_dir.SHIPPED:
      return {'license': SHIPPED_LICENSE}
    base = _settings(folder).get('initial_checkpoint')
    record = _record(folder)
    base = base or record.get('initial_checkpoint')
    base = base or record.get('lora', {}).get('base')
    if not base:
      return source_files.recorded(folder)
    folder = model_dir.find(step_model.run_of(base) or base)
  return {}


def _languages(card: _Card) -> list[str]:
  """The base's languages, and those of FLAN's datasets that tuned the model."""
  found = [str(code) for code in _origin(card.folder).get('languages', ())]
  for training in card.lineage.trainings:
    if training.family != statements.OWN:
      continue
    found.append('en')
    for dataset in training.datasets or ():
      declared = registry.find(dataset.name)
      for direction in declared.directions if declared else ():
        found += direction.split('-')
  return list(dict.fromkeys(found))


def _header(card: _Card) -> str:
  origin = _origin(card.folder)
  fields: dict[str, Any] = {
    **{key: origin.get(key) for key in source_files.LICENSE},
    'language': _languages(card),
    'library_name': 'transformers',
    'pipeline_tag': 'text-generation',
    'tags': ['flan', 'instruction-tuning', 'flan_jax'] if card.tuned else ['flan_jax'],
  }
  given = {key: value for key, value in fields.items() if value}
  return f'---\n{yaml_text.dump(given)}---'


def _summary(card: _Card) -> str:
  if not card.tuned:
    note = card.lineage.trainings[-1].note if card.lineage.trainings else ''
    return 'Converted by flan_jax, not tuned by it' + (f': {note}.' if note else '.')
  base = [training.model for training in card.lineage.trainings[:-1]]
  origin = f', from {base[-1]}' if base else ''
  text = f'Instruction-tuned with FLAN by flan_jax{origin}.'
  held_out = card.record.get('held_out') or ()
  if held_out:
    names = ', '.join(map(statements.cluster_name, held_out))
    text += f' Held out from tuning, to be measured on: {names}.'
  return text


def _asking(card: _Card) -> Iterator[str]:
  if card.tokenizer is None:
    return
  yield '## Ask it'
  code = (_ASK if card.chat else _PLAIN).format(path=card.path)
  yield f'```python\n{code}```'
  if card.tuned and (card.folder / chat_template.FILE).exists():
    yield 'It was tuned on conversations in its chat template, on their answers.'
  elif card.tuned:
    bos = '' if card.tokenizer.bos_id is None else 'BOS '
    yield (
      f'One prompt and one answer are `{bos}prompt EOS answer EOS`: the chat template '
      'writes the first EOS, and the answer ends with the second. To score an answer, '
      'score its tokens and its EOS after '
      '`apply_chat_template(..., add_generation_prompt=True)`. Earlier turns and '
      'instructions belong into the one prompt.'
    )


def _seen(card: _Card) -> Iterator[str]:
  yield '## What it was trained on'
  if not card.lineage.trainings:
    yield 'Random parameters.'
  for training in card.lineage.trainings:
    yield _training(training)


def _training(training: Training) -> str:
  head = f'**{training.model}**'
  if training.mixture:
    head += f', on `{training.mixture}`'
  if training.note:
    head += f': {training.note}'
  if training.datasets is None:
    return f'{head}. Its training data is not recorded.'
  if not training.datasets:
    return f'{head}.'
  lines = [f'{head}:', '', '| cluster | examples | datasets |', '|---|---|---|']
  for cluster in training.clusters or ():
    names = [d.name for d in training.datasets if d.cluster == cluster]
    seen = training.train_examples.get(cluster)
    count = 'not recorded' if seen is None else f'{seen:,}'
    name = statements.cluster_name(cluster)
    lines.append(f'| {name} | {count} | {", ".join(names)} |')
  return '\n'.join(lines)


def _tuning(card: _Card) -> Iterator[str]:
  """The settings of the run that a reader asks for, with the words of gin."""
  if not card.tuned:
    return
  run = {'steps': card.record.get('step'), **card.settings}
  names = ('steps', 'batch_tokens', 'sequence_length', 'seed')
  lines = [f'- {name}: {run[name]:,}' for name in names if run.get(name) is not None]
  for key in ('optimizer', 'lora', 'freeze'):
    value = card.record.get(key) or card.settings.get(key)
    if isinstance(value, Mapping):
      value = {k: v for k, v in value.items() if v is not None and k != 'base'}
    if value and (key != 'lora' or value['rank']):
      lines.append(f'- {key}: {json.dumps(value)}')
  if lines:
    yield '## How it was tuned'
    yield '\n'.join(lines)


def _results(card: _Card) -> Iterator[str]:
  """The headlines of MODEL_DIR/report."""
  report = card.folder.parent / 'report'
  if card.folder.name != 'model' or not (report / 'report.json').is_file():
    return
  averages = schema.averages(schema.load(report))
  if averages:
    yield '## Results'
    yield '\n'.join(f'- {schema.headline(average)}' for average in averages)


def _license(card: _Card) -> Iterator[str]:
  origin = _origin(card.folder)
  found = ', '.join(str(origin[key]) for key in source_files.LICENSE if key in origin)
  yield '## License'
  if not found:
    yield 'Not recorded. The license of the model that it started from applies.'
  elif card.tuned:
    yield f'That of the model that it started from: {found}.'
  else:
    yield f'{found}.'
