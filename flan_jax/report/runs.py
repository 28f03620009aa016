"""Reports of many models: which are seeds of one run, and which are its steps."""

import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.config.training import CHANGES_NO_STEP
from flan_jax.errors import InputError
from flan_jax.report import schema

FILE = 'report.json'


class Training(NamedTuple):
  """The training of a model, as its report records it.

  Attributes:
    run: name of the run; '' if unknown.
    seed: its SEED.
    step: steps done; None if unknown.
    settings: digest of all that its steps depend on, but SEED.
  """

  run: str
  seed: int
  step: int | None
  settings: str


class Report(NamedTuple):
  """A report.json.

  Attributes:
    folder: its folder.
    content: the content of the file.
    training: training of the model; None if not recorded.
  """

  folder: pathlib.Path
  content: dict[str, Any]
  training: Training | None

  @property
  def given(self) -> pathlib.Path:
    """The run or the evaluation: the folder that a user names."""
    return self.folder.parent if self.folder.name == 'report' else self.folder


def find(paths: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
  """Finds the folders of reports.

  Args:
    paths: each a run's MODEL_DIR, the folder of an evaluation, its report.json, or a
      folder that holds any of them at any depth.

  Raises:
    InputError: if a path holds no report.
  """
  found: dict[pathlib.Path, pathlib.Path] = {}
  for given in paths:
    path = pathlib.Path(given)
    if path.name == FILE and path.is_file():
      path = path.parent
    places = [place for place in (path, path / 'report') if (place / FILE).is_file()]
    places = places[:1] or sorted(each.parent for each in path.rglob(FILE))
    if not places:
      raise InputError(
        f'{str(given)!r}: no report.json; must be MODEL_DIR, an evaluation, its '
        'report.json, or a folder that holds such folders'
      )
    for place in places:
      found.setdefault(place.resolve(), place)
  return list(found.values())


def load(folders: Iterable[pathlib.Path]) -> list[Report]:
  """Reads the reports in some folders.

  Raises:
    InputError: as `schema.load`.
  """
  reports = []
  for folder in folders:
    content = schema.load(folder)
    reports.append(Report(folder, content, training(content)))
  return reports


def training(report: Mapping[str, Any]) -> Training | None:
  """Returns the training that a report records, or None.

  A report that does not record it (an older one) has the settings of its run, if the
  run made it.
  """
  found = report.get('training')
  if found is not None:
    return Training(found['run'], found['seed'], found['step'], found['settings'])
  given = settings(report)
  seed = given.get('Run.seed')
  if seed is None or not seed.isdigit():
    return None
  ignored = {f'Run.{name}' for name in ('model_dir', 'seed', *CHANGES_NO_STEP)}
  kept = {
    name: value
    for name, value in given.items()
    if name not in ignored and name.partition('.')[0] not in _OF_EVALUATION
  }
  steps = given.get('Run.train_steps', '')
  run = pathlib.PurePath(given.get('Run.model_dir', '').strip('\'"')).name
  step = int(steps) if steps.isdigit() else None
  return Training(run, int(seed), step, digest([kept, report['data_digest']]))


_OF_EVALUATION = ('Evaluate', 'Decoding', 'Mesh')
"""Selectors of settings that change no step."""


def settings(report: Mapping[str, Any]) -> dict[str, str]:
  """Returns the settings of a report's configuration: name -> value, as gin text."""
  lines = report.get('provenance', {}).get('config', '').splitlines()
  pairs = (line.rpartition('  # ')[0].partition(' = ') for line in lines)
  return {name: value for name, _, value in pairs if name}


def digest(values: Any) -> str:
  """Returns a digest of settings, as JSON."""
  text = json.dumps(values, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


VALIDATION = 'validation'
"""`cluster` of the figures on dev of the training datasets."""


def results(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the results of a report, those of its validation in the same form."""
  found = [*report['results']]
  validation = report.get('validation')
  if validation is None:
    return found
  common = {
    'cluster': VALIDATION, 'split': 'dev', 'num_fewshot': 0, 'prompt_style': '',
    'chance': None, 'majority': None, 'per_template': [],
  }  # fmt: skip
  for dataset, figures in validation['datasets'].items():
    for label, metric in figures['metrics'].items():
      direction = label.removeprefix(dataset).strip()
      named = {'direction': direction} if direction else {}
      named |= {'dataset': dataset, 'metric': metric['metric'], 'n': metric['n']}
      ends = {'mean': metric['value'], 'ci95': metric['ci95']}
      found.append({**common, **named, **ends})
  if validation['loss'] is not None:
    named = {'dataset': 'dev', 'metric': 'loss in nats', 'kind': schema.VALUE}
    figure = {'n': validation['examples'], 'mean': validation['loss'], 'ci95': None}
    found.append({**common, **named, **figure})
  return found


def is_validation(result: Mapping[str, Any]) -> bool:
  """Returns whether a result is on dev of a training dataset."""
  return result['cluster'] == VALIDATION


def manner(report: Mapping[str, Any], model: str = 'tuned') -> str:
  """Returns a digest of how a model was measured: prompts, answers, EVAL_SEED.

  Args:
    report: content of report.json.
    model: 'tuned' or 'base'.
  """
  styles = {
    (result['num_fewshot'], figures['prompt_style'], result.get('options_style'))
    for result, figures in _measured(report, model)
    if not is_validation(result)
  }
  return digest([sorted(map(str, styles)), report.get('answers'), report['seed']])


def rows(report: Mapping[str, Any], model: str = 'tuned') -> dict[tuple, str]:
  """Returns the key of each row that a model was measured on -> digest of its data.

  Equal for two models that were measured on the same examples and templates.
  """
  data = report['data'].get('datasets')
  digests = {schema.label(part): part['digest'] for part in data or ()}
  found = {}
  for result, figures in _measured(report, model):
    source = report['data_digest']
    if data and not is_validation(result):
      source = digests.get(schema.label(result))
    templates = [entry['template'] for entry in figures['per_template']]
    found[row_key(result)] = digest([result['split'], result['n'], templates, source])
  return found


def row_key(result: Mapping[str, Any]) -> tuple[str, str, str, bool]:
  """Returns what makes a result a row of its own: dataset, direction, metric."""
  named = result['dataset'], result.get('direction', ''), result['metric']
  return (*named, is_validation(result))


def _measured(
  report: Mapping[str, Any], model: str
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
  """Returns the results that a model was measured on, each with its figures."""
  if model == 'tuned':
    return [(result, result) for result in results(report)]
  return [(result, result['base']) for result in report['results'] if 'base' in result]


class Model(NamedTuple):
  """One model: weights, measured in one manner.

  Attributes:
    which: 'tuned', or 'base' for the base that reports measured beside their models.
    sources: its reports, on different datasets.
  """

  which: str
  sources: tuple[Report, ...]

  @property
  def first(self) -> Report:
    return self.sources[0]

  @property
  def rows(self) -> dict[tuple, str]:
    found: dict[tuple, str] = {}
    for source in self.sources:
      found |= rows(source.content, self.which)
    return found

  def source(self, key: tuple) -> Report | None:
    """Returns the first report with a row; None if it was not measured."""
    for source in self.sources:
      if key in rows(source.content, self.which):
        return source
    return None


class Column(NamedTuple):
  """A column of the table: a model, or those of one run under several seeds.

  Attributes:
    name: its name.
    models: one for each seed.
    series: digest that the steps of one run have in common.
    step: step of the run; None if unknown.
  """

  name: str
  models: tuple[Model, ...]
  series: str
  step: int | None

  @property
  def which(self) -> str:
    return self.models[0].which

  @property
  def seeds(self) -> tuple[int, ...]:
    """SEED of each model; () if unknown."""
    found = [model.first.training for model in self.models]
    return tuple(training.seed for training in found if training is not None)


def columns(reports: Sequence[Report]) -> tuple[list[Column], list[str]]:
  """Groups reports into columns: runs that differ in SEED alone are one.

  Bases come first, then the models in the order given, each by step.

  Returns:
    The columns, and a remark on every report that is no column by itself although its
    settings are those of another.
  """
  tuned, remarks = _models(reports, 'tuned')
  groups: dict[tuple[str, int | None], dict[int, Model]] = {}
  for i, model in enumerate(tuned):
    known, how = model.first.training, manner(model.first.content)
    series = f'model {i}' if known is None else digest([known.settings, how])
    step, seed = (None, 0) if known is None else (known.step, known.seed)
    reason = ''
    for count in itertools.count():
      group = groups.setdefault((f'{series} {count}', step), {})
      reason = reason or _apart(model, seed, group)
      if not _apart(model, seed, group):
        group[seed] = model
        break
    if reason:
      remarks.append(f'{model.first.given}: {reason}; a column by itself')
  by_series: dict[str, list[tuple[int | None, tuple[Model, ...]]]] = {}
  for (series, step), by_seed in groups.items():
    ordered = tuple(by_seed[seed] for seed in sorted(by_seed))
    by_series.setdefault(series, []).append((step, ordered))
  found = []
  for series, several in by_series.items():
    name = _common([model.first for _, models in several for model in models])
    for step, models in sorted(several, key=lambda pair: pair[0] or 0):
      at = f'@{step}' if len(several) > 1 else ''
      found.append(Column(name + at, models, series, step))
  return distinct([*bases(reports, found), *found]), remarks


def _apart(model: Model, seed: int, group: Mapping[int, Model]) -> str:
  """Says why a model is no further seed of a column; '' if it is one."""
  if seed in group:
    other = group[seed].first
    same = _weights(model.first, 'tuned') == _weights(other, 'tuned')
    differs = 'measured on other examples' if same else 'with other weights'
    return f'SEED and settings of {other.given}, {differs}'
  for other in group.values():
    before = other.rows
    shared = [row for row in model.rows if row in before]
    if not shared or any(before[row] != model.rows[row] for row in shared):
      return f'settings of {other.first.given}, measured on other examples'
  return ''


def _models(reports: Sequence[Report], which: str) -> tuple[list[Model], list[str]]:
  """Merges the reports of one model on different datasets."""
  found: dict[tuple[str, str], list[Model]] = {}
  order: list[tuple[tuple[str, str], int]] = []
  remarks = []
  for report in reports:
    measured = rows(report.content, which)
    if not measured and which == 'base':
      continue
    key = _weights(report, which), manner(report.content, which)
    same = found.setdefault(key, [])
    for i, model in enumerate(same):
      before = model.rows
      if all(before.get(row, value) == value for row, value in measured.items()):
        if measured.keys() <= before.keys() and which == 'tuned':
          remarks.append(
            f'{report.given}: left out; the weights and examples of {model.first.given}'
          )
        same[i] = model._replace(sources=(*model.sources, report))
        break
    else:
      order.append((key, len(same)))
      same.append(Model(which, (report,)))
  return [found[key][i] for key, i in order], remarks


def bases(reports: Sequence[Report], tuned: Sequence[Column]) -> list[Column]:
  """Returns the columns of the bases: one base for all seeds, or one for each."""
  bases, _ = _models(reports, 'base')
  found: dict[tuple[int, ...], Column] = {}
  for column in tuned:
    sources = {id(source) for model in column.models for source in model.sources}
    own = [
      i
      for i, base in enumerate(bases)
      if any(id(source) in sources for source in base.sources)
    ]
    if own:
      models = tuple(bases[i] for i in own)
      name = _base_name(models[0].first.content)
      found.setdefault(
        tuple(own), Column(name, models, f'base of {column.series}', None)
      )
  return list(found.values())


def _base_name(report: Mapping[str, Any]) -> str:
  """Names the base that a report measured: `gemma3_270m (base)`, or `base`."""
  path = report.get('base_checkpoint')
  if path is None:
    path = settings(report).get('Run.initial_checkpoint', 'None').strip('\'"')
  return 'base' if path == 'None' else f'{pathlib.PurePath(path).name} (base)'


def _weights(report: Report, which: str) -> str:
  """Returns the fingerprint of a model's weights, or its folder if not recorded."""
  models = report.content.get('provenance', {}).get('models', {})
  return models.get(which, {}).get('fingerprint') or f'{which} of {report.folder}'


def _common(reports: Sequence[Report]) -> str:
  """Names reports of one run: their common folder name, less the seed's or the step."""
  names = [report.given.name.partition('@')[0] for report in reports]
  if len(set(names)) == 1:
    return names[0]
  name = os.path.commonprefix(names).rstrip('0123456789').rstrip('-_.= ')
  for word in ('seed', 'step', 's'):
    shorter = name.removesuffix(word)
    name = shorter.rstrip('-_.= ') if shorter[-1:] in ('-', '_', '.') else name
  return name or reports[0].content['model'] or names[0]


def distinct(found: Sequence[Column]) -> list[Column]:
  """Makes names unique: with the folder above, or else with a number."""
  names = [column.name for column in found]
  out: list[Column] = []
  taken: set[str] = set()
  for column in found:
    name, given = column.name, column.models[0].first.given
    if names.count(name) > 1:
      above = given.absolute().parent.name
      base = column.which == 'base'
      name = f'{name} of {given.name}' if base else f'{above}/{name}'
    count, free = 1, name
    while free in taken:
      count += 1
      free = f'{name} ({count})'
    taken.add(free)
    out.append(column._replace(name=free))
  return out
