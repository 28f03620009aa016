"""Reports that many tests read: equal ones are made once."""

import copy
import functools
import pathlib
import tempfile


def written_once(write):
  """Decorates `write(out, ...)`, which makes files in `out` and returns a report.

  Calls with equal arguments write once; later ones copy the files and the report.
  """
  done = []

  @functools.wraps(write)
  def once(out, *arguments, **named):
    given = arguments, named
    if not any(given == before for before, *_ in done):
      with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        report = write(folder, *arguments, **named)
        paths = [path for path in folder.rglob('*') if path.is_file()]
        files = {path.relative_to(folder): path.read_bytes() for path in paths}
      done.append((given, report, files))
    _, report, files = next(made for made in done if made[0] == given)
    for path, content in files.items():
      (out / path).parent.mkdir(parents=True, exist_ok=True)
      (out / path).write_bytes(content)
    return copy.deepcopy(report)

  return once
