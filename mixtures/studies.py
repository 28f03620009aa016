"""The paper's studies of the number of clusters, datasets and templates.

All hold out NLI, closed-book QA and commonsense, and exclude the clusters related to
them (FLAN section 4.1 and appendix B.1).
"""

from flan_jax.mixtures.held_out import allowed_overlap

from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.catalog.registry import Mixture, datasets

HELD_OUT = ('nli', 'closed_book_qa', 'commonsense')
EXCLUDED = ('paraphrase', 'reading_comp_commonsense')

SEQUENCE = (
  'summarization',
  'translation',
  'reading_comprehension',
  'sentiment',
  'struct_to_text',
  'coreference',
  'conversational_qa',
)
"""Clusters in the order in which they are added, largest first (FLAN figure 6)."""

CONVERSATIONAL_QA = ('coqa', 'quac')
"""The study's seventh cluster; in FLAN figure 3 both are in miscellaneous."""

DATASETS_PER_CLUSTER = (1, 2, 3, 4)
TEMPLATES_PER_DATASET = (1, 2, 4, 7, 10)
"""The reference's grid; the paper shows {1, 4} x {1, 4, 10}."""


def of_cluster(step: str) -> tuple[str, ...]:
  """The tasks that a step of SEQUENCE adds."""
  if step == 'conversational_qa':
    return CONVERSATIONAL_QA
  return tuple(
    name
    for name, dataset in datasets('flan').items()
    if dataset.cluster == step and dataset.train and dataset.in_reference
  )


def study(
  name: str,
  parts: list[tuple[str, ...]],
  *,
  note: str,
  templates: int | None = None,
) -> Mixture:
  """A mixture of the tasks of `parts`, with the held-out clusters of these studies."""
  names = tuple(task for part in parts for task in part)
  return Mixture(
    name=name,
    datasets=names,
    held_out=HELD_OUT,
    excluded=EXCLUDED,
    style=PromptStyle(templates=templates),
    allowed_overlap=allowed_overlap(HELD_OUT, names),
    note=note,
  )


MIXTURES = (
  *(
    study(
      f'flan_clusters_{step}',
      [of_cluster(cluster) for cluster in SEQUENCE[:step]],
      note=f'step {step} of {len(SEQUENCE)} of the number-of-clusters study (FLAN '
      f'section 4.1): {", ".join(SEQUENCE[:step])}',
    )
    for step in range(1, len(SEQUENCE) + 1)
  ),
  *(
    study(
      f'flan_{datasets}_datasets_{templates}_templates',
      [of_cluster(cluster)[:datasets] for cluster in SEQUENCE],
      templates=templates,
      note=f'the first {datasets} tasks of each of seven clusters, the first '
      f'{templates} templates of each task (FLAN appendix B.1)',
    )
    for datasets in DATASETS_PER_CLUSTER
    for templates in TEMPLATES_PER_DATASET
  ),
)
