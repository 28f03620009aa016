"""Exemplars: training examples shown before a prompt, as many as fit, never the row."""

import collections
import dataclasses

import pytest

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import few_shot as few_shot_lib
from flan_jax.data import tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store.materialize import materialize
from flan_jax.data.store.store import Store, describe
from flan_jax.errors import InputError

BYTES = tokenizers.load('bytes')


def count(texts):
  return [len(text.encode()) for text in texts]


def pairs(number, words=3):
  dataset = registry.get('pairs', family='tiny')
  out = []
  for i in range(number):
    hypothesis = {'hypothesis': f'It is {i}.'}
    record = {'premise': f'w{i} ' * words, 'text': hypothesis, 'label': i % 2}
    out.append(dataset.read(record, f'train.0.{i}'))
  return out


def pool_of(examples, *, num_fewshot=5, seed=0):
  dataset = registry.get('pairs', family='tiny')
  return FewShotPool(dataset, examples, num_fewshot=num_fewshot, seed=seed, count=count)


def test_a_few_shot_prompt_ends_in_the_zero_shot_one(world):
  """... after exemplars in the same template, each with its answer."""
  examples = pairs(40)
  pool = pool_of(examples, num_fewshot=2)
  shown = pool.prompt(examples[0], 3, 0)
  alone = prompt.render(pool.dataset, 3, examples[0])
  assert shown.prompt.targets == alone.targets
  by_id = {row.example_id: row for row in examples}
  parts = shown.prompt.inputs.split(prompt.NEXT)
  assert parts[-1] == alone.inputs
  assert len(parts) == 3
  for part, name in zip(parts, shown.exemplars, strict=False):
    other = prompt.render(pool.dataset, 3, by_id[name])
    assert part == f'{other.inputs}\nANSWER: {other.targets}'


def test_a_row_is_never_its_own_exemplar_nor_is_its_double(world):
  examples = pairs(6)
  double = examples[2]._replace(example_id='train.0.99')
  pool = pool_of([*examples, double], num_fewshot=16)
  for row in examples:
    drawn = pool.draw(row, 0)
    assert row.example_id not in [other.example_id for other in drawn]
    assert row.values not in [other.values for other in drawn]
    assert len({other.example_id for other in drawn}) == len(drawn)
  assert len(pool.draw(examples[0], 0)) == 6
  assert len(pool.draw(examples[2], 0)) == 5


def test_draws_follow_the_seed_the_row_and_the_epoch(world):
  examples = pairs(200)
  names = lambda pool, row, epoch: [r.example_id for r in pool.draw(row, epoch)]  # noqa: E731
  first = names(pool_of(examples), examples[7], 0)
  assert first == names(pool_of(examples), examples[7], 0)
  assert first != names(pool_of(examples, seed=1), examples[7], 0)
  assert first != names(pool_of(examples), examples[7], 1)
  assert first != names(pool_of(examples), examples[8], 0)
  # The first of fewer num_fewshot are the first of more.
  assert first[:2] == names(pool_of(examples, num_fewshot=2), examples[7], 0)


def test_every_row_is_drawn_about_equally_often(world):
  examples = pairs(50)
  pool = pool_of(examples, num_fewshot=5)
  drawn = collections.Counter(
    other.example_id
    for row in examples
    for e in range(20)
    for other in pool.draw(row, e)
  )
  assert len(drawn) == 50  # 5,000 draws, 100 of each: six deviations are 60
  assert min(drawn.values()) > 40
  assert max(drawn.values()) < 160


@pytest.mark.parametrize('most', [80, 200, 333, 500, 960])
def test_as_many_are_shown_as_fit_and_one_more_would_not(world, most):
  examples = pairs(60, words=6)
  pool = pool_of(examples, num_fewshot=16)
  for row in examples[:20]:
    shown = pool.prompt(row, 0, 0, most=most)
    drawn = pool.draw(row, 0)
    k = len(shown.exemplars)
    assert list(shown.exemplars) == [other.example_id for other in drawn[:k]]
    if k:
      assert len(shown.prompt.inputs) <= most
    if k < 16:
      more = prompt.render(pool.dataset, 0, row, exemplars=drawn[: k + 1])
      assert len(more.inputs) > most


def test_a_question_too_long_for_any_exemplar_is_asked_alone(world):
  examples = pairs(20)
  (long,) = pairs(1, words=400)
  pool = pool_of(examples)
  shown = pool.prompt(long._replace(example_id='x'), 0, 0)
  assert shown.exemplars == ()
  assert len(shown.prompt.inputs) > few_shot_lib.TOKENS


def test_the_renderer_keeps_few_shot_prompts_inside_every_limit(world):
  examples = pairs(30, words=4)
  dataset = registry.get('pairs', family='tiny')
  for limits, sequence_length in (
    (Limits(), None),
    (Limits(300, 64), None),
    (Limits(), 250),
  ):
    renderer = Renderer(
      dataset,
      tokenizer=BYTES,
      seed=0,
      limits=limits,
      sequence_length=sequence_length,
      pool=pool_of(examples, num_fewshot=16),
    )
    for got in renderer(examples, 0):
      assert not got.cut_inputs
      assert len(got.example.inputs) <= min(few_shot_lib.TOKENS, limits.inputs - 1)
      if sequence_length:
        assert sum(map(len, got.example)) + 1 <= sequence_length
      assert got.exemplars


def test_without_rows_there_is_nothing_to_show(world):
  with pytest.raises(InputError, match='no training examples to show as exemplars'):
    pool_of([])


@pytest.fixture
def few_shot(world, tmp_path):
  mixture = dataclasses.replace(
    world.mixture, name='tiny_2_shot', style=PromptStyle(num_fewshot=2)
  )
  manifest = materialize(
    mixture, out=tmp_path / 'out', tokenizer='bytes', epochs=2, seed=3
  )
  return manifest, Store.open(tmp_path / 'out'), world


def test_a_store_of_a_few_shot_mixture_holds_the_prompts_of_the_pool(few_shot):
  manifest, store, world = few_shot
  assert manifest['style'] == {
    'prompt_style': 'instructions',
    'templates': None,
    'num_fewshot': 2,
  }
  for name in ('pairs', 'stories', 'picks'):
    dataset = registry.get(name, family='tiny')
    examples = [dataset.read(r, i) for i, r in world.records(dataset, 'train')]
    pool = FewShotPool(dataset, examples, num_fewshot=2, seed=3, count=count)
    num_fewshot = collections.Counter()
    for epoch in range(2):
      for i, row in enumerate(examples):
        record = store.record(name, epoch * len(examples) + i)
        most = min(few_shot_lib.TOKENS, 1023)
        shown = pool.prompt(row, record.template, epoch, most=most)
        assert BYTES.decode(record.example.inputs) == shown.prompt.inputs
        assert record.exemplars == shown.exemplars
        num_fewshot[str(len(shown.exemplars))] += 1
    assert manifest['datasets'][name]['num_fewshot'] == num_fewshot


def test_a_row_of_a_run_names_the_exemplars_it_shows(few_shot):
  _, store, _ = few_shot
  plan = store.plan(seed=0, sequences=4, sequence_length=2048)
  segments = describe(store, plan, 0)['segments']
  assert segments
  for segment in segments:
    assert len(segment['exemplars']) == 2
    assert segment['example_id'] not in segment['exemplars']


def test_a_store_in_another_form_holds_that_form(world, tmp_path):
  mixture = dataclasses.replace(
    world.mixture, style=PromptStyle(prompt_style='no_template')
  )
  materialize(mixture, out=tmp_path / 'out', tokenizer='bytes')
  store = Store.open(tmp_path / 'out')
  record = store.record('pairs', 0)
  row = world.examples['pairs']['train'][0]
  expected = f'{row["premise"]}\n{row["text"]["hypothesis"]}'
  assert BYTES.decode(record.example.inputs) == expected
  assert (record.template, record.exemplars) == (0, ())


def test_a_shared_maximum_is_in_the_store(world, tmp_path, monkeypatch):
  """Two tasks that the paper counts as one have one maximum together."""
  family = registry.datasets('tiny')
  for name in ('pairs', 'stories'):
    both = dataclasses.replace(family[name], paper_name='BOTH')
    monkeypatch.setitem(family, name, both)
  monkeypatch.setattr('flan_jax.catalog.mixing_rates.MAXIMUM_RATE', 20)
  shared = dataclasses.replace(world.mixture, shared_cap=True)
  manifest = materialize(shared, out=tmp_path / 'out', tokenizer='bytes')
  found = {name: entry['rate'] for name, entry in manifest['datasets'].items()}
  assert found == {'pairs': 12, 'stories': 8, 'picks': 12}
  assert Store.open(tmp_path / 'out').rates == found
