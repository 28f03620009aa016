"""`flan launch`: runs a command on every host of a TPU slice."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from flan_jax.cli import dispatch
from flan_jax.errors import InputError


def run(options: argparse.Namespace) -> int:
  from flan_jax.config import checks
  from flan_jax.tpu.launch import gcloud as gcloud_lib
  from flan_jax.tpu.launch import launch as launch_lib
  from flan_jax.tpu.launch import tpu_slice

  for name, got in (
    ('--max-restarts', options.max_restarts),
    ('--grace', options.grace),
  ):
    checks.check(name, got, checks.at_least(0))
  if not re.fullmatch('[a-z]([-a-z0-9]{0,61}[a-z0-9])?', options.tpu):
    raise InputError(
      f'--tpu: got {options.tpu!r}; must be 1 to 63 of a-z, 0-9 and -, a letter first'
    )
  type = tpu_slice.accelerator_type(options.type) if options.type else None
  gcloud = gcloud_lib.Gcloud(dry_run=options.dry_run)
  if options.engine != 'tpu-vm':
    print(_manifest(options, type or '', gcloud), end='')
    return 0
  slice = tpu_slice.Slice(
    gcloud,
    options.tpu,
    zone=options.zone,
    type=type,
    project=options.project,
    provisioning=tpu_slice.Provisioning(
      spot=options.spot,
      queued=options.queued,
      runtime=options.runtime,
      arguments=tuple(options.create_arg),
    ),
    log=launch_lib.log,
  )
  job = launch_lib.Launch(
    slice,
    gcloud,
    log=launch_lib.log,
    max_restarts=options.max_restarts,
    grace_s=options.grace,
    check=check_settings,
  )
  code = 0
  try:
    if options.command:
      code = job.run(options.command)
      launch_lib.log(f'Done: exit code {code}')
    if options.stop:
      job.stop()
    if options.delete:
      launch_lib.log(f'Deleting TPU {options.tpu}')
      slice.delete()
    elif options.command:
      launch_lib.log(
        f'TPU {options.tpu} is still allocated and billed; to delete it: `flan launch '
        f'--tpu {options.tpu} --zone {options.zone} --delete`'
      )
    if not (options.command or options.stop or options.delete):
      launch_lib.Launch(slice, gcloud).run(())  # its error shows the usage
  except gcloud_lib.Failed as error:
    launch_lib.log(f'error: {error}')
    return 1
  except KeyboardInterrupt:
    launch_lib.log(
      'the run continues on the slice: rerun the same command to follow it, or add '
      '--stop to stop it'
    )
    return 130
  return code


def _manifest(options: argparse.Namespace, type: str, gcloud: Any) -> str:
  from flan_jax.tpu.launch import launch as launch_lib
  from flan_jax.tpu.launch import manifests, source_bundle

  needed = ('type', 'cluster', 'image') if options.engine == 'xpk' else ('type',)
  for name in needed:
    if getattr(options, name) is None:
      raise InputError(f'--{name}: not given; --engine={options.engine} needs it')
  commit = source_bundle.Commit(gcloud)
  job = launch_lib.make_job(options.command, commit=commit, check=check_settings)
  if job.files:
    raise InputError(
      f'--gin_file: {job.files[0]!r} is not in commit {commit.name}, which '
      f'{options.engine} installs; commit it'
    )
  workload = manifests.Workload(
    command=job.command,
    name=options.tpu,
    accelerator=type,
    zone=options.zone,
    commit=commit.name,
    spot=options.spot,
    max_restarts=options.max_restarts,
  )
  if options.engine == 'skypilot':
    return manifests.skypilot(workload, runtime=options.runtime)
  return manifests.xpk(
    workload,
    cluster=options.cluster,
    image=options.image,
    project=options.project,
    grace_s=options.grace,
  )


def check_settings(words: Sequence[str]) -> None:
  """Checks the settings of a run or an evaluation as its hosts will read them."""
  kinds: dict[tuple[str, ...], str] = {
    ('flan', 'train'): 'Run',
    ('flan', 'eval'): 'Evaluation',
  }
  kind = kinds.get(tuple(words[:2]))
  if kind is None:
    return
  from flan_jax.config import gin as gin_lib

  rest, gin = dispatch.split_gin(words[1:])
  files = dispatch.parser().parse_args(rest).gin_file
  if files:
    parsed = gin_lib.load(files, gin)
    parsed.build(kind)
    if kind == 'Run':
      parsed.bound('DecoderConfig')
    parsed.refuse_unused(words[1])
