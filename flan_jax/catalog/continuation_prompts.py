"""Continuation prompts for untuned models: no instruction, no OPTIONS.

A base LM does not follow instructions; FLAN measures it with prompts that the answer
continues (section 2.4, where they are GPT-3's; these are our own). The options stay
those of the dataset, so that chance, majority and metric are the same.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flan_jax.catalog import prompt
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.template import Template

STYLE = 'continuation'

TARGET_DELIMITER = ' '
"""Stands between a prompt and its answer."""

IN_LINES = ('coqa', 'cnn_dailymail')
"""Datasets whose answers have several lines; an empty line ends an answer."""

_UNANSWERABLE = '(If the text does not say: unanswerable)'

_FOLLOWS = '{premise}\nQuestion: Is this so? {hypothesis}\nAnswer:'
_ANLI = '{context}\nQuestion: Is this so? {hypothesis}\nAnswer:'
_SAME = (
  'A: {sentence1}\nB: {sentence2}\nQuestion: Do A and B mean the same thing?\nAnswer:'
)
_READ = '{context}\nQuestion: {question}\nAnswer:'
_READ_PASSAGE = '{passage}\nQuestion: {question}\nAnswer:'
_ASKED = 'Question: {question}\nAnswer:'
_REVIEW = '{text}\nThe feeling of this text is'
_LANGUAGES = {
  'para_crawl_enes': ('es', 'Spanish'),
  'para_crawl_ende': ('de', 'German'),
  'para_crawl_enfr': ('fr', 'French'),
  'wmt14_enfr': ('fr', 'French'),
  'wmt16_translate_deen': ('de', 'German'),
  'wmt16_translate_tren': ('tr', 'Turkish'),
  'wmt16_translate_csen': ('cs', 'Czech'),
  'wmt16_translate_fien': ('fi', 'Finnish'),
  'wmt16_translate_roen': ('ro', 'Romanian'),
  'wmt16_translate_ruen': ('ru', 'Russian'),
}
"""Translation dataset -> code and name of the language other than English."""


def _translation(code: str, name: str) -> dict[str, str]:
  """Direction -> the prompt that the translation continues."""
  return {
    f'{code}-en': '{foreign}\nIn English:',
    f'en-{code}': f'{{english}}\nIn {name}:',
  }


PROMPTS: Mapping[str, str | Mapping[str, str]] = {
  **dict.fromkeys(('anli_r1', 'anli_r2', 'anli_r3'), _ANLI),
  **dict.fromkeys(
    ('mnli_matched', 'mnli_mismatched', 'rte', 'snli', 'mini_rte', 'mini_cb'),
    _FOLLOWS,
  ),
  'cb': '{premise}\nQuestion: Is it so that {hypothesis}?\nAnswer:',
  'qnli': '{sentence}\nQuestion: Does that answer this? {question}\nAnswer:',
  'wnli': '{sentence1}\nQuestion: Is this so? {sentence2}\nAnswer:',
  'bool_q': '{title}\n' + _READ_PASSAGE,
  'mini_boolq': _READ_PASSAGE,
  'drop': _READ_PASSAGE,
  **dict.fromkeys(
    ('multirc', 'mini_multirc'),
    '{paragraph}\nQuestion: {question}\nReply: {response}\n'
    'Is the reply right?\nAnswer:',
  ),
  'openbookqa': '{fact}\n{question}',
  'mini_obqa': '{fact}\n{stem}',
  'squad_v1': '{title}\n' + _READ,
  'squad_v2': (
    f'{{title}}\n{{context}}\n{_UNANSWERABLE}\nQuestion: {{question}}\nAnswer:'
  ),
  **dict.fromkeys(('mini_squad', 'cosmos_qa', 'mini_cosmos'), _READ),
  **dict.fromkeys(
    ('arc_challenge', 'arc_easy', 'natural_questions', 'trivia_qa', 'mini_arc'), _ASKED
  ),
  'copa': '{premise}\nThe {relation}:',
  'mini_copa': '{premise}\nThe {wanted}:',
  'hellaswag': '{topic}: {context}',
  'piqa': '{goal}\nAnswer:',
  'story_cloze': '{context}',
  'definite_pronoun_resolution': '{sentence}\nThe word "{pronoun}" here stands for',
  **dict.fromkeys(('winogrande', 'wsc273', 'mini_winogrande'), '{start}'),
  'wsc': '{text}\nQuestion: Does "{pronoun}" here stand for "{noun}"?\nAnswer:',
  'record': '{passage}\nWith a gap: {line}\nFrom the gap on:',
  **dict.fromkeys(('imdb_reviews', 'sentiment140', 'yelp_polarity_reviews'), _REVIEW),
  **dict.fromkeys(('sst2', 'mini_sst2'), '{sentence}\nThe feeling of this text is'),
  **dict.fromkeys(('glue_mrpc', 'paws_wiki', 'mini_mrpc'), _SAME),
  'glue_qqp': (
    'A: {question1}\nB: {question2}\nQuestion: Do A and B ask the same thing?\nAnswer:'
  ),
  'stsb': (
    'A: {sentence1}\nB: {sentence2}\n'
    'From 0 (nothing shared) to 5 (the same), A and B score'
  ),
  'common_gen': 'Words: {concepts}\nA sentence with all of them:',
  'mini_common_gen': 'Words: {concepts}\nA sentence with all of them:',
  'dart': 'Facts: {facts}\nIn words:',
  'e2e_nlg': 'Facts: {listing}\nIn words:',
  'web_nlg_en': 'Facts: {triples}\nIn words:',
  'aeslc': '{email}\nSubject of this e-mail:',
  'cnn_dailymail': '{article}\nThe main points:',
  'gigaword': '{sentence}\nHeadline:',
  'multi_news': '{reports}\nAll of this as one short article:',
  'newsroom': '{title}\n{text}\nIn short:',
  'samsum': '{chat}\nSummary of this chat:',
  'xsum': '{document}\nIn one sentence:',
  'mini_xsum': '{document}\nIn one sentence:',
  'ag_news_subset': '{title}\n{text}\nSection of the newspaper:',
  'opinion_abstracts_rotten_tomatoes': (
    'Reviews of {movie}:\n{reviews}\nWhat the critics say on the whole:'
  ),
  'opinion_abstracts_idebate': (
    'Motion: {motion}\nArguments:\n{arguments}\nWhat they show, in short:'
  ),
  'wiki_lingua_english_en': '{guide}\nThe steps in short:',
  'coqa': '{story}\nQuestions:\n{questions}\nAnswers:',
  'quac': (
    'Article: {title}\nSection: {section}\n{context}\n'
    f'{_UNANSWERABLE}\nQuestion: {{question}}\nAnswer:'
  ),
  'wic': '{sentence1}\n{sentence2}\nIn these two lines the word "{word}" has',
  'math_dataset': '{equation}\n{variable} =',
  'cola': '{sentence}\nAs a sentence of English, this is',
  'mini_cola': '{sentence}\nThis sentence is',
  'fix_punct': 'Without punctuation: {bare}\nWith punctuation:',
  'trec': 'Question: {question}\nType of answer:',
  'mini_trec': 'Question: {text}\nType of answer:',
  'true_case': 'In small letters: {lowered}\nWith its capitals:',
  'word_segment': 'Without spaces: {joined}\nWith spaces:',
  **{name: _translation(*language) for name, language in _LANGUAGES.items()},
  'mini_wmt': {'vl-en': '{vl}\nIn English:', 'en-vl': '{en}\nIn Velish:'},
}
"""Dataset -> its prompt, or direction -> prompt."""


def apply(dataset: Dataset) -> Dataset:
  """Returns the dataset with its continuation prompt as the only template.

  Every dataset of the catalog has its own prompt. For any other, the prompt lists the
  named fields of the first template, one a line, and ends with `answer:`. A
  declaration with directions uses its first.
  """
  first = dataset.templates[dataset.evaluated_templates[0]]
  text = PROMPTS.get(dataset.name)
  if isinstance(text, Mapping):
    text = text.get(first.direction)
  if text is None:
    lines = [f'{name.replace("_", " ")}: {{{name}}}' for name in first.input_fields]
    text = '\n'.join([*lines, 'answer:'])
  template = Template(text, direction=first.direction)
  return dataclasses.replace(dataset, templates=(template,))


_CLOSED_UP = re.compile(r"[,;:.?!)](?=\s|$)|'s\b|n't\b")
"""Beginnings of text without a blank before them: HellaSwag has such endings."""


def delimited(target_delimiter: str, answer: str) -> str:
  """Puts the delimiter before an answer, except before a comma and the like."""
  return answer if _CLOSED_UP.match(answer) else target_delimiter + answer


def continuing(prompt: str, answer: str) -> str:
  """Puts TARGET_DELIMITER before an answer, unless its prompt ends with a blank."""
  if not prompt or prompt[-1].isspace() or answer[:1].isspace():
    return answer
  return delimited(TARGET_DELIMITER, answer)


def delimiters(dataset: Dataset) -> dict[str, Any]:
  """The text before an answer, and the text at which a generated answer ends."""
  return {
    'target_delimiter': TARGET_DELIMITER,
    'end': '\n\n' if dataset.name in IN_LINES else '\n',
  }


def exemplar(dataset: Dataset, template: int, example: Example) -> str:
  """Renders one exemplar with its answer and an empty line."""
  shown = prompt.render(dataset, template, example)
  return f'{shown.inputs}{delimited(TARGET_DELIMITER, shown.targets)}\n\n'
