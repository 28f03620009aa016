"""A model loaded from a checkpoint, asked in plain text from Python."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.checkpoints import model_dir
from flan_jax.config import checks
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model as load_model_lib
from flan_jax.inference import joined_tokens
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.data.chat import Message
  from flan_jax.inference.chat_prompts import ChatPrompts

CACHE = conversion_cache.FOLDER
"""Folder of converted models."""


class LanguageModel:
  """A decoder-only language model: log-likelihoods of options, and generation.

  `flan_jax.load_model` makes one. A prompt and its answer are
  `[BOS] prompt EOS answer EOS`, as in training; with `continues` they are one text,
  `[BOS] prompt answer`, for a model that was never tuned.
  """

  def __init__(self, scorer: Scorer, *, chat_template: str | None = None):
    self._scorer = scorer
    self._chat_template = chat_template

  @property
  def params(self) -> Any:
    """The parameters, a tree of `jax.Array`."""
    return self._scorer.params

  @property
  def config(self) -> DecoderConfig:
    """The architecture."""
    return self._scorer.config

  @property
  def tokenizer(self) -> Tokenizer:
    """The tokenizer of prompts and answers."""
    return self._scorer.tokenizer

  @property
  def chats(self) -> bool:
    """Returns whether the model has a chat template."""
    return self._chat_template is not None

  def loglikelihood(
    self, requests: Sequence[tuple[str, Sequence[str]]]
  ) -> list[np.ndarray]:
    """Computes the log-probability of every option after its prompt.

    Args:
      requests: (prompt, options) pairs.

    Returns:
      For each request float32 [options], in nats, summed over the tokens of the option
      and its EOS.

    Raises:
      InputError: if a prompt with its option exceeds the model's length.
    """
    for request in requests:
      if isinstance(request, str) or len(request) != 2:
        raise InputError(f'request {request!r:.80}: must be a prompt and its options')
      _texts('prompt', [request[0]])
      _texts('options', request[1])
    if not self._scorer.separator:
      joined = joined_tokens.join(requests, self.tokenizer)
      made = [Request(one.prompt, one.options) for one in joined]
    else:
      made = [
        Request(self._ids([prompt])[0], tuple(self._ids(options)))
        for prompt, options in requests
      ]
    return self._scorer.loglikelihood(made).log_probabilities

  def generate(
    self,
    prompts: Sequence[str],
    *,
    max_tokens: int = 128,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int = 1,
    seed: int = 0,
    weight_dtype: str | None = None,
  ) -> list[str]:
    """Generates an answer to each prompt, greedily by default.

    Args:
      prompts: the prompts.
      max_tokens: maximum tokens of an answer.
      stop: an answer ends before the first of these strings.
      temperature: 0 for greedy; above it tokens are sampled.
      top_k: sample from the k most probable tokens.
      top_p: sample from the most probable tokens with this much of the probability.
      beams: beams of beam search.
      seed: seed for sampling; the same one gives the same answers.
      weight_dtype: 'bfloat16' or 'int8' stores the matrices so; None as the
        model has them.

    Raises:
      InputError: if a prompt with its answer may exceed the model's length, or a
        setting is out of its range.
    """
    decoding = Decoding(
      temperature=temperature, top_k=top_k, top_p=top_p, beams=beams, seed=seed,
      stop=tuple(stop), weight_dtype=weight_dtype,
    )  # fmt: skip
    checks.check('max_tokens', max_tokens, checks.whole)
    _texts('prompts', prompts)
    scorer = dataclasses.replace(self._scorer, decoding=decoding)
    found = scorer.generate(self._ids(prompts), max_tokens=max_tokens)
    return list(found.texts)

  def stream(
    self,
    prompt: 'str | Sequence[Message]',
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    weight_dtype: str | None = None,
  ) -> Iterator[str]:
    """Yields the answer to a prompt piece by piece, each as soon as it is known.

    The pieces make up the text of `generate`: one for each token, '' for a token that
    is part of a character, and perhaps the end of the text.

    Args:
      prompt: the prompt; or a conversation, which goes through the model's own chat
        template, as [{'role': 'user', 'content': 'Is it raining?'}].
      max_tokens: maximum tokens of the answer.
      temperature, top_k, top_p, seed, weight_dtype: as in `generate`.

    Raises:
      InputError: as `generate`, at logits that are NaN, and at a conversation if the
        model has no chat template.
    """
    decoding = Decoding(
      temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
      weight_dtype=weight_dtype,
    )  # fmt: skip
    scorer = dataclasses.replace(self._scorer, decoding=decoding)
    if isinstance(prompt, str):
      return scorer.stream(self._ids([prompt])[0], max_tokens=max_tokens)
    chat = self._chat
    scorer = dataclasses.replace(scorer, chat=chat)
    return scorer.stream(chat.template.encode(prompt), max_tokens=max_tokens)

  @functools.cached_property
  def _chat(self) -> 'ChatPrompts':
    from flan_jax.data.chat import ChatTemplate  # imports Jinja
    from flan_jax.inference.chat_prompts import ChatPrompts

    if self._chat_template is None:
      raise InputError(
        'chat: the model keeps no chat template; ask it by prompts, as it was tuned'
      )
    return ChatPrompts(ChatTemplate(self._chat_template, self.tokenizer))

  def _ids(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.asarray(ids, np.int32) for ids in self.tokenizer.encode_batch(texts)]


def _texts(what: str, texts: Sequence[str]) -> None:
  """Refuses what is no list of texts; a single text is one of its letters to Python.

  Raises:
    InputError: if it is none; says so.
  """
  if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
    raise InputError(f'{what}: got {texts!r:.80}; must be a list of texts')


def load_model(
  path: str | os.PathLike,
  *,
  continues: bool = False,
  batch_size: int = 8,
  mesh: MeshConfig | None = None,
  progress: Progress | None = None,
) -> LanguageModel:
  """Loads a model, onto all devices.

  >>> model = load_model('microworld', continues=True)
  >>> model.config.num_layers > 0
  True

  Args:
    path: anything that `flan eval` takes as CHECKPOINT: a model folder, the MODEL_DIR
      of a finished run, a step of a run as 'runs/x@200', a Hugging Face folder or a
      GGUF file (these are copied once, under ~/.cache/flan_jax), or `microworld`, the
      model that ships.
    continues: whether prompt and answer are one text; False puts EOS between them, as
      in FLAN's training.
    batch_size: prompts of a batch.
    mesh: layout of the devices; None to split batches over them.
    progress: progress output; None for none.

  Raises:
    InputError: if it is not a model.
  """
  progress = progress or Progress(quiet=True)
  folder = conversion_cache.import_cached(
    str(path), cache=CACHE.expanduser(), progress=progress
  )
  scorer = load_model_lib.load(
    str(folder),
    evaluate=EvalConfig(batch_size=batch_size),
    mesh=mesh or MeshConfig(),
    tokenizer=None,
    prompt_style='continuation' if continues else 'instructions',
  )
  return LanguageModel(scorer, chat_template=model_dir.chat_template(folder))
