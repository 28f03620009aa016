"""Slice: one TPU VM slice by name, made, described, reached and deleted with gcloud."""

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
    runtime: the VM image (`--version`).
    cores: cores of a chip, where the number in the type counts cores; else 1.
    chips: chips of a host in a slice of several hosts.
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
_GOING = ('CREATING', 'STARTING', 'RESTARTING', 'REIMAGING', 'REPAIRING')
_GONE = ('PREEMPTED', 'TERMINATED', 'STOPPED', 'STOPPING', 'DELETING', 'HIDDEN')
_QUEUED = ('CREATING', 'ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING')


def accelerator_type(text: str) -> str:
  """A slice as gcloud names it, from `v3-128` or from a topology, `v3:8x8`.

  Raises:
    InputError: if it is neither, or of no generation that has TPU VMs.
  """
  found = re.fullmatch(r'(\w+)-(\d+)', text)
  topology = re.fullmatch(r'(\w+):(\d+(?:x\d+){1,2})', text)
  if not (found or topology):
    raise InputError(
      f'--type: got {text!r}; must be like v3-128 or, by its topology, v3:8x8'
    )
  name = (found or topology)[1]
  name = _ALIASES.get(name, name)
  if name not in GENERATIONS:
    near = difflib.get_close_matches(name, GENERATIONS, n=1, cutoff=0)
    raise InputError(
      f'--type: got {text!r}; the generation must be one of '
      f'{", ".join(GENERATIONS)}; the nearest is {near[0]!r}'
    )
  if name != 'v2':  # whose slices are not known here
    plain = {'v5litepod': 'v5e'}.get(name, name)
    try:
      topology_lib.parse(f'{plain}{text[len((found or topology)[1]) :]}')
    except InputError as error:
      raise InputError(str(error).replace('--topology', '--type')) from None
  if found:
    return f'{name}-{int(found[2])}'
  chips = 1
  for side in topology[2].split('x'):
    chips *= int(side)
  return f'{name}-{chips * GENERATIONS[name].cores}'


def hosts(accelerator: str) -> int:
  """Hosts of a slice of this type; 1 where all chips are on one."""
  name, _, count = accelerator.rpartition('-')
  generation = GENERATIONS[name]
  chips = max(1, int(count) // generation.cores)
  if name in ('v5litepod', 'v6e') and chips <= 8:
    return 1
  return max(1, chips // generation.chips)


class Slice:
  """A slice of TPU VMs, known by its name and zone.

  Attributes:
    name, zone, project: of the slice; None for gcloud's own project.
    type: the accelerator type, as v3-128; None takes a slice that is there as it is.
    spot: whether it may be taken away at any time, for a lower price.
    queued: ask for it with a queued resource, which waits until there is one.
  """

  def __init__(
    self,
    gcloud: Gcloud,
    name: str,
    *,
    zone: str,
    type: str | None = None,
    project: str | None = None,
    spot: bool = False,
    queued: bool = False,
    runtime: str | None = None,
    create_arguments: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
    poll_s: float = 15.0,
  ):
    """See the class.

    Args:
      gcloud: what runs the commands.
      name, zone, type, project, spot, queued: see the class.
      runtime: image of the VMs; None for the one of the generation.
      create_arguments: further arguments of `create`, as --network=NAME.
      say: told what is happening.
      poll_s: seconds between two looks at a slice that is being made.
    """
    self._gcloud = gcloud
    self.name, self.zone, self.project = name, zone, project
    self.type = type
    self.spot, self.queued = spot, queued
    self._runtime = runtime
    self._create_arguments = create_arguments
    self._say = say
    self._poll_s = poll_s
    self._hosts = hosts(type) if type else 1

  @property
  def hosts(self) -> int:
    """Hosts of the slice: as described by Cloud TPU once it is there."""
    return self._hosts

  @property
  def _where(self) -> tuple[str, ...]:
    project = (f'--project={self.project}',) if self.project else ()
    return (f'--zone={self.zone}', *project)

  def _vm(self, verb: str, *more: str, dry: str = '') -> Result:
    arguments = ('compute', 'tpus', 'tpu-vm', verb, self.name, *self._where, *more)
    return self._gcloud.run(*arguments, dry=dry)

  def _queue(self, verb: str, *more: str, dry: str = '') -> Result:
    head = ('compute', 'tpus', 'queued-resources', verb, self.name)
    return self._gcloud.run(*head, *self._where, *more, dry=dry)

  def state(self) -> str | None:
    """READY, PREEMPTED, CREATING ...; None where there is no such slice.

    Raises:
      Failed: if Cloud TPU does not say, or the slice is of another type.
    """
    found = gcloud_lib.parse(self._vm('describe', '--format=json'), f'TPU {self.name}')
    if found is None:
      return None
    got = str(found.get('acceleratorType', self.type)).rpartition('/')[2]
    if self.type is not None and got != self.type:
      raise InputError(
        f'--type: got {self.type!r}; TPU {self.name} in {self.zone} is a {got}: give '
        f'--type={got}, or another --tpu'
      )
    self._hosts = len(found.get('networkEndpoints') or ()) or self._hosts
    return found.get('state')

  def ensure(self) -> None:
    """Returns once the slice is READY: reused, waited for, or made anew.

    A preempted slice keeps its name until it is deleted, so it is deleted first.

    Raises:
      NoCapacity, Failed: with gcloud's own words.
    """
    state = self.state()
    if state in _GONE:
      self._say(f'TPU {self.name} is {state}: deleting what is left of it')
      self.delete()
      state = None
    if state == 'READY':
      self._say(f'TPU {self.name} ({self.type}) is there: reused')
      return
    if state is None:
      self._create()
    if self.queued and not self._gcloud.dry_run:
      self._wait_in_queue()
    self._wait_until_ready()

  def _create(self) -> None:
    if self.type is None:
      raise InputError(
        f'--type: not given, and {self.zone} has no TPU {self.name}; as v3-128, or by '
        'its topology, v3:8x8'
      )
    runtime = self._runtime or GENERATIONS[self.type.rpartition('-')[0]].runtime
    kind = 'spot ' if self.spot else ''
    self._say(f'Creating {kind}TPU {self.name} ({self.type}) in {self.zone}')
    spot = ('--spot',) if self.spot else ()
    type = f'--accelerator-type={self.type}'
    if self.queued:
      known = self._queue_state()
      if known in _QUEUED or known == 'ACTIVE':
        return
      if known is not None:  # FAILED or SUSPENDED: its name is taken until it goes
        self.delete()
      image = f'--runtime-version={runtime}'
      more = (f'--node-id={self.name}', type, image, *spot, *self._create_arguments)
      result = self._queue('create', *more)
    else:
      image = f'--version={runtime}'
      result = self._vm('create', type, image, *spot, *self._create_arguments)
    if result.code:
      raise gcloud_lib.failure(result, f'TPU {self.name}')

  def _queue_state(self) -> str | None:
    result = self._queue('describe', '--format=json')
    found = gcloud_lib.parse(result, f'queued resource {self.name}')
    return found and found.get('state', {}).get('state')

  def _wait_in_queue(self) -> None:
    before = None
    while (state := self._queue_state()) != 'ACTIVE':
      if state not in _QUEUED:
        raise Failed(
          f'queued resource {self.name}: {state or "gone"}; `gcloud compute tpus '
          f'queued-resources describe {self.name} --zone={self.zone}` says why'
        )
      if state != before:
        self._say(f'Queued resource {self.name}: {state}')
      before = state
      time.sleep(self._poll_s)

  def _wait_until_ready(self) -> None:
    if self._gcloud.dry_run:
      return
    while (state := self.state()) != 'READY':
      if state not in _GOING:
        raise NoSlice(f'TPU {self.name}: {state or "gone"} while it was being made')
      time.sleep(self._poll_s)

  def ssh(self, command: str, *, worker: str = 'all') -> Result:
    """Runs a shell command on one host or on all, to its end."""
    return self._vm('ssh', f'--worker={worker}', f'--command={command}')

  def follow(self, command: str, *, line: Callable[[str], None]) -> Result:
    """Runs a shell command on host 0, line by line."""
    head = ('compute', 'tpus', 'tpu-vm', 'ssh', self.name, *self._where)
    return self._gcloud.stream(*head, '--worker=0', f'--command={command}', line=line)

  def copy(self, *files: str, to: str) -> Result:
    """Copies files of this machine into a folder of every host."""
    head = ('compute', 'tpus', 'tpu-vm', 'scp', *files, f'{self.name}:{to}')
    return self._gcloud.run(*head, *self._where, '--worker=all')

  def delete(self) -> None:
    """Deletes the slice and, where it was queued for, its queued resource.

    Raises:
      Failed: with gcloud's own words; a slice that is not there is no failure.
    """
    if self.queued:
      # --force takes the slice away with the request for it.
      result = self._queue('delete', '--force', '--quiet')
    else:
      result = self._vm('delete', '--quiet')
    if result.code and not re.search('NOT_FOUND|not found', result.err):
      raise gcloud_lib.failure(result, f'TPU {self.name}')


class NoSlice(Failed):
  """The slice went away."""
