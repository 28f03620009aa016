"""A model of ours in lm-eval: importing this registers `--model flan_jax`.

Requests that share a context are scored in one tree, so a prompt with four options is
read once. Tokens are those of lm-eval's `hf` model on the exported folder.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import lm_eval.models  # noqa: F401  # registers lm-eval's own models first
import numpy as np
from lm_eval.api import model as model_lib
from lm_eval.api import registry
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from flan_jax.checkpoints import model_dir
from flan_jax.config.decoding import Decoding
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.data.chat import ChatTemplate
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.inference.chat_prompts import ChatPrompts
from flan_jax.inference.prefix_tree import ScoredSequence
from flan_jax.inference.rank_options import Scorer
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.interop.lm_eval.control_text import ControlText
from flan_jax.runtime import metering
from flan_jax.runtime.progress import Progress

NAME = 'flan_jax'

_MAX_TOKENS = 256
_TOKEN_LIMITS = (
  'max_gen_toks',
  'max_new_tokens',
  'max_tokens',
  'max_completion_tokens',
)
_BATCH_SIZE = 8
_MAX_LENGTH = 2048
"""Maximum length of a model that states none, as in lm-eval's `hf` model."""


@registry.register_model(NAME)
class FlanJax(model_lib.TemplateLM):
  """lm-eval's interface to a model of ours.

  Attributes:
    max_length: tokens of a context with its continuation; longer ones lose their
      beginning, as in lm-eval.
  """

  def __init__(
    self,
    pretrained: str | Scorer = 'microworld',
    *,
    batch_size: int | str = _BATCH_SIZE,
    sequence_length: int | None = None,
    max_length: int | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
    **others: Any,
  ):
    """Loads a model.

    Args:
      pretrained: anything that `flan eval` takes as CHECKPOINT, or a scorer.
      batch_size: sequences of a batch; `auto` for 8.
      sequence_length: tokens of a packed sequence; None for the default of `flan eval`.
      max_length: tokens of a context with its continuation; None for the length that
        the model was trained for.
      max_batch_size, device: no effect; JAX's devices are used.
      **others: refused.

    Raises:
      InputError: if it is not a model, or a setting is unknown.
    """
    super().__init__()
    del max_batch_size, device
    for name in others:
      raise InputError(
        f'--model_args {name!r}: must be one of pretrained, batch_size, '
        'sequence_length, max_length'
      )
    if isinstance(pretrained, Scorer):
      self._scorer, template = pretrained, None
    else:
      size = int(batch_size) if str(batch_size).isdecimal() else _BATCH_SIZE
      self._scorer, template = _load(pretrained, size, sequence_length)
    self._tokenizer = self._scorer.tokenizer
    self._own = None if template is None else ChatTemplate(template, self._tokenizer)
    self._chat = None if self._own is None else ChatPrompts(self._own)
    self._text = ControlText(self._tokenizer, self._own)
    self.max_length = max_length or self._scorer.max_length or _MAX_LENGTH
    self._last: tuple[str, list[int]] = ('', [])

  # Tokens.

  @property
  def eot_token_id(self) -> int:
    return self._tokenizer.eos_id

  @property
  def prefix_token_id(self) -> int:
    bos_id = self._tokenizer.bos_id
    return self._tokenizer.eos_id if bos_id is None else bos_id

  @property
  def tokenizer_name(self) -> str:
    return self._tokenizer.digest

  def tok_encode(
    self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
  ) -> list[int]:
    """Encodes a text; BOS is put before one that does not begin with it."""
    del kwargs
    ids = self._text.encode(string).tolist()
    bos_id = self._tokenizer.bos_id
    if add_special_tokens is None:
      add_special_tokens = not (self._text.bos and string.startswith(self._text.bos))
    return [bos_id, *ids] if add_special_tokens and bos_id is not None else ids

  def chat_template(self, chat_template: bool | str = False) -> str:
    if not chat_template:
      return ''
    return self._text.asked('{prompt}') if self._own is None else self._own.source

  def apply_chat_template(
    self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
  ) -> str:
    """Renders a conversation by the model's own template, or `[BOS] prompt EOS`.

    Raises:
      InputError: if the template refuses it; without one, if it is not one user's
        message.
    """
    if self._own is not None:
      return self._own.render(chat_history, add_generation_prompt=add_generation_prompt)
    if [message['role'] for message in chat_history] != ['user']:
      roles = ', '.join(message['role'] for message in chat_history)
      raise InputError(
        f'--apply_chat_template: got messages of {roles}; must be one of a user: leave '
        'out --system_instruction, and give --fewshot_as_multiturn False'
      )
    return self._text.asked(chat_history[0]['content'])

  # Scores.

  def _loglikelihood_tokens(
    self,
    requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
    disable_tqdm: bool = False,
    **kwargs: Any,
  ) -> list[tuple[float, bool]]:
    """Scores continuations, and tells which are greedy."""
    del kwargs
    pairs = [(context, rest) for _, context, rest in requests]
    scores = self._scores(pairs, quiet=disable_tqdm)
    found = [(float(logp), bool(margin == 0)) for logp, margin in scores]
    for (asked, *_), answer in zip(requests, found, strict=True):
      self.cache_hook.add_partial('loglikelihood', asked, answer)
    return found

  def loglikelihood_rolling(
    self, requests: Sequence[Any], disable_tqdm: bool = False
  ) -> list[float]:
    """Scores whole texts, in windows of max_length that overlap by one token."""
    pairs, owners = [], []
    for i, request in enumerate(requests):
      windows = get_rolling_token_windows(
        token_list=self.tok_encode(request.args[0]),
        prefix_token=self.prefix_token_id,
        max_seq_len=self.max_length,
        context_len=1,
      )
      for window in windows:
        pairs.append(make_disjoint_window(window))
        owners.append(i)
    scores = self._scores(pairs, quiet=disable_tqdm)[:, 0]
    sums = np.bincount(owners, weights=scores, minlength=len(requests)).tolist()
    for request, total in zip(requests, sums, strict=True):
      self.cache_hook.add_partial('loglikelihood_rolling', request.args, total)
    return sums

  def _scores(
    self, pairs: Sequence[tuple[list[int], list[int]]], *, quiet: bool
  ) -> np.ndarray:
    """Scores of (context, continuation) pairs, float64 [pairs, 2]."""
    sequences = [self._sequence(*pair) for pair in pairs]
    if not sequences:
      return np.zeros((0, 2))
    count = len(sequences)
    with Progress(quiet=quiet).work(f'score {NAME}', count, unit='continuations'):
      report = metering.reporter(count)
      return self._scorer.likelihood.scores(sequences, progress=report)[0]

  def _sequence(self, context: list[int], answer: list[int]) -> ScoredSequence:
    if not answer:
      raise InputError(
        'a continuation has no token of its own after its context; must have one or '
        'more'
      )
    whole = np.array([*(context or [self.prefix_token_id]), *answer], np.int32)
    whole = whole[-(self.max_length + 1) :]
    start = len(whole) - min(len(answer), len(whole) - 1)
    return ScoredSequence(whole[:start], whole[start:])

  # Generation.

  def generate_until(
    self, requests: Sequence[Any], disable_tqdm: bool = False
  ) -> list[str]:
    """Generates an answer to each context, with the settings of its request."""
    alike: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
      alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
    out = [''] * len(requests)
    with Progress(quiet=disable_tqdm).work(f'generate {NAME}', len(requests)):
      for settings, members in alike.items():
        contexts = [requests[i].args[0] for i in members]
        texts = self._generated(contexts, json.loads(settings))
        for i, text in zip(members, texts, strict=True):
          out[i] = text
          self.cache_hook.add_partial('generate_until', requests[i].args, text)
    return out

  def _generated(
    self, contexts: Sequence[str], settings: Mapping[str, Any]
  ) -> list[str]:
    """Generates an answer to each context with the same settings."""
    max_tokens, decoding = generation(settings)
    room = self.max_length - max_tokens + 1
    if room < 2:
      raise InputError(
        f'max_gen_toks {max_tokens}: must be less than the {self.max_length} tokens '
        'that the model takes'
      )
    prompts = [self._prompt(context, room) for context in contexts]
    scorer = dataclasses.replace(
      self._scorer, decoding=decoding, separator=False, chat=self._chat
    )
    return scorer.generate(prompts, max_tokens=max_tokens).texts

  def _prompt(self, context: str, room: int) -> np.ndarray:
    """Tokens of a context, without the BOS that generation puts before it."""
    ids = self.tok_encode(context)
    if self._own is None and self._tokenizer.bos_id is not None:
      return np.array(ids[1:][-(room - 1) :], np.int32)
    return np.array(ids[-room:], np.int32)


def generation(settings: Mapping[str, Any]) -> tuple[int, Decoding]:
  """Reads lm-eval's generation settings: maximum tokens, and decoding.

  Raises:
    InputError: at an unknown setting.
  """
  left = dict(settings)
  until = left.pop('until', None) or []
  given = [left.pop(name) for name in _TOKEN_LIMITS if left.get(name) is not None]
  temperature = float(left.pop('temperature', None) or 0.0)
  if not left.pop('do_sample', temperature > 0):
    temperature = 0.0
  top_k, top_p = left.pop('top_k', None), left.pop('top_p', None)
  for name in left:
    raise InputError(
      f'generation_kwargs {name!r}: must be one of until, do_sample, temperature, '
      f'top_k, top_p, {", ".join(_TOKEN_LIMITS)}'
    )
  decoding = Decoding(
    temperature=temperature,
    top_k=top_k if temperature else None,
    top_p=top_p if temperature else None,
    stop=tuple([until] if isinstance(until, str) else until),
  )
  return int(given[0]) if given else _MAX_TOKENS, decoding


def _load(
  path: str, batch_size: int, sequence_length: int | None
) -> tuple[Scorer, str | None]:
  """Loads a model, and its chat template; None if it is asked in FLAN's form."""
  progress = Progress()
  folder = conversion_cache.import_cached(
    path, cache=conversion_cache.FOLDER.expanduser(), progress=progress
  )
  evaluate = EvalConfig(batch_size=batch_size)
  if sequence_length is not None:
    evaluate = dataclasses.replace(evaluate, sequence_length=sequence_length)
  scorer = load_model.load(
    str(folder),
    evaluate=evaluate,
    mesh=MeshConfig(),
    tokenizer=None,
    prompt_style='instructions',
  )
  return scorer, model_dir.chat_template(folder)
