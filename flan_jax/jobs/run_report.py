"""The report of a run without held-out clusters, and the curves of any run."""

import json
from collections.abc import Mapping
from typing import Any

from flan_jax.evaluate.evaluator import Results
from flan_jax.jobs import provenance
from flan_jax.jobs.run import Data, Run
from flan_jax.report import write as write_lib
from flan_jax.runtime import json_lines, multihost
from flan_jax.train import eval_log
from flan_jax.train.run_dir import RunDir

MAX_POINTS = 500
"""Maximum number of points of a curve; each is then the mean of several log entries."""


def write(
  run: Run, data: Data, tuned: Any, metadata: Mapping[str, Any]
) -> dict[str, Any]:
  """Writes MODEL_DIR/report without a held-out evaluation; returns report.json.

  Args:
    run: context of the run.
    data: data of the run.
    tuned: tuned parameters.
    metadata: fields of report.json about the run, with 'validation' and 'curves'.
  """
  described = provenance.of_model(
    tuned, config=run.trainer.config, tokenizer=data.tokenizer
  )
  encoded = None
  if multihost.is_main_process():
    run.folder.report.mkdir(parents=True, exist_ok=True)
    made = write_lib.write(
      run.folder.report,
      Results(datasets=(), timing={}, warnings=()),
      held_out=(),
      data_digest=data.store.digest,
      seed=run.config.eval_seed,
      missing=tuple(data.store.manifest['missing']),
      data={
        'family': run.mixture.family,
        'store': str(data.store.path),
        'store_digest': data.store.digest,
        'template_seed': data.store.manifest['seed'],
      },
      provenance=provenance.of(run.text, {'tuned': described}),
      **metadata,
    )
    encoded = json.dumps(made).encode()
  sent = multihost.broadcast(encoded)
  assert sent is not None  # the main process sends its report
  return json.loads(sent)


def curves(folder: RunDir) -> dict[str, Any]:
  """Reads the curves of a run from its logs.

  Returns:
    {'train': [[step, loss]], 'validation': [[step, loss]], 'metrics': {label:
    [[step, percent]]} of the training datasets, 'held_out': {cluster: [[step,
    percent]]}}; curves without a point are left out.
  """
  found: dict[str, Any] = {'train': _train(folder)}
  losses = eval_log.read(folder.validation, lambda entry: _number(entry['loss']))
  found['validation'] = [[at, loss] for at, loss in losses.items() if loss is not None]
  found['metrics'] = _by_name(eval_log.read(folder.validation, _metrics))
  found['held_out'] = _by_name(eval_log.read(folder.evaluations, _clusters))
  return {name: curve for name, curve in found.items() if curve}


def _metrics(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
  """Label and value of each metric of an entry of validation.jsonl."""
  return [
    (label, _number(metric['value']))
    for figures in entry['datasets'].values()
    for label, metric in figures['metrics'].items()
  ]


def _clusters(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
  """Cluster and mean of each, of an entry of evaluations.jsonl."""
  return [(cluster, _number(mean)) for cluster, mean in entry['clusters'].items()]


def _number(value: Any) -> Any:
  """A number, or None; raises TypeError for anything else."""
  return None if value is None else json_lines.number(value)


def _by_name(
  points: Mapping[int, list[tuple[str, float]]],
) -> dict[str, list[list[float]]]:
  out: dict[str, list[list[float]]] = {}
  for step, found in points.items():
    for name, value in found:
      out.setdefault(name, []).append([step, value])
  return out


def _train(folder: RunDir) -> list[list[float]]:
  """The training loss by step, of the log's entries."""
  found = eval_log.read(
    folder.log,
    lambda entry: (_number(entry['loss']), json_lines.number(entry['loss_tokens'])),
  )
  entries = [(at, *entry) for at, entry in found.items() if entry[0] is not None]
  size = -(-len(entries) // MAX_POINTS) or 1
  parts = [entries[i : i + size] for i in range(0, len(entries), size)]
  return [
    [
      part[-1][0],
      sum(loss * n for _, loss, n in part) / max(sum(n for *_, n in part), 1),
    ]
    for part in parts
  ]
