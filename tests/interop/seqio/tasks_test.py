"""seqio Tasks and Mixtures have the strings of `catalog.prompt.render`."""

import collections
import dataclasses
import json

import pytest

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt, registry
from flan_jax.data import few_shot, raw_records, stable_hash
from flan_jax.errors import InputError

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax.data import fetch, tfds_source  # noqa: E402
from flan_jax.interop.seqio import tasks  # noqa: E402
from flan_jax.runtime.progress import Progress  # noqa: E402

CONCEPTS = [['bread', 'oven'], ['boat', 'lake', 'sail'], ['dog'], ['tea', 'cup']]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """rte, common_gen and half of cb, prepared from examples of our own writing."""
  root = tmp_path_factory.mktemp('data')
  rte = [
    {'premise': f'Barn {i} is red.', 'hypothesis': f'Barn {i} has a color.', 'idx': i,
     'label': i % 2}
    for i in range(60)
  ]  # fmt: skip
  common_gen = [
    {'gem_id': '', 'gem_parent_id': '', 'concept_set_id': i, 'concepts': concepts,
     'target': 'A sentence with ' + ' and '.join(concepts), 'references': []}
    for i, concepts in enumerate(CONCEPTS)
  ]  # fmt: skip
  for name, split, examples in (
    ('super_glue/rte', 'train', rte),
    ('super_glue/rte', 'validation', rte[:7]),
    ('super_glue/cb', 'train', rte),
    ('gem/common_gen', 'train', common_gen),
    ('gem/common_gen', 'validation', common_gen),
  ):
    path = root / 'raw' / name / f'{split}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, examples)))
  fetch.fetch(
    [registry.get(name) for name in ('rte', 'common_gen', 'cb')],
    data_dir=str(root / 'tfds'),
    folder=str(root / 'raw'),
    progress=Progress(quiet=True),
  )
  return str(root / 'tfds')


@pytest.fixture(scope='module')
def registered(data_dir):
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  tasks.register(seqio.ByteVocabulary(), data_dir=data_dir, seed=5)
  yield
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


LENGTHS = {'inputs': 1024, 'targets': 256}


def strings(task: str, split: str, **more) -> list[dict]:
  dataset = seqio.get_mixture_or_task(task).get_dataset(
    LENGTHS, split=split, shuffle=False, **more
  )
  return list(dataset.as_numpy_iterator())


def test_the_training_task_draws_a_template_by_example(registered, data_dir):
  rte = registry.get('rte')
  expected = {}
  for example_id, record in tfds_source.records(rte, 'train', data_dir=data_dir):
    template = stable_hash.template(5, example_id, 0, len(rte.templates))
    expected[example_id] = (
      template,
      *prompt.render(rte, template, rte.read(record, example_id)),
    )
  found = {
    example['example_id'].decode(): (
      int(example['template']),
      example['inputs_pretokenized'].decode(),
      example['targets_pretokenized'].decode(),
    )
    for example in strings('flan_rte', 'train')
  }
  assert found == expected
  assert len({template for template, *_ in found.values()}) > 5


def test_order_and_sharding_do_not_change_an_example(registered):
  whole = strings('flan_rte', 'train')
  shuffled = seqio.get_mixture_or_task('flan_rte').get_dataset(
    LENGTHS, split='train', shuffle=True, seed=1
  )
  key = lambda example: (example['example_id'], example['inputs_pretokenized'])  # noqa: E731
  assert collections.Counter(map(key, whole)) == collections.Counter(
    map(key, shuffled.as_numpy_iterator())
  )


def test_a_saved_iterator_over_a_task_resumes(registered, tmp_path):
  """t5x does so at a checkpoint; a stateful Python function would forbid it."""
  import tensorflow as tf

  examples = seqio.get_mixture_or_task('flan_rte').get_dataset(
    LENGTHS, split='train', shuffle=True, seed=1, num_epochs=None
  )

  def take(iterator, count):
    return [next(iterator)['targets'].numpy().tolist() for _ in range(count)]

  first, second = iter(examples), iter(examples)
  before = take(first, 5)
  saved = tf.train.Checkpoint(iterator=first).save(str(tmp_path / 'saved'))
  after = take(first, 5)
  tf.train.Checkpoint(iterator=second).restore(saved).assert_consumed()
  assert take(second, 5) == after
  assert after != before


def test_evaluation_tasks_carry_template_options_and_answer(registered):
  examples = strings('flan_rte_template_0', 'test')
  assert len(examples) == 7
  rte = registry.get('rte')
  for example in examples:
    assert int(example['template']) == 0
    options = [option.decode() for option in example['options']]
    assert options == list(rte.answer.words)
    assert options[int(example['gold'][0])] == example['targets_pretokenized'].decode()
    assert example['inputs'][-1] == example['targets'][-1] == 1  # EOS ends both


def test_inverted_templates_are_not_evaluated(registered):
  for dataset in registry.datasets('flan').values():
    for index, template in enumerate(dataset.templates):
      name = f'{dataset.task}_template_{index}'
      assert (name in seqio.TaskRegistry.names()) != template.inverted


def test_splits_fit_the_prepared_data(registered):
  task = seqio.get_mixture_or_task('flan_rte')
  sizes = {s: task.num_input_examples(s) for s in ('train', 'validation', 'test')}
  assert sizes == {'train': 55, 'validation': 5, 'test': 7}
  ids = [
    {example['example_id'] for example in strings('flan_rte', s)}
    for s in ('train', 'validation')
  ]
  assert not ids[0] & ids[1]


def test_rates_are_the_numbers_of_examples_up_to_3000(registered):
  mixture = seqio.MixtureRegistry.get('flan_held_out_sentiment')
  rate = mixture._task_to_rate['flan_rte']
  assert rate(seqio.get_mixture_or_task('flan_rte')) == 55


def test_tasks_that_the_paper_counts_as_one_share_their_rate(registered, monkeypatch):
  """The rate is shared by the number of prepared examples."""
  group = ('rte', 'common_gen')
  examples = [
    seqio.get_mixture_or_task(f'flan_{name}').num_input_examples('train')
    for name in group
  ]
  monkeypatch.setattr('flan_jax.catalog.mixing_rates.MAXIMUM_RATE', 29)
  mixture = registry.Mixture(name='two', datasets=group, shared_cap=True)
  with registry.restored():
    for name in group:
      one = dataclasses.replace(registry.get(name), paper_name='both')
      registry.register(one, replace=True)
    found = [tasks.mixing_rate(name, mixture)(None) for name in group]
  assert sum(found) == 29
  assert found[0] == pytest.approx(29 * examples[0] / sum(examples), abs=0.5)
  mixture = seqio.MixtureRegistry.get('flan_paper62')
  assert {'flan_squad_v1', 'flan_squad_v2'} <= mixture._task_to_rate.keys()
  assert 'flan_wsc' not in mixture._task_to_rate


def test_a_few_shot_task_has_the_prompts_of_the_store(registered, data_dir):
  rte = registry.get('rte')
  examples = [
    rte.read(record, example_id)
    for example_id, record in tfds_source.records(rte, 'train', data_dir=data_dir)
  ]
  count = lambda texts: [len(text.encode()) for text in texts]  # noqa: E731
  pool = few_shot.FewShotPool(rte, examples, num_fewshot=5, seed=5, count=count)
  by_id = {example.example_id: example for example in examples}
  found = strings('flan_rte_5_shot', 'train')
  assert len(found) == 55
  for example in found:
    shown = pool.prompt(
      by_id[example['example_id'].decode()], int(example['template']), 0
    )
    assert example['inputs_pretokenized'].decode() == shown.prompt.inputs
    assert example['targets_pretokenized'].decode() == shown.prompt.targets
    assert len(shown.exemplars) >= 2
  test = {
    example['example_id'].decode() for example in strings('flan_rte_5_shot', 'test')
  }
  assert not test & set(by_id)


def test_every_prompt_style_has_tasks_of_its_own(registered):
  for suffix, start in (
    ('_no_template', 'Barn'),
    ('_dataset_name', '[nli: RTE]\nBarn'),
  ):
    examples = strings(f'flan_rte{suffix}', 'train')
    assert len(examples) == 55
    assert all(
      example['inputs_pretokenized'].decode().startswith(start) for example in examples
    )
    mixture = seqio.MixtureRegistry.get(f'flan_held_out_sentiment{suffix}')
    assert f'flan_rte{suffix}' in mixture._task_to_rate


def test_every_held_out_mixture_is_registered(registered):
  names = set(seqio.MixtureRegistry.names())
  for cluster in dataset_lib.CLUSTERS:
    assert f'flan_held_out_{cluster}' in names


def test_the_metric_of_a_task_takes_every_reference(registered):
  task = seqio.get_mixture_or_task('flan_common_gen_template_0')
  (metric,) = task.metric_fns
  same = ['A boat sails the lake.']
  assert metric([same], same)['rouge'] == pytest.approx(100.0)


def test_an_unprepared_dataset_says_which_command_prepares_it(registered, data_dir):
  with pytest.raises(InputError, match='`flan fetch copa` prepares it'):
    tfds_source.sizes(registry.get('copa'), data_dir=data_dir)


def test_an_unprepared_split_is_named(registered, data_dir):
  with pytest.raises(InputError, match="'validation', which is not prepared.*train"):
    tfds_source.records(registry.get('cb'), 'test', data_dir=data_dir)
  assert len(list(tfds_source.records(registry.get('cb'), 'train', data_dir=data_dir)))


def test_generated_datasets_are_tasks_too():
  """... whose strings are those that a store holds."""
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  tasks.register(seqio.ByteVocabulary(), family='microworld', seed=3)
  for task in ('microworld_mini_arc', 'microworld_mini_common_gen'):
    dataset = registry.get(task)
    expected = set()
    for example_id, record in raw_records.records(dataset, 'dev'):
      template = stable_hash.template(3, example_id, 0, len(dataset.templates))
      example = dataset.read(record, example_id)
      expected.add((example_id, *prompt.render(dataset, template, example)))
    found = {
      tuple(
        example[key].decode()
        for key in ('example_id', 'inputs_pretokenized', 'targets_pretokenized')
      )
      for example in strings(task, 'validation')
    }
    assert found == expected
    assert len(found) == 150
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


def test_a_translation_is_evaluated_both_ways():
  """Each template's task has the answer of its direction."""
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  tasks.register(seqio.ByteVocabulary(), family='microworld', seed=3)
  wmt = registry.get('mini_wmt')
  records = dict(raw_records.records(wmt, 'dev'))
  for way in wmt.by_direction:
    for index in way.evaluated_templates:
      (example, *_) = strings(f'microworld_mini_wmt_template_{index}', 'validation')
      language = way.direction.rpartition('-')[2]
      wanted = records[example['example_id'].decode()][language]
      assert example['targets_pretokenized'].decode() == wanted
      assert [text.decode() for text in example['references']] == [wanted]
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
