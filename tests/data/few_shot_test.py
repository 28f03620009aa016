"""Few-shot pools: as many other training examples as fit before a prompt."""

import collections
import dataclasses

import pytest

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import few_shot as few_shot_lib
from flan_jax.data import tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store, describe
from flan_jax.errors import InputError

BYTES = tokenizers.load('bytes')


def count(texts):
  return [len(text.encode()) for text in texts]


def pairs(number, words=3):
  dataset = registry.get('pairs')
  out = []
  for i in range(number):
    hypothesis = {'hypothesis': f'It is {i}.'}
    record = {'premise': f'w{i} ' * words, 'text': hypothesis, 'label': i % 2}
    out.append(dataset.read(record, f'train.0.{i}'))
  return out


def pool_of(examples, *, num_fewshot=5, seed=0):
  dataset = registry.get('pairs')
  return FewShotPool(dataset, examples, num_fewshot=num_fewshot, seed=seed, count=count)


def test_a_few_shot_prompt_ends_in_the_zero_shot_one(tiny_datasets):
  """The exemplars before it have the same template, each with its answer."""
  examples = pairs(40)
  pool = pool_of(examples, num_fewshot=2)
  shown = pool.prompt(examples[0], 3, 0)
  alone = prompt.render(pool.dataset, 3, examples[0])
  assert shown.prompt.targets == alone.targets
  by_id = {example.example_id: example for example in examples}
  parts = shown.prompt.inputs.split(prompt.NEXT)
  assert parts[-1] == alone.inputs
  assert len(parts) == 3
  for part, name in zip(parts, shown.exemplars, strict=False):
    other = prompt.render(pool.dataset, 3, by_id[name])
    assert part == f'{other.inputs}\nANSWER: {other.targets}'


def test_an_example_is_never_an_exemplar_of_itself_or_of_its_duplicate(tiny_datasets):
  examples = pairs(6)
  double = examples[2]._replace(example_id='train.0.99')
  pool = pool_of([*examples, double], num_fewshot=16)
  for example in examples:
    drawn = pool.draw(example, 0)
    assert example.example_id not in [other.example_id for other in drawn]
    assert example.values not in [other.values for other in drawn]
    assert len({other.example_id for other in drawn}) == len(drawn)
  assert len(pool.draw(examples[0], 0)) == 6
  assert len(pool.draw(examples[2], 0)) == 5


def test_draws_follow_the_seed_the_example_and_the_epoch(tiny_datasets):
  examples = pairs(200)
  names = lambda pool, example, epoch: [r.example_id for r in pool.draw(example, epoch)]  # noqa: E731
  first = names(pool_of(examples), examples[7], 0)
  assert first == names(pool_of(examples), examples[7], 0)
  assert first != names(pool_of(examples, seed=1), examples[7], 0)
  assert first != names(pool_of(examples), examples[7], 1)
  assert first != names(pool_of(examples), examples[8], 0)
  # Fewer exemplars are the first of more.
  assert first[:2] == names(pool_of(examples, num_fewshot=2), examples[7], 0)


def test_every_example_is_drawn_about_equally_often(tiny_datasets):
  examples = pairs(50)
  pool = pool_of(examples, num_fewshot=5)
  drawn = collections.Counter(
    other.example_id
    for example in examples
    for e in range(20)
    for other in pool.draw(example, e)
  )
  assert len(drawn) == 50  # 5,000 draws, 100 of each: six deviations are 60
  assert min(drawn.values()) > 40
  assert max(drawn.values()) < 160


@pytest.mark.parametrize('max_tokens', [80, 200, 333, 500, 960])
def test_as_many_exemplars_as_fit_are_shown(tiny_datasets, max_tokens):
  examples = pairs(60, words=6)
  pool = pool_of(examples, num_fewshot=16)
  for example in examples[:20]:
    shown = pool.prompt(example, 0, 0, max_tokens=max_tokens)
    drawn = pool.draw(example, 0)
    k = len(shown.exemplars)
    assert list(shown.exemplars) == [other.example_id for other in drawn[:k]]
    if k:
      assert len(shown.prompt.inputs) <= max_tokens
    if k < 16:
      more = prompt.render(pool.dataset, 0, example, exemplars=drawn[: k + 1])
      assert len(more.inputs) > max_tokens


def test_an_example_too_long_for_any_exemplar_is_zero_shot(tiny_datasets):
  examples = pairs(20)
  (long,) = pairs(1, words=400)
  pool = pool_of(examples)
  shown = pool.prompt(long._replace(example_id='x'), 0, 0)
  assert shown.exemplars == ()
  assert len(shown.prompt.inputs) > few_shot_lib.MAX_TOKENS


def test_the_renderer_keeps_few_shot_prompts_within_every_limit(tiny_datasets):
  examples = pairs(30, words=4)
  dataset = registry.get('pairs')
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
      assert len(got.tokens.inputs) <= min(few_shot_lib.MAX_TOKENS, limits.inputs - 1)
      if sequence_length:
        assert sum(map(len, got.tokens)) + 1 <= sequence_length
      assert got.exemplars


def test_a_pool_without_examples_is_refused(tiny_datasets):
  with pytest.raises(InputError, match='no training examples to show as exemplars'):
    pool_of([])


@pytest.fixture
def few_shot(tiny_datasets, tmp_path):
  mixture = dataclasses.replace(
    tiny_datasets.mixture, name='tiny_2_shot', style=PromptStyle(num_fewshot=2)
  )
  manifest = materialize(
    mixture, StoreConfig(tokenizer='bytes', epochs=2, seed=3), out=tmp_path / 'out'
  )
  return manifest, Store.open(tmp_path / 'out'), tiny_datasets


def test_a_store_of_a_few_shot_mixture_has_the_prompts_of_the_pool(few_shot):
  manifest, store, tiny_datasets = few_shot
  assert manifest['style'] == {
    'prompt_style': 'instructions',
    'templates': None,
    'num_fewshot': 2,
  }
  for name in ('pairs', 'stories', 'picks'):
    dataset = registry.get(name)
    examples = [dataset.read(r, i) for i, r in tiny_datasets.records(dataset, 'train')]
    pool = FewShotPool(dataset, examples, num_fewshot=2, seed=3, count=count)
    num_fewshot = collections.Counter()
    for epoch in range(2):
      for i, example in enumerate(examples):
        stored = store.example(name, epoch * len(examples) + i)
        max_tokens = min(few_shot_lib.MAX_TOKENS, 1023)
        shown = pool.prompt(example, stored.template, epoch, max_tokens=max_tokens)
        assert BYTES.decode(stored.tokens.inputs) == shown.prompt.inputs
        assert stored.exemplars == shown.exemplars
        num_fewshot[str(len(shown.exemplars))] += 1
    assert manifest['datasets'][name]['num_fewshot'] == num_fewshot


def test_describe_names_the_exemplars_of_an_example(few_shot):
  _, store, _ = few_shot
  plan = store.plan(seed=0, sequences=4, sequence_length=2048)
  segments = describe(store, plan, 0)['segments']
  assert segments
  for segment in segments:
    assert len(segment['exemplars']) == 2
    assert segment['example_id'] not in segment['exemplars']


def test_a_store_in_another_prompt_style_has_its_prompts(tiny_datasets, tmp_path):
  mixture = dataclasses.replace(
    tiny_datasets.mixture, style=PromptStyle(prompt_style='no_template')
  )
  materialize(mixture, StoreConfig(tokenizer='bytes'), out=tmp_path / 'out')
  store = Store.open(tmp_path / 'out')
  stored = store.example('pairs', 0)
  example = tiny_datasets.examples['pairs']['train'][0]
  expected = f'{example["premise"]}\n{example["text"]["hypothesis"]}'
  assert BYTES.decode(stored.tokens.inputs) == expected
  assert (stored.template, stored.exemplars) == (0, ())


def test_a_shared_maximum_rate_is_in_the_store(tiny_datasets, tmp_path, monkeypatch):
  """Two tasks that the paper counts as one share a maximum rate."""
  for name in ('pairs', 'stories'):
    both = dataclasses.replace(registry.get(name), paper_name='BOTH')
    registry.register(both, replace=True)
  monkeypatch.setattr('flan_jax.catalog.mixing_rates.MAXIMUM_RATE', 20)
  shared = dataclasses.replace(tiny_datasets.mixture, shared_cap=True)
  manifest = materialize(shared, StoreConfig(tokenizer='bytes'), out=tmp_path / 'out')
  found = {name: entry['rate'] for name, entry in manifest['datasets'].items()}
  assert found == {'pairs': 12, 'stories': 8, 'picks': 12}
  assert Store.open(tmp_path / 'out').rates == found
