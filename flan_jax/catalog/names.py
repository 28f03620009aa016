"""Names: what a verb's TASK, MIXTURE or DATASET stands for, variants included.

A dataset has a short name (`rte`), a task name (`flan_rte`), and the names of its
variants among the seqio tasks: a prompt style (`flan_rte_no_options_5_shot`), or one
evaluated template (`flan_rte_template_3`).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from flan_jax.catalog import options_style, prompt_style, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.prompt_style import MAX_FEWSHOT, PromptStyle
from flan_jax.catalog.registry import Mixture
from flan_jax.errors import InputError


class Named(NamedTuple):
  """Dataset, or variant of it, that a name stands for.

  Attributes:
    name: the name as given.
    dataset: the dataset, as it is declared.
    style: prompt style of the variant.
    template: index of the only template of the variant; None for all of them.
  """

  name: str
  dataset: Dataset
  style: PromptStyle = PromptStyle()
  template: int | None = None

  @property
  def is_variant(self) -> bool:
    return self.style != PromptStyle() or self.template is not None


_TEMPLATE = re.compile(r'_template_(0|[1-9]\d*)')


def _style_pattern() -> str:
  """Pattern of the suffix of a prompt style."""
  styles, options = (
    '|'.join(names) for names in (prompt_style.stored_names(), options_style.names())
  )
  return (
    rf'(?:_({styles}))?(?:_({options})_options)?(?:_(\d+)_templates)?'
    r'(?:_(\d+|multi)_shot)?'
  )


def find(name: str) -> Named | None:
  """The dataset or variant of a name; None if not found."""
  declared = registry.datasets().get(name) or registry.tasks().get(name)
  if declared is not None:
    return Named(name, declared)
  for mark in reversed([match.start() for match in re.finditer('_', name)]):
    dataset = registry.find(name[:mark])
    if dataset is None or dataset.is_tokenized:
      continue  # the prompts of a seqio task are its own
    variant = _variant(name, dataset, name[mark:])
    if variant is not None:
      return variant
  other = registry.find(name)
  return None if other is None else Named(name, other)


def _variant(name: str, dataset: Dataset, suffix: str) -> Named | None:
  if match := _TEMPLATE.fullmatch(suffix):
    template = int(match[1])
    evaluated = {i for way in dataset.by_direction for i in way.evaluated_templates}
    return Named(name, dataset, template=template) if template in evaluated else None
  match = re.fullmatch(_style_pattern(), suffix)
  if match is None:
    return None
  arm, options, templates, shots = match.groups()
  try:
    style = PromptStyle(
      prompt_style=arm or 'instructions',
      templates=int(templates) if templates else None,
      num_fewshot=MAX_FEWSHOT if shots == 'multi' else int(shots or 0),
      options_style=options or options_style.DEFAULT,
    )
  except InputError:
    return None
  return Named(name, dataset, style) if style.suffix == suffix else None


def get(name: str, *, what: str = 'task') -> Named:
  """The dataset or variant of a name.

  Args:
    name: the name.
    what: kind of name, as `task`; for errors.

  Raises:
    InputError: if it is a mixture's, or nobody's; names the nearest.
  """
  if (found := find(name)) is not None:
    return found
  if registry.is_mixture(name):
    raise InputError(
      f'{what} {name!r}: a mixture; give one of its tasks: '
      f'`flan tasks --mixture {name}` lists them'
    )
  base, mark, _ = name.rpartition('_template_')
  if mark and (asked := registry.find(base)) is not None:
    legal = [i for way in asked.by_direction for i in way.evaluated_templates]
    raise InputError(
      f'{what} {name!r}: no evaluated template of that number; {asked.name!r} has '
      f'{", ".join(map(str, sorted(legal)))}'
    )
  raise registry.not_registered(what, name)


def dataset(name: str) -> Dataset:
  """The dataset behind a name: that of a variant, too.

  Raises:
    InputError: if it is a mixture's, or nobody's; names the nearest.
  """
  return get(name, what='dataset').dataset


def evaluated(names: Iterable[str], *, setting: str) -> list[Dataset]:
  """Datasets to evaluate, whose prompts other settings choose.

  Raises:
    InputError: at a variant; says which setting stands for it.
  """
  found = [get(name, what='dataset') for name in names]
  for each in found:
    if each.is_variant:
      instead = [f'{setting}={each.dataset.name}']
      if each.style.num_fewshot:
        instead.append(f'NUM_FEWSHOT={each.style.num_fewshot}')
      if each.style.prompt_style != PromptStyle().prompt_style:
        instead.append(f'PROMPT_STYLE={each.style.prompt_style}')
      if each.style.options:
        instead.append(f'OPTIONS_STYLE={each.style.options}')
      if each.style.templates or each.template is not None:
        instead.append('TEMPLATES, the number of templates')
      raise InputError(
        f'{setting} {each.name!r}: a variant of {each.dataset.name!r}; the prompts of '
        f'an evaluation are chosen by settings: give {", ".join(instead)}',
        field=setting,
      )
  return [each.dataset for each in found]


def trained(name: str) -> Mixture | None:
  """Mixture that a model was trained on by that name; None if not found."""
  if registry.is_mixture(name):
    return registry.mixture(name)
  found = find(name)
  if found is None:
    return None
  short, task = found.dataset.name, found.dataset.task
  if found.template is not None:
    return Mixture(name=name, datasets=(short,))
  return Mixture(name=task + found.style.suffix, datasets=(short,), style=found.style)


def mixture(name: str) -> Mixture:
  """The mixture to train on, or the one task as a mixture, in its prompt style.

  Raises:
    InputError: if not found (names the nearest), or if it is one template alone.
  """
  mixture = trained(name)
  if mixture is None:
    raise registry.not_registered('mixture', name)
  found = None if registry.is_mixture(name) else find(name)
  if found is not None and found.template is not None:
    raise InputError(
      f'mixture {name!r}: one template of {found.dataset.name!r}, which is evaluated '
      f'alone; what trains has all of them: give {found.dataset.task}, or '
      f'{found.dataset.task}_1_templates for the first',
      field='Run.mixture',
    )
  return mixture


def families_taken(clusters: Iterable[str], families: Iterable[str]) -> list[str]:
  """One line for each held-out cluster whose datasets are of a family not trained on.

  Args:
    clusters: the held-out clusters.
    families: families of the datasets that train.
  """
  lines, every = [], registry.datasets().values()
  for cluster in clusters:
    taken = {d.family for d in registry.of_clusters([cluster], families)}
    others = {d.family for d in every if d.cluster == cluster} - taken
    if taken <= {*families, ''} or not others:
      continue
    names, rest = ' and '.join(sorted(taken)), ' or '.join(sorted(others))
    lines.append(
      f'{cluster}: the datasets of {names} are measured, since nothing that trains has '
      f'a family with it; for those of {rest}, put one of its datasets into the '
      f'mixture, or give HELD_OUT=() and `flan eval --gin.FAMILY={sorted(others)[0]} '
      f'--gin.CLUSTERS={cluster}`'
    )
  return lines
