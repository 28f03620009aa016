"""Training, then the held-out evaluation."""

from flan_jax.config import training
from flan_jax.evaluate import metrics
from flan_jax.jobs.held_out import HeldOutEvaluation
from flan_jax.runtime.progress import Progress
from flan_jax.train import trainer


def train_and_evaluate(
  run: training.TrainConfig, *, text: str = '', profile: int = 0, progress: Progress
) -> trainer.Outcome:
  """Trains, then evaluates the held-out clusters into MODEL_DIR/report; `flan train`.

  Args:
    run: settings.
    text: resolved configuration, kept in MODEL_DIR.
    profile: number of steps to trace into MODEL_DIR/profile.
    progress: progress output.

  Raises:
    InputError: see flan_jax.train.trainer.train.
  """
  metrics.check_declared()
  return trainer.train(
    run, text=text, profile=profile, progress=progress, evaluate=HeldOutEvaluation
  )
