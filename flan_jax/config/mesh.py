"""Mesh settings: device axes, and the rules that map logical axes to them."""

import dataclasses
from typing import ClassVar

from flan_jax.config.checks import count, one_of
from flan_jax.config.setting import check_fields, setting

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]
"""Logical axis name -> mesh axis, several, or None (replicated)."""

DATA_PARALLEL: Rules = (
  ('activation_batch', ('data', 'fsdp')),
  ('activation_length', None),
  ('activation_embed', None),
  ('activation_heads', 'model'),
  ('activation_mlp', 'model'),
  ('activation_vocab', 'model'),
  ('embed', 'fsdp'),
  ('vocab', 'model'),
  ('mlp', 'model'),
  ('heads', 'model'),
  ('kv_heads', 'model'),
  ('kv', None),
  ('layers', None),
  ('relpos_buckets', None),
  ('norm', None),
  ('lora_rank', None),
)

MESH_AXES = ('data', 'fsdp', 'model')


def _axes_are_known(rules: Rules) -> str:
  logical, mesh = one_of(*(name for name, _ in DATA_PARALLEL)), one_of(*MESH_AXES)
  for name, over in rules:
    if wrong := logical(name):
      return f'logical axis {name!r} {wrong}'
    axes = (over,) if isinstance(over, str) else over or ()
    for axis in axes:
      if wrong := mesh(axis):
        return f'mesh axis {axis!r} of {name!r} {wrong}'
    if len(set(axes)) < len(axes):
      nearest = tuple(dict.fromkeys(axes))
      return f'{name!r} must have different mesh axes; the nearest is {nearest}'
  return ''


def _data_size(value: int) -> str:
  if value >= 1 or value == -1:
    return count(1)(value) if value > 0 else ''
  return 'must be 1 or more, or -1 for all devices left; the nearest is -1'


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """The layout of the devices and of the arrays on them.

  Attributes:
    data: devices along the batch; -1 takes all that the other axes leave.
    fsdp: devices along the batch and the parameters' `embed` axis.
    model: devices along heads, mlp and vocabulary.
    rules: logical axis -> mesh axis; the first rule of a name that fits is used. If two
      names of one array map to the same axis, the name whose rule comes first gets it.
    along: axes along the torus of a TPU slice, as 'fsdp=x2i.c model=x4.y' (see
      flan_jax.partitioning.torus); None leaves that to JAX. No effect off TPUs.
  """

  SELECTOR: ClassVar[str] = 'Mesh'

  data: int = setting(-1, rule=_data_size)
  fsdp: int = setting(1, rule=count(1))
  model: int = setting(1, rule=count(1))
  rules: Rules = setting(DATA_PARALLEL, rule=_axes_are_known)
  along: str | None = None

  def __post_init__(self):
    check_fields(self)
