"""The table of costs says what the clocks of an evaluation counted."""

from flan_jax.evaluate.clock import Clocks
from flan_jax.inference.rank_options import Scored
from flan_jax.report import costs


def test_each_dataset_and_model_has_its_row():
  clocks = Clocks({'tuned': None, 'base': None})
  for dataset, seconds in (('rte', 2.0), ('cb', 4.0)):
    for clock in clocks.total.values():
      clock.examples += 3
      clock.score(Scored([], 1000, 3000, seconds, 750))
    clocks.split(dataset)
  rows = costs.by_dataset(clocks.timing())
  assert [(row.dataset, row.model) for row in rows] == [
    ('rte', 'tuned'), ('rte', 'base'), ('cb', 'tuned'), ('cb', 'base'),
  ]  # fmt: skip
  assert rows[0][2:] == ('3', '1,000', '500', '–', '–', '25', '2.0')
  assert rows[2].scored_per_s == '250'


def test_an_older_report_has_no_row():
  assert costs.by_dataset({}) == []
  assert costs.by_dataset({'examples_per_s': 2.0, 'base': {'examples': 1}}) == []
