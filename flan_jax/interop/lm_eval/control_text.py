"""Control tokens as text: `[BOS] prompt EOS` spelled out, as lm-eval passes it around.

lm-eval hands a model plain strings, but a tuned model is asked with BOS and EOS: a mark
such as `</s>` stands for the token. A prompt that spells a mark stays text, by the rule
of the exported chat template (huggingface/chat_template.py).
"""

import re

import numpy as np

from flan_jax.data.chat import ChatTemplate
from flan_jax.data.tokenizers import HuggingFace, SentencePiece, Tokenizer
from flan_jax.interop.huggingface import chat_template

_BYTES = {'eos': '</s>'}


def mark(tokenizer: Tokenizer, role: str) -> str:
  """Spells the token of a role, as `</s>` of 'eos', as `transformers` reads it."""
  if isinstance(tokenizer, HuggingFace):
    return tokenizer.roles[role]
  if isinstance(tokenizer, SentencePiece):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    found = {'bos': tokenizer.bos_id, 'eos': tokenizer.eos_id}[role]
    assert found is not None, role
    return model.id_to_piece(found)
  return _BYTES[role]


class ControlText:
  """Text with control tokens of one tokenizer.

  Attributes:
    tokenizer: the tokenizer.
    bos: mark of BOS; '' if the model has none.
    eos: mark of EOS.
  """

  def __init__(self, tokenizer: Tokenizer, chat: ChatTemplate | None = None):
    """Prepares the marks.

    Args:
      tokenizer: the tokenizer.
      chat: chat template of the model, whose control tokens are marks, too; texts are
        then tokenized as `chat.encode_rendered` does. None if it has none of its own.
    """
    self.tokenizer = tokenizer
    self._chat = chat
    self.eos = mark(tokenizer, 'eos')
    self.bos = '' if tokenizer.bos_id is None else mark(tokenizer, 'bos')
    self._ids = {self.eos: tokenizer.eos_id}
    if tokenizer.bos_id is not None:
      self._ids[self.bos] = tokenizer.bos_id
    self._split = re.compile(f'({"|".join(map(re.escape, self._ids))})')

  def asked(self, prompt: str) -> str:
    """Spells `[BOS] prompt EOS`; marks in the prompt are broken, so they stay text."""
    return f'{self.bos}{chat_template.render(prompt, self._ids)}{self.eos}'

  def encode(self, text: str) -> np.ndarray:
    """Encodes a text to token ids, int32 [n]; its marks become control tokens.

    The parts between marks are texts of their own, as in training.
    """
    if self._chat is not None:
      return self._chat.encode_rendered(text)
    parts = [part for part in self._split.split(text) if part]
    plain = [
      part.replace(chat_template.JOINT, '') for part in parts if part not in self._ids
    ]
    encoded = iter(self.tokenizer.encode_batch(plain))
    ids = [
      np.array([self._ids[part]], np.int32) if part in self._ids else next(encoded)
      for part in parts
    ]
    return np.concatenate(ids) if ids else np.zeros(0, np.int32)
