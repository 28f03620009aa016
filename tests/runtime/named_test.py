"""Registration: names and code are checked at every door."""

import pytest

import flan_jax
from flan_jax.errors import InputError


def scored(reference, prediction):
  return 1.0


class Writer(flan_jax.Writer):
  pass


@pytest.mark.parametrize(
  ('register', 'message'),
  [
    (lambda: flan_jax.metric(scored, name=''), "metric '': must be a name"),
    (lambda: flan_jax.metric(scored, name=3), 'metric 3: must be a name'),
    (lambda: flan_jax.metric(lambda a, b: 1.0), "metric '<lambda>': must be a name"),
    (
      lambda: flan_jax.metric_writer(Writer),
      r"as its name; must be a text, as in @flan_jax.metric_writer\('writer'\)",
    ),
    (lambda: flan_jax.metric_writer('')(Writer), "metric writer '': must be a name"),
    (
      lambda: flan_jax.metric_writer('mine', needs='wandb')(Writer),
      "metric writer 'mine': needs 'wandb'; must be a dictionary",
    ),
    (lambda: flan_jax.configurable(3), 'configurable: got 3; must be a function'),
    (lambda: flan_jax.configurable('a b')(scored), "configurable 'a b': .* is invalid"),
    (
      lambda: flan_jax.configurable(scored, module='m', allowlist=('c',)),
      "configurable 'scored': Argument 'c' in allowlist not a parameter",
    ),
    (lambda: flan_jax.prompt_style(3), 'prompt style: got 3; must be a function'),
    (lambda: flan_jax.prompt_style('politely'), "prompt style: got 'politely'; must"),
    (lambda: flan_jax.prompt_style(scored, name=''), "prompt style '': must be a name"),
    (lambda: flan_jax.options_style(3), 'options style: got 3; must be a function'),
    (
      lambda: flan_jax.register(flan_jax.Cluster(name='')),
      r"cluster '' \(.*named_test.py:\d+\): name ''; must be letters",
    ),
    (
      lambda: flan_jax.register(flan_jax.Mixture(name=3, datasets=('rte',))),
      'mixture 3 .*: name 3; must be letters',
    ),
    (lambda: flan_jax.Hook(every=1.5), 'every: got 1.5; must be 1 or more, a whole'),
  ],
)
def test_what_has_no_name_or_is_no_code_is_refused(register, message):
  with pytest.raises(InputError, match=message):
    register()
