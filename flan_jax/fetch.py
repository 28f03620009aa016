"""`flan fetch`: prepares raw datasets with TFDS, from their sources or from a folder.

A folder holds JSON Lines as `<builder>/<config>/<split>.jsonl` (config `default` for a
builder without configs), one record a line in the builder's own shape. It becomes a
prepared TFDS dataset of the same name, config and version, that every TFDS user can
read; each record is checked against the builder's features before anything is written.
"""

import contextlib
import io
import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from flan_jax.catalogue import Dataset
from flan_jax.errors import InputError
from flan_jax.progress import Progress


class Fetched(NamedTuple):
  """What became of one TFDS dataset.

  Attributes:
    datasets: names of the declared datasets it serves.
    tfds: TFDS name, config and version.
    state: `prepared`, `ready` (it was there already), `absent` or `failed`.
    rows: TFDS split -> rows.
    note: what was clamped, or why it failed and what to do.
  """

  datasets: tuple[str, ...]
  tfds: str
  state: str
  rows: dict[str, int]
  note: str


def fetch(
  datasets: Sequence[Dataset],
  *,
  data_dir: str | None = None,
  folder: str | None = None,
  progress: Progress,
) -> list[Fetched]:
  """Prepares the TFDS datasets behind `datasets`.

  Args:
    datasets: declarations; those that share a TFDS dataset are prepared once.
    data_dir: TFDS data directory; None for TFDS's default.
    folder: JSON Lines to read in place of the datasets' own sources.
    progress: where to say what is happening.

  Returns:
    One entry per TFDS dataset.

  Raises:
    InputError: at a record that does not fit (file, line, field); what was prepared
      before stays, nothing half-written does.
  """
  if folder is not None and not pathlib.Path(folder).is_dir():
    raise InputError(f'--from {folder!r}: no such folder')
  groups: dict[str, list[Dataset]] = {}
  for dataset in datasets:
    if dataset.tfds:
      groups.setdefault(dataset.tfds, []).append(dataset)
  out = []
  for number, (name, members) in enumerate(groups.items(), 1):
    progress.line(f'{number}/{len(groups)} {name}')
    out.append(_fetch_one(name, members, data_dir, folder))
    if out[-1].note:
      progress.line(f'  {out[-1].state}: {out[-1].note}')
  return out


def _fetch_one(name, members, data_dir, folder) -> Fetched:
  names = tuple(dataset.name for dataset in members)
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except (AssertionError, tfds.core.DatasetNotFoundError) as error:
    return Fetched(names, name, 'failed', {}, str(error).splitlines()[0])
  state = 'ready'
  if not builder.is_prepared():
    state = 'prepared'
    _clear_interrupted(builder)
    if folder is None:
      try:
        with _quiet():
          builder.download_and_prepare()
      except Exception as error:
        return Fetched(names, name, 'failed', {}, _why(builder, error))
    else:
      files = split_files(name, pathlib.Path(folder))
      if not files:
        where = pathlib.Path(folder) / _relative(name)
        return Fetched(names, name, 'absent', {}, f'no {where}/<split>.jsonl')
      prepare(builder, files)
      builder = tfds.builder(name, data_dir=data_dir)
  rows = {key: split.num_examples for key, split in builder.info.splits.items()}
  return Fetched(names, name, state, rows, '; '.join(clamped(members, rows)))


def clamped(members: Iterable[Dataset], rows: dict[str, int]) -> Iterator[str]:
  """Says which declared splits the data is too small for, and what they became."""
  for dataset in members:
    for split, part in dataset.resolve_splits(rows).items():
      declared, real = dataset.rows(split), dataset.rows(split, rows)
      if real < declared:
        yield f'{dataset.name} {split}: {real:,} of {declared:,} rows ({part})'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """TFDS prints to standard output, which belongs to the verb's own result."""
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    yield


def _why(builder: tfds.core.DatasetBuilder, error: Exception) -> str:
  manual = getattr(builder, 'MANUAL_DOWNLOAD_INSTRUCTIONS', None)
  if manual:
    return 'manual download: ' + ' '.join(str(manual).split())
  first = (str(error).strip() or type(error).__name__).splitlines()[0]
  return f'download failed ({first}); --from DIR reads a copy you already have'


def _relative(name: str) -> pathlib.Path:
  """`glue/rte:2.0.0` -> glue/rte; a name without a config -> NAME/default."""
  builder, _, config = name.partition(':')[0].partition('/')
  return pathlib.Path(builder) / (config or 'default')


def _clear_interrupted(builder: tfds.core.DatasetBuilder) -> None:
  """Removes what a killed preparation of this very dataset left behind."""
  final = pathlib.Path(builder.data_path)
  for left in final.parent.glob(f'incomplete.*_{final.name}'):
    shutil.rmtree(left)


def split_files(name: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """TFDS split -> its JSON Lines file under `folder`."""
  return {f.stem: f for f in sorted((folder / _relative(name)).glob('*.jsonl'))}


def _lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, record); blank lines are passed over."""
  with path.open(encoding='utf-8') as file:
    number = 0
    try:
      for number, line in enumerate(file, 1):
        if line.strip():
          record = json.loads(line)
          if not isinstance(record, dict):
            raise InputError(
              f'{path}:{number}: a JSON {type(record).__name__}; must be an object'
            )
          yield number, record
    except json.JSONDecodeError as error:
      raise InputError(f'{path}:{number}: not JSON ({error})') from None
    except UnicodeDecodeError as error:
      raise InputError(f'{path}:{number + 1}: not UTF-8 ({error})') from None


def _keys(spec: Any, value: Any, path: str = '') -> Iterator[str]:
  """Names the fields that `value` lacks or that the features do not know."""
  if isinstance(spec, tfds.features.Sequence):
    spec = spec.feature
    if not isinstance(spec, tfds.features.FeaturesDict):
      return
  if not isinstance(spec, tfds.features.FeaturesDict):
    return
  if isinstance(value, list):
    for item in value:
      yield from _keys(spec, item, path)
    return
  if not isinstance(value, dict):
    yield f'field {path or "record"!r} is {type(value).__name__}; must be an object'
    return
  for key in spec:
    if key not in value:
      yield f'field {path + key!r} is missing'
    else:
      yield from _keys(spec[key], value[key], f'{path}{key}/')
  for key in value:
    if key not in spec:
      yield f'field {path + key!r} is not in the builder; it has {", ".join(spec)}'


def check(features: Any, record: dict[str, Any], where: str) -> None:
  """Checks one record against the builder's features.

  Raises:
    InputError: naming the file, the line, and what does not fit.
  """
  for complaint in _keys(features, record):
    raise InputError(f'{where}: {complaint}')
  try:
    features.serialize_example(features.encode_example(record))
  except Exception as error:
    message = ' '.join(str(error).split())[:300]
    raise InputError(f'{where}: {message}') from None


def prepare(builder: tfds.core.DatasetBuilder, files: dict[str, pathlib.Path]) -> None:
  """Writes a prepared TFDS dataset from JSON Lines, after checking every record."""
  features = builder.info.features
  for path in files.values():
    count = 0
    for number, record in _lines(path):
      check(features, record, f'{path}:{number}')
      count += 1
    if not count:
      raise InputError(f'{path}: no record; a split holds at least one')
  config = builder.builder_config.name if builder.builder_config else None
  with _quiet():
    tfds.dataset_builders.store_as_tfds_dataset(
      name=builder.name,
      config=config,
      version=builder.version,
      features=features,
      split_datasets={
        split: ((str(number), record) for number, record in _lines(path))
        for split, path in files.items()
      },
      data_dir=builder.data_dir_root,
      description=f'Prepared from JSON Lines by flan_jax, as {builder.name} has them.',
    )
