"""Builds the parts of a store on Apache Beam (extra `beam`).

The parts are the same functions of names and files that `flan_jax.runtime.worker_pool`
runs, so the store is the same to the byte. Beam's workers must see the store's folder
and the raw data under the same paths: on several machines, a network file system.
"""

from collections.abc import Sequence

from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime.worker_pool import Call, Report

RUNNERS = (
  'DirectRunner',
  'PrismRunner',
  'FlinkRunner',
  'SparkRunner',
  'PortableRunner',
  'DataflowRunner',
)


def _quiet(*_) -> None:
  """Ignores the progress of parts on Beam's workers."""


def _work(call: Call) -> int:
  call(_quiet)
  return 1


def run(calls: Sequence[Call], *, runner: str, report: Report) -> None:
  """Runs every call in one Beam pipeline and waits for its end.

  Args:
    calls: parts to build.
    runner: one of RUNNERS; its own flags come from its environment.
    report: receives the progress of each call once the pipeline has finished.

  Raises:
    InputError: if Beam is not installed, the runner is unknown, or a call raised one.
  """
  if runner not in RUNNERS:
    raise InputError(
      f'runner {runner!r}: must be one of {", ".join(RUNNERS)}'
      + did_you_mean(runner, RUNNERS)
    )
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ModuleNotFoundError as error:
    raise InputError(
      f"module {error.name!r}: not installed; pip install 'flan_jax[beam]'"
    ) from None
  if not calls:
    return
  try:
    with apache_beam.Pipeline(runner, PipelineOptions([])) as pipeline:
      parts = pipeline | apache_beam.Create(list(calls)) | apache_beam.Reshuffle()
      _ = parts | apache_beam.Map(_work)
  except Exception as error:
    # Beam raises its own class, with the worker's traceback as text.
    raise InputError(f'runner {runner!r}: {_reason(error)}') from error
  for call in calls:
    call(report)  # finished: it only reports


def _reason(error: Exception) -> str:
  """Extracts a worker's message from a Beam error."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  named = [line for line in lines if 'InputError' in line or 'OSError' in line]
  text = (named or lines or [type(error).__name__])[-1]
  return text.removeprefix('flan_jax.errors.InputError: ')
