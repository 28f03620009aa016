"""`flan plan`: compile the step of a run for a TPU slice that is not here.

A plan says whether the step fits, what it holds by name, what moves over which links,
and what the run would take. Times are modeled, not measured.
"""

import dataclasses
from typing import Any, NamedTuple

from flan_jax.config import decoder, training
from flan_jax.errors import InputError
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.tpu.plan import cost_model, lowering
from flan_jax.tpu.plan import memory as memory_lib
from flan_jax.tpu.plan import topology as topology_lib
from flan_jax.tpu.plan.cost_model import Footprint, Roofline, Step
from flan_jax.tpu.plan.interconnect import Links
from flan_jax.tpu.plan.lowering import TooLarge
from flan_jax.tpu.plan.memory import Memory
from flan_jax.tpu.plan.topology import Topology

GIB = 2**30

PAPER_HOURS = 60
"""Of the paper's run: 30k steps on 128 cores of TPU v3 (FLAN section 2.4)."""

PRETRAINING = (451, 26)
"""MWh and tonnes CO2e of the paper's pretrained model (FLAN, environmental remarks)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assumptions:
  """What energy is reckoned with.

  Attributes:
    watts: mean draw of a chip with its share of the host; None takes the published one
      of its generation, where there is one.
    pue: energy of the building / of its computers; 1.10 is what Google reports for its
      fleet and what the pretrained model was reckoned with (Thoppilan et al. 2022).
    grid: kg CO2e a kWh; 26 t / 451 MWh of the pretrained model, which was trained where
      power is mostly carbon-free. The world's mean is eight times that.
  """

  watts: float | None = None
  pue: float = 1.10
  grid: float = 0.0576


class Plan(NamedTuple):
  """What is known of one program of a run on one slice.

  Attributes:
    topology: the slice.
    kind: of program.
    run: its settings.
    params: of the model.
    mesh: axis -> devices.
    along: the axes along the torus, or None.
    tokens: of one step.
    memory: by name; None where it does not fit.
    wanted: bytes of one device that the compiler asked for, where it does not fit.
    limit: bytes of one device.
    compile_s: seconds that the compiler took.
    step: modeled; None where it does not fit or the program has no text.
    roofline: by hand.
    mfu: of the estimate.
    footprint: of the whole run (train only).
    advice: the nearest changes, where it does not fit.
    watts, pue, grid: what the footprint was reckoned with.
  """

  topology: Topology
  kind: str
  run: training.TrainConfig
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
    """Whether the compiler found room."""
    return self.memory is not None and self.memory.fits


def plan(
  run: training.TrainConfig,
  topology: Topology,
  *,
  devices: list[Any] | None = None,
  kind: str = 'train',
  assumptions: Assumptions | None = None,
  cache: str | None = None,
) -> Plan:
  """Compiles one program of the run for the slice.

  Args:
    run: the settings; `model` must be set.
    topology: the slice.
    devices: of it; None asks libtpu.
    kind: one of program.KINDS.
    assumptions: of the footprint.
    cache: a folder for compiled programs, see `program.compile_`.

  Raises:
    InputError: if mesh, model, batch and slice do not fit together.
  """
  assumptions = assumptions or Assumptions()
  config = run.model
  if config is None:
    raise InputError(
      'Run.model: not set; include one of gin/models/*.gin', field='Run.model'
    )
  if devices is None:
    devices = topology_lib.devices(topology)
  lowered = lowering.lower(run, config, devices=devices, kind=kind)
  links = Links(lowered.mesh, topology)
  train = kind == 'train'
  length = run.sequence_length if train else run.evaluate.sequence_length
  roofline = cost_model.roofline(
    config, links=links, tokens=lowered.tokens, sequence_length=length, train=train
  )
  limit = int(topology.chip.core_hbm_gib * GIB)
  watts = assumptions.watts or topology.chip.watts
  found = Plan(
    topology=topology,
    kind=kind,
    run=run,
    params=decoder.parameter_count(config),
    mesh=dict(lowered.mesh.shape),
    along=run.mesh.along,
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
    advice = tuple(c.words for c in changes(run, topology, kind=kind))
    return found._replace(wanted=wanted, advice=advice)
  memory = memory_lib.of(compiled, run=run, limit=limit)
  found = found._replace(memory=memory, compile_s=compiled.seconds)
  if compiled.module is None:
    return found
  step = cost_model.step(compiled.module, links=links)
  if not step.most:
    return found
  mfu = cost_model.mfu(
    config, topology=topology, tokens=lowered.tokens, sequence_length=length,
    seconds=step.most, train=train,
  )  # fmt: skip
  footprint = None
  if train:
    footprint = cost_model.footprint(
      topology=topology,
      hours=step.most * run.train_steps / 3600,
      watts=watts,
      pue=assumptions.pue,
      grid=assumptions.grid,
    )
  return found._replace(step=step, mfu=mfu, footprint=footprint)


class Change(NamedTuple):
  """A change of the settings that takes less memory.

  Attributes:
    words: for a person: the flag, and what it does.
    run: the settings with it.
  """

  words: str
  run: training.TrainConfig


def changes(
  run: training.TrainConfig, topology: Topology, *, kind: str
) -> list[Change]:
  """What to try where a step does not fit, each upon the one before; least first."""
  found: list[Change] = []

  def add(words: str, **fields: Any) -> None:
    nonlocal run
    run = dataclasses.replace(run, **fields)
    found.append(Change(words, run))

  if kind == 'train':
    order = ('none', 'dots', 'full')
    at = order.index(run.model.remat)
    for remat in order[at + 1 :]:
      model = dataclasses.replace(run.model, remat=remat)
      add(f"--gin.REMAT='{remat}' (recomputes more)", model=model)
    if run.gradient_dtype is None and run.model.dtype == 'bfloat16':
      add(
        "--gin.Run.gradient_dtype='bfloat16' (halves the gradients of a step)",
        gradient_dtype='bfloat16',
      )
    mesh = run.mesh
    parts = topology.cores // mesh.model if mesh.data == -1 else mesh.data * mesh.fsdp
    rows = run.batch_size // parts
    if rows > run.accumulation:
      add(
        f'--gin.Run.accumulation={rows} (one row of a device at a time)',
        accumulation=rows,
      )
    if run.logits_chunk is None and run.sequence_length % 8 == 0:
      eighth = run.sequence_length // 8
      add(
        f'--gin.Run.logits_chunk={eighth} (an eighth of the logits at a time)',
        logits_chunk=eighth,
      )
  return found


def larger(topology: Topology) -> Topology | None:
  """The next slice of the generation."""
  for sides in topology_lib.shapes(topology.generation):
    name = topology_lib.name(topology.generation, sides)
    found = Topology(name, topology.generation, sides)
    if found.chips > topology.chips:
      return found
  return None


class Row(NamedTuple):
  """How one parameter lies on the mesh."""

  name: str
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  over: tuple[str, ...]
  on_device: tuple[int, ...]
  bytes: int


def sharding(run: training.TrainConfig, *, devices: list[Any]) -> list[Row]:
  """The parameters of the run on its mesh, one by one.

  Raises:
    InputError: naming what does not divide.
  """
  import jax

  mesh = mesh_lib.build(run.mesh, devices=devices)
  shapes, axes = params_lib.abstract_params(run.model)
  rules = run.mesh.rules
  mesh_lib.check(
    shapes, axes, mesh=mesh, rules=rules, batch_size=run.batch_size // run.accumulation
  )
  shardings = mesh_lib.shardings(axes, mesh=mesh, rules=rules)
  flat, _ = jax.tree_util.tree_flatten_with_path(shapes)
  is_spec = lambda x: isinstance(x, jax.sharding.PartitionSpec)  # noqa: E731
  names = jax.tree.leaves(axes, is_leaf=is_spec)
  rows = []
  for (path, leaf), axis, where in zip(
    flat, names, jax.tree.leaves(shardings), strict=True
  ):
    spec = (*where.spec, *[None] * (len(leaf.shape) - len(where.spec)))
    shard = where.shard_shape(leaf.shape)
    size = leaf.dtype.itemsize
    for side in shard:
      size *= side
    rows.append(
      Row(
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
  return rows
