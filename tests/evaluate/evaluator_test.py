"""The evaluator: examples, templates, scores and predictions."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
from oracle import BYTES, LABELS, RANKED, WRITTEN, Oracle, examples, says

from flan_jax.catalog.answers import Answer, Label
from flan_jax.catalog.dataset import Example
from flan_jax.data.preprocess import Limits
from flan_jax.errors import InputError
from flan_jax.evaluate import evaluator, metrics, predictions, template_choice
from flan_jax.inference.rank_options import Scored, Scorer
from flan_jax.runtime.progress import Progress


def test_evaluates_every_template_that_asks_for_the_answer():
  found = evaluator.evaluate(
    says('yes'), datasets=[RANKED], examples=examples(RANKED, 7)
  )
  (result,) = found.datasets
  assert result.templates == (0, 2)
  assert set(result.splits) == {'dev', 'test'}
  assert result.splits['test'].tuned.shape == (2, 7, 1)
  assert result.splits['test'].tuned[0, :, 0].tolist() == [1, 0, 1, 0, 1, 0, 1]
  assert result.splits['test'].base is None


def test_base_and_tuned_get_the_same_prompts():
  seen = {}
  evaluator.evaluate(
    says('yes'),
    base=says('no'),
    datasets=[RANKED],
    examples=examples(RANKED, 5),
    emit=lambda record, split, model: seen.setdefault((model, split), []).append(
      record
    ),
  )
  tuned, base = seen['tuned', 'test'], seen['base', 'test']
  assert [r['prompt'] for r in tuned] == [r['prompt'] for r in base]
  assert {r['predicted'] for r in tuned} == {0}
  assert {r['predicted'] for r in base} == {1}


def test_a_prediction_holds_the_tokenized_texts():
  seen = []
  evaluator.evaluate(
    says('no'),
    evaluator.Protocol(splits=('test',)),
    datasets=[RANKED],
    examples=examples(RANKED, 1),
    emit=lambda record, **_: seen.append(record),
  )
  assert seen[0] == {
    'example_id': 'test.0.0',
    'dataset': 'tiny_nli',
    'template': 0,
    'prompt': 'Fact 0 of test. So it is 0?\nOPTIONS:\n- yes\n- no',
    'options': ['yes', 'no'],
    'log_probabilities': [-1.0, 0.0],
    'gold': [0],
    'predicted': 1,
  }


def test_free_text_is_generated_and_matched_with_any_reference():
  seen = []
  number = Oracle(lambda prompt: 'Number ' + ''.join(filter(str.isdigit, prompt)))
  found = evaluator.evaluate(
    number,
    evaluator.Protocol(splits=('test',)),
    datasets=[WRITTEN],
    examples=examples(WRITTEN, 3),
    emit=lambda record, **_: seen.append(record),
  )
  exact = found.datasets[0].splits['test'].tuned[..., 0]
  assert exact.tolist() == [[1, 1, 1]]
  assert seen[2] == {
    'example_id': 'test.0.2',
    'dataset': 'tiny_qa',
    'template': 0,
    'prompt': 'Who is Fact 2 of test.?',
    'options': [],
    'text': 'Number 2',
    'gold': ['it is 2', 'number 2'],
    'predicted': 'Number 2',
  }


def test_a_real_model_end_to_end(tiny_model):
  model = tiny_model()
  scorer = Scorer(
    params=model.params,
    config=model.config,
    tokenizer=BYTES,
    batch_size=4,
    sequence_length=128,
  )
  shown = []

  class Shown(Progress):
    @contextlib.contextmanager
    def work(self, name, total, *, unit='prompts'):
      with super().work(name, total, unit=unit) as meter:
        yield meter
      shown.append((name, meter.done, total, unit, meter.tokens))

  found = evaluator.evaluate(
    scorer,
    evaluator.Protocol(max_tokens=4),
    datasets=[RANKED, WRITTEN],
    examples=lambda name, split: examples(
      RANKED if name == RANKED.name else WRITTEN, 4
    )(name, split),
    progress=Shown(quiet=True),
  )
  ranked, written = found.datasets
  assert ranked.splits['dev'].tuned.shape == (2, 4, 1)
  assert written.splits['dev'].tuned.shape == (1, 4, 2)
  assert found.timing['examples'] == 2 * (2 * 4) + 2 * 4
  assert found.timing['tokens_scored'] % 64 == 0
  assert found.timing['examples_per_s'] > 0
  each = found.timing['by_dataset']
  scored, written_ = (each[dataset.name] for dataset in (RANKED, WRITTEN))
  assert shown == [
    (f'evaluate {RANKED.name}', 16, 16, 'prompts', scored['tokens_scored']),
    (f'evaluate {WRITTEN.name}', 8, 8, 'prompts',
     written_['prefill_tokens'] + written_['generated_tokens']),
  ]  # fmt: skip
  assert scored['tokens_scored_per_s'] > 0
  assert scored['written_tokens'] == 0
  assert 0 < written_['written_tokens'] <= 8 * 4
  for one in (scored, written_, found.timing):
    assert 0 <= one['padding_share'] < 1


def test_blocks_do_not_matter(monkeypatch):
  rule = Oracle(lambda prompt: LABELS[len(prompt) % 2])
  whole = evaluator.evaluate(rule, datasets=[RANKED], examples=examples(RANKED, 23))
  monkeypatch.setattr(evaluator, '_BLOCK', 10)
  parts = evaluator.evaluate(rule, datasets=[RANKED], examples=examples(RANKED, 23))
  for split in ('dev', 'test'):
    np.testing.assert_array_equal(
      whole.datasets[0].splits[split].tuned, parts.datasets[0].splits[split].tuned
    )


class TestSample:
  EXAMPLES = examples(RANKED, 50)('tiny_nli', 'test')

  def ids(self, max_examples, seed=0, some=None):
    found = evaluator.sample(
      some or self.EXAMPLES, max_examples=max_examples, seed=seed
    )
    return [example.example_id for example in found]

  def test_keeps_the_order_of_the_examples(self):
    order = [example.example_id for example in self.EXAMPLES]
    found = self.ids(10)
    assert len(found) == 10
    assert found == [example_id for example_id in order if example_id in found]

  def test_does_not_depend_on_the_storage_order(self):
    assert sorted(self.ids(10)) == sorted(self.ids(10, some=self.EXAMPLES[::-1]))

  def test_a_smaller_sample_is_part_of_a_larger_one(self):
    assert set(self.ids(5)) < set(self.ids(10))

  def test_depends_on_the_seed(self):
    assert self.ids(10) != self.ids(10, seed=1)

  def test_takes_all_if_there_are_fewer(self):
    assert len(self.ids(100)) == len(self.ids(None)) == 50


def test_dev_can_be_left_out_where_there_is_test():
  only_dev = dataclasses.replace(RANKED, name='only_dev', test=None)

  def ask(**settings):
    found = evaluator.evaluate(
      says('yes'),
      evaluator.Protocol(**settings),
      datasets=[RANKED, only_dev],
      examples=lambda name, split: examples(RANKED, 2)(RANKED.name, split),
    )
    return [(set(result.splits), result.split) for result in found.datasets]

  assert ask() == [({'dev', 'test'}, 'test'), ({'dev'}, 'dev')]
  assert ask(dev=False) == [({'test'}, 'test'), ({'dev'}, 'dev')]
  assert ask(dev=False, splits=('dev',)) == [({'dev'}, 'dev')] * 2


def test_templates_can_be_fewer():
  def ask(some):
    protocol = evaluator.Protocol(templates=some)
    read = examples(RANKED, 2)
    found = evaluator.evaluate(says('yes'), protocol, datasets=[RANKED], examples=read)
    return [result.templates for result in found.datasets], found.warnings

  assert ask(1) == ([(0,)], ())
  without = 'tiny_nli: evaluated without template 1 of TEMPLATES: it has 0, 2'
  assert ask([1, 2]) == ([(2,)], (without,))
  none = 'tiny_nli: left out, without template 1, 9 of TEMPLATES: it has 0, 2'
  assert ask([1, 9]) == ([], (none,))


def test_a_template_that_no_dataset_has_is_refused():
  more = dataclasses.replace(RANKED, name='more', templates=RANKED.templates * 3)
  template_choice.check([RANKED, more], [2, 8])
  rule = 'must be one of .* answer of tiny_nli, more: 0, 2, 3, 5, 6, 8; .* is 6'
  with pytest.raises(InputError, match=f'TEMPLATES: got index 7; {rule}'):
    template_choice.check([RANKED, more], [0, 7])


def test_long_prompts_are_cut_and_counted():
  found = evaluator.evaluate(
    says('yes'),
    evaluator.Protocol(splits=('test',), limits=Limits(inputs=46)),
    datasets=[RANKED],
    examples=examples(RANKED, 4),
  )
  (warning,) = found.warnings
  assert warning.startswith(
    'tiny_nli: prompts with fields cut to fit (example test.0.0'
  )
  assert not np.isnan(found.datasets[0].splits['test'].tuned).any()


@pytest.mark.parametrize(
  ('dataset', 'more'), [(RANKED, {}), (WRITTEN, {'max_tokens': 8})]
)
def test_a_prompt_leaves_room_for_its_answer_in_the_context_of_the_model(dataset, more):
  """The oracle's tokens are bytes: EOS, and the longest option or the answer."""
  model, lengths = says('yes'), []
  whole = sum(len(text) for text in ('Who is ', 'Fact 0 of test.', '?'))
  model.max_length = 46 + 1 + len('yes') if dataset is RANKED else whole - 2 + 1 + 8
  found = evaluator.evaluate(
    model,
    evaluator.Protocol(splits=('test',), **more),
    datasets=[dataset],
    examples=examples(dataset, 3),
    emit=lambda record, **_: lengths.append(len(record['prompt'].encode())),
  )
  assert 'prompts with fields cut to fit' in found.warnings[0]
  answer = len('yes') if dataset is RANKED else 8
  assert max(lengths) + 1 + answer <= model.max_length
  assert not np.isnan(found.datasets[0].splits['test'].tuned).any()


def test_prompts_that_cannot_be_cut_are_left_out_with_a_warning():
  found = evaluator.evaluate(
    says('yes'),
    evaluator.Protocol(splits=('test',), limits=Limits(inputs=10)),
    datasets=[RANKED],
    examples=examples(RANKED, 4),
  )
  assert found.datasets == ()
  assert 'left out' in found.warnings[0]
  assert 'and 5 more' in found.warnings[0]


def test_nan_is_named_and_counted_as_wrong():
  class Broken(Oracle):
    def loglikelihood(self, requests):
      scored = super().loglikelihood(requests)
      scored.log_probabilities[1][0] = np.nan
      return scored

  seen = []
  found = evaluator.evaluate(
    Broken(lambda prompt: 'yes'),
    evaluator.Protocol(splits=('test',)),
    datasets=[RANKED],
    examples=examples(RANKED, 4),
    emit=lambda record, **_: seen.append(record),
  )
  assert found.warnings == (
    'tiny_nli: NaN from the model, counted as wrong (example test.0.1 template 0)',
  )
  assert seen[1]['predicted'] is None
  assert seen[1]['log_probabilities'] == [None, -1.0]
  assert found.datasets[0].splits['test'].tuned[0, :, 0].tolist() == [1, 0, 1, 0]


def test_a_dataset_without_examples_is_left_out_with_a_warning():
  found = evaluator.evaluate(
    says('yes'), datasets=[RANKED], examples=examples(RANKED, 0)
  )
  assert found.datasets == ()
  assert found.warnings == ('tiny_nli: no examples in dev or test; left out',)


def with_example(example):
  """The examples of RANKED, and one more."""
  return lambda name, split: [*examples(RANKED, 2)(name, split), example]


VALUES = {'premise': 'a', 'hypothesis': 'b', 'answer': ''}


@pytest.mark.parametrize(
  ('options', 'why'),
  [
    (('', ' '), 'left out: no option has any text'),
    ((), 'left out: no option has any text'),
    (('', 'no'), 'left out: the right answer is blank'),
  ],
)
def test_an_example_without_text_to_choose_is_named_and_left_out(options, why):
  example = Example('test.0.9', VALUES, Answer('', options, (0,), ('',)))
  found = evaluator.evaluate(
    says('yes'),
    evaluator.Protocol(splits=('test',)),
    datasets=[RANKED],
    examples=with_example(example),
  )
  (result,) = found.datasets
  assert result.splits['test'].tuned.shape == (2, 2, 1)
  assert found.warnings == (f'tiny_nli: {why} (example test.0.9)',)


def test_an_example_whose_options_have_no_token_is_named_and_left_out():
  """A vocabulary may have nothing for a text that is not blank."""

  class Mute(type(BYTES)):
    def encode_batch(self, texts):
      return super().encode_batch([text.replace('\u2603', '') for text in texts])

  model = says('yes')
  model.tokenizer = Mute()
  answer = Answer('\u2603', ('\u2603', '\u2603\u2603'), (0,), ('\u2603',))
  found = evaluator.evaluate(
    model,
    evaluator.Protocol(splits=('test',)),
    datasets=[RANKED],
    examples=with_example(Example('test.0.9', VALUES, answer)),
  )
  scores = found.datasets[0].splits['test'].tuned[..., 0]
  assert np.isnan(scores[:, 2]).all()
  assert scores[:, :2].tolist() == [[1, 0], [1, 0]]
  assert (
    'tiny_nli: left out: no option has a token (example test.0.9)' in found.warnings
  )


def test_a_blank_answer_is_left_out_of_free_text_too():
  def read(name, split):
    blank = Example('test.0.9', {**VALUES, 'hypothesis': ' '}, Answer(' '))
    return [*examples(WRITTEN, 2)(name, split), blank]

  found = evaluator.evaluate(
    says('it is 0'),
    evaluator.Protocol(splits=('test',)),
    datasets=[WRITTEN],
    examples=read,
  )
  assert len(found.datasets[0].splits['test'].examples) == 2
  assert found.warnings == (
    'tiny_qa: left out: the right answer is blank (example test.0.9)',
  )


@pytest.mark.parametrize(
  ('metric', 'gold'),
  [
    *itertools.product(sorted(metrics.METRICS.keys() - {'pearson'}), (')', 'the', '0')),
    ('pearson', '0'),
  ],
)
def test_nan_in_generation_is_wrong_whatever_is_right(metric, gold):
  """Even if the right answer normalizes to nothing."""

  class Broken(Oracle):
    def generate(self, prompts, *, max_tokens):
      return (
        super()
        .generate(prompts, max_tokens=max_tokens)
        ._replace(nan=[True] * len(prompts))
      )

  dataset = dataclasses.replace(WRITTEN, metric=metric)
  example = Example(
    'test.0.0', {'premise': 'A.', 'answer': gold}, Answer(gold, (), (), (gold,))
  )
  seen = []
  found = evaluator.evaluate(
    Broken(lambda prompt: gold),
    evaluator.Protocol(splits=('test',)),
    datasets=[dataset],
    examples=lambda *_: [example],
    emit=lambda record, **_: seen.append(record),
  )
  (scores,) = found.datasets[0].splits['test'].tuned[0]
  assert metrics.get(metric).value(scores) <= 0
  assert seen[0]['predicted'] is None
  assert 'counted as wrong' in found.warnings[0]


def test_nan_in_ranking_is_not_a_correct_rejection():
  """F1a: an unanswered `no` is a false alarm, as in t5, and not a right `no`."""

  class Broken(Oracle):
    def loglikelihood(self, requests):
      return Scored([np.array([np.nan, -1.0], np.float32) for _ in requests], 1, 1)

  found = evaluator.evaluate(
    Broken(lambda prompt: 'yes'),
    evaluator.Protocol(splits=('test',)),
    datasets=[dataclasses.replace(RANKED, metric='f1a')],
    examples=examples(RANKED, 2),
  )
  first = found.datasets[0].splits['test'].tuned[0]
  assert first.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_a_choice_is_compared_with_the_number_behind_the_right_word():
  words = tuple('012345')
  dataset = dataclasses.replace(
    RANKED, answer=Label('label', words, round, measured=True), metric='pearson'
  )
  values = {'premise': 'a', 'hypothesis': 'b', 'answer': ''}
  read = [
    Example(f'test.0.{i}', values, dataset.answer({'label': label}, values))
    for i, label in enumerate((0.4, 3.8, 2.6))
  ]
  seen = []
  found = evaluator.evaluate(
    says('3'),
    evaluator.Protocol(splits=('test',)),
    datasets=[dataset],
    examples=lambda *_: read,
    emit=lambda record, **_: seen.append(record),
  )
  statistics = found.datasets[0].splits['test'].tuned[0]
  assert statistics[:, 1].tolist() == [3, 3, 3]
  assert statistics[:, 2].tolist() == [0.4, 3.8, 2.6]
  assert [record['references'] for record in seen[:3]] == [['0.4'], ['3.8'], ['2.6']]
  assert [record['gold'] for record in seen[:3]] == [[0], [4], [3]]
  again = predictions.statistics(seen[1], metrics.get('pearson'))
  np.testing.assert_allclose(again, statistics[1])


class TestFewShot:
  """Few-shot prompts (FLAN section 4.4)."""

  def ask(self, model=None, *, count=6, **more):
    seen = []
    model = model or says('yes')
    # Room for a few-shot prompt: the oracle's tokenizer counts bytes.
    model.sequence_length = more.pop('sequence_length', 2048)
    found = evaluator.evaluate(
      model,
      evaluator.Protocol(splits=('test',), **more),
      datasets=[RANKED],
      examples=examples(RANKED, count),
      emit=lambda record, **_: seen.append(record),
    )
    return found, seen

  def test_exemplars_stand_before_the_zero_shot_prompt_with_their_answers(self):
    _, plain = self.ask()
    found, seen = self.ask(num_fewshot=2)
    assert found.datasets[0].num_fewshot == 2
    for one, other in zip(plain, seen, strict=True):
      assert other['prompt'].endswith(one['prompt'])
      assert len(other['exemplars']) == 2
      assert all(example_id.startswith('train.') for example_id in other['exemplars'])
      for example_id in other['exemplars']:
        i = int(example_id.rpartition('.')[2])
        assert f'Fact {i} of train.' in other['prompt']
      assert other['prompt'].count('ANSWER: ') == 2

  def test_every_template_shows_the_same_exemplars_of_an_example(self):
    _, seen = self.ask(num_fewshot=3)
    by_example = {}
    for record in seen:
      by_example.setdefault(record['example_id'], set()).add(tuple(record['exemplars']))
    assert all(len(shown) == 1 for shown in by_example.values())
    assert len(set().union(*by_example.values())) > 1

  def test_depend_on_the_seed_alone(self):
    shown = lambda seed: [r['exemplars'] for r in self.ask(num_fewshot=3, seed=seed)[1]]  # noqa: E731
    assert shown(1) == shown(1)
    assert shown(1) != shown(2)

  def test_as_many_as_fit_and_never_more_than_960_tokens(self):
    _, seen = self.ask(num_fewshot=16, count=40)
    tokens = [len(BYTES.encode(record['prompt'])) for record in seen]
    assert max(tokens) <= 960
    assert all(1 <= len(record['exemplars']) < 16 for record in seen)
    assert min(tokens) > 960 - 120  # another one would not have fitted

  def test_a_shorter_sequence_length_has_room_for_fewer(self):
    _, seen = self.ask(num_fewshot=16, sequence_length=300)
    assert {len(record['exemplars']) for record in seen} == {2, 3}

  def test_an_example_is_never_its_own_exemplar(self):
    """Here train and test hold the same examples by another name."""
    same = [example._replace(example_id=f'x.{example.example_id}') for example in
            examples(RANKED, 4)('tiny_nli', 'test')]  # fmt: skip
    seen = []
    model = says('yes')
    model.sequence_length = 2048
    evaluator.evaluate(
      model,
      evaluator.Protocol(splits=('test',), num_fewshot=16),
      datasets=[RANKED],
      examples=lambda name, split: (
        same if split == 'train' else examples(RANKED, 4)(name, split)
      ),
      emit=lambda record, **_: seen.append(record),
    )
    for record in seen:
      assert len(record['exemplars']) == 3
      assert f'x.{record["example_id"]}' not in record['exemplars']

  def test_a_dataset_without_training_examples_is_left_out_with_a_warning(self):
    alone = dataclasses.replace(RANKED, train='')
    found = evaluator.evaluate(
      says('yes'),
      evaluator.Protocol(num_fewshot=1),
      datasets=[alone],
      examples=examples(RANKED, 3),
    )
    assert found.datasets == ()
    assert found.warnings == (
      'tiny_nli: no training examples to show as exemplars; left out',
    )


class TestPromptStyles:
  """The same examples in other prompt styles (FLAN section 4.3)."""

  def prompts(self, base=None, **more):
    seen = {}
    found = evaluator.evaluate(
      says('yes'),
      evaluator.Protocol(splits=('test',), **more),
      datasets=[RANKED],
      examples=examples(RANKED, 1),
      base=base,
      emit=lambda record, split, model: seen.setdefault(model, []).append(record),
    )
    return found.datasets[0], {
      model: [record['prompt'] for record in records] for model, records in seen.items()
    }

  def test_without_options_the_instruction_stays(self):
    result, prompts = self.prompts(prompt_style='no_options')
    assert result.templates == (0, 2)
    assert prompts['tuned'] == [
      'Fact 0 of test. So it is 0?',
      'Given Fact 0 of test., is it so that it is 0?',
    ]

  @pytest.mark.parametrize(
    ('prompt_style', 'prompt'),
    [
      ('no_template', 'Fact 0 of test.\nit is 0'),
      ('dataset_name', '[nli: tiny_nli]\nFact 0 of test.\nit is 0'),
      ('continuation', 'premise: Fact 0 of test.\nhypothesis: it is 0\nanswer:'),
    ],
  )
  def test_one_prompt_instead_of_the_templates(self, prompt_style, prompt):
    result, prompts = self.prompts(prompt_style=prompt_style)
    assert result.templates == (0,)
    assert prompts['tuned'] == [prompt]

  def test_the_base_model_can_have_its_own_prompt_style(self):
    result, prompts = self.prompts(base=says('yes'), base_prompt_style='continuation')
    assert (len(prompts['tuned']), len(prompts['base'])) == (2, 1)
    assert result.base_templates == (0,)
    assert prompts['base'][0].endswith('answer:')
    assert result.splits['test'].tuned.shape == (2, 1, 1)
    assert result.splits['test'].base.shape == (1, 1, 1)


def test_a_continuation_follows_a_blank():
  """A base LM continues the text; the rest of the line is the answer."""
  continues = Oracle(lambda prompt: ' it is 1\npremise: and so on')
  model = Oracle(lambda prompt: ' no')
  seen = []

  def ask(scorer, dataset):
    found = evaluator.evaluate(
      scorer,
      evaluator.Protocol(splits=('test',), prompt_style='continuation'),
      datasets=[dataset],
      examples=examples(dataset, 2),
      emit=lambda record, **_: seen.append(record),
    )
    return found.datasets[0].splits['test'].tuned[0, :, 0].tolist()

  assert ask(model, RANKED) == [0, 1]
  assert seen[0]['options'] == [' yes', ' no']
  seen.clear()
  assert ask(continues, WRITTEN) == [0, 1]
  assert seen[0]['text'] == 'it is 1'


class TestTies:
  def measure(self, options, gold, found, tokenizer=BYTES):
    class Fixed(Oracle):
      def loglikelihood(self, requests):
        scores = [np.array(found, np.float32) for _ in requests]
        return Scored(scores, 1, 1)

    model = Fixed(lambda prompt: '')
    model.tokenizer = tokenizer
    answer = Answer(options[gold], options, (gold,), (options[gold],))
    values = {'premise': 'a', 'hypothesis': 'b', 'answer': options[gold]}
    seen = []
    results = evaluator.evaluate(
      model,
      evaluator.Protocol(splits=('test',), templates=1),
      datasets=[RANKED],
      examples=lambda *_: [Example('test.0.0', values, answer)],
      emit=lambda record, **_: seen.append(record),
    )
    return results, seen[0]

  @pytest.mark.parametrize('gold', [0, 1, 2])
  def test_a_tie_counts_by_its_share_wherever_the_right_answer_is(self, gold):
    found, record = self.measure(('a', 'b', 'c'), gold, [-1.0, -2.0, -1.0])
    score = found.datasets[0].splits['test'].tuned[0, 0, 0]
    assert score == (0 if gold == 1 else 0.5)
    assert record['tied'] == [0, 2]
    assert record['predicted'] == 0

  def test_examples_with_options_of_equal_tokens_are_named(self):
    class Blind(type(BYTES)):
      def encode_batch(self, texts):
        return super().encode_batch([text.lower() for text in texts])

    found, record = self.measure(('May', 'may', 'no'), 1, [-1, -1, -2], Blind())
    assert found.warnings == (
      'tiny_nli: options that tokenize alike, counted as tied (example test.0.0)',
    )
    assert found.datasets[0].splits['test'].tuned[0, 0, 0] == 0.5
    assert record['tied'] == [0, 1]

  def test_confidence_is_the_share_of_all_options(self):
    found, _ = self.measure(('a', 'b'), 0, [np.log(0.06), np.log(0.02)])
    confidence = found.datasets[0].splits['test'].confidence['tuned'][0, 0]
    assert confidence == pytest.approx([0.75, 1])


@pytest.mark.parametrize('gold', [(), (2,), (-1,)])
def test_an_example_whose_right_answer_is_no_option_is_named_and_left_out(gold):
  def read(name, split):
    good = examples(RANKED, 2)(name, split)
    bad = good[0]._replace(example_id='test.0.9')
    return [*good, bad._replace(answer=Answer('x', LABELS, gold, ('x',)))]

  found = evaluator.evaluate(
    says('yes'), evaluator.Protocol(splits=('test',)), datasets=[RANKED], examples=read
  )
  assert len(found.datasets[0].splits['test'].examples) == 2
  assert found.warnings == (
    'tiny_nli: left out: the right answer is not among the options (example test.0.9)',
  )
