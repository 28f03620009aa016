"""References to functions in gin files: recipes, their scopes, types and messages."""

import dataclasses
import enum
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest
from hypothesis import strategies as st

import flan_jax
import gin as gin_config
from flan_jax.config import functions, gin, written
from flan_jax.config.recipe import Recipe
from flan_jax.config.value_types import describe, fits
from flan_jax.errors import InputError

if TYPE_CHECKING:
  from collections import OrderedDict

called = []


@gin_config.register(module='theirs')
def fn(x: int, y: float = 1.0, *rest: str, names: 'Sequence[str]' = (), loose=None):
  called.append('fn')
  return ('fn', x, y, rest, names, loose, gin_config.current_scope_str())


@gin_config.configurable(module='theirs', denylist=['secret'])
def inner(value: Any = 0, secret: int = 1, odd: 'OrderedDict | None' = None):
  called.append('inner')
  return ('inner', value, secret, odd)


@gin_config.configurable('Named', module='theirs', allowlist=['size'])
class Thing:
  def __init__(self, size: int = gin_config.REQUIRED, other: int = 2):
    self.size, self.other = size, other


@gin_config.register(module='theirs')
@dataclasses.dataclass
class Data:
  width: 'int'
  extra: dict[str, float] = dataclasses.field(default_factory=dict)


@gin_config.register(module='one')
def twice():
  return 1


@gin_config.register('twice', module='two')
def twice_too():
  return 2


@gin_config.register(module='theirs')
def anything(*, known: int = 0, **others):
  return known, others


@flan_jax.configurable
def my_schedule(peak: float, steps: int):
  return lambda step: peak * step / steps


@flan_jax.configurable('renamed', module='mine', denylist=('hidden',))
def function(hidden=1, shown=2):
  return hidden, shown


def test_a_name_that_is_taken_is_refused_with_both_places():
  def other():
    pass

  places = r'recipe_test.py:\d+ and by .*recipe_test.py:\d+; give'
  with pytest.raises(InputError, match=f"'mine.renamed': .*{places}"):
    flan_jax.configurable('renamed', module='mine')(other)
  again = flan_jax.configurable('renamed', module='mine', denylist=('hidden',))
  assert again(function) is function  # as a notebook that runs a cell again


gin_config.constant('theirs.LIMIT', 12)
gin_config.constant('theirs.TABLE', frozenset({1}))


def parse(text: str, tmp_path, *flags: str) -> gin.Config:
  path = tmp_path / 'run.gin'
  path.write_text(text)
  return gin.load([str(path)], flags)


def recipe(text: str, reference: str, tmp_path, *flags: str) -> Any:
  """The value of `REFERENCE = ...`, with the statements of `text`."""
  parsed = parse(f'{text}\nREFERENCE = {reference}\n', tmp_path, *flags)
  return parsed.resolve(parsed.macros['REFERENCE'], 'REFERENCE').value


NESTED = """
theirs.fn:
  x = %X
  y = 2
  names = ['a', 'b']
s/theirs.fn.x = 4
s/t/theirs.fn.y = 5.5
theirs.fn.loose = {'one': @inner(), 'two': (@inner, @s/twice_of/inner())}
inner.value = 1
s/theirs.inner.value = 2
t/inner.value = -3
X = 3
"""


def test_nothing_is_called_before_build(tmp_path):
  called.clear()
  found = recipe(NESTED, '@theirs.fn()', tmp_path)
  assert called == []
  kind, x, y, rest, names, loose, scope = found.build()
  assert (kind, x, y, rest, names, scope) == ('fn', 3, 2, (), ['a', 'b'], '')
  assert loose['one'] == ('inner', 1, 1, None)
  bound, scoped = loose['two']
  assert bound() == ('inner', 1, 1, None)
  assert scoped == ('inner', 2, 1, None)


@pytest.mark.parametrize(
  ('reference', 'x', 'y', 'inner_value'),
  [
    ('@fn()', 3, 2, 1),
    ('@theirs.fn()', 3, 2, 1),
    ('@s/fn()', 4, 2, 2),
    ('@s/t/fn()', 4, 5.5, 2),
    ('@t/fn()', 3, 2, -3),
    ('@unbound/fn()', 3, 2, 1),
    ('%INDIRECT', 4, 2, 2),
    ('@INDIRECT/macro()', 4, 2, 2),
  ],
)
def test_scopes_are_those_of_gin_config(reference, x, y, inner_value, tmp_path):
  """gin-config itself, given the same text, calls the function with the same values."""
  text = f'{NESTED}INDIRECT = @s/fn()\n'
  ours = recipe(text, reference, tmp_path).build()
  assert (ours[1], ours[2], ours[5]['one'][1]) == (x, y, inner_value)
  with gin_config.unlock_config():
    gin_config.clear_config()
    try:
      gin_config.parse_config(f'{text}\ntheirs.anything.it = {reference}\n')
      theirs = gin_config.get_configurable('theirs.anything')()[1]['it']
    finally:
      gin_config.clear_config()
  assert ours[:5] == theirs[:5]
  assert ours[5]['one'] == theirs[5]['one']
  assert ours[5]['two'][1] == theirs[5]['two'][1]
  assert ours[6] == theirs[6]


def test_an_uncalled_reference_is_the_function_with_its_arguments(tmp_path):
  bound = recipe('fn.x = 3\nfn.y = 4', '@fn', tmp_path).build()
  assert bound.__name__ == 'fn'
  assert bound()[1:3] == (3, 4)
  assert bound(7)[1:3] == (7, 4)
  assert bound(7, 8.0, 'z')[1:4] == (7, 8.0, ('z',))
  assert bound(y=1)[1:3] == (3, 1)
  assert recipe('', '@fn', tmp_path).build() is fn
  thing = recipe('theirs.Named.size = 3', '@Named', tmp_path).build()()
  assert (type(thing), thing.size) == (Thing, 3)


def test_arguments_of_every_kind(tmp_path):
  made = recipe("fn.x = 1\nfn.rest = ('a', 'b')", '@fn()', tmp_path).build()
  assert made[1:4] == (1, 1.0, ('a', 'b'))
  made = recipe('anything.known = 1\nanything.more = 2', '@anything()', tmp_path)
  assert made.build(known=5, third=3) == (5, {'more': 2, 'third': 3})
  assert recipe('Data.width = 3', '@Data()', tmp_path).build() == Data(3)
  assert recipe('my_schedule.peak = 2\nmy_schedule.steps = 4', '@my_schedule()',
                tmp_path).build()(2) == 1.0  # fmt: skip
  assert recipe('mine.renamed.shown = 5', '@renamed()', tmp_path).build() == (1, 5)


def test_each_build_has_containers_of_its_own(tmp_path):
  found = recipe('anything.names = [1, {2: [3]}]', '@anything()', tmp_path)
  one, other = (found.build()[1]['names'] for _ in range(2))
  one[1][2].append(4)
  assert other == [1, {2: [3]}]


def test_constants_of_gin_config(tmp_path):
  found = recipe('inner.value = (%theirs.LIMIT, %TABLE)', '@inner()', tmp_path)
  assert found.build()[1] == (12, frozenset({1}))


@pytest.mark.parametrize(
  ('text', 'reference', 'message'),
  [
    ('', '@thiers.fn()', "unknown name 'thiers.fn'.*did you mean 'theirs.fn'"),
    ('theirs.fnn.x = 1', '@fn()', r"run.gin:1: unknown name 'theirs.fnn'.*'theirs.fn'"),
    ('fn.nmaes = ()', '@fn()', r"run.gin:1: theirs.fn has no parameter 'nmaes'; must "
     "be one of x, y, rest, names, loose; did you mean 'names'"),
    ('fn.x = 1.5', '@fn()', r'run.gin:1: theirs.fn.x = 1.5; must be an integer'),
    ('fn.x = True', '@fn()', r'theirs.fn.x = True; must be an integer'),
    ('fn.x = @inner', '@fn()', r'theirs.fn.x = @theirs.inner; must be an integer'),
    ('fn.names = "abc"', '@fn()', r"theirs.fn.names = 'abc'; must be a list or tuple"),
    ('fn.rest = (1,)', '@fn()', r'theirs.fn.rest = \(1,\); must be a tuple of strings'),
    ('s/fn.x = "a"', '@s/fn()', r"run.gin:1: s/theirs.fn.x = 'a'; must be an integer"),
    ('Data.extra = {"a": "b"}', '@Data()', 'must be a dictionary from a string'),
    ('inner.secret = 3', '@inner()', r'run.gin:1: theirs.inner.secret: must not be set '
     r'in gin.*; must be one of value, odd'),
    ('Named.other = 3', '@Named()', 'theirs.Named.other: must not be set .* size'),
    ('renamed.hidden = 3', '@renamed()', 'mine.renamed.hidden: must not be set in gin'),
    ('twice.x = 1', '@fn()', r"run.gin:1: name 'twice': stands for one.twice and two"),
    ('', '@twice()', r"run.gin:2: name 'twice': stands for one.twice and two.tw"),
    ('inner.value = @inner()', '@inner()', r'run.gin:1: %REFERENCE|@theirs.inner -> @'
     'theirs.inner: a function must not refer to itself'),
    ('inner.value = %V\nV = (@s/inner,)', '@inner()', r'@s/theirs.inner -> %V: a mac'),
    ('fn.x = %gin.REQUIRED', '@fn()', r'theirs.fn.x: not set; give --gin.theirs.fn.x='),
    ('inner.value = %MISS', '@inner()', "run.gin:1: unknown macro 'MISS'"),
    ('from __gin__ import dynamic_registration', '@fn()', 'run.gin:1: dynamic_regis'),
    ('s/Run.seed = 3', '@fn()', "scope 's': scopes are not supported for Run"),
  ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(text, reference, message, tmp_path):
  with pytest.raises(InputError, match=message) as caught:
    recipe(text, reference, tmp_path)
  assert '\n' not in str(caught.value)


def test_a_missing_argument_is_named_before_the_call(tmp_path):
  """Also that of an inner function, and in its scope."""
  called.clear()
  for text, reference, name in (
    ('', '@fn()', 'theirs.fn.x'),
    ('inner.value = @fn()', '@inner()', 'theirs.fn.x'),
    ('inner.value = @s/Named()', '@inner()', 's/theirs.Named.size'),
  ):
    found = recipe(text, reference, tmp_path)
    with pytest.raises(InputError, match=f'{name} is not set, and has no default') as e:
      found.build()
    assert e.value.field == name
  assert called == []
  assert recipe('', '@fn()', tmp_path).build(x=2)[1] == 2
  assert recipe('inner.value = @fn', '@inner()', tmp_path).missing() == []


def test_values_are_offered_to_all_that_take_them(tmp_path):
  found = recipe('inner.value = [@fn(), @my_schedule()]', '@inner()', tmp_path)
  offered = found.offered({'x': 1, 'loose': 2, 'steps': 3, 'value': 4, 'y': 5})
  one, other = offered.get('value')
  assert one.build()[1:6] == (1, 1.0, (), (), 2)
  assert [name.rpartition('.')[2] for name in other.missing()] == ['peak']


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('optax.adamww', "did you mean 'optax.adamw'"),
    ('optax._src.alias.adamw', "public function of optax.*did you mean 'optax.adamw'"),
    ('optax.chex.assert_shape', 'must be a public function of optax'),
    ('optax.losses.l2_loss', 'must be a public function of optax'),
    ('optax.jax.jit', 'must be a public function of optax'),
    ('optax.contrib._muon.muon', 'must be a public function of optax'),
    ('optax.GradientTransformation', 'must be a public function of optax'),
    ('optax.contrib', 'must be a public function of optax'),
    ('optax.muon', "did you mean 'optax.contrib.muon'"),
    ('os.system', "unknown name 'os.system'"),
    ('gin.config.parse_config', "unknown name 'gin.config.parse_config'"),
  ],
)
@pytest.mark.parametrize('form', ['@{}()', '@{}', 'x'])
def test_only_public_functions_of_optax_are_reached(name, message, form, tmp_path):
  text = f'{name}.x = 1' if form == 'x' else ''
  with pytest.raises(InputError, match=message):
    recipe(text, form.format(name) if form != 'x' else '1', tmp_path)


def test_arguments_of_optax_are_checked_by_its_signatures(tmp_path):
  text = 'optax.adamw.learning_rate = @optax.cosine_decay_schedule()\n'
  need = 'optax.cosine_decay_schedule.init_value = 1\n'
  text += need + 'optax.cosine_decay_schedule.decay_steps = 10\n'
  found = recipe(text, '@optax.adamw()', tmp_path)
  assert found.get('learning_rate').build()(0) == 1
  for line, message in (
    ('optax.adamw.b1 = "a"', "optax.adamw.b1 = 'a'; must be an array or .*a number"),
    ('optax.adamw.nesterov = 1', 'nesterov = 1; must be True or False'),
    ('optax.adamw.wieght_decay = 1', "did you mean 'weight_decay'"),
    ('optax.cosine_decay_schedule.decay_steps = 1.5', 'must be an integer'),
  ):
    with pytest.raises(InputError, match=message):
      recipe(f'{text}{line}', '@optax.adamw()', tmp_path)


def test_every_public_function_of_optax_has_a_signature():
  """A type that is not understood admits everything, and never fails."""
  found = functions._library()
  assert {'optax.adamw', 'optax.lion', 'optax.sgd', 'optax.contrib.muon'} <= set(found)
  for name in found:
    function = functions.find(name)
    for parameter in function.legal:
      assert describe(function.hint(parameter))
      fits(1.0, function.hint(parameter))


def test_optax_and_jax_are_imported_only_for_their_names():
  code = (
    'import sys; from flan_jax.config import functions\n'
    'try: functions.find("no_such")\n'
    'except Exception as error: print(error)\n'
    'print(sorted({"jax", "optax", "numpy"} & set(sys.modules)))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.stdout.splitlines()[-1] == '[]', done.stderr


def test_bindings_that_nothing_refers_to_are_refused(tmp_path):
  base = "include 'gin/runs/base.gin'\nMODEL_DIR = 'x'\nTRAIN_STEPS = 1\n"
  base += "MIXTURE_OR_TASK_NAME = 'flan_rte'\nRun.optimizer = @optax.sgd()\n"
  base += 'optax.sgd.learning_rate = 0.1\n'

  def unused(*lines):
    parsed = parse(base + '\n'.join(lines), tmp_path)
    parsed.build('Run')
    return parsed.refuse_unused('train')

  assert unused() == []
  for line, message in (
    (
      'fn.x = 1',
      r'run.gin:7: theirs.fn.x has no effect: no setting refers to @theirs.fn',
    ),
    (
      'optax.adamw.b1 = 0.1',
      r"refers to @optax.adamw\(\), .*; did you mean 'optax.sgd'",
    ),
    ('s/optax.sgd.nesterov = True', r'refers to @s/optax.sgd\(\), .*; did you mean'),
    ('Optimizer.schedule = "rsqrt"', 'Optimizer.schedule has no effect'),
  ):
    with pytest.raises(InputError, match=message):
      unused(line)


literals = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(2**63), 2**63 - 1)
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(st.characters(codec='ascii', exclude_categories=('Cc',)), max_size=8),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text('abc', max_size=3), inner, max_size=3)
  ),
  max_leaves=5,
)
references = st.builds(
  lambda arguments, scope, called: Recipe(
    'theirs.anything', tuple(sorted(arguments.items())), scope, called
  ),
  st.dictionaries(st.sampled_from(('a', 'b', 'c')), literals, max_size=3),
  st.sampled_from(('', 's', 's/t')),
  st.booleans(),
)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(inner=references, value=literals, data=st.data())
def test_the_text_gives_the_same_recipe(inner, value, data, tmp_path_factory):
  """Whatever the values; of one function in one scope only, as gin has them."""
  inner = dataclasses.replace(inner, scope=inner.scope or 'only')
  outer = Recipe('theirs.inner', (('value', {'k': (inner, [value, inner])}),))
  lines = [f'{name} = {written.written(v)}' for name, v in written.flatten(outer)]
  tmp_path = tmp_path_factory.mktemp('text')
  again = recipe('\n'.join(lines), '@inner()', tmp_path)
  assert again == outer
  assert repr(again) == repr(outer)
  assert hash(again) == hash(outer)


def test_the_text_of_a_run_parses_back_to_it(tmp_path):
  text = """
include 'gin/runs/demo.gin'
include 'gin/models/tiny.gin'
MODEL_DIR = 'x'
Run.optimizer = @optax.chain()
optax.chain.args = (@optax.clip_by_global_norm(), @a/optax.sgd(), %LAST)
optax.clip_by_global_norm.max_norm = 1
optax.sgd.learning_rate = 0.5
a/optax.sgd.learning_rate = @my_schedule()
a/my_schedule.steps = 10
my_schedule.peak = 1e-2
LAST = @optax.sgd()
"""
  parsed = parse(text, tmp_path)
  run = parsed.build('Run')
  out = parsed.text(run)
  assert 'Run.optimizer = @optax.chain()  # run.gin:5\n' in out
  assert 'a/optax.sgd.learning_rate = @a/' in out
  assert 'my_schedule.peak = 0.01  # run.gin:11\n' in out
  again = parse(out, tmp_path)
  assert again.build('Run') == run
  assert again.refuse_unused('train') == []


class Color(enum.Enum):
  RED = 1


@pytest.mark.parametrize(
  ('value', 'hint', 'expected'),
  [
    (1, float, True), (1, int, True), (1.5, int, False), (True, int, False),
    ('a', str, True), (None, int | None, True), ('a', int | None, False),
    (1, 'Unresolved', True), (1, Any, True), ('a', Literal['a', 'b'], True),
    ('c', Literal['a', 'b'], False), (True, Literal[1], False),
    ([1], list[int], True), ((1,), list[int], False), ([1.5], list[int], False),
    ((1, 2), tuple[int, ...], True), ((1, 'a'), tuple[int, str], True),
    ((1,), tuple[int, str], False), ({'a': 1}, dict[str, int], True),
    ({'a': 1}, Mapping[str, str], False), ('ab', Sequence[str], False),
    (['ab'], Sequence[str], True), (3, Callable[[int], int], False),
    ('RED', Color, False), (Recipe('f'), float, True), (Recipe('f'), Recipe, True),
    (Recipe('f', called=False), float, False), ([Recipe('f')], list[int], True),
    (Recipe('f', called=False), Callable[..., int], True),
    (Recipe('f', called=False), type[Color], True),
    (Recipe('f', called=False), None, False),
  ],
)  # fmt: skip
def test_a_value_fits_its_annotation(value, hint, expected):
  assert fits(value, hint, late=True) is expected
  assert describe(hint)
