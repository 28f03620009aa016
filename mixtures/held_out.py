"""Held-out splits: every cluster but one and those related to it."""

from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.registry import Mixture, datasets

FAMILIES = ('flan', 'microworld')
"""Dataset families whose clusters are held out, each in turn."""

EXCLUDED_WITH = {
  'nli': ('paraphrase',),
  'paraphrase': ('nli',),
  'reading_comprehension': ('reading_comp_commonsense',),
  'commonsense': ('reading_comp_commonsense',),
  'reading_comp_commonsense': ('reading_comprehension', 'commonsense'),
}
"""Held-out cluster -> related clusters that do not train (FLAN footnote 1)."""

ALLOWED_OVERLAP = {
  'nli': (
    ('squad_v1', 'squad_v1'),
    ('squad_v2', 'squad_v1'),
    ('story_cloze', 'story_cloze'),
    ('wsc', 'Winograd schemas'),
    ('hellaswag', 'wikiHow'),
    ('wiki_lingua_english_en', 'wikiHow'),
    ('common_gen', 'Flickr30k captions'),
  ),
  'reading_comprehension': (('qnli', 'squad_v1'),),
  'commonsense': (
    ('anli_r3', 'story_cloze'),
    ('anli_r3', 'wikiHow'),
    ('wiki_lingua_english_en', 'wikiHow'),
    ('common_gen', 'ActivityNet captions'),
  ),
  'coreference': (('wnli', 'Winograd schemas'),),
  'reading_comp_commonsense': (
    ('cnn_dailymail', 'cnn_dailymail'),
    ('coqa', 'cnn_dailymail'),
  ),
  'sentiment': (('opinion_abstracts_rotten_tomatoes', 'Rotten Tomatoes reviews'),),
  'struct_to_text': (
    ('snli', 'Flickr30k captions'),
    ('hellaswag', 'ActivityNet captions'),
  ),
  'translation': (
    ('fix_punct', 'ParaCrawl'),
    ('true_case', 'ParaCrawl'),
    ('word_segment', 'ParaCrawl'),
  ),
  'summarization': (
    ('record', 'cnn_dailymail'),
    ('coqa', 'cnn_dailymail'),
    ('anli_r3', 'wikiHow'),
    ('hellaswag', 'wikiHow'),
    ('sst2', 'Rotten Tomatoes reviews'),
  ),
  'misc': (
    ('record', 'cnn_dailymail'),
    ('cnn_dailymail', 'cnn_dailymail'),
    ('para_crawl_enes', 'ParaCrawl'),
  ),
}
"""Held-out cluster -> overlap that the paper's mixtures keep: (dataset that trains,
source shared with the held-out cluster). The leakage check reports it as a warning."""


def trained(family: str, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
  """Datasets that the reference trains on, without those of some clusters."""
  return tuple(
    name
    for name, dataset in datasets(family).items()
    if dataset.train and dataset.in_reference and dataset.cluster not in without
  )


def of_paper(names: tuple[str, ...]) -> tuple[str, ...]:
  """Selects the names that are among the paper's 62 datasets."""
  return tuple(name for name in names if datasets('flan')[name].in_paper)


def allowed_overlap(
  held_out: tuple[str, ...], names: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
  """Allowed overlap of the training datasets with some held-out clusters."""
  pairs = [pair for cluster in held_out for pair in ALLOWED_OVERLAP.get(cluster, ())]
  return tuple(dict.fromkeys(pair for pair in pairs if pair[0] in names))


def split(family: str, cluster: str, **more) -> Mixture:
  """The mixture that holds out `cluster` (FLAN section 2.2 and footnote 1)."""
  excluded = EXCLUDED_WITH.get(cluster, ())
  names = trained(family, without=(cluster, *excluded))
  return Mixture(
    **{
      'name': f'{family}_held_out_{cluster}',
      'datasets': names,
      'held_out': (cluster,),
      'excluded': excluded,
      'allowed_overlap': allowed_overlap((cluster,), names),
      **more,
    }
  )


SPLITS = {
  (family, cluster): split(family, cluster)
  for family in FAMILIES
  for cluster in CLUSTERS
}
"""(dataset family, held-out cluster) -> its mixture."""

ALL = {
  family: Mixture(name=f'{family}_all', datasets=trained(family)) for family in FAMILIES
}
"""Dataset family -> the mixture of all its tasks: nothing is held out."""
