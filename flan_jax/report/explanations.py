"""Explanations beside the figures and tables of a page.

A sentence stands where it is true and applies: one template has no spread, one dataset
no average, and a metric without right and wrong no right answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flan_jax.report import published, schema, statements

Report = Mapping[str, Any]


def _models(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """Returns the figures of each model of a result."""
  return [result, *([result['base']] if 'base' in result else [])]


def has_base(report: Report) -> bool:
  return any('base' in result for result in report['results'])


def has_several_templates(report: Report) -> bool:
  """Returns whether a model was measured in more than one template of a dataset."""
  return any(
    schema.measured_templates({**result, **of}) > 1
    for result in report['results']
    for of in _models(result)
  )


def has_several_results(report: Report) -> bool:
  """Returns whether a cluster has an average of more than one result."""
  clusters = [result['cluster'] for result in report['results']]
  return len(set(clusters)) < len(clusters)


def _has_directions(report: Report) -> bool:
  return any('direction' in result for result in report['results'])


def _directions(report: Report) -> str:
  each = '; each direction of a translation counts as one'
  return each if _has_directions(report) else ''


def some_have(report: Report, key: str) -> bool:
  """Returns whether a result has a value under `key`."""
  return any(result.get(key) is not None for result in report['results'])


def opening(report: Report) -> str:
  """Explains the headlines of results in percent."""
  names = statements.models(report)
  if has_base(report):
    model = 'the tuned model' if names['tuned'] == 'tuned' else names['tuned']
    prompts = '' if _same_prompts(report) else ', each model in prompts of its own'
    figures = (
      f'The base model → {model}, the difference, and its 95 % interval over the same '
      f'examples{prompts}.'
    )
  else:
    figures = 'The mean, and its 95 % interval over examples.'
  return ' '.join(filter(None, (figures, _mean(report))))


def _same_prompts(report: Report) -> bool:
  return all(
    of['prompt_style'] == result['prompt_style']
    for result in report['results']
    for of in _models(result)
  )


def _mean(report: Report) -> str:
  """Explains the mean over templates and over datasets; '' if each has one figure."""
  parts = []
  if has_several_templates(report):
    some = any(
      schema.measured_templates(result) < result.get('templates_declared', 0)
      for result in report['results']
    )
    parts.append(f'over the {"measured " if some else ""}templates of a dataset')
  if has_several_results(report):
    parts.append(f'over datasets{_directions(report)}')
  return f'Each figure is the mean {", then ".join(parts)}.' if parts else ''


def averages(report: Report) -> str:
  """Captions the figure of the clusters' averages."""
  clusters = {result['cluster'] for result in report['results']}
  if has_several_results(report):
    what = f'Average over the datasets of each cluster{_directions(report)}.'
  elif len(clusters) > 1:
    what = 'One dataset of each cluster.'
  else:
    what = f'One dataset: {schema.shown(report["results"][0])}.'
  known = [average for average in schema.averages(report) if published.beside(average)]
  over = ''
  if known:
    named = published.model(known[0]['num_fewshot'])
    over = f' The published average of {named} is over the same datasets.'
    if not has_several_results(report):
      over = f' The published figure of {named} is on the same dataset.'
  return f'{what} Lines are 95 % intervals.{over}'


def templates(report: Report) -> str:
  """Captions the figure with a dot for each template."""
  if not has_several_templates(report):
    return 'One dot is the one prompt that was measured of a dataset.'
  counts = [
    {entry['n'] for entry in of['per_template'] if entry['n']}
    for result in report['results']
    for of in _models(result)
  ]
  same = all(len(found) == 1 for found in counts)
  wording = ': the same examples in another wording' if same else ''
  return f'One dot is one template{wording}.'


def datasets(report: Report, *, significant: float, tested: int) -> Iterator[str]:
  """Yields the sentences below the table of results.

  Args:
    report: the report, with its results in percent.
    significant: limit of a corrected p-value below which a difference is colored.
    tested: number of results that p-values are corrected for.
  """
  spread = any(
    of['std_over_templates'] is not None
    for result in report['results']
    for of in _models(result)
  )
  means = 'Means over templates; ± is the standard deviation over templates, [ ] '
  yield f'{means if spread else "[ ] is "}a 95 % interval over examples.'
  lines = []
  if some_have(report, 'chance'):
    lines.append('chance draws an option at random')
  if some_have(report, 'majority'):
    lines.append('majority is the best constant answer on these examples')
  if lines:
    yield _sentence('; '.join(lines))
  if tested and some_have(report, 'p'):
    yield (
      'p is from a paired permutation test that swaps the models example by example.'
    )
    holm = ''
    if tested > 1:
      holm = f'Holm is p corrected for the {tested} results; '
    yield _sentence(
      f'{holm}a difference is colored if {"it" if holm else "p"} is below {significant}'
    )
  if some_have(report, 'detectable'):
    yield (
      'Detectable: the smallest true difference that an evaluation on this many '
      'examples would find with a power of 80 %.'
    )
  if has_several_templates(report):
    above = ", the base model's above" if has_base(report) else ''
    tick = '; the tick is chance' if some_have(report, 'chance') else ''
    yield (
      f'In the templates column, a dot is one template, from 0 to 100{above}{tick}.'
    )
  known = list(filter(None, map(published.beside, report['results'])))
  if known:
    shots = report['results'][0]['num_fewshot']
    mark = ''
    if any(figure['mark'] != 'confirmed' for figure in known):
      mark = '; a question mark means that no second source confirms it'
    yield (
      f'The {published.model(shots)} column is its published '
      f'{"few-shot" if shots else "zero-shot"} mean{mark}.'
    )


def _sentence(text: str) -> str:
  return f'{text[0].upper()}{text[1:]}.'


def detectable(report: Report) -> str:
  """Gives an example of a detectable difference; '' if none is known."""
  for result in report['results']:
    if result.get('detectable'):
      return (
        f'Example: on n = {result["n"]:,} of {schema.label(result)}, a true difference '
        f'of {result["detectable"]:.1f} points would be found in 80 % of such '
        'evaluations, a smaller one less often.'
      )
  return ''


def best_template(report: Report) -> str:
  """Explains the choice of a template on dev; '' if none was chosen among several."""
  chosen = any(
    result['best_dev_template'] and result['split'] != 'dev'
    for result in report['results']
    if schema.measured_templates(result) > 1
  )
  return (
    'The best template is chosen on dev, and its test score is reported (★). Test '
    'scores play no part in the choice.'
    if chosen
    else ''
  )


def contaminated(found: Mapping[str, Any], *, min_words: int) -> str:
  """Explains which examples are contaminated."""
  ngram = found['ngram']
  short = (
    f', or a shorter field of at least {min_words} words,' if min_words < ngram else ''
  )
  return (
    f'An example is contaminated if {ngram} consecutive words of it{short} occur in '
    f'{", ".join(found["against"])} ({found["words"]:,} words). Examples without a '
    f'field of {min(min_words, ngram)} words are not judged.'
  )


def values(results: Sequence[Mapping[str, Any]], *, tested: int) -> str:
  """Explains the table of results in units of their own.

  Args:
    results: the results.
    tested: number of results that p-values are corrected for.
  """
  lines = []
  if any(of['ci95'] for result in results for of in _models(result)):
    lines.append('[ ] is a 95 % interval over examples.')
  if any('p' in result for result in results):
    holm = f'; Holm is p corrected for the {tested} results' if tested > 1 else ''
    lines.append(
      'p is from a paired permutation test that swaps the models example by '
      f'example{holm}.'
    )
  return ' '.join(lines)


def shown_answers(shown: Sequence[Mapping[str, Any]]) -> str:
  """Counts the answers that a page shows of a result: `3 right and 3 wrong shown`."""
  right = [one['right'] for one in shown if one['right'] is not None]
  scores = [one['score'] for one in shown if 'score' in one]
  if right:
    return f'{right.count(True)} right and {right.count(False)} wrong shown'
  count = f'{len(shown)} answer{"s" if len(shown) != 1 else ""} shown'
  if not scores:
    return count
  return f'{count}, {shown[0]["metric"]} {min(scores):.1f} to {max(scores):.1f}'


def examples(shown: Mapping[str, Sequence[Mapping[str, Any]]], *, each: int) -> str:
  """Explains how the shown answers were drawn.

  Args:
    shown: label of a result -> its shown answers.
    each: maximum number of right ones of a result, and of wrong ones.
  """
  drawn = 'Drawn by a seeded hash, not selected by hand'
  judged = [one for some in shown.values() for one in some if one['right'] is not None]
  if not judged:
    return f'{drawn}.'
  return (
    f'{drawn}: at most {each} right and {each} wrong answers of a dataset, so their '
    'shares are not those of all answers.'
  )


def loss(report: Report) -> str:
  """Captions the figure of the losses of a run."""
  curves = report['curves']
  dev = (
    ' On dev each example has its template of the first epoch.'
    if 'validation' in curves
    else ''
  )
  return f'Loss of a target token by training step; perplexity is e to the loss.{dev}'


def evaluation_steps(report: Report) -> str:
  """Captions the figure of the metrics of a run."""
  limit = statements.setting(report, 'Evaluate.eval_examples')
  some = f'at most {limit} dev examples' if limit else 'dev examples'
  return (
    f'Evaluation steps: {some} of each dataset, in its first template. Nothing is '
    'selected by them, and test is not evaluated.'
  )


def validation(report: Report) -> str:
  """Explains the table of the validation."""
  found = report['validation']
  metric = ''
  if any(figures['metrics'] for figures in found['datasets'].values()):
    metric = (
      " The metric is the dataset's own, in its first template, with a 95 % interval "
      'over examples.'
    )
  return (
    'The loss is the mean negative log-likelihood of a target token, its EOS included; '
    f'perplexity is e to the loss.{metric}'
  )


def comparison(found: Report, *, significant: float) -> Iterator[str]:
  """Yields the sentences below the table of a comparison.

  Args:
    found: content of difference.json.
    significant: limit of a corrected p-value below which a difference is colored.
  """
  results = found['results']
  yield '[ ] is a 95 % interval over examples.'
  tested = [r for r in (*results, *found.get('values', ())) if r['p'] is not None]
  if any(result['p'] is not None for result in results):
    yield (
      'p is from a permutation test that swaps the two models example by example; '
      f'beside it, p is corrected for {_count(len(tested), "result")} (Holm). A '
      f'difference is colored if the latter is below {significant}.'
    )
  counted = {
    'template': 'answers, one per template of an example',
    'example': 'examples, each by the mean over its templates',
  }
  units = [counted[unit] for unit in counted if any(r['unit'] == unit for r in results)]
  if units:
    yield f'Better and worse are by the metric, and count {", or ".join(units)}.'
  if any(result['unpaired_reason'] for result in results):
    yield '– if the predictions cannot be paired.'


def _count(n: int, noun: str) -> str:
  return f'{n} {noun}{"" if n == 1 else "s"}'
