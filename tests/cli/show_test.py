"""`flan show` renders a variant as its name says."""

import pytest

import flan_jax as flan
from flan_jax.catalog import fields, registry
from flan_jax.catalog.prompt import ANSWER
from flan_jax.cli import dispatch


@pytest.mark.parametrize(
  ('task', 'title', 'exemplars'),
  [
    ('mini_copa', 'microworld_mini_copa template 0', 0),
    ('mini_copa_2_shot', 'microworld_mini_copa_2_shot template 0', 2),
    ('microworld_mini_copa_template_3', 'microworld_mini_copa template 3', 0),
    ('mini_copa_no_options', 'microworld_mini_copa_no_options template 0', 0),
  ],
)
def test_a_variant_is_rendered_as_its_name_says(task, title, exemplars, capsys):
  assert dispatch.main(['show', task]) == 0
  out = capsys.readouterr().out
  assert out.startswith(title)
  assert out.count(ANSWER) == exemplars
  assert ('OPTIONS:' in out) == ('no_options' not in task)


def test_another_template_than_that_of_the_name_is_refused(capsys):
  assert dispatch.main(['show', 'mini_copa_template_3', '--template', '1']) == 2
  assert '--template: got 1; mini_copa_template_3 has' in capsys.readouterr().err


def test_a_task_without_a_labeled_example_says_so(tmp_path, capsys):
  path = tmp_path / 'none.jsonl'
  path.write_text('{"a": "no x", "b": "1"}\n' * 2)
  with registry.restored():
    flan.register(
      flan.Dataset(
        name='none', cluster='none', source=flan.Json(str(path)),
        fields={'a': flan.Field('a', fields.without('x')), 'b': 'b'},
        answer=flan.Text('{b}'), metric='exact_match',
        templates=(flan.Template('{a}'),),
      )
    )  # fmt: skip
    assert dispatch.main(['show', 'none']) == 0
  out = capsys.readouterr().out
  assert out == "none: no example of 'train' with a label to show\n"
