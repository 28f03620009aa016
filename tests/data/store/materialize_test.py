"""Materialization: the same bytes every time, whole or not at all, nothing lost."""

import collections
import dataclasses
import functools
import json
import subprocess
import sys

import numpy as np
import pytest

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.data import preprocess, raw_records, stable_hash, tokenizers
from flan_jax.data.preprocess import POLICY, Limits
from flan_jax.data.store import shard
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import eval_data, evaluator
from flan_jax.evaluate.predict import Warnings
from flan_jax.runtime.progress import Progress

BYTES = StoreConfig(tokenizer='bytes')


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.mark.parametrize('settings', [{'tokenizer': 'bytes'}, {'vocab_size': 420}])
def test_two_runs_give_the_same_bytes(tiny_datasets, tmp_path, settings):
  one = materialize(
    tiny_datasets.mixture, StoreConfig(epochs=2, **settings), out=tmp_path / 'one'
  )
  two = materialize(
    tiny_datasets.mixture, StoreConfig(epochs=2, **settings), out=tmp_path / 'two'
  )
  assert one == two
  assert contents(tmp_path / 'one') == contents(tmp_path / 'two')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['one', 'two']


def test_the_digest_follows_the_content(tiny_datasets, tmp_path):
  def digest(**kwargs):
    out = tmp_path / str(len(list(tmp_path.iterdir())))
    given = {'tokenizer': 'bytes'} | kwargs
    return materialize(tiny_datasets.mixture, StoreConfig(**given), out=out)['digest']

  digests = [digest(), digest(seed=1), digest(epochs=2), digest(limits=Limits(60, 32))]
  tiny_datasets.examples['pairs']['train'][0]['premise'] = 'another'
  digests.append(digest())
  assert len(set(digests)) == len(digests)


def test_the_manifest_counts_every_example(tiny_datasets, tmp_path):
  tiny_datasets.examples['pairs']['train'][3]['label'] = -1
  tiny_datasets.examples['stories']['train'][4]['title'] = '  '
  tiny_datasets.examples['stories']['train'][5]['title'] = 'long ' * 99
  tiny_datasets.examples['stories']['train'][6]['story'] = 'word ' * 99
  tiny_datasets.examples['picks']['train'][1]['one'] = 'x' * 500
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=3, limits=Limits(400, 64)),
    out=tmp_path / 'out',
  )
  pairs, stories, picks = (
    manifest['datasets'][n] for n in ('pairs', 'stories', 'picks')
  )
  assert (pairs['examples_read'], pairs['examples'], pairs['rate']) == (35, 34, 34)
  assert pairs['filters'] == {'unlabeled': 1, 'empty': 0, 'too_long': 0}
  assert (stories['examples_read'], stories['examples']) == (23, 21)
  # An answer is whole or it is not written.
  assert stories['filters'] == {'unlabeled': 0, 'empty': 1, 'too_long': 1}
  assert stories['truncated'] == {'inputs': 3, 'targets': 0, 'redrawn': 0}
  assert picks['filters']['too_long'] == 1
  assert manifest['trained_on'] == ['nli', 'commonsense', 'summarization']
  assert manifest['held_out'] == ['paraphrase']
  assert manifest['excluded'] == ['sentiment']
  assert manifest['tfds'] == {'pairs': 'pairs:1.0.0', 'stories': 'stories:1.0.0',
                              'twins': 'twins:1.0.0'}  # fmt: skip
  assert manifest['limits'] == {'inputs': 400, 'targets': 64, 'policy': POLICY}
  assert sum(manifest['length_histogram']['counts']) == 3 * (34 + 21 + 11)
  assert json.loads((tmp_path / 'out' / 'manifest.json').read_text()) == manifest


def test_every_entry_is_an_example_in_an_epoch(tiny_datasets, tmp_path):
  """Entry e * n + i: example i, by the template drawn for epoch e."""
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=3, seed=5),
    out=tmp_path / 'out',
  )
  found = Store.open(tmp_path / 'out')
  dataset = registry.get('pairs')
  decode = found.tokenizer().decode
  for entry in range(3 * 35):
    epoch, i = divmod(entry, 35)
    stored = found.example('pairs', entry)
    assert (stored.example_id, stored.epoch) == (f'train.0.{i}', epoch)
    assert stored.template == stable_hash.template(5, stored.example_id, epoch, 10)
    assert stored.options == ('yes', 'no')
    example = dataset.read(
      tiny_datasets.examples['pairs']['train'][i], stored.example_id
    )
    prompt = prompt_lib.render(dataset, stored.template, example)
    assert tuple(map(decode, stored.tokens)) == prompt


def test_a_run_of_steps_renders_the_epochs_it_draws(tiny_datasets, tmp_path):
  """Below 3,000 a rate is a size, so small datasets have the same epochs."""
  short = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', steps=1, batch_tokens=64),
    out=tmp_path / 'short',
  )
  epochs = {name: entry['epochs'] for name, entry in short['datasets'].items()}
  assert set(epochs.values()) == {10}  # 1,024 draws are 14 epochs of 70
  assert all(entry['wraps'] for entry in short['datasets'].values())

  tiny_datasets.examples['pairs']['train'] *= 100
  big = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', steps=100, batch_tokens=2048),
    out=tmp_path / 'big',
  )
  pairs = big['datasets']['pairs']
  assert (pairs['rate'], pairs['examples']) == (3000, 3_995)
  assert pairs['epochs'] == 1
  assert not pairs['wraps']
  assert big['datasets']['picks']['epochs'] == 2
  found = Store.open(tmp_path / 'big')
  assert len(found.lengths('picks')) == 2 * 12
  plan = found.plan(seed=0, sequences=100, sequence_length=2048)
  for name, drawn in plan.counts().items():
    assert drawn <= big['datasets'][name]['epochs'] * big['datasets'][name]['examples']


def test_an_epoch_added_is_an_epoch_rendered_at_once(tiny_datasets, tmp_path):
  """`steps` renders epoch 0 first and the rest later: the same shard."""
  tiny_datasets.examples['pairs']['train'] *= 100
  steps = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', steps=100, batch_tokens=2048),
    out=tmp_path / 'steps',
  )
  epochs = steps['datasets']['picks']['epochs']
  assert epochs > 1
  at_once = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=epochs),
    out=tmp_path / 'epochs',
  )
  assert steps['datasets']['picks']['digest'] == at_once['datasets']['picks']['digest']
  folders = [tmp_path / name / 'train' for name in ('steps', 'epochs')]
  for epoch in range(epochs):
    one, two = (f / shard.records_file('picks', epoch) for f in folders)
    assert one.read_bytes() == two.read_bytes()


def test_more_epochs_than_templates_wrap(tiny_datasets, tmp_path):
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=12),
    out=tmp_path / 'out',
  )
  pairs = manifest['datasets']['pairs']
  assert (pairs['epochs'], pairs['epochs_needed'], pairs['wraps']) == (10, 12, True)


def test_ten_epochs_use_all_ten_templates_of_an_example(tiny_datasets, tmp_path):
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=10),
    out=tmp_path / 'out',
  )
  examples = Store.open(tmp_path / 'out').examples('stories', range(230))
  seen = collections.defaultdict(set)
  for stored in examples:
    seen[stored.example_id].add(stored.template)
  assert set(map(len, seen.values())) == {10}


def test_evaluation_examples_are_the_fields_of_the_held_out_cluster(
  tiny_datasets, tmp_path
):
  tiny_datasets.examples['twins']['test'][1]['same'] = -1
  manifest = materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  twins = manifest['evaluation']['twins']
  assert twins['examples'] == {'dev': 3, 'test': 4}
  assert twins['filters'] == {'unlabeled': 1, 'empty': 0}
  found = Store.open(tmp_path / 'out')
  dataset = registry.get('twins')
  want = [
    dataset.read(record, f'test.0.{i}')
    for i, record in enumerate(tiny_datasets.examples['twins']['test'])
    if i != 1
  ]
  assert found.evaluation_examples('twins', 'test') == want
  assert 'twins' not in found.datasets
  line = (
    (tmp_path / 'out' / 'evaluation' / 'twins.dev.jsonl').read_text().splitlines()[1]
  )
  assert json.loads(line) == {
    'row_id': 'validation.0.1',
    'values': {'left': 'word7 word8 word9 word10 word11 word12',
               'right': 'word7 word8 word9 word10 word11 word12!', 'answer': 'yes'},
    'options': ['no', 'yes'],
    'gold': [1],
    'references': ['yes'],
    'span': [],
  }  # fmt: skip


def test_smaller_data_is_clamped_and_reported(tiny_datasets, tmp_path):
  """Carve-outs shrink in proportion; the rate is the real number of examples."""
  tiny_datasets.examples['pairs']['train'] = tiny_datasets.examples['pairs']['train'][
    :16
  ]
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', evaluate=('nli',)),
    out=tmp_path / 'out',
  )
  pairs = manifest['datasets']['pairs']
  assert pairs['clamped'] == {
    'train': {'declared': 35, 'real': 14},
    'dev': {'declared': 5, 'real': 2},
  }
  assert pairs['rate'] == pairs['examples'] == 14
  assert manifest['evaluation']['pairs']['examples'] == {'dev': 2, 'test': 7}


def test_a_finished_store_is_reused_and_never_rewritten(tiny_datasets, tmp_path):
  out = tmp_path / 'out'
  first = materialize(tiny_datasets.mixture, BYTES, out=out)
  stamp = (out / 'manifest.json').stat().st_mtime_ns
  assert materialize(tiny_datasets.mixture, BYTES, out=out) == first
  assert (out / 'manifest.json').stat().st_mtime_ns == stamp
  with pytest.raises(InputError, match=r"store '.*out'.*not rewritten"):
    materialize(tiny_datasets.mixture, StoreConfig(tokenizer='bytes', seed=1), out=out)
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'mine.txt').write_text('keep')
  with pytest.raises(InputError, match='not a store'):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'notes')
  assert (tmp_path / 'notes' / 'mine.txt').read_text() == 'keep'


def partial(tmp_path):
  """Names of the files of the unfinished store."""
  folder = tmp_path / '.out.partial'
  return {path.relative_to(folder).as_posix() for path in folder.rglob('*.*')}


def test_a_bad_example_is_named_and_finished_parts_are_kept(
  tiny_datasets, tmp_path, monkeypatch
):
  tiny_datasets.examples['picks']['train'][7]['label'] = 3
  with pytest.raises(
    InputError, match="dataset 'picks', example 'train.0.7'.* got 3; must"
  ):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  assert [path.name for path in tmp_path.iterdir()] == ['.out.partial']
  assert {'work/pairs.spool', 'work/stories.spool'} <= partial(tmp_path)
  assert not any('picks' in name for name in partial(tmp_path))

  tiny_datasets.examples['picks']['train'][7]['label'] = 1
  read = []

  def records(dataset, split, **where):
    read.append((dataset.name, split))
    return tiny_datasets.records(dataset, split, **where)

  monkeypatch.setattr(raw_records, 'records', records)
  materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  assert ('pairs', 'train') not in read
  assert ('picks', 'train') in read
  materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'at_once')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'at_once')


def test_raw_data_that_changed_before_a_rerun_is_read_again(tiny_datasets, tmp_path):
  tiny_datasets.examples['picks']['train'][7]['label'] = 3
  with pytest.raises(InputError, match='must'):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  tiny_datasets.examples['picks']['train'][7]['label'] = 1
  tiny_datasets.examples['pairs']['train'][0]['premise'] = 'rewritten since'
  materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'at_once')
  assert contents(tmp_path / 'out') == contents(tmp_path / 'at_once')


def test_the_work_folder_is_removed_if_no_part_is_finished(tiny_datasets, tmp_path):
  tiny_datasets.examples['pairs']['train'][7]['label'] = 3
  with pytest.raises(InputError, match='must'):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('settings', [{'tokenizer': 'bytes'}, {'vocab_size': 420}])
def test_a_failure_late_in_the_work_keeps_the_finished_shards(
  tiny_datasets, tmp_path, monkeypatch, settings
):
  """No half-written file stays; the next run resumes and ends in the same store."""
  write = shard.ShardWriter.write
  rendered = []

  def breaks(self, example):
    if example.epoch == 1 and self.index:
      raise OSError(28, 'No space left on device')
    write(self, example)

  monkeypatch.setattr(shard.ShardWriter, 'write', breaks)
  with pytest.raises(InputError, match='No space left.*finished parts are kept'):
    materialize(
      tiny_datasets.mixture, StoreConfig(epochs=2, **settings), out=tmp_path / 'out'
    )
  shards = {name for name in partial(tmp_path) if name.endswith('.array_record')}
  assert shards == {'train/pairs.00.array_record'}
  assert not [name for name in partial(tmp_path) if '/.' in name]

  monkeypatch.setattr(shard.ShardWriter, 'write', write)
  epoch = preprocess.Renderer.__call__
  monkeypatch.setattr(
    preprocess.Renderer,
    '__call__',
    lambda self, batch, e: (
      rendered.append((self.dataset.name, e, len(batch))) or epoch(self, batch, e)
    ),
  )
  materialize(
    tiny_datasets.mixture, StoreConfig(epochs=2, **settings), out=tmp_path / 'out'
  )
  assert ('pairs', 0, 35) not in rendered
  assert len(rendered) == 7  # five epochs, and dev of two datasets
  materialize(
    tiny_datasets.mixture, StoreConfig(epochs=2, **settings), out=tmp_path / 'at_once'
  )
  assert contents(tmp_path / 'out') == contents(tmp_path / 'at_once')


def test_a_disk_that_is_full_is_named_and_loses_nothing(tmp_path):
  """The real writer at a real limit: no file may grow past 96 KiB."""
  code = """
import resource, signal, sys
from flan_jax.catalog import registry
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.errors import InputError
out, limit = sys.argv[1], int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit:
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
  mixture = registry.mixture('microworld_mini_sst2')
  materialize(mixture, StoreConfig(tokenizer='bytes', epochs=1), out=out)
except InputError as error:
  print(error)
"""

  def run(limit):
    command = [sys.executable, '-c', code, str(tmp_path / 'out'), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout

  said = run(96 * 1024)
  assert 'File too large' in said
  assert 'finished parts are kept' in said
  assert not (tmp_path / 'out').exists()
  assert not [name for name in partial(tmp_path) if '/.' in name]
  assert run(0) == ''
  assert Store.open(tmp_path / 'out').num_examples('mini_sst2') == 3000


def test_what_a_killed_process_left_is_cleared(tiny_datasets, tmp_path):
  left = tmp_path / '.out.partial' / 'train'
  left.mkdir(parents=True)
  (left / '.77.pairs.00.array_record').write_bytes(b'half')
  manifest = materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  assert [path.name for path in tmp_path.iterdir()] == ['out']
  assert set(manifest['files']) == {
    *(f'train/{n}.00.{end}' for n in ('pairs', 'stories', 'picks')
      for end in ('array_record', 'index.npy')),
    'evaluation/twins.dev.jsonl', 'evaluation/twins.test.jsonl',
    *(f'validation/{n}.{end}' for n in ('pairs', 'picks')
      for end in ('dev.jsonl', '00.array_record', '00.index.npy')),
  }  # fmt: skip


def test_a_missing_split_has_no_examples(tiny_datasets, tmp_path):
  del (
    tiny_datasets.examples['stories']['train'],
    tiny_datasets.examples['twins']['validation'],
  )
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=2),
    out=tmp_path / 'out',
  )
  stories = manifest['datasets']['stories']
  assert (stories['examples_read'], stories['examples'], stories['rate']) == (0, 0, 0)
  assert stories['clamped'] == {'train': {'declared': 23, 'real': 0}}
  assert manifest['evaluation']['twins']['examples'] == {'dev': 0, 'test': 5}
  assert manifest['trained_on'] == ['nli', 'commonsense']
  found = Store.open(tmp_path / 'out')
  assert found.datasets == ('pairs', 'picks')
  assert found.evaluation_examples('twins', 'dev') == []
  assert set(found.plan(seed=0, sequences=9, sequence_length=512).counts()) == {
    'pairs',
    'picks',
  }
  tiny_datasets.examples['pairs'].pop('train')
  tiny_datasets.examples['picks'].pop('train')
  with pytest.raises(InputError, match='no training examples are left'):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'none')


def test_blank_answers_are_measured_neither_from_a_store_nor_from_raw_examples(
  tiny_datasets, tmp_path
):
  tiny_datasets.examples['stories']['test'][1]['title'] = '  '
  held_out = dataclasses.replace(
    tiny_datasets.mixture, datasets=('pairs', 'picks'), held_out=('summarization',)
  )
  manifest = materialize(held_out, BYTES, out=tmp_path / 'out')
  assert manifest['evaluation']['stories']['filters']['empty'] == 1
  about = {'data_dir': None, 'progress': Progress(quiet=True)}
  store = Store.open(tmp_path / 'out')
  dataset = registry.get('stories')
  measured = []
  for source in (eval_data.stored(store, **about), eval_data.raw(**about)):
    found = evaluator.valid_examples(dataset, source('stories', 'test'), Warnings())
    measured.append([example.example_id for example in found])
  assert measured == [['test.0.0', 'test.0.2']] * 2


def test_a_missing_field_is_named(tiny_datasets, tmp_path):
  del tiny_datasets.examples['pairs']['train'][2]['text']['hypothesis']
  with pytest.raises(
    InputError, match=r"'pairs', example 'train.0.2': field .*hypothesis"
  ):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')


def test_a_missing_dataset_is_refused_or_skipped(tiny_datasets, tmp_path):
  del tiny_datasets.examples['picks'], tiny_datasets.examples['twins']
  with pytest.raises(InputError, match="'picks': not prepared"):
    materialize(tiny_datasets.mixture, BYTES, out=tmp_path / 'out')
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', missing='skip'),
    out=tmp_path / 'out',
  )
  assert set(manifest['missing']) == {'picks', 'twins'}
  assert manifest['trained_on'] == ['nli', 'summarization']
  assert Store.open(tmp_path / 'out').datasets == ('pairs', 'stories')
  tiny_datasets.examples.clear()
  with pytest.raises(InputError, match='none of its 3 datasets is prepared'):
    materialize(
      tiny_datasets.mixture,
      StoreConfig(tokenizer='bytes', missing='skip'),
      out=tmp_path / 'none',
    )


def test_the_reason_of_a_skipped_dataset_may_be_worded_otherwise(
  tiny_datasets, tmp_path, monkeypatch
):
  del tiny_datasets.examples['picks']
  make = functools.partial(
    materialize,
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', missing='skip'),
    out=tmp_path / 'out',
  )
  made, sizes = make(), raw_records.sizes

  def reworded(dataset, **given):
    try:
      return sizes(dataset, **given)
    except InputError as error:
      raise InputError(f'{error}, in other words') from None

  monkeypatch.setattr(raw_records, 'sizes', reworded)
  assert make() == made


@pytest.mark.parametrize(
  ('change', 'given', 'message'),
  [
    ({'datasets': ()}, {}, 'no datasets'),
    ({'held_out': ('nli',)}, {}, r'trains on that very cluster \(pairs\)'),
    (
      {'excluded': ('commonsense',)},
      {},
      'on commonsense, related to it',
    ),
    ({}, {'missing': 'skipp'}, "did you mean 'skip'"),
    ({}, {'epochs': 0}, 'epochs 0: must be at least 1'),
    ({}, {'epochs': 1, 'steps': 1}, 'give one of them'),
    ({}, {'steps': 1}, 'needs batch_tokens'),
    ({}, {'evaluate': ('nlj',)}, "did you mean 'nli'"),
  ],
)
def test_bad_arguments_are_named(tiny_datasets, tmp_path, change, given, message):
  mixture = dataclasses.replace(tiny_datasets.mixture, **change)
  with pytest.raises(InputError, match=message):
    materialize(
      mixture, StoreConfig(**{'tokenizer': 'bytes'} | given), out=tmp_path / 'out'
    )
  assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_by_dataset(tiny_datasets, tmp_path):
  calls = []
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=2),
    out=tmp_path / 'out',
    progress=lambda *call: calls.append(call),
  )
  assert ('read', 'pairs', 35, 35) in calls
  assert [c for c in calls if c[:2] == ('render', 'picks')] == [
    ('render', 'picks', 12, 24),
    ('render', 'picks', 24, 24),
  ]


def test_the_trained_tokenizer_is_in_the_store(tiny_datasets, tmp_path):
  manifest = materialize(
    tiny_datasets.mixture, StoreConfig(vocab_size=420), out=tmp_path / 'out'
  )
  found = Store.open(tmp_path / 'out').tokenizer()
  assert isinstance(found, tokenizers.SentencePiece)
  assert manifest['tokenizer'] == {
    'name': 'bpe-420', 'file': 'tokenizer.model', 'vocab_size': found.vocab_size,
    'bos_id': None, 'eos_id': 1, 'pad_id': 0, 'unk_id': 2, 'digest': found.digest,
  }  # fmt: skip
  assert np.max(Store.open(tmp_path / 'out').example('pairs', 0).tokens.inputs) < 420


def test_the_manifest_reports_the_fill_of_a_run(tiny_datasets, tmp_path):
  """Packing changes no draw: the lengths before and after differ by the last window."""
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', steps=40, batch_tokens=8192, sequence_length=2048),
    out=tmp_path / 'out',
  )
  found = manifest['plan']
  assert (found['sequences'], found['sequence_length']) == (160, 2048)
  plan = Store.open(tmp_path / 'out').plan(seed=0, sequences=160, sequence_length=2048)
  assert manifest['fill'] == found['fill'] == plan.fill > 0.99
  assert found['examples'] == plan.examples
  drawn, packed = (found[key]['counts'] for key in ('lengths_drawn', 'lengths_packed'))
  assert sum(drawn) == sum(packed) == plan.examples
  assert np.abs(np.subtract(drawn, packed)).sum() < 0.2 * plan.examples
