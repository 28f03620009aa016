"""Tables in the terminal: lines that fit, names that are whole."""

import io

import pytest
from evaluated_report import (
  NO,
  evaluated,
)
from scored_report import (
  RIGHT,
  WRONG,
  build,
  dataset,
  split,
)

from flan_jax.cli import show_prompts
from flan_jax.report import schema, terminal


class TestWidth:
  LONG = 'definite_pronoun_resolution'

  def text(self, tmp_path):
    found = evaluated(tmp_path, base=NO)
    for result in found['results']:
      result['dataset'] = self.LONG
    out = io.StringIO()
    terminal.print_table(found, file=out)
    return out.getvalue()

  @pytest.mark.parametrize('columns', [None, '120', '200'])
  def test_names_are_whole(self, columns, tmp_path, monkeypatch):
    monkeypatch.delenv('COLUMNS', raising=False)
    if columns:
      monkeypatch.setenv('COLUMNS', columns)
    assert self.LONG in self.text(tmp_path)

  def test_columns_are_respected(self, tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '90')
    assert max(map(len, self.text(tmp_path).splitlines())) <= 90

  @pytest.mark.parametrize(('columns', 'width'), [(None, 80), ('70', 70)])
  def test_the_rule_of_show(self, columns, width, monkeypatch, capsys):
    monkeypatch.delenv('COLUMNS', raising=False)
    if columns:
      monkeypatch.setenv('COLUMNS', columns)
    show_prompts.show(
      'microworld_mini_cb', count=1, template=0, split='train', tokenizer='bytes',
      data_dir=None,
    )  # fmt: skip
    (rule,) = [line for line in capsys.readouterr().out.splitlines() if '──' in line]
    assert len(rule) == width
    assert rule.startswith('microworld_mini_cb template 0, example ')


def test_the_terminal_table_fits_in_lines(monkeypatch):
  monkeypatch.setenv('COLUMNS', '120')
  parts = (dataset(), {'dev': split(RIGHT, WRONG), 'test': split(RIGHT, WRONG)})
  out = io.StringIO()
  found = build(parts)
  terminal.print_table(found, file=out)
  text = out.getvalue()
  assert schema.headline(schema.averages(found)[0]) in text
  assert f'{found["results"][0]["mean"]:.1f}' in text
  assert max(map(len, text.splitlines())) <= 120


def test_the_terminal_table_marks_what_nobody_has_confirmed():
  """RTE's published mean is from memory, ANLI's was seen in a second source."""
  parts = [
    (dataset(name=name), {'test': split(RIGHT, WRONG)}) for name in ('rte', 'anli_r1')
  ]
  out = io.StringIO()
  terminal.print_table(build(*parts), file=out)
  lines = {
    line.split()[0]: line for line in out.getvalue().splitlines() if line.split()
  }
  assert lines['rte'].rstrip().endswith('78.3 ?')
  assert lines['anli_r1'].rstrip().endswith('47.7')
