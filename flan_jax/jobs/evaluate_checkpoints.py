"""Evaluation of several checkpoints in one start; `flan eval` with CHECKPOINTS."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax import __version__
from flan_jax.checkpoints import weights
from flan_jax.config.evaluation import EvalJobConfig
from flan_jax.errors import InputError
from flan_jax.evaluate import eval_data
from flan_jax.jobs import evaluate_checkpoint, measure, model_source
from flan_jax.jobs.evaluate_checkpoint import Leakage, Shared
from flan_jax.runtime import atomic_file, lock, multihost
from flan_jax.runtime.preemption import Stopped
from flan_jax.runtime.progress import Progress

STAMP = 'evaluated.json'
"""File beside a report: the settings, data and weights that it was made with."""

_ELSEWHERE = ('checkpoint', 'checkpoints', 'output_dir', 'mesh')
"""Settings that a finished report does not depend on, or that the stamp has apart."""


class Outcome(NamedTuple):
  """The evaluations of a start.

  Attributes:
    finished: folders of the reports, in the order of CHECKPOINTS.
    failed: checkpoint -> the error in one line.
  """

  finished: dict[str, pathlib.Path]
  failed: dict[str, str]


def evaluate_checkpoints(
  evaluation: EvalJobConfig,
  *,
  text: Callable[[EvalJobConfig], str],
  progress: Progress,
  on_batch: Callable[[], None] = lambda: None,
) -> Outcome:
  """Evaluates every checkpoint of CHECKPOINTS into a folder of its own.

  Data, prompts, compiled programs and the base are shared. A report that the same
  settings, data and weights have made is kept; a checkpoint that fails leaves the
  others as they are.

  Args:
    evaluation: settings.
    text: settings of one evaluation -> resolved configuration, for its report.
    progress: progress output.
    on_batch: called between two batches, equally often on every process.

  Raises:
    InputError: before the first evaluation, at a bad setting or checkpoint.
  """
  names = named(model_source.expanded(evaluation.checkpoints))
  with lock.held_by_main('OUTPUT_DIR', evaluation.output_dir):
    return _evaluate_each(
      evaluation, names, text=text, progress=progress, on_batch=on_batch
    )


def _evaluate_each(
  evaluation: EvalJobConfig,
  names: Mapping[str, str],
  *,
  text: Callable[[EvalJobConfig], str],
  progress: Progress,
  on_batch: Callable[[], None],
) -> Outcome:
  """Evaluates checkpoints into the folders that `names` gives them."""
  shared = _shared(evaluation, names, progress=progress)
  finished, failed = {}, {}
  for i, (path, name) in enumerate(names.items(), 1):
    out = pathlib.Path(evaluation.output_dir, name)
    one = dataclasses.replace(
      evaluation, checkpoint=path, checkpoints=(), output_dir=str(out)
    )
    stamp = _stamp(one, shared)
    if _is_finished(out, stamp, progress=progress):
      progress.stage(f'{i} of {len(names)}: {path} is evaluated already, in {out}')
      finished[path] = out
      continue
    progress.stage(f'{i} of {len(names)}: {path} into {out}')
    if multihost.is_main_process():
      (out / STAMP).unlink(missing_ok=True)  # of the report that this one replaces
    try:
      evaluate_checkpoint.evaluate_checkpoint(
        one, text=text(one), progress=progress, on_batch=on_batch, shared=shared
      )
    except Stopped:
      raise
    except Exception as error:
      if not multihost.is_single_process():
        raise  # the others may be in the middle of a computation
      failed[path] = ' '.join(f'{_kind(error)}{error}'.split())[:400]
      progress.line(f'failed: {path}: {failed[path]}')
      continue
    finally:
      model_source.discard(path, out=out)
    if multihost.is_main_process():
      atomic_file.write_json(out / STAMP, stamp)
    finished[path] = out
  if shared.answers is not None:
    shared.answers.close() if failed else shared.answers.remove()
  return Outcome(finished, failed)


def _kind(error: Exception) -> str:
  return '' if isinstance(error, InputError) else f'{type(error).__name__}: '


def _shared(
  evaluation: EvalJobConfig, checkpoints: Iterable[str], *, progress: Progress
) -> Shared:
  """Checks the settings and every checkpoint, and opens the data."""
  checkpoints = tuple(checkpoints)
  datasets = evaluate_checkpoint.requested(evaluation, checkpoints)
  leakage: dict[str | None, Leakage] = {
    path: evaluate_checkpoint.check_leakage(
      dataclasses.replace(evaluation, checkpoint=path, checkpoints=()), datasets
    )
    for path in checkpoints
  }
  data = evaluate_checkpoint.open_data(evaluation, datasets, progress=progress)
  for path in (*checkpoints, *filter(None, [evaluation.base_checkpoint])):
    tokenizer = model_source.tokenizer(path, evaluation.tokenizer)
    if tokenizer is not None:
      found = {f'model {path!r}': tokenizer}
      measure.check(data.datasets, evaluation.evaluate, found)
  examples = eval_data.remembered(data.examples)
  return Shared(datasets, dataclasses.replace(data, examples=examples), leakage)


def named(paths: Sequence[str]) -> dict[str, str]:
  """Checkpoint -> name of its folder: the last parts of its path that tell it apart.

  Of two paths of one model, the first is kept.

  >>> named(['runs/x@100', 'models/base', 'a/y/model', 'b/y/model'])
  {'runs/x@100': 'x@100', 'models/base': 'base', 'a/y/model': 'a-y', 'b/y/model': 'b-y'}
  """
  models: dict[tuple[str, ...], str] = {}
  for path in paths:
    models.setdefault(_parts(path), path)
  found = {}
  for own, path in models.items():
    others = [other for other in models if other != own]
    count = 1
    while count < len(own) and any(own[-count:] == o[-count:] for o in others):
      count += 1
    found[path] = '-'.join(own[-count:])
  return found


def _parts(path: str) -> tuple[str, ...]:
  """Parts of a path that name a model."""
  pure = pathlib.PurePath(path if '://' in path else pathlib.Path(path).absolute())
  pure = pure.with_suffix('') if pure.suffix == '.gguf' else pure
  parts = tuple(part.strip(':') for part in pure.parts if part != '/')
  return parts[:-1] if parts[-1] == 'model' and len(parts) > 1 else parts


# Finished reports.


def _stamp(one: EvalJobConfig, shared: Shared) -> dict[str, Any]:
  """Facts that a report depends on."""
  path = one.checkpoint
  assert path is not None
  settings = {
    name: value
    for name, value in dataclasses.asdict(one).items()
    if name not in _ELSEWHERE
  }
  facts = {
    'version': __version__,
    'checkpoint': path,
    'weights': multihost.broadcast_from_main(lambda: model_source.identity(path)),
    'data': [shared.data.digest, shared.data.where],
    **settings,
  }
  return json.loads(json.dumps(facts, default=str))


def _is_finished(
  out: pathlib.Path, stamp: dict[str, Any], *, progress: Progress
) -> bool:
  """Returns whether a report was made with the same facts; says what has changed."""

  def different() -> list[str] | None:
    if not (out / STAMP).is_file() or not (out / 'report.json').is_file():
      return None
    before = weights.read_object(out / STAMP)
    return [name for name in {**before, **stamp} if before.get(name) != stamp.get(name)]

  found = multihost.broadcast_from_main(different)
  if found:
    progress.line(
      f'{out}: was made with other {", ".join(found)}; it is evaluated again'
    )
  return found == []
