"""Declarations of the datasets and their templates, one file per cluster."""

from flan_jax.tasks import (
  closed_book_qa,
  commonsense,
  coreference,
  misc,
  nli,
  paraphrase,
  reading_comp_commonsense,
  reading_comprehension,
  sentiment,
  struct_to_text,
  summarization,
  translation,
)

from flan_jax.catalog.registry import Family, register

DATASETS = (
  *nli.DATASETS,
  *reading_comprehension.DATASETS,
  *closed_book_qa.DATASETS,
  *commonsense.DATASETS,
  *coreference.DATASETS,
  *reading_comp_commonsense.DATASETS,
  *sentiment.DATASETS,
  *paraphrase.DATASETS,
  *struct_to_text.DATASETS,
  *translation.DATASETS,
  *summarization.DATASETS,
  *misc.DATASETS,
)

register(Family('flan', task_source='Flan2021'), *DATASETS, family='flan')
