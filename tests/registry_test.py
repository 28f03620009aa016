"""seqio Tasks and Mixtures: the same strings, whoever asks."""

import collections
import json

import pytest

from flan_jax import catalogue, sources
from flan_jax.data import draw
from flan_jax.errors import InputError

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax import fetch, registry  # noqa: E402
from flan_jax.progress import Progress  # noqa: E402

CONCEPTS = [['bread', 'oven'], ['boat', 'lake', 'sail'], ['dog'], ['tea', 'cup']]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """rte, common_gen and half of cb, prepared from rows of our own writing."""
  root = tmp_path_factory.mktemp('data')
  rte = [
    {'premise': f'Barn {i} is red.', 'hypothesis': f'Barn {i} has a colour.', 'idx': i,
     'label': i % 2}
    for i in range(60)
  ]  # fmt: skip
  common_gen = [
    {'gem_id': '', 'gem_parent_id': '', 'concept_set_id': i, 'concepts': concepts,
     'target': 'A sentence with ' + ' and '.join(concepts), 'references': []}
    for i, concepts in enumerate(CONCEPTS)
  ]  # fmt: skip
  for name, split, rows in (
    ('super_glue/rte', 'train', rte),
    ('super_glue/rte', 'validation', rte[:7]),
    ('super_glue/cb', 'train', rte),
    ('gem/common_gen', 'train', common_gen),
    ('gem/common_gen', 'validation', common_gen),
  ):
    path = root / 'raw' / name / f'{split}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, rows)))
  fetch.fetch(
    [catalogue.get(name) for name in ('rte', 'common_gen', 'cb')],
    data_dir=str(root / 'tfds'),
    folder=str(root / 'raw'),
    progress=Progress(quiet=True),
  )
  return str(root / 'tfds')


@pytest.fixture(scope='module')
def registered(data_dir):
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  registry.register(seqio.ByteVocabulary(), data_dir=data_dir, seed=5)
  yield
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


LENGTHS = {'inputs': 1024, 'targets': 256}


def strings(task: str, split: str, **more) -> list[dict]:
  dataset = seqio.get_mixture_or_task(task).get_dataset(
    LENGTHS, split=split, shuffle=False, **more
  )
  return list(dataset.as_numpy_iterator())


def test_the_training_task_draws_a_template_by_a_hash_of_the_row(registered, data_dir):
  rte = catalogue.get('rte')
  expected = {}
  for row_id, record in registry.records(rte, 'train', data_dir=data_dir):
    template = draw.template(5, row_id, 0, len(rte.templates))
    expected[row_id] = (
      template,
      *catalogue.render(rte, template, rte.read(record, row_id)),
    )
  found = {
    row['row_id'].decode(): (
      int(row['template']),
      row['inputs_pretokenized'].decode(),
      row['targets_pretokenized'].decode(),
    )
    for row in strings('flan_rte', 'train')
  }
  assert found == expected
  assert len({template for template, *_ in found.values()}) > 5


def test_order_and_sharding_do_not_change_what_a_row_becomes(registered):
  whole = strings('flan_rte', 'train')
  shuffled = seqio.get_mixture_or_task('flan_rte').get_dataset(
    LENGTHS, split='train', shuffle=True, seed=1
  )
  key = lambda row: (row['row_id'], row['inputs_pretokenized'])  # noqa: E731
  assert collections.Counter(map(key, whole)) == collections.Counter(
    map(key, shuffled.as_numpy_iterator())
  )


def test_evaluation_tasks_keep_template_options_and_row(registered):
  rows = strings('flan_rte_template_0', 'test')
  assert len(rows) == 7
  rte = catalogue.get('rte')
  for row in rows:
    assert int(row['template']) == 0
    options = [option.decode() for option in row['options']]
    assert options == list(rte.answer.words)
    assert options[int(row['gold'][0])] == row['targets_pretokenized'].decode()
    assert row['inputs'][-1] == row['targets'][-1] == 1  # EOS ends both


def test_turned_around_templates_are_not_evaluated(registered):
  for dataset in catalogue.family('flan').values():
    for index, template in enumerate(dataset.templates):
      name = f'{dataset.task}_template_{index}'
      assert (name in seqio.TaskRegistry.names()) != template.turned_around


def test_splits_fit_the_data_at_hand(registered):
  task = seqio.get_mixture_or_task('flan_rte')
  sizes = {s: task.num_input_examples(s) for s in ('train', 'validation', 'test')}
  assert sizes == {'train': 55, 'validation': 5, 'test': 7}
  ids = [
    {row['row_id'] for row in strings('flan_rte', s)} for s in ('train', 'validation')
  ]
  assert not ids[0] & ids[1]


def test_rates_are_the_rows_up_to_three_thousand(registered):
  mixture = seqio.MixtureRegistry.get('flan_held_out_sentiment')
  rate = mixture._task_to_rate['flan_rte']
  assert rate(seqio.get_mixture_or_task('flan_rte')) == 55


def test_every_held_out_mixture_is_registered(registered):
  names = set(seqio.MixtureRegistry.names())
  for cluster in catalogue.CLUSTERS:
    assert f'flan_held_out_{cluster}' in names


def test_the_metric_of_a_task_takes_every_reference(registered):
  task = seqio.get_mixture_or_task('flan_common_gen_template_0')
  (metric,) = task.metric_fns
  same = ['A boat sails the lake.']
  assert metric([same], same)['rouge'] == pytest.approx(100.0)


def test_an_unprepared_dataset_says_which_command_prepares_it(registered, data_dir):
  with pytest.raises(InputError, match='`flan fetch copa` prepares it'):
    registry.sizes(catalogue.get('copa'), data_dir=data_dir)


def test_an_unprepared_split_is_named(registered, data_dir):
  with pytest.raises(InputError, match="'validation', which is not prepared.*train"):
    registry.records(catalogue.get('cb'), 'test', data_dir=data_dir)
  assert len(list(registry.records(catalogue.get('cb'), 'train', data_dir=data_dir)))


def test_generated_datasets_are_tasks_too():
  """... whose strings are those that a store holds."""
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  registry.register(seqio.ByteVocabulary(), family='microworld', seed=3)
  for task in ('microworld_mini_arc', 'microworld_mini_common_gen'):
    dataset = catalogue.task(task)
    expected = set()
    for row_id, record in sources.records(dataset, 'dev'):
      template = draw.template(3, row_id, 0, len(dataset.templates))
      row = dataset.read(record, row_id)
      expected.add((row_id, *catalogue.render(dataset, template, row)))
    found = {
      tuple(
        row[key].decode()
        for key in ('row_id', 'inputs_pretokenized', 'targets_pretokenized')
      )
      for row in strings(task, 'validation')
    }
    assert found == expected
    assert len(found) == 150
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
