"""Datasets: their declaration, its checks, and how a record becomes an example.

Plain data: nothing here imports TensorFlow, seqio or jax.
`flan_jax.interop.seqio.tasks` turns the declarations into seqio Tasks.
"""

import dataclasses
import re
import typing
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog import splits as splits_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Answer, Choice, Label, Text
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.fields import Clean, Field, Record, not_unicode
from flan_jax.catalog.source import UNKNOWN_SIZE, SeqioTask, Source, Tfds
from flan_jax.errors import InputError, did_you_mean

CLUSTERS = (
  'nli',
  'reading_comprehension',
  'closed_book_qa',
  'commonsense',
  'coreference',
  'reading_comp_commonsense',
  'sentiment',
  'paraphrase',
  'struct_to_text',
  'translation',
  'summarization',
  'misc',
)
"""The paper's twelve task clusters (FLAN figure 3)."""

SPLITS = ('train', 'dev', 'test')


class Example(NamedTuple):
  """One record, read: its fields and its answer.

  Attributes:
    example_id: TFDS split, shard and position, or a generator's id; seeds the draw of
      its templates.
    values: field name -> string, `answer` included.
    answer: options, gold indices and references.
    tokens: token ids of inputs and of targets, if the source has tokenized the example;
      None for an example that a template renders.
  """

  example_id: str
  values: dict[str, str]
  answer: Answer
  tokens: tuple[np.ndarray, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """One dataset and its ten templates.

  Attributes:
    name: short name, as `rte`; its training task is `flan_rte`.
    cluster: its task cluster: one of CLUSTERS, or any other name.
    source: source of its records; None for a declaration without data.
    train, dev, test: slices of the source's splits at their full size, as
      `train[:-200]`; '' for none, None for the source's own split of that kind.
    sizes: split of the source -> number of examples of the full dataset; empty to
      take the source's own.
    fields: field name -> path in the record, or a Field that cleans it.
    cleaning: cleans every text of an example: `prose`, or `verbatim` if every character
      counts.
    answer: Label, Choice or Text.
    evidence: the field, if any, that holds the answer; long prompts are cut around it.
    metric: name of a metric: accuracy, f1, trivia_em, bleu, rouge, or one registered
      with `flan_jax.metric` by the time that it is used.
    reference_metric: metric that the reference code computes instead or in addition;
      '' if it is the same.
    differs: why its figure is not comparable with the published one; '' if it is.
    templates: ways to ask; the paper's datasets have ten or more.
    directions: translation direction, as `fr-en` -> text of its answer. The first is
      that of `answer`; each is evaluated by its own templates, with its own result.
    direction: the direction of a member of `by_direction`; '' in a declaration.
    family: dataset family (`registry.Family`); '' for none.
    paper_name: its name among the paper's 62 datasets; several tasks may be one (ANLI,
      MNLI, ARC, SQuAD). '' if the paper lacks it.
    in_reference: whether it is one of the 69 tasks that the reference trains on.
    derived_from: datasets, or texts by name, that its examples are made of; training on
      it may reveal answers of other datasets made of them (flan_jax.catalog.leakage).
    options_style: style of its OPTIONS blocks (`catalog.options_style`).
    messages: field that holds a conversation (`catalog.chats`), which the model's chat
      template renders; '' for prompts and answers, which `templates` render.
    license, citation, note: shown in the catalog.
  """

  name: str
  cluster: str
  fields: Mapping[str, str | Field]
  answer: Label | Choice | Text
  metric: str
  templates: tuple[template_lib.Template, ...]
  source: Source | Tfds | None = None
  train: str | None = None
  dev: str | None = None
  test: str | None = None
  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  directions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  direction: str = ''
  cleaning: Clean = str
  family: str = ''
  paper_name: str = ''
  evidence: Evidence | None = None
  in_reference: bool = True
  reference_metric: str = ''
  differs: str = ''
  derived_from: tuple[str, ...] = ()
  options_style: str = 'bullets'
  messages: str = ''
  license: str = ''
  citation: str = ''
  note: str = ''

  def __post_init__(self):
    _check(self)

  @property
  def task(self) -> str:
    """Name of its seqio training task."""
    return '_'.join(filter(None, (self.family, self.name)))

  @property
  def in_paper(self) -> bool:
    """True if it belongs to the paper's 62 datasets."""
    return bool(self.paper_name)

  @property
  def sources(self) -> frozenset[str]:
    """Names of itself and of the data that it is derived from."""
    return frozenset((self.name, *self.derived_from))

  @property
  def has_options(self) -> bool:
    return not isinstance(self.answer, Text)

  @property
  def tfds(self) -> str:
    """TFDS name with config and version; '' for another source."""
    return self.source.name if isinstance(self.source, Tfds) else ''

  @property
  def is_tokenized(self) -> bool:
    """True if its examples have tokens of their own, which no template makes."""
    task = isinstance(self.source, SeqioTask) and self.source.tokenized
    return task or bool(self.messages)

  @property
  def slices(self) -> dict[str, str]:
    """Canonical split -> slice of the source, without the splits it lacks."""
    declared = {'train': self.train, 'dev': self.dev, 'test': self.test}
    if None in declared.values() and self.source is not None:
      for name, split in splits_lib.named(self.full_sizes).items():
        if declared[name] is None:
          declared[name] = split
    return {name: text for name, text in declared.items() if text}

  @property
  def full_sizes(self) -> Mapping[str, int]:
    """Split of the source -> its examples: as declared, or as the source counts."""
    if self.sizes or self.source is None or isinstance(self.source, Tfds):
      return self.sizes
    return self.source.sizes()

  @property
  def evaluated_templates(self) -> tuple[int, ...]:
    """Indices of the templates that ask for the answer (FLAN section 2.4)."""
    return tuple(
      i
      for i, template in enumerate(self.templates)
      if not template.inverted and self.direction in ('', template.direction)
    )

  @property
  def label(self) -> str:
    """Name, followed by the direction if any: `wmt14_enfr en-fr`."""
    return f'{self.name} {self.direction}'.rstrip()

  @property
  def by_direction(self) -> tuple['Dataset', ...]:
    """The evaluated datasets: one for each direction that has a template.

    Each keeps the templates under the same indices. A dataset without directions is its
    own single member.
    """
    if self.direction or not self.directions:
      return (self,)
    ways = (
      dataclasses.replace(self, direction=name, answer=Text(text))
      for name, text in self.directions.items()
    )
    return tuple(way for way in ways if way.evaluated_templates)

  def directed(self, example: Example) -> Example:
    """Returns an example of the declaration with the answer of this direction."""
    if not self.direction:
      return example
    answer = self.answer({}, example.values)
    return Example(
      example.example_id, {**example.values, 'answer': answer.text}, answer
    )

  def resolve_splits(self, real: Mapping[str, int]) -> dict[str, splits_lib.Slice]:
    """Canonical split -> slice of the data present (design decision 8)."""
    return splits_lib.resolve(self.slices, self.full_sizes, real)

  def num_examples(self, split: str, sizes: Mapping[str, int] | None = None) -> int:
    """Number of examples of a canonical split, by the declared or given sizes."""
    sizes = sizes or self.full_sizes
    part = self.resolve_splits(sizes).get(split)
    if part is None:
      return 0
    start, stop = part.bounds(sizes.get(part.split, 0))
    return stop - start

  def known_examples(self, split: str) -> int | None:
    """Number of examples of a canonical split; None if only reading them tells."""
    found = self.num_examples(split)
    return found if found < UNKNOWN_SIZE else None

  def field(self, name: str) -> Field:
    """The Field of that name; a plain path becomes a Field."""
    field = self.fields[name]
    return field if isinstance(field, Field) else Field(field)

  def read(self, record: Record, example_id: str) -> Example:
    """Reads one record.

    Raises:
      InputError: if a field is missing or a label is outside its set.
      flan_jax.catalog.fields.Unlabeled: if the example carries no label.
    """
    values = {name: self.cleaning(self.field(name)(record)) for name in self.fields}
    for name, text in values.items():
      if wrong := not_unicode(text):
        raise InputError(f'field {name!r}: {wrong}')
    answer = self.answer(record, values).cleaned(self.cleaning)
    for text in (answer.text, *answer.options, *answer.references):
      if wrong := not_unicode(text):
        raise InputError(f'answer: {wrong}')
    if self.evidence is not None:
      field = self.field(self.evidence.field)
      span = self.evidence(record, field, values, answer, clean=self.cleaning)
      answer = dataclasses.replace(answer, span=span)
    tokens = getattr(record, 'tokens', None)
    return Example(example_id, {**values, 'answer': answer.text}, answer, tokens)


_NAME = re.compile(r'\w[\w.+:#-]*')


def refuse_single(declared: Any, what: str) -> None:
  """Refuses one item, as a text, where a tuple of them belongs.

  Args:
    declared: a dataclass whose tuples are annotated so.
    what: kind and name of it, for messages.
  """
  for field in dataclasses.fields(declared):
    value = getattr(declared, field.name)
    several = isinstance(value, Collection) and not isinstance(value, (str, bytes))
    if typing.get_origin(field.type) is tuple and not several:
      shown = repr(value) if isinstance(value, str) else f'{type(value).__name__}(...)'
      near = '' if value is None else f', as ({shown},)'
      raise InputError(f'{what}: {field.name} {value!r:.60}; must be a tuple{near}')


def _check(dataset: Dataset) -> None:
  """Refuses a declaration that cannot work; `flan_jax.catalog.lint` finds the rest.

  Raises:
    InputError: names the dataset, the declared value and the rule.
  """
  refuse_single(dataset, f'dataset {dataset.name!r}')
  if dataset.evidence and dataset.evidence.field not in dataset.fields:
    raise InputError(
      f'dataset {dataset.name!r}: evidence in {dataset.evidence.field!r}; must be one '
      f'of its fields, {", ".join(dataset.fields)}'
      + did_you_mean(dataset.evidence.field, dataset.fields)
    )
  _check_names(dataset)
  for template in dataset.templates:
    if not isinstance(template, template_lib.Template):
      raise InputError(
        f'dataset {dataset.name!r}: template {template!r}; must be a Template, as '
        "Template('{premise}')"
      )
  for template in dataset.templates:
    template.validate(tuple(dataset.fields), has_options=dataset.has_options)
  _check_answer(dataset)
  _check_source(dataset)
  _check_examples(dataset)
  _check_directions(dataset)


def _check_answer(dataset: Dataset) -> None:
  """Refuses an answer without a field, or with a field that is not declared.

  `Text('response')` would train on the word "response".
  """
  answer = dataset.answer
  if isinstance(answer, Text):
    texts = (answer.text,)
    if not template_lib.names(answer.text):
      word = answer.text
      field = word if word in dataset.fields else next(iter(dataset.fields))
      raise InputError(
        f'dataset {dataset.name!r}: answer Text({word!r}) names no field; every target '
        f"would be these words; must have a field in braces, as Text('{{{field}}}')"
      )
  elif isinstance(answer, Choice) and not isinstance(answer.options, str):
    texts = answer.options
  else:
    return
  for name in (name for text in texts for name in template_lib.names(text)):
    if name not in dataset.fields:
      raise InputError(
        f'dataset {dataset.name!r}: the answer names field {name!r}; must be one of '
        f'{", ".join(dataset.fields)}{did_you_mean(name, dataset.fields)}'
      )


def _declared_slices(dataset: Dataset) -> dict[str, str]:
  """Canonical split -> declared slice, of those that are declared."""
  declared = {'train': dataset.train, 'dev': dataset.dev, 'test': dataset.test}
  return {name: text for name, text in declared.items() if text}


def _check_names(dataset: Dataset) -> None:
  """Refuses a name or a cluster that cannot be part of a task's or a file's name."""
  for what in ('name', 'cluster', 'metric'):
    check_name(f'dataset {dataset.name!r}: {what}', getattr(dataset, what))


def check_name(what: str, name: Any) -> None:
  """Checks the name of a dataset, mixture, cluster, family or metric.

  Raises:
    InputError: if it cannot be part of a task's or a file's name.
  """
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    raise InputError(
      f'{what} {name!r}; must be letters, digits, and '
      "'_', '-', '.', ':', '#' or '+' between them"
    )


def _check_source(dataset: Dataset) -> None:
  """Refuses a source that is none, and slices that cannot be read."""
  source = dataset.source
  if source is not None and not isinstance(source, (Source, Tfds)):
    raise InputError(
      f'dataset {dataset.name!r}: source {source!r}; must be a source, as '
      "Tfds('super_glue/rte:1.0.2') or Json('data/{split}.jsonl')"
    )
  sizes = dataset.sizes
  for setting, text in _declared_slices(dataset).items():
    try:
      split = splits_lib.parse(text).split
    except InputError as error:
      raise InputError(f'dataset {dataset.name!r}: {setting}: {error}') from None
    if split not in sizes and (sizes or isinstance(source, Tfds)):
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {text!r}, and sizes has no {split!r}; '
        f'must be a slice of {", ".join(sizes) or "a split that sizes names"}'
        + did_you_mean(split, sizes)
      )


def _check_examples(dataset: Dataset) -> None:
  """Refuses empty slices, and two slices that share examples."""
  seen: list[tuple[str, str, int, int]] = []
  for setting, text in _declared_slices(dataset).items():
    part = splits_lib.parse(text)
    start, stop = part.bounds(dataset.sizes.get(part.split, UNKNOWN_SIZE))
    if start >= stop:
      examples = dataset.sizes.get(part.split)
      of = '' if examples is None else f' of the {examples:,} of {part.split!r}'
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {text!r}, no example{of}; must have '
        f"one or more, or be '' for no {setting}"
      )
    for other, split, first, last in seen:
      shared = min(stop, last) - max(start, first)
      if split == part.split and shared > 0:
        count = f'{shared:,} example{"s"[: shared != 1]}'
        if split not in dataset.sizes:
          count = 'examples'
        raise InputError(
          f'dataset {dataset.name!r}: {setting} is {text!r} and {other} is '
          f'{getattr(dataset, other)!r}, which share {count}; must share none, as '
          f"'{split}[:-200]' and '{split}[-200:]'"
        )
    seen.append((setting, part.split, start, stop))


def _check_directions(dataset: Dataset) -> None:
  """Refuses evaluated templates without a direction of the dataset's.

  Raises:
    InputError: names the dataset, and the template if one is at fault.
  """
  directions, answer = dataset.directions, dataset.answer
  if directions and not isinstance(answer, Text):
    raise InputError(
      f'dataset {dataset.name!r}: has directions; its answer must be a Text'
    )
  if dataset.direction and dataset.direction not in directions:
    raise InputError(
      f'dataset {dataset.name!r}: no direction {dataset.direction!r}; directions are '
      f'{", ".join(directions) or "none"}' + did_you_mean(dataset.direction, directions)
    )
  if isinstance(answer, Text) and directions and not dataset.direction:
    first, text = next(iter(directions.items()))
    if text != answer.text:
      raise InputError(
        f'dataset {dataset.name!r}: direction {first!r} has the answer {text!r}; the '
        f'first direction must have that of the dataset, {answer.text!r}'
      )
  legal = tuple(directions) or ('',)
  for template in dataset.templates:
    if not template.inverted and template.direction not in legal:
      raise InputError(
        f'dataset {dataset.name!r}, template {template.inputs!r}: direction '
        f'{template.direction!r}; must be one of {", ".join(map(repr, legal))}'
        + did_you_mean(template.direction, legal)
      )
