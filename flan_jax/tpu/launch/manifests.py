"""Manifests of a job for other engines: an xpk script for GKE, a SkyPilot task.

Both are text for the user to pass to the engine; this module does not contact it. Flags
and fields are those of xpk 1.16 and SkyPilot 0.14. Values are quoted by `shlex`, `json`
and PyYAML, never by hand. Standard library until a task is written.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.runtime import yaml_text
from flan_jax.tpu.launch import installer, quoting, tpu_slice
from flan_jax.tpu.launch.launch import RESTART, host_command


class Folder(NamedTuple):
  """A folder that has all that the hosts install.

  Attributes:
    path: its path.
    wheels: file name of a wheel -> its requirement, as `flan_jax[tpu]`.
  """

  path: str
  wheels: Mapping[str, str]


class Workload(NamedTuple):
  """One command on one slice.

  Attributes:
    command: the command.
    name: name of the workload.
    accelerator: type of the slice.
    zone: zone of Google Cloud.
    commit: commit to install, or the identity of `folder`.
    folder: wheels and files to install; None for the commit alone.
    spot: use a spot slice, which may be preempted.
    max_restarts: maximum number of restarts; SkyPilot does not count preemptions.
  """

  command: Sequence[str]
  name: str
  accelerator: str
  zone: str
  commit: str
  folder: Folder | None = None
  spot: bool = False
  max_restarts: int = 20

  @property
  def host_command(self) -> str:
    """The command of one host: one line of ASCII for bash.

    xpk copies it into YAML and Kubernetes expands it, both without quoting.
    """
    hosts = tpu_slice.hosts(self.accelerator)
    return quoting.command_line(host_command(self.command, hosts))


def _check_name(text: str) -> str:
  if not re.fullmatch(r'[a-z]([a-z0-9-]{0,36}[a-z0-9])?', text):
    raise InputError(
      f'--tpu: got {text!r}; must be a Kubernetes name: at most 38 of a-z, 0-9 and -; '
      f'the nearest is {re.sub("[^a-z0-9-]+", "-", text.lower()).strip("-")!r}'
    )
  return text


_COMMIT_CONTEXT = """\
context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
git archive {commit} | tar -x -C "$context\""""


def xpk(
  workload: Workload,
  *,
  cluster: str,
  image: str,
  project: str | None = None,
  grace_s: int = 120,
) -> str:
  """A shell script that builds an image and creates an xpk workload.

  xpk turns the workload into a JobSet. It restarts on exit code 143, which is one of
  xpk's own restartable codes, and on a preempted node.

  Args:
    workload: the workload, in the zone of the cluster; xpk supports v4 and later. Spot
      is only mentioned in a comment: on GKE, the node pool of the cluster is spot.
    cluster: an existing cluster (`xpk cluster create --tpu-type=... [--spot]`).
    image: registry path to push to, without a tag.
    project: project of the cluster.
    grace_s: seconds between SIGTERM and SIGKILL.

  Raises:
    InputError: if GKE does not have the generation, or does not allow the name.
  """
  accelerator = workload.accelerator
  if accelerator.startswith(('v2-', 'v3-')):
    raise InputError(
      f'--type: got {accelerator!r}; xpk and GKE have v4 and later: use '
      '--engine=tpu-vm, or --type=v4-128'
    )
  tagged = f'{image}:{workload.commit}'
  flags = {
    '--cluster': cluster,
    '--workload': _check_name(workload.name),
    **({'--project': project} if project else {}),
    '--zone': workload.zone,
    '--tpu-type': accelerator,
    '--num-slices': '1',
    '--docker-image': tagged,
    '--max-restarts': str(workload.max_restarts),
    '--restart-on-exit-codes': str(RESTART),
    '--termination-grace-period-seconds': str(grace_s),
    '--command': workload.host_command,
  }
  lines = ' \\\n'.join(
    f'  {flag}={shlex.quote(value)}' for flag, value in flags.items()
  )
  kind = f'{accelerator} spot' if workload.spot else accelerator
  folder = workload.folder
  context = _COMMIT_CONTEXT.format(commit=shlex.quote(workload.commit))
  if folder:
    context = f'context={shlex.quote(folder.path)}'
  tools = 'docker' if folder else 'git, docker'
  about = f'{workload.name}: one workload on a {kind} slice of a GKE cluster.'
  dockerfile = ' \\\n  '.join(map(shlex.quote, _dockerfile(folder)))
  return f"""\
#!/usr/bin/env bash
{quoting.comment(about)}
# Needs {tools} and xpk (pip install xpk), signed in to the project.
set -euo pipefail

{context}
printf '%s\\n' \\
  {dockerfile} > "$context/Dockerfile"
docker build --tag {shlex.quote(tagged)} "$context"
docker push {shlex.quote(tagged)}

xpk workload create \\
{lines}
"""


def _dockerfile(folder: Folder | None) -> list[str]:
  """Lines of a Dockerfile; pip gets a JSON list, which no shell reads."""
  wheels = installer.arguments(folder.wheels, '/flan/') if folder else ['/flan[tpu]']
  pip = ['pip', 'install', '--no-cache-dir', '--constraint', '/flan/constraints.txt']
  lines = [
    f'FROM python:{installer.PYTHON}-slim',
    'COPY . /flan',
    f'RUN {json.dumps([*pip, *wheels])}',
  ]
  return [*lines, 'WORKDIR /flan/files'] if folder else lines


def skypilot(workload: Workload, *, runtime: str | None = None) -> str:
  """The YAML of a task for `sky jobs launch`, which gets, restarts and frees a slice.

  SkyPilot treats a slice as one node and runs `setup` and `run` on all of its hosts.

  Args:
    workload: the workload; SkyPilot sends its folder, or else the working directory,
      which must be the checkout at the commit.
    runtime: VM image; None for the default of the generation.
  """
  name, commit = workload.name, workload.commit
  generation = workload.accelerator.rpartition('-')[0]
  region = workload.zone.rpartition('-')[0]
  folder = workload.folder
  wheels = "'.[tpu]'"
  about = f'{name}: commit {commit}; `sky jobs launch FILE` from the checkout at it.'
  if folder:
    wheels = installer.quoted(folder.wheels, './')
    about = f'{name}: {commit}; `sky jobs launch FILE`.'
  into = 'cd files\n' if folder else ''
  task = {
    'name': _check_name(name),
    'workdir': folder.path if folder else '.',
    'resources': {
      'infra': f'gcp/{region}/{workload.zone}',
      'accelerators': f'tpu-{workload.accelerator}:1',
      'accelerator_args': {
        'runtime_version': runtime or tpu_slice.GENERATIONS[generation].runtime,
        'tpu_vm': True,
      },
      'use_spot': workload.spot,
      'job_recovery': {
        'max_restarts_on_errors': workload.max_restarts,
        'recover_on_exit_codes': [RESTART],
      },
    },
    'setup': f'set -e\n{installer.install(wheels, "~/flan-venv")}\n',
    'run': f'export PATH="$HOME/flan-venv/bin:$PATH"\n{into}{workload.host_command}\n',
  }
  return f'{quoting.comment(about)}\n{yaml_text.dump(task)}'
