"""The chat template of a tuned model: `[BOS] prompt EOS answer EOS`, as in training.

`transformers` tokenizes the rendered text, in which a prompt may spell a control token.
The template writes JOINT inside such a spelling, and the normalizer of the exported
`tokenizer.json` removes JOINT after control tokens were found: the spelling stays text,
and its tokens are those of the prompt.
"""

import re
from collections.abc import Iterable

from flan_jax.data.chat_template import FILE as FILE

JOINT = '\ue0fb\ue0fd'
"""Private-use characters that break a control token, and that no tokenizer sees."""

_TEMPLATE = """\
{{%- macro text(content) -%}}
{{%- if content is not string -%}}
{{%- set content = content | map(attribute='text') | join -%}}
{{%- endif -%}}
{{%- set out = namespace(text=content | replace({joint}, {joined})) -%}}
{{%- for mark in {marks} -%}}
{{%- set out.text = out.text | replace(mark, mark[:1] ~ {joint} ~ mark[1:]) -%}}
{{%- endfor -%}}
{{{{- out.text -}}}}
{{%- endmacro -%}}
{{%- set answered = messages | length == 2 and messages[1]['role'] == 'assistant' -%}}
{{%- if messages[0]['role'] != 'user' or (messages | length != 1 and not answered) -%}}
{{{{- raise_exception({refusal}) -}}}}
{{%- endif -%}}
{{{{- {bos}text(messages[0]['content']) ~ eos_token -}}}}
{{%- if answered -%}}
{{%- generation -%}}
{{{{- text(messages[1]['content']) ~ eos_token -}}}}
{{%- endgeneration -%}}
{{%- endif -%}}
"""

_REFUSAL = (
  'This model was tuned on one prompt and one answer: give one user message (and its '
  'answer, to score it); put earlier turns and instructions into that message.'
)


def of(*, bos: bool, marks: Iterable[str]) -> str:
  """Returns the template.

  Args:
    bos: whether the model was trained with BOS.
    marks: strings to break wherever a prompt spells one.
  """
  return _TEMPLATE.format(
    joint=_quoted(JOINT),
    joined=_quoted(_joined()),
    marks=f'[{", ".join(map(_quoted, marks))}]',
    refusal=_quoted(_REFUSAL),
    bos='bos_token ~ ' if bos else '',
  )


def marks_of(control: Iterable[str], other: Iterable[str]) -> list[str]:
  """Returns the strings to break: beginnings of all control tokens.

  `<unused0>` to `<unused99>` share the beginning `<unused`.

  Args:
    control: control tokens, which no prompt becomes.
    other: added tokens that a prompt may become.
  """
  other = list(other)
  found = set()
  for token in control:
    start = re.sub(r'\d*\W*$', '', token)
    shared = len(start) > 1 and not any(start in name for name in other)
    found.add(start if shared else token)
  return sorted(found)


def render(text: str, marks: Iterable[str]) -> str:
  """Renders a prompt as the template does."""
  text = text.replace(JOINT, _joined())
  for mark in marks:
    text = text.replace(mark, mark[:1] + JOINT + mark[1:])
  return text


def _joined() -> str:
  """Text from which the normalizer makes JOINT, by removing JOINT inside it."""
  return JOINT[:1] + JOINT + JOINT[1:]


def _quoted(text: str) -> str:
  """A Jinja string, whose escapes are those of Python."""
  return repr(text)
