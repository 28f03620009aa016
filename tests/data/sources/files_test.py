"""Files as a source: what is read is what was written, as a stream, in order."""

import csv
import gzip
import json
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

import flan_jax as flan
from flan_jax.catalog import fields as flan_fields
from flan_jax.data import raw_records
from flan_jax.data.sources import files
from flan_jax.data.sources.files import Csv, Json, Parquet
from flan_jax.errors import InputError

RECORDS = [{'text': f'line {i}, "quoted"\nand é', 'n': i} for i in range(5)]


def write_jsonl(path, records=RECORDS):
  text = ''.join(json.dumps(record) + '\n' for record in records)
  opened = gzip.open if path.suffix == '.gz' else open
  with opened(path, 'wt', encoding='utf-8') as file:
    file.write(text)
  return path


def write_csv(path, delimiter=','):
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, ['text', 'n'], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
  return path


def write_array(path):
  path.write_text(json.dumps(RECORDS, indent=2), encoding='utf-8')
  return path


def write_parquet(path):
  parquet.write_table(pa.Table.from_pylist(RECORDS), path)
  return path


def read(source, split='train'):
  return [record for _, record in source.records(split)]


@pytest.mark.parametrize(
  ('kind', 'name', 'write'),
  [
    (Json, 'a.jsonl', write_jsonl),
    (Json, 'a.jsonl.gz', write_jsonl),
    (Json, 'a.json', write_array),
    (Csv, 'a.csv', write_csv),
    (Csv, 'a.tsv', lambda path: write_csv(path, '\t')),
    (Parquet, 'a.parquet', write_parquet),
  ],
)
def test_what_is_written_is_read(kind, name, write, tmp_path):
  write(tmp_path / name)
  source = kind(name, folder=str(tmp_path))
  found = read(source)
  assert [record['text'] for record in found] == [r['text'] for r in RECORDS]
  assert [int(record['n']) for record in found] == list(range(5))
  assert source.sizes() == {'train': 5}
  ids = [example_id for example_id, _ in source.records('train')]
  assert ids == [f'train.0.{i}' for i in range(5)]
  assert ids == [example_id for example_id, _ in source.records('train')]


def test_the_splits_are_those_whose_files_are_there(tmp_path):
  for split in ('train', 'valid', 'test'):
    write_jsonl(tmp_path / f'own.{split}.jsonl', RECORDS[: len(split)])
  source = Json('own.{split}.jsonl', folder=str(tmp_path))
  assert source.sizes() == {'train': 5, 'valid': 5, 'test': 4}
  named = Json({'train': 'own.test.jsonl'}, folder=str(tmp_path))
  assert named.sizes() == {'train': 4}


def test_the_files_of_a_pattern_are_read_in_order_of_their_names(tmp_path):
  for i in (2, 0, 1):
    write_jsonl(tmp_path / f'part-{i}.jsonl', [{'n': i}])
  assert [r['n'] for r in read(Json('part-*.jsonl', folder=str(tmp_path)))] == [0, 1, 2]


def test_a_relative_path_begins_at_the_folder_of_its_module(tmp_path, monkeypatch):
  """And if it names nothing there, at the current folder."""
  package, current = tmp_path / 'package', tmp_path / 'current'
  for folder in (package, current):
    folder.mkdir()
    write_jsonl(folder / 'both.jsonl', [{'in': folder.name}])
  write_jsonl(current / 'here.jsonl', [{'in': 'here'}])
  code = 'from flan_jax.data.sources.files import Json\nSOURCE = Json(path)\n'
  monkeypatch.chdir(current)
  for path, where in (('both.jsonl', 'package'), ('here.jsonl', 'here')):
    space = {'__name__': 'own', '__file__': str(package / 'own.py'), 'path': path}
    exec(compile(code, 'own.py', 'exec'), space)
    assert read(space['SOURCE']) == [{'in': where}]


def test_other_contents_are_another_digest_and_copies_the_same(tmp_path):
  one, other = tmp_path / 'one', tmp_path / 'other'
  for folder in (one, other):
    folder.mkdir()
    write_jsonl(folder / 'a.jsonl')
  digest = lambda folder: Json('a.jsonl', folder=str(folder)).digest()  # noqa: E731
  before = digest(one)
  assert before == digest(other)
  write_jsonl(one / 'a.jsonl', [*RECORDS[1:], RECORDS[0]])
  assert digest(one) != before


def test_an_array_and_a_table_are_read_as_a_stream(tmp_path):
  """The memory that reading takes is a small part of the file."""
  records = [{'text': 'x' * 1000, 'n': i} for i in range(20_000)]
  (tmp_path / 'a.json').write_text(json.dumps(records, indent=0))
  write_jsonl(tmp_path / 'a.jsonl', records)
  for name in ('a.json', 'a.jsonl'):
    source = Json(name, folder=str(tmp_path))
    tracemalloc.start()
    assert sum(1 for _ in source.records('train')) == len(records)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6, 'a fifth of the file'


@pytest.mark.parametrize(
  ('kind', 'text', 'message'),
  [
    (Json, '{"a": 1}\n{"a": \n', r'a:2: not JSON'),
    (Json, '{"a": 1}\n3\n', r"a:2: got '3'; must be an object"),
    (Json, '[{"a": 1}, {"a": ', r'a: object 2: not JSON'),
    (Json, '[{"a": 1}, 4]', r"a: element 2 '4'; must be an object"),
    (Csv, 'x,y\n1,2\n1\n', r'a:3: 1 values; must be 2, as in the header'),
    (Csv, 'x,y\n1,2,3\n', r'a:2: 3 values; must be 2, as in the header'),
    (Csv, 'x,y\n"1\n2",3\n\n"4\n5"\n', r'a:5: 1 values; must be 2'),
    (Csv, 'x,y,x\n1,2,3\n', r"a:1: two columns 'x'; must have different names"),
    (Json, '{"a": 1}\n{"b": {"a": 1, "a": 2}}\n', r"a:2: key 'a' twice in an object"),
    (Json, '[{"a": 1},\n{"a": 1, "a": 2}]\n', r"a: element 2: key 'a' twice"),
    (Parquet, 'no parquet', r'a: not Parquet'),
  ],
)
def test_a_bad_file_is_named_with_its_line(kind, text, message, tmp_path):
  (tmp_path / 'a').write_text(text)
  with pytest.raises(InputError, match=message):
    read(kind('a', folder=str(tmp_path)))


def test_bytes_that_are_no_text_are_refused(tmp_path):
  (tmp_path / 'a').write_bytes(b'{"a": "\xff"}\n')
  with pytest.raises(InputError, match='not text in UTF-8'):
    read(Json('a', folder=str(tmp_path)))


def test_no_file_is_refused_with_where_it_was_looked_for(tmp_path):
  with pytest.raises(InputError, match=r"no file 'own.train.jsonl'; looked in .*"):
    Json('own.{split}.jsonl', folder=str(tmp_path)).sizes()


def test_the_place_of_an_example_is_its_file_and_line(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"n": 0}\n\n{"n": 1}\n')
  source = Json('a.jsonl', folder=str(tmp_path))
  assert source.where('train.0.1') == f'{tmp_path}/a.jsonl:3'


def declared(tmp_path, **settings):
  (tmp_path / 'a.jsonl').write_text('\n{"text": "x", "n": 1}\n')
  default = {
    'name': 'own',
    'cluster': 'own',
    'source': Json('a.jsonl', folder=str(tmp_path)),
    'fields': {'text': 'text'},
    'answer': flan.Text('{text}'),
    'metric': 'exact_match',
    'templates': (flan.Template('{text}'),),
  }
  return flan.Dataset(**(default | settings))


def test_a_column_that_no_file_has_is_refused_with_file_line_and_the_nearest(tmp_path):
  message = r"fields\['text'\] is 'texts'; .*a.jsonl:2 has no 'texts', but text, n; "
  with pytest.raises(InputError, match=message + "did you mean 'text'"):
    raw_records.sizes(declared(tmp_path, fields={'text': 'texts'}))


def test_a_split_that_no_file_has_is_refused_with_the_nearest(tmp_path):
  """Unless the declaration says how large the whole dataset is: this may be a part."""
  message = r"dev is 'trian\[-1:\]'; a.jsonl has no split 'trian', but train; did you"
  with pytest.raises(InputError, match=message):
    raw_records.sizes(declared(tmp_path, dev='trian[-1:]'))
  sizes = {'train': 9, 'test': 9}
  whole = declared(tmp_path, train='train', test='test', sizes=sizes)
  assert raw_records.sizes(whole) == {'train': 1}


def test_a_value_of_csv_may_be_long_up_to_one_that_nothing_closes(
  tmp_path, monkeypatch
):
  path = tmp_path / 'long.csv'
  path.write_text(f'x,y\n1,2\n3,{"a" * 200_000}\n')
  assert [len(row['y']) for row in read(Csv(str(path)))] == [1, 200_000]
  monkeypatch.setattr(files, '_LONGEST_VALUE', 1_000)
  before = csv.field_size_limit(1_000)
  with pytest.raises(InputError, match=r'long\.csv:3: field larger than field limit'):
    read(Csv(str(path)))
  csv.field_size_limit(before)


def test_half_of_a_character_is_refused_with_its_line(tmp_path):
  path = tmp_path / 'surr.jsonl'
  path.write_text('{"a": "\\ud83d\\ude00", "b": ""}\n{"a": "x\\ud83d", "b": ""}\n')
  whole, half = read(Json(str(path)))
  assert flan_fields.not_unicode(whole['a']) == ''
  dataset = flan.Dataset(
    name='surr', cluster='surr', source=Json(str(path)), fields={'a': 'a', 'b': 'b'},
    answer=flan.Text('{b}'), metric='exact_match', templates=(flan.Template('{a}'),),
  )  # fmt: skip
  with pytest.raises(InputError, match=r"surr\.jsonl:2\): field 'a': '\\ud83d', half"):
    raw_records.first_examples(dataset, 'train', 2, data_dir=None)
  assert half['b'] == ''
