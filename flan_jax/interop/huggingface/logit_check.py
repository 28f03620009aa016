"""Compares the logits of two models on a fixed batch.

The reference is `transformers` if torch is installed. For GGUF files, or without torch,
it is a plain numpy forward pass over the source's own tensors (numpy_reference.py).
"""

import dataclasses
import functools
import importlib.util
import math
import os
import pathlib
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from flan_jax.checkpoints import weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import families, numpy_reference
from flan_jax.interop.huggingface.family import ModelFamily
from flan_jax.interop.huggingface.source import Folder, Source
from flan_jax.model.decoder import Decoder

TOLERANCE = 1e-4
"""Largest allowed logit difference; relative if the largest logit is above 1."""

KL_TOLERANCE = 1e-6
"""Largest allowed mean Kullback-Leibler divergence, in nats per position."""

PARAGRAPH = (
  'The city council met on Tuesday evening to discuss the new library. Several '
  'residents spoke in favour of the plan, saying that the old building was too small '
  'and that children had nowhere quiet to read after school. The mayor promised that '
  'the project would be finished within two years, although one member worried about '
  'the cost.'
)
_LONGEST = 1024
_KEPT = 64


class CheckSequence(NamedTuple):
  """One sequence of the batch.

  Attributes:
    tokens: int32 [L].
    text: whether the tokens are text, so that perplexity is meaningful.
  """

  tokens: np.ndarray
  text: bool


class Logits(NamedTuple):
  """Logits of each sequence's last positions: float32 [min(L, 64), V] each."""

  method: str
  values: list[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
  """The result of a comparison.

  Attributes:
    method: source of the reference logits.
    max_difference: largest difference of two logits.
    largest: largest logit of the reference.
    kl: mean Kullback-Leibler divergence from the reference, in nats per position.
    same_choice: share of positions where both have the same argmax.
    positions: number of positions compared.
    perplexity: our perplexity on the paragraph; None without a tokenizer.
    perplexity_shuffled: the same with the paragraph's words shuffled.
  """

  method: str
  max_difference: float
  largest: float
  kl: float
  same_choice: float
  positions: int
  perplexity: float | None = None
  perplexity_shuffled: float | None = None

  @property
  def allowed(self) -> float:
    """Largest logit difference that passes."""
    return TOLERANCE * max(1.0, self.largest)

  @property
  def passed(self) -> bool:
    return self.max_difference <= self.allowed and self.kl <= KL_TOLERANCE

  def as_json(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), 'allowed': self.allowed, 'passed': self.passed}


def batch(
  tokenizer: Tokenizer | None, config: DecoderConfig, *, bos: int | None
) -> list[CheckSequence]:
  """The paragraph, the paragraph shuffled, and a sequence of random ids.

  The random sequence is longer than the model's window, so that local layers mask
  something.
  """
  longest = _LONGEST
  if config.positions == 'learned':
    longest = min(longest, config.max_positions - config.position_offset)
  sequences = []
  if tokenizer is not None:
    words = PARAGRAPH.split()
    random.Random(0).shuffle(words)
    head = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    for text in (PARAGRAPH, ' '.join(words)):
      ids = np.concatenate([head, tokenizer.encode(text)]).astype(np.int32)
      sequences.append(CheckSequence(ids[: min(longest, _KEPT)], text=True))
  length = min(longest, 48 if config.window is None else config.window + 16)
  ids = np.random.default_rng(0).integers(0, config.vocab_size, length)
  if bos is not None:
    ids[0] = bos
  return [*sequences, CheckSequence(ids.astype(np.int32), text=False)]


def reference(source: Source, sequences: Sequence[CheckSequence]) -> Logits:
  """Reference logits of the source, by `transformers` or by numpy.

  Raises:
    InputError: if neither can run the model.
  """
  tokens = [sequence.tokens for sequence in sequences]
  family = families.get(source.config['model_type'])
  if isinstance(source, Folder) and _known_to_transformers(family):
    return _transformers(source.folder, tokens)
  return Logits('numpy', by_numpy(source, family, tokens))


def by_numpy(
  source: Source, family: ModelFamily, sequences: Sequence[np.ndarray]
) -> list[np.ndarray]:
  """Logits of the last positions of every sequence, by the family's numpy reference.

  Raises:
    InputError: if it has none, or its logits have the wrong shape.
  """
  if family.reference is None:
    raise InputError(
      f'{source.where}: model family {family.model_type!r}: has no numpy reference to '
      'check the logits with; must have one (ModelFamily.reference), or torch and a '
      f'`transformers` with {family.architecture} must be installed'
    )
  rows = family.read(source.config).vocab_size
  tokens = [np.asarray(tokens) for tokens in sequences]
  with np.errstate(over='ignore', invalid='ignore', divide='ignore'):  # NaN: no match
    found = family.reference(numpy_reference.Files(source), tokens, _KEPT)
  out = [np.asarray(logits)[-_KEPT:] for logits in found]
  got = [logits.shape for logits in out]
  want = [(min(_KEPT, len(tokens)), rows) for tokens in sequences]
  if got != want:
    raise InputError(
      f'model family {family.model_type!r}: its numpy reference returned logits of '
      f'shapes {got}; must be {want}: (positions, vocabulary) of each sequence'
    )
  return out


def _known_to_transformers(family: ModelFamily) -> bool:
  """Returns whether torch and a `transformers` with that family are installed."""
  if not (_installed('torch') and _installed('transformers')):
    return False
  import transformers

  return family.model_type in transformers.CONFIG_MAPPING


def _installed(name: str) -> bool:
  return importlib.util.find_spec(name) is not None


def _transformers(folder: pathlib.Path, sequences: Sequence[np.ndarray]) -> Logits:
  import torch
  import transformers

  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder,
    dtype=torch.float32,
    attn_implementation='eager',
    local_files_only=True,
    trust_remote_code=False,
    use_safetensors=True,
  ).eval()
  out = []
  with torch.inference_mode():
    for tokens in sequences:
      ids = torch.from_numpy(tokens.astype(np.int64))[None]
      found = model(input_ids=ids, use_cache=False, logits_to_keep=_KEPT).logits[0]
      out.append(found.float().numpy())
  return Logits(f'transformers {transformers.__version__}', out)


@functools.partial(jax.jit, static_argnames='config')
def _last_logits(
  params: Any, tokens_1xL: jax.Array, *, config: DecoderConfig
) -> jax.Array:
  L = tokens_1xL.shape[1]
  decoder, variables = Decoder(config), {'params': params}
  hidden_1xLxD = decoder.apply(
    variables,
    tokens_1xL,
    positions_BxL=jnp.arange(L)[None],
    segment_ids_BxL=jnp.ones((1, L), jnp.int32),
    method='hidden',
  )
  last_1xKxD = cast(jax.Array, hidden_1xLxD)[:, -_KEPT:]
  return cast(jax.Array, decoder.apply(variables, last_1xKxD, method='head'))[0]


def compare(
  folder: str | os.PathLike,
  config: DecoderConfig,
  sequences: Sequence[CheckSequence],
  reference: Logits,
) -> Agreement:
  """Runs the model in `folder` in float32 and compares its logits to the reference.

  Args:
    folder: a flan_jax model folder.
    config: config of the model.
    sequences: the batch.
    reference: reference logits of the batch.
  """
  plain = dataclasses.replace(
    config, dtype='float32', param_dtype='float32', scan_layers=True, remat='none'
  )
  params = _on_device(folder, plain)
  worst = largest = total_kl = same = positions = 0.0
  perplexities = []
  with jax.default_matmul_precision('highest'):
    for sequence, expected in zip(sequences, reference.values, strict=True):
      logits = np.asarray(_last_logits(params, sequence.tokens[None], config=plain))
      difference = float(np.abs(logits - expected).max())
      worst = difference if math.isnan(difference) else max(worst, difference)
      if math.isnan(worst):
        total_kl = math.nan
        break
      largest = max(largest, float(np.abs(expected).max()))
      p, q = _log_softmax(expected), _log_softmax(logits)
      total_kl += float((np.exp(p) * (p - q)).sum())
      same += int((logits.argmax(-1) == expected.argmax(-1)).sum())
      positions += len(logits)
      if sequence.text:
        chosen = q[np.arange(len(q) - 1), sequence.tokens[1:]]
        perplexities.append(float(np.exp(-chosen.mean())))
  positions = max(1.0, positions)
  return Agreement(
    method=reference.method,
    max_difference=worst,
    largest=largest,
    kl=total_kl / positions,
    same_choice=same / positions,
    positions=int(positions),
    perplexity=perplexities[0] if perplexities else None,
    perplexity_shuffled=perplexities[1] if len(perplexities) > 1 else None,
  )


def _on_device(folder: str | os.PathLike, config: DecoderConfig) -> Any:
  """Parameters on the device, transferred tensor by tensor."""
  stored = weights.SafetensorsFile(folder)
  flat = {
    name: jnp.asarray(stored.read(name).astype(np.float32, copy=False))
    for name in stored.tensors
  }
  return weights.unflatten(flat, config)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  x = logits.astype(np.float64)
  x -= x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))
