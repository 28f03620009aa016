"""The loss on given examples: that of the logits, on any mesh."""

import jax
import numpy as np
import pytest

from flan_jax.config.mesh import MeshConfig
from flan_jax.config.training import TrainConfig
from flan_jax.data.batch import TokenizedExample
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train.eval_loss import EvalLoss, LossEvaluator
from flan_jax.train.trainer import Trainer

LENGTH, EOS = 32, 1


def examples(count: int) -> list[TokenizedExample]:
  rng = np.random.default_rng(0)
  draw = lambda low, high: rng.integers(3, 250, rng.integers(low, high))  # noqa: E731
  return [TokenizedExample(draw(1, 12), draw(1, 8)) for _ in range(count)]


def evaluator(model, mesh: MeshConfig) -> tuple[LossEvaluator, Trainer]:
  run = TrainConfig(
    model_dir='none', mixture='none', train_steps=1, batch_tokens=8 * LENGTH,
    sequence_length=LENGTH, accumulation=2, z_loss=1e-2, label_smoothing=0.1,
    logits_chunk=8, mesh=mesh,
  )  # fmt: skip
  devices = jax.devices()[: mesh.data * mesh.fsdp * mesh.model]
  made = Trainer(model.config, run.step, mesh=mesh_lib.build(mesh, devices=devices))
  return LossEvaluator(made, bos_id=None, eos_id=EOS), made


def by_hand(model, example) -> tuple[float, int]:
  """(negative log-likelihood of the targets and their EOS, argmax hits)."""
  tokens = np.concatenate([example.inputs, [EOS], example.targets, [EOS]])
  logits = model.logits(tokens[:-1], prefix=0, width=LENGTH)
  log_z = np.logaddexp.reduce(logits, axis=-1)
  places = range(len(example.inputs), len(tokens) - 1)
  loss = sum(log_z[i] - logits[i, tokens[i + 1]] for i in places)
  return loss, sum(int(logits[i].argmax() == tokens[i + 1]) for i in places)


def test_the_loss_is_that_of_the_logits_on_any_mesh(tiny_model):
  """Packing, the empty sequences of a batch and z-loss do not change it."""
  model, some = tiny_model(vocab_size=264), examples(21)
  wanted = [by_hand(model, example) for example in some]
  for mesh in (MeshConfig(data=1), MeshConfig(data=2, model=2)):
    losses, trainer = evaluator(model, mesh)
    params = jax.device_put(model.params, trainer.model_shardings)
    found = losses(params, some)
    assert found.loss == pytest.approx(sum(loss for loss, _ in wanted), rel=2e-6)
    assert found.correct == sum(hits for _, hits in wanted)
    assert found.tokens == sum(len(e.targets) + 1 for e in some)
    assert (found.examples, found.too_long) == (21, 0)
  tail = TokenizedExample(np.full(LENGTH, 5), np.array([7]))
  assert losses(params, [*some, tail]) == found._replace(too_long=1)
  assert losses(params, []) == EvalLoss()


def test_sums_of_several_datasets_weigh_by_their_tokens():
  both = EvalLoss(loss=6.0, correct=1, tokens=3, examples=2) + EvalLoss(
    loss=2.0, correct=1, tokens=1, examples=1, too_long=4
  )
  assert both.as_json() == {
    'loss': 2.0, 'perplexity': pytest.approx(np.exp(2)), 'accuracy': 50.0,
    'target_tokens': 4, 'examples': 3, 'too_long': 4,
  }  # fmt: skip
