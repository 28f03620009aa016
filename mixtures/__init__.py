"""Mixtures: names, caps, rates, held-out splits. No logic beyond composing names."""

from flan_jax.catalogue import CLUSTERS, WORLDS, Mixture, family

CAP = 30_000
"""Most training rows of one dataset (FLAN section 2.2)."""

MAXIMUM_RATE = 3_000
"""A dataset gains no weight for rows beyond these (FLAN section 2.2, footnote 2)."""

EXCLUDED_WITH = {
  'nli': ('paraphrase',),
  'paraphrase': ('nli',),
  'reading_comprehension': ('reading_comp_commonsense',),
  'commonsense': ('reading_comp_commonsense',),
  'reading_comp_commonsense': ('reading_comprehension', 'commonsense'),
}
"""Held-out cluster -> clusters too near to it to train on (FLAN footnote 1)."""


PAPER_ONLY = ('para_crawl_ende', 'para_crawl_enfr')
"""Declared because the paper's figure 3 lists them; in no view's total."""


def _names(world: str, without: tuple[str, ...] = ()) -> tuple[str, ...]:
  return tuple(
    name
    for name, d in family(world).items()
    if d.train and d.cluster not in without and name not in PAPER_ONLY
  )


MIXTURES = tuple(
  mixture
  for world in WORLDS
  for mixture in (
    Mixture(name=f'{world}_all', datasets=_names(world), family=world),
    *(
      Mixture(
        name=f'{world}_held_out_{cluster}',
        datasets=_names(world, (cluster, *EXCLUDED_WITH.get(cluster, ()))),
        held_out=(cluster,),
        excluded=EXCLUDED_WITH.get(cluster, ()),
        family=world,
      )
      for cluster in CLUSTERS
    ),
  )
)
