"""Statements: what a report says in words of what was done, to which model.

They claim what the report knows and no more: a model that was never tuned is called by
its name, and exemplars are never passed over as zero-shot.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.config.decoding import GREEDY

OWN = 'flan'
"""The family that needs no naming."""

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
"""How options were ranked -> what their scores are."""


def num_fewshot(count: int) -> str:
  """`zero-shot`, `3-shot`."""
  return f'{count}-shot' if count else 'zero-shot'


def claim(seen: str, count: int) -> str:
  """What a headline claims of a cluster: `3-shot, never trained on`.

  Args:
    seen: what the guard lets be said of it.
    count: exemplars before each prompt.
  """
  if seen.startswith('zero-shot'):  # (training unknown), and the like
    return num_fewshot(count) + seen.removeprefix('zero-shot')
  if seen == 'trained on' and not count:
    return f'no exemplars, {seen}'  # zero-shot would say that it is unseen
  return f'{num_fewshot(count)}, {seen}'


def of_family(family: str | None) -> str:
  """A family that is not FLAN's own, to stand after a noun: ` of the microworld`."""
  return f' of the {family}' if family and family != OWN else ''


def elsewhere(family: str, measured: str | None) -> str:
  """A family to stand after a noun, where it is not the one that was measured."""
  if family in ('', measured):
    return ''
  return of_family(family) or ' of FLAN'


def on(report: Mapping[str, Any]) -> str:
  """The same, to stand after what was done: ` on the microworld`."""
  family = report.get('data', {}).get('family') or OWN
  return '' if family == OWN else f' on the {family}'


def is_tuned(report: Mapping[str, Any]) -> bool:
  """Whether some training of the model is known to have read a dataset.

  A model with the weights of the base beside it was not tuned from it.
  """
  lineage = report.get('lineage', UNKNOWN)
  weights = report.get('provenance', {}).get('models', {})
  if len({of['fingerprint'] for of in weights.values()}) < len(weights):
    return False  # it is its base
  if lineage == UNKNOWN:  # an older report
    return report['trained_on'] not in (UNKNOWN, []) or any(
      report['train_examples'].values()
    )
  return any(map(_read, lineage))


def _read(training: Mapping[str, Any]) -> bool:
  """Whether a training is known to have read a dataset: not where it took no step."""
  counts = training['train_examples'].values()
  stood = bool(counts) and not any(counts)
  return training['datasets'] not in (UNKNOWN, []) and not stood


def models(report: Mapping[str, Any]) -> dict[str, str]:
  """What the models of a report are called, the base first.

  The measured model is `tuned` where it is known to be, else it has its own name, or
  `the model` where that name would be a claim.
  """
  if is_tuned(report):
    return {'base': 'base', 'tuned': 'tuned'}
  name = report.get('model') or 'model'
  misleads = _claims_tuning(report)
  if any('base' in result for result in report['results']):
    misleads |= name == 'base'
  return {'base': 'base', 'tuned': 'the model' if misleads else name}


def title(report: Mapping[str, Any]) -> str:
  """What to call a report: by its model, or by its checkpoint where that misleads."""
  if _claims_tuning(report) and not is_tuned(report):
    return report.get('checkpoint') or 'the model'
  return report['model']


def _claims_tuning(report: Mapping[str, Any]) -> bool:
  """Whether the name of a model says that it was tuned: `tuned`, or a mixture."""
  lineage = report.get('lineage', UNKNOWN)
  mixtures = {one['mixture'] for one in lineage} if lineage != UNKNOWN else set()
  name = report.get('model')
  return bool(name) and (name.lower() == 'tuned' or name in mixtures)


def dev(splits: Iterable[str]) -> str:
  """What must stand after a name whose figures are of dev: ` (dev)`; else ''."""
  splits = list(splits)
  count = splits.count('dev')
  if not count:
    return ''
  return ' (dev)' if count == len(splits) else f' (dev in {count} of {len(splits)})'


def dev_of_pair(result: Mapping[str, Any]) -> str:
  """The same for a result of a difference: ` (old dev, new test)`."""
  old, new = result['splits']['old'], result['splits']['new']
  return dev([old]) if old == new else f' (old {old}, new {new})'


def unpaired(result: Mapping[str, Any]) -> str:
  """Why no answer of a result of a difference could be paired; '' where some could."""
  return f'the answers could not be paired: {result["apart"]}' if result['apart'] else ''


def over(result: Mapping[str, Any]) -> str:
  """What the two figures of a result of a difference are over, and the reports' own.

  `over the 1 template of both; the reports themselves: 50.7 → 58.3`; '' where the
  figures are those of the reports.
  """
  reports = result['reports']
  whole = f'the reports themselves: {_arrow(reports, "mean", "{:.1f}")}'
  if not result['paired']:
    return 'each over its own results'
  some = [
    f'the {result[key]:,} {noun}{"s" if result[key] != 1 else ""}'
    for key, noun in (('templates', 'template'), ('n', 'result'))
    if result[key] and result[key] < max(of[key] for of in reports.values())
  ]
  said = [f'over {" and ".join(some)} of both'] if some else []
  if not result['templates'] and len({of['templates'] for of in reports.values()}) > 1:
    said.append(f'over templates of its own each ({_arrow(reports, "templates")})')
  elif not result['templates']:
    said.append('over templates of its own each')
  return '; '.join([*said, whole]) if said else ''


def pair_rows(result: Mapping[str, Any]) -> str:
  """How many results a difference is over: `60`, or `6 → 3` where none is of both."""
  counts = {of['n'] for of in result['reports'].values()}
  if result['n'] is not None or len(counts) == 1:
    return f'{result["n"] or counts.pop():,}'
  return _arrow(result['reports'], 'n')


def _arrow(reports: Mapping[str, Any], key: str, prompt_style: str = '{:,}') -> str:
  """A value of the old report, and of the new one."""
  return ' → '.join(
    prompt_style.format(reports[which][key]) for which in ('old', 'new')
  )


def not_test(report: Mapping[str, Any], label: Any) -> Iterator[str]:
  """A line that names the results whose figures are of dev."""
  names = [label(result) for result in report['results'] if result['split'] == 'dev']
  if names:
    yield (
      f'{", ".join(names)}: figures of dev, not of test: no test split was measured, '
      'and no template chosen'
    )


def asked(report: Mapping[str, Any]) -> str:
  """In words how the models were asked: `zero-shot`, `5-shot, no options`."""
  said = []
  for result in report['results']:
    words = [num_fewshot(result['num_fewshot'])]
    prompt_style, own = (
      result['prompt_style'],
      result.get('base', {}).get('prompt_style', result['prompt_style']),
    )
    if prompt_style != 'instructions':
      words.append(prompt_style.replace('_', ' '))
    if own != prompt_style:
      words.append(f'base: {own.replace("_", " ")}')
    said.append(', '.join(words))
  return '; '.join(dict.fromkeys(said or [num_fewshot(0)]))


def answers(report: Mapping[str, Any]) -> Iterator[str]:
  """What is not FLAN's way to find an answer: `scores by byte`, `beams 4`."""
  found = report.get('answers', {})
  by = found.get('normalization', 'none')
  if by != 'none':
    yield f'scores {by}' if by == 'unconditional' else f'scores by {by}'
  usual = dataclasses.asdict(GREEDY) | {'stop': []}
  for name, value in found.get('decoding', {}).items():
    if value != usual.get(name) and value != ():
      yield f'{name.replace("_", " ")} {value}'


def scores(report: Mapping[str, Any]) -> str:
  """What the scores of options are."""
  return _SCORES[report.get('answers', {}).get('normalization', 'none')]


def exemplars(report: Mapping[str, Any], label: Any) -> Iterator[str]:
  """A line for each result whose prompts had no room for all exemplars."""
  for result in report['results']:
    if result.get('shown', result['num_fewshot']) < result['num_fewshot']:
      yield (
        f'{label(result)}: {result["shown"]:.1f} of {result["num_fewshot"]} exemplars on average; no '
        'more fit'
      )


def source(report: Mapping[str, Any]) -> str:
  """Where the measured results were read, in words; '' where the report does not say."""
  data = report.get('data', {})
  raw = _raw(data)
  if 'store' not in data:
    return raw
  exemplars = f'; exemplars: {raw}' if raw else ''
  return (
    f'store {data["store"]} (digest {data["store_digest"]}, template seed '
    f'{data["template_seed"]}){exemplars}'
  )


def _raw(data: Mapping[str, Any]) -> str:
  if 'directory' not in data:
    return ''
  if data['directory'] is None:
    return f'generated by the {data["family"]}'
  return f'TFDS data in {data["directory"]}'


def sizes(of: Mapping[str, Any]) -> str:
  """The measured results of one result: `test 56 of 277 results, dev 20 of 200`."""
  said = []
  for split, count in of['splits'].items():
    declared = count['declared']
    known = f' of {declared:,}' if declared else ''
    said.append(
      f'{split} {count["results"]:,}{known} result{"s" if count["results"] > 1 else ""}'
    )
  return ', '.join(said)
