"""Options styles and prompt styles: ours, and those of a user's module."""

import dataclasses

import pytest
from oracle import LABELS, RANKED, examples, says

from flan_jax.catalog import names, options_style, prompt, prompt_style, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data.store import fingerprint
from flan_jax.errors import InputError
from flan_jax.evaluate import evaluator
from flan_jax.evaluate.prompt_spec import PromptSpec

VALUES = {'premise': 'It rained.', 'hypothesis': 'It is wet.', 'answer': 'no'}
RTE = Example('r', VALUES, Answer('no', ('yes', 'no'), (1,), ('no',)))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
  for module in (options_style, prompt_style):
    for part in ('_items', '_places'):
      value = dict(getattr(module._styles, part))
      monkeypatch.setattr(module._styles, part, value)


def rte(style: str):
  return PromptStyle(options_style=style).apply(registry.get('rte'))


@pytest.mark.parametrize(
  ('style', 'block', 'target'),
  [
    ('bullets', 'OPTIONS:\n- yes\n- no', 'no'),
    ('letters', 'OPTIONS:\nA. yes\nB. no', 'B'),
    ('numbers', 'OPTIONS:\n1. yes\n2. no', '2'),
    ('none', 'It is wet.', 'no'),
  ],
)
def test_a_label_is_the_answer_where_the_prompt_shows_it(style, block, target):
  dataset = rte(style)
  first = dataset.evaluated_templates[0]
  inputs, targets = prompt.render(dataset, first, RTE)
  assert block in inputs
  assert ('OPTIONS' in inputs) == (style != 'none')
  assert targets == target
  shown = prompt.exemplar(dataset, first, RTE)
  assert f'{prompt.ANSWER}{target}{prompt.NEXT}' in shown
  spec = PromptSpec(dataset=dataset, templates=(first,))
  assert target in spec.options(RTE, first)
  assert spec.options(RTE) == ['yes', 'no']
  for i, template in enumerate(dataset.templates):
    if template.inverted or not template.has_options:
      assert prompt.render(dataset, i, RTE).targets == (
        prompt.render(registry.get('rte'), i, RTE).targets
      )


def test_letters_go_on_after_z():
  shown = options_style.show('letters', [str(i) for i in range(28)])
  assert shown.labels[25:] == ('Z', 'AA', 'AB')


def test_a_style_of_a_module_s_own_is_used_by_its_name():
  def register(shown):
    @options_style.options_style(name='roman')
    def style(options):
      return shown(options)

  labels = ('i', 'ii')
  both = '({}) {} / ({}) {}'
  register(lambda options: (both.format('i', options[0], 'ii', options[1]), labels))

  @prompt_style.prompt_style
  def politely(dataset):
    return [
      dataclasses.replace(t, inputs=f'Please: {t.inputs}') for t in dataset.templates
    ]

  style = PromptStyle(prompt_style='politely', options_style='roman')
  found = names.find(f'rte{style.suffix}')
  assert found is not None
  assert found.style == style
  styled = style.apply(registry.get('rte'))
  inputs, targets = prompt.render(styled, styled.evaluated_templates[0], RTE)
  assert inputs.startswith('Please: ')
  assert '(i) yes / (ii) no' in inputs
  assert targets == 'ii'
  before = fingerprint.prompts(styled)

  register(lambda options: 'another text')
  assert fingerprint.prompts(styled) != before


@pytest.mark.parametrize(
  ('made', 'message'),
  [
    (3, r"options style 'bad', 2 options: returned 3; must return a text, or \(text"),
    (('x', ['A']), r"returned the labels \('A',\); must be one for each"),
    (('x', ['A', 'A']), 'must be one for each, all different'),
  ],
)
def test_a_wrong_style_is_one_line(made, message):
  options_style.options_style(lambda options: made, name='bad')
  with pytest.raises(InputError, match=message):
    options_style.show('bad', ['a', 'b'])


def test_styles_that_are_unknown_or_wrong_are_refused():
  with pytest.raises(
    InputError, match="options style 'leters'.*did you mean 'letters'"
  ):
    rte('leters')
  with pytest.raises(InputError, match="did you mean 'no_template'"):
    PromptStyle(prompt_style='no_templat').apply(registry.get('rte'))
  prompt_style.prompt_style(lambda dataset: ['{premise}'], name='bad')
  message = r"prompt style 'bad', dataset 'rte': returned .*; must return templates"
  with pytest.raises(InputError, match=message):
    PromptStyle(prompt_style='bad').apply(registry.get('rte'))
  with pytest.raises(InputError, match="options style 'none': registered twice, as"):
    options_style.options_style(lambda options: '', name='none')


def test_the_usual_style_leaves_no_trace_in_a_store():
  assert 'options_style' not in PromptStyle(num_fewshot=2).as_json()
  assert not PromptStyle(prompt_style='no_template').is_own
  letters = PromptStyle(options_style='letters').as_json()
  assert PromptStyle(**letters).options == 'letters'


@pytest.mark.parametrize(
  ('style', 'said', 'right'),
  [('letters', 'B', 1), ('numbers', '1', 0), ('none', 'no', 1)],
)
def test_a_labeled_option_is_ranked_by_its_label(style, said, right):
  """'no' is right in every example that is measured: by its label, if it has one."""
  seen = []
  found = evaluator.evaluate(
    says(said),
    evaluator.Protocol(splits=('test',), options_style=style, num_fewshot=1),
    datasets=[RANKED],
    examples=lambda name, split: examples(RANKED, 4)(name, split)[1::2],
    emit=lambda record, **_: seen.append(record),
  )
  (result,) = found.datasets
  assert (result.splits['test'].tuned == right).all()
  assert {tuple(record['options']) for record in seen} == {LABELS}
  labels = {'letters': ['A', 'B'], 'numbers': ['1', '2'], 'none': None}[style]
  assert all(record.get('labels') == labels for record in seen)
  answer = labels[1] if labels else 'no'
  assert all(f'\n{prompt.ANSWER}{answer}{prompt.NEXT}' in r['prompt'] for r in seen)
