"""Model loading: a checkpoint as a scorer, and its response cache."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import NamedSharding

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog import prompt_style as prompt_styles
from flan_jax.checkpoints import model_dir
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY, Decoding
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.setting import label, qualified
from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Scorer
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts

RESPONSES = '{}.journal.jsonl'
"""File name of a model's response cache, beside the report until it is written."""


def scorer(
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  evaluate: evaluation_config.EvalConfig,
  prompt_style: str,
  chat_template: str | None = None,
  sharding: NamedSharding | None = None,
  on_batch: Callable[[], None] = lambda: None,
) -> Scorer:
  """Makes the scorer of a prompt style, with a batch size that the mesh divides.

  In the continuation style no EOS separates prompt and answer, and none is scored after
  the answer: an untuned model has seen neither (Brown et al. 2020, 2.4).

  Raises:
    InputError: if the style needs a chat template and the model has none.
  """
  chat = None
  if prompt_styles.is_chat(prompt_style):
    expect_chat_template(chat_template, prompt_style)
    chat = _chat(chat_template or '', tokenizer)
  shards = 1  # number of devices that a batch is split over
  if sharding is not None:
    shards = sharding.mesh.size // sharding.mesh.shape['model']
  return Scorer(
    params=params,
    config=config,
    tokenizer=tokenizer,
    batch_size=-(-evaluate.batch_size // shards) * shards,
    sequence_length=evaluate.sequence_length,
    max_length=config.context,
    separator=separator(evaluate, prompt_style) == 'eos',
    eos=scores_eos(evaluate, prompt_style),
    chat=chat,
    normalization=evaluate.normalization,
    decoding=evaluate.decoding,
    sharding=sharding,
    on_batch=on_batch,
  )


def has_own_form(prompt_style: str) -> bool:
  """Returns whether a style puts prompt and answer together in a way of its own."""
  return prompt_styles.is_chat(prompt_style) or prompt_style == (
    continuation_prompts.STYLE
  )


def separator(evaluate: evaluation_config.EvalConfig, prompt_style: str) -> str:
  """Returns what stands between prompt and answer in a style: 'eos' or 'none'."""
  if has_own_form(prompt_style):
    return 'none'
  return evaluate.separator or 'eos'


def scores_eos(evaluate: evaluation_config.EvalConfig, prompt_style: str) -> bool:
  """Returns whether EOS is scored after an answer in a style."""
  if has_own_form(prompt_style):
    return False
  if evaluate.eos is not None:
    return evaluate.eos
  return separator(evaluate, prompt_style) == 'eos'


def expect_chat_template(
  text: str | None,
  prompt_style: str,
  *,
  setting: str = 'prompt_style',
  of: str = 'the checkpoint',
) -> None:
  """Checks that a model keeps the chat template that a style needs.

  Args:
    text: its chat template, or None.
    prompt_style: prompt style that the model is asked in.
    setting: field of EvalConfig that holds the style.
    of: the model, for errors.

  Raises:
    InputError: if it keeps none.
  """
  if text is None and prompt_styles.is_chat(prompt_style):
    cls = evaluation_config.EvalConfig
    raise InputError(
      f'{label(cls, setting)} {prompt_style!r}: {of} keeps no chat template; must be '
      "another style, as 'instructions'",
      field=qualified(cls, setting),
    )


def _chat(text: str, tokenizer: Tokenizer) -> 'ChatPrompts':
  """Compiles the chat template of a model."""
  from flan_jax.data.chat import ChatTemplate  # imports Jinja
  from flan_jax.inference.chat_prompts import ChatPrompts

  return ChatPrompts(ChatTemplate(text, tokenizer))


def cached(
  model: Scorer, path: pathlib.Path, *, fingerprint: str, progress: Progress
) -> ResponseCache:
  """Wraps a model in its response cache, valid for its weights and settings."""
  settings: tuple[Any, ...] = (
    model.tokenizer.digest, model.separator, model.eos, model.normalization,
  )  # fmt: skip
  if model.chat is not None:
    settings += ('chat', model.chat.end_id)
  if model.decoding != GREEDY:
    settings += (_described(model.decoding),)
  model_id = '/'.join(map(str, (fingerprint, *settings)))
  return ResponseCache(model, path, model_id=model_id, log=progress.line)


def _described(decoding: Decoding) -> str:
  """Text of the settings; one that older versions lacked is left out at its default."""
  values = dataclasses.asdict(decoding)
  if values['weight_dtype'] is None:
    del values['weight_dtype']
  listed = ', '.join(f'{name}={value!r}' for name, value in values.items())
  return f'Decoding({listed})'


@contextlib.contextmanager
def all_cached(
  models: Mapping[str, tuple[Scorer, str]], out: pathlib.Path, *, progress: Progress
) -> Iterator[dict[str, ResponseCache]]:
  """Wraps models in their response caches; removes the files after success.

  Args:
    models: name -> (scorer, fingerprint).
    out: folder of the report.
    progress: progress output.
  """
  with contextlib.ExitStack() as stack:
    opened = {}
    for name, (model, fingerprint) in models.items():
      path = out / RESPONSES.format(name)
      opened[name] = cached(model, path, fingerprint=fingerprint, progress=progress)
      stack.callback(opened[name].close)
    yield opened
  for each in opened.values():
    each.remove()


def digest(path: str) -> str:
  """Returns the digests of the model folder at `path` and of its tokenizer."""
  return f'{model_dir.digest(path)} {model_dir.tokenizer_digest(path)}'


def load(
  path: str,
  *,
  evaluate: evaluation_config.EvalConfig,
  mesh: MeshConfig,
  tokenizer: str | None,
  prompt_style: str,
  on_batch: Callable[[], None] = lambda: None,
) -> Scorer:
  """Loads the model folder at `path` onto the devices of all processes.

  Each process reads the shards of its own devices.

  Args:
    path: model folder.
    evaluate: evaluation settings.
    mesh: layout of the devices of all processes.
    tokenizer: path of a tokenizer; None for the model's own.
    prompt_style: prompt style that the model is asked in.
    on_batch: called between two batches, equally often on every process.

  Raises:
    InputError: if it is not a model folder, the mesh does not divide the model, or the
      style needs a chat template that the model does not keep.
  """
  config = model_dir.config(path)
  shapes, axes = params_lib.abstract_params(config)
  loaded = open_tokenizer(path, tokenizer)
  devices = mesh_lib.build(mesh)
  sharding = None
  if devices.size == 1:
    params = jax.device_put(model_dir.load(path, config=config, shapes=shapes))
  else:
    rules = mesh.rules
    mesh_lib.check(shapes, axes, mesh=devices, rules=rules, batch_size=devices.size)
    params = model_dir.load(
      path,
      config=config,
      shapes=shapes,
      shardings=mesh_lib.shardings(axes, mesh=devices, rules=rules),
    )
    sharding = mesh_lib.batch_sharding(devices, rules)
  return scorer(
    params,
    config=config,
    tokenizer=loaded,
    evaluate=evaluate,
    prompt_style=prompt_style,
    chat_template=model_dir.chat_template(path),
    sharding=sharding,
    on_batch=on_batch,
  )


def open_tokenizer(path: str, given: str | None) -> Tokenizer:
  """Loads the model's own tokenizer, or the given one if it has none.

  Raises:
    InputError: if the model has another one, or its vocabulary exceeds the embedding.
  """
  config = model_dir.config(path)
  tokenizer = tokenizers.load(given or model_dir.tokenizer_file(path))
  own = model_dir.tokenizer_digest(path) if given else None
  if own is not None and own != tokenizer.digest:
    raise InputError(
      f'TOKENIZER: got {given!r} of digest {tokenizer.digest[:12]}; the checkpoint '
      f'{path!r} has one of {own[:12]}; leave TOKENIZER out, or give that one',
      field='TOKENIZER',
    )
  if tokenizer.vocab_size > config.vocab_size:
    raise InputError(
      f'checkpoint {path!r}: its tokenizer has {tokenizer.vocab_size:,} tokens, its '
      f'embedding {config.vocab_size:,} rows; must have as many or more'
    )
  return tokenizer
