"""Finished parts of a store that is being built: their metadata, and their checksums.

work/PART.json marks a part as finished. It has the checksums of the files of the part
and one of itself, so that a build that goes on finds those damaged meanwhile.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from flan_jax.runtime import atomic_file, checksums, input_file, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

WORK = 'work'
"""Folder of spools and metadata in an unfinished store; removed at the end."""


class Work(Protocol):
  """A build with a folder of its own."""

  def path(self, *names: str) -> pathlib.Path: ...


def metadata(job: Work, part: str, made_from: str) -> dict[str, Any] | None:
  """Metadata of a finished part; None if it is not finished.

  Args:
    job: job of the build.
    part: name of the part.
    made_from: stamp or digest of the sources; a part of others is not finished.
  """
  path = job.path(WORK, f'{part}.json')
  if not path.is_file():
    return None
  found = upgraded(json.loads(path.read_text(encoding='utf-8')), renamed_keys.PART)
  return found['metadata'] if found['made_from'] == made_from else None


def finished(job: Work, part: str, made_from: str) -> dict[str, Any]:
  """Metadata of a part that an earlier step has finished; arguments of `metadata`."""
  found = metadata(job, part, made_from)
  assert found is not None, part
  return found


def finish(
  job: Work, part: str, made_from: str, found: Mapping[str, Any], files: Iterable[str]
) -> None:
  """Writes the metadata of a part, which marks it as finished.

  Args:
    job: job of the build.
    part: name of the part.
    made_from: stamp or digest of the sources.
    found: its metadata.
    files: names of its files, relative to the folder of the store.
  """
  content = {'made_from': made_from, 'metadata': found}
  content['files'] = {name: checksums.measured(job.path(name)) for name in files}
  text = json.dumps({**content, 'crc32': checksums.of_json(content)})
  atomic_file.write_text(job.path(WORK, f'{part}.json'), text)


def drop_damaged(folder: pathlib.Path) -> None:
  """Removes the metadata of parts that were damaged, so that they are built again.

  Args:
    folder: folder of the unfinished store.
  """
  for path in (folder / WORK).glob('*.json'):
    if not _is_whole(folder, path):
      path.unlink()


def _is_whole(folder: pathlib.Path, path: pathlib.Path) -> bool:
  try:
    content = input_file.read_object(path)
    if content.keys().isdisjoint({'files', 'crc32'}):  # of an older version
      return True
    own = content.pop('crc32')
    return own == checksums.of_json(content) and all(
      _plain(checksums.measured(folder / name)) == want
      for name, want in content['files'].items()
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return False


def _plain(value: Any) -> Any:
  """A value as it comes back from JSON."""
  return json.loads(json.dumps(value))
