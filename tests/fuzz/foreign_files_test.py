"""Files of anybody, damaged in every way: refused in one line, or taken as they are.

A case takes a small whole file of a kind, damages it by a seeded mutation, and opens it
by the door that a verb uses. It must be refused by an InputError of one line, or taken.
A traceback, a hang, a folder written half, and JSON beyond its bounds that is taken are
faults. The figures are printed.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import random
import re
import shutil
import sys
import time

import numpy as np
import pytest
import small_tokenizers
from fuzzing import outcome, show
from safetensors.numpy import save_file

from flan_jax.checkpoints import model_dir, weights
from flan_jax.data import chat, chat_template, tokenizers
from flan_jax.data.sources import files
from flan_jax.data.store import store
from flan_jax.interop.huggingface import convert, families
from flan_jax.interop.huggingface import gguf as gguf_lib
from flan_jax.interop.huggingface import tokenizers as hf_tokenizers
from flan_jax.runtime.progress import Progress

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'interop' / 'huggingface'))

BOMBS = (
  *('null', 'true', '[]', '{}', '""', '"x"', '1.9', '-1', '0', '1e999', 'NaN'),
  *('Infinity', '-Infinity', '1099511627776', '9223372036854775808', '-0.0', '1e308'),
  *('9' * 400, '9' * 5_000, '[' * 100_000, '[' * 200 + ']' * 200, '"\\ud800"'),
  *('"../../x"', '"/dev/zero"', '"(a+)+$"', '{"a": 1, "a": 2}', '"\\u0000"', '[[1]]'),
)
"""Values of JSON that no reader expects."""

NEVER = re.compile(rb'[0-9]{301}|\[{101}')
"""A part that no JSON may have: taking it is silent damage."""

VALUE = re.compile(
  rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|true|false|null'
)

TEMPLATE_PARTS = (
  *('{% for m in messages %}', '{% endfor %}', '{{ m.content }}', '{{ messages }}'),
  *('{% set n = namespace(x="ab") %}', '{% set n.x = n.x ~ n.x %}', '{{ n.x }}'),
  *('{% for i in range(99999) %}', "{{ 'a' * 10**9 }}", '{{ 10 ** 10 ** 9 }}', '{%'),
  *(
    '{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}',
    '{{ m.content|center(9**9) }}',
  ),
  *('{{ raise_exception(messages) }}', '{{ eos_token }}', '}}', '{% if m %}', '{{ ('),
  *('{% generation %}', '{% endgeneration %}', '{{ messages|tojson }}', '\ue0fc\ue0f0'),
)
CHAT = [{'role': 'user', 'content': 'Is it?'}, {'role': 'assistant', 'content': 'Yes.'}]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A folder of one small whole file of each kind."""
  from small_models import TINY, random_model

  config = dataclasses.replace(TINY, vocab_size=432)

  root = tmp_path_factory.mktemp('whole')
  random_model(root / 'flan')
  trained = json.loads((model_dir.SHIPPED / 'training.json').read_text())
  checksum = model_dir.checksum(root / 'flan')
  model_dir.write_provenance(root / 'flan', trained, checksum=checksum)
  family = families.get('llama')
  (root / 'hf').mkdir()
  hf_config = {**family.write(config), 'model_type': 'llama', 'eos_token_id': 1}
  (root / 'hf' / 'config.json').write_text(json.dumps(hf_config))
  entries, shapes = convert.match_tensors(family.tensors, config)
  draw = np.random.default_rng(0)
  tensors = {
    name: draw.normal(size=shape).astype(np.float32)
    for name, shape in convert.tensor_shapes(entries, shapes, config).items()
  }
  save_file(tensors, root / 'hf' / 'model.safetensors')
  tokenizer = small_tokenizers.byte_level(special=('<s>', '</s>', '<pad>'))
  (root / 'hf' / 'tokenizer.json').write_text(tokenizer.to_str())
  names = {'bos_token': '<s>', 'eos_token': '</s>', 'pad_token': {'content': '<pad>'}}
  names |= {'add_bos_token': None, 'chat_template': chat_template.load('chatml')}
  (root / 'hf' / 'tokenizer_config.json').write_text(json.dumps(names))
  from gguf_test import write_gguf

  with contextlib.suppress(pytest.skip.Exception):
    write_gguf(root / 'x.gguf', root / 'hf', 'llama')
  (root / 'x.model').write_bytes(small_tokenizers.sentence_pieces())
  records = [{'inputs': f'Is {i}\n"odd"?', 'targets': 'yes', 'n': i} for i in range(9)]
  (root / 'x.jsonl').write_text(''.join(f'{json.dumps(r)}\n' for r in records))
  (root / 'x.json').write_text(json.dumps(records, indent=1))
  rows = ''.join(f'"Is {i}, ""odd""?",yes,{i}\n' for i in range(9))
  (root / 'x.csv').write_text(f'inputs,targets,n\n{rows}')
  import pyarrow
  from pyarrow import parquet

  parquet.write_table(pyarrow.Table.from_pylist(records), root / 'x.parquet')
  manifest = {
    'version': store.VERSION, 'digest': 'a', 'datasets': {}, 'evaluation': {},
    'tokenizer': {'bos_id': None, 'eos_id': 1, 'file': '', 'name': 'bytes'},
    'files': {'x': 1}, 'digests': {'tokenizer': 'a', 'templates': 'b'},
  }  # fmt: skip
  (root / 'store').mkdir()
  (root / 'store' / 'manifest.json').write_text(json.dumps(manifest))
  (root / 'store' / 'x').write_text('x')
  (root / 'x.jinja').write_text(chat_template.load('chatml'))
  return root


def open_source(path: pathlib.Path) -> None:
  """Opens a model of another format, as far as no weights are computed with."""
  source = convert.open_source(path)
  family = families.get(source.config.get('model_type'))
  family.read(source.config)
  if isinstance(source, gguf_lib.File):
    tokenizer = hf_tokenizers.from_gguf(source)
  else:
    tokenizer = hf_tokenizers.from_folder(path, source.config)
  for name in list(source.tensors)[:2]:
    source.read(name)
  if tokenizer is not None:
    tokenizer.encode('Is it?')


def open_model(path: pathlib.Path) -> None:
  weights.load_config(path)
  weights.digest(path)
  model_dir.lineage(path)
  model_dir.modules(path)
  model_dir.tokenizer_digest(path)


def open_tokenizer(path: pathlib.Path) -> None:
  tokenizer = tokenizers.load(path)
  tokenizer.decode(tokenizer.encode('Is it, ' + 'a' * 40 + '? Yes.'))


def open_examples(path: pathlib.Path) -> None:
  kind = {'.csv': files.Csv, '.parquet': files.Parquet}.get(path.suffix, files.Json)
  source = kind(str(path), folder='/')
  size = source.sizes()['train']
  assert len(list(source.records('train'))) == size


def open_template(path: pathlib.Path) -> None:
  tokenizer = tokenizers.load(path.with_name('hf') / 'tokenizer.json')
  template = chat.ChatTemplate(chat_template.load(str(path)), tokenizer)
  template.encode(CHAT)


def import_model(path: pathlib.Path) -> None:
  """The whole `flan convert`; a refusal leaves nothing at its destination."""
  out = path.parent / 'out'
  before = sorted(path.parent.iterdir())
  try:
    convert.import_model(path, out, progress=Progress(quiet=True))
  finally:
    found = sorted(path.parent.iterdir())
    if sys.exc_info()[0] is not None:
      assert found == before, f'{set(found) - set(before)} were left'
    shutil.rmtree(out, ignore_errors=True)


KINDS = {
  'gguf': ('x.gguf', 'x.gguf', open_source),
  'config.json of Hugging Face': ('hf', 'config.json', open_source),
  'safetensors of Hugging Face': ('hf', 'model.safetensors', open_source),
  'tokenizer.json': ('hf', 'tokenizer.json', open_source),
  'tokenizer_config.json': ('hf', 'tokenizer_config.json', open_source),
  'config.json': ('flan', 'config.json', open_model),
  'model.safetensors': ('flan', 'model.safetensors', open_model),
  'training.json': ('flan', 'training.json', open_model),
  'tokenizer.model': ('x.model', 'x.model', open_tokenizer),
  'jsonl': ('x.jsonl', 'x.jsonl', open_examples),
  'json': ('x.json', 'x.json', open_examples),
  'csv': ('x.csv', 'x.csv', open_examples),
  'parquet': ('x.parquet', 'x.parquet', open_examples),
  'manifest.json': ('store', 'manifest.json', store.Store.open),
  'chat template': ('x.jinja', 'x.jinja', open_template),
}
"""Kind -> (path that is opened, file in it that is damaged, door)."""

WHOLE = {
  'flan convert, gguf': ('x.gguf', 'x.gguf', import_model),
  'flan convert, config.json': ('hf', 'config.json', import_model),
  'flan convert, safetensors': ('hf', 'model.safetensors', import_model),
}


def mutated(data: bytes, kind: str, rng: random.Random) -> bytes:
  """One to three mutations of a file."""
  for _ in range(rng.choice((1, 1, 1, 2, 3))):
    data = one_mutation(data, kind, rng)
  return data


def one_mutation(data: bytes, kind: str, rng: random.Random) -> bytes:
  at = rng.randrange(len(data) + 1)
  if rng.random() < 0.5 and len(data) > 4096:  # the header, where it has one
    at = rng.randrange(1024)
  end = min(len(data), at + rng.choice((1, 4, 8, 64, 1024)))
  if kind == 'chat template' and rng.random() < 0.8:
    part = rng.choice(TEMPLATE_PARTS).encode('utf-8')
    lines = data.split(b'\n')
    lines.insert(rng.randrange(len(lines) + 1), part)
    return b'\n'.join(lines)
  if ('json' in kind or 'safetensors' in kind) and rng.random() < 0.7:
    found = list(VALUE.finditer(data[: 1 << 14]))
    if found:
      value = rng.choice(found)
      new = rng.choice(BOMBS).encode()
      if rng.random() < 0.2:
        new = rng.choice(found)[0]
      return data[: value.start()] + new + data[value.end() :]
  change = rng.randrange(7)
  if change == 0:
    return data[:at]
  if change == 1 and at < len(data):
    flipped = bytes([data[at] ^ 1 << rng.randrange(8)])
    return data[:at] + flipped + data[at + 1 :]
  if change == 2:
    return data[:at] + bytes(end - at) + data[end:]
  if change == 3:
    return data[:at] + data[end:]
  if change == 4:
    return data[:at] + data[at:end] + data[at:]
  if change == 5:
    extreme = rng.choice((b'\xff' * 8, b'\xff' * 7 + b'\x7f', bytes(7) + b'\x01'))
    return data[:at] + extreme + data[at + 8 :]
  return data[:at] + rng.randbytes(end - at) + data[end:]


def run(whole: pathlib.Path, work: pathlib.Path, kinds, *, cases: int, seed: int = 0):
  """Runs `cases` cases of each kind; returns kind -> outcome -> count, and faults."""
  counts, faults = collections.defaultdict(collections.Counter), []
  for kind, (opened, damaged, door) in kinds.items():
    if not (whole / opened).exists():
      continue
    here = work / re.sub(r'\W+', '_', kind)
    here.mkdir()
    for name in {opened, 'hf'}:
      copy = shutil.copytree if (whole / name).is_dir() else shutil.copy
      copy(whole / name, here / name)
    file = here / opened
    file = file / damaged if file.is_dir() else file
    data = file.read_bytes()
    assert outcome(door, here / opened) == 'taken', kind
    for case in range(cases):
      rng = random.Random(f'{seed} {kind} {case}')
      damage = mutated(data, kind, rng)
      file.write_bytes(damage)
      start = time.monotonic()
      found = outcome(door, here / opened)
      if found == 'taken' and 'json' in kind and NEVER.search(damage):
        found = 'silent: took what no JSON may have'
      counts[kind][found.partition(':')[0]] += 1
      if found not in ('refused', 'taken'):
        took = time.monotonic() - start
        faults.append(f'{kind}, seed {seed}, case {case} ({took:.1f} s): {found}')
  return counts, faults


def test_a_damaged_file_is_refused_in_one_line(whole, tmp_path):
  counts, faults = run(whole, tmp_path, KINDS, cases=7)
  show(counts)
  assert not faults, '\n'.join(faults)
  assert sum(found['refused'] for found in counts.values()) > 40


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize('seed', [1, 2, 3])
def test_thousands_of_damaged_files_are_refused_in_one_line(whole, tmp_path, seed):
  counts, faults = run(whole, tmp_path, KINDS, cases=250, seed=seed)
  show(counts)
  assert not faults, '\n'.join(faults)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_a_refused_conversion_leaves_nothing(whole, tmp_path):
  from small_models import by_numpy_alone

  with by_numpy_alone():
    counts, faults = run(whole, tmp_path, WHOLE, cases=60)
  show(counts)
  assert not faults, '\n'.join(faults)
