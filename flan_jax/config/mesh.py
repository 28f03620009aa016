"""Mesh settings: axes, and the rules that lay logical axes over them."""

import dataclasses

from flan_jax.config.checks import check_one_of

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """How the devices are laid out and what each logical axis is split over.

  Attributes:
    data: devices along the batch; -1 takes all that the other axes leave.
    fsdp: devices along the batch and the parameters' `embed` axis.
    model: devices along heads, mlp and vocabulary.
    rules: logical axis -> mesh axis; the first rule of a name that fits is used, and of
      two names of one array that want the same axis, the one whose rule comes first.
    along: the axes along the torus of a TPU slice, as 'fsdp=x2i.c model=x4.y' (see
      flan_jax.partitioning.torus); None leaves that to JAX. Elsewhere it means nothing.
  """

  data: int = -1
  fsdp: int = 1
  model: int = 1
  rules: Rules = DATA_PARALLEL
  along: str | None = None

  def __post_init__(self):
    logical = [name for name, _ in DATA_PARALLEL]
    for name, over in self.rules:
      check_one_of('Mesh.rules', name, tuple(logical), field='rules')
      for axis in (over,) if isinstance(over, str) else over or ():
        over_what = f'Mesh.rules: mesh axis of {name!r}'
        check_one_of(over_what, axis, MESH_AXES, field='rules')
