"""Tuning strategies: which parameters of a model are trained, and what becomes of them.

`of` returns the strategy of a run. Another way to tune is another class with the same
methods.
"""

import dataclasses
from typing import Any, Protocol

from flan_jax.config import decoder as decoder_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
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


class LowRank:
  """Trains adapters of low rank beside a frozen model (`train.lora`)."""

  freezes = True

  def __init__(self, lora: optimizer_config.Lora):
    self._lora = lora

  def abstract(self, shapes: Any, axes: Any) -> tuple[Any, Any]:
    return lora_lib.abstract(shapes, axes, lora=self._lora)

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


def of(lora: optimizer_config.Lora) -> Tuning:
  """Returns the strategy that the settings name: adapters, or the whole model."""
  return LowRank(lora) if lora.rank else FULL
