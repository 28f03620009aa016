"""The protocol: which rows, which templates, what is measured, what is written."""

import numpy as np
import pytest
from oracle import BYTES, LABELS, RANKED, WRITTEN, Oracle, rows, says

from flan_jax.catalogue import Row
from flan_jax.data.rendering import Limits
from flan_jax.errors import InputError
from flan_jax.evaluate import protocol
from flan_jax.evaluate.scoring import Scorer
from flan_jax.fields import Answer


def test_measures_every_template_that_asks_for_the_answer():
  found = protocol.evaluate(says('yes'), datasets=[RANKED], rows=rows(RANKED, 7))
  (result,) = found.datasets
  assert result.templates == (0, 2)
  assert set(result.splits) == {'dev', 'test'}
  assert result.splits['test'].tuned.shape == (2, 7, 1)
  assert result.splits['test'].tuned[0, :, 0].tolist() == [1, 0, 1, 0, 1, 0, 1]
  assert result.splits['test'].base is None


def test_base_and_tuned_read_the_same_prompts():
  seen = {}
  protocol.evaluate(
    says('yes'),
    base=says('no'),
    datasets=[RANKED],
    rows=rows(RANKED, 5),
    emit=lambda record, split, model: seen.setdefault((model, split), []).append(
      record
    ),
  )
  tuned, base = seen['tuned', 'test'], seen['base', 'test']
  assert [r['prompt'] for r in tuned] == [r['prompt'] for r in base]
  assert {r['predicted'] for r in tuned} == {0}
  assert {r['predicted'] for r in base} == {1}


def test_a_prediction_says_what_was_tokenised():
  seen = []
  protocol.evaluate(
    says('no'),
    datasets=[RANKED],
    rows=rows(RANKED, 1),
    splits=('test',),
    emit=lambda record, **_: seen.append(record),
  )
  assert seen[0] == {
    'row_id': 'test.0.0',
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
  found = protocol.evaluate(
    number,
    datasets=[WRITTEN],
    rows=rows(WRITTEN, 3),
    splits=('test',),
    emit=lambda record, **_: seen.append(record),
  )
  exact = found.datasets[0].splits['test'].tuned[..., 0]
  assert exact.tolist() == [[1, 1, 1]]
  assert seen[2] == {
    'row_id': 'test.0.2',
    'dataset': 'tiny_qa',
    'template': 0,
    'prompt': 'Who is Fact 2 of test.?',
    'options': [],
    'text': 'Number 2',
    'gold': ['it is 2', 'number 2'],
    'predicted': 'Number 2',
  }


def test_a_real_model_goes_the_whole_way(tiny_model):
  model = tiny_model()
  scorer = Scorer(
    params=model.params, config=model.config, tokenizer=BYTES, rows=4, row_length=128
  )
  reports = []
  found = protocol.evaluate(
    scorer,
    datasets=[RANKED, WRITTEN],
    rows=lambda name, split: rows(RANKED if name == RANKED.name else WRITTEN, 4)(
      name, split
    ),
    max_new_tokens=4,
    progress=lambda *state: reports.append(state),
  )
  ranked, written = found.datasets
  assert ranked.splits['dev'].tuned.shape == (2, 4, 1)
  assert written.splits['dev'].tuned.shape == (1, 4, 2)
  assert found.timing['examples'] == 2 * (2 * 4) + 2 * 4
  assert found.timing['tokens_scored'] % (4 * 128) == 0
  assert found.timing['examples_per_s'] > 0
  assert reports[-1] == ('evaluate', 'tiny_qa', 8, 8)


def test_blocks_do_not_matter(monkeypatch):
  rule = Oracle(lambda prompt: LABELS[len(prompt) % 2])
  whole = protocol.evaluate(rule, datasets=[RANKED], rows=rows(RANKED, 23))
  monkeypatch.setattr(protocol, '_BLOCK', 10)
  parts = protocol.evaluate(rule, datasets=[RANKED], rows=rows(RANKED, 23))
  for split in ('dev', 'test'):
    np.testing.assert_array_equal(
      whole.datasets[0].splits[split].tuned, parts.datasets[0].splits[split].tuned
    )


class TestSample:
  ROWS = rows(RANKED, 50)('tiny_nli', 'test')

  def ids(self, most, seed=0, some=None):
    found = protocol.sample(some or self.ROWS, most=most, seed=seed)
    return [row.row_id for row in found]

  def test_keeps_the_order_of_the_rows(self):
    order = [row.row_id for row in self.ROWS]
    found = self.ids(10)
    assert len(found) == 10
    assert found == [row_id for row_id in order if row_id in found]

  def test_does_not_depend_on_how_rows_are_stored(self):
    assert sorted(self.ids(10)) == sorted(self.ids(10, some=self.ROWS[::-1]))

  def test_a_smaller_sample_is_part_of_a_larger_one(self):
    assert set(self.ids(5)) < set(self.ids(10))

  def test_depends_on_the_seed(self):
    assert self.ids(10) != self.ids(10, seed=1)

  def test_takes_all_where_there_are_fewer(self):
    assert len(self.ids(100)) == len(self.ids(None)) == 50


def test_templates_can_be_fewer():
  ask = lambda some: protocol.evaluate(  # noqa: E731
    says('yes'), datasets=[RANKED], rows=rows(RANKED, 2), templates=some
  ).datasets[0].templates  # fmt: skip
  assert ask(1) == (0,)
  assert ask([1, 2]) == (2,)
  with pytest.raises(InputError, match="of dataset 'tiny_nli'; those that do are 0, 2"):
    ask([1])


def test_long_prompts_are_cut_and_counted():
  found = protocol.evaluate(
    says('yes'),
    datasets=[RANKED],
    rows=rows(RANKED, 4),
    splits=('test',),
    limits=Limits(inputs=46),
  )
  (warning,) = found.warnings
  assert warning.startswith('tiny_nli: prompts with fields cut to fit (row test.0.0')
  assert not np.isnan(found.datasets[0].splits['test'].tuned).any()


def test_what_cannot_be_cut_is_left_out_and_said():
  found = protocol.evaluate(
    says('yes'),
    datasets=[RANKED],
    rows=rows(RANKED, 4),
    splits=('test',),
    limits=Limits(inputs=10),
  )
  assert found.datasets == ()
  assert 'left out' in found.warnings[0]
  assert 'and 5 more' in found.warnings[0]


def test_nan_is_named_counted_as_wrong_and_the_run_goes_on():
  class Broken(Oracle):
    def score(self, requests):
      scored = super().score(requests)
      scored.log_probabilities[1][0] = np.nan
      return scored

  seen = []
  found = protocol.evaluate(
    Broken(lambda prompt: 'yes'),
    datasets=[RANKED],
    rows=rows(RANKED, 4),
    splits=('test',),
    emit=lambda record, **_: seen.append(record),
  )
  assert found.warnings == (
    'tiny_nli: NaN from the tuned model, counted as wrong (row test.0.1 template 0)',
  )
  assert seen[1]['predicted'] is None
  assert seen[1]['log_probabilities'] == [None, -1.0]
  assert found.datasets[0].splits['test'].tuned[0, :, 0].tolist() == [1, 0, 1, 0]


def test_a_dataset_without_rows_is_left_out_and_said():
  found = protocol.evaluate(says('yes'), datasets=[RANKED], rows=rows(RANKED, 0))
  assert found.datasets == ()
  assert found.warnings == ('tiny_nli: no rows in dev or test; left out',)


def test_options_without_a_token_are_refused_by_name():
  def empty(name, split):
    answer = Answer('', ('', ''), (0,), ('',))
    values = {'premise': 'a', 'hypothesis': 'b', 'answer': ''}
    return [Row('test.0.9', values, answer)]

  with pytest.raises(InputError, match="'tiny_nli', row 'test.0.9'.*no option"):
    protocol.evaluate(says('yes'), datasets=[RANKED], rows=empty)
