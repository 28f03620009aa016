"""Exports: the rendered examples leave as they are, whole, and the same every time."""

import dataclasses
import itertools
import json
import pathlib
import re
import shlex

import pytest

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.cli import dispatch
from flan_jax.data import export_files
from flan_jax.data.exported import COLUMNS, template_type
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store, describe
from flan_jax.errors import InputError
from flan_jax.jobs import export as export_lib
from flan_jax.jobs.export_settings import ExportConfig
from flan_jax.runtime.progress import Progress
from tests import small_tokenizers


def made(out, **settings):
  """Exports; returns the summary and split -> its records, from the files."""
  config = ExportConfig(out=str(out), **settings)
  summary = export_lib.export(config, progress=Progress(quiet=True))
  return summary, records(out)


def records(out: pathlib.Path) -> dict[str, list[dict]]:
  found: dict[str, list[dict]] = {}
  for path in sorted((out / 'data').glob('*.jsonl')):
    split = found.setdefault(path.name.partition('-')[0], [])
    split += map(json.loads, path.read_text(encoding='utf-8').splitlines())
  return found


def bytes_of(out: pathlib.Path) -> dict[str, bytes]:
  files = (path for path in out.rglob('*') if path.is_file())
  return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture
def store(tiny_datasets, tmp_path):
  registry.register(tiny_datasets.mixture)
  config = StoreConfig(tokenizer='bytes', epochs=2)
  materialize(tiny_datasets.mixture, config, out=tmp_path / 'store')
  return Store.open(tmp_path / 'store')


def test_all_examples_leave_as_their_templates_say(store, tiny_datasets, tmp_path):
  _, found = made(tmp_path / 'out', store=str(store.path))
  assert list(found) == ['train']
  assert all(list(record) == list(COLUMNS) for record in found['train'])
  left = iter(found['train'])
  for name in store.datasets:
    dataset = registry.get(name)
    for example_id, raw in tiny_datasets.records(dataset, 'train'):
      record = next(left)
      example = dataset.read(raw, example_id)
      template = dataset.templates[record['template']]
      shown = prompt.render(dataset, record['template'], example)
      assert (record['inputs'], record['targets']) == shown
      assert record['example_id'] == example_id
      assert (
        record['template_type'] == f'zs_{"opt" if template.has_options else "noopt"}'
      )
      assert record['options'] == list(example.answer.options)
      assert (record['task_name'], record['task_source']) == (f'tiny_{name}', 'tiny')
      assert (record['cluster'], record['split']) == (dataset.cluster, 'train')
      assert (record['rate'], record['num_fewshot']) == (store.rates[name], 0)
  assert next(left, None) is None


def test_epochs_have_other_templates(store, tmp_path):
  _, found = made(tmp_path / 'out', store=str(store.path), epochs=2)
  by_example: dict[tuple, list[int]] = {}
  for record in found['train']:
    key = record['task_name'], record['example_id']
    by_example.setdefault(key, []).append(record['template'])
  assert len(found['train']) == 2 * len(by_example)
  assert all(len(set(templates)) == 2 for templates in by_example.values())


@pytest.mark.parametrize('pack', [True, False])
def test_a_draw_is_that_of_a_run(store, tmp_path, pack):
  """The same examples in the same order as `flan rows` shows."""
  settings = {'seed': 3, 'sequence_length': 512}
  plan = store.plan(sequences=200, pack=pack, **settings)
  every = (describe(store, plan, k)['segments'] for k in range(200))
  drawn = [
    (f'tiny_{one["dataset"]}', one['example_id'], one['template'])
    for one in itertools.islice(itertools.chain.from_iterable(every), 150)
  ]
  _, found = made(
    tmp_path / 'out', store=str(store.path), sampled=150, unpacked=not pack, **settings
  )
  keys = ('task_name', 'example_id', 'template')
  assert [tuple(record[key] for key in keys) for record in found['train']] == drawn


def test_a_run_gives_its_own_settings(store, tmp_path):
  run = tmp_path / 'run'
  run.mkdir()
  store.path.rename(run / 'store')
  settings = {'seed': 5, 'sequence_length': 600, 'pack': False, 'store': None}
  (run / 'run.json').write_text(json.dumps(settings), encoding='utf-8')
  summary, found = made(tmp_path / 'of_run', store=str(run), sampled=30)
  _, same = made(
    tmp_path / 'of_store', store=str(run / 'store'), sampled=30, seed=5,
    sequence_length=600, unpacked=True,
  )  # fmt: skip
  assert found == same
  assert (summary['seed'], summary['unpacked']) == (5, True)


def test_a_draw_that_repeats_prompts_says_so(store, tmp_path):
  total = sum(map(store.num_examples, store.datasets))
  settings = {'store': str(store.path), 'unpacked': True}
  once, _ = made(tmp_path / 'once', sampled=total, **settings)
  assert once['notes'] == []
  often, found = made(tmp_path / 'often', sampled=5 * total, **settings)
  keys = ('task_name', 'example_id', 'template')
  different = {tuple(record[key] for key in keys) for record in found['train']}
  (note,) = often['notes']
  repeated = 5 * total - len(different)
  assert note.startswith(f'{repeated} of the drawn examples repeat an earlier prompt')
  assert note in (tmp_path / 'often' / 'README.md').read_text(encoding='utf-8')


def test_a_fresh_draw_has_the_epochs_that_it_takes(tiny_datasets, tmp_path):
  """It is the draw of a store that holds them all."""
  mixture = dataclasses.replace(tiny_datasets.mixture, rates={'stories': 60})
  registry.register(mixture)
  materialize(
    mixture, StoreConfig(tokenizer='bytes', epochs=10), out=tmp_path / 'store'
  )
  for settings in ({'unpacked': True}, {}):
    ways = {'mixture': mixture.name}, {'store': str(tmp_path / 'store')}
    found = [
      made(
        tmp_path / f'{len(settings)}{"".join(way)}', sampled=130,
        fresh=StoreConfig(tokenizer='bytes'), **way, **settings,
      )[1]
      for way in ways
    ]  # fmt: skip
    assert found[0] == found[1]
  card = (tmp_path / '1mixture' / 'README.md').read_text(encoding='utf-8')
  assert 'repeat' not in card
  assert '--epochs' not in card


def test_formats_chats_and_files_hold_the_same(store, tmp_path):
  parquet = pytest.importorskip('pyarrow.parquet')
  settings = {'store': str(store.path), 'splits': ('test', 'train'), 'chat': True}
  _, whole = made(tmp_path / 'whole', **settings)
  summary, cut = made(tmp_path / 'cut', shard_size=31, **settings)
  assert cut == whole
  assert [name for name in summary['files'] if 'train' in name] == [
    f'data/train-{number:05d}-of-00003.jsonl' for number in range(3)
  ]
  made(tmp_path / 'parquet', format='parquet', shard_size=31, **settings)
  for split in whole:
    files = sorted((tmp_path / 'parquet' / 'data').glob(f'{split}-*'))
    tables = [parquet.read_table(file).to_pylist() for file in files]
    assert list(itertools.chain(*tables)) == whole[split]
  for record in itertools.chain(*whole.values()):
    assert record['messages'] == [
      {'role': 'user', 'content': record['inputs']},
      {'role': 'assistant', 'content': record['targets']},
    ]


@pytest.mark.parametrize('format', ['jsonl', 'parquet'])
def test_the_same_command_gives_the_same_bytes(store, tmp_path, format):
  settings = {'store': str(store.path), 'sampled': 90, 'splits': ('train', 'dev')}
  for name in ('one', 'two'):
    made(tmp_path / name, format=format, **settings)
  assert bytes_of(tmp_path / 'one') == bytes_of(tmp_path / 'two')


def test_evaluation_examples_are_asked_for_their_answer(store, tmp_path):
  summary, found = made(tmp_path / 'out', store=str(store.path), splits=('dev', 'test'))
  assert summary['examples'] == {'dev': {'twins': 3}, 'test': {'twins': 5}}
  dataset = registry.get('twins')
  for name, split in (('validation', 'dev'), ('test', 'test')):
    examples = store.evaluation_examples('twins', split)
    for record, example in zip(found[name], examples, strict=True):
      assert record['template'] in dataset.evaluated_templates
      shown = prompt.render(dataset, record['template'], example)
      assert (record['inputs'], record['targets']) == shown
      assert (record['split'], record['rate']) == (split, 0)


def test_few_shot_prompts_keep_their_exemplars(tiny_datasets, tmp_path):
  style = PromptStyle(num_fewshot=2, prompt_style='no_options')
  mixture = dataclasses.replace(tiny_datasets.mixture, name='shots', style=style)
  registry.register(mixture)
  _, found = made(
    tmp_path / 'out', mixture='shots', splits=('train', 'dev', 'test'),
    fresh=StoreConfig(tokenizer='bytes'),
  )  # fmt: skip
  for record in itertools.chain(*found.values()):
    assert record['inputs'].count(prompt.NEXT) == record['num_fewshot']
    shot = 'fs' if record['num_fewshot'] else 'zs'
    assert record['template_type'] == f'{shot}_noopt'
  assert {record['num_fewshot'] for record in found['validation']} == {2}
  card = (tmp_path / 'out' / 'README.md').read_text(encoding='utf-8')
  assert 'prompt style `no_options`, 2 few-shot exemplars' in card


def test_template_type_follows_every_template_of_the_catalog():
  for dataset in registry.datasets('microworld').values():
    for template in dataset.templates:
      inputs = 'OPTIONS:\n- a' if template.has_options else template.inputs
      options = ['a'] if dataset.has_options else []
      kind = 'opt' if template.has_options else 'noopt'
      assert template_type(inputs, options, 0) == f'zs_{kind}'


def test_a_tokenizer_that_loses_text_is_named(tiny_datasets, tmp_path):
  model = tmp_path / 'small.model'
  lossy = {'normalization_rule_name': 'nmt_nfkc', 'remove_extra_whitespaces': True}
  model.write_bytes(small_tokenizers.sentence_pieces(**lossy))
  registry.register(tiny_datasets.mixture)
  summary, _ = made(
    tmp_path / 'out', mixture=tiny_datasets.mixture.name,
    fresh=StoreConfig(tokenizer=str(model)),
  )  # fmt: skip
  (note,) = summary['notes']
  assert 'decoded from tokens of `small.model`' in note


def test_the_card_is_what_the_hub_reads_and_says_what_was_held_out(store, tmp_path):
  yaml = pytest.importorskip('yaml')
  made(tmp_path / 'out', store=str(store.path), splits=('train', 'test'), chat=True)
  card = (tmp_path / 'out' / 'README.md').read_text(encoding='utf-8')
  _, header, body = card.split('---\n', 2)
  head = yaml.safe_load(header)
  (config,) = head['configs']
  assert [part['split'] for part in config['data_files']] == ['train', 'test']
  for part in config['data_files']:
    assert list((tmp_path / 'out').glob(part['path']))
  features = [feature['name'] for feature in head['dataset_info']['features']]
  assert features == [*COLUMNS, 'messages']
  assert 'Held out of the training examples: `paraphrase`' in body
  assert '- Leakage: `paraphrase`: never trained on.' in body
  assert all(line.startswith('- Leakage: ') for line in re.findall('.*eakage.*', body))
  assert f'| pairs | nli | {store.num_examples("pairs")} | 0 |' in body
  assert store.digest in body


def test_the_commands_of_a_card_make_the_same_bytes(
  store, tmp_path, monkeypatch, capsys
):
  """Of a store, and of an export that renders afresh."""
  monkeypatch.chdir(tmp_path)
  fresh = ['--mixture', 'tiny_held_out_paraphrase', '--tokenizer', 'bytes']
  for number, source in enumerate((['--store', str(store.path)], fresh)):
    wanted = ['--format=jsonl', '--sampled=40', '--chat', '--splits=train,test']
    out = ['--out', f'out{number}', '--workers', '1']
    assert dispatch.main(['export', *source, *wanted, *out]) == 0
    card = pathlib.Path(f'out{number}/README.md').read_text(encoding='utf-8')
    commands = re.findall(r'^flan ((?:materialize|export) .*)$', card, re.MULTILINE)
    assert len(commands) == (2 if number == 0 else 1)
    for command in commands:
      words = [{'DIR': f'again{number}'}.get(w, w) for w in shlex.split(command)]
      assert dispatch.main([*words, '--workers', '1']) == 0
    assert bytes_of(tmp_path / f'again{number}') == bytes_of(tmp_path / f'out{number}')
  assert 'Traceback' not in capsys.readouterr().err
  assert not list(tmp_path.glob('.*'))  # no store, no draft


def test_a_file_is_a_mixture_and_a_left_store_of_other_settings_is_no_obstacle(
  tmp_path,
):
  path = tmp_path / 'own.jsonl'
  rows = [{'q': f'Is it {i}?', 'a': f'It  is {i} ü.'} for i in range(9)]
  path.write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
  settings = {'mixture': str(path), 'inputs': 'q', 'targets': 'a'}
  with registry.restored():
    _, found = made(tmp_path / 'out', fresh=StoreConfig(tokenizer='bytes'), **settings)
    asked = [(record['inputs'], record['targets']) for record in found['train']]
    assert asked == [(row['q'], row['a']) for row in rows]
    left = tmp_path / '.two.store'
    mixture = registry.mixture('own')
    materialize(mixture, StoreConfig(tokenizer='bytes', seed=9), out=left)
    made(tmp_path / 'two', fresh=StoreConfig(tokenizer='bytes'), **settings)
  assert bytes_of(tmp_path / 'two') == bytes_of(tmp_path / 'out')
  assert not left.exists()


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'format': 'parket'}, "--format 'parket': must be one of .*'parquet'"),
    ({'splits': ('train', 'tset')}, "--splits 'tset': must be of .*'test'"),
    ({'store': None}, '--mixture: not given, nor --store'),
    ({'mixture': 'pairs'}, 'holds mixture .*, --mixture is .pairs.'),
    ({'seed': 3}, '--seed: all examples have no draw; give --sampled'),
    ({'sampled': 9, 'epochs': 2}, '--epochs 2: with --sampled, the draw takes'),
    ({'epochs': 3}, '--epochs: got 3; the store has 2 at most'),
    ({'out': '.'}, "--out '.': exists; must be a new folder"),
    ({'out': 'gs://bucket/x'}, '--out .*: must be a folder of this machine'),
    ({'store': 'nowhere'}, "store 'nowhere': no such directory"),
    ({'sampled': 9, 'sequence_length': 16}, 'sequence_length 16: an example of'),
  ],
)
def test_bad_settings_are_one_line_and_leave_nothing(
  store, tmp_path, settings, message
):
  before = sorted(tmp_path.iterdir())
  with pytest.raises(InputError, match=message) as caught:
    made(**{'out': tmp_path / 'out', 'store': str(store.path), **settings})
  assert '\n' not in str(caught.value)
  assert sorted(tmp_path.iterdir()) == before


def test_a_split_that_is_not_in_the_store_is_refused(store, tmp_path):
  mixture = dataclasses.replace(
    registry.mixture(store.manifest['mixture']), name='plain', held_out=(), excluded=()
  )
  materialize(mixture, StoreConfig(tokenizer='bytes'), out=tmp_path / 'plain')
  with pytest.raises(InputError, match="--splits 'dev': the store has no dev examples"):
    made(tmp_path / 'out', store=str(tmp_path / 'plain'), splits=('dev',))


def test_a_split_that_no_dataset_has_is_left_out_of_a_fresh_export(
  tiny_datasets, tmp_path
):
  mixture = dataclasses.replace(tiny_datasets.mixture, name='picks_alone')
  mixture = dataclasses.replace(mixture, datasets=('picks',), held_out=(), excluded=())
  registry.register(mixture)
  settings = {'mixture': 'picks_alone', 'fresh': StoreConfig(tokenizer='bytes')}
  splits = ('train', 'dev', 'test')
  summary, found = made(tmp_path / 'out', splits=splits, **settings)
  assert {split: len(rows) for split, rows in found.items()} == {
    'train': 12,
    'validation': 4,
  }
  assert summary['notes'] == ['No example of test: none of the datasets has one here.']


def test_a_full_disk_leaves_nothing(store, tmp_path, monkeypatch):
  def full(path, blocks, chat):
    path.write_text('half', encoding='utf-8')
    raise OSError(28, 'No space left on device')

  monkeypatch.setitem(
    export_files.FORMATS, 'jsonl', export_files.Format('.jsonl', full)
  )
  before = sorted(tmp_path.iterdir())
  with pytest.raises(InputError, match='--out .*No space left.*nothing is written'):
    made(tmp_path / 'out', store=str(store.path))
  assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize('format', export_files.FORMATS)
def test_datasets_reads_it(store, tmp_path, format):
  datasets = pytest.importorskip('datasets', reason='Hugging Face datasets')
  settings = {'store': str(store.path), 'splits': ('train', 'dev'), 'chat': True}
  _, expected = made(tmp_path / 'expected', **settings)
  made(tmp_path / 'out', format=format, shard_size=40, **settings)
  if format == 'hf':
    found = datasets.load_from_disk(str(tmp_path / 'out'))
  else:
    cache = str(tmp_path / 'cache')
    found = datasets.load_dataset(str(tmp_path / 'out'), cache_dir=cache)
  assert set(found) == {'train', 'validation'}
  for split, examples in expected.items():
    assert found[split].to_list() == examples


@pytest.mark.slow
def test_workers_and_formats_give_the_same_bytes(store, tmp_path):
  datasets = pytest.importorskip('datasets', reason='Hugging Face datasets')
  del datasets
  for format in export_files.FORMATS:
    for workers in (1, 3):
      made(
        tmp_path / f'{format}{workers}', store=str(store.path), shard_size=20,
        workers=workers, format=format, splits=('train', 'test'), epochs=2,
      )  # fmt: skip
    one, three = (bytes_of(tmp_path / f'{format}{n}') for n in (1, 3))
    assert one == three
