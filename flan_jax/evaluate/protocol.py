"""The zero-shot protocol: what is rendered, scored and measured, in which order.

Every template of a dataset that asks for the answer is measured on the same rows of
dev and test; classification and multiple choice are ranked by log-probability, free
text is generated; the base model reads the same prompts as the tuned one (FLAN
section 2.4). Nothing here needs TensorFlow.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from flan_jax.catalogue import Dataset, Row
from flan_jax.data import draw
from flan_jax.data import rows as rows_lib
from flan_jax.data.rendering import Limits
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, prompts
from flan_jax.evaluate.generation import Generated
from flan_jax.evaluate.prompts import Fitted
from flan_jax.evaluate.scoring import Request, Scored

SPLITS = ('dev', 'test')

_BLOCK = 1024
"""Prompts rendered, scored and let go of together, so that memory stays bounded."""

_NAMED = 3
"""Rows named in a warning; the others are counted."""


class LanguageModel(Protocol):
  """What is evaluated; `flan_jax.evaluate.scoring.Scorer` is one."""

  tokenizer: Tokenizer
  row_length: int

  def score(self, requests: Sequence[Request]) -> Scored: ...

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_new_tokens: int
  ) -> Generated: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitResult:
  """One split of one dataset.

  Attributes:
    rows: those measured.
    tuned: statistics of the dataset's metric, float64 [T, N, S] for T templates, N
      rows; NaN where a prompt could not be made to fit.
    base: the same of the base model, or None.
  """

  rows: tuple[Row, ...]
  tuned: np.ndarray
  base: np.ndarray | None

  @property
  def measured(self) -> bool:
    """Whether every model could be given at least one prompt."""
    models = [self.tuned, *([] if self.base is None else [self.base])]
    return not any(np.isnan(scores).all() for scores in models)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetResult:
  """One dataset: its measured templates, and its splits by name."""

  dataset: Dataset
  templates: tuple[int, ...]
  splits: Mapping[str, SplitResult]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
  """What `evaluate` returns.

  Attributes:
    datasets: in the order asked for; those without a row are left out.
    timing: the `timing` of report.json.
    warnings: one line each, for people.
  """

  datasets: tuple[DatasetResult, ...]
  timing: Mapping[str, Any]
  warnings: tuple[str, ...]


def sample(rows: Iterable[Row], *, most: int | None, seed: int) -> list[Row]:
  """At most `most` rows, drawn by a seeded hash of their ids, in their own order.

  Which rows are drawn does not depend on how they are stored, and a smaller sample is
  part of a larger one.
  """
  found = list(rows)
  if most is None or len(found) <= most:
    return found
  order = sorted(
    range(len(found)), key=lambda i: draw.key('sample', seed, found[i].row_id)
  )
  return [found[i] for i in sorted(order[:most])]


def evaluate(
  scorer: LanguageModel,
  *,
  datasets: Sequence[Dataset],
  rows: Callable[[str, str], Iterable[Row]],
  base: LanguageModel | None = None,
  templates: int | Sequence[int] | None = None,
  max_rows: int | None = None,
  splits: Sequence[str] = SPLITS,
  limits: Limits | None = None,
  max_new_tokens: int | None = None,
  seed: int = 0,
  emit: Callable[..., None] | None = None,
  progress: Callable[[str, str, int, int], None] | None = None,
) -> Results:
  """Measures a model, and a base model beside it, zero-shot.

  Args:
    scorer: the tuned model.
    datasets: those of the held-out clusters.
    rows: (dataset name, split) -> rows, as `Store.evaluation_rows`.
    base: the model before tuning; it sees the same rows and prompts.
    templates: the first so many, or these indices, of `Dataset.evaluated_templates`;
      None for all of them. Turned-around templates are never measured.
    max_rows: most rows of each split, drawn by `seed`; None for all.
    splits: `dev` chooses the best template, `test` is reported.
    limits: most tokens of inputs; longer prompts have their fields cut, and are
      counted in a warning.
    max_new_tokens: most tokens of a generated answer; None for limits.targets.
    seed: of the sample of rows.
    emit: called as emit(prediction, split=, model=) for every prediction, as
      `report.Predictions` is.
    progress: called as progress(stage, dataset, rows done, rows in all).

  Raises:
    InputError: if a dataset has none of the templates, or an option does not fit in
      a scoring row.
  """
  limits = limits or Limits()
  models = {'tuned': scorer} | ({} if base is None else {'base': base})
  work = _Work(
    models=models,
    limits=limits,
    max_new_tokens=max_new_tokens or limits.targets,
    emit=emit,
    clocks={name: _Clock() for name in models},
    warnings=_Warnings(),
  )
  found = []
  for dataset in datasets:
    indices = _templates(dataset, templates)
    drawn = {
      split: sample(rows(dataset.name, split), most=max_rows, seed=seed)
      for split in splits
      if split in dataset.slices
    }
    drawn = {split: some for split, some in drawn.items() if some}
    if not drawn:
      work.warnings.add(dataset.name, f'no rows in {" or ".join(splits)}; left out')
      continue
    queue = [(split, row) for split, some in drawn.items() for row in some]
    block = max(1, _BLOCK // len(indices))
    measured = []
    for start in range(0, len(queue), block):
      measured.append(work.measure(dataset, indices, queue[start : start + block]))
      if progress is not None:
        done = min(start + block, len(queue))
        progress('evaluate', dataset.name, done, len(queue))
    parts = _by_split(drawn, measured)
    parts = {split: part for split, part in parts.items() if part.measured}
    if parts:
      found.append(DatasetResult(dataset=dataset, templates=indices, splits=parts))
  timing = work.clocks['tuned'].as_json()
  if base is not None:
    timing['base'] = work.clocks['base'].as_json()
  return Results(datasets=tuple(found), timing=timing, warnings=work.warnings.lines())


def _by_split(
  drawn: Mapping[str, Sequence[Row]], measured: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, SplitResult]:
  """Blocks of scores, whose rows are those of all splits in turn, taken apart."""
  joined = {
    model: np.concatenate([block[model] for block in measured], axis=1)
    for model in measured[0]
  }
  parts = {}
  start = 0
  for split, some in drawn.items():
    at = slice(start, start + len(some))
    scores = {model: whole[:, at] for model, whole in joined.items()}
    parts[split] = SplitResult(
      rows=tuple(some), tuned=scores['tuned'], base=scores.get('base')
    )
    start += len(some)
  return parts


def _templates(dataset: Dataset, asked: int | Sequence[int] | None) -> tuple[int, ...]:
  legal = dataset.evaluated_templates
  if asked is None:
    return legal
  kept = legal[:asked] if isinstance(asked, int) else tuple(asked)
  kept = tuple(index for index in kept if index in legal)
  if not kept:
    raise InputError(
      f'templates {asked!r}: none of them asks for the answer of dataset '
      f'{dataset.name!r}; those that do are {", ".join(map(str, legal))}'
    )
  return kept


@dataclasses.dataclass
class _Clock:
  """What one model computed, and how long it took."""

  examples: int = 0
  seconds: float = 0.0
  tokens_scored: int = 0
  tokens_naive: int = 0
  tokens_read: int = 0
  tokens_written: int = 0

  def as_json(self) -> dict[str, Any]:
    rate = self.examples / self.seconds if self.seconds else 0.0
    return {'examples_per_s': rate, **dataclasses.asdict(self)}


class _Warnings:
  """Lines for people: rows named up to a few, and counted."""

  def __init__(self):
    self._rows: dict[tuple[str, str], list[str]] = {}

  def add(self, dataset: str, what: str, row: str = '') -> None:
    self._rows.setdefault((dataset, what), []).append(row)

  def lines(self) -> tuple[str, ...]:
    out = []
    for (dataset, what), rows in self._rows.items():
      names = ', '.join(dict.fromkeys(filter(None, rows[:_NAMED])))
      more = f' and {len(rows) - _NAMED:,} more' if len(rows) > _NAMED else ''
      out.append(f'{dataset}: {what}' + (f' ({names}{more})' if names else ''))
    return tuple(out)


@dataclasses.dataclass
class _Work:
  """What stays the same over all datasets of one evaluation."""

  models: Mapping[str, LanguageModel]
  limits: Limits
  max_new_tokens: int
  emit: Callable[..., None] | None
  clocks: Mapping[str, _Clock]
  warnings: _Warnings

  def measure(
    self, dataset: Dataset, templates: Sequence[int], rows: Sequence[tuple[str, Row]]
  ) -> dict[str, np.ndarray]:
    """Statistics of each model on a block of (split, row), float64 [T, N, S]."""
    pairs = [(row, template) for template in templates for _, row in rows]
    splits = [split for _ in templates for split, _ in rows]
    out = {}
    fitted: dict[str, list[Fitted | None]] = {}
    for name, model in self.models.items():
      digest = model.tokenizer.digest
      if digest not in fitted:
        fitted[digest] = self._fit(dataset, pairs, model)
      work = [
        (row, template, prompt)
        for (row, template), prompt in zip(pairs, fitted[digest], strict=True)
        if prompt is not None
      ]
      answer = self._rank if dataset.has_options else self._write
      predictions = answer(dataset, work, name)
      self.clocks[name].examples += len(work)
      metric = metrics.get(dataset.metric)
      measured = metric.scores(
        [prediction.text for prediction in predictions],
        [prediction.references for prediction in predictions],
      )
      kept = [i for i, prompt in enumerate(fitted[digest]) if prompt is not None]
      scores = np.full((len(pairs), measured.shape[1]), np.nan)
      scores[kept] = measured
      out[name] = scores.reshape(len(templates), len(rows), -1)
      if self.emit is not None:
        for i, prediction in zip(kept, predictions, strict=True):
          self.emit(prediction.record, split=splits[i], model=name)
    return out

  def _fit(
    self, dataset: Dataset, pairs: Sequence[tuple[Row, int]], model: LanguageModel
  ) -> list[Fitted | None]:
    rooms = [self.limits.inputs - 1] * len(pairs)
    if dataset.has_options:
      ids = _encoded(
        [o for row, _ in pairs for o in row.answer.options], model.tokenizer
      )
      for i, (row, _) in enumerate(pairs):
        longest = max((len(ids[option]) for option in row.answer.options), default=0)
        taken = rows_lib.length(0, longest, model.tokenizer.bos_id)
        rooms[i] = min(rooms[i], model.row_length - taken)
    fitted = prompts.fit(dataset, pairs, tokenizer=model.tokenizer, rooms=rooms)
    for (row, template), prompt in zip(pairs, fitted, strict=True):
      where = f'row {row.row_id} template {template}'
      if prompt is None:
        what = 'prompts left out: blank, or too long whatever is cut'
        self.warnings.add(dataset.name, what, where)
      elif prompt.cut:
        self.warnings.add(dataset.name, 'prompts with fields cut to fit', where)
    return fitted

  def _rank(
    self, dataset: Dataset, work: Sequence[tuple[Row, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    ids = _encoded([o for row, *_ in work for o in row.answer.options], model.tokenizer)
    requests = [
      Request(
        prompt.ids,
        tuple(ids[option] for option in row.answer.options),
        f'dataset {dataset.name!r}, row {row.row_id!r}, template {template}',
      )
      for row, template, prompt in work
    ]
    for request in requests:
      if not any(len(option) for option in request.options):
        raise InputError(f'{request.name}: no option has a token; nothing to rank')
    scored = model.score(requests)
    self.clocks[name].seconds += scored.seconds
    self.clocks[name].tokens_scored += scored.tokens_scored
    self.clocks[name].tokens_naive += scored.tokens_naive
    out = []
    for (row, template, prompt), found in zip(
      work, scored.log_probabilities, strict=True
    ):
      options, gold = row.answer.options, row.answer.gold
      broken = bool(np.isnan(found).any())
      if broken:
        self._nan(dataset, row, template, name)
      best = None if broken else int(found.argmax())
      record = _record(dataset, row, template, prompt) | {
        'log_probabilities': [float(v) if np.isfinite(v) else None for v in found],
        'gold': list(gold),
        'predicted': best,
      }
      text = '' if best is None else options[best]
      out.append(_Prediction(record, text, [options[i] for i in gold]))
    return out

  def _write(
    self, dataset: Dataset, work: Sequence[tuple[Row, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    generated = model.generate(
      [prompt.ids for *_, prompt in work], max_new_tokens=self.max_new_tokens
    )
    self.clocks[name].seconds += generated.seconds
    self.clocks[name].tokens_read += generated.tokens_read
    self.clocks[name].tokens_written += generated.tokens_written
    out = []
    for (row, template, prompt), tokens, broken in zip(
      work, generated.tokens, generated.nan, strict=True
    ):
      if broken:
        self._nan(dataset, row, template, name)
      text = '' if broken else model.tokenizer.decode(tokens).strip()
      references = list(row.answer.references) or [row.answer.text]
      record = _record(dataset, row, template, prompt) | {
        'text': text,
        'gold': references,
        'predicted': None if broken else text,
      }
      out.append(_Prediction(record, text, references))
    return out

  def _nan(self, dataset: Dataset, row: Row, template: int, name: str) -> None:
    where = f'row {row.row_id} template {template}'
    what = f'NaN from the {name} model, counted as wrong'
    self.warnings.add(dataset.name, what, where)


@dataclasses.dataclass(frozen=True)
class _Prediction:
  """A line of predictions.jsonl, and the texts that the metric compares."""

  record: dict[str, Any]
  text: str
  references: list[str]


def _encoded(texts: Sequence[str], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
  """Token ids of every distinct text."""
  distinct = list(dict.fromkeys(texts))
  return dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))


def _record(
  dataset: Dataset, row: Row, template: int, prompt: Fitted
) -> dict[str, Any]:
  return {
    'row_id': row.row_id,
    'dataset': dataset.name,
    'template': template,
    'prompt': prompt.text,
    'options': list(row.answer.options),
  }
