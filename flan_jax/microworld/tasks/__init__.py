"""The microworld's datasets: declarations and templates, a file per kind of answer."""

from flan_jax.catalog.registry import Family, register
from flan_jax.microworld.tasks import choosing, judging, reading, writing

DATASETS = (
  *judging.DATASETS,
  *reading.DATASETS,
  *choosing.DATASETS,
  *writing.DATASETS,
)

register(Family('microworld', generated=True), *DATASETS, family='microworld')
