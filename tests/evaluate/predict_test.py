"""A block of predictions: in the order asked for, fitted, scored, warned of."""

import itertools
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from oracle import BYTES, LABELS, RANKED, WRITTEN, Oracle, examples

from flan_jax.catalog.answers import Answer
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits
from flan_jax.evaluate import metrics, predict
from flan_jax.inference.rank_options import Scorer


def by_number(prompt: str) -> str:
  """Answers `yes` to even facts and `no` to odd ones, `it is 3` to `Who is Fact 3`."""
  number = int(re.findall(r'\d+', prompt)[-1]) if re.search(r'\d', prompt) else 0
  return f'it is {number}' if prompt.startswith('Who') else LABELS[number % 2]


def queue(dataset, count, split='test'):
  return [(split, example) for example in examples(dataset, count)(dataset.name, split)]


class Told:
  """A predictor of one or two models, with what it emitted."""

  def __init__(self, *models, limits=None, max_tokens=16):
    names = ('tuned', 'base')[: len(models)]
    self.records = []
    self.predictor = predict.Predictor(
      models=dict(zip(names, models, strict=True)),
      limits=limits or Limits(inputs=256, targets=64),
      max_tokens=max_tokens,
      emit=lambda record, split, model: self.records.append((model, split, record)),
      clocks={name: predict.Clock() for name in names},
      warnings=predict.Warnings(),
    )

  def __call__(self, dataset, work, *, templates=None, pool=None, **more):
    spec = predict.PromptSpec(
      dataset=dataset,
      templates=tuple(templates or dataset.evaluated_templates),
      pool=pool,
      **more,
    )
    return self.predictor.predict(dict.fromkeys(self.predictor.models, spec), work)

  @property
  def warnings(self):
    return self.predictor.warnings.lines()


class TestOrder:
  @hypothesis.settings(max_examples=20)
  @hypothesis.given(
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=9, unique=True),
    ranked=st.booleans(),
  )
  def test_an_answer_stands_where_its_example_was_asked_for(self, numbers, ranked):
    """Whatever order the model took, and whoever is right."""
    dataset = RANKED if ranked else WRITTEN
    whole = queue(dataset, 31)
    told = Told(Oracle(lambda prompt: 'yes' if ranked else 'it is 7'))
    found = told(dataset, [whole[i] for i in numbers])['tuned']
    right = [i % 2 == 0 if ranked else i == 7 for i in numbers]
    value = metrics.get(dataset.metric).value(found.scores)
    assert value.tolist() == [right] * len(dataset.evaluated_templates)
    assert [record['example_id'] for *_, record in told.records] == [
      f'test.0.{i}' for _ in dataset.evaluated_templates for i in numbers
    ]

  def test_templates_come_one_after_another_with_the_split_of_each_example(self):
    work = [*queue(RANKED, 2, 'dev'), *queue(RANKED, 1)]
    told = Told(Oracle(by_number))
    told(RANKED, work)
    assert [
      (split, r['template'], r['example_id']) for _, split, r in told.records
    ] == [
      (split, template, example.example_id)
      for template in (0, 2)
      for split, example in work
    ]

  def test_two_models_are_asked_the_same_and_kept_apart(self):
    told = Told(Oracle(by_number), Oracle(lambda prompt: 'yes'))
    found = told(RANKED, queue(RANKED, 4))
    assert found['tuned'].scores[0, :, 0].tolist() == [1, 1, 1, 1]
    assert found['base'].scores[0, :, 0].tolist() == [1, 0, 1, 0]
    prompts = {
      name: [r['prompt'] for model, _, r in told.records if model == name]
      for name in ('tuned', 'base')
    }
    assert prompts['tuned'] == prompts['base']
    assert {name: clock.examples for name, clock in told.predictor.clocks.items()} == {
      'tuned': 8, 'base': 8
    }  # fmt: skip


def test_a_real_model_answers_the_same_alone_and_in_a_block(tiny_model):
  model = tiny_model()
  scorer = Scorer(
    params=model.params, config=model.config, tokenizer=BYTES, batch_size=4,
    sequence_length=128,
  )  # fmt: skip
  work = queue(RANKED, 3)
  together = Told(scorer)(RANKED, work, templates=(0,))['tuned']
  for i, one in enumerate(work):
    alone = Told(scorer)(RANKED, [one], templates=(0,))['tuned']
    assert alone.scores[0, 0] == together.scores[0, i]
    np.testing.assert_allclose(
      alone.confidence[0, 0], together.confidence[0, i], rtol=1e-5
    )


class TestConfidence:
  def test_it_is_the_share_of_the_answer_among_the_options(self):
    told = Told(Oracle(by_number))
    found = told(RANKED, queue(RANKED, 2), templates=(0,))['tuned']
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found.confidence[0], [[share, 1], [share, 1]])

  def test_equal_options_share_the_point(self):
    told = Told(Oracle(lambda prompt: 'neither'))
    found = told(RANKED, queue(RANKED, 2), templates=(0,))['tuned']
    assert found.scores[0, :, 0].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(found.confidence[0], [[0.5, 0.5], [0.5, 0.5]])
    assert told.records[0][2]['tied'] == [0, 1]

  def test_a_generated_answer_has_none(self):
    found = Told(Oracle(by_number))(WRITTEN, queue(WRITTEN, 2))['tuned']
    assert np.isnan(found.confidence).all()


class Broken(Oracle):
  """Gives NaN for the examples with these numbers in their prompts."""

  def __init__(self, *numbers):
    super().__init__(by_number)
    self._lost = [f'Fact {number} ' for number in numbers]

  def _is_lost(self, prompt):
    return any(text in BYTES.decode(prompt) for text in self._lost)

  def loglikelihood(self, requests):
    scored = super().loglikelihood(requests)
    for request, found in zip(requests, scored.log_probabilities, strict=True):
      if self._is_lost(request.prompt):
        found[0] = np.nan
    return scored

  def generate(self, prompts, *, max_tokens):
    found = super().generate(prompts, max_tokens=max_tokens)
    return found._replace(nan=[self._is_lost(prompt) for prompt in prompts])


class TestNaN:
  @pytest.mark.parametrize('dataset', [RANKED, WRITTEN], ids=lambda d: d.name)
  @pytest.mark.parametrize('lost', [(), (0,), (1, 2), (0, 1, 2, 3)])
  def test_it_is_wrong_where_it_stands_and_nowhere_else(self, dataset, lost):
    told = Told(Broken(*lost))
    found = told(dataset, queue(dataset, 4), templates=(0,))['tuned']
    value = metrics.get(dataset.metric).value(found.scores[0])
    assert value.tolist() == [float(i not in lost) for i in range(4)]
    assert [r['predicted'] is None for *_, r in told.records] == [
      i in lost for i in range(4)
    ]
    assert bool(told.warnings) == bool(lost)

  def test_it_has_no_confidence_and_the_model_is_named(self):
    told = Told(Oracle(by_number), Broken(1))
    found = told(RANKED, queue(RANKED, 2), templates=(0,))['base']
    assert np.isnan(found.confidence[0]).tolist() == [[False, False], [True, True]]
    (warning,) = told.warnings
    assert warning == (
      'tiny_nli: NaN from the base model, counted as wrong (example test.0.1 '
      'template 0)'
    )


class TestRoom:
  """A prompt and its answer fit in the model together."""

  @hypothesis.settings(max_examples=25)
  @hypothesis.given(
    inputs=st.integers(20, 90),
    length=st.integers(20, 90),
    maximum=st.none() | st.integers(20, 90),
    ranked=st.booleans(),
  )
  def test_no_request_is_longer_than_the_model(self, inputs, length, maximum, ranked):
    seen = []

    class Measured(Oracle):
      sequence_length = length
      max_length = maximum

      def loglikelihood(self, requests):
        for request in requests:
          answer = max(map(len, request.options))
          seen.append((len(request.prompt), len(request.prompt) + 1 + answer))
        return super().loglikelihood(requests)

      def generate(self, prompts, *, max_tokens):
        seen.extend((len(p), len(p) + 1 + max_tokens) for p in prompts)
        return super().generate(prompts, max_tokens=max_tokens)

    dataset = RANKED if ranked else WRITTEN
    told = Told(
      Measured(by_number), limits=Limits(inputs=inputs, targets=8), max_tokens=8
    )
    found = told(dataset, queue(dataset, 3))['tuned']
    most = min(length, maximum or length) if ranked else (maximum or 10_000)
    assert all(prompt <= inputs - 1 for prompt, _ in seen)
    assert all(whole <= most for _, whole in seen)
    left_out = int(np.isnan(found.scores).any(-1).sum())
    assert len(seen) + left_out == 3 * len(dataset.evaluated_templates)
    assert bool(left_out) == any('left out' in line for line in told.warnings)

  def test_a_cut_prompt_keeps_its_options_and_is_counted(self):
    whole, cut = (
      Told(Oracle(by_number), limits=Limits(inputs=inputs, targets=8))
      for inputs in (256, 46)
    )
    for told in (whole, cut):
      told(RANKED, queue(RANKED, 1), templates=(0,))
    (plain,), (short,) = ([r['prompt'] for *_, r in t.records] for t in (whole, cut))
    assert len(short) < len(plain)
    assert short.endswith('\nOPTIONS:\n- yes\n- no')
    assert whole.warnings == ()
    assert cut.warnings == (
      'tiny_nli: prompts with fields cut to fit (example test.0.0 template 0)',
    )

  def test_a_prompt_that_is_left_out_leaves_its_neighbors_where_they_are(self):
    work = queue(RANKED, 3)
    split, example = work[1]
    blank = Answer('\n', ('', ' '), (0,), ('\n',))
    work[1] = split, example._replace(answer=blank)
    told = Told(Oracle(by_number))
    found = told(RANKED, work, templates=(0,), target_delimiter=' ')['tuned']
    assert np.isnan(found.scores[0, :, 0]).tolist() == [False, True, False]
    assert found.shown.tolist() == [[0, 0, 0]]
    assert [r['example_id'] for *_, r in told.records] == ['test.0.0', 'test.0.2']
    assert any('(example test.0.1)' in line for line in told.warnings)


class TestWarnings:
  @pytest.mark.parametrize('count', [1, 2, 3, 4, 9, 1200])
  def test_three_examples_are_named_and_the_others_counted(self, count):
    warnings = predict.Warnings()
    for _, i in itertools.product(range(2), range(count)):
      warnings.add('rte', 'odd', f'example {i}')
    names = ', '.join(f'example {i}' for i in range(min(count, 3)))
    more = f' and {count - 3:,} more' if count > 3 else ''
    assert warnings.lines() == (f'rte: odd ({names}{more})',)

  def test_one_without_an_example_is_one_line(self):
    warnings = predict.Warnings()
    warnings.add('rte', 'odd')
    warnings.add('rte', 'odd')
    warnings.add('cb', 'odd')
    assert warnings.lines() == ('rte: odd', 'cb: odd')

  def test_options_of_equal_tokens_are_named(self):
    class Deaf(type(BYTES)):
      def encode_batch(self, texts):
        return super().encode_batch([text.lower() for text in texts])

    model = Oracle(by_number)
    model.tokenizer = Deaf()
    answer = Answer('Yes', ('Yes', 'yes'), (0,), ('Yes',))
    split, example = queue(RANKED, 1)[0]
    told = Told(model)
    told(RANKED, [(split, example._replace(answer=answer))], templates=(0,))
    (warning,) = told.warnings
    assert warning == (
      'tiny_nli: options that tokenize alike, counted as tied (example test.0.0)'
    )


class TestAnswers:
  def test_a_generated_answer_ends_at_its_end(self):
    told = Told(Oracle(lambda prompt: ' it is 0 \n\nWho is next?'), max_tokens=64)
    found = told(WRITTEN, queue(WRITTEN, 1), end='\n\n')['tuned']
    assert told.records[0][2]['text'] == 'it is 0'
    assert found.scores[0, 0, 0] == 1

  def test_exemplars_before_a_prompt_are_counted_and_named(self):
    train = examples(RANKED, 6)('tiny_nli', 'train')
    model = Oracle(by_number)
    model.sequence_length = 1024
    pool = FewShotPool(
      RANKED, train, num_fewshot=2, seed=0, count=lambda texts: list(map(len, texts))
    )
    told = Told(model, limits=Limits(inputs=1024, targets=8))
    found = told(RANKED, queue(RANKED, 2), templates=(0,), pool=pool)['tuned']
    assert found.shown.tolist() == [[2, 2]]
    for *_, record in told.records:
      assert len(record['exemplars']) == 2
      assert all(name.startswith('train') for name in record['exemplars'])

  def test_a_clock_without_time_has_no_rate(self):
    clock = predict.Clock(examples=4)
    assert clock.as_json()['examples_per_s'] == 0.0
    clock.seconds = 2.0
    assert clock.as_json()['examples_per_s'] == 2.0
