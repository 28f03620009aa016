"""`flan ask`: asks a model, once or in a dialogue."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime import signals
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.jobs.language_model import LanguageModel


HELP = """\
PROMPT                  ask; the answer is written as it is generated
/options a | b | c      rank these options for the last prompt, or for the next one
/reset                  forget the last prompt and the options
/help                   show this
/quit                   end, as Ctrl-D; Ctrl-C stops an answer"""


def run(options: argparse.Namespace) -> int:
  from flan_jax.config import checks
  from flan_jax.runtime import standard_input

  checks.check('--max-tokens', options.max_tokens, checks.count(1, checks.MAX_LENGTH))
  checks.check('--seed', options.seed, checks.uint32)
  checks.check('--temperature', options.temperature, checks.at_least(0, finite=True))
  ranked = split_options('--options', options.options)
  if options.chat and (options.options or options.continues):
    other = '--options' if options.options else '--continues'
    raise InputError(f'--chat: {other} is given, too; must be one of the two')
  prompt = options.prompt
  if prompt is None and options.json:
    raise InputError(
      '--json: got no PROMPT; must be one, or - to read it from standard input'
    )
  if prompt == '-':
    prompt = standard_input.read().removesuffix('\n')
  console.quiet_absl()
  model = _load(options)
  if options.chat and not model.chats:
    raise InputError(
      f'--chat: {options.model!r} keeps no chat template; leave --chat out: a tuned '
      'model is asked as it was tuned'
    )
  talk = Dialogue(model, options, ranked)
  if prompt is None:
    return talk.run()
  if options.json:
    console.print_json(talk.answered(prompt))
  else:
    talk.ask(prompt)
  return 0


def _load(options: argparse.Namespace) -> 'LanguageModel':
  from flan_jax.jobs import language_model
  from flan_jax.runtime import compilation_cache

  compilation_cache.seal()
  return language_model.load_model(
    options.model, continues=options.continues, progress=Progress()
  )


def split_options(name: str, text: str | None) -> tuple[str, ...]:
  """Splits `a | b | c`; () for None.

  Raises:
    InputError: if there are fewer than two, one is blank, or two are equal.
  """
  if text is None:
    return ()
  found = tuple(part.strip() for part in text.split('|'))
  if len(found) < 2 or not all(found) or len(set(found)) < len(found):
    raise InputError(
      f"{name}: got {text.strip()!r}; must be two or more different texts, as 'yes|no'"
    )
  return found


class Dialogue:
  """A model, asked one prompt at a time.

  Attributes:
    options: options to rank for the next prompt; () to generate its answer.
    last: the last prompt, or None.
  """

  def __init__(
    self,
    model: 'LanguageModel',
    settings: argparse.Namespace,
    options: Sequence[str] = (),
  ):
    self._model = model
    self._settings = settings
    self.options = tuple(options)
    self.last: str | None = None
    self._turns: list[dict[str, str]] = []

  def run(self) -> int:
    """Reads prompts until the end of standard input; returns the exit code."""
    tty = sys.stdin.isatty()
    if tty:
      _line_editing()
      print('/help lists the commands; Ctrl-D ends', file=sys.stderr)
    while True:
      try:
        line = input('> ' if tty else '').strip()
      except EOFError:
        if tty:
          print()
        return 0
      except KeyboardInterrupt:
        signals.forget()
        print()
        continue
      if line == '/quit':
        return 0
      try:
        self.take(line)
      except KeyboardInterrupt:
        signals.forget()
        print()
      except InputError as error:
        print(f'flan: error: {error}', file=sys.stderr)

  def take(self, line: str) -> None:
    """Answers a prompt, or obeys a command.

    Raises:
      InputError: at an unknown command, bad options, or a prompt that is too long.
    """
    command, _, rest = line.partition(' ')
    if not line:
      return
    if not command.startswith('/'):
      self.ask(line)
    elif command == '/options':
      if self._settings.chat:
        raise InputError('/options: not with --chat, which ranks nothing')
      self.options = split_options('/options', rest)
      if self.last is not None:
        self.ask(self.last)
    elif command == '/reset':
      self.options, self.last, self._turns = (), None, []
    elif command == '/help':
      print(HELP)
    else:
      raise InputError(
        f'{command}: must be /options, /reset, /help or /quit; a prompt begins '
        'with another character'
      )

  def ask(self, prompt: str) -> None:
    """Prints the answer to a prompt as it is generated, or its ranked options."""
    self.last, options, self.options = prompt, self.options, ()
    if not options:
      for piece in self._stream(prompt):
        print(piece, end='', flush=True)
      print(flush=True)
      return
    for each in self._ranked(prompt, options):
      print(f'{each["probability"]:7.2%}  {each["option"]}', flush=True)

  def answered(self, prompt: str) -> dict[str, Any]:
    """The prompt with its answer; of ranked options, with their probabilities."""
    if not self.options:
      return {'prompt': prompt, 'answer': ''.join(self._stream(prompt))}
    ranked = self._ranked(prompt, self.options)
    return {'prompt': prompt, 'answer': ranked[0]['option'], 'options': ranked}

  def _stream(self, prompt: str) -> Iterator[str]:
    """Yields the answer; in a chat, the turns before are shown to the model."""
    asked = [*self._turns, {'role': 'user', 'content': prompt}]
    answer = ''
    for piece in self._model.stream(
      asked if self._settings.chat else prompt,
      max_tokens=self._settings.max_tokens,
      temperature=self._settings.temperature,
      seed=self._settings.seed,
      weight_dtype=self._settings.weight_dtype,
    ):
      answer += piece
      yield piece
    self._turns = [*asked, {'role': 'assistant', 'content': answer}]

  def _ranked(self, prompt: str, options: Sequence[str]) -> list[dict[str, Any]]:
    """The options, the most probable first; of equal ones, the first."""
    import numpy as np

    texts = options
    if self._settings.continues:
      from flan_jax.catalog import continuation_prompts

      texts = [continuation_prompts.continuing(prompt, option) for option in options]
    logp = self._model.loglikelihood([(prompt, texts)])[0].astype(np.float64)
    odds = np.exp(logp - logp.max())
    return [
      {
        'option': options[i],
        'probability': float(odds[i] / odds.sum()),
        'log_probability': float(logp[i]),
      }
      for i in np.argsort(-logp, kind='stable')
    ]


def _line_editing() -> None:
  """Turns on line editing and history, where Python has them."""
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401
