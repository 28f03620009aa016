"""Shuffled answers: all of them are there, prompts stay, and stores say so."""

import collections

import pytest

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.data import shuffled
from flan_jax.data.store import repair
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.microworld import records


def generated(name, count=64):
  dataset = registry.get(name)
  found = [
    dataset.read(records.record(name, 'train', i), f'train-{i}') for i in range(count)
  ]
  return dataset, found


@pytest.mark.parametrize('name', ['mini_rte', 'mini_xsum'])
def test_answers_keep_their_distribution_and_prompts_their_words(name):
  dataset, before = generated(name)
  after = shuffled.targets(dataset, before, seed=0)
  assert after == shuffled.targets(dataset, before, seed=0)
  assert after != shuffled.targets(dataset, before, seed=1)
  texts = [[example.answer.text for example in some] for some in (before, after)]
  assert collections.Counter(texts[0]) == collections.Counter(texts[1])
  moved = sum(one != two for one, two in zip(*texts, strict=True))
  assert moved >= len(before) // 4
  template = next(i for i, t in enumerate(dataset.templates) if not t.inverted)
  for one, two in zip(before, after, strict=True):
    prompts = [prompt.render(dataset, template, example) for example in (one, two)]
    assert prompts[0].inputs == prompts[1].inputs
    assert prompts[1].targets == two.answer.text
    assert one.example_id == two.example_id


def test_an_example_with_options_of_its_own_keeps_them():
  dataset, before = generated('mini_copa')
  after = shuffled.targets(dataset, before, seed=0)
  places = [0, 0]
  for one, two in zip(before, after, strict=True):
    assert two.answer.options == one.answer.options
    assert two.answer.text == one.answer.options[two.answer.gold[0]]
    places[two.answer.gold[0]] += 1
  assert min(places) >= len(before) // 4


def test_more_options_than_the_other_s_place_is_fine():
  dataset, _ = generated('mini_rte', 1)
  some = [
    Example('a', {}, Answer('x', ('x', 'y'), (0,))),
    Example('b', {}, Answer('r', ('p', 'q', 'r'), (2,))),
  ]
  for seed in range(4):
    for example in shuffled.targets(dataset, some, seed=seed):
      assert example.answer.text in example.answer.options


def test_a_store_of_shuffled_answers_is_another_store(tiny_datasets, tmp_path):
  plain = materialize(
    tiny_datasets.mixture, StoreConfig(tokenizer='bytes'), out=tmp_path / 'plain'
  )
  config = StoreConfig(tokenizer='bytes', shuffle_targets=True)
  made = materialize(tiny_datasets.mixture, config, out=tmp_path / 'shuffled')
  assert made['shuffle_targets']
  assert 'shuffle_targets' not in plain
  assert made['digest'] != plain['digest']
  with pytest.raises(InputError, match='a finished store is not rewritten'):
    materialize(tiny_datasets.mixture, config, out=tmp_path / 'plain')
  # A part that is lost is rebuilt with the same answers.
  shard = next((tmp_path / 'shuffled').rglob('*pairs*.array_record*'))
  whole = shard.read_bytes()
  shard.write_bytes(whole[: len(whole) // 2])
  repair.repair(tmp_path / 'shuffled')
  assert shard.read_bytes() == whole
  assert Store.open(tmp_path / 'shuffled').digest == made['digest']


def test_conversations_are_refused(tiny_datasets):
  dataset, examples = generated('mini_rte', 2)
  tokens = [example._replace(tokens=((), ())) for example in examples]
  with pytest.raises(InputError, match='SHUFFLE_TARGETS: .* tokens of its own'):
    shuffled.targets(dataset, tokens, seed=0)
