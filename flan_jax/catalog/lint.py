"""Lint: finds mistakes in templates and label words before they are trained on.

Reads the declarations and the features of prepared datasets: no tokenizer, no record,
no TensorFlow. Checks that Dataset makes itself (an answer that names no field, a slice
that TFDS cannot read) are not repeated here. Mistakes that only records show (a text
that is too long, two equal options of one example) are dropped and counted by
`flan materialize`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flan_jax.catalog import registry, tfds_features
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field
from flan_jax.catalog.template import OPTIONS, Template
from flan_jax.errors import did_you_mean

MIN_TEMPLATES = 10
MAX_INVERTED = 3
"""FLAN section 2.1: ten templates, up to three of them inverted.

This, the OPTIONS block and words of its own are asked of the paper's datasets alone.
"""

NEAR_DUPLICATE = 0.75
"""Word-set overlap from which two templates of a dataset are near-duplicates."""

MAX_TOKENS = 1023
"""Input tokens that FLAN allows, 1024, without the EOS (section 2.4)."""

TOKENS_PER_WORD = 1.4
"""Median over documents of 14 datasets, with T5's vocabulary of 32,000 tokens."""

RULES = {
  'unknown-path': 'a field, the answer or the evidence reads a path that no record has',
  'unknown-source': 'derived_from has a name that no other dataset shares',
  'unknown-field': 'a template names a field that the dataset lacks',
  'unused-field': 'no template and no answer uses a declared field',
  'unused-direction': 'no template goes a declared direction',
  'missing-evidence': 'a template leaves out a field that most others show',
  'answer-in-inputs': 'a template shows the answer that it asks for',
  'target': 'a template asks for the answer if, and only if, it is not inverted',
  'target-no-label': 'a target adds to the label word, so it equals no label',
  'too-long': 'words alone fill 1024 tokens, options and longest documents included',
  'blank': 'blanks at the beginning or end of a template, or at the end of a line',
  'doubled-blank-line': 'two blank lines in succession',
  'options-last': 'OPTIONS must stand once, at the end, on its own line',
  'options-missing': 'a question of the paper does not list its options',
  'duplicate': 'two templates of a dataset have the same words',
  'near-duplicate': 'two templates of a dataset share three quarters of their words',
  'equal-across': "templates of two of the paper's datasets are equal",
  'too-few-templates': 'a dataset of the paper has fewer than ten templates',
  'too-many-inverted': 'a dataset of the paper has more than three inverted templates',
  'label-blank': 'a label word is empty, of two lines, or begins or ends with a blank',
  'label-prefix': 'a label word is the beginning of another',
  'label-count': 'label words are fewer than two, or not one a class',
  'label-repeated': 'two classes have the same label word',
  'label-ambiguous': 'the question makes a label word right for two classes',
  'label-mismatch': 'a question asks for yes or no, and neither is a label word',
}
"""Rule -> the mistake that it finds."""


class Finding(NamedTuple):
  """One mistake.

  Attributes:
    dataset: short name of the dataset.
    template: index of the template; None for a mistake of the dataset.
    rule: key of RULES.
    message: one line for the author of the declaration.
  """

  dataset: str
  template: int | None
  rule: str
  message: str

  def __str__(self) -> str:
    place = '' if self.template is None else f'[{self.template}]'
    return f'{self.dataset}{place}: {self.rule}: {self.message}'


def lint(datasets: Iterable[Dataset]) -> list[Finding]:
  """Finds every mistake in `datasets`, in the order of the declarations."""
  datasets = tuple(datasets)
  found: list[Finding] = []
  for dataset in datasets:
    found += _features(dataset)
    found += _sources(dataset, datasets)
    found += _fields(dataset)
    found += _layout(dataset)
    found += _length(dataset)
    found += _counts(dataset)
    found += _label_words(dataset)
    found += _questions(dataset)
    found += _duplicates(dataset)
  order = {dataset.name: i for i, dataset in enumerate(datasets)}
  found += _equal_across(datasets)
  return sorted(
    found, key=lambda f: (order[f.dataset], -1 if f.template is None else f.template)
  )


def overlap(one: Template, other: Template) -> float:
  """Words that two templates share, over all their words; fields do not count."""
  first, second = _words(one), _words(other)
  return len(first & second) / len(first | second) if first | second else 1.0


def _literal(template: Template) -> str:
  """The inputs with `{}` for every field."""
  parts = template_lib.parse(template.inputs)
  return ''.join(text + ('' if name is None else '{}') for text, name in parts)


def _words(template: Template) -> frozenset[str]:
  return frozenset(re.findall(r"[\w']+", _literal(template).lower()))


def _evaluated(dataset: Dataset) -> list[tuple[int, Template]]:
  """Evaluated templates with their indices."""
  return [(i, dataset.templates[i]) for i in dataset.evaluated_templates]


def _answer_fields(dataset: Dataset) -> frozenset[str]:
  """Fields that the answer (free text, or options) is made of."""
  answer = dataset.answer
  if isinstance(answer, Text):
    return frozenset(template_lib.names(answer.text))
  if not isinstance(answer, Choice):
    return frozenset()
  options = () if isinstance(answer.options, str) else answer.options
  used = {name for text in options for name in template_lib.names(text)}
  return frozenset(used) | set((answer.gap or ())[:1])


def _paths(dataset: Dataset, names: Iterable[str]) -> set[str]:
  """Paths of those fields in the record; '' is the whole record."""
  fields = (dataset.fields[name] for name in names if name in dataset.fields)
  return {field.path if isinstance(field, Field) else field for field in fields}


def _features(dataset: Dataset) -> Iterator[Finding]:
  """Paths and labels that contradict the features of the prepared data."""
  for fault in tfds_features.faults(dataset):
    yield Finding(dataset.name, None, *fault)


def _sources(dataset: Dataset, datasets: Iterable[Dataset]) -> Iterator[Finding]:
  """Names in `derived_from` that no other dataset that may share data has.

  The leakage check compares names, so a name has an effect only if another dataset has
  it as its name or in its own `derived_from`.
  """
  if not dataset.derived_from:
    return
  declared = [*registry.datasets().values(), *datasets]
  shared = {
    source
    for other in declared
    if other.name != dataset.name
    and registry.may_share_data(other.family, dataset.family)
    for source in other.sources
  }
  for source in dataset.derived_from:
    if source not in shared:
      message = (
        f'derived_from {source!r} is neither the name nor a source of another dataset, '
        f'so it finds no leakage{did_you_mean(source, sorted(shared))}'
      )
      yield Finding(dataset.name, None, 'unknown-source', message)


def _fields(dataset: Dataset) -> Iterator[Finding]:
  """Unknown, unused and missing fields; answers shown; targets of the wrong kind."""
  legal = {*dataset.fields, 'answer'}
  used = {name for template in dataset.templates for name in template.fields}
  for name in dataset.fields:
    if name not in used | _answer_fields(dataset):
      yield Finding(dataset.name, None, 'unused-field', f'nothing uses field {name!r}')
  for name in dataset.directions:
    if name not in (template.direction for template in dataset.templates):
      message = f'no template goes {name!r}'
      yield Finding(dataset.name, None, 'unused-direction', message)
  for index, template in enumerate(dataset.templates):
    for name in template.fields:
      if name not in legal:
        message = f'no field {name!r}' + did_you_mean(name, legal)
        yield Finding(dataset.name, index, 'unknown-field', message)
    embedded = '{answer}' in template.targets and template.targets != '{answer}'
    answers = {'{answer}'}
    answer = dataset.answer
    if template.direction in dataset.directions and isinstance(answer, Text):
      text = dataset.directions[template.direction]
      # `{answer}` is the text of the first direction; the others name their field.
      answers = {text} | (answers if text == answer.text else set())
    if embedded and not template.inverted and dataset.has_options:
      message = f'{template.targets!r} decodes to no label; must be {{answer}}'
      yield Finding(dataset.name, index, 'target-no-label', message)
    elif template.inverted == (template.targets in answers):
      message = (
        'inverted, but its target is the answer'
        if template.inverted
        else f'its target is {template.targets!r}: mark it inverted'
      )
      yield Finding(dataset.name, index, 'target', message)
  for way in dataset.by_direction:
    yield from _evidence(way)


def _evidence(dataset: Dataset) -> Iterator[Finding]:
  """Templates of one direction that lack evidence, or show the answer."""
  evaluated = _evaluated(dataset)
  secret = {'answer'}
  if isinstance(dataset.answer, Text):
    secret |= _answer_fields(dataset)
  shown = [set(template_lib.names(t.inputs)) for _, t in evaluated]
  # Fields with one path (a sentence, and the part of it before the gap) are one piece
  # of evidence, so templates are compared by paths.
  read = [_paths(dataset, names - secret) for names in shown]
  found = sorted(set().union(*read) - {''})
  evidence = [p for p in found if 2 * sum(p in paths for paths in read) > len(read)]
  for (index, _), names, paths in zip(evaluated, shown, read, strict=True):
    for path in evidence:
      if path not in paths and '' not in paths:
        message = f'{path!r} of the record, which most templates show, is left out'
        yield Finding(dataset.name, index, 'missing-evidence', message)
    if not names - secret - {OPTIONS}:
      message = 'no field of the example is shown'
      yield Finding(dataset.name, index, 'missing-evidence', message)
    for name in sorted(names & secret):
      message = f'the inputs hold {{{name}}}, which is the answer'
      yield Finding(dataset.name, index, 'answer-in-inputs', message)


def _layout(dataset: Dataset) -> Iterator[Finding]:
  """Misplaced blanks, blank lines and options blocks."""
  for index, template in enumerate(dataset.templates):
    for part, text in (('inputs', template.inputs), ('targets', template.targets)):
      if text != text.strip():
        message = f'{part} begin or end with a blank'
        yield Finding(dataset.name, index, 'blank', message)
      elif re.search(r'[ \t]\n', text):
        message = f'a line of the {part} ends with a blank'
        yield Finding(dataset.name, index, 'blank', message)
      if re.search(r'\n[ \t]*\n[ \t]*\n', text):
        message = f'two blank lines in succession in the {part}'
        yield Finding(dataset.name, index, 'doubled-blank-line', message)
    block = f'{{{OPTIONS}}}'
    if block in template.targets:
      message = 'OPTIONS stands in the targets'
      yield Finding(dataset.name, index, 'options-last', message)
    elif template.has_options:
      last = re.search(rf'[^\n]\n\n?{re.escape(block)}$', template.inputs)
      if not last or template.inputs.count(block) > 1:
        message = 'OPTIONS must end the inputs, after one newline or a blank line'
        yield Finding(dataset.name, index, 'options-last', message)
    elif dataset.in_paper and dataset.has_options and not template.inverted:
      message = 'the answer is one of the options: end the inputs with {OPTIONS}'
      yield Finding(dataset.name, index, 'options-missing', message)


def _length(dataset: Dataset) -> Iterator[Finding]:
  """Templates whose prompts exceed the token limit for any example.

  Counts the words of the template, of the label words in its OPTIONS, and of each field
  that is cut to a number of words; any other field counts as one word.
  """
  shown = dataset.answer.words if isinstance(dataset.answer, Label) else ()
  for index, template in enumerate(dataset.templates):
    words = len(_literal(template).replace('{}', ' ').split())
    for name in template_lib.names(template.inputs):
      field = dataset.fields.get(name)
      if name == OPTIONS:
        words += len(template_lib.options_block(shown).split())
      elif isinstance(field, Field):
        words += field.max_words or 1
      else:
        words += 1
    tokens = round(words * TOKENS_PER_WORD)
    if tokens > MAX_TOKENS:
      message = f'{words} words are about {tokens} tokens; must be {MAX_TOKENS} at most'
      yield Finding(dataset.name, index, 'too-long', message)


def _counts(dataset: Dataset) -> Iterator[Finding]:
  """Fewer templates, or more inverted ones, than the paper's protocol has."""
  if not dataset.in_paper:
    return
  total = len(dataset.templates)
  if total < MIN_TEMPLATES:
    message = f'{total} templates; must be {MIN_TEMPLATES} or more'
    yield Finding(dataset.name, None, 'too-few-templates', message)
  inverted = total - len(_evaluated(dataset))
  if inverted > MAX_INVERTED:
    message = f'{inverted} inverted templates; must be {MAX_INVERTED} at most'
    yield Finding(dataset.name, None, 'too-many-inverted', message)


def _label_words(dataset: Dataset) -> Iterator[Finding]:
  """Label words and declared options that are malformed or ambiguous."""
  if isinstance(dataset.answer, Label):
    words = dataset.answer.words
  elif isinstance(dataset.answer, Choice) and not isinstance(
    dataset.answer.options, str
  ):
    words = dataset.answer.options
  else:
    return
  if isinstance(dataset.answer, Label) and len(words) < 2:
    message = f'{len(words)} label words; must be 2 or more'
    yield Finding(dataset.name, None, 'label-count', message)
  for word in words:
    if word != word.strip() or not word or '\n' in word:
      message = f'{word!r} is empty, has two lines, or begins or ends with a blank'
      yield Finding(dataset.name, None, 'label-blank', message)
  folded = [word.strip().lower() for word in words]
  for i, one in enumerate(folded):
    for j, other in enumerate(folded):
      if i < j and one == other:
        message = f'{words[i]!r} stands for two classes'
        yield Finding(dataset.name, None, 'label-repeated', message)
      elif one and one != other and other.startswith(one):
        message = f'{words[i]!r} is the beginning of {words[j]!r}'
        yield Finding(dataset.name, None, 'label-prefix', message)


def _questions(dataset: Dataset) -> Iterator[Finding]:
  """Questions without a matching label word, or with one that fits two classes."""
  if not isinstance(dataset.answer, Label):
    return
  words = dataset.answer.words
  folded = {word.strip().lower() for word in words}
  for index, template in _evaluated(dataset):
    text = _literal(template).lower()
    asks = [s for s in _sentences(text) if s.endswith('?') or ' whether ' in s]
    # If the question asks for proof, "no" fits both "undecided" and "contradicted".
    asked = _ASKS_FOR_PROOF.search(' '.join(asks))
    if asked and len(words) > 2 and 'no' in folded:
      message = f'"no" fits two classes if the question says {asked[1]!r}'
      yield Finding(dataset.name, index, 'label-ambiguous', message)
    named = any(re.search(rf'\b{re.escape(word)}\b', text) for word in folded)
    if named or {'yes', 'no'} & folded:
      continue
    for question in filter(_asks_yes_or_no, asks):
      message = f'{question!r} asks for yes or no; labels: {", ".join(words)}'
      yield Finding(dataset.name, index, 'label-mismatch', message)


def _sentences(text: str) -> list[str]:
  """Sentences and headings of a literal text, each with its final punctuation."""
  return [s.strip() for s in re.findall(r'[^.?!:\n]+[.?!:]?', text) if s.strip()]


_ASKS_FOR_PROOF = re.compile(
  r'\b(follows? from|follow\?|impl(?:y|ies|ied)|entail\w*|infer\w*|conclu\w+|'
  r'support(?:s|ed)?|prove[dns]?|proof|establish\w*|confirm(?:s|ed)?|'
  r'bear(?:s)? out|borne out|back(?:s|ed)? up|guarantee\w*|justif\w+)\b'
)
"""Words of questions about the evidence, to which "no" means "not proved"."""

_AUXILIARY = re.compile(
  r'(?:^|, )["\W]*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|'
  r'shall|should|may|might|must)\b'
)
_OPEN = re.compile(r'\b(?:what|which|who|whom|whose|where|when|why|how|or)\b')


def _asks_yes_or_no(sentence: str) -> bool:
  """True for a question with its verb first that is neither open nor either-or."""
  asks = sentence.endswith('?') and _AUXILIARY.search(sentence)
  return bool(asks) and not _OPEN.search(sentence)


def _duplicates(dataset: Dataset) -> Iterator[Finding]:
  """Templates of one dataset with the same or nearly the same words."""
  for index, template in enumerate(dataset.templates):
    for earlier, other in enumerate(dataset.templates[:index]):
      shared = overlap(template, other)
      if not _words(template) and template.inputs != other.inputs:
        continue  # the fields alone, in another order
      if shared == 1:
        message = f'has the same words as template {earlier}'
        yield Finding(dataset.name, index, 'duplicate', message)
      elif shared >= NEAR_DUPLICATE:
        message = f'shares {shared:.0%} of its words with template {earlier}'
        yield Finding(dataset.name, index, 'near-duplicate', message)


def _equal_across(datasets: tuple[Dataset, ...]) -> Iterator[Finding]:
  """Templates of two of the paper's datasets that are equal but for names of fields.

  Variants of one dataset (`anli/r1` and `anli/r2`) may share their whole list.
  """
  seen: dict[str, tuple[Dataset, int]] = {}
  for dataset in filter(lambda dataset: dataset.in_paper, datasets):
    own: dict[str, int] = {}
    for index, template in enumerate(dataset.templates):
      text = ' '.join(_literal(template).lower().split())
      own.setdefault(text, index)
      if text not in seen:
        continue
      other, place = seen[text]
      if not _variants(dataset, other):
        message = f'equals template {place} of {other.name!r}'
        yield Finding(dataset.name, index, 'equal-across', message)
    for text, index in own.items():
      seen.setdefault(text, (dataset, index))


def _variants(one: Dataset, other: Dataset) -> bool:
  """True for versions of one dataset: same TFDS builder, same templates."""
  builders = {re.split('[/:]', dataset.tfds)[0] for dataset in (one, other)}
  return len(builders) == 1 and '' not in builders and one.templates == other.templates
