"""One TPU VM slice: created, described, accessed and deleted with gcloud."""

import dataclasses
import difflib
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.launch import gcloud as gcloud_lib
from flan_jax.tpu.launch.gcloud import Failed, Gcloud, Result
from flan_jax.tpu.plan import topology as topology_lib


class Generation(NamedTuple):
  """One generation of TPUs, as Cloud TPU names it.

  Attributes:
    runtime: VM image (`--version`).
    cores: cores per chip if the number in the type counts cores; else 1.
    chips: chips per host in a slice of several hosts.
  """

  runtime: str
  cores: int
  chips: int


GENERATIONS = {
  'v2': Generation('tpu-ubuntu2204-base', 2, 4),
  'v3': Generation('tpu-ubuntu2204-base', 2, 4),
  'v4': Generation('tpu-ubuntu2204-base', 2, 4),
  'v5litepod': Generation('v2-alpha-tpuv5-lite', 1, 4),
  'v5p': Generation('v2-alpha-tpuv5', 2, 4),
  'v6e': Generation('v2-alpha-tpuv6e', 1, 4),
}
"""Name in an accelerator type -> generation (cloud.google.com/tpu/docs/runtimes)."""

_ALIASES = {'v5e': 'v5litepod', 'v5lite': 'v5litepod'}
_STARTING_STATES = ('CREATING', 'STARTING', 'RESTARTING', 'REIMAGING', 'REPAIRING')
_DEAD_STATES = ('PREEMPTED', 'TERMINATED', 'STOPPED', 'STOPPING', 'DELETING', 'HIDDEN')
_QUEUED_STATES = ('CREATING', 'ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING')


def accelerator_type(text: str) -> str:
  """Returns gcloud's name of a slice given as `v3-128` or as a topology, `v3:8x8`.

  Raises:
    InputError: if `text` is neither, or the generation has no TPU VMs.
  """
  found = re.fullmatch(r'(\w+)-(\d+)', text)
  topology = re.fullmatch(r'(\w+):(\d+(?:x\d+){1,2})', text)
  either = found or topology
  if either is None:
    raise InputError(
      f'--type: got {text!r}; must be like v3-128 or, by its topology, v3:8x8'
    )
  name = either[1]
  name = _ALIASES.get(name, name)
  if name not in GENERATIONS:
    near = difflib.get_close_matches(name, GENERATIONS, n=1, cutoff=0)
    raise InputError(
      f'--type: got {text!r}; the generation must be one of '
      f'{", ".join(GENERATIONS)}; the nearest is {near[0]!r}'
    )
  if name != 'v2':  # its topologies are not known here
    plain = {'v5litepod': 'v5e'}.get(name, name)
    try:
      topology_lib.parse(f'{plain}{text[len(either[1]) :]}')
    except InputError as error:
      raise InputError(str(error).replace('--topology', '--type')) from None
  if found:
    return f'{name}-{int(found[2])}'
  chips = 1
  for side in either[2].split('x'):
    chips *= int(side)
  return f'{name}-{chips * GENERATIONS[name].cores}'


def hosts(accelerator: str) -> int:
  """Number of hosts of a slice of this type."""
  name, _, count = accelerator.rpartition('-')
  generation = GENERATIONS[name]
  chips = max(1, int(count) // generation.cores)
  if name in ('v5litepod', 'v6e') and chips <= 8:
    return 1
  return max(1, chips // generation.chips)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provisioning:
  """Settings of the creation of a slice.

  Attributes:
    spot: create a spot slice, which is cheaper and may be preempted at any time.
    queued: request the slice with a queued resource, which waits for capacity.
    runtime: VM image; None for the default of the generation.
    arguments: more arguments of `create`, e.g. --network=NAME.
  """

  spot: bool = False
  queued: bool = False
  runtime: str | None = None
  arguments: tuple[str, ...] = ()


class Slice:
  """A slice of TPU VMs, identified by name and zone.

  Attributes:
    name, zone, project: identity of the slice; a project of None is gcloud's default.
    type: accelerator type, e.g. v3-128; None accepts an existing slice of any type.
    provisioning: settings of its creation.
  """

  def __init__(
    self,
    gcloud: Gcloud,
    name: str,
    *,
    zone: str,
    type: str | None = None,
    project: str | None = None,
    provisioning: Provisioning = Provisioning(),
    log: Callable[[str], None] = print,
    poll_s: float = 15.0,
  ):
    """See the class.

    Args:
      gcloud: runner of gcloud commands.
      name, zone, type, project, provisioning: see the class.
      log: called with each status line.
      poll_s: seconds between two polls of a slice that is being created.
    """
    self._gcloud = gcloud
    self.name, self.zone, self.project = name, zone, project
    self.type = type
    self.provisioning = provisioning
    self._log = log
    self._poll_s = poll_s
    self._hosts = hosts(type) if type else 1

  @property
  def hosts(self) -> int:
    """Number of hosts: by type, or as described by Cloud TPU once the slice exists."""
    return self._hosts

  @property
  def _where(self) -> tuple[str, ...]:
    project = (f'--project={self.project}',) if self.project else ()
    return (f'--zone={self.zone}', *project)

  def _vm(self, verb: str, *more: str, dry_output: str = '') -> Result:
    arguments = ('compute', 'tpus', 'tpu-vm', verb, self.name, *self._where, *more)
    return self._gcloud.run(*arguments, dry_output=dry_output)

  def _queue(self, verb: str, *more: str, dry_output: str = '') -> Result:
    head = ('compute', 'tpus', 'queued-resources', verb, self.name)
    return self._gcloud.run(*head, *self._where, *more, dry_output=dry_output)

  def state(self) -> str | None:
    """Returns READY, PREEMPTED, CREATING ...; None if the slice does not exist.

    Raises:
      Failed: if gcloud fails.
      InputError: if the slice has another type.
    """
    found = gcloud_lib.parse(self._vm('describe', '--format=json'), f'TPU {self.name}')
    if found is None:
      return None
    got = str(found.get('acceleratorType', self.type)).rpartition('/')[2]
    if self.type is not None and got != self.type:
      raise InputError(
        f'--type: got {self.type!r}; TPU {self.name} in {self.zone} is a {got}: use '
        f'--type={got}, or another --tpu'
      )
    self._hosts = len(found.get('networkEndpoints') or ()) or self._hosts
    return found.get('state')

  def ensure(self) -> None:
    """Reuses, waits for or creates the slice; returns once it is READY.

    A preempted slice keeps its name until it is deleted, so it is deleted first.

    Raises:
      NoCapacity: when the zone has no free slice.
      Failed: when gcloud fails.
    """
    state = self.state()
    if state in _DEAD_STATES:
      self._log(f'TPU {self.name} is {state}: deleting it')
      self.delete()
      state = None
    if state == 'READY':
      self._log(f'TPU {self.name} ({self.type}) exists: reusing it')
      return
    if state is None:
      self._create()
    if self.provisioning.queued and not self._gcloud.dry_run:
      self._wait_in_queue()
    self._wait_until_ready()

  def _create(self) -> None:
    if self.type is None:
      raise InputError(
        f'--type: not given, and {self.zone} has no TPU {self.name}; pass a type like '
        'v3-128, or a topology like v3:8x8'
      )
    chosen = self.provisioning
    runtime = chosen.runtime or GENERATIONS[self.type.rpartition('-')[0]].runtime
    kind = 'spot ' if chosen.spot else ''
    self._log(f'Creating {kind}TPU {self.name} ({self.type}) in {self.zone}')
    type = f'--accelerator-type={self.type}'
    more = (*(('--spot',) if chosen.spot else ()), *chosen.arguments)
    if chosen.queued:
      state = self._queue_state()
      if state in _QUEUED_STATES or state == 'ACTIVE':
        return
      if state is not None:  # FAILED or SUSPENDED: keeps its name until deleted
        self.delete()
      image = f'--runtime-version={runtime}'
      node = f'--node-id={self.name}'
      result = self._queue('create', node, type, image, *more)
    else:
      image = f'--version={runtime}'
      result = self._vm('create', type, image, *more)
    if result.code:
      raise gcloud_lib.failure(result, f'TPU {self.name}')

  def _queue_state(self) -> str | None:
    result = self._queue('describe', '--format=json')
    found = gcloud_lib.parse(result, f'queued resource {self.name}')
    return found.get('state', {}).get('state') if found else None

  def _wait_in_queue(self) -> None:
    previous = None
    while (state := self._queue_state()) != 'ACTIVE':
      if state not in _QUEUED_STATES:
        raise Failed(
          f'queued resource {self.name}: {state or "gone"}; see `gcloud '
          f'compute tpus queued-resources describe {self.name} --zone={self.zone}`'
        )
      if state != previous:
        self._log(f'Queued resource {self.name}: {state}')
      previous = state
      time.sleep(self._poll_s)

  def _wait_until_ready(self) -> None:
    if self._gcloud.dry_run:
      return
    while (state := self.state()) != 'READY':
      if state not in _STARTING_STATES:
        raise NoSlice(f'TPU {self.name}: {state or "gone"} while being created')
      time.sleep(self._poll_s)

  def ssh(self, command: str, *, worker: str = 'all') -> Result:
    """Runs a shell command on one host or on all hosts, to completion."""
    return self._vm('ssh', f'--worker={worker}', f'--command={command}')

  def follow(self, command: str, *, line: Callable[[str], None]) -> Result:
    """Runs a shell command on host 0 and passes on its output line by line."""
    head = ('compute', 'tpus', 'tpu-vm', 'ssh', self.name, *self._where)
    return self._gcloud.stream(*head, '--worker=0', f'--command={command}', line=line)

  def copy(self, *files: str, to: str) -> Result:
    """Copies local files into a folder of every host."""
    head = ('compute', 'tpus', 'tpu-vm', 'scp', *files, f'{self.name}:{to}')
    return self._gcloud.run(*head, *self._where, '--worker=all')

  def delete(self) -> None:
    """Deletes the slice and, if it was queued, its queued resource.

    Raises:
      Failed: if gcloud fails for another reason than that the slice does not exist.
    """
    if self.provisioning.queued:
      # --force deletes the slice together with its queued resource.
      result = self._queue('delete', '--force', '--quiet')
    else:
      result = self._vm('delete', '--quiet')
    if result.code and not re.search('NOT_FOUND|not found', result.err):
      raise gcloud_lib.failure(result, f'TPU {self.name}')


class NoSlice(Failed):
  """The slice was preempted or deleted."""
