"""The same job for other engines: a script for xpk on GKE, a task for SkyPilot.

Both are text to read, keep and hand to the engine; nothing here talks to it. Flags and
fields are those of xpk 1.16 and SkyPilot 0.14. Standard library only.
"""

import json
import re
import shlex
from collections.abc import Sequence

from flan_jax.errors import InputError
from flan_jax.tpu.launch import tpu_slice
from flan_jax.tpu.launch.launch import PYTHON, RESTART, on_hosts


def _words(words: Sequence[str], accelerator: str) -> list[str]:
  return on_hosts(words, tpu_slice.hosts(accelerator))


def _name(text: str) -> str:
  if not re.fullmatch(r'[a-z]([a-z0-9-]{0,36}[a-z0-9])?', text):
    raise InputError(
      f'--tpu: got {text!r}; must be at most 38 of a-z, 0-9 and -, as Kubernetes names '
      f'are; the nearest is {re.sub("[^a-z0-9-]+", "-", text.lower()).strip("-")!r}'
    )
  return text


def xpk(
  words: Sequence[str],
  *,
  name: str,
  accelerator: str,
  zone: str,
  commit: str,
  cluster: str,
  image: str,
  project: str | None = None,
  spot: bool = False,
  max_restarts: int = 20,
  grace_s: int = 120,
) -> str:
  """A shell script: builds the image of a commit, then one xpk workload.

  xpk makes a JobSet of it. The workload starts again on exit code 143, which xpk counts
  among its restartable ones anyway, and on a preempted node.

  Args:
    words: the command.
    name: of the workload.
    accelerator: type of the slice; xpk knows v4 and later.
    zone, project: of the cluster.
    commit: to build from.
    cluster: made before, with `xpk cluster create --tpu-type=... [--spot]`.
    image: registry path to push to, without a tag.
    spot: said in a comment: on GKE it is the cluster's node pool that is spot.
    max_restarts: of the workload.
    grace_s: seconds between SIGTERM and SIGKILL.

  Raises:
    InputError: if the generation or the name is none of GKE's.
  """
  if accelerator.startswith(('v2-', 'v3-')):
    raise InputError(
      f'--type: got {accelerator!r}; xpk and GKE have v4 and later: --engine=tpu-vm, '
      'or --type=v4-128'
    )
  command = shlex.join(_words(words, accelerator))
  tagged = f'{image}:{commit}'
  flags = {
    '--cluster': cluster,
    '--workload': _name(name),
    **({'--project': project} if project else {}),
    '--zone': zone,
    '--tpu-type': accelerator,
    '--num-slices': '1',
    '--docker-image': tagged,
    '--max-restarts': str(max_restarts),
    '--restart-on-exit-codes': str(RESTART),
    '--termination-grace-period-seconds': str(grace_s),
    '--command': command,
  }
  lines = ' \\\n'.join(
    f'  {flag}={shlex.quote(value)}' for flag, value in flags.items()
  )
  kind = f'{accelerator} spot' if spot else accelerator
  return f"""\
#!/usr/bin/env bash
# {name}: one workload on a {kind} slice of the GKE cluster {cluster}.
# Needs git, docker and xpk (pip install xpk), signed in to the project.
set -euo pipefail

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
git archive {commit} | tar -x -C "$context"
cat > "$context/Dockerfile" <<'END'
FROM python:{PYTHON}-slim
COPY . /flan
RUN pip install --no-cache-dir --constraint /flan/constraints.txt '/flan[tpu]'
END
docker build --tag {shlex.quote(tagged)} "$context"
docker push {shlex.quote(tagged)}

xpk workload create \\
{lines}
"""


def skypilot(
  words: Sequence[str],
  *,
  name: str,
  accelerator: str,
  zone: str,
  commit: str,
  spot: bool = False,
  runtime: str | None = None,
  max_restarts: int = 20,
) -> str:
  """A task for `sky jobs launch`, as YAML: found, restarted and given back by SkyPilot.

  A pod slice is one node to SkyPilot; it runs `setup` and `run` on every host of it.

  Args:
    words: the command.
    name: of the job.
    accelerator: type of the slice.
    zone: of Google Cloud.
    commit: said in a comment; the working directory is what is sent.
    spot: whether a slice that may be preempted is taken.
    runtime: image of the VMs; None for the one of the generation.
    max_restarts: on errors of the command; preemptions are not counted.
  """
  command = shlex.join(_words(words, accelerator))
  generation = accelerator.rpartition('-')[0]
  region = zone.rpartition('-')[0]
  runtime = runtime or tpu_slice.GENERATIONS[generation].runtime
  return f"""\
# {name}: commit {commit}; `sky jobs launch FILE` from the checkout at that commit.
name: {json.dumps(_name(name))}
workdir: .
resources:
  infra: {json.dumps(f'gcp/{region}/{zone}')}
  accelerators: {json.dumps(f'tpu-{accelerator}:1')}
  accelerator_args:
    runtime_version: {json.dumps(runtime)}
    tpu_vm: true
  use_spot: {json.dumps(spot)}
  job_recovery:
    max_restarts_on_errors: {max_restarts}
    recover_on_exit_codes: [{RESTART}]
setup: |
  set -e
  if [ ! -x ~/.local/bin/uv ]; then curl -LsSf https://astral.sh/uv/install.sh | sh; fi
  ~/.local/bin/uv venv --quiet --clear --python {PYTHON} ~/flan-venv
  ~/.local/bin/uv pip install --quiet --python ~/flan-venv/bin/python \\
    --constraint constraints.txt '.[tpu]'
run: |
  export PATH="$HOME/flan-venv/bin:$PATH"
  {command}
"""
