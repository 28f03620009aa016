"""Tuning strategies: which parameters of a model are trained, and what becomes of them.

`of` returns the strategy of a run. Another way to tune is another class with the same
methods.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from flax import traverse_util

from flan_jax.config import decoder as decoder_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError, did_you_mean
from flan_jax.model import decoder
from flan_jax.train import lora as lora_lib
from flan_jax.train.state import Layout


class Tuning(Protocol):
  """The strategy of a run.

  Attributes:
    freezes: whether the model stays frozen beside the trained parameters. If not, the
      trained parameters are the model, and `frozen` is None everywhere.
  """

  freezes: bool

  def abstract(self, shapes: Any, axes: Any) -> tuple[Any, Any]:
    """(shapes, logical axes) of the trained parameters, from those of the model.

    Raises:
      InputError: if the model lacks what the strategy trains.
    """
    ...

  def trains(self, name: str) -> bool:
    """Returns whether a step changes the parameter `name` of the train state."""
    ...

  def starts_at_zero(self, name: str, config: DecoderConfig) -> bool:
    """Returns whether the trained parameter `name` is zero before the first step."""
    ...

  def init(self, params: Any, layout: Layout, *, seed: int) -> Any:
    """Initial values of the trained parameters; they leave the model as it is.

    Args:
      params: parameters of the initial model.
      layout: layout of the train state.
      seed: seed for random values.
    """
    ...

  def variables(self, trained: Any, frozen: Any) -> dict[str, Any]:
    """Variables of `Decoder.apply`."""
    ...

  def merge(self, trained: Any, frozen: Any) -> Any:
    """Parameters of the tuned model, in the form of the decoder's own."""
    ...

  def flops_per_token(self, config: DecoderConfig, sequence_length: int) -> float:
    """FLOPs of a training step per token."""
    ...

  def metadata(self, checkpoint: str | None) -> dict[str, Any]:
    """Metadata of the run's checkpoints about the strategy and its frozen weights.

    Args:
      checkpoint: model folder of the initial model, or None.
    """
    ...


class Full:
  """Trains every parameter of the model."""

  freezes = False

  def abstract(self, shapes: Any, axes: Any) -> tuple[Any, Any]:
    return shapes, axes

  def trains(self, name: str) -> bool:
    return True

  def starts_at_zero(self, name: str, config: DecoderConfig) -> bool:
    return decoder.starts_at_zero(name, config)

  def init(self, params: Any, layout: Layout, *, seed: int) -> Any:
    return params

  def variables(self, trained: Any, frozen: Any) -> dict[str, Any]:
    return {'params': trained}

  def merge(self, trained: Any, frozen: Any) -> Any:
    return trained

  def flops_per_token(self, config: DecoderConfig, sequence_length: int) -> float:
    return decoder_config.flops_per_token(config, sequence_length).train

  def metadata(self, checkpoint: str | None) -> dict[str, Any]:
    return {}


class Subset(Full):
  """Trains every parameter of the model but those that patterns name.

  A pattern is the path of a parameter or of a group of them, as `layers/query`, or the
  end of such a path, as `query`; `*` stands for any letters.
  """

  def __init__(self, freeze: tuple[str, ...]):
    self._freeze = freeze

  def abstract(self, shapes: Any, axes: Any) -> tuple[Any, Any]:
    names = list(traverse_util.flatten_dict(shapes, sep='/'))
    parts = {'/'.join(n.split('/')[i:]) for n in names for i in range(n.count('/') + 1)}
    for pattern in self._freeze:
      if not any(_matches(pattern, name) for name in names):
        raise InputError(
          f'Run.freeze: the model has no parameter {pattern!r}; must name one of '
          f'{", ".join(names)}{did_you_mean(pattern, parts)}',
          field='Run.freeze',
        )
    if not any(map(self.trains, names)):
      raise InputError(
        f'Run.freeze: got {self._freeze!r}, which leaves no parameter to train',
        field='Run.freeze',
      )
    return shapes, axes

  def trains(self, name: str) -> bool:
    return not any(_matches(pattern, name) for pattern in self._freeze)

  def variables(self, trained: Any, frozen: Any) -> dict[str, Any]:
    flat: dict[str, Any] = traverse_util.flatten_dict(trained, sep='/')
    held = {
      name: value if self.trains(name) else jax.lax.stop_gradient(value)
      for name, value in flat.items()
    }
    return {'params': traverse_util.unflatten_dict(held, sep='/')}

  def metadata(self, checkpoint: str | None) -> dict[str, Any]:
    return {'freeze': list(self._freeze)}


def _matches(pattern: str, name: str) -> bool:
  """Returns whether a pattern names a parameter, or a group that it is in."""
  words = name.split('/')
  return any(
    fnmatch.fnmatchcase('/'.join(words[start:stop]), pattern)
    for start in range(len(words))
    for stop in range(start + 1, len(words) + 1)
  )


class LowRank:
  """Trains adapters of low rank beside a frozen model (`train.lora`)."""

  freezes = True

  def __init__(self, lora: optimizer_config.Lora):
    self._lora = lora

  def abstract(self, shapes: Any, axes: Any) -> tuple[Any, Any]:
    return lora_lib.abstract(shapes, axes, lora=self._lora)

  def trains(self, name: str) -> bool:
    return True

  def starts_at_zero(self, name: str, config: DecoderConfig) -> bool:
    return lora_lib.starts_at_zero(name)

  def init(self, params: Any, layout: Layout, *, seed: int) -> Any:
    shardings = layout.shardings.params
    return lora_lib.init(
      layout.shapes.params, layout.axes.params, seed=seed, shardings=shardings
    )

  def variables(self, trained: Any, frozen: Any) -> dict[str, Any]:
    return lora_lib.variables(frozen, trained, lora=self._lora)

  def merge(self, trained: Any, frozen: Any) -> Any:
    return lora_lib.merge(frozen, trained, lora=self._lora)

  def flops_per_token(self, config: DecoderConfig, sequence_length: int) -> float:
    # Backward through the frozen model, without the gradients of its matrices.
    return 2 * decoder_config.flops_per_token(config, sequence_length).forward

  def metadata(self, checkpoint: str | None) -> dict[str, Any]:
    assert checkpoint is not None  # a run refuses adapters without a model
    return {
      'lora': {
        **dataclasses.asdict(self._lora),
        'base': checkpoint,
        'base_digest': lora_lib.base_digest(checkpoint),
      }
    }


FULL = Full()


def of(lora: optimizer_config.Lora, *, freeze: tuple[str, ...] = ()) -> Tuning:
  """Returns the strategy of the settings: adapters, a part of the model, or all of it.

  Raises:
    InputError: if they name both adapters and frozen parameters.
  """
  if lora.rank and freeze:
    raise InputError(
      f'Run.freeze: got {freeze!r} with LORA_RANK {lora.rank}, which freezes the whole '
      'model; give one of them',
      field='Run.freeze',
    )
  if lora.rank:
    return LowRank(lora)
  return Subset(freeze) if freeze else FULL


def of_metadata(metadata: Mapping[str, Any]) -> Tuning:
  """Returns the strategy of a checkpoint, by what `Tuning.metadata` said of it."""
  saved = metadata.get('lora')
  if saved is None:
    return FULL  # which parameters were frozen does not matter any more
  names = (field.name for field in dataclasses.fields(optimizer_config.Lora))
  values = {name: saved[name] for name in names if name in saved}
  if values.get('targets') is not None:
    values['targets'] = tuple(values['targets'])
  return LowRank(optimizer_config.Lora(**values))
