"""A study: its cells checked, run in processes of their own, and put on one page."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import leakage
from flan_jax.checkpoints import model_dir
from flan_jax.config import gin
from flan_jax.config.setting import refusal
from flan_jax.config.study import OUTPUT, Cell, StudyConfig
from flan_jax.config.training import TrainConfig
from flan_jax.errors import InputError
from flan_jax.jobs import (
  decoder_fields,
  evaluate_checkpoint,
  run_store,
  study_processes,
  training_data,
)
from flan_jax.jobs.study_processes import Ended, Job
from flan_jax.report import kept_scores, runs
from flan_jax.report.study import Entry
from flan_jax.runtime import atomic_file
from flan_jax.runtime.progress import Progress
from flan_jax.train import initial_model

_SELECTOR = {'train': 'Run', 'eval': 'Evaluation'}

_ELSEWHERE = (
  'model_dir', 'output_dir', 'store', 'base_responses', 'tfds_data_dir', 'writers',
  'hooks', 'keep', 'log_period', 'checkpoint_period', 'hang_s', 'mesh',
)  # fmt: skip
"""Fields that may have changed since a cell was finished."""


class Checked(NamedTuple):
  """A cell whose settings are whole.

  Attributes:
    cell: the cell.
    config: its settings.
    fields: field of DecoderConfig -> bound value, of a run.
    resolved: name -> value of every setting, as gin text.
  """

  cell: Cell
  config: Any
  fields: Mapping[str, Any]
  resolved: Mapping[str, str]


class Study:
  """A study whose cells have been checked; nothing is written before `run`."""

  def __init__(
    self,
    config: StudyConfig,
    *,
    search_paths: Sequence[str] = (),
    modules: Sequence[str] = (),
  ):
    """Checks every cell.

    Args:
      config: settings of the study.
      search_paths: folders of gin files, for every cell.
      modules: modules of --module, for every cell.

    Raises:
      InputError: at the first cell with a wrong setting; or if a cell was finished with
        other settings than it has now.
    """
    self.config = config
    self.folder = pathlib.Path(config.study_dir)
    self._more = [f'--gin_search_paths={path}' for path in search_paths]
    for name in modules:
      self._more += ['--module', name]
    self.checked = [
      _check(cell, self._output(cell), search_paths) for cell in config.cells()
    ]
    for each in self.checked:
      self._check_unchanged(each)
    self.jobs = self._jobs()

  def check_inputs(self, only: Iterable[str] | None = None) -> None:
    """Checks the names and models of the cells to run, before the first of them.

    Raises:
      InputError: if a mixture, a cluster or a model is not there, or something held out
        would train.
    """
    left = {job.name: job for job in self.left(only)}
    for each in self.checked:
      if each.cell.name in left:
        own = [name for name in left[each.cell.name].needs if name in left]
        made = any(not left[name].is_store for name in own)
        try:
          _check_inputs(each, model_made=made)
        except InputError as error:
          raise InputError(f'cell {each.cell.name}: {error}') from None
      elif left:
        self._check_same_base(each)

  def _check_same_base(self, each: Checked) -> None:
    """Checks that a finished cell began from the model that others will begin from."""
    folder = self.report(each.cell)
    initial = getattr(each.config, 'initial_checkpoint', None)
    if folder is None or initial is None or '://' in initial:
      return
    (report,) = runs.load([folder])
    lineage = report.content['lineage']
    known = isinstance(lineage, list) and len(lineage) > 1
    before = lineage[-2]['digest'] if known else ''
    now = initial_model.lineage(initial).trainings
    if before and now and now[-1].weights not in ('', before):
      raise InputError(
        f'cell {each.cell.name}: INITIAL_CHECKPOINT_PATH {initial!r} has other weights '
        f'now than when it was finished; remove {str(folder)!r}, or give another '
        'STUDY_DIR'
      )

  def report(self, cell: Cell) -> pathlib.Path | None:
    """Folder of the report of a cell; None if it is not finished."""
    inside = self.folder / cell.name
    places = [inside / 'report' if cell.verb == 'train' else inside]
    if self.config.reports_dir is not None:
      places.append(pathlib.Path(self.config.reports_dir, cell.name))
    return next((place for place in places if (place / runs.FILE).is_file()), None)

  def run(self, *, only: Iterable[str] | None = None, progress: Progress) -> Ended:
    """Runs the cells that are not finished.

    Args:
      only: names of the cells; None for all.
      progress: progress output.

    Raises:
      InputError: if STUDY_DIR is in an object store.
    """
    if '://' in self.config.study_dir:
      raise refusal(
        self.config,
        'study_dir',
        'must be a local folder for cells that run here; --dry-run prints the commands',
      )
    for each in self.checked:
      self._keep(each.cell)  # finished before REPORTS_DIR was given
    left = self.left(only)
    cells = {each.cell.name: each.cell for each in self.checked}

    def keep(job: Job) -> None:
      if not job.is_store:
        self._keep(cells[job.name])

    return study_processes.Processes(
      left,
      logs=self.folder / 'logs',
      count=self.config.processes,
      is_finished=self.is_finished,
      on_end=keep,
      progress=progress,
      known=self._known_seconds(),
    ).run()

  def _known_seconds(self) -> dict[str, list[float]]:
    """Verb -> seconds that its finished cells took, for the time left."""
    found: dict[str, list[float]] = {}
    for job in self.jobs:
      if not job.is_store and self.is_finished(job):
        cost = study_processes.cost(job.folder)
        if cost is not None:
          found.setdefault(job.arguments[0], []).append(cost['seconds'])
    return found

  def left(self, only: Iterable[str] | None = None) -> list[Job]:
    """Jobs that are not finished, with the stores and cells that they need."""
    jobs = {job.name: job for job in self.jobs}
    wanted = [
      job.name
      for job in self.jobs
      if not job.is_store and (only is None or job.name in set(only))
    ]
    needed: set[str] = set()
    while wanted:
      job = jobs[wanted.pop()]
      if job.name not in needed and not self.is_finished(job):
        needed.add(job.name)
        wanted += job.needs
    return [job for job in self.jobs if job.name in needed]

  def is_finished(self, job: Job) -> bool:
    """Returns whether a store is made, or a cell has its report or ended well."""
    if job.is_store:
      return (job.folder / 'manifest.json').is_file()
    cell = next(each.cell for each in self.checked if each.cell.name == job.name)
    return self.report(cell) is not None or study_processes.has_ended(job.folder)

  def entries(self) -> list[Entry]:
    """The cells, for the page."""
    jobs = {job.name: job for job in self.jobs}
    return [
      Entry(
        name=each.cell.name,
        column=each.cell.column,
        seed=each.cell.seed,
        folder=self.report(each.cell),
        finished=self.is_finished(jobs[each.cell.name]),
        cost=self._cost(each.cell),
        command=each.cell.arguments(self._output(each.cell)),
      )
      for each in self.checked
    ]

  def _cost(self, cell: Cell) -> dict[str, Any] | None:
    """Cost of a cell; None if unknown."""
    folders = [self.folder, pathlib.Path(self.config.reports_dir or self.folder)]
    found = (study_processes.cost(folder / cell.name) for folder in folders)
    return next(filter(None, found), None)

  def _output(self, cell: Cell) -> str:
    """`MODEL_DIR=...` of a cell."""
    return f'{OUTPUT[cell.verb]}={self.config.study_dir.rstrip("/")}/{cell.name}'

  def _keep(self, cell: Cell) -> None:
    """Copies what the page needs of a finished cell to REPORTS_DIR, the report last."""
    found, given = self.report(cell), self.config.reports_dir
    if found is None or given is None:
      return
    out = pathlib.Path(given, cell.name)
    if not (out / runs.FILE).is_file():
      out.mkdir(parents=True, exist_ok=True)
      kept_scores.write(found, out)
      study_processes.keep_cost(self.folder / cell.name, out)
      text = (found / runs.FILE).read_text('utf-8')
      atomic_file.write_text(out / runs.FILE, text)

  def _jobs(self) -> list[Job]:
    """The commands: the first seed of all cells first, each after its store.

    So every cluster has a figure early, and one seed answers for the base of all.
    """
    jobs: dict[str, Job] = {}
    seeds = list(dict.fromkeys(each.cell.seed for each in self.checked))
    for cell, config, *_ in sorted(
      self.checked, key=lambda each: seeds.index(each.cell.seed)
    ):
      folder = self.folder / cell.name
      more = [self._output(cell)]
      needs = [
        name
        for name in (other.cell.name for other in self.checked)
        if any(
          _is_inside(value, self.folder / name) for value in cell.settings.values()
        )
      ]
      remote = '://' in self.config.study_dir
      if cell.verb == 'train' and config.store is None and not remote:
        name = f'stores/{config.mixture.rpartition("/")[2]}-{run_store.digest(config)}'
        if name not in jobs:
          own = [
            f'--gin.{each}' for each in cell.bindings if not each.startswith('SEED=')
          ]
          files = [f'--gin_file={file}' for file in cell.files]
          out = self.folder / name
          arguments = ['materialize', *files, *own, '--out', str(out), *self._more]
          jobs[name] = Job(name, arguments, out)
        more.append(f'STORE={self.folder / name}')
        if config.initial_checkpoint is not None and config.base_responses is None:
          more.append(f'BASE_RESPONSES={self._base_responses(config)}')
        needs.append(name)
      arguments = [*cell.arguments(*more), *self._more]
      jobs[cell.name] = Job(cell.name, arguments, folder, tuple(needs))
    return list(jobs.values())

  def _base_responses(self, config: TrainConfig) -> pathlib.Path:
    """The file of a base's answers to the held-out clusters of a run.

    If it has the answers of another model or to other examples, nothing is taken.
    """
    held_out = config.held_out or config.mixture
    names = (held_out,) if isinstance(held_out, str) else held_out
    base = pathlib.PurePath(str(config.initial_checkpoint)).name
    parts = (pathlib.PurePath(name).name for name in (base, *names))
    return self.folder / 'bases' / f'{"-".join(parts)}.jsonl'

  def _check_unchanged(self, each: Checked) -> None:
    """Checks that a finished cell has the settings of now."""
    folder = self.report(each.cell)
    if folder is None:
      return
    (report,) = runs.load([folder])
    before = runs.settings(report.content)
    of_model = getattr(each.config, 'initial_checkpoint', None) is not None
    ignored = ('Mesh.', *(['DecoderConfig.', 'Run.model'] if of_model else []))
    for name, value in each.resolved.items():
      if name.rpartition('.')[2] in _ELSEWHERE or name.startswith(ignored):
        continue
      if name in before and before[name] != value:
        raise InputError(
          f'cell {each.cell.name}: {name} is {value} now, its report in '
          f'{str(folder)!r} was made with {before[name]}; remove that folder, or give '
          'another STUDY_DIR'
        )


def _check(cell: Cell, output: str, search_paths: Sequence[str]) -> Checked:
  """Reads the settings of a cell as its own process will."""
  flags = [*cell.bindings, output]
  try:
    parsed = gin.load(cell.files, flags, search_paths=search_paths)
    config = parsed.build(_SELECTOR[cell.verb])
    fields = parsed.bound('DecoderConfig') if cell.verb == 'train' else {}
    parsed.refuse_unused(cell.verb)
  except InputError as error:
    raise InputError(f'cell {cell.name}: {error}') from None
  text = parsed.text(config)
  return Checked(cell, config, fields, runs.settings({'provenance': {'config': text}}))


def _check_inputs(each: Checked, *, model_made: bool) -> None:
  """Checks what one cell reads; its model only if no other cell makes it first."""
  config = each.config
  if each.cell.verb == 'eval':
    if config.checkpoints:
      raise refusal(
        config, 'checkpoints', 'must be (): a cell evaluates one; give CHECKPOINT'
      )
    if not model_made:
      evaluate_checkpoint.requested(config)
    return
  mixture = training_data.mixture(config)
  leakage.check(mixture, config.held_out, allow_overlap=config.allow_overlap)
  initial = config.initial_checkpoint
  if initial is not None and '://' not in initial and not model_made:
    model_dir.config(initial)
    decoder_fields.with_decoder_fields(config, each.fields)


def _is_inside(value: Any, folder: pathlib.Path) -> bool:
  """Returns whether a setting names the folder of a cell, a step of it, or a part."""
  if not isinstance(value, str):
    return False
  path = pathlib.PurePath(value.partition('@')[0])
  return path == folder or folder in path.parents
