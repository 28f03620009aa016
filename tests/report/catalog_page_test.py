"""The catalog's page: all of it, on its own, for every reader."""

import html.parser
import re

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.cli import dispatch
from flan_jax.data import tokenizers
from flan_jax.report import catalog_page
from flan_jax.report.statements import CLUSTER_NAMES

FLAN = registry.datasets('flan')
VOID = {'meta', 'br', 'hr', 'img', 'input', 'link'}


class Reader(html.parser.HTMLParser):
  """Parses a page: its text, ids, links, attributes, and unclosed tags."""

  def __init__(self, page: str):
    super().__init__()
    self.text, self.ids, self.links, self.tags, self.open = '', [], [], [], []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.tags.append((tag, attributes))
    self.ids += [attributes['id']] if 'id' in attributes else []
    self.links += [attributes['href']] if 'href' in attributes else []
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open[-1:] != ['style']:
      self.text += data


@pytest.fixture
def page(own_examples):
  """The whole catalog, with our own examples of all datasets but one."""
  examples = {name: own_examples(d)[0] for name, d in FLAN.items()} | {'newsroom': None}
  tokenizer = tokenizers.load('bytes')
  return catalog_page.render(FLAN.values(), examples=examples, tokenizer=tokenizer)


def test_every_cluster_dataset_and_template_is_on_it(page):
  read = Reader(page)
  assert not read.open
  for cluster in CLUSTERS:
    assert CLUSTER_NAMES[cluster] in read.text
  for dataset in FLAN.values():
    assert dataset.name in read.ids
    for template in dataset.templates:
      assert template.inputs.replace('{{', '{').replace('}}', '}') in read.text
      assert template.targets in read.text
    assert dataset.license in read.text
    assert dataset.citation in read.text
  assert f'{len(FLAN)} datasets, 12 clusters' in read.text


def test_fields_and_options_are_marked_and_named(page):
  assert '<mark class="field" title="premise">{premise}</mark>' in page
  assert '<mark class="options" title="OPTIONS">{OPTIONS}</mark>' in page
  first = FLAN['rte'].evaluated_templates[0]
  assert first == 0
  seals = 'Researchers at the marine station in Olvik'
  assert f'<mark class="field" title="premise">{seals}' in page


def test_a_prepared_dataset_has_an_example(page):
  assert page.count('>Example own-1 in template') == len(FLAN) - 1
  newsroom = page[page.index('id="newsroom"') : page.index('id="samsum"')]
  assert 'Example' not in newsroom
  assert 'templates</summary>' in newsroom


def test_what_a_record_says_is_text_and_never_markup(own_examples):
  dataset = FLAN['sst2']
  (example, _) = own_examples(dataset)
  example.values['sentence'] = '<script>alert(1)</script>'
  page = catalog_page.render(
    [dataset], examples={'sst2': example}, tokenizer=tokenizers.load('bytes')
  )
  assert '<script' not in page
  assert '&lt;script&gt;alert(1)' in page


def test_it_loads_nothing_and_runs_nothing(page):
  assert "default-src 'none'" in page
  read = Reader(page)
  assert all(link.startswith('#') for link in read.links)
  assert not {'script', 'img', 'link', 'iframe', 'object'} & {t for t, _ in read.tags}
  assert not re.search(r'url\(|@import|\bon\w+=', page.split('<body>')[0])


def test_it_reads_well_without_a_mouse_or_a_screen(page):
  read = Reader(page)
  assert ('html', {'lang': 'en'}) in read.tags
  assert [t for t, _ in read.tags].count('h1') == 1
  assert len(read.ids) == len(set(read.ids))
  assert {link[1:] for link in read.links} <= set(read.ids)
  assert all(a['scope'] for tag, a in read.tags if tag == 'th')
  for _, attributes in read.tags:
    label = attributes.get('aria-labelledby')
    assert label is None or label in read.ids
    # What scrolls takes the focus, and says what it is.
    if attributes.get('tabindex'):
      assert attributes['role'] == 'region'
      assert 'aria-label' in attributes or label


def luminance(color: str) -> float:
  parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize('theme', [0, 1], ids=['light', 'dark'])
@pytest.mark.parametrize(
  ('ink', 'ground'),
  [('ink', 'paper'), ('ink', 'soft'), ('quiet', 'paper'), ('accent', 'paper'),
   ('field-ink', 'field'), ('options-ink', 'options')],
)  # fmt: skip
def test_its_colors_have_the_contrast_of_wcag_aa(page, theme, ink, ground):
  block = re.findall(r':root \{(.*?)\}', page)[theme]
  colors = dict(re.findall(r'--([\w-]+): (#\w+);', block))
  full = {k: v if len(v) == 7 else f'#{v[1] * 2}{v[2] * 2}{v[3] * 2}'
          for k, v in colors.items()}  # fmt: skip
  light, dark = sorted((luminance(full[ink]), luminance(full[ground])), reverse=True)
  assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_flan_show_writes_the_page_of_one_task(tmp_path, capsys):
  out = tmp_path / 'new' / 'rte.html'
  assert dispatch.main(['show', 'microworld_mini_rte', '--html', str(out)]) == 0
  page = out.read_text(encoding='utf-8')
  assert '1 dataset, 1 cluster, 10 templates' in Reader(page).text
  assert '>Example ' in page
  assert capsys.readouterr().out == ''


def test_a_task_or_a_file_is_asked_for(tmp_path, capsys):
  assert dispatch.main(['show']) == 2
  assert 'show: give a TASK, as flan_rte, or --html FILE' in capsys.readouterr().err
  assert dispatch.main(['show', 'microworld_mini_rte', '--html', str(tmp_path)]) == 2
  assert 'a folder; give a file' in capsys.readouterr().err
