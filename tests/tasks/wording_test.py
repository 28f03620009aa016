"""The wording of prompts: clean text and punctuation, on our own and real examples.

Real examples are optional: see tests/real_examples.py.
"""

import functools
import itertools
import json
import pathlib
import re

import pytest
import real_examples

from flan_jax.catalog import continuation_prompts, registry, splits
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.prose import prose
from flan_jax.catalog.template import OPTIONS

DATASETS = registry.datasets('flan')
OWN = pathlib.Path(__file__).parents[1] / 'examples'
VERBATIM = {'math_dataset', 'fix_punct', 'true_case', 'word_segment'}
"""Datasets that ask for spacing and punctuation; translations are verbatim too."""

STATEMENT = {
  **dict.fromkeys(('anli_r1', 'anli_r2', 'anli_r3', 'rte', 'snli'), 'hypothesis'),
  **dict.fromkeys(('mnli_matched', 'mnli_mismatched'), 'hypothesis'),
  'cb': 'claim',
  'wnli': 'sentence2',
}
"""Dataset -> the field of the statement that is judged."""
STATEMENTS = [DATASETS[name] for name in STATEMENT]

each_dataset = pytest.mark.parametrize('dataset', DATASETS.values(), ids=DATASETS)
each_prose = pytest.mark.parametrize(
  'dataset', [d for d in DATASETS.values() if d.cleaning is prose], ids=lambda d: d.name
)


def files(dataset: Dataset) -> list[pathlib.Path]:
  name = dataset.tfds.rpartition(':')[0]
  name = name if '/' in name else f'{name}/default'
  used = sorted({splits.parse(part).split for part in dataset.slices.values()})
  real = [real_examples.FOLDER / name / f'{split}.jsonl' for split in used]
  return [*(OWN / name).glob('*.jsonl'), *(path for path in real if path.is_file())]


SOME = 40
"""Number of examples of a file that the default tests read; the slow ones read all."""


@functools.cache
def read(name: str, most: int | None = SOME) -> tuple[tuple[dict, Example], ...]:
  """Records and examples of a dataset, without unlabeled ones."""
  dataset, found = DATASETS[name], []
  for path in files(dataset):
    with path.open(encoding='utf-8') as lines:
      for number, line in enumerate(itertools.islice(lines, most)):
        record = json.loads(line)
        try:
          found.append((record, dataset.read(record, f'{path.stem}:{number}')))
        except Unlabeled:
          continue
  assert found, 'every example is dropped'
  return tuple(found)


@pytest.fixture(
  params=[
    pytest.param(SOME, id='some'),
    pytest.param(None, id='all', marks=pytest.mark.slow),
  ]
)
def examples(request):
  """Returns a function: dataset -> its examples."""
  return lambda dataset: [found for _, found in read(dataset.name, request.param)]


def texts(example: Example) -> dict[str, str]:
  """Place -> text of an example that a prompt or a metric can use."""
  found = dict(example.values)
  found |= {f'option {i}': text for i, text in enumerate(example.answer.options)}
  found |= {f'reference {i}': text for i, text in enumerate(example.answer.references)}
  return found


def distinct(examples: list[Example]) -> dict[str, str]:
  """Text of an example that a prompt or a metric can use -> where it is first."""
  found: dict[str, str] = {}
  for example in examples:
    for place, text in texts(example).items():
      found.setdefault(text, f'{example.example_id}, {place}')
  return found


TRACES = {
  'a clitic apart': r"(?<=\w) '(?:s|re|ve|ll|d|m)\b(?! ?')",
  "n't apart": r"(?<=\w) n't\b",
  'a split apostrophe': r"\w ' (?:s|t|re|ve|ll|d|m)\b(?! ?')",
  'a blank before punctuation': r'\w [,?!](?!\w)|\w [;:.](?=\s|$)',
  'a blank inside brackets': r'(?:^|[\w\s])\( \w|\w \)(?!\w)',
  'a blank inside quotes': r'^[^"\n]*(?<!\S)" [^"\n]+ "(?!\w)[^"\n]*$',
  'a bracket spelled out': r'-(?i:[lr][rsc]b)-',
  'quotes of a tokenizer': r"``|[.,!?]''(?!\w)|(?<!\w)''\w[^'\n]*\w''(?!\w)",
  'a line break of HTML': r'(?i)<br',
  'an entity of HTML': r'&(?:amp|lt|gt|quot|nbsp|apos|#\d+);',
  'blanks': r'[^\S\n]{2,}|[^\S\n]$|\u00a0|\t|\n{3,}',
  'an invisible character': r'[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]',
  'a character read in the wrong encoding': (
    r'[ÂÃ][\x80-\xbf]|[ÐÑ][\x80-\xbf]|â€[\x80-\xbf™œ“”¦‹]|â‚¬|â[\x80-\x9f]'
  ),
  'brackets left empty': r'\w \( *[;,] +\w[^()\n]*\)|\w \( +\)',
  'a note of a wiki': r'(?i)\[citation needed\]',
  'a full stop after another mark': r'[?!]\.\Z',
  'a date run into another': r'(?:ber|ary|March|April|May|Ju[nl]\w) \d{4}-\d+ [A-Z]',
  'a price or a share apart': r'[$£] \d|\d %(?!\w)',
}


@each_prose
def test_no_trace_of_a_tokenizer_or_a_web_page_is_left(dataset, examples):
  shown = distinct(examples(dataset))
  for trace, pattern in TRACES.items():
    search = re.compile(pattern, re.MULTILINE).search
    for text, place in shown.items():
      found = search(text)
      assert not found, f'{place}: {trace}: {found[0]!r} in {text!r}'


@each_prose
def test_cleaning_an_example_is_idempotent(dataset, examples):
  """Label words are not cleaned."""
  words = getattr(dataset.answer, 'words', ())
  assert [prose(word) for word in words] == list(words)
  for text in distinct(examples(dataset)):
    assert prose(text) == text


def test_every_dataset_is_cleaned_except_the_verbatim_ones():
  kept = {d.name for d in DATASETS.values() if d.cleaning is not prose}
  assert kept == VERBATIM | {
    d.name for d in DATASETS.values() if d.cluster == 'translation'
  }


SPANS = {
  'squad_v1': ('context', lambda record: record['answers']['text']),
  'squad_v2': ('context', lambda record: record['answers']['text']),
  'quac': ('context', lambda record: record['answers']['text']),
  'coqa': (
    'story',
    lambda record: [
      record['story'][start:stop]
      for start, stop in zip(
        record['answers']['answer_start'], record['answers']['answer_end'], strict=True
      )
      if 0 <= start < stop
    ],
  ),
  'drop': ('passage', lambda record: record['validated_answers']),
  'record': ('passage', lambda record: record['entities']),
}
"""Dataset -> the field of the passage, and the spans of it in a record."""


@pytest.mark.parametrize('name', SPANS)
def test_a_cleaned_span_is_in_the_cleaned_passage(name):
  field, spans = SPANS[name]
  kept = lost = 0
  for record, _ in read(name):
    for span in map(str.strip, spans(record)):
      if span and span in record[field]:
        kept += 1
        lost += prose(span) not in prose(record[field])
  assert kept
  assert not lost


def test_an_answer_of_quac_has_no_final_comma_and_is_in_its_passage():
  for _, example in read('quac'):
    for text in {example.answer.text, *example.answer.references} - {'unanswerable'}:
      assert text[-1] not in ',;', example.example_id
    if example.answer.span:
      first, last = example.answer.span
      assert example.values['context'][first:last] == example.answer.text


def test_a_subject_line_has_no_mark_of_a_mass_mailing():
  read_one = DATASETS['aeslc'].read
  for subject, kept in [
    ('Expand Your Business!' + ' ' * 52 + '[uclck]', 'Expand Your Business!'),
    ('Major Breakthrough!' + ' ' * 25 + '7944', 'Major Breakthrough!'),
    ('Free cable [xkrtq]', 'Free cable'),
    ('[smu-betas] Beta at SMU [draft]', '[smu-betas] Beta at SMU [draft]'),
  ]:
    example = read_one({'email_body': 'Hello.', 'subject_line': subject}, 'train:0')
    assert example.answer.text == kept


def test_a_mail_has_whole_words_and_every_address_once():
  example = DATASETS['aeslc'].read(
    {
      'email_body': 'I write of t= he Delivery=20 o= f power.\nIt=01,s at '
      'a@b.org <mailto:a@b.org>, or [mailto:c@b.org].',
      'subject_line': 'Power',
    },
    'train:0',
  )
  assert example.values['email'] == (
    "I write of the Delivery of power.\nIt's at a@b.org, or [c@b.org]."
  )


def prompts(dataset: Dataset):
  """Yields (place, template) of the templates and of the continuation prompt."""
  yield from enumerate(dataset.templates)
  yield continuation_prompts.STYLE, continuation_prompts.apply(dataset).templates[0]


SEPARATE = set('.,;:?!')


@each_dataset
def test_no_field_ends_where_a_template_puts_its_own_punctuation(dataset, examples):
  """... as in `he asked "Why??"` or `on William Buckley Jr..`."""
  for example in examples(dataset):
    for where, template in prompts(dataset):
      parts = template_lib.parse(template.inputs)
      for (_, name), (after, _) in itertools.pairwise([*parts, ('', None)]):
        if name in (None, OPTIONS) or after.startswith('...'):
          continue
        ends = example.values[name][-1:] + after[:1]
        doubled = len(ends) == 2 and set(ends) <= SEPARATE
        assert not doubled, f'{example.example_id}, template {where}, {name}: {ends}'


@each_dataset
def test_every_field_of_a_template_contains_a_word(dataset, examples):
  """... except answers: one of Natural Questions is `)`."""
  for example in examples(dataset):
    for where, template in prompts(dataset):
      for name in set(template.input_fields) - {'answer'}:
        shown = example.values[name]
        assert re.search(r'\w', shown), (
          f'{example.example_id}, template {where}, {name}'
        )


@each_dataset
def test_an_option_is_one_line(dataset, examples):
  for example in examples(dataset):
    assert all('\n' not in option for option in example.answer.options)


NAMES = {'word', 'pronoun', 'noun', 'title'}
"""Fields with a name or an expression, which a template may put in quotes."""


def between_quotes(template: template_lib.Template) -> set[str]:
  """Fields next to a quotation mark in the inputs of a template."""
  parts = [*template_lib.parse(template.inputs), ('', None)]
  return {
    name
    for (before, name), (after, _) in itertools.pairwise(parts)
    if name not in (None, OPTIONS) and (before[-1:] in QUOTES or after[:1] in QUOTES)
  } - {''}


QUOTES = tuple('"\'“”‘’')


@each_dataset
def test_no_template_puts_quotes_around_free_text(dataset):
  """... which may contain quotes; names, expressions and label words may be quoted."""
  allowed = NAMES | ({'answer'} if isinstance(dataset.answer, Label) else set())
  for where, template in prompts(dataset):
    assert between_quotes(template) <= allowed, f'template {where}'


@each_dataset
def test_quoted_text_contains_no_quotes(dataset, examples):
  for example in examples(dataset):
    for where, template in prompts(dataset):
      for name in between_quotes(template):
        assert not re.search(r'["\n]', example.values[name]), (
          f'{example.example_id}, template {where}, {name}'
        )


@pytest.mark.parametrize('dataset', STATEMENTS, ids=lambda d: d.name)
def test_a_statement_ends_as_a_sentence(dataset, examples):
  """... inside quotation marks or after them."""
  field = STATEMENT[dataset.name]
  for example in examples(dataset):
    shown = example.values[field]
    assert re.search(r'[.!?…][)\]"\'’”]*$', shown), f'{example.example_id}: {shown!r}'


def test_a_goal_of_piqa_ends_without_a_comma():
  for _, example in read('piqa'):
    assert not example.values['goal'].endswith(',')


def test_an_ending_of_hellaswag_is_shown_as_its_own_text():
  for _, example in read('hellaswag'):
    close = example.values['close']
    assert close[0] not in ',.;:'
    assert example.answer.text.endswith(close)


def test_fix_punct_drops_what_its_templates_say():
  """Marks are dropped, except inside a number; hyphens and slashes stay."""
  dataset = DATASETS['fix_punct']
  example = dataset.read(
    {'en': "At 1.5%, it's a (well-known) and/or - 2:1!"}, 'train:0'
  )
  assert example.values['bare'] == 'At 1.5% its a well-known and/or 2:1'
  for template in dataset.templates:
    text = ' '.join(literal for literal, _ in template_lib.parse(template.inputs))
    assert not re.search(
      r'\b(?:all|every|each|any)\b[^.]*\b(?:marks?|comma)', text.lower()
    )


@each_dataset
def test_templates_are_in_american_spelling(dataset):
  british = re.compile(
    # codespell:ignore-next-line
    r'\b\w*(?:colour|neighbour|rumour|favour|honour|labelled|programme|isation|judgement|'
    # codespell:ignore-next-line
    r'speciality|enquir|centre|behaviour|travell)\w*|\b\w+(?:al|og|ton)is(?:e|ed|ing)\b'
  )
  for template in dataset.templates:
    text = ' '.join(literal for literal, _ in template_lib.parse(template.inputs))
    assert not british.search(text.lower())
