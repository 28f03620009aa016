"""Wheels made without a build: of an installed distribution, or of a package's folder.

The same files always give the same bytes. Standard library only.
"""

import base64
import csv
import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import os
import pathlib
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping

from flan_jax.errors import InputError

Content = bytes | pathlib.Path
"""Content of a file in a wheel, or the local file that has it."""

_NAME = r'[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?'
_VERSION = r'[\w.+!-]+'
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first date that a zip archive can hold
_INSTALLED = {
  'INSTALLER', 'RECORD', 'RECORD.jws', 'RECORD.p7s', 'REQUESTED', 'direct_url.json',
  'provenance_url.json', 'uv_build.json', 'uv_cache.json',
}  # fmt: skip
"""Files of `.dist-info` that an installer writes."""


@dataclasses.dataclass(frozen=True)
class Wheel:
  """Files of a wheel, before it is written.

  Attributes:
    name, version: those of the distribution.
    files: path in the archive -> content, without RECORD.
    tag: its compatibility tag.
  """

  name: str
  version: str
  files: Mapping[str, Content]
  tag: str = 'py3-none-any'

  def __post_init__(self):
    """Refuses a name or a version that no installer takes.

    Raises:
      InputError: if it is not one; both stand in file names and commands.
    """
    for what, pattern, got in (('name', _NAME, self.name),
                               ('version', _VERSION, self.version)):  # fmt: skip
      if not re.fullmatch(pattern, got, re.ASCII):
        raise InputError(
          f'launch: {got!a} is no {what} of a distribution, so {self.name!a} '
          'cannot be installed on the hosts; must be of letters, digits and '
          f'{"-_." if what == "name" else "-_.+!"}'
        )

  @property
  def file_name(self) -> str:
    """Name of the archive."""
    return f'{stem(self.name)}-{self.version}-{self.tag}.whl'

  @functools.cached_property
  def digest(self) -> str:
    """Digest (hex) of the names and contents."""
    return digest(self.files)

  @property
  def size(self) -> int:
    """Bytes of all files."""
    return sum(map(_size, self.files.values()))

  def write(self, folder: pathlib.Path) -> str:
    """Writes the archive; returns its path."""
    record = f'{_info(self.files)}/RECORD'
    path = folder / self.file_name
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator='\n')
    with zipfile.ZipFile(path, 'w') as archive:
      for name in sorted(self.files, key=lambda name: ('.dist-info/' in name, name)):
        content = _read(self.files[name])
        _add(archive, name, content, runs=_runs(self.files[name]))
        table.writerow((name, f'sha256={record_hash(content)}', len(content)))
      table.writerow((record, '', ''))
      _add(archive, record, rows.getvalue().encode(), runs=False)
    return str(path)


def stem(name: str) -> str:
  """Name of a distribution as file names have it: `my-package` -> `my_package`."""
  return re.sub(r'[-_.]+', '_', name).lower()


def digest(files: Mapping[str, Content]) -> str:
  """Digest (hex) of names and contents."""
  found = hashlib.sha256()
  for name in sorted(files):
    found.update(f'{name}\0{record_hash(_read(files[name]))}\n'.encode())
  return found.hexdigest()


def record_hash(content: bytes, method: str = 'sha256') -> str:
  """Hash of a file as RECORD has it."""
  raw = hashlib.new(method, content).digest()
  return base64.urlsafe_b64encode(raw).rstrip(b'=').decode()


def pack(
  name: str,
  version: str,
  files: Mapping[str, Content],
  *,
  metadata: str = '',
  entry_points: str = '',
) -> Wheel:
  """The wheel of Python sources and the data beside them.

  Args:
    name, version: those of the distribution.
    files: path in the archive -> content.
    metadata: text of METADATA, whose version is replaced; '' for one without
      requirements.
    entry_points: text of entry_points.txt; '' for none.
  """
  info = f'{stem(name)}-{version}.dist-info'
  text = metadata or f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
  text = re.sub(r'^Version: .*', f'Version: {version}', text, count=1, flags=re.M)
  about = (
    'Wheel-Version: 1.0\nGenerator: flan_jax\nRoot-Is-Purelib: true\n'
    'Tag: py3-none-any\n'
  )
  made = {**files, f'{info}/METADATA': text.encode(), f'{info}/WHEEL': about.encode()}
  if entry_points:
    made[f'{info}/entry_points.txt'] = entry_points.encode()
  return Wheel(name, version, made)


def repack(distribution: importlib.metadata.Distribution) -> Wheel:
  """The wheel that a distribution was installed from, made of its installed files.

  Raises:
    InputError: if a file is missing or differs from what was installed, or if the
      distribution is not pure Python.
  """
  name, version = distribution.name, distribution.version
  files: dict[str, Content] = {}
  for path in distribution.files or ():
    if '__pycache__' in path.parts or path.suffix == '.pyc':
      continue
    if path.parent.suffix == '.dist-info' and path.name in _INSTALLED:
      continue
    located = pathlib.Path(str(path.locate()))
    content = _verified(located, path, f'{name} {version}')
    inside = _inside(path, located, distribution)
    if inside:
      scripts = inside.startswith(f'{stem(name)}-{version}.data/scripts/')
      files[inside] = _with_plain_shebang(content) if scripts else located
  about = _read(files.get(f'{_info(files)}/WHEEL', b'')).decode()
  tags = re.findall(r'^Tag: (\S+)', about, flags=re.M)
  if not tags or not all(tag.endswith('-none-any') for tag in tags):
    raise InputError(
      f'launch: {name} {version} has compiled code for {", ".join(tags) or "?"}; must '
      'be pure Python, since the hosts may have another Python'
    )
  pythons = '.'.join(sorted({tag.partition('-')[0] for tag in tags}))
  return Wheel(name, version, files, f'{pythons}-none-any')


def _verified(
  located: pathlib.Path, path: importlib.metadata.PackagePath, what: str
) -> bytes:
  """Content of an installed file.

  Raises:
    InputError: if it is missing or has another hash than RECORD says.
  """
  try:
    content = located.read_bytes()
  except OSError as error:
    raise InputError(
      f'launch: {what}: {str(located)!r} is missing ({error.strerror}); install it '
      'again'
    ) from None
  if path.hash is None:
    if path.parent.suffix == '.dist-info':
      return content
    raise InputError(
      f'launch: {what}: {str(located)!r} has no hash in RECORD; install it with pip'
    )
  if record_hash(content, path.hash.mode) != path.hash.value:
    raise InputError(
      f'launch: {what}: {str(located)!r} has been changed since it was installed; '
      'install it again, or `pip install -e` its sources'
    )
  return content


def _inside(
  path: importlib.metadata.PackagePath,
  located: pathlib.Path,
  distribution: importlib.metadata.Distribution,
) -> str:
  """Path of an installed file in the wheel; '' for a script that installing writes."""
  if '..' not in path.parts and not path.is_absolute():
    return path.as_posix()
  data = f'{stem(distribution.name)}-{distribution.version}.data'
  points = distribution.entry_points
  commands = {
    point.name
    for group in ('console_scripts', 'gui_scripts')
    for point in points.select(group=group)
  }
  file = pathlib.Path(os.path.normpath(located))
  if file.parent.name in ('bin', 'Scripts'):
    command = file.name.removesuffix('.exe').removesuffix('-script.py')
    return '' if command in commands else f'{data}/scripts/{file.name}'
  site = pathlib.Path(os.path.abspath(str(distribution.locate_file(''))))
  for prefix in (*site.parents[2:3], pathlib.Path(sys.prefix)):
    if file.is_relative_to(prefix):
      return f'{data}/data/{file.relative_to(prefix).as_posix()}'
  raise InputError(
    f'launch: {distribution.name} {distribution.version}: {str(file)!r} lies outside '
    'of the environment that it was installed in, and cannot be shipped'
  )


def _with_plain_shebang(content: bytes) -> bytes:
  return re.sub(rb'\A#![^\n]*python[^\n]*', b'#!python', content)


def _info(files: Iterable[str]) -> str:
  """Name of the `.dist-info` folder; '' if not found."""
  tops = {name.partition('/')[0] for name in files}
  return next((top for top in sorted(tops) if top.endswith('.dist-info')), '')


def _read(content: Content) -> bytes:
  return content if isinstance(content, bytes) else content.read_bytes()


def _size(content: Content) -> int:
  return len(content) if isinstance(content, bytes) else content.stat().st_size


def _runs(content: Content) -> bool:
  return isinstance(content, pathlib.Path) and os.access(content, os.X_OK)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, *, runs: bool) -> None:
  entry = zipfile.ZipInfo(name, _OLDEST)
  entry.external_attr = (0o100755 if runs else 0o100644) << 16
  entry.create_system = 3
  archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
