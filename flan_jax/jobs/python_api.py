"""Functions of the public API that bring several rooms together, for Python."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.prompt import Prompt
from flan_jax.config import checks, gin
from flan_jax.config.evaluation import EvalJobConfig
from flan_jax.config.training import TrainConfig
from flan_jax.data import raw_records
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.jobs.run import Outcome


def render(
  dataset: str | Dataset, example: Example | Mapping[str, Any], *, template: int = 0
) -> Prompt:
  """Renders an example of a dataset.

  >>> record = {'premise': 'It rains.', 'hypothesis': 'It is wet.', 'label': 0}
  >>> prompt = render('rte', record, template=0)
  >>> 'It rains.' in prompt.inputs, prompt.targets
  (True, 'yes')

  Args:
    dataset: a declaration, or the name of a registered one.
    example: a raw record of its source, or an example read from one.
    template: index of the template.

  Returns:
    The prompt: its `inputs` and `targets`.

  Raises:
    InputError: if there is no such dataset, or the record lacks a field.
  """
  found = registry.get(dataset) if isinstance(dataset, str) else dataset
  last = len(found.templates) - 1
  checks.check('template', template, checks.whole_or_zero)
  checks.check('template', template, checks.between(0, last))
  if not isinstance(example, Example):
    try:
      example = found.read(dict(example), 'example.0')
    except Unlabeled:
      raise InputError(f'dataset {found.name!r}: the record has no label') from None
    except raw_records.BAD as error:
      raise raw_records.bad_example(found, 'example.0', error) from None
  return prompt_lib.render(found, template, example)


def open_store(path: str | os.PathLike) -> Store:
  """Opens a store of rendered examples, as `flan materialize` writes it.

  Raises:
    InputError: if it is no store, or one of another version.
  """
  return Store.open(path)


def load_config(
  gin_files: str | Sequence[str], bindings: Sequence[str] = ()
) -> TrainConfig | EvalJobConfig:
  """Reads the settings of a run, or of an evaluation, from gin files.

  >>> config = load_config('gin/runs/demo.gin', ['TRAIN_STEPS=20'])
  >>> config.train_steps, config.mixture
  (20, 'microworld_held_out_commonsense')

  Args:
    gin_files: gin files, shipped or your own; later ones override earlier ones.
    bindings: `NAME=VALUE` settings that override the files.

  Returns:
    The settings of a training run if the files bind `Run`, else of an evaluation.

  Raises:
    InputError: at a wrong name or value; names the place and the nearest legal one.
  """
  files = [gin_files] if isinstance(gin_files, str) else list(gin_files)
  given = [bindings] if isinstance(bindings, str) else list(bindings)
  parsed = gin.load(files, given)
  trains = any(selector == 'Run' for selector, _ in parsed.bindings)
  config = parsed.build('Run' if trains else 'Evaluation')
  fields = parsed.bound('DecoderConfig') if trains else {}
  parsed.refuse_unused('train' if trains else 'eval')
  if not trains:
    return config
  from flan_jax.jobs import decoder_fields

  with parsed.located():
    return decoder_fields.with_decoder_fields(config, fields)


def train_and_evaluate(
  config: TrainConfig, *, progress: Progress | None = None
) -> 'Outcome':
  """Trains a model, then evaluates it on the held-out clusters, as `flan train`.

  Args:
    config: settings, as of `load_config`.
    progress: progress output; None prints it to standard error.

  Returns:
    The last state, the steps done, and the report. After Ctrl-C or SIGTERM the step is
    saved, and `interrupted` is true.

  Raises:
    InputError: if settings, data and devices do not fit together.
  """
  from flan_jax.jobs import train_and_evaluate as job

  text = gin.Config().text(config)
  return job.train_and_evaluate(config, text=text, progress=progress or Progress())


def evaluate_checkpoint(
  config: EvalJobConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
  """Evaluates a checkpoint on held-out clusters, as `flan eval`.

  Args:
    config: settings, as of `load_config`.
    progress: progress output; None prints it to standard error.

  Returns:
    The content of report.json.

  Raises:
    InputError: at an unknown cluster or dataset, or a path that is not a checkpoint.
  """
  from flan_jax.jobs import evaluate_checkpoint as job

  text = gin.Config().text(config)
  return job.evaluate_checkpoint(config, text=text, progress=progress or Progress())
