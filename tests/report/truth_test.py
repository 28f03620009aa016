"""Every sentence of a report holds for the evaluation at hand, and none is missing.

For each kind of report, `Facts` states by hand what was measured. `RULES` says of each
sentence when it is true: it stands on the page if and only if its rule holds, and a
sentence without a rule fails.
"""

import dataclasses
import functools
import html
import io
import re

import made_report
import pytest
from evaluated_report import (
  CLEAN,
  MICROWORLD,
  NO,
  PROSE,
  SEEN,
  WRITER,
  evaluated,
  page,
  texts,
)

from flan_jax.catalog.lineage import Lineage
from flan_jax.evaluate import evaluator
from flan_jax.report import build, plots, schema, terminal
from flan_jax.report import html as html_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """Facts about an evaluation, stated independently of its report."""

  name: str = 'tuned'  # of the model beside the base
  base: bool = True
  base_prompts: bool = False  # of its own
  templates: int = 10
  declared: int = 10
  datasets: int = 1
  clusters: int = 1
  tests: int = 1  # p-values that are corrected together
  ranked: bool = True
  generated: bool = False
  published: bool = True
  unverified: bool = True
  also: bool = False  # further metrics
  few_dev: bool = False
  overlap: bool = False  # allowed by the run
  contaminated: bool = False
  curves: bool = False
  validated: bool = False
  configured: bool = False
  trained: bool = False  # examples by cluster are known
  costs: bool = True  # counted by dataset


RTE = Facts(trained=False)
STEP = dataclasses.replace(CLEAN.trainings[0], train_examples={'sentiment': 8})
DECODED = {'normalization': 'byte', 'decoding': {'temperature': 0.7, 'stop': []}}

EVALUATED = {
  'tuned beside its base': ({'base': NO}, RTE),
  'untuned model': (
    {'name': 'prose', 'chain': PROSE, 'base': NO},
    dataclasses.replace(RTE, name='prose'),
  ),
  'k-shot': ({'num_fewshot': 3, 'base': NO}, RTE),
  'other dataset family': (
    MICROWORLD,
    Facts(templates=8, declared=8, published=False, few_dev=True),
  ),
  'one template': (
    {'templates': 1, 'base': NO},
    dataclasses.replace(RTE, templates=1),
  ),
  'generation only': (
    {'dataset': 'samsum', 'examples': texts, 'model': WRITER},
    Facts(
      base=False, templates=8, declared=8, ranked=False, generated=True, also=True,
      published=False, few_dev=True, tests=0,
    ),
  ),
  'subset of examples': (
    {'max_examples': 5, 'base': NO},
    dataclasses.replace(RTE, few_dev=True),
  ),
  'a step of a run': (
    {'name': 'run@200', 'chain': Lineage((STEP,)), 'base': NO},
    dataclasses.replace(RTE, trained=True),
  ),
  'trained on the cluster': (
    {'chain': SEEN, 'allow_overlap': 'nli'},
    dataclasses.replace(RTE, base=False, tests=0, overlap=True),
  ),
  'base in its own prompts': (
    {'base': NO, 'base_prompt_style': 'continuation'},
    dataclasses.replace(RTE, base_prompts=True),
  ),
}  # fmt: skip
"""Kind -> settings of a small evaluation, and what is true of it."""

CURVES = {
  'train': [[10, 3.0], [20, 2.0]],
  'validation': [[10, 3.1], [20, 2.2]],
  'held_out': {'nli': [[10, 40.0], [20, 50.0]]},
  'metrics': {'sst2': [[10, 60.0], [20, 70.0]]},
}
VALIDATION = {
  'step': 20, 'examples': 4, 'loss': 2.2, 'perplexity': 9.0, 'accuracy': 50.0,
  'target_tokens': 8,
  'datasets': {'sst2': {
    'examples': 4, 'loss': 2.2, 'perplexity': 9.0, 'accuracy': 50.0, 'target_tokens': 8,
    'metrics': {'sst2': {'metric': 'accuracy', 'value': 70.0, 'ci95': [50.0, 90.0]}},
  }},
}  # fmt: skip
THREE = Facts(
  templates=3, declared=3, datasets=3, clusters=2, tests=3, generated=True,
  contaminated=True, trained=True, costs=False,
)  # fmt: skip


def configured(config):
  return {'config': config, 'models': {}, 'versions': {}}


MADE = {
  'several datasets': ({}, {}, THREE),
  'a run with evaluation steps': (
    {'curves': CURVES, 'validation': VALIDATION,
     'provenance': configured('Evaluate.eval_examples = 4  # flag')},
    {},
    dataclasses.replace(THREE, curves=True, validated=True, configured=True),
  ),
  'another seed of training': (
    {'provenance': configured('Run.seed = 7  # --gin.SEED')},
    {},
    dataclasses.replace(THREE, configured=True),
  ),
  'several processes': ({}, {'timing': {'examples_per_s': 2.0, 'examples': 40}}, THREE),
  'chat': ({}, {'prompt_style': 'chat'}, THREE),
}  # fmt: skip
"""Kind -> metadata of a report of made scores, other values, and what is true of it."""

RULES = {
  # Above the figures.
  r'The base model → the tuned model, the difference, and its 95 % interval over the '
  'same examples': lambda of: of.base and not of.base_prompts and of.name == 'tuned',
  r'The base model → prose, the difference, and its 95 % interval over the same '
  'examples': lambda of: of.base and of.name == 'prose',
  r'The base model → .* over the same examples, each model in prompts of its own': (
    lambda of: of.base_prompts
  ),
  r'The mean, and its 95 % interval over examples': lambda of: not of.base,
  r'Each figure is the mean over the templates of a dataset': (
    lambda of: of.templates > 1 and of.datasets == of.clusters
  ),
  r'Each figure is the mean over the templates of a dataset, then over datasets': (
    lambda of: of.templates > 1 and of.datasets > of.clusters
  ),
  r'[\w ]+, (zero-shot|3-shot|no exemplars).*: .*\d\]': lambda of: of.clusters > 1,
  r'leakage: rte trained .*, which is held out \(allowed by the run\)': (
    lambda of: of.overlap
  ),
  # Figures.
  r'One dataset: \w+': lambda of: of.datasets == 1,
  r'Average over the datasets of each cluster': lambda of: of.datasets > of.clusters,
  r'Lines are 95 % intervals': lambda of: True,
  r'One dot is one template: the same examples in another wording': (
    lambda of: of.templates > 1
  ),
  r'One dot is the one prompt that was measured of a dataset': (
    lambda of: of.templates == 1
  ),
  # The table of results.
  r'Every dataset, in percent': lambda of: True,
  r'Means over templates; ± is the standard deviation over templates, \[ \] a 95 % '
  'interval over examples': lambda of: of.templates > 1,
  r'\[ \] is a 95 % interval over examples': lambda of: of.templates == 1,
  r'Chance draws an option at random; majority is the best constant answer on these '
  'examples': lambda of: of.ranked,
  r'p is from a paired permutation test that swaps the models example by example': (
    lambda of: of.tests
  ),
  r'A difference is colored if p is below 0.05': lambda of: of.tests == 1,
  r'Holm is p corrected for the 3 results; a difference is colored if it is below '
  '0.05': lambda of: of.tests == 3,
  r'Detectable: .* with a power of 80 %': lambda of: of.base,
  r'Example: on n = \d+ of \w+, a true difference of .* a smaller one less often': (
    lambda of: of.base
  ),
  r'In the templates column, a dot is one template, from 0 to 100': (
    lambda of: of.templates > 1 and not of.base and not of.ranked
  ),
  r"In the templates column, .* 100, the base model's above; the tick is chance": (
    lambda of: of.templates > 1 and of.base and of.ranked
  ),
  r'In the templates column, .* 100; the tick is chance': (
    lambda of: of.templates > 1 and not of.base and of.ranked
  ),
  r'The FLAN 137B( few-shot)? column is its published (zero|few)-shot mean; a question '
  'mark means that no second source confirms it': (
    lambda of: of.published and of.unverified
  ),
  r'1 of 10 templates': lambda of: of.templates == 1,
  r'rougeLsum: stem.*': lambda of: of.also,
  r'Further metrics, in percent: .*': lambda of: of.also,
  # Templates, calibration, contamination.
  r'The best template is chosen on dev, and its test score is reported \(★\)': (
    lambda of: of.templates > 1
  ),
  r'Test scores play no part in the choice': lambda of: of.templates > 1,
  r'\w+: the best template was chosen on [48] dev examples; .* mostly chance|\w+: the '
  'best template was chosen on 5 dev examples; .* mostly chance': (
    lambda of: of.few_dev
  ),
  r'\w+: \w+ of each template, in percent': lambda of: True,
  r'The base model had 1 prompt of its own \(continuation\): [\d.]+': (
    lambda of: of.base_prompts
  ),
  r'A calibrated model is right as often as it is confident': lambda of: of.ranked,
  r'The confidence of a ranked answer is its share .*': lambda of: of.ranked,
  r'Every ranked answer, in ten bins .*': lambda of: of.ranked,
  r'Below the dotted line a model is overconfident': lambda of: of.ranked,
  r'Expected calibration error, in points: .*': lambda of: of.ranked,
  r'An example is contaminated if 13 consecutive words of it, or a shorter field of at '
  r'least 8 words, occur in texts \(1,234 words\)': lambda of: of.contaminated,
  r'Examples without a field of 8 words are not judged': lambda of: of.contaminated,
  r'Scores on the clean examples and on all examples': lambda of: of.contaminated,
  # Answers.
  r'Drawn by a seeded hash, not selected by hand: at most 3 right and 3 wrong answers '
  'of a dataset, so their shares are not those of all answers': (
    lambda of: of.ranked
  ),
  r'Drawn by a seeded hash, not selected by hand': lambda of: not of.ranked,
  r'Scores are log-probabilities of the whole option, in nats; .* is the answer': (
    lambda of: of.ranked
  ),
  r'The prompt of the base model:': lambda of: of.base_prompts,
  # Training.
  r'Loss of a target token by training step; perplexity is e to the loss': (
    lambda of: of.curves
  ),
  r'On dev each example has its template of the first epoch': lambda of: of.curves,
  r'Evaluation steps: at most 4 dev examples of each dataset, in its first template': (
    lambda of: of.curves
  ),
  r'Nothing is selected by them, and test is not evaluated': lambda of: of.curves,
  r'The figures of each evaluation step, on dev; metrics in percent': (
    lambda of: of.curves
  ),
  r'Validation at step 20, on dev of the training datasets': lambda of: of.validated,
  r'The loss is the mean negative log-likelihood of a target token, .*': (
    lambda of: of.validated
  ),
  r"The metric is the dataset's own, in its first template, .*": (
    lambda of: of.validated
  ),
  # Data and provenance.
  r'Measured examples of each split, of those that the split has': lambda of: True,
  r'Models': lambda of: True,
  r'Examples seen in tuning, by cluster: none of a held-out cluster': (
    lambda of: of.trained
  ),
  r'Every setting, its value and its origin': lambda of: of.configured,
  r'Cost of the evaluation; token counts include padding': lambda of: True,
  r'Cost of each dataset; seconds include compilation': lambda of: of.costs,
}  # fmt: skip
"""A sentence of the page, as a pattern -> whether it is true of the `Facts`."""


def sentences(written):
  """Lists the sentences of a page's paragraphs and captions, but the first lines."""
  body = written.partition('<main')[2]
  opening = re.findall(r'<p>(.*?)</p>', written.partition('<nav')[0], re.DOTALL)
  found = opening + re.findall(
    r'<(?:p|figcaption|caption)\b[^>]*>(.*?)</(?:p|figcaption|caption)>', body,
    re.DOTALL,
  )  # fmt: skip
  for text in found:
    plain = html.unescape(re.sub(r'<[^>]+>', '', text)).strip()
    yield from filter(None, re.split(r'(?<=\S)\.(?:\s+|$)', plain))


def check(written, of):
  said = [text for text in sentences(written) if not text.startswith('rte: something')]
  held = {rule for rule, true in RULES.items() if true(of)}
  for text in said:
    rules = [rule for rule in RULES if re.fullmatch(rule, text)]
    assert rules, f'no rule says when this is true: {text}'
    assert held & set(rules), f'not true: {text}'
  missing = [
    rule for rule in held if not any(re.fullmatch(rule, text) for text in said)
  ]
  assert not missing


def first_lines(written):
  """The line above the headline, the headline and the line of counts."""
  header = written.partition('<header>')[2].partition('<nav')[0]
  plain = html.unescape(re.sub(r'<[^>]+>', '', header))
  return ' | '.join(filter(None, map(str.strip, plain.splitlines())))


SAID = {
  'tuned beside its base': ['tiny · 1 dataset · 20 of 277 examples (7.2 %)'],
  'untuned model': ['base 50.0 → prose 75.0'],
  'k-shot': ['in percent: 3-shot', 'NLI, 3-shot, never trained on'],
  'other dataset family': ['Evaluation on the microworld', 'of the microworld'],
  'generation only': ['tiny · 1 dataset · 4 of 819 examples (0.49 %)'],
  'subset of examples': ['5 of 277 examples (1.8 %)'],
  'a step of a run': ['run@200 · 1 dataset'],
  'trained on the cluster': ['in percent: no exemplars', 'NLI, no exemplars, trained'],
  'base in its own prompts': ['zero-shot, base: continuation'],
  'chat': ['Evaluation, in percent: zero-shot, chat'],
}
"""Kind -> what its first lines say."""

NEVER = {
  'untuned model': [r'\btuned\b'],
  'k-shot': ['zero-shot'],
  'other dataset family': ['FLAN', 'TFDS data'],
  'generation only': [
    'Chance',
    r'(?<!mostly )\bchance',
    'majority',
    'Calibration',
    r'\b[Ww]rong\b',
    'class="wr',
  ],
  'one template': ['templates of a dataset', '±', 'best on dev', '★'],
  'trained on the cluster': ['(?<!published )zero-shot', 'never trained'],
  'several datasets': ['1 dataset ', '1 results'],
}
"""Kind -> what no line of its page or terminal output says."""


def check_words(kind, written, report):
  shown = re.sub(r'<style>.*?</style>|fill="[^"]*"', '', written, flags=re.DOTALL)
  out = io.StringIO()
  terminal.print_table(report, file=out)
  for words in SAID.get(kind, ()):
    assert words in first_lines(written)
  for words in NEVER.get(kind, ()):
    for text in (shown, out.getvalue()):
      assert not re.search(words, text), words
  for average in schema.averages(report):
    assert schema.headline(average) in out.getvalue()


@pytest.mark.parametrize('kind', EVALUATED)
def test_every_sentence_of_an_evaluation_is_true(kind, tmp_path):
  changes, facts = EVALUATED[kind]
  report = evaluated(tmp_path, **changes)
  check(page(tmp_path), facts)
  check_words(kind, page(tmp_path), report)


def test_a_run_without_held_out_clusters_claims_none():
  metadata = {'held_out': [], 'curves': CURVES, 'validation': VALIDATION}
  report = build.build(
    evaluator.Results(datasets=(), timing={}, warnings=()),
    build.Metadata(**made_report.METADATA | metadata),
  )
  written = html_lib.render(report, plots=drawn(True), examples={})
  assert '<h1>Validation at step 20: loss 2.200 nats, perplexity 9.00' in written
  for words in ('held-out cluster', 'zero-shot', 'predictions', 'Datasets', 'base'):
    assert words not in written.partition('</style>')[2].partition('<svg')[0]
    assert words not in re.sub(r'<svg.*?</svg>', '', written.partition('<main')[2])
  rows = re.findall(r'<tr><th scope="row">\d+</th>.*?</tr>', written)
  assert [re.sub(r'<[^>]+>', ' ', row).split() for row in rows] == [
    ['10', '3.100', '22.20', '40.0', '60.0'],
    ['20', '2.200', '9.03', '50.0', '70.0'],
  ]


@functools.cache
def drawn(with_curves):
  metadata = MADE['a run with evaluation steps'][0] if with_curves else {}
  return plots.draw(made_report.report(**metadata))


@pytest.mark.parametrize('kind', MADE)
def test_every_sentence_of_a_report_is_true(kind):
  metadata, changes, facts = MADE[kind]
  report = made_report.report(**{'provenance': configured(''), **metadata})
  report |= {key: value for key, value in changes.items() if key in report}
  for result in report['results']:
    for figures in (result, result['base']):
      figures |= {key: value for key, value in changes.items() if key in figures}
  shown = {'rte': [made_report.record(made_report.DATASETS[0], 0) | {
    'right': True, 'expected': ['yes'], 'choices': [
      {'option': 'yes', 'score': -1.5, 'base': None, 'gold': True, 'predicted': True}
    ]}]}  # fmt: skip
  written = html_lib.render(report, plots=drawn('curves' in report), examples=shown)
  check(written, facts)
  check_words(kind, written, report)
  seed = 'Run.seed = 7' in report['provenance']['config']
  assert ('<dt>training seed</dt><dd>7</dd>' in written) == seed
  assert '<dt>evaluation seed</dt><dd>3</dd>' in written
