"""Installation on a host: uv of a known checksum, then the wheels under the pins.

uv comes from the Python package index through pip, which checks its hash; it brings its
own Python. No script is fetched and run. Standard library only.
"""

import shlex
from collections.abc import Mapping

from flan_jax.tpu.launch import quoting

PYTHON = '3.12'

UV_VERSION = '0.13.9'
"""Version of uv; constraints.txt has it too, for the audit."""

UV_HASHES = (
  'd7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19',  # x86_64
  '5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe',  # aarch64
)
"""SHA-256 of its wheels for Linux, one for each processor."""

_FOLDER = f'~/flan/uv-{UV_VERSION}'
UV = f'{_FOLDER}/bin/uv'
"""The program on a host, for a shell."""


def get_uv() -> str:
  """Lines of a shell script that install uv, if this version is not there."""
  hashes = ' '.join(f'--hash=sha256:{found}' for found in UV_HASHES)
  return f"""\
if [ ! -x {UV} ]; then
  mkdir -p ~/flan
  {quoting.echoed([f'uv=={UV_VERSION} {hashes}'])} > ~/flan/uv.txt
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \\
    --only-binary :all: --require-hashes --target {_FOLDER} --requirement ~/flan/uv.txt
fi"""


def install(wheels: str, venv: str) -> str:
  """Lines of a shell script that make an environment of the wheels.

  Args:
    wheels: arguments of pip, quoted for a shell.
    venv: folder of the environment, quoted for a shell.
  """
  return f"""\
{get_uv()}
{UV} venv --quiet --clear --python {PYTHON} {venv}
{UV} pip install --quiet --python {venv}/bin/python \\
  --constraint constraints.txt {wheels}"""


def arguments(wheels: Mapping[str, str], start: str) -> list[str]:
  """Arguments of pip for wheels: `START/NAME.whl[EXTRAS]`.

  Args:
    wheels: file name of a wheel -> its requirement, as `flan_jax[tpu]`.
    start: beginning of each path.
  """
  return [
    start + file + name.removeprefix(name.partition('[')[0])
    for file, name in wheels.items()
  ]


def quoted(wheels: Mapping[str, str], start: str) -> str:
  """The arguments of pip, quoted for a shell."""
  return shlex.join(arguments(wheels, start))
