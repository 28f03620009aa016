"""Optimizers of optax, and of a user, named in a gin file: trained, saved, resumed."""

import json
import pathlib
import shutil
from unittest import mock

import jax
import numpy as np
import optax
import pytest
import small_run
from jax.sharding import PartitionSpec

import flan_jax
from flan_jax.catalog import registry
from flan_jax.config import gin
from flan_jax.config.optimizer import OptimizerConfig
from flan_jax.config.recipe import Recipe
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.jobs import run_end, train_and_evaluate
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.progress import Progress
from flan_jax.train import optimizer, optimizer_trial, trainer
from flan_jax.train.metric_writer import BadStep

TASK = 'microworld_mini_arc'
COSINE = """
Run.optimizer = @optax.{name}()
optax.{name}.weight_decay = 0.1
optax.{name}.learning_rate = @optax.warmup_cosine_decay_schedule()
optax.warmup_cosine_decay_schedule:
  init_value = 0.0
  peak_value = 1e-2
  warmup_steps = 2
  decay_steps = 4
"""
CHAIN = """
Run.optimizer = @optax.chain()
optax.chain.args = (@optax.clip_by_global_norm(), @decayed/optax.masked(), @optax.sgd())
optax.clip_by_global_norm.max_norm = 1.0
decayed/optax.masked.inner = @optax.scale_by_adam()
decayed/optax.masked.mask = @matrices
optax.sgd.learning_rate = 0.01
"""


@flan_jax.configurable
def own(peak: float):
  return optax.constant_schedule(peak)


@flan_jax.configurable
def broken():
  raise ValueError('no such rate')


@flan_jax.configurable
def matrices(params):
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@flan_jax.configurable
def badsched(value):
  return lambda step: value


@flan_jax.configurable
def failing(what: str = ''):
  def update(grads, state, params=None):
    if what:
      return {'updates': grads, 'state': (grads, (1.0, 1.0))}[what]
    raise KeyError('momentum')

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=out,
  )
  return out


def parse(text: str, out: pathlib.Path, store: pathlib.Path, **more) -> gin.Config:
  path = out.parent / 'run.gin'
  path.write_text(text)
  values = {
    'MODEL_DIR': str(out),
    'MIXTURE_OR_TASK_NAME': TASK,
    'STORE': str(store),
    'TRAIN_STEPS': 4,
    'Run.checkpoint_period': 2,
    'Run.log_period': 1,
    **more,
  }
  return gin.load([*small_run.FILES, str(path)], small_run.flags(values))


def train(*arguments, **more) -> train_and_evaluate.Outcome:
  parsed = parse(*arguments, **more)
  run = parsed.build('Run')
  return train_and_evaluate.train_and_evaluate(
    run, text=parsed.text(run), progress=Progress(quiet=True)
  )


def log(out: pathlib.Path, name: str) -> list[float]:
  return [json.loads(line)[name] for line in (out / 'log.jsonl').open()]


def assert_resumes(text: str, store: pathlib.Path, out: pathlib.Path) -> None:
  """Trains 4 steps; then again the last two, from the checkpoint, on another mesh."""
  whole = train(text, out / 'whole', store)
  again = out / 'again'
  shutil.copytree(out / 'whole', again)
  shutil.rmtree(again / 'model')
  shutil.rmtree(again / 'checkpoints' / '4')
  resumed = train(text, again, store, **{'Mesh.fsdp': 4})
  assert log(again, 'step') == [1, 2, 3, 4]
  losses = log(out / 'whole', 'loss')
  assert losses[-1] < losses[0]
  assert log(again, 'loss') == pytest.approx(losses, rel=1e-4)
  moments = jax.tree.leaves(resumed.state.optimizer)
  assert any(not leaf.sharding.is_fully_replicated for leaf in moments)
  expected = jax.tree.leaves(whole.state.optimizer)
  for one, other in zip(moments, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-5)


@pytest.mark.slow
def test_adamw_with_a_cosine_resumes_on_another_mesh(store, tmp_path):
  assert_resumes(COSINE.format(name='adamw'), store, tmp_path)
  rates = log(tmp_path / 'whole', 'learning_rate')
  assert rates == pytest.approx([0, 5e-3, 1e-2, 5e-3])
  with pytest.raises(InputError, match='another config: optimizer was .*optax.adamw'):
    train('', tmp_path / 'whole', store)


@pytest.mark.slow
@pytest.mark.parametrize(
  'text',
  [
    COSINE.format(name='lion'),
    'Run.optimizer = @optax.sgd()\noptax.sgd.learning_rate = 0.1\n'
    'optax.sgd.momentum = 0.9\n',
    CHAIN,
  ],
  ids=['lion', 'sgd', 'chain'],
)
def test_others_resume_on_another_mesh(text, store, tmp_path):
  assert_resumes(text, store, tmp_path)


@pytest.mark.parametrize(
  ('text', 'rate'),
  [
    (COSINE.format(name='lion'), 5e-3),
    ('Run.optimizer = @optax.lion()\noptax.lion.learning_rate = 0.5\n', 0.5),
    (CHAIN.replace('optax.sgd.learning_rate = 0.01', 'optax.sgd.learning_rate = @own()'
     '\nown.peak = 0.25'), 0.25),
    ('Run.optimizer = @optax.chain()\n'
     'optax.chain.args = (@optax.sgd(), @optax.lion())\n'
     'optax.sgd.learning_rate = 1.0\noptax.lion.learning_rate = 1.0', None),
  ],
)  # fmt: skip
def test_the_state_is_sharded_like_the_parameters(text, rate, tmp_path):
  """Also that of masked transformations; the log knows the learning rate, if one."""
  run = parse(text, tmp_path / 'run', tmp_path, **{'Mesh.fsdp': 4}).build('Run')
  mesh = mesh_lib.build(run.mesh)
  made = trainer.Trainer(run.model, run.step, mesh=mesh)
  shapes, axes = made.layout.shapes, made.layout.axes
  like = {
    leaf.shape: spec
    for leaf, spec in zip(
      jax.tree.leaves(shapes.params), jax.tree.leaves(axes.params, is_leaf=is_spec),
      strict=True,
    )
  }  # fmt: skip
  pairs = zip(
    jax.tree.leaves(shapes.optimizer),
    jax.tree.leaves(axes.optimizer, is_leaf=is_spec),
    strict=True,
  )
  found = [(leaf.shape, spec) for leaf, spec in pairs if leaf.ndim > 1]
  assert all(spec == like[shape] for shape, spec in found)
  assert len(found) > 0 or 'sgd' in text
  schedule = optimizer.learning_rate(run.optimizer)
  assert (schedule and float(schedule(1))) == pytest.approx(rate)


def is_spec(x) -> bool:
  return isinstance(x, PartitionSpec)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('Run.optimizer = @optax.adamw()\n',
     r'run.gin:1: Run.optimizer: got @optax.adamw\(\); must ha'),
    ('Run.optimizer = @optax.adamw\n', r'must be called; .* is @optax.adamw\('),
    ('Run.optimizer = @own()\nown.peak = 0.5\n',
     r'run.gin:1: Run.optimizer: @.*_test.own\(\) returns function; must return an'),
    ('Run.optimizer = @optax.adamw()\noptax.adamw.learning_rate = @broken()\n',
     r'@.*_test.broken\(\): ValueError: no such rate \(.*_test.py:\d+\)'),
    ('Run.optimizer = @Lora()\n', 'must be @Optimizer.. or a function, as @my_func'),
  ],
)  # fmt: skip
def test_an_optimizer_that_does_not_build_is_one_line(text, message, tmp_path):
  parsed = parse(text, tmp_path / 'run', tmp_path)

  def make():
    with parsed.located():
      run = parsed.build('Run')
      optimizer.make_optimizer(run.optimizer, config=run.model, logical_axes={})

  with pytest.raises(InputError, match=message) as caught:
    make()
  assert '\n' not in str(caught.value)


SGD = 'Run.optimizer = @optax.sgd()\noptax.sgd.learning_rate = '


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (SGD + '@badsched()\nbadsched.value = "fast"',
     r"@.*badsched\(\): got 'fast' at a step; must return a number"),
    (SGD + '@badsched()\nbadsched.value = None', r'@.*badsched\(\): got None at a'),
    (SGD + '@badsched()\nbadsched.value = (0.1,)', r'@.*badsched\(\): got \(0.1,\)'),
    ('Run.optimizer = @failing()',
     r"@.*failing\(\): KeyError: 'momentum' \(.*recipe_optimizer_test.py:\d+\)"),
    ('Run.optimizer = @failing()\nfailing.what = "state"', 'another kind of state'),
    ('Run.optimizer = @failing()\nfailing.what = "updates"', r'\(updates, state\)'),
  ],
)  # fmt: skip
def test_an_optimizer_that_fails_at_a_step_is_refused_at_set_up(
  text, message, tmp_path
):
  run = parse(text, tmp_path / 'run', tmp_path).build('Run')
  with pytest.raises(InputError, match=message) as caught:
    trainer.Trainer(run.model, run.step, mesh=mesh_lib.build(run.mesh))
  assert '\n' not in str(caught.value)


def test_muon_gets_the_matrices_of_the_model_inside_a_chain_too(tmp_path):
  text = (
    'Run.optimizer = @optax.chain()\noptax.chain.args = (@optax.contrib.muon(),)\n'
    'optax.contrib.muon.learning_rate = 0.01\n'
  )
  run = parse(text, tmp_path / 'run', tmp_path).build('Run')
  made = trainer.Trainer(run.model, run.step, mesh=mesh_lib.build(run.mesh))
  pairs, _ = jax.tree_util.tree_flatten_with_path(made.layout.shapes.optimizer)
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in pairs]
  print(names)
  assert any('/muon/' in name and '/layers/' in name for name in names)
  assert any('/adam/' in name and 'embedding' in name for name in names)


def test_weight_decay_is_kept_off_norms_by_name_in_gin():
  parsed = gin.load(
    ['gin/runs/demo.gin'],
    [
      'Run.optimizer=@optax.adamw()',
      'optax.adamw.learning_rate=0.1',
      'optax.adamw.mask=@without_norms',
    ],
  )
  transform = parsed.build('Run').optimizer.build()
  params = {'query': np.ones((2, 2), np.float32), 'final_norm': np.ones(2, np.float32)}
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = transform.update(zeros, transform.init(params), params)
  assert (updates['query'] < 0).all()
  assert (updates['final_norm'] == 0).all()


@pytest.mark.parametrize('rate', [1e-3, float('nan')])
def test_an_optimizer_is_tried_before_it_trains(rate):
  """A foreign function says nothing of its arguments: its updates must be finite."""
  recipe = Recipe('optax.adamw', (('b1', 2.0), ('learning_rate', rate)))
  made = optax.adamw(rate, b1=2.0)
  shapes = {'w': jax.ShapeDtypeStruct((4, 8), np.float32)}
  step = 1 if np.isnan(rate) else r'1\d\d'
  message = rf'@optax.adamw\(\), b1 = 2.0, .*: its update is not finite at step {step} '
  with pytest.raises(InputError, match=message):
    optimizer_trial.check(recipe, made, shapes)
  optimizer_trial.check(recipe, optax.adamw(1e-3), shapes)


@pytest.mark.parametrize(
  ('of', 'clip'),
  [
    (
      Recipe('optax.adamw'),
      r'optax.chain.args = \(@optax.clip_by_global_norm\(\), @opt',
    ),
    (OptimizerConfig(), r'\(Optimizer.clip_global_norm\)'),
  ],
)
def test_the_advice_on_a_bad_step_is_about_the_optimizer_of_the_run(of, clip):
  run, checkpoints = mock.MagicMock(), mock.MagicMock()
  run.stop.__exit__.return_value = False
  run.config.optimizer = of
  with (
    pytest.raises(InputError, match=f'clip the gradient .*{clip}'),
    run_end.ending(run, checkpoints),
  ):
    raise BadStep(3, float('nan'), 1.0)
