"""The guard: refuses what is not unseen, lets through what is named, and says so."""

import dataclasses
import json

import pytest

from flan_jax import catalogue, guard
from flan_jax.errors import InputError

NLI = catalogue.mixture('flan_held_out_nli')
COREFERENCE = catalogue.mixture('flan_held_out_coreference')
ALL = catalogue.mixture('flan_all')


def also(mixture, *datasets, **more):
  return dataclasses.replace(mixture, datasets=(*mixture.datasets, *datasets), **more)


def test_a_clean_mixture_is_proven():
  proof = guard.prove(catalogue.mixture('flan_held_out_closed_book_qa'))
  assert proof.held_out == ('closed_book_qa',)
  assert proof.accepted == proof.warnings == ()
  assert len(proof.trained_on) == 11
  assert len(proof.datasets) == 65


def test_a_dataset_of_the_held_out_cluster_is_refused():
  with pytest.raises(InputError, match=r"trains on that very cluster \(rte\); use 'fl"):
    guard.prove(also(NLI, 'rte'))


def test_a_cluster_too_near_is_refused():
  with pytest.raises(InputError, match=r'paraphrase, too near to it \(glue_qqp\)'):
    guard.prove(also(NLI, 'glue_qqp'))
  with pytest.raises(InputError, match='reading_comp_commonsense, too near to it'):
    guard.prove(also(catalogue.mixture('flan_held_out_commonsense'), 'record'))


def test_a_dataset_made_of_the_same_texts_is_refused():
  undeclared = dataclasses.replace(COREFERENCE, accepted=())
  with pytest.raises(InputError, match=r"'wnli', which shares 'Winograd schemas'.*ACC"):
    guard.prove(undeclared)
  with pytest.raises(InputError, match="'qnli', which shares 'squad_v1'"):
    guard.prove(
      dataclasses.replace(
        catalogue.mixture('flan_held_out_reading_comprehension'), accepted=()
      )
    )


def test_what_the_mixture_accepts_is_a_warning_on_record():
  proof = guard.prove(COREFERENCE)
  (shared,) = proof.accepted
  assert shared == ('wnli', 'nli', 'Winograd schemas', 'coreference', 'mixture')
  assert proof.warnings == (
    'guard: wnli trains and shares Winograd schemas with held-out coreference '
    '(accepted by the mixture)',
  )
  assert json.loads(json.dumps(proof.as_json()))['accepted'][0]['dataset'] == 'wnli'


@pytest.mark.parametrize('accept', ['wnli', ('nli',), ('wnli', 'sst2')])
def test_what_the_run_accepts_by_name_is_on_record_too(accept):
  undeclared = dataclasses.replace(COREFERENCE, accepted=())
  proof = guard.prove(undeclared, accept=accept)
  assert [(s.dataset, s.by) for s in proof.accepted] == [('wnli', 'run')]


def test_a_run_may_even_accept_the_cluster_itself_and_a_declaration_may_not():
  declared = also(NLI, 'rte', accepted=(*NLI.accepted, ('rte', 'nli')))
  with pytest.raises(InputError, match='that very cluster'):
    guard.prove(declared)
  proof = guard.prove(also(NLI, 'rte'), accept='nli')
  assert 'guard: rte trains, of nli, which is held out (accepted by the run)' in (
    proof.warnings
  )


def test_the_proof_is_of_what_really_trained():
  proof = guard.prove(COREFERENCE, datasets=['rte', 'sst2'])
  assert proof.datasets == ('rte', 'sst2')
  assert proof.trained_on == ('nli', 'sentiment')
  assert proof.warnings == ()
  with pytest.raises(InputError, match="'winogrande' trains and is not one of its"):
    guard.prove(COREFERENCE, datasets=['rte', 'winogrande'])


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'asked': 'sentimnt'}, "HELD_OUT 'sentimnt'.*did you mean 'sentiment'"),
    ({'accept': 'wnil'}, "accept 'wnil'.*did you mean 'wnli'"),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(given, message):
  with pytest.raises(InputError, match=message):
    guard.prove(COREFERENCE, **given)


class TestCheckpoint:
  def test_a_run_of_ours_is_measured_on_what_it_held_out(self):
    saved = {'mixture': COREFERENCE.name, 'guard': guard.prove(COREFERENCE).as_json()}
    proof = guard.prove_checkpoint(saved, 'coreference', family='flan')
    assert proof == guard.prove(COREFERENCE)

  def test_and_on_nothing_else_unless_told_by_name(self):
    saved = {'mixture': COREFERENCE.name, 'guard': guard.prove(COREFERENCE).as_json()}
    with pytest.raises(InputError, match="CLUSTERS 'sentiment'.*very cluster"):
      guard.prove_checkpoint(saved, 'sentiment', family='flan')
    proof = guard.prove_checkpoint(
      saved, 'sentiment', family='flan', accept='sentiment'
    )
    assert [s.dataset for s in proof.accepted if s.source == 'sentiment'] == [
      'imdb_reviews', 'sentiment140', 'sst2', 'yelp_polarity_reviews'
    ]  # fmt: skip

  def test_an_older_run_is_judged_by_the_name_of_its_mixture(self):
    proof = guard.prove_checkpoint({'mixture': NLI.name}, 'nli', family='flan')
    assert proof.datasets == NLI.datasets
    with pytest.raises(InputError, match='very cluster'):
      guard.prove_checkpoint({'mixture': 'flan_all'}, 'nli', family='flan')

  def test_what_says_nothing_proves_nothing(self):
    proof = guard.prove_checkpoint({}, 'nli', family='flan')
    assert proof.datasets is None
    assert proof.warnings[0].endswith('nothing is proven')

  def test_another_world_shares_nothing(self):
    saved = {'mixture': 'microworld_all'}
    proof = guard.prove_checkpoint(saved, 'nli', family='flan')
    assert (proof.family, proof.warnings) == ('microworld', ())


@pytest.mark.parametrize('world', catalogue.WORLDS)
def test_what_a_dataset_is_derived_from_is_spelt_like_others_or_shared(world):
  """A name that nobody shares guards nothing: it would be a slip of the pen."""
  family = catalogue.family(world)
  for dataset in family.values():
    for source in dataset.derived_from:
      others = [d for d in family.values() if d is not dataset and source in d.sources]
      assert others, (dataset.name, source)
