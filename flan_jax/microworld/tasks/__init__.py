"""The microworld's datasets: declarations and templates, a file per kind of answer."""

from flan_jax.microworld.records import records as records
from flan_jax.microworld.tasks import choosing, judging, reading, writing

DATASETS = (
  *judging.DATASETS,
  *reading.DATASETS,
  *choosing.DATASETS,
  *writing.DATASETS,
)
