"""Markdown of the keys of report.json: a table for each kind of object.

`tests/report/keys_page_test.py` holds the keys against reports that are made.
"""

from collections.abc import Mapping

from flan_jax.report import published, schema

OPTIONAL = '†'

KEYS: Mapping[str, Mapping[str, str]] = {
  'report': {
    'schema': f'version of the keys: {schema.SCHEMA}',
    'model': 'name of the model',
    'checkpoint': 'path that its parameters were read from',
    'base_checkpoint†': 'path of the base model, if the lineage does not name it',
    'held_out': 'clusters measured',
    'trained_on': 'clusters that the model or an ancestor was tuned on; `"unknown"` if '
    'the training of one of them is unknown',
    'train_examples': 'cluster to number of examples seen in tuning',
    'lineage': 'every training of the model and its ancestors, the oldest first; '
    '`"unknown"` without a record',
    'leakage': 'leakage report: what trained, what was left out, what was allowed, and '
    '`seen`, the claim for each cluster',
    'data': 'the examples behind the figures ([below](#data))',
    'data_digest': 'digest of the store, or of all measured examples',
    'seed': 'seed for the sample of examples, exemplars and the test of a difference',
    'results': 'one object for each dataset, or direction of translation '
    '([below](#results))',
    'timing': 'speed and tokens of the evaluation ([below](#timing))',
    'warnings': 'lines that stand at the head of the report',
    'answers†': 'how answers were found: `normalization` of scores, `decoding`, '
    'the `separator` before them and their `end`',
    'training†': 'training of the model: its run, seed, step, and a digest of all else '
    'that its steps depend on',
    'validation†': 'loss and metrics on dev of the training datasets',
    'curves†': 'curves of the training run, as lists of [step, value]: `train`, '
    '`validation`, `metrics`, `held_out`',
    'contamination†': 'what was searched for the examples: `ngram`, `against`, `words`',
    'provenance†': 'what reproduces the figures: `config` with origins, `models`, '
    '`versions`, `modules`',
  },
  'results': {
    'dataset': 'name of the dataset',
    'direction†': 'direction of a translation, as `en-fr`',
    'cluster': 'its task cluster',
    'metric': 'name of the metric',
    'kind†': f'`"{schema.VALUE}"` for a metric in units of its own; all other '
    'figures are percent',
    'highest†': 'upper bound of such a metric, or null',
    'signature†': 'settings of the metric, if its name alone does not define it',
    'split': 'reported split: `test`, or `dev` without a test split',
    'n': 'examples measured',
    'n_declared': 'examples of the whole split, or null',
    'num_fewshot': 'exemplars before each prompt',
    'num_fewshot_shown†': 'mean number of exemplars that fit',
    'prompt_style': 'prompt style of the model',
    'base_prompt_style': 'prompt style of the base model, or null',
    'options_style†': 'how options are listed, if not as bullets',
    'seeds': 'seeds of the evaluation',
    'chance': 'figure of guessing, or null',
    'majority': 'figure of always giving the most frequent answer, or null',
    'templates_declared': 'number of templates of the prompt style',
    'mean': 'mean over templates',
    'std_over_templates': 'standard deviation over templates; null for one template',
    'ci95': '95 % interval of `mean` over examples: [low, high]',
    'per_template': 'each template: `template`, its `text`, `dev`, `test`, `n`',
    'best_dev_template': 'the template with the best dev figure: `template`, `dev`, '
    '`test`; null without dev',
    'also†': 'further figures of the metric, by name',
    'calibration†': '`ece` (expected calibration error, points), `n` answers, '
    '`bins` (`low`, `high`, `n`, `confidence`, `right`)',
    'base†': 'the same figures of the base model, from `mean` to `calibration`',
    'delta†': '`mean` minus that of the base model',
    'delta_ci95†': '95 % interval of `delta`, paired by example',
    'p†': 'p-value of no difference',
    'p_holm†': "the same after Holm's correction over the results",
    'detectable†': 'smallest true difference that 80 of 100 evaluations of this size '
    'would show, in points',
    'contamination†': 'examples `judged`, `contaminated` and `clean`, and `mean` and '
    '`ci95` of the clean ones',
    'published': 'published figures by name, each with `value` and `mark`',
    'differs†': 'why the published figures are not comparable',
  },
  'data': {
    'family': 'dataset family',
    'digest': 'digest of the ids, texts and answers of all measured examples',
    'datasets': 'each dataset: `dataset`, `direction`, `tfds` (name and version), '
    '`digest`, and `splits` (examples measured and declared)',
    'directory†': 'TFDS directory that raw examples were read from',
    'sources†': 'dataset to source, where it is not TFDS',
    'store†': 'path of the store',
    'store_digest†': 'digest of the store',
    'template_seed†': 'seed of the template draws of the store',
    'tasks†': 'seqio task to source',
  },
  'timing': {
    'examples_per_s': 'prompts answered in a second',
    'examples†': 'prompts answered',
    'seconds†': 'time of the model, compilation included',
    'tokens_scored': 'tokens computed to rank options, padding included',
    'tokens_scored_per_s†': 'the same in a second',
    'tokens_naive': 'tokens that one sequence for each option would have taken',
    'prefill_tokens†': 'prompt tokens computed to generate, padding included',
    'generated_tokens†': 'tokens computed one at a time, idle slots included',
    'written_tokens†': 'tokens of the generated answers',
    'written_tokens_per_s†': 'the same in a second',
    'unpadded_tokens†': 'tokens computed, without padding and idle slots',
    'padding_share†': 'share of the computed tokens that are padding or of an idle '
    'slot; null if nothing was computed',
    'by_dataset†': 'the same for each dataset',
    'base†': 'the same of the base model',
  },
}
"""Object -> key -> meaning; a dagger marks keys that not every report has."""

HEADINGS = {
  'report': 'The whole report',
  'results': 'Results',
  'data': 'Data',
  'timing': 'Timing',
}


def render() -> str:
  parts = []
  for name, heading in HEADINGS.items():
    lines = [f'### {heading} {{#{name}}}', '', '| key | meaning |', '|---|---|']
    for key, meaning in KEYS[name].items():
      mark = f' {OPTIONAL}' if key.endswith(OPTIONAL) else ''
      lines.append(f'| `{key.removesuffix(OPTIONAL)}`{mark} | {meaning} |')
    parts.append('\n'.join(lines))
  return '\n\n'.join(parts)


def render_marks() -> str:
  lines = ['| mark | meaning |', '|---|---|']
  lines += [f'| `{mark}` | {meaning} |' for mark, meaning in published.MARKS.items()]
  return '\n'.join(lines)
