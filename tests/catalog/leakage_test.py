"""The guard: refuses what is not unseen, lets through what is named, and says so."""

import dataclasses
import json

import pytest

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.errors import InputError

NLI = registry.mixture('flan_held_out_nli')
COREFERENCE = registry.mixture('flan_held_out_coreference')
ALL = registry.mixture('flan_all')


def also(mixture, *datasets, **more):
  return dataclasses.replace(mixture, datasets=(*mixture.datasets, *datasets), **more)


def test_a_clean_mixture_is_proven():
  proof = leakage.check(registry.mixture('flan_held_out_closed_book_qa'))
  assert proof.held_out == ('closed_book_qa',)
  assert proof.allowed_overlap == proof.warnings == ()
  assert len(proof.trained_on) == 11
  assert len(proof.datasets) == 65


def test_a_dataset_of_the_held_out_cluster_is_refused():
  with pytest.raises(InputError, match=r"trains on that very cluster \(rte\); use 'fl"):
    leakage.check(also(NLI, 'rte'))


def test_a_cluster_too_near_is_refused():
  with pytest.raises(InputError, match=r'paraphrase, too near to it \(glue_qqp\)'):
    leakage.check(also(NLI, 'glue_qqp'))
  with pytest.raises(InputError, match='reading_comp_commonsense, too near to it'):
    leakage.check(also(registry.mixture('flan_held_out_commonsense'), 'record'))


def test_a_dataset_made_of_the_same_texts_is_refused():
  undeclared = dataclasses.replace(COREFERENCE, allowed_overlap=())
  with pytest.raises(InputError, match=r"'wnli', which shares 'Winograd schemas'.*ALL"):
    leakage.check(undeclared)
  with pytest.raises(InputError, match="'qnli', which shares 'squad_v1'"):
    leakage.check(
      dataclasses.replace(
        registry.mixture('flan_held_out_reading_comprehension'), allowed_overlap=()
      )
    )


def test_what_the_mixture_accepts_is_a_warning_on_record():
  proof = leakage.check(COREFERENCE)
  (shared,) = proof.allowed_overlap
  assert shared == ('wnli', 'nli', 'Winograd schemas', 'coreference', 'mixture', '')
  assert proof.warnings == (
    'guard: wnli trains and shares Winograd schemas with held-out coreference '
    '(accepted by the mixture)',
  )
  assert (
    json.loads(json.dumps(proof.as_json()))['allowed_overlap'][0]['dataset'] == 'wnli'
  )


@pytest.mark.parametrize('allow_overlap', ['wnli', ('nli',), ('wnli', 'sst2')])
def test_what_the_run_accepts_by_name_is_on_record_too(allow_overlap):
  undeclared = dataclasses.replace(COREFERENCE, allowed_overlap=())
  proof = leakage.check(undeclared, allow_overlap=allow_overlap)
  assert [(s.dataset, s.by) for s in proof.allowed_overlap] == [('wnli', 'run')]


def test_a_run_may_even_accept_the_cluster_itself_and_a_declaration_may_not():
  declared = also(NLI, 'rte', allowed_overlap=(*NLI.allowed_overlap, ('rte', 'nli')))
  with pytest.raises(InputError, match='that very cluster'):
    leakage.check(declared)
  proof = leakage.check(also(NLI, 'rte'), allow_overlap='nli')
  assert 'guard: rte trains, of nli, which is held out (accepted by the run)' in (
    proof.warnings
  )


def test_the_proof_is_of_what_really_trained():
  proof = leakage.check(COREFERENCE, datasets=['rte', 'sst2'])
  assert proof.datasets == ('rte', 'sst2')
  assert proof.trained_on == ('nli', 'sentiment')
  assert proof.warnings == ()
  with pytest.raises(InputError, match="'winogrande' trains and is not one of its"):
    leakage.check(COREFERENCE, datasets=['rte', 'winogrande'])


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'asked': 'sentimnt'}, "HELD_OUT 'sentimnt'.*did you mean 'sentiment'"),
    ({'allow_overlap': 'wnil'}, "accept 'wnil'.*did you mean 'wnli'"),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(given, message):
  with pytest.raises(InputError, match=message):
    leakage.check(COREFERENCE, **given)


def trained_on(mixture, *, model='m', **more):
  """The lineage of a model that was trained on a mixture, and on nothing else."""
  mixture = registry.mixture(mixture) if isinstance(mixture, str) else mixture
  return lineage.RANDOM.then(lineage.of_mixture(mixture, model=model, **more))


def of_own_data(*, name='mine', cluster='misc', sources=('mine',), family='flan'):
  """The training on a dataset that nothing here declares."""
  data = lineage.Trained(name, cluster, tuple(sources))
  return lineage.Training(model='m', datasets=(data,), family=family)


UNKNOWN = lineage.Lineage((lineage.unknown('gemma'),))
SST2 = trained_on('flan_sst2')


class TestCheckpoint:
  def test_a_run_of_ours_is_measured_on_what_it_held_out(self):
    proof = leakage.check_checkpoint(
      trained_on(COREFERENCE), 'coreference', family='flan'
    )
    assert proof.seen == {'coreference': leakage.NEVER}
    own = leakage.check(COREFERENCE)
    assert proof.datasets == own.datasets
    assert [shared._replace(model='') for shared in proof.allowed_overlap] == [
      *own.allowed_overlap
    ]

  def test_and_on_nothing_else_unless_told_by_name(self):
    with pytest.raises(InputError, match="CLUSTERS 'sentiment'.*very cluster"):
      leakage.check_checkpoint(trained_on(COREFERENCE), 'sentiment', family='flan')
    proof = leakage.check_checkpoint(
      trained_on(COREFERENCE), 'sentiment', family='flan', allow_overlap='sentiment'
    )
    assert [s.dataset for s in proof.allowed_overlap if s.source == 'sentiment'] == [
      'imdb_reviews', 'sentiment140', 'sst2', 'yelp_polarity_reviews'
    ]  # fmt: skip
    assert proof.seen == {'sentiment': 'trained on'}

  def test_what_says_nothing_proves_nothing(self):
    proof = leakage.check_checkpoint(UNKNOWN, 'nli', family='flan')
    assert proof.datasets is None
    assert proof.warnings == (
      "guard: what 'gemma' was trained on is unknown; nothing is proven of what it saw",
    )
    assert proof.seen == {'nli': 'zero-shot (training unknown)'}

  def test_names_of_another_world_are_no_relation_and_that_is_said(self):
    proof = leakage.check_checkpoint(
      trained_on('microworld_all'), ('nli', 'sentiment'), family='flan'
    )
    assert set(proof.seen.values()) == {leakage.NEVER}
    assert proof.warnings == (
      "guard: 'm' was trained on datasets of microworld, which have nothing to do with "
      'those of flan',
    )
    assert proof.lineage.about('flan')['trained_on'] == []

  def test_what_is_declared_no_more_is_judged_by_what_was_recorded(self):
    other = lineage.Lineage((of_own_data(),))
    proof = leakage.check_checkpoint(other, 'nli', family='flan')
    assert proof.seen == {'nli': leakage.NEVER}
    assert proof.datasets == ('mine',)
    for own, message in (
      (of_own_data(cluster='nli'), r'very cluster \(mine\)'),
      (of_own_data(cluster='nli', family='a world of mine'), r'very cluster \(mine\)'),
      (of_own_data(cluster='paraphrase'), r'paraphrase, too near to it \(mine\)'),
      (
        of_own_data(sources=('mine', 'rte')),
        r"shares 'rte' with it.*ALLOW_OVERLAP = \('nli'",
      ),
    ):
      with pytest.raises(InputError, match=message):
        leakage.check_checkpoint(lineage.Lineage((own,)), 'nli', family='flan')
    related = lineage.Lineage((of_own_data(sources=('rte',)),))
    proof = leakage.check_checkpoint(
      related, 'nli', family='flan', allow_overlap='mine'
    )
    assert proof.seen == {'nli': 'zero-shot (its kin trained)'}


class TestLineage:
  """What any ancestor saw is refused as what trains now is."""

  CHAINS = pytest.mark.parametrize(
    'chain',
    [
      SST2,
      SST2.then(lineage.of_mixture(registry.mixture('flan_rte'), model='child')),
      UNKNOWN.then(*SST2.trainings),
      SST2.then(*UNKNOWN.trainings),
      trained_on('microworld_all').then(*SST2.trainings),
    ],
    ids=['parent', 'grandparent', 'unknown before', 'unknown since', 'after a world'],
  )

  @CHAINS
  def test_a_run_from_it_is_refused(self, chain):
    with pytest.raises(InputError) as refused:
      leakage.check(registry.mixture('flan_rte'), 'sentiment', lineage=chain)
    message = str(refused.value)
    assert message.startswith(
      "HELD_OUT 'sentiment': INITIAL_CHECKPOINT_PATH: 'm' (mixture 'flan_sst2') was "
      'trained on that very cluster (sst2); '
    )
    assert "ALLOW_OVERLAP = ('sentiment',)" in message

  @CHAINS
  @pytest.mark.parametrize('which', ['CHECKPOINT', 'BASE_CHECKPOINT'])
  def test_so_is_its_measurement(self, chain, which):
    with pytest.raises(InputError, match=f"'sentiment': {which}: 'm' .*very cluster"):
      leakage.check_checkpoint(chain, 'sentiment', family='flan', which=which)

  @CHAINS
  @pytest.mark.parametrize('allow_overlap', ['sentiment', 'sst2'])
  def test_accepted_by_name_it_is_on_record(self, chain, allow_overlap):
    proof = leakage.check(
      registry.mixture('flan_rte'),
      'sentiment',
      lineage=chain,
      allow_overlap=allow_overlap,
    )
    assert proof.allowed_overlap == (
      ('sst2', 'sentiment', 'sentiment', 'sentiment', 'run', 'm'),
    )
    assert (
      "guard: sst2 trained 'm', of sentiment, which is held out (accepted by the run)"
    ) in proof.warnings
    assert proof.seen == {'sentiment': 'trained on'}

  def test_clusters_too_near_and_shared_texts_are_inherited_too(self):
    with pytest.raises(InputError, match=r"'m' .* paraphrase, too near to it \(glue_q"):
      leakage.check(NLI, lineage=trained_on('flan_glue_qqp'))
    with pytest.raises(InputError, match="'m' .* 'wnli', which shares 'Winograd schem"):
      leakage.check(COREFERENCE, lineage=trained_on('flan_wnli'))

  def test_what_an_ancestor_s_mixture_accepts_is_a_warning(self):
    """A run that goes on from a run of the same mixture is refused nothing new."""
    proof = leakage.check(COREFERENCE, lineage=trained_on(COREFERENCE))
    assert proof.seen == {'coreference': leakage.NEVER}
    assert [shared.model for shared in proof.allowed_overlap] == ['m', '']

  def test_a_known_and_clean_lineage_alone_is_never_trained_on(self):
    rte = registry.mixture('flan_rte')
    words = {
      'zero-shot (training unknown)': UNKNOWN,
      leakage.NEVER: trained_on('flan_bool_q').then(
        lineage.Training(model='base', datasets=())
      ),
    }
    for seen, chain in words.items():
      proof = leakage.check(rte, 'sentiment', lineage=chain)
      assert proof.seen == {'sentiment': seen}

  def test_a_base_beside_it_is_part_of_the_claim(self):
    model, base, seen = (
      leakage.check_checkpoint(
        chain, 'sentiment', family='flan', allow_overlap='sentiment'
      )
      for chain in (trained_on('flan_rte'), UNKNOWN, SST2)
    )
    assert leakage.beside(model, None)['seen'] == {'sentiment': leakage.NEVER}
    found = leakage.beside(model, base)
    assert found['seen'] == {'sentiment': 'zero-shot (base model: training unknown)'}
    assert found['warnings'] == [
      "guard: base model: what 'gemma' was trained on is unknown; nothing is proven of "
      'what it saw'
    ]
    found = leakage.beside(model, seen)
    assert found['seen'] == {'sentiment': 'zero-shot (base model: trained on)'}
    assert found['base']['allowed_overlap'][0]['dataset'] == 'sst2'
    assert leakage.beside(seen, model)['seen'] == {'sentiment': 'trained on'}

  WORSE = (
    ('never', 'related', 'zero-shot (base model: its kin trained)'),
    ('never', 'unknown', 'zero-shot (base model: training unknown)'),
    ('never', 'seen', 'zero-shot (base model: trained on)'),
    ('related', 'unknown', 'zero-shot (its kin trained; base model: training unknown)'),
    ('related', 'seen', 'zero-shot (its kin trained; base model: trained on)'),
    ('unknown', 'seen', 'zero-shot (training unknown; base model: trained on)'),
  )

  @pytest.mark.parametrize('model', ['never', 'related', 'unknown', 'seen'])
  @pytest.mark.parametrize('base', ['never', 'related', 'unknown', 'seen'])
  def test_the_worse_claim_of_two_is_said(self, model, base):
    chains = {
      'never': trained_on('flan_rte'),
      'related': lineage.Lineage((of_own_data(sources=('sst2',)),)),
      'unknown': UNKNOWN,
      'seen': SST2,
    }
    proofs = {
      name: leakage.check_checkpoint(
        chain,
        'sentiment',
        family='flan',
        allow_overlap='mine' if name == 'related' else 'sst2',
      )
      for name, chain in chains.items()
    }
    alone = {name: proof.seen['sentiment'] for name, proof in proofs.items()}
    assert tuple(alone.values()) == leakage.CLAIMS
    words = {(ours, theirs): said for ours, theirs, said in self.WORSE}
    found = leakage.beside(proofs[model], proofs[base])['seen']['sentiment']
    assert found == words.get((model, base), alone[model])


@pytest.mark.parametrize('world', registry.FAMILIES)
def test_what_a_dataset_is_derived_from_is_spelled_like_others_or_shared(world):
  """A name that nobody shares guards nothing: it would be a slip of the pen."""
  family = registry.datasets(world)
  for dataset in family.values():
    for source in dataset.derived_from:
      others = [d for d in family.values() if d is not dataset and source in d.sources]
      assert others, (dataset.name, source)
