"""Audits the pins of constraints.txt: `make audit`.

pip-audit, in an environment of its own, asks the advisories of the Python package
index about every pin; a pin with a known vulnerability fails. Where that cannot run, or
leaves a pin out, nothing is claimed: the pins are listed, each with the day on which it
was set.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
PINS = ROOT / 'constraints.txt'
TOOL = 'pip-audit==2.10.1'
ENVIRONMENT = ROOT / 'build' / 'audit'
LIMIT_S = 600


class Finding(NamedTuple):
  """A known vulnerability of a pin."""

  pin: str
  advisory: str
  fixed_in: str


class Audit(NamedTuple):
  """The answer of pip-audit.

  Attributes:
    audited: pins that it looked up.
    skipped: pins that it could not look up.
    findings: known vulnerabilities.
  """

  audited: list[str]
  skipped: list[str]
  findings: list[Finding]


def read(report: Mapping[str, Any]) -> Audit:
  """Reads the JSON of pip-audit."""
  audit = Audit([], [], [])
  for found in report['dependencies']:
    if 'skip_reason' in found:
      audit.skipped.append(found['name'])
      continue
    pin = f'{found["name"]}=={found["version"]}'
    audit.audited.append(pin)
    audit.findings.extend(
      Finding(pin, one['id'], ', '.join(one['fix_versions']) or 'no release')
      for one in found['vulns']
    )
  return audit


def ask() -> Audit | str:
  """Runs pip-audit on the pins; the reason if it cannot run."""
  program = ENVIRONMENT / 'bin' / 'pip-audit'
  steps = [
    [sys.executable, '-m', 'venv', str(ENVIRONMENT)],
    [str(ENVIRONMENT / 'bin' / 'python'), '-m', 'pip', 'install', '--quiet',
     '--disable-pip-version-check', TOOL],
  ]  # fmt: skip
  try:
    for step in [] if program.exists() else steps:
      done = run(step)
      if done.returncode:
        return f'{TOOL} cannot be installed: {last_line(done.stderr)}'
    done = run([
      str(program), '--requirement', str(PINS), '--no-deps', '--disable-pip',
      '--format', 'json', '--progress-spinner', 'off',
    ])  # fmt: skip
    return read(json.loads(done.stdout))
  except subprocess.TimeoutExpired:
    return f'no answer within {LIMIT_S} s'
  except (ValueError, KeyError):
    return f'pip-audit: {last_line(done.stderr)}'


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    command, capture_output=True, text=True, check=False, timeout=LIMIT_S
  )


def last_line(text: str) -> str:
  return (text.strip().splitlines() or ['no message'])[-1][:200]


def dated_pins() -> list[tuple[str, str]]:
  """(day, pin) of every pin, newest first: the day of the commit that set it."""
  done = run(['git', '-C', str(ROOT), 'blame', '--line-porcelain', str(PINS)])
  dates, day = [], 'not committed'
  for line in done.stdout.splitlines():
    if line.startswith('committer-time '):
      day = _day(int(line.split()[1]))
    elif line.startswith('\t') and '==' in line and not line.startswith('\t#'):
      dates.append((day, line[1:]))
  if not dates:  # no checkout
    pins = PINS.read_text(encoding='utf-8').splitlines()
    dates = [('?', line) for line in pins if line and not line.startswith('#')]
  return sorted(dates, key=lambda pair: (pair[0], pair[1].lower()), reverse=True)


def _day(seconds: int) -> str:
  return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def report(found: Audit | str, pins: Sequence[tuple[str, str]]) -> int:
  """Prints the result; returns the exit code."""
  if isinstance(found, Audit):
    for finding in found.findings:
      print(f'{finding.pin}: {finding.advisory}; mended in {finding.fixed_in}')
    if found.findings:
      return 1
    if not found.skipped:
      print(f'audit: {len(found.audited)} pins, no known vulnerability')
      return 0
    why = f'{len(found.skipped)} of {len(pins)} pins could not be looked up'
  else:
    why = found
  print(f'audit: NOT AUDITED: {why}. The pins, by the day on which each was set:')
  for day, pin in pins:
    print(f'{day}  {pin}')
  return 0


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--list', action='store_true', help='list the pins, ask nobody')
  options = parser.parse_args()
  return report('--list' if options.list else ask(), dated_pins())


if __name__ == '__main__':
  sys.exit(main())
