"""`flan plan`: compiles a step of a run for a TPU slice without the hardware.

A plan states whether the step fits, its memory by purpose, its transfers by mesh axis,
and the resources of the whole run. Times are modeled, not measured.
"""

import dataclasses
from typing import Any, NamedTuple

from flan_jax.config import decoder
from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.tpu.plan import cost_model, lowering
from flan_jax.tpu.plan import memory as memory_lib
from flan_jax.tpu.plan import topology as topology_lib
from flan_jax.tpu.plan.cost_model import Footprint, Roofline, Step
from flan_jax.tpu.plan.interconnect import Links
from flan_jax.tpu.plan.lowering import TooLarge
from flan_jax.tpu.plan.memory import Memory
from flan_jax.tpu.plan.request import PlanRequest
from flan_jax.tpu.plan.topology import Topology

GIB = 2**30

PAPER_HOURS = 60
"""Duration of the paper's run: 30k steps on 128 cores of TPU v3 (section 2.4)."""

PRETRAINING = (451, 26)
"""MWh and tonnes CO2e of the paper's pretrained model (environmental remarks)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assumptions:
  """Assumptions of the energy estimate.

  Attributes:
    watts: mean power of a chip with its share of the host; None uses the published
      figure of its generation, if there is one.
    pue: energy of the building / energy of its computers; 1.10 is Google's figure for
      its fleet and for the pretrained model (Thoppilan et al. 2022).
    grid: kg CO2e per kWh; 26 t / 451 MWh is the pretrained model's, trained where power
      is mostly carbon-free. The world's mean is eight times that.
  """

  watts: float | None = None
  pue: float = 1.10
  grid: float = 0.0576


class Plan(NamedTuple):
  """The plan of one program of a run on one slice.

  Attributes:
    topology: the slice.
    kind: kind of program.
    request: settings of the run.
    params: number of parameters.
    mesh: axis -> devices.
    along: assignment of mesh axes to the torus, or None.
    tokens: tokens per step.
    memory: memory by purpose; None if the program does not fit.
    wanted: bytes per device that a program which does not fit needs, if known.
    limit: bytes per device.
    compile_s: compile time.
    step: modeled time; None if the program does not fit or cannot be printed.
    roofline: minimum time at peak rates.
    mfu: model FLOPs utilization at the estimated time.
    footprint: resources of the whole run (train only).
    advice: changes to try if the program does not fit.
    watts, pue, grid: assumptions of the footprint.
  """

  topology: Topology
  kind: str
  request: PlanRequest
  params: int
  mesh: dict[str, int]
  along: str | None
  tokens: int
  memory: Memory | None
  wanted: int | None
  limit: int
  compile_s: float
  step: Step | None
  roofline: Roofline
  mfu: float | None
  footprint: Footprint | None
  advice: tuple[str, ...]
  watts: float | None
  pue: float
  grid: float

  @property
  def fits(self) -> bool:
    """Returns True if the program compiled and its memory fits."""
    return self.memory is not None and self.memory.fits


def plan(
  request: PlanRequest,
  topology: Topology,
  *,
  devices: list[Any] | None = None,
  kind: str = 'train',
  assumptions: Assumptions | None = None,
  cache: str | None = None,
) -> Plan:
  """Compiles one program of the run for the slice.

  Args:
    request: settings of the run.
    topology: the slice.
    devices: devices of the slice; None gets them from libtpu.
    kind: one of lowering.KINDS.
    assumptions: assumptions of the footprint.
    cache: folder of compiled programs, see `lowering.compile_`.

  Raises:
    InputError: if mesh, model, batch and slice do not match.
  """
  assumptions = assumptions or Assumptions()
  config = request.model
  if devices is None:
    devices = topology_lib.devices(topology)
  lowered = lowering.lower(request, devices=devices, kind=kind)
  links = Links(lowered.mesh, topology)
  train = kind == 'train'
  length = request.step.sequence_length if train else request.eval_sequence_length
  roofline = cost_model.roofline(
    config, links=links, tokens=lowered.tokens, sequence_length=length, train=train
  )
  limit = int(topology.chip.core_hbm_gib * GIB)
  watts = assumptions.watts or topology.chip.watts
  found = Plan(
    topology=topology,
    kind=kind,
    request=request,
    params=decoder.parameter_count(config),
    mesh=dict(lowered.mesh.shape),
    along=request.step.mesh.along,
    tokens=lowered.tokens,
    memory=None,
    wanted=None,
    limit=limit,
    compile_s=0.0,
    step=None,
    roofline=roofline,
    mfu=None,
    footprint=None,
    advice=(),
    watts=watts,
    pue=assumptions.pue,
    grid=assumptions.grid,
  )
  try:
    compiled = lowering.compile_(lowered, cache=cache)
  except TooLarge as error:
    wanted = int((error.wanted_gib or 0) * GIB) or None
    advice = tuple(c.description for c in changes(request, topology, kind=kind))
    return found._replace(wanted=wanted, advice=advice)
  memory = memory_lib.from_compiled(compiled, step=request.step, limit=limit)
  found = found._replace(memory=memory, compile_s=compiled.seconds)
  if compiled.module is None:
    return found
  step = cost_model.step(compiled.module, links=links)
  if not step.estimate:
    return found
  mfu = cost_model.mfu(
    config, topology=topology, tokens=lowered.tokens, sequence_length=length,
    seconds=step.estimate, train=train,
  )  # fmt: skip
  footprint = None
  if train:
    footprint = cost_model.footprint(
      topology=topology,
      hours=step.estimate * request.train_steps / 3600,
      watts=watts,
      pue=assumptions.pue,
      grid=assumptions.grid,
    )
  return found._replace(step=step, mfu=mfu, footprint=footprint)


class Change(NamedTuple):
  """A change of the settings that reduces memory.

  Attributes:
    description: the flag and its effect, for people.
    request: the changed settings.
  """

  description: str
  request: PlanRequest


def changes(request: PlanRequest, topology: Topology, *, kind: str) -> list[Change]:
  """Cumulative changes to try if a step does not fit, the cheapest first."""
  found: list[Change] = []

  def add(
    description: str, *, model: DecoderConfig | None = None, **fields: Any
  ) -> None:
    nonlocal request
    step = dataclasses.replace(request.step, **fields)
    model = model or request.model
    request = dataclasses.replace(request, model=model, step=step)
    found.append(Change(description, request))

  if kind == 'train':
    order = ('none', 'dots', 'full')
    position = order.index(request.model.remat)
    for remat in order[position + 1 :]:
      model = dataclasses.replace(request.model, remat=remat)
      add(f"--gin.REMAT='{remat}' (recomputes more)", model=model)
    step = request.step
    if step.gradient_dtype is None and request.model.dtype == 'bfloat16':
      add(
        "--gin.Run.gradient_dtype='bfloat16' (halves the gradients of a step)",
        gradient_dtype='bfloat16',
      )
    mesh = step.mesh
    parts = topology.cores // mesh.model if mesh.data == -1 else mesh.data * mesh.fsdp
    sequences = step.batch_size // parts
    if sequences > step.accumulation:
      add(
        f'--gin.Run.accumulation={sequences} (one sequence per device at a time)',
        accumulation=sequences,
      )
    if step.logits_chunk is None and step.sequence_length % 8 == 0:
      eighth = step.sequence_length // 8
      add(
        f'--gin.Run.logits_chunk={eighth} (an eighth of the logits at a time)',
        logits_chunk=eighth,
      )
  return found


def larger(topology: Topology) -> Topology | None:
  """The next larger slice of the generation; None if there is no larger one."""
  for sides in topology_lib.shapes(topology.generation):
    name = topology_lib.name(topology.generation, sides)
    found = Topology(name, topology.generation, sides)
    if found.chips > topology.chips:
      return found
  return None


class ParameterSharding(NamedTuple):
  """Sharding of one parameter on the mesh."""

  name: str
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  over: tuple[str, ...]
  on_device: tuple[int, ...]
  bytes: int


def sharding(request: PlanRequest, *, devices: list[Any]) -> list[ParameterSharding]:
  """Shardings of all parameters of the run.

  Raises:
    InputError: if an axis does not divide evenly; names it.
  """
  import jax

  step = request.step
  mesh = mesh_lib.build(step.mesh, devices=devices)
  shapes, axes = params_lib.abstract_params(request.model)
  rules = step.mesh.rules
  batch_size = step.batch_size // step.accumulation
  mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_size=batch_size)
  shardings = mesh_lib.shardings(axes, mesh=mesh, rules=rules)
  flat, _ = jax.tree_util.tree_flatten_with_path(shapes)
  is_spec = lambda x: isinstance(x, jax.sharding.PartitionSpec)  # noqa: E731
  names = jax.tree.leaves(axes, is_leaf=is_spec)
  parameters = []
  for (path, leaf), axis, placement in zip(
    flat, names, jax.tree.leaves(shardings), strict=True
  ):
    spec = (*placement.spec, *[None] * (len(leaf.shape) - len(placement.spec)))
    shard = placement.shard_shape(leaf.shape)
    size = leaf.dtype.itemsize
    for side in shard:
      size *= side
    parameters.append(
      ParameterSharding(
        jax.tree_util.keystr(path, simple=True, separator='/'),
        leaf.shape,
        tuple(axis),
        tuple(
          ' x '.join(part) if isinstance(part, tuple) else part or '-' for part in spec
        ),
        shard,
        size,
      )
    )
  return parameters
