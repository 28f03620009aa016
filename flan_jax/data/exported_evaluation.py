"""Exported evaluation examples: dev and test of a store, rendered from their fields.

A store keeps their fields, not their tokens, so these texts are exact whatever the
tokenizer is. An example is rendered once, by one of the templates that ask for the
answer, drawn by its id.
"""

import collections
from collections.abc import Iterator, Sequence

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import exported, prompts, raw_records, stable_hash
from flan_jax.data.exported import Block, Exported
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.store import parts
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer


def sizes(store: Store, split: str) -> dict[str, int]:
  """Dataset -> number of its evaluation examples of a split in a store."""
  held = store.manifest['evaluation']
  return {
    name: entry['examples'][split]
    for name, entry in held.items()
    if entry['examples'].get(split)
  }


def _styled(store: Store, name: str) -> tuple[Dataset, PromptStyle]:
  manifest = store.manifest
  fields = manifest.get('styles', {}).get(name, manifest['style'])
  style = PromptStyle(**fields)
  return style.apply(registry.get(name)), style


def _pool(
  dataset: Dataset, style: PromptStyle, tokenizer: Tokenizer, seed: int,
  data_dir: str | None,
) -> FewShotPool | None:  # fmt: skip
  """Exemplars, which come from the raw training examples."""
  if not style.num_fewshot:
    return None
  examples = parts.split_examples(
    dataset, 'train', sizes=raw_records.sizes(dataset, data_dir=data_dir),
    data_dir=data_dir, filters=collections.Counter(),
  )  # fmt: skip
  return parts.few_shot_pool(
    dataset, examples, num_fewshot=style.num_fewshot, seed=seed, tokenizer=tokenizer
  )


def blocks(
  store: Store, split: str, *, tokenizer: Tokenizer, data_dir: str | None = None
) -> Iterator[tuple[str, Block]]:
  """Yields (dataset, columns) of a split, each direction of a dataset in turn.

  Prompts are cut to the limit of the store's inputs. An example that no cut makes fit
  is left out.

  Args:
    store: the store.
    split: `dev` or `test`.
    tokenizer: tokenizer of the store.
    data_dir: TFDS data directory; only a few-shot style reads raw data.
  """
  seed = store.manifest['seed']
  for name in sizes(store, split):
    styled, style = _styled(store, name)
    pool = _pool(styled, style, tokenizer, seed, data_dir)
    examples = store.evaluation_examples(name, split)
    for dataset in styled.by_direction:
      for start in range(0, len(examples), exported.BLOCK):
        batch = examples[start : start + exported.BLOCK]
        block = _block(store, dataset, split, batch, pool=pool, tokenizer=tokenizer)
        yield name, block


def _block(
  store: Store,
  dataset: Dataset,
  split: str,
  batch: Sequence[Example],
  *,
  pool: FewShotPool | None,
  tokenizer: Tokenizer,
) -> Block:
  """Renders some examples of one dataset and direction."""
  templates = dataset.evaluated_templates
  seed = store.manifest['seed']
  work = []
  for example in batch:
    drawn = stable_hash.template(seed, example.example_id, 0, len(templates))
    work.append((dataset.directed(example), templates[drawn]))
  fitted = prompts.fit(
    dataset, work, tokenizer=tokenizer, pool=pool,
    max_tokens=[store.manifest['limits']['inputs'] - 1] * len(work),
  )  # fmt: skip
  shared = exported.labels(store, dataset.name)
  found = [
    Exported(
      found.text,
      prompt_lib.render(dataset, template, example).targets,
      shared,
      example.example_id,
      template,
      len(found.exemplars),
      list(example.answer.options),
    )
    for (example, template), found in zip(work, fitted, strict=True)
    if found is not None
  ]
  return exported.block(found, split)
