"""`flan fetch --from`: JSON Lines become real TFDS datasets, or nothing at all."""

import json
import os
import pathlib

import pytest

from flan_jax.catalog import registry
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

fetch_lib = pytest.importorskip(
  'flan_jax.data.fetch', reason='needs tensorflow-datasets', exc_type=ImportError
)

RTE = {
  'premise': 'The mill by the river burnt down in May.',
  'hypothesis': 'A mill burnt down.',
  'idx': 0,
  'label': 0,
}
OBQA = {
  'question': {
    'stem': 'A kettle is for',
    'choice_A': 'boiling water',
    'choice_B': 'cutting wood',
    'choice_C': 'telling time',
    'choice_D': 'sweeping floors',
  },
  'fact1': 'kettles heat water',
  'humanScore': 1.0,
  'clarity': 2.0,
  'turkIdAnonymized': 'x',
  'answerKey': 0,
}


def write(folder: pathlib.Path, name: str, split: str, lines: list[str]) -> None:
  path = folder / name / f'{split}.jsonl'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def rte_examples(count: int) -> list[str]:
  return [json.dumps({**RTE, 'idx': i, 'label': i % 2}) for i in range(count)]


def run(names: list[str], folder, data_dir):
  return fetch_lib.fetch(
    [registry.get(name) for name in names],
    data_dir=str(data_dir),
    folder=str(folder),
    progress=Progress(quiet=True),
  )


def test_a_folder_becomes_a_tfds_dataset_that_tfds_reads(tmp_path):
  import tensorflow_datasets as tfds

  write(tmp_path / 'raw', 'super_glue/rte', 'train', rte_examples(20))
  write(tmp_path / 'raw', 'super_glue/rte', 'validation', rte_examples(4))
  write(tmp_path / 'raw', 'openbookqa/default', 'train', [json.dumps(OBQA)])
  done = run(['rte', 'openbookqa', 'cb'], tmp_path / 'raw', tmp_path / 'tfds')
  states = {item.datasets[0]: item.state for item in done}
  assert states == {'rte': 'prepared', 'openbookqa': 'prepared', 'cb': 'absent'}
  examples = tfds.load(
    'super_glue/rte:1.0.2', data_dir=str(tmp_path / 'tfds'), split='train'
  )
  found = sorted(int(example['idx']) for example in tfds.as_numpy(examples))
  assert found == list(range(20))
  again = run(['rte'], tmp_path / 'raw', tmp_path / 'tfds')
  assert again[0].state == 'ready'


def test_smaller_data_is_clamped_and_reported(tmp_path):
  """2,290 + 200 declared examples in 20: carve-outs shrink in proportion, disjoint."""
  write(tmp_path / 'raw', 'super_glue/rte', 'train', rte_examples(20))
  write(tmp_path / 'raw', 'super_glue/rte', 'validation', rte_examples(4))
  (done,) = run(['rte'], tmp_path / 'raw', tmp_path / 'tfds')
  assert 'rte train: 18 of 2,290 examples (train[0:18])' in done.note
  assert 'rte dev: 2 of 200 examples (train[18:20])' in done.note
  assert 'rte test: 4 of 277 examples' in done.note


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"premise": "a"', r'train\.jsonl:3: not JSON'),
    ('[1, 2]', r'train\.jsonl:3: got .\[1, 2\].; must be an object'),
    (json.dumps({**RTE, 'label': 7}), r'train\.jsonl:3: .*7'),
    (
      json.dumps({k: v for k, v in RTE.items() if k != 'idx'}),
      r":3: field 'idx' is miss",
    ),
    (json.dumps({**RTE, 'extra': 1}), r":3: field 'extra' is not in the builder"),
    (json.dumps({**RTE, 'premise': 5}), r'train\.jsonl:3: '),
    ('\udcff', r'train\.jsonl: not text in UTF-8'),
  ],
  ids=['syntax', 'list', 'label', 'missing', 'extra', 'type', 'encoding'],
)
def test_a_bad_record_is_named_and_leaves_nothing(line, message, tmp_path):
  folder = tmp_path / 'raw' / 'super_glue' / 'rte'
  folder.mkdir(parents=True)
  text = '\n'.join([*rte_examples(2), line, *rte_examples(1)])
  (folder / 'train.jsonl').write_bytes(text.encode('utf-8', 'surrogateescape'))
  with pytest.raises(InputError, match=message):
    run(['rte'], tmp_path / 'raw', tmp_path / 'tfds')
  left = [p for p in (tmp_path / 'tfds').rglob('*') if p.is_file()]
  assert not left


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(InputError, match='no such folder'):
    run(['rte'], tmp_path / 'nowhere', tmp_path / 'tfds')


def test_a_nested_field_is_named_by_its_path(tmp_path):
  question = {k: v for k, v in OBQA['question'].items() if k != 'choice_C'}
  example = json.dumps({**OBQA, 'question': question})
  write(tmp_path / 'raw', 'openbookqa/default', 'train', [example])
  with pytest.raises(InputError, match="field 'question/choice_C' is missing"):
    run(['openbookqa'], tmp_path / 'raw', tmp_path / 'tfds')


@pytest.mark.parametrize(
  ('name', 'record', 'message'),
  [
    ('super_glue/rte', {**RTE, 'label': 1.9}, "'label' is 1.9; must be a whole number"),
    ('super_glue/rte', {**RTE, 'label': True}, "'label' is True; must be a whole num"),
    ('super_glue/rte', {**RTE, 'label': '1'}, "'label' is '1'; must be a whole number"),
    ('super_glue/rte', {**RTE, 'label': 'entailmemt'}, "did you mean 'entailment'"),
    ('super_glue/rte', {**RTE, 'idx': 0.4}, "'idx' is 0.4; must be a whole number"),
    (
      'openbookqa/default',
      {**OBQA, 'clarity': True},
      "'clarity' is True; must be a nu",
    ),
  ],
)
def test_values_are_refused_not_rounded(name, record, message, tmp_path):
  write(tmp_path / 'raw', name, 'train', [json.dumps(record)])
  with pytest.raises(InputError, match=message) as error:
    run([name.split('/')[name.endswith('rte')]], tmp_path / 'raw', tmp_path / 'tfds')
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'tfds' / name.split('/')[0]).exists()


def test_a_misnamed_split_is_refused_until_it_is_renamed(tmp_path):
  """It is never prepared: the corrected folder is, by the same command."""
  raw = tmp_path / 'raw'
  write(raw, 'super_glue/rte', 'training', rte_examples(20))
  for _ in range(2):
    with pytest.raises(InputError, match="a split 'training' .*did you mean 'train'"):
      run(['rte'], raw, tmp_path / 'tfds')
  folder = raw / 'super_glue' / 'rte'
  (folder / 'training.jsonl').rename(folder / 'train.jsonl')
  (done,) = run(['rte'], raw, tmp_path / 'tfds')
  assert done.examples == {'train': 20}
  write(raw, 'super_glue/rte', 'validation', rte_examples(4))
  with pytest.raises(InputError, match='without validation; delete'):
    run(['rte'], raw, tmp_path / 'tfds')


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (b'{"premise": ' + b'[' * 100_000, 'deeper than 100'),
    (b'{"premise": ' + b'[' * 200 + b']' * 200 + b'}', 'deeper than 100'),
    (b'{"idx": ' + b'9' * 5_000 + b'}', 'a number of 5,000 digits'),
    (b'{"idx": ' + b'9' * 400 + b'}', 'a number of 400 digits'),
    (None, 'is a FIFO'),
  ],
  ids=['unclosed', 'deep', 'long', 'no float', 'fifo'],
)
def test_json_out_of_bounds_is_refused(line, message, tmp_path):
  folder = tmp_path / 'raw' / 'super_glue' / 'rte'
  folder.mkdir(parents=True)
  if line is None:
    os.mkfifo(folder / 'train.jsonl')
  else:
    (folder / 'train.jsonl').write_bytes(line + b'\n')
  with pytest.raises(InputError, match=message) as error:
    run(['rte'], tmp_path / 'raw', tmp_path / 'tfds')
  assert len(str(error.value)) < 1_000
