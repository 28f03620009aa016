"""The catalogue: what a Dataset and a Mixture are, and where they are declared.

Plain data: nothing here imports TensorFlow, seqio or jax.
`flan_jax.interop.seqio.tasks` turns these declarations into seqio Tasks and Mixtures.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import declaration
from flan_jax.catalog import splits as splits_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.fields import Answer, Choice, Clean, Field, Label, Record, Text
from flan_jax.catalog.prompt_style import Style
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

WORLDS = {
  'flan': 'flan_jax.tasks',
  'microworld': 'flan_jax.microworld.tasks',
}
"""Family of datasets -> package whose `DATASETS` declares them."""


class Row(NamedTuple):
  """One record, read: its fields and what it expects.

  Attributes:
    row_id: TFDS split, shard and position, or a generator's id; draws its templates.
    values: field name -> string, `answer` included.
    answer: options, gold indices and references.
  """

  row_id: str
  values: dict[str, str]
  answer: Answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """One dataset and its ten templates.

  Attributes:
    name: short name, as `rte`; its training task is `flan_rte`.
    cluster: one of CLUSTERS.
    tfds: TFDS name with config and pinned version; '' where a generator makes it.
    train, dev, test: TFDS slices of the full dataset ('' where there is none).
    sizes: TFDS split -> number of rows of the full dataset.
    fields: field name -> path in the record, or a Field that cleans it.
    cleaning: of every text of a row: `prose`, or `verbatim` if every character counts.
    answer: Label, Choice or Text.
    evidence: the field, if any, that holds the answer; long prompts are cut around it.
    metric: name in flan_jax.evaluate.metrics: accuracy, f1, trivia_em, bleu, rouge.
    reference_metric: what the reference's code computes instead of it or beside it;
      '' where that is the same.
    differs: why its figure is not comparable with the published one; '' where it is.
    templates: ten or more.
    directions: ways of a translation, as `fr-en`, each with the text of its answer. The
      first is the way of `answer`; each is evaluated by its own templates, with a
      result of its own.
    direction: the one of them that is asked about, in a member of `by_direction`; ''
      in a declaration.
    family: the world it belongs to, a key of WORLDS.
    paper_name: what the paper counts it as, one of its 62; several tasks may be one
      (ANLI, MNLI, ARC, SQuAD). '' where the paper's view lacks it.
    in_reference: whether it is one of the 69 tasks that the reference trains on.
    derived_from: datasets, or texts by name, that its rows are made of; it may give
      away what another dataset made of them is asked (see flan_jax.catalog.leakage).
    licence, citation, note: for the reader of the catalogue.
  """

  name: str
  cluster: str
  tfds: str
  train: str
  dev: str
  test: str
  sizes: Mapping[str, int]
  fields: Mapping[str, str | Field]
  answer: Label | Choice | Text
  metric: str
  templates: tuple[template_lib.Template, ...]
  directions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  direction: str = ''
  cleaning: Clean = str
  family: str = 'flan'
  paper_name: str = ''
  evidence: Evidence | None = None
  in_reference: bool = True
  reference_metric: str = ''
  differs: str = ''
  derived_from: tuple[str, ...] = ()
  licence: str = ''
  citation: str = ''
  note: str = ''

  def __post_init__(self):
    if self.cluster not in CLUSTERS:
      raise InputError(
        f'dataset {self.name!r}: cluster {self.cluster!r}; must be one of '
        f'{", ".join(CLUSTERS)}' + did_you_mean(self.cluster, CLUSTERS)
      )
    declaration.check(self)

  @property
  def task(self) -> str:
    """Name of its seqio training task."""
    return f'{self.family}_{self.name}'

  @property
  def in_paper(self) -> bool:
    """Whether it belongs to the paper's 62 datasets."""
    return bool(self.paper_name)

  @property
  def sources(self) -> frozenset[str]:
    """What its rows are made of: itself, and whatever it is derived from."""
    return frozenset((self.name, *self.derived_from))

  @property
  def has_options(self) -> bool:
    return not isinstance(self.answer, Text)

  @property
  def slices(self) -> dict[str, str]:
    """Canonical split -> declared TFDS slice, without the splits it lacks."""
    declared = {'train': self.train, 'dev': self.dev, 'test': self.test}
    return {name: text for name, text in declared.items() if text}

  @property
  def evaluated_templates(self) -> tuple[int, ...]:
    """Indices of the templates that ask for the answer (FLAN section 2.4)."""
    return tuple(
      i
      for i, template in enumerate(self.templates)
      if not template.turned_around and self.direction in ('', template.direction)
    )

  @property
  def label(self) -> str:
    """Its name, and its direction where it has one: `wmt14_enfr en-fr`."""
    return f'{self.name} {self.direction}'.rstrip()

  @property
  def by_direction(self) -> tuple['Dataset', ...]:
    """What is evaluated: the dataset in each direction that a template goes.

    They have the templates of the dataset under the same indices. A dataset without
    directions is the only one.
    """
    if self.direction or not self.directions:
      return (self,)
    ways = (
      dataclasses.replace(self, direction=name, answer=Text(text))
      for name, text in self.directions.items()
    )
    return tuple(way for way in ways if way.evaluated_templates)

  def directed(self, row: Row) -> Row:
    """A row of the declaration, with the answer of this direction."""
    if not self.direction:
      return row
    answer = self.answer({}, row.values)
    return Row(row.row_id, {**row.values, 'answer': answer.text}, answer)

  def resolve_splits(self, real: Mapping[str, int]) -> dict[str, splits_lib.Slice]:
    """Canonical split -> slice of the data really there (design decision 8)."""
    return splits_lib.resolve(self.slices, self.sizes, real)

  def rows(self, split: str, sizes: Mapping[str, int] | None = None) -> int:
    """Number of rows of a canonical split, of the declared or the given sizes."""
    part = self.resolve_splits(sizes or self.sizes).get(split)
    if part is None:
      return 0
    start, stop = part.bounds((sizes or self.sizes).get(part.split, 0))
    return stop - start

  def field(self, name: str) -> Field:
    """How the field of that name is read."""
    field = self.fields[name]
    return field if isinstance(field, Field) else Field(field)

  def read(self, record: Record, row_id: str) -> Row:
    """Reads one record.

    Raises:
      InputError: if a field is missing or a label is outside its set.
      flan_jax.catalog.fields.Unlabelled: if the row carries no label.
    """
    values = {name: self.cleaning(self.field(name)(record)) for name in self.fields}
    answer = self.answer(record, values).cleaned(self.cleaning)
    if self.evidence is not None:
      field = self.field(self.evidence.field)
      span = self.evidence(record, field, values, answer, clean=self.cleaning)
      answer = dataclasses.replace(answer, span=span)
    return Row(row_id, {**values, 'answer': answer.text}, answer)


class Prompt(NamedTuple):
  """A row put into words by one template."""

  inputs: str
  targets: str


ANSWER = 'ANSWER: '
"""Stands between what an exemplar asks and what it answers."""

NEXT = '\n\n###\n\n'
"""Stands between two exemplars, and between the last and the prompt."""


def render(
  dataset: Dataset, template: int, row: Row, *, exemplars: Sequence[Row] = ()
) -> Prompt:
  """Puts `row` into words; the only place that renders a dataset's template.

  Args:
    dataset: the declaration.
    template: index of the template; the exemplars are put into words by it as well.
    row: what is asked.
    exemplars: rows shown with their answers beforehand (FLAN section 4.4). Without
      them the prompt is the zero-shot one, with them it ends in it.
  """
  asked = Prompt(*dataset.templates[template].render(row.values, row.answer.options))
  shown = ''.join(exemplar(dataset, template, row) for row in exemplars)
  return asked._replace(inputs=shown + asked.inputs)


def exemplar(dataset: Dataset, template: int, row: Row) -> str:
  """One exemplar with its answer, and the line that parts it from what follows."""
  shown = render(dataset, template, row)
  return f'{shown.inputs}\n{ANSWER}{shown.targets}{NEXT}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
  """Datasets that train together, and what is held out of them.

  Attributes:
    name: its seqio name, as `flan_held_out_nli`.
    datasets: names of the datasets that train.
    held_out: clusters measured and never trained on ('' entries never occur).
    excluded: further clusters left out because they are too near (FLAN footnote 1).
    family: the world of its datasets.
    style: how its rows are put into words.
    shared_cap: whether tasks that the paper counts as one dataset share one maximum
      rate; otherwise each task has its own, as in the reference.
    accepted: (dataset that trains, what it shares with a held-out one): derivations
      that the guard lets through with a warning.
    note: why it holds what it holds, for the reader of `flan tasks --mixture`.
  """

  name: str
  datasets: tuple[str, ...]
  held_out: tuple[str, ...] = ()
  excluded: tuple[str, ...] = ()
  family: str = 'flan'
  style: Style = Style()
  shared_cap: bool = False
  accepted: tuple[tuple[str, str], ...] = ()
  note: str = ''

  @property
  def members(self) -> tuple[Dataset, ...]:
    """Its datasets, in the words of its style."""
    return tuple(self.style.of(get(name, family=self.family)) for name in self.datasets)

  @property
  def trained_on(self) -> tuple[str, ...]:
    clusters = {get(name, family=self.family).cluster for name in self.datasets}
    return tuple(c for c in CLUSTERS if c in clusters)


@functools.cache
def family(name: str) -> dict[str, Dataset]:
  """Every dataset of a world, by short name, in the order of the declarations.

  Raises:
    InputError: if a name is declared twice, or a dataset names no metric there is.
  """
  from flan_jax.evaluate import metrics  # needs this module

  found: dict[str, Dataset] = {}
  for dataset in importlib.import_module(WORLDS[name]).DATASETS:
    if dataset.name in found:
      raise InputError(f'dataset {dataset.name!r}: declared twice in {WORLDS[name]}')
    try:
      metrics.get(dataset.metric)
    except InputError as error:
      raise InputError(f'dataset {dataset.name!r}: {error}') from None
    found[dataset.name] = dataset
  return found


def get(name: str, *, family: str = 'flan') -> Dataset:
  """The dataset of that short name.

  Raises:
    InputError: if there is none; names the nearest.
  """
  datasets = globals()['family'](family)
  if name not in datasets:
    raise InputError(
      f'dataset {name!r}: not declared; `flan tasks` lists them'
      + did_you_mean(name, datasets)
    )
  return datasets[name]


def find(name: str) -> Dataset | None:
  """The dataset of that short name in any world; None where there is none."""
  found = (family(world).get(name) for world in WORLDS)
  return next((dataset for dataset in found if dataset is not None), None)


@functools.cache
def tasks() -> dict[str, Dataset]:
  """Training task name (`flan_rte`) -> dataset, of every world."""
  return {d.task: d for world in WORLDS for d in family(world).values()}


def task(name: str) -> Dataset:
  """The dataset behind a task name, as `flan_rte`.

  Raises:
    InputError: if there is none; names the nearest.
  """
  if name in mixtures():
    raise InputError(
      f'task {name!r}: a mixture; give one of its tasks: `flan tasks --mixture {name}` '
      'lists them'
    )
  if name not in tasks():
    raise InputError(
      f'task {name!r}: not registered; `flan tasks` lists them'
      + did_you_mean(name, tasks())
    )
  return tasks()[name]


@functools.cache
def mixtures() -> dict[str, Mixture]:
  """Every declared mixture by name."""
  declared = importlib.import_module('flan_jax.mixtures').MIXTURES
  return {mixture.name: mixture for mixture in declared}


def mixture(name: str) -> Mixture:
  """The mixture (or the one task, as a mixture) of that name.

  Raises:
    InputError: if there is none; names the nearest.
  """
  if name in mixtures():
    return mixtures()[name]
  if name in tasks():
    dataset = tasks()[name]
    return Mixture(name=name, datasets=(dataset.name,), family=dataset.family)
  raise InputError(
    f'mixture {name!r}: not registered; `flan tasks --mixture` lists them'
    + did_you_mean(name, [*mixtures(), *tasks()])
  )


def as_json(dataset: Dataset, *, rate: int) -> dict[str, Any]:
  """One object of `flan tasks --json`."""
  answer_type = {Label: 'classification', Choice: 'multiple_choice', Text: 'generation'}
  return {
    'dataset': dataset.name,
    'cluster': dataset.cluster,
    'in_paper': dataset.in_paper,
    'paper_name': dataset.paper_name,
    'tfds': dataset.tfds,
    'splits': dataset.slices,
    'rate': rate,
    'metric': dataset.metric,
    'answer_type': answer_type[type(dataset.answer)],
    'templates': [
      {
        'inputs': template.inputs,
        'targets': template.targets,
        'turned_around': template.turned_around,
        **({'direction': template.direction} if template.direction else {}),
      }
      for template in dataset.templates
    ],
  }
