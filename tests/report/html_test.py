"""The report's page: every text as it was given, every section, no other file."""

import copy
import functools
import html.parser
import io
import json
import re

import hypothesis
import made_report
import pytest
from hypothesis import strategies as st
from made_report import DATASETS, record

from flan_jax.report import compare, schema, terminal, write
from flan_jax.report import html as html_lib
from flan_jax.report import plots as plots_lib

REPORT = made_report.report(
  warnings=('rte: something odd',),
  provenance={
    'config': 'Run.seed = 3  # demo.gin:4',
    'models': {
      name: {'parameters': 1000, 'fingerprint': name,
             'tokenizer': {'name': 'bytes', 'digest': 'd' * 64}}
      for name in ('tuned', 'base')
    },
    'versions': {'jax': '0.10'},
  },
)  # fmt: skip
RTE, _, AESLC = DATASETS
EXAMPLES = {
  'rte': [
    record(RTE, 0) | {'right': True, 'expected': ['yes'], 'choices': [
      {'option': 'yes', 'score': -1.5, 'base': None, 'gold': True, 'predicted': True}]}
  ],
  'aeslc': [
    record(AESLC, 1) | {'right': None, 'choices': [], 'expected': ['yes'],
                        'score': 50.0, 'metric': 'edit_similarity'}
  ],
}  # fmt: skip
VOID = {'meta', 'br', 'wbr', 'link', 'img', 'input', 'hr'}


class Page(html.parser.HTMLParser):
  """A parsed page: its text, elements, ids and links; every element is closed."""

  def __init__(self, page: str):
    super().__init__()
    self.pieces, self.tags, self.ids, self.links, self._open = [], [], [], [], []
    self.feed(page)
    self.close()
    assert not self._open
    self.text = ''.join(self.pieces)

  def handle_starttag(self, tag, attrs):
    self.handle_startendtag(tag, attrs)
    if tag not in VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    attributes = dict(attrs)
    self.tags.append((tag, attributes))
    self.ids += [attributes['id']] if 'id' in attributes else []
    self.links += [attributes[key] for key in ('href', 'src') if key in attributes]

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open[-1:] != ['style']:
      self.pieces.append(data)


@functools.cache
def drawn():
  return plots_lib.draw(REPORT)


@functools.cache
def plain_page():
  return html_lib.render(REPORT, plots=drawn(), examples=EXAMPLES)


@pytest.fixture
def page():
  return plain_page()


def with_text(value, text: str, skipped=()):
  """`value` with `text` after every string of it but those under `skipped` keys."""
  if isinstance(value, str):
    return value + text
  if isinstance(value, list):
    return [with_text(part, text, skipped) for part in value]
  if isinstance(value, dict):
    return {
      key: part if key in skipped else with_text(part, text, skipped)
      for key, part in value.items()
    }
  return value


NAMES = ('split', 'cluster', 'trained_on', 'lineage', 'family', 'prompt_style', 'mark')
"""Keys whose values are words of the program, by which it looks something up."""

TEXTS = st.text(
  st.sampled_from('<>&"\'{}%#/=- \nabi')
  | st.characters(exclude_categories=('Cs', 'Cc')),
  max_size=20,
)


@hypothesis.settings(max_examples=6)
@hypothesis.given(text=TEXTS)
@hypothesis.example(text='</pre></code><script>alert(1)</script><i class="')
@hypothesis.example(text='{{ 7 * 7 }}{% raw %}{# &lt; #}')
@hypothesis.example(text='\'" onload="x')
def test_every_text_from_outside_is_shown_as_it_is(text):
  report = with_text(REPORT, text, NAMES)
  shown = with_text(EXAMPLES, text)
  found = Page(html_lib.render(report, plots=drawn(), examples=shown))
  for wanted in (
    report['model'], report['checkpoint'], report['warnings'][0],
    report['results'][0]['metric'],
    report['results'][0]['per_template'][0]['text'],
    report['contamination']['against'][0],
    shown['rte'][0]['prompt'], shown['rte'][0]['example_id'],
    shown['rte'][0]['choices'][0]['option'], shown['aeslc'][0]['text'],
    shown['aeslc'][0]['expected'][0], report['data']['datasets'][0]['tfds'],
    report['provenance']['versions']['jax'],
  ):  # fmt: skip
    assert wanted in found.text
  plain = Page(plain_page())
  assert [tag for tag, _ in found.tags].count('script') == 0
  assert found.ids == plain.ids
  assert {key for _, of in found.tags for key in of} == {
    key for _, of in plain.tags for key in of
  }


def test_a_control_character_of_an_answer_is_a_picture():
  examples = {'aeslc': [EXAMPLES['aeslc'][0] | {'text': 'a\x07b\x1b[31m\x7f\n\tc'}]}
  text = Page(html_lib.render(REPORT, plots=drawn(), examples=examples)).text
  assert 'a\u2407b\u241b[31m\u2421\n\tc' in text
  assert not set(text) & {'\x07', '\x1b', '\x7f'}


def test_every_link_of_the_page_leads_somewhere(page):
  found = Page(page)
  assert len(found.ids) == len(set(found.ids))
  inside = [link for link in found.links if link.startswith('#')]
  assert {link[1:] for link in inside} <= set(found.ids)
  assert set(found.links) - set(inside) == {
    'report.json', 'report.csv', 'templates.csv', 'report.tex', 'predictions.jsonl',
    'predictions.base.jsonl',
  }  # fmt: skip


def test_the_page_asks_for_no_other_file(page):
  found = Page(page)
  tags = {tag for tag, _ in found.tags}
  assert not tags & {'script', 'link', 'img', 'iframe', 'object', 'image', 'base'}
  assert not {key for _, of in found.tags for key in of if key.startswith('on')}
  (policy,) = [of['content'] for _, of in found.tags if 'http-equiv' in of]
  assert policy.startswith("default-src 'none'")
  assert '@import' not in page
  assert 'url(' not in page.replace('url(#', '')


SECTIONS = {
  'figures', 'datasets', 'by-template', 'calibration', 'contamination', 'examples',
  'data', 'provenance',
}  # fmt: skip


def test_every_section_is_there(page):
  assert set(Page(page).ids) >= SECTIONS


@pytest.mark.parametrize('gone', ['calibration', 'contamination', 'examples'])
def test_a_section_without_content_is_left_out_and_not_linked(gone):
  report = made_report.report(contaminated=gone != 'contamination')
  if gone == 'calibration':
    for result in report['results']:
      for figures in (result, result['base']):
        figures.pop('calibration', None)
  examples = {} if gone == 'examples' else EXAMPLES
  found = Page(html_lib.render(report, plots=drawn(), examples=examples))
  assert set(found.ids) & SECTIONS == SECTIONS - {gone}
  assert f'#{gone}' not in found.links


def test_every_result_has_its_figures_in_the_tables(page):
  text = Page(page).text
  for result in REPORT['results']:
    assert f'{result["mean"]:.1f}' in text
    assert f'{result["base"]["mean"]:.1f}' in text
    assert schema.points(result['delta']) in text
    assert f'[{schema.bounds(result["delta_ci95"])}]' in text


def test_every_plot_has_its_figures_in_words(page):
  """A reader without eyes hears what the plots show."""
  found = Page(page)
  plots = [of for tag, of in found.tags if tag == 'svg' and of.get('role') == 'img']
  assert len(plots) == 3
  assert all(of['aria-labelledby'] in found.ids for of in plots)
  for average in schema.averages(REPORT):
    assert schema.headline(average) in found.text.partition('Bar chart')[2]
  for result in REPORT['results']:
    figures = [entry['test'] for entry in result['per_template']]
    words = f'{result["dataset"]}: {min(figures):.1f} to {max(figures):.1f}'
    assert words in found.text


@pytest.fixture(scope='module')
def difference(tmp_path_factory):
  """A comparison of two evaluations; the newer one is right more often."""
  folders = []
  for name, wrong in (('new', 5), ('old', 2)):
    out = tmp_path_factory.mktemp(name)
    lines = [record(of, i, right=i % wrong > 0) for of in DATASETS for i in range(40)]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (out / 'predictions.jsonl').write_text(text, encoding='utf-8')
    made = write.build(
      made_report.results(), write.Metadata(**made_report.METADATA | {'model': name})
    )
    (out / 'report.json').write_text(json.dumps(made), encoding='utf-8')
    folders.append(out)
  return compare.compare(*folders)


class TestDifference:
  def test_it_shows_both_figures_and_the_answers_that_changed(self, difference):
    found = Page(html_lib.difference(difference))
    assert {'datasets', 'examples', 'settings'} <= set(found.ids)
    for result in difference['results']:
      for figure in (result['old'], result['new']):
        assert f'{figure:.1f}' in found.text
      assert schema.points(result['delta']) in found.text
      for example in result['examples']:
        assert example['prompt'] in found.text

  def test_its_texts_are_shown_as_they_are(self, difference):
    text = '</pre><script>x</script>{{ 7 * 7 }}&lt;'
    kept = (*NAMES, 'splits', 'kind', 'unit', 'metric')
    shown = with_text(difference, text, kept)
    found = Page(html_lib.difference(shown))
    assert 'script' not in {tag for tag, _ in found.tags}
    assert shown['new']['title'] in found.text
    for result in shown['results']:
      for example in result['examples']:
        for key in ('prompt', 'old', 'new', 'expected', 'example_id'):
          assert example[key] in found.text

  def test_it_asks_for_no_other_file(self, difference):
    found = Page(html_lib.difference(difference))
    tags = {tag for tag, _ in found.tags}
    assert not tags & {'script', 'link', 'img', 'iframe', 'object', 'base'}
    outside = [link for link in found.links if not link.startswith('#')]
    assert all('//' not in link for link in outside)


class TestColumns:
  """A column stands if its values differ, or if a result has one."""

  def heads(self, report):
    page = html_lib.render(report, plots=drawn(), examples={})
    head = page.partition('id="caption-datasets"')[2].partition('</thead>')[0]
    return re.findall(r'<th[^>]*>(.*?)</th>', head)

  def test_styles_of_options_have_one_if_there_are_several(self):
    report = copy.deepcopy(REPORT)
    assert 'options style' not in self.heads(report)
    report['results'][0]['options_style'] = 'letters'
    assert self.heads(report)[1] == 'options style'
    page = html_lib.render(report, plots=drawn(), examples={})
    assert '<td class="text">letters</td>' in page
    assert '<td class="text">bullets</td>' in page
    out = io.StringIO()
    terminal.print_table(report, file=out)
    assert re.search(r'rte +accuracy +letters +40 of 400', out.getvalue())
    for result in report['results']:
      result['options_style'] = 'letters'
    assert 'options style' not in self.heads(report)

  def test_what_no_result_has_has_none(self):
    report = copy.deepcopy(REPORT)
    del report['results'][:2]
    assert not {'chance', 'majority', 'FLAN 137B'} & set(self.heads(report))

  def test_the_text_of_a_template_stands_beside_its_scores(self, page):
    (entry, *_) = REPORT['results'][0]['per_template']
    row = rf'<th[^>]*>{entry["template"]}.*?{{premise}}</code></th><td>{entry["dev"]}'
    assert re.search(row, page)
