"""Loading: a checkpoint as a model that can be asked."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding

from flan_jax.catalog import continuation_prompts
from flan_jax.checkpoints import model_dir
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY
from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Scorer
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.progress import Progress

JOURNAL = '{}.journal.jsonl'
"""Beside the report while it is made: what a model has answered."""


def scorer(
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  evaluate: evaluation_config.EvalConfig,
  prompt_style: str,
  sharding: NamedSharding | None = None,
  on_batch: Callable[[], None] = lambda: None,
) -> Scorer:
  """A model as the protocol asks it; its batches are what the mesh divides.

  A prompt that the answer continues is not parted from it by EOS, nor is the end of
  the answer scored: an untuned model has seen neither (Brown et al. 2020, 2.4).
  """
  shards = 1  # the examples of a batch are laid over so many devices
  if sharding is not None:
    shards = sharding.mesh.size // sharding.mesh.shape['model']
  return Scorer(
    params=params,
    config=config,
    tokenizer=tokenizer,
    batch_size=-(-evaluate.batch_size // shards) * shards,
    sequence_length=evaluate.sequence_length,
    max_length=config.context,
    separator=prompt_style != continuation_prompts.STYLE,
    eos=prompt_style != continuation_prompts.STYLE,
    normalization=evaluate.normalization,
    decoding=evaluate.decoding,
    sharding=sharding,
    on_batch=on_batch,
  )


def journal(
  model: Scorer, path: pathlib.Path, *, fingerprint: str, progress: Progress
) -> ResponseCache:
  """A model behind its journal, which belongs to these weights asked in this way."""
  how = (model.tokenizer.digest, model.separator, model.eos, model.normalization)
  if model.decoding != GREEDY:
    how += (model.decoding,)
  of = '/'.join(map(str, (fingerprint, *how)))
  return ResponseCache(model, path, of=of, say=progress.line)


@contextlib.contextmanager
def journals(
  models: Mapping[str, tuple[Scorer, str]], out: pathlib.Path, *, progress: Progress
) -> Iterator[dict[str, ResponseCache]]:
  """Each model behind its journal; they go once what is in here has ended well."""
  with contextlib.ExitStack() as stack:
    opened = {}
    for name, (model, of) in models.items():
      path = out / JOURNAL.format(name)
      opened[name] = journal(model, path, fingerprint=of, progress=progress)
      stack.callback(opened[name].close)
    yield opened
  for each in opened.values():
    each.remove()


def digest(path: str) -> str:
  """Names the model at `path`, a folder of ours, and its tokenizer."""
  return f'{model_dir.digest(path)} {model_dir.tokenizer_digest(path)}'


def checkpoint(
  path: str,
  evaluation: evaluation_config.EvalJobConfig,
  *,
  prompt_style: str,
  on_batch: Callable[[], None] = lambda: None,
) -> Scorer:
  """The model at `path`, on the devices of all hosts, asked in the words of `prompt_style`.

  Each host reads what its own devices hold.

  Raises:
    InputError: if there is none, or the mesh does not divide it.
  """
  config = model_dir.config(path)
  shapes, axes = params_lib.abstract_params(config)
  tokenizer = _tokenizer(path, evaluation.tokenizer, config=config)
  mesh = mesh_lib.build(evaluation.mesh)
  sharding = None
  if mesh.size == 1:
    params = jax.device_put(model_dir.load(path, config=config, shapes=shapes))
  else:
    rules = evaluation.mesh.rules
    mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_size=mesh.size)
    params = model_dir.load(
      path,
      config=config,
      shapes=shapes,
      shardings=mesh_lib.shardings(axes, mesh=mesh, rules=rules),
    )
    sharding = mesh_lib.batch_sharding(mesh, rules)
  return scorer(
    params,
    config=config,
    tokenizer=tokenizer,
    evaluate=evaluation.evaluate,
    prompt_style=prompt_style,
    sharding=sharding,
    on_batch=on_batch,
  )


def _tokenizer(path: str, asked: str | None, *, config: DecoderConfig) -> Tokenizer:
  """The model's own tokenizer, or the one asked for where it has none.

  Raises:
    InputError: if it has another one, or one with more pieces than the embedding.
  """
  tokenizer = tokenizers.load(asked or model_dir.tokenizer_file(path))
  own = model_dir.tokenizer_digest(path) if asked else None
  if own is not None and own != tokenizer.digest:
    raise InputError(
      f'TOKENIZER: got {asked!r} of digest {tokenizer.digest[:12]}; the checkpoint '
      f'{path!r} has one of {own[:12]}; leave TOKENIZER out, or give that one',
      field='TOKENIZER',
    )
  if tokenizer.vocab_size > config.vocab_size:
    raise InputError(
      f'checkpoint {path!r}: its tokenizer has {tokenizer.vocab_size:,} tokens, its '
      f'embedding {config.vocab_size:,} rows; must have as many or more'
    )
  return tokenizer
