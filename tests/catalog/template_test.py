"""Templates: parsing and rendering for any text in the fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.template import OPTIONS, Template, options_block
from flan_jax.errors import InputError

NAMES = ('premise', 'hypothesis', 'question', 'answer')

names = st.sampled_from(NAMES)
texts = st.text(max_size=30)  # braces, newlines, anything
values = st.fixed_dictionaries(dict.fromkeys(NAMES, texts))
pieces = st.lists(st.tuples(texts, names | st.none()), max_size=6)
options = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=7)


def written(parts) -> str:
  """A template of these parts, with literal braces doubled."""
  out = []
  for literal, name in parts:
    out.append(literal.replace('{', '{{').replace('}', '}}'))
    out.append('' if name is None else f'{{{name}}}')
  return ''.join(out)


@given(pieces, values)
def test_a_field_is_inserted_verbatim(parts, values):
  """A value that looks like a field, or like a brace, is never parsed again."""
  expected = ''.join(
    literal + ('' if name is None else values[name]) for literal, name in parts
  )
  assert template_lib.fill(written(parts), values) == expected


@given(pieces)
def test_the_names_of_a_template_are_its_fields_in_order(parts):
  expected = dict.fromkeys(name for _, name in parts if name is not None)
  assert template_lib.names(written(parts)) == tuple(expected)


@given(pieces, values, options)
def test_options_end_the_inputs_a_line_each(parts, values, options):
  template = Template(f'{written(parts)}\n{{{OPTIONS}}}')
  inputs, targets = template.render(values, options)
  assert inputs.endswith('\n' + options_block(options))
  assert inputs.count(options_block(options)) >= 1
  assert targets == values['answer']
  assert OPTIONS not in template.fields


@given(values, options)
def test_rendering_does_not_change_its_arguments(values, options):
  before = dict(values)
  Template(f'{{premise}}\n{{{OPTIONS}}}').render(values, options)
  assert values == before


@given(
  st.sampled_from(sorted(registry.datasets('flan'))).map(registry.get),
  st.data(),
)
def test_every_template_of_the_catalog_renders_its_fields_whole(dataset, data):
  """For any text in any field, and any options."""
  made = {name: data.draw(texts, label=name) for name in (*dataset.fields, 'answer')}
  answer = Answer(made['answer'], references=(made['answer'],))
  if dataset.has_options:
    many = tuple(data.draw(options))
    answer = Answer(many[0], many, (0,), (many[0],))
  example = Example('id', made, answer)
  for index, template in enumerate(dataset.templates):
    prompt = prompt_lib.render(dataset, index, example)
    assert all(made[name] in prompt.inputs for name in template.input_fields)
    if template.has_options:
      assert prompt.inputs.endswith(options_block(answer.options))
    # Text outside the fields is the same for every example.
    literal = ''.join(text for text, _ in template_lib.parse(template.inputs))
    held = sum(
      len(made[n]) for _, n in template_lib.parse(template.inputs) if n in made
    )
    block = len(options_block(answer.options)) if template.has_options else 0
    assert len(prompt.inputs) == len(literal) + held + block


@given(values, st.integers(0, 4))
def test_a_few_shot_prompt_is_the_exemplars_followed_by_the_prompt(values, num_fewshot):
  rte = registry.get('rte')
  answer = Answer('yes', ('yes', 'no'), (0,), ('yes',))
  example = Example('id', {**values, 'answer': 'yes'}, answer)
  alone = prompt_lib.render(rte, 0, example)
  shown = prompt_lib.render(rte, 0, example, exemplars=[example] * num_fewshot)
  one = prompt_lib.exemplar(rte, 0, example)
  assert shown == (one * num_fewshot + alone.inputs, alone.targets)


@pytest.mark.parametrize(
  'text', ['{premise', 'premise}', '{0}', '{}', '{a!r}', '{a:>3}']
)
def test_anything_but_a_plain_field_in_braces_is_refused(text):
  with pytest.raises(InputError, match='template'):
    template_lib.parse(text)


def test_an_unknown_field_is_refused_with_the_nearest():
  with pytest.raises(InputError, match="no field 'premis'.*did you mean 'premise'"):
    Template('{premis}').validate(('premise',), has_options=False)
  with pytest.raises(InputError, match="no field 'premis'"):
    template_lib.fill('{premis}', {'premise': 'It rained.'})
  with pytest.raises(InputError, match='dataset without options'):
    Template('{premise}\n{OPTIONS}').validate(('premise',), has_options=False)
