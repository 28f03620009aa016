"""Anybody's seqio Tasks and Mixtures train here with their own tokens and rates."""

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
import small_tokenizers

import flan_jax as flan
from flan_jax.catalog import mixing_rates, registry, seqio_names
from flan_jax.cli import dispatch
from flan_jax.data import batch
from flan_jax.data.preprocess import Limits
from flan_jax.data.store import materialize, repair
from flan_jax.data.store.materialize import StoreConfig
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

import tensorflow as tf  # noqa: E402

WORDS = ('cat', 'dog', 'bread', 'mat', 'bird')


def rows(split, shuffle_files, seed=None, *, n=40):
  """Sums in words."""
  del shuffle_files, seed
  n = n if split == 'train' else 5
  return tf.data.Dataset.from_tensor_slices(
    {
      'inputs': [f'{split} {i}: {" ".join(WORDS[: i % 5])} and {i}?' for i in range(n)],
      'targets': [f'{i + 1} {WORDS[i % 5]}' for i in range(n)],
    }
  )


def rows_without_seed(split, shuffle_files):
  return rows(split, shuffle_files, n=9)


@seqio.map_over_dataset(num_seeds=1)
def seeded(example, seed):
  drawn = tf.random.stateless_uniform([], seed, 0, 10**6, tf.int32)
  return {**example, 'inputs': tf.strings.as_string(drawn)}


def unseeded(dataset):
  def draw(example):
    return {**example, 'inputs': tf.strings.as_string(tf.random.uniform([]))}

  return dataset.map(draw)


def twice(dataset):
  return dataset.flat_map(lambda one: tf.data.Dataset.from_tensors(one).repeat(2))


@pytest.fixture(scope='module', autouse=True)
def registered(tmp_path_factory):
  """Tasks over a SentencePiece vocabulary, and mixtures of them."""
  path = tmp_path_factory.mktemp('vocabulary') / 'own.model'
  path.write_bytes(small_tokenizers.sentence_pieces(bos_id=3))
  own = seqio.SentencePieceVocabulary(str(path))
  ends = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()

  def add(name, *, source=rows, before=(), vocabulary=own, keys=('inputs', 'targets'),
          splits=('train', 'validation', 'test'), counts=None, after=ends):  # fmt: skip
    features = {key: seqio.Feature(vocabulary, add_eos=True) for key in keys}
    seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(source, splits, num_input_examples=counts),
      preprocessors=[*before, *after],
      output_features=features,
    )

  add('plain')
  add('few', source=rows_without_seed, splits=('train',))
  add('counted', counts={'train': 40, 'validation': 5, 'test': 5})
  add('doubled', before=[twice], splits=('train',))
  add('a_text', keys=('targets',), splits=('train',))
  add('drawn', before=[seeded], splits=('train',))
  add('unsteady', before=[unseeded], splits=('train',))
  add('in_bytes', vocabulary=seqio.ByteVocabulary(), splits=('train',))
  add('nothing_to_say', keys=('inputs',), splits=('train',))
  add('broken', before=[lambda d: d.map(lambda e: e['input'])], splits=('train',))
  rate = functools.partial(seqio.mixing_rate_num_examples, maximum=25)
  hot = functools.partial(seqio.mixing_rate_num_examples, temperature=2.0)
  seqio.MixtureRegistry.add('inner', [('few', rate), ('counted', hot)])
  seqio.MixtureRegistry.add('outer', [('inner', 3), ('plain', 0.5), ('counted', 1.5)])
  yield path
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


@pytest.fixture
def declared():
  with registry.restored():
    yield


def store_of(name, out, **settings):
  mixture = registry.mixture(name)
  materialize.materialize(mixture, StoreConfig(**settings), out=out / name)
  return Store.open(out / name)


def stored(store, name):
  return [
    tuple(ids.tolist() for ids in example.tokens)
    for example in store.examples(name, range(store.num_examples(name)))
  ]


def of_seqio(name, *, seed=0, lengths=None):
  """The task's own token ids, without EOS."""
  task = seqio.TaskRegistry.get(name)
  lengths = {key: (lengths or {}).get(key, 256) for key in task.output_features}
  found = task.get_dataset(lengths, 'train', shuffle=False, seed=seed)
  return [
    tuple(
      [i for i in example[key].tolist() if i != 1] if key in example else []
      for key in ('inputs', 'targets')
    )
    for example in found.as_numpy_iterator()
  ]


@pytest.mark.parametrize('name', ['plain', 'doubled'])
def test_tokens_are_those_of_the_task(name, tmp_path):
  store = store_of(name, tmp_path)
  assert stored(store, name) == of_seqio(name)
  ids = [one.example_id for one in store.examples(name, [0, 1])]
  assert ids == ['train.0', 'train.1']
  assert store.num_examples(name) == (80 if name == 'doubled' else 40)


def test_lengths_of_a_feature_are_those_that_seqio_cuts_to(tmp_path):
  lengths = {'inputs': 9, 'targets': 4}
  store = store_of('plain', tmp_path, limits=Limits.of(lengths))
  assert stored(store, 'plain') == of_seqio('plain', lengths=lengths)
  assert max(len(inputs) for inputs, _ in stored(store, 'plain')) == 9


def test_an_example_that_is_too_long_loses_the_end_of_its_inputs(tmp_path):
  store = store_of('plain', tmp_path, sequence_length=20)
  assert store.lengths('plain').max() <= 20
  for (inputs, targets), whole in zip(
    stored(store, 'plain'), of_seqio('plain'), strict=True
  ):
    assert targets == whole[1]
    assert inputs == whole[0][: len(inputs)]
    assert inputs == whole[0] or batch.length(len(inputs), len(targets), 3) == 20


def test_the_vocabulary_of_the_task_is_that_of_the_store(registered, tmp_path):
  store = store_of('plain', tmp_path)
  assert (store.path / 'tokenizer.model').read_bytes() == registered.read_bytes()
  tokenizer = small_tokenizers.tokenizers_lib.load(registered)
  with pytest.raises(InputError) as refused:
    store_of('in_bytes', tmp_path, tokenizer=registered)
  other = small_tokenizers.tokenizers_lib.Bytes.digest
  assert tokenizer.digest[:12] in str(refused.value)
  assert other[:12] in str(refused.value)


def test_a_text_without_inputs_is_a_plain_language_model(tmp_path):
  store = store_of('a_text', tmp_path)
  tokens = store.example('a_text', 3).tokens
  assert len(tokens.inputs) == 0
  plan = store.plan(seed=0, sequences=2, sequence_length=64)
  for sequence in store.sequences(plan, [0, 1]):
    starts = np.flatnonzero((sequence.positions == 0) & (sequence.segment_ids > 0))
    assert (sequence.tokens[starts] == store.bos_id).all()
    inside = sequence.segment_ids > 0
    assert (sequence.loss_mask == inside).all()  # every token but BOS is predicted
    assert (sequence.targets[inside] == store.eos_id).sum() == len(starts)
  one = batch.assemble([tokens], sequence_length=32, bos_id=3, eos_id=1)
  n = int((one.segment_ids > 0).sum())
  assert n == batch.length(0, len(tokens.targets), 3) == len(tokens.targets) + 1
  assert one.targets[:n].tolist() == [*tokens.targets.tolist(), 1]


def test_rates_are_those_of_seqio(tmp_path):
  """`few` does not know its number of examples: the count of the store stands in."""
  store = store_of('outer', tmp_path, limits=Limits(64, 64))
  inner = {'few': 9.0, 'counted': 40**0.5}
  total = sum(inner.values())
  want = {name: 3 * rate / total for name, rate in inner.items()}
  want['counted'] += 1.5
  want['plain'] = 0.5
  whole = sum(store.rates.values())
  assert sorted(store.rates) == sorted(want)
  for name, rate in want.items():
    assert store.rates[name] / whole == pytest.approx(rate / 5.0, abs=1e-4)


def test_rates_of_tasks_that_are_counted_equal_seqio_exactly():
  mixture = registry.mixture('outer')
  examples = dict.fromkeys(mixture.datasets, 25)
  seqio_mixture = seqio.MixtureRegistry.get('inner')
  counted = seqio.TaskRegistry.get('counted')
  rates = registry.mixture('inner').rate_function(examples)
  assert rates['counted'] == seqio_mixture.get_rate(counted)
  assert mixing_rates.rates(mixture) == {}  # `few` has not been counted yet
  assert counted.num_input_examples('train') == 40
  present = {'counted': 25, 'plain': 25}  # `few` is not prepared
  assert mixing_rates.rates(mixture, present) == {'counted': 90_000, 'plain': 10_000}
  assert seqio.TaskRegistry.get('few').num_input_examples('train') is None


@pytest.mark.usefixtures('declared')
def test_a_mixture_of_ours_has_seqio_tasks_mixtures_and_json(tmp_path):
  path = tmp_path / 'own.jsonl'
  line = json.dumps({'text': 'the cat is on the mat', 'kind': 'a cat'})
  path.write_text(f'{line}\n' * 20)
  flan.register(
    flan.Dataset(
      name='own', cluster='pets', source=flan.Json(str(path)),
      fields={'text': 'text', 'kind': 'kind'}, answer=flan.Text('{kind}'),
      metric='exact_match', templates=(flan.Template('{text}\nWhat is it?'),),
    ),
    flan.Mixture(
      name='together',
      datasets=('own', 'outer', 'a_text'),
      rates={'outer': 30, 'own': 5},
    ),
  )  # fmt: skip
  store = store_of('together', tmp_path)
  rates = store.rates
  assert list(rates) == ['own', 'counted', 'few', 'plain', 'a_text']
  whole = sum(rates.values())
  assert rates['own'] / whole == pytest.approx(5 / 75, abs=1e-4)
  assert rates['plain'] / whole == pytest.approx(30 / 75 * 0.1, abs=1e-4)
  assert rates['a_text'] / whole == pytest.approx(40 / 75, abs=1e-4)
  tokens = store.example('own', 0).tokens
  assert store.tokenizer().decode(tokens.targets) == 'a cat'


@pytest.mark.usefixtures('declared')
def test_the_texts_of_a_task_go_into_templates_of_ones_own(tmp_path):
  flan.register(
    flan.Dataset(
      name='asked', cluster='pets', source=flan.SeqioTask('plain'),
      fields={'sum': 'inputs', 'result': 'targets'}, answer=flan.Text('{result}'),
      metric='exact_match', templates=(flan.Template('Say it: {sum}'),),
      train='train[:-10]', dev='train[-10:]', test='',
    )
  )  # fmt: skip
  store = store_of('asked', tmp_path, tokenizer='bytes')
  assert store.num_examples('asked') == 30
  tokens = store.example('asked', 7).tokens
  assert store.tokenizer().decode(tokens.inputs) == ('Say it: train 7: cat dog and 7?')
  assert registry.get('plain').cluster == 'pets'  # of the dataset with this source


def test_a_store_of_tokens_is_repaired(tmp_path):
  store = store_of('few', tmp_path)
  (shard,) = (store.path / 'train').glob('few.*.array_record')
  before = shard.read_bytes()
  shard.write_bytes(before[:-40])
  (damage,) = repair.repair(store.path)
  assert damage.dataset == 'few'
  assert shard.read_bytes() == before


@pytest.mark.usefixtures('declared')
def test_a_dataset_here_takes_precedence_over_a_task_of_its_name():
  found = registry.get('few')
  flan.register(dataclasses.replace(found, source=flan.Json('few.jsonl')))
  assert registry.get('few').source != found.source
  (line,) = seqio_names.hidden(registry.mixture('few'))
  assert "'few': the dataset registered here takes precedence" in line
  with pytest.raises(InputError, match="mixture 'inner': task 'few' has the name"):
    registry.mixture('inner')


def test_seeded_randomness_follows_the_template_seed(tmp_path):
  drawn = [
    stored(store_of('drawn', tmp_path / str(seed), seed=seed), 'drawn')
    for seed in (0, 7)
  ]
  assert drawn[0] == of_seqio('drawn') != drawn[1] == of_seqio('drawn', seed=7)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('unsteady', "example 0 of split 'train' is another one when it is read again"),
    ('nothing_to_say', "output features inputs; must have 'targets'"),
    ('broken', "seqio task 'broken': KeyError: 'input'"),
    ('plane', r"'plane': not registered.*--module.*did you mean 'plain'"),
  ],
)
def test_what_cannot_train_is_one_line(name, message, tmp_path):
  with pytest.raises(InputError, match=message) as refused:
    store_of(name, tmp_path)
  assert '\n' not in str(refused.value)


@pytest.mark.usefixtures('declared')
def test_members_with_two_vocabularies_are_refused_with_both_digests(
  registered, tmp_path
):
  flan.register(flan.Mixture(name='two', datasets=('plain', 'in_bytes')))
  own = small_tokenizers.tokenizers_lib.load(registered).digest[:12]
  other = small_tokenizers.tokenizers_lib.Bytes.digest[:12]
  with pytest.raises(InputError, match=f'in_bytes.*{other}.*plain.*{own}'):
    store_of('two', tmp_path)


@pytest.mark.usefixtures('declared')
def test_a_prompt_style_of_a_task_is_refused(tmp_path):
  style = flan.PromptStyle(num_fewshot=2)
  flan.register(flan.Mixture(name='shots', datasets=('plain',), style=style))
  with pytest.raises(InputError, match="'2_shot' of 'plain', whose prompts"):
    store_of('shots', tmp_path)


def test_held_out_examples_keep_their_tokens(tmp_path):
  store = store_of('few', tmp_path, evaluate=('counted',))
  found = store.evaluation_examples('counted', 'dev')
  task = seqio.TaskRegistry.get('counted')
  want = task.get_dataset(None, 'validation', shuffle=False).as_numpy_iterator()
  for example, theirs in itertools.zip_longest(found, want):
    assert example.values['targets'] == theirs['targets_pretokenized'].decode()
    assert [*example.tokens[0], 1] == theirs['inputs'].tolist()


@pytest.mark.usefixtures('declared')
def test_a_mixture_that_draws_nothing_is_shown_and_not_built(tmp_path, capsys):
  seqio.MixtureRegistry.add('never', [('counted', 0)])
  try:
    assert dispatch.main(['tasks', '--mixture', 'never']) == 0
    assert 'every rate is 0: no example is ever drawn' in capsys.readouterr().out
    with pytest.raises(InputError, match="'never': every rate is 0; must have one abo"):
      store_of('never', tmp_path)
  finally:
    seqio.MixtureRegistry.remove('never')
  assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures('declared')
def test_the_verbs_know_a_task_by_its_name(capsys):
  assert dispatch.main(['show', 'plain', '--n', '1', '--tokenizer', 'bytes']) == 0
  shown = capsys.readouterr().out
  assert 'plain template 0, example train.0' in shown
  assert dispatch.main(['tasks', '--mixture', 'outer', '--json']) == 0
  listed = json.loads(capsys.readouterr().out)
  assert [one['dataset'] for one in listed['datasets']] == ['counted', 'few', 'plain']
