"""Tasks of lm-eval: one for each template of a dataset, and groups of them.

A task reads its rows from a file of JSON Lines beside it, and needs no code of ours:

  OUT/TASK/TASK_template_I.jsonl    rows
  OUT/TASK/TASK_template_I.yaml     task
  OUT/TASK/TASK.yaml                group: mean over the templates
  OUT/FAMILY_cluster_NAME.yaml      group: mean over the templates of its datasets

lm-eval scores no EOS after a choice, so each choice ends with the mark of EOS.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from flan_jax import __version__
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data.export_files import HUB_SPLITS
from flan_jax.data.prompts import Fitted
from flan_jax.evaluate.prompted import Prompted
from flan_jax.runtime import yaml_text

CHOICE = 'acc'
TEXT = 'exact_match'
BLEU = 'bleu'

_ARTICLES = r'(?i)\b(a|an|the)\b\s*'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Settings that all tasks of an export share.

  Attributes:
    eos: mark of EOS.
    max_tokens: maximum tokens of a generated answer.
  """

  eos: str
  max_tokens: int


def name(dataset: Dataset, template: int) -> str:
  """Name of the task of a template, as `flan_rte_template_0`."""
  return f'{dataset.task}_template_{template}'


def cluster_group(dataset: Dataset) -> str:
  """Name of the group of a dataset's cluster, as `flan_cluster_nli`."""
  return '_'.join(filter(None, (dataset.family, 'cluster', dataset.cluster)))


def write(
  prompted: Prompted, folder: pathlib.Path, settings: Settings, *, out: pathlib.Path
) -> None:
  """Writes the rows and the task of a template.

  Args:
    prompted: the prompts.
    folder: folder to write to.
    settings: settings of the export.
    out: final path of the folder, absolute: lm-eval resolves no other.
  """
  path = pathlib.Path(prompted.dataset.task, name(prompted.dataset, prompted.template))
  (folder / path).parent.mkdir(exist_ok=True)
  rows = (row(prompted, *pair, settings.eos) for pair in prompted.prompts)
  with (folder / f'{path}.jsonl').open('w', encoding='utf-8', newline='\n') as file:
    file.writelines(json.dumps(one, ensure_ascii=False) + '\n' for one in rows)
  content = yaml_text.dump(task(prompted, out / f'{path}.jsonl', settings))
  (folder / f'{path}.yaml').write_text(content, encoding='utf-8')


def row(
  prompted: Prompted, example: Example, prompt: Fitted, eos: str
) -> dict[str, Any]:
  """Makes the row of a prompt: for ranking `choices` and `gold`, else `references`."""
  dataset = prompted.dataset
  shared = {
    'inputs': prompt.text,
    'targets': example.answer.text,
    'task_name': dataset.task,
    'example_id': example.example_id,
    'template': prompted.template,
    'num_fewshot': len(prompt.exemplars),
    'split': prompted.split,
    'cluster': dataset.cluster,
  }
  if not dataset.has_options:
    return {**shared, 'references': example.answer.right}
  options = example.answer.options
  right = {options[i] for i in example.answer.gold}
  return {
    **shared,
    'choices': [
      option + eos for option in prompted.spec.options(example, prompted.template)
    ],
    'gold': [i for i, option in enumerate(options) if option in right],
  }


def task(prompted: Prompted, path: pathlib.Path, settings: Settings) -> dict[str, Any]:
  """Makes the content of a task's file.

  Args:
    prompted: prompts of the task.
    path: final path of its rows.
    settings: settings of the export.
  """
  dataset = prompted.dataset
  split = HUB_SPLITS[prompted.split]
  shared = {
    'task': name(dataset, prompted.template),
    'dataset_path': 'json',
    'dataset_kwargs': {'data_files': {split: str(path)}},
    f'{split}_split': split,
    'doc_to_text': 'inputs',
    'target_delimiter': '',
    **(_ranked() if dataset.has_options else _generated(prompted, settings)),
    'metadata': {
      'version': 1,
      'flan_jax': __version__,
      'dataset': dataset.label,
      'cluster': dataset.cluster,
      'template': prompted.template,
      'split': prompted.split,
      'examples': len(prompted.prompts),
      'eos': settings.eos,
    },
  }
  return shared


def _ranked() -> dict[str, Any]:
  return {
    'output_type': 'multiple_choice',
    'doc_to_choice': 'choices',
    'doc_to_target': 'gold',
    'metric_list': [_metric(CHOICE, 'mean')],
  }


def _generated(prompted: Prompted, settings: Settings) -> dict[str, Any]:
  metric = prompted.dataset.metric
  metrics = [_metric(TEXT, 'mean', **_normalized(metric))]
  if metric == BLEU:  # lm-eval's takes one reference
    metrics.append(_metric(BLEU, BLEU))
  return {
    'output_type': 'generate_until',
    'doc_to_target': 'targets' if metric == BLEU else 'references',
    'generation_kwargs': {
      'until': [], 'do_sample': False, 'max_gen_toks': settings.max_tokens,
    },
    'metric_list': metrics,
  }  # fmt: skip


def _metric(name: str, aggregation: str, **settings: Any) -> dict[str, Any]:
  return {
    'metric': name, 'aggregation': aggregation, 'higher_is_better': True, **settings,
  }  # fmt: skip


def _normalized(metric: str) -> dict[str, Any]:
  """Settings of lm-eval's exact match that come near SQuAD's normalization."""
  if metric == 'accuracy':
    return {}
  return {
    'ignore_case': True,
    'ignore_punctuation': True,
    'regexes_to_ignore': [_ARTICLES],
  }


def groups(made: Iterable[Prompted]) -> dict[str, dict[str, Any]]:
  """Makes the groups of some tasks: path -> the content of its file."""
  members: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
  metrics: dict[str, dict[str, None]] = collections.defaultdict(dict)
  for each in made:
    dataset = each.dataset
    cluster = cluster_group(dataset)
    whole = (f'{cluster}.yaml', cluster)
    members[f'{dataset.task}/{dataset.task}.yaml', dataset.task].append(
      name(dataset, each.template)
    )
    if dataset.task not in members[whole]:
      members[whole].append(dataset.task)
    for group in (dataset.task, cluster):
      metrics[group] |= dict.fromkeys(_names(dataset))
  return {
    path: {
      'group': group,
      'task': tasks,
      'aggregate_metric_list': [
        {'metric': metric, 'aggregation': 'mean', 'weight_by_size': False}
        for metric in metrics[group]
      ],
      'metadata': {'version': 1},
    }
    for (path, group), tasks in members.items()
  }


def _names(dataset: Dataset) -> Sequence[str]:
  """Names of the metrics of a dataset's tasks."""
  if dataset.has_options:
    return (CHOICE,)
  return (TEXT, BLEU) if dataset.metric == BLEU else (TEXT,)
