"""A run as its stages see it: context, data, state."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from flan_jax.catalog.leakage import LeakageReport
from flan_jax.catalog.lineage import Lineage
from flan_jax.catalog.registry import Mixture
from flan_jax.config.training import TrainConfig
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.jobs.held_out import HeldOutEvaluation
from flan_jax.jobs.validation import Validation
from flan_jax.runtime.preemption import Stop
from flan_jax.runtime.progress import Progress
from flan_jax.train.goodput import GoodputLog
from flan_jax.train.hook import Hook
from flan_jax.train.run_dir import RunDir
from flan_jax.train.state import TrainState
from flan_jax.train.trainer import Trainer
from flan_jax.train.writers.fan_out import Writers


class Outcome(NamedTuple):
  """The result of a run.

  Attributes:
    state: the last TrainState; None if the run was interrupted.
    step: steps done.
    interrupted: whether a signal ended the run before its report.
    exit_code: exit code for the process: 130 after SIGINT, 143 after SIGTERM, else 0.
    report: content of report.json, or None without an evaluation.
  """

  state: TrainState | None
  step: int
  interrupted: bool
  report: dict[str, Any] | None
  exit_code: int = 0


@dataclasses.dataclass(kw_only=True)
class Run:
  """Context of one start of a run: what every stage uses.

  Attributes:
    config: settings, with the paths of local copies.
    given: settings as they were given, the same on all processes.
    text: resolved configuration, written to MODEL_DIR and the report.
    profile: number of steps to trace.
    progress: progress output.
    folder: MODEL_DIR.
    mixture: mixture to train on.
    held_out: held-out clusters.
    lineage: lineage of the initial model.
    trainer: train state and step on the mesh.
    stop: request to stop, as after SIGTERM.
    goodput: log of the time spent.
    writers: metric writers.
    hooks: hooks of the user's own.
    began: monotonic time of the start, in seconds.
    done: steps done.
  """

  config: TrainConfig
  given: TrainConfig
  text: str
  profile: int
  progress: Progress
  folder: RunDir
  mixture: Mixture
  held_out: tuple[str, ...]
  lineage: Lineage
  trainer: Trainer
  stop: Stop
  goodput: GoodputLog
  writers: Writers
  hooks: Sequence[Hook]
  began: float
  done: int = 0


class Data(NamedTuple):
  """Data of a run.

  Attributes:
    store: the store.
    plan: packing plan of the run.
    tokenizer: tokenizer of the store.
    leakage: report on what the mixture and the initial model share with the held-out
      clusters.
  """

  store: Store
  plan: PackingPlan
  tokenizer: Tokenizer
  leakage: LeakageReport


class Evaluations(NamedTuple):
  """Evaluations of a run, in the order in which they run.

  Attributes:
    validation: on dev of the training datasets, or None.
    held_out: on the held-out clusters, or None.
  """

  validation: Validation | None
  held_out: HeldOutEvaluation | None


class Restored(NamedTuple):
  """State that a start begins with.

  Attributes:
    state: state after `Run.done` steps.
    frozen: parameters of the frozen model, or None.
  """

  state: TrainState
  frozen: Any
