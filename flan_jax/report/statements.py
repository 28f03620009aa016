"""Statements of a report in words: the model, the prompts, the data, the claims.

A statement claims no more than the report holds: a model that was never tuned is called
by its name, and a few-shot result is never called zero-shot.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flan_jax.catalog import options_style as options_style_lib
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.config.decoding import GREEDY

OWN = 'flan'
"""Dataset family that statements leave unnamed."""

CLUSTER_NAMES = {
  'nli': 'NLI',
  'reading_comprehension': 'Reading comprehension',
  'closed_book_qa': 'Closed-book QA',
  'commonsense': 'Commonsense',
  'coreference': 'Coreference',
  'reading_comp_commonsense': 'Reading comprehension with commonsense',
  'sentiment': 'Sentiment',
  'paraphrase': 'Paraphrase',
  'struct_to_text': 'Struct to text',
  'translation': 'Translation',
  'summarization': 'Summarization',
  'misc': 'Miscellaneous',
}
"""Cluster -> its name in headlines and figures."""

_SCORES = {
  'none': 'log-probabilities of the whole option, in nats',
  'token': 'log-probabilities of the whole option, in nats, divided by its tokens',
  'byte': 'log-probabilities of the whole option, in nats, divided by its bytes',
  'unconditional': 'log-probabilities of the whole option, in nats, less that of the '
  'option alone',
}
"""Normalization of option scores -> the scores in words."""


def num_fewshot(count: int) -> str:
  """Names a number of few-shot examples: `zero-shot`, `3-shot`."""
  return f'{count}-shot' if count else 'zero-shot'


def claim(seen: str, count: int) -> str:
  """Returns the claim of a headline on a cluster: `3-shot, never trained on`.

  Args:
    seen: claim of the leakage report on the cluster.
    count: few-shot examples before each prompt.
  """
  if seen.startswith('zero-shot'):  # (training unknown), and the like
    return num_fewshot(count) + seen.removeprefix('zero-shot')
  if seen == 'trained on' and not count:
    return f'no exemplars, {seen}'  # zero-shot would mean that it is unseen
  return f'{num_fewshot(count)}, {seen}'


def cluster_name(cluster: str) -> str:
  """A cluster's name in words; that of a user's own cluster as it is."""
  return CLUSTER_NAMES.get(cluster, cluster)


def of_family(family: str | None) -> str:
  """Names a dataset family other than FLAN after a noun: ` of the microworld`."""
  return f' of {_named(family)}' if family and family != OWN else ''


def _named(families: str) -> str:
  """Dataset families in words: `FLAN and the microworld`."""
  return ' and '.join(
    'FLAN' if name == OWN else f'the {name}' for name in families.split(' and ')
  )


def elsewhere(family: str | None, measured: str | None) -> str:
  """Names a dataset family after a noun, if it is not the measured one.

  Args:
    family: dataset family; '' for datasets of none or of several, None for the
      measured one.
    measured: the measured dataset family.
  """
  if family is None or family == (measured or ''):
    return ''
  return of_family(family) or (' of FLAN' if family else ' of no single dataset family')


def on(report: Mapping[str, Any]) -> str:
  """Names the measured dataset family after a verb: ` on the microworld`."""
  return on_family(report.get('data', {}).get('family'))


def on_family(family: str | None) -> str:
  """Names a dataset family other than FLAN after a verb: ` on the microworld`."""
  return f' on {_named(family)}' if family and family != OWN else ''


def is_tuned(report: Mapping[str, Any]) -> bool:
  """Returns whether the model is known to be trained on a dataset.

  A model with the weights of its base is not tuned.
  """
  lineage = report.get('lineage', UNKNOWN)
  weights = report.get('provenance', {}).get('models', {})
  if len({model['fingerprint'] for model in weights.values()}) < len(weights):
    return False  # it is its base
  if lineage == UNKNOWN:  # an older report
    return report['trained_on'] not in (UNKNOWN, []) or any(
      report['train_examples'].values()
    )
  return any(map(_trained, lineage))


def _trained(training: Mapping[str, Any]) -> bool:
  """Returns whether a training is known to have seen an example of a dataset."""
  counts = training['train_examples'].values()
  no_step = bool(counts) and not any(counts)
  return training['datasets'] not in (UNKNOWN, []) and not no_step


def models(report: Mapping[str, Any]) -> dict[str, str]:
  """Returns the display names of a report's models, the base first.

  The measured model is `tuned` if it is known to be tuned. Otherwise it has its own
  name, or `the model` if that name claims a tuning.
  """
  if is_tuned(report):
    return {'base': 'base', 'tuned': 'tuned'}
  name = report.get('model') or 'model'
  misleads = _claims_tuning(report)
  if any('base' in result for result in report['results']):
    misleads |= name == 'base'
  return {'base': 'base', 'tuned': 'the model' if misleads else name}


def title(report: Mapping[str, Any]) -> str:
  """Returns the title of a report: its model, or its checkpoint if that misleads."""
  if _claims_tuning(report) and not is_tuned(report):
    return report.get('checkpoint') or 'the model'
  return report['model']


def _claims_tuning(report: Mapping[str, Any]) -> bool:
  """Returns whether a model's name claims a tuning: `tuned`, or a mixture."""
  lineage = report.get('lineage', UNKNOWN)
  trainings = lineage if lineage != UNKNOWN else []
  mixtures = {training['mixture'] for training in trainings}
  name = report.get('model')
  return bool(name) and (name.lower() == 'tuned' or name in mixtures)


def dev(splits: Iterable[str]) -> str:
  """Marks a name whose figures are of dev: ` (dev)`; '' if they are of test."""
  splits = list(splits)
  count = splits.count('dev')
  if not count:
    return ''
  return ' (dev)' if count == len(splits) else f' (dev in {count} of {len(splits)})'


def dev_of_pair(result: Mapping[str, Any]) -> str:
  """Marks the result of a comparison likewise: ` (old dev, new test)`."""
  old, new = result['splits']['old'], result['splits']['new']
  return dev([old]) if old == new else f' (old {old}, new {new})'


def comparison(found: Mapping[str, Any]) -> str:
  """Returns the title of a comparison: the two evaluations, by what differs."""
  old, new = found['old']['title'], found['new']['title']
  if old != new:
    return f'{old} → {new}'
  return f'{old}, twice: no recorded setting differs'


def unpaired(result: Mapping[str, Any]) -> str:
  """Says why the predictions of two reports could not be paired; '' if they were."""
  reason = result['unpaired_reason']
  return f'the predictions could not be paired: {reason}' if reason else ''


def over(result: Mapping[str, Any]) -> str:
  """Says which part of two reports a comparison is over, and the reports' figures.

  `over the 1 template of both; the reports themselves: 50.7 → 58.3`; '' if the compared
  figures are those of the reports.
  """
  reports = result['reports']
  whole = f'the reports themselves: {_arrow(reports, "mean", "{:.1f}")}'
  if not result['paired']:
    return 'each over its own examples'
  some = [
    f'the {result[key]:,} {noun}{"s" if result[key] != 1 else ""}'
    for key, noun in (('templates', 'template'), ('n', 'example'))
    if result[key] and result[key] < max(report[key] for report in reports.values())
  ]
  parts = [f'over {" and ".join(some)} of both'] if some else []
  counts = {report['templates'] for report in reports.values()}
  if not result['templates'] and len(counts) > 1:
    parts.append(f'each over its own templates ({_arrow(reports, "templates")})')
  elif not result['templates']:
    parts.append('each over its own templates')
  return '; '.join([*parts, whole]) if parts else ''


def remarks(found: Mapping[str, Any], label: Any) -> list[str]:
  """Lists the caveats of a comparison's figures, a line each."""
  lines = []
  if found['other_examples']:
    names = ', '.join(found['other_examples'])
    lines.append(f'The two did not measure the same examples of {names}.')
  for result in found['results']:
    for line in (over(result), unpaired(result)):
      if line:
        lines.append(f'{label(result)}: {line}')
  return lines


def pair_examples(result: Mapping[str, Any]) -> str:
  """Counts the examples compared: `60`, or `6 → 3` if the two share none."""
  counts = {report['n'] for report in result['reports'].values()}
  if result['n'] is not None or len(counts) == 1:
    return f'{result["n"] or counts.pop():,}'
  return _arrow(result['reports'], 'n')


def _arrow(reports: Mapping[str, Any], key: str, text: str = '{:,}') -> str:
  """Formats a value of the old report and of the new one: `3 → 1`."""
  return ' → '.join(text.format(reports[which][key]) for which in ('old', 'new'))


def not_test(report: Mapping[str, Any], label: Any) -> Iterator[str]:
  """Yields a line that names the results whose figures are of dev."""
  names = [label(result) for result in report['results'] if result['split'] == 'dev']
  if names:
    yield (
      f'{", ".join(names)}: dev figures; no test split was measured, and no template '
      'was chosen'
    )


def prompts(report: Mapping[str, Any]) -> str:
  """Describes the prompts of the models: `zero-shot`, `5-shot, no options`."""
  found = []
  for result in report['results']:
    shots = result['num_fewshot']
    # Zero-shot would mean that the cluster is unseen.
    trained = result['cluster'] in report.get('trained_on', ()) and not shots
    words = ['no exemplars' if trained else num_fewshot(shots)]
    style = result['prompt_style']
    base_style = result.get('base', {}).get('prompt_style', style)
    if style != 'instructions':
      words.append(style.replace('_', ' '))
    if 'options_style' in result:
      words.append(f'options style {result["options_style"]}')
    if base_style != style:
      words.append(f'base: {base_style.replace("_", " ")}')
    found.append(', '.join(words))
  return '; '.join(dict.fromkeys(found or [num_fewshot(0)]))


def answers(report: Mapping[str, Any]) -> Iterator[str]:
  """Yields the settings of answers other than FLAN's: `scores by byte`, `beams 4`."""
  settings = report.get('answers', {})
  by = settings.get('normalization', 'none')
  if by != 'none':
    yield f'scores {by}' if by == 'unconditional' else f'scores by {by}'
  if settings.get('separator', 'eos') != 'eos':
    yield 'no EOS between prompt and answer'
  end = settings.get('end', 'eos')
  if end != 'eos':
    yield 'no EOS scored' if end == 'none' else f'answers end with {end}'
  default = dataclasses.asdict(GREEDY) | {'stop': []}
  for name, value in settings.get('decoding', {}).items():
    if value != default.get(name) and value != ():
      yield f'{name.replace("_", " ")} {value}'


def scores(report: Mapping[str, Any]) -> str:
  """Describes the scores of options."""
  return _SCORES[report.get('answers', {}).get('normalization', 'none')]


def exemplars(report: Mapping[str, Any], label: Any) -> Iterator[str]:
  """Yields a line for each result whose prompts could not hold all exemplars."""
  for result in report['results']:
    asked = result['num_fewshot']
    shown = result.get('num_fewshot_shown', asked)
    if shown < asked:
      yield (
        f'{label(result)}: {shown:.1f} of {asked} exemplars on average; the prompts '
        'have room for no more'
      )


def setting(report: Mapping[str, Any], name: str) -> str:
  """Returns the value of a setting of the configuration; '' if it is unknown."""
  for line in report.get('provenance', {}).get('config', '').splitlines():
    found, _, value = line.rpartition('  # ')[0].partition(' = ')
    if found == name:
      return value
  return ''


def share(results: Sequence[Mapping[str, Any]]) -> str:
  """Counts the examples of results: `240 examples`, `12 of 300 examples (4 %)`."""
  n = sum(result['n'] for result in results)
  declared = [result['n_declared'] or 0 for result in results]
  whole = sum(declared)
  if 0 in declared or whole <= n:
    return f'{n:,} example{"" if n == 1 else "s"}'
  percent = f'{100 * n / whole:.2g}' if n < 0.995 * whole else '99+'
  return f'{n:,} of {whole:,} examples ({percent} %)'


def options_style(result: Mapping[str, Any]) -> str:
  """Names the style of the OPTIONS block; `–` without options."""
  usual = '–' if result['chance'] is None else options_style_lib.DEFAULT
  return result.get('options_style', usual)


def has_options_styles(report: Mapping[str, Any]) -> bool:
  """Returns whether the results have different styles of the OPTIONS block."""
  results = report['results']
  own = any('options_style' in result for result in results)
  return own and len(set(map(options_style, results))) > 1


def leakage(report: Mapping[str, Any]) -> str:
  """States the outcome of the leakage check, of the model's last training."""
  found = report['leakage']
  if found['datasets'] is None:
    return 'the training data is unknown'
  lineage = report['lineage']
  last = 'last ' if lineage != UNKNOWN and len(lineage) > 1 else ''
  count = len(found['datasets'])
  if not count:
    return f'{last}trained on no dataset'
  mixture = f' of {found["mixture"]}' if found['mixture'] else ''
  parts = [f'{last}trained on {count} dataset{"s" if count > 1 else ""}{mixture}']
  if found['excluded']:
    names = ', '.join(map(cluster_name, found['excluded']))
    parts.append(f'related clusters excluded: {names}')
  overlaps = [one for one in found['allowed_overlap'] if one['by'] != 'itself']
  parts.append(f'allowed overlaps: {len(overlaps) or "none"}')
  return '; '.join(parts)


def source(report: Mapping[str, Any]) -> str:
  """Describes the source of the measured examples; '' if unknown."""
  data = report.get('data', {})
  raw = _raw(data)
  if 'store' not in data:
    return raw
  exemplars = f'; exemplars: {raw}' if raw else ''
  tasks = [f'; {name} from {path}' for name, path in data.get('tasks', {}).items()]
  return (
    f'store {data["store"]} (digest {data["store_digest"]}, template seed '
    f'{data["template_seed"]}){exemplars}{"".join(tasks)}'
  )


def _raw(data: Mapping[str, Any]) -> str:
  found = [f'{name} from {path}' for name, path in data.get('sources', {}).items()]
  if data.get('directory') is not None:
    found.insert(0, f'TFDS data in {data["directory"]}')
  elif 'directory' in data:
    found.insert(0, f'generated by {_named(data["family"] or "microworld")}')
  return ', '.join(found)


def sizes(dataset: Mapping[str, Any]) -> str:
  """Counts the measured examples of each split: `test 56 of 277 examples, ...`.

  Args:
    dataset: an entry of `datasets` in the report's `data`.
  """
  parts = []
  for split, count in dataset['splits'].items():
    n, declared = count['examples'], count['declared']
    known = f' of {declared:,}' if declared else ''
    parts.append(f'{split} {n:,}{known} example{"s" if n > 1 else ""}')
  return ', '.join(parts)
