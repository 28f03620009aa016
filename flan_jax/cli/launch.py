"""`flan launch`: runs a command on every host of a TPU slice."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from flan_jax.cli import dispatch, gin_flags
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import signals


def run(options: argparse.Namespace) -> int:
  from flan_jax.config import checks
  from flan_jax.tpu.launch import cloud_names, tpu_slice
  from flan_jax.tpu.launch import gcloud as gcloud_lib
  from flan_jax.tpu.launch import launch as launch_lib

  if options.module:
    raise InputError(
      f'--module {options.module[0]!r}: belongs to the command; give it after --, '
      f'as in `-- flan train --module {options.module[0]}`'
    )
  for name, got in (
    ('--max-restarts', options.max_restarts),
    ('--grace', options.grace),
  ):
    checks.check(name, got, checks.at_least(0))
  flags = ('tpu', 'zone', 'project', 'cluster', 'image', 'runtime')
  cloud_names.check_all((f'--{name}', getattr(options, name)) for name in flags)
  cloud_names.check_arguments(options.create_arg)
  if options.bundle and options.engine == 'tpu-vm':
    raise InputError('--bundle: belongs to --engine=xpk and --engine=skypilot')
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
    check=read_command,
    extras=_extras(options.extra),
  )
  code = 0
  try:
    if options.command:
      code = job.run(options.command)
      if not options.dry_run:
        launch_lib.log(f'Done: exit code {code}')
    if options.stop:
      job.stop()
    if options.delete:
      launch_lib.log(f'Deleting TPU {options.tpu}')
      slice.delete()
    elif options.command and not options.dry_run:
      launch_lib.log(
        f'TPU {options.tpu} is still allocated and billed; to delete it: `flan launch '
        f'--tpu {options.tpu} --zone {options.zone} --delete`'
      )
    if not (options.command or options.stop or options.delete):
      launch_lib.Launch(slice, gcloud).run(())  # its error shows the usage
  except gcloud_lib.Failed as error:
    launch_lib.log(f'error: {error}')
    return 1
  except (KeyboardInterrupt, signals.Terminated):
    launch_lib.log(
      'the run continues on the slice: rerun the same command to follow it, or add '
      '--stop to stop it'
    )
    return signals.exit_code() or 130
  return code


def _extras(names: Sequence[str]) -> tuple[str, ...]:
  """Extras of flan_jax for the hosts.

  Raises:
    InputError: if one does not exist.
  """
  from flan_jax.tpu.launch import own_code, source_bundle

  legal = own_code.known_extras()
  for name in names:
    if legal and name not in legal:
      raise InputError(
        f'--extra: got {name!r}; must be one of {", ".join(legal)}'
        + did_you_mean(name, legal)
      )
  return tuple(dict.fromkeys([*source_bundle.EXTRAS, *names]))


def _manifest(options: argparse.Namespace, type: str, gcloud: Any) -> str:
  from flan_jax.tpu.launch import launch as launch_lib
  from flan_jax.tpu.launch import manifests

  needed = ('type', 'cluster', 'image') if options.engine == 'xpk' else ('type',)
  for name in needed:
    if getattr(options, name) is None:
      raise InputError(f'--{name}: not given; --engine={options.engine} needs it')
  if options.bundle and options.dry_run:
    raise InputError('--bundle: writes the folder; leave --dry-run away')
  extras = _extras(options.extra)
  job = launch_lib.make_job(
    options.command, gcloud=gcloud, check=read_command, extras=extras
  )
  if options.bundle:
    for line in job.describe():
      launch_lib.log(line)
    where = pathlib.Path(options.bundle).absolute()
    folder = manifests.Folder(str(where), job.write(where))
    files = job.files.digest[:12]  # a tag of an image tells them too
    commit = f'{job.bundle.name}-{files}' if files else job.bundle.name
  else:
    commit, folder = _commit_alone(job, options.engine), None
  workload = manifests.Workload(
    command=job.command,
    name=options.tpu,
    accelerator=type,
    zone=options.zone,
    commit=commit,
    folder=folder,
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


def _commit_alone(job: Any, engine: str) -> str:
  """Name of the commit of a job that needs nothing else.

  Raises:
    InputError: if it needs more than an engine's manifest installs.
  """
  from flan_jax.tpu.launch import source_bundle

  bundle = job.bundle
  if not isinstance(bundle.source, source_bundle.Commit):
    raise InputError(
      f'--engine={engine}: installs a commit of a checkout, and flan_jax is installed '
      'here; give --bundle=DIR'
    )
  for package in bundle.packages:
    raise InputError(
      f'--engine={engine}: installs commit {bundle.source.name} alone, without your '
      f'package {package.wheel.name}; give --bundle=DIR'
    )
  for place in job.files.places:
    raise InputError(
      f'--engine={engine}: {place!r} is not in commit {bundle.source.name}, which it '
      'installs; give --bundle=DIR'
    )
  for extra in bundle.extras[1:]:
    raise InputError(
      f'--extra {extra}: --engine={engine} installs flan_jax[tpu]; give --bundle=DIR'
    )
  return bundle.source.name


def read_command(words: Sequence[str]) -> Any:
  """Checks a command as its hosts will read it; returns what it needs there.

  Its modules are imported, and the settings of a run or an evaluation are built.
  """
  from flan_jax.runtime import modules
  from flan_jax.tpu.launch import launch as launch_lib
  from flan_jax.tpu.launch import own_files

  named = modules.installed()
  values: list[tuple[str, str]] = []
  if list(words[:1]) == ['flan'] and len(words) > 1:
    rest, gin = gin_flags.split_gin(words[1:])
    options = dispatch.parser().parse_args(rest)
    _, more = dispatch.split_modules(gin)
    named = (*named, *options.module, *more)
    gin = dispatch.admitted(gin, options.module)
    values = _settings(options, gin)
  modules.load()
  data, warnings = own_files.data_files(values)
  return launch_lib.Request(named, tuple(data), tuple(warnings))


def _settings(options: argparse.Namespace, gin: Sequence[str]) -> list[tuple[str, str]]:
  """Builds the settings of a run or an evaluation; returns its (setting, text)."""
  from flan_jax.config import gin as gin_lib

  kinds = {'train': 'Run', 'eval': 'Evaluation', 'infer': 'Infer'}
  kind = kinds.get(options.verb)
  if kind is None or not options.gin_file:
    return []
  paths = options.gin_search_paths
  parsed = gin_lib.load(options.gin_file, gin, search_paths=paths)
  parsed.build(kind)
  if kind == 'Run':
    parsed.bound('DecoderConfig')
  parsed.refuse_unused(options.verb)
  named = {'.'.join(key): bound for key, bound in parsed.bindings.items()}
  return [
    (name, text)
    for name, bound in {**parsed.macros, **named}.items()
    for text in _texts(bound.value)
  ]


def _texts(value: Any) -> list[str]:
  """Strings in the value of a setting."""
  if isinstance(value, (list, tuple)):
    return [text for item in value for text in _texts(item)]
  return [value] if isinstance(value, str) else []
