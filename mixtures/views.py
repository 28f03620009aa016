"""The paper's view: its 62 datasets, each with one maximum rate.

Four datasets of the paper are several tasks here: ANLI, MNLI, ARC and SQuAD.
"""

import dataclasses

from flan_jax.mixtures.held_out import ALL, SPLITS, of_paper, trained

from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.registry import Mixture

SHARED = 'one maximum rate for all tasks that the paper counts as one dataset'

PAPER = Mixture(
  name='flan_paper62',
  datasets=of_paper(trained('flan')),
  shared_cap=True,
  note=f"the paper's 62 datasets; {SHARED}. WSC273 has no training split",
)

MIXTURES = (
  PAPER,
  dataclasses.replace(
    ALL['flan'], name='flan_all_shared_cap', shared_cap=True, note=SHARED
  ),
  *(
    dataclasses.replace(
      SPLITS['flan', cluster],
      name=f'flan_paper62_held_out_{cluster}',
      datasets=of_paper(SPLITS['flan', cluster].datasets),
      allowed_overlap=tuple(
        pair
        for pair in SPLITS['flan', cluster].allowed_overlap
        if pair[0] in PAPER.datasets
      ),
      shared_cap=True,
      note=PAPER.note,
    )
    for cluster in CLUSTERS
  ),
  *(
    dataclasses.replace(
      SPLITS['flan', cluster],
      name=f'flan_held_out_{cluster}_shared_cap',
      shared_cap=True,
      note=SHARED,
    )
    for cluster in CLUSTERS
  ),
)
