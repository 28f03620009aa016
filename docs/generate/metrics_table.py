"""Markdown of the registered metrics: what each computes, and which datasets use it."""

from flan_jax.catalog import registry
from flan_jax.evaluate import metrics


def render() -> str:
  used: dict[str, list[str]] = {}
  for dataset in registry.datasets('flan').values():
    used.setdefault(dataset.metric, []).append(dataset.name)
  lines = ['| metric | computes | figure | datasets of FLAN |', '|---|---|---|---|']
  for name, metric in metrics.METRICS.items():
    datasets = ', '.join(f'`{each}`' for each in used.get(name, ()))
    lines.append(f'| `{name}` | {metric.description} | {metric.kind} | {datasets} |')
  return '\n'.join(lines)
