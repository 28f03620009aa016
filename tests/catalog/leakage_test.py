"""Leakage check: overlap is refused unless allowed by name, and is then reported."""

import dataclasses
import json

import pytest

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.errors import InputError

NLI = registry.mixture('flan_held_out_nli')
COREFERENCE = registry.mixture('flan_held_out_coreference')
ALL = registry.mixture('flan_all')


def with_datasets(mixture, *datasets, **more):
  return dataclasses.replace(mixture, datasets=(*mixture.datasets, *datasets), **more)


def test_a_mixture_without_overlap_passes():
  report = leakage.check(registry.mixture('flan_held_out_closed_book_qa'))
  assert report.held_out == ('closed_book_qa',)
  assert report.allowed_overlap == report.warnings == ()
  assert len(report.trained_on) == 11
  assert len(report.datasets) == 65


def test_a_dataset_of_the_held_out_cluster_is_refused():
  with pytest.raises(InputError, match=r"trains on that very cluster \(rte\); use 'fl"):
    leakage.check(with_datasets(NLI, 'rte'))


def test_a_related_cluster_is_refused():
  with pytest.raises(InputError, match=r'paraphrase, related to it \(glue_qqp\)'):
    leakage.check(with_datasets(NLI, 'glue_qqp'))
  with pytest.raises(InputError, match='reading_comp_commonsense, related to it'):
    leakage.check(
      with_datasets(registry.mixture('flan_held_out_commonsense'), 'record')
    )


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


def test_overlap_allowed_by_the_mixture_is_a_recorded_warning():
  report = leakage.check(COREFERENCE)
  (shared,) = report.allowed_overlap
  assert shared == ('wnli', 'nli', 'Winograd schemas', 'coreference', 'mixture', '')
  assert report.warnings == (
    'leakage: wnli trains and shares Winograd schemas with held-out coreference '
    '(allowed by the mixture)',
  )
  assert (
    json.loads(json.dumps(report.as_json()))['allowed_overlap'][0]['dataset'] == 'wnli'
  )


@pytest.mark.parametrize('allow_overlap', ['wnli', ('nli',), ('wnli', 'sst2')])
def test_overlap_allowed_by_the_run_is_recorded(allow_overlap):
  undeclared = dataclasses.replace(COREFERENCE, allowed_overlap=())
  report = leakage.check(undeclared, allow_overlap=allow_overlap)
  assert [(s.dataset, s.by) for s in report.allowed_overlap] == [('wnli', 'run')]


def test_a_run_may_allow_the_held_out_cluster_and_a_declaration_may_not():
  declared = with_datasets(
    NLI, 'rte', allowed_overlap=(*NLI.allowed_overlap, ('rte', 'nli'))
  )
  with pytest.raises(InputError, match='that very cluster'):
    leakage.check(declared)
  report = leakage.check(with_datasets(NLI, 'rte'), allow_overlap='nli')
  assert 'leakage: rte trains, of nli, which is held out (allowed by the run)' in (
    report.warnings
  )


def test_the_report_covers_the_datasets_that_really_train():
  report = leakage.check(COREFERENCE, datasets=['rte', 'sst2'])
  assert report.datasets == ('rte', 'sst2')
  assert report.trained_on == ('nli', 'sentiment')
  assert report.warnings == ()
  with pytest.raises(InputError, match="'winogrande' trains and is not one of its"):
    leakage.check(COREFERENCE, datasets=['rte', 'winogrande'])


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'held_out': 'sentimnt'}, "HELD_OUT 'sentimnt'.*did you mean 'sentiment'"),
    ({'allow_overlap': 'wnil'}, "ALLOW_OVERLAP 'wnil'.*did you mean 'wnli'"),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(given, message):
  with pytest.raises(InputError, match=message):
    leakage.check(COREFERENCE, **given)


def trained_on(mixture, *, model='m', **more):
  """The lineage of a model that was trained on one mixture."""
  mixture = registry.mixture(mixture) if isinstance(mixture, str) else mixture
  return lineage.RANDOM.then(lineage.of_mixture(mixture, model=model, **more))


def on_undeclared_data(
  *, name='mine', cluster='misc', sources=('mine',), family='flan'
):
  """The training on a dataset that is not declared."""
  data = lineage.Trained(name, cluster, tuple(sources))
  return lineage.Training(model='m', datasets=(data,), family=family)


UNKNOWN = lineage.Lineage((lineage.unknown('gemma'),))
SST2 = trained_on('flan_sst2')


class TestCheckpoint:
  def test_a_run_is_measured_on_its_held_out_cluster(self):
    report = leakage.check_checkpoint(
      trained_on(COREFERENCE), 'coreference', family='flan'
    )
    assert report.seen == {'coreference': leakage.NEVER}
    own = leakage.check(COREFERENCE)
    assert report.datasets == own.datasets
    assert [shared._replace(model='') for shared in report.allowed_overlap] == [
      *own.allowed_overlap
    ]

  def test_any_other_cluster_must_be_allowed_by_name(self):
    with pytest.raises(InputError, match="CLUSTERS 'sentiment'.*very cluster"):
      leakage.check_checkpoint(trained_on(COREFERENCE), 'sentiment', family='flan')
    report = leakage.check_checkpoint(
      trained_on(COREFERENCE), 'sentiment', family='flan', allow_overlap='sentiment'
    )
    assert [s.dataset for s in report.allowed_overlap if s.source == 'sentiment'] == [
      'imdb_reviews', 'sentiment140', 'sst2', 'yelp_polarity_reviews'
    ]  # fmt: skip
    assert report.seen == {'sentiment': 'trained on'}

  def test_an_unrecorded_training_is_unknown(self):
    report = leakage.check_checkpoint(UNKNOWN, 'nli', family='flan')
    assert report.datasets is None
    assert report.warnings == (
      "leakage: the training data of 'gemma' is unknown; any cluster may have been "
      'seen',
    )
    assert report.seen == {'nli': 'zero-shot (training unknown)'}

  def test_another_family_is_unrelated_and_a_warning_says_so(self):
    report = leakage.check_checkpoint(
      trained_on('microworld_all'), ('nli', 'sentiment'), family='flan'
    )
    assert set(report.seen.values()) == {leakage.NEVER}
    assert report.warnings == (
      "leakage: 'm' was trained on datasets of microworld, which are unrelated to "
      'those of flan',
    )
    assert report.lineage.summary('flan')['trained_on'] == []

  def test_a_training_without_a_family_is_named_by_its_datasets(self):
    other = lineage.Lineage((on_undeclared_data(family=''),))
    report = leakage.check_checkpoint(other, 'commonsense', family='microworld')
    assert report.warnings == (
      "leakage: 'm' was trained on the dataset mine, which is unrelated to the "
      'datasets of microworld',
    )

  def test_undeclared_datasets_are_checked_by_their_record(self):
    other = lineage.Lineage((on_undeclared_data(),))
    report = leakage.check_checkpoint(other, 'nli', family='flan')
    assert report.seen == {'nli': leakage.NEVER}
    assert report.datasets == ('mine',)
    for own, message in (
      (on_undeclared_data(cluster='nli'), r'very cluster \(mine\)'),
      (on_undeclared_data(cluster='nli', family='my_family'), r'very cluster \(mine\)'),
      (on_undeclared_data(cluster='paraphrase'), r'paraphrase, related to it \(mine\)'),
      (
        on_undeclared_data(sources=('mine', 'rte')),
        r"shares 'rte' with it.*ALLOW_OVERLAP = \('nli'",
      ),
    ):
      with pytest.raises(InputError, match=message):
        leakage.check_checkpoint(lineage.Lineage((own,)), 'nli', family='flan')
    related = lineage.Lineage((on_undeclared_data(sources=('rte',)),))
    report = leakage.check_checkpoint(
      related, 'nli', family='flan', allow_overlap='mine'
    )
    assert report.seen == {'nli': 'zero-shot (related data trained)'}


class TestLineage:
  """Training data of an ancestor is refused like that of the run."""

  CHAINS = pytest.mark.parametrize(
    'chain',
    [
      SST2,
      SST2.then(lineage.of_mixture(registry.mixture('flan_rte'), model='child')),
      UNKNOWN.then(*SST2.trainings),
      SST2.then(*UNKNOWN.trainings),
      trained_on('microworld_all').then(*SST2.trainings),
    ],
    ids=[
      'parent',
      'grandparent',
      'unknown before',
      'unknown since',
      'after another family',
    ],
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
  def test_evaluating_it_is_refused(self, chain, which):
    with pytest.raises(InputError, match=f"'sentiment': {which}: 'm' .*very cluster"):
      leakage.check_checkpoint(
        chain, 'sentiment', family='flan', checkpoint_setting=which
      )

  @CHAINS
  @pytest.mark.parametrize('allow_overlap', ['sentiment', 'sst2'])
  def test_allowed_by_name_it_is_recorded(self, chain, allow_overlap):
    report = leakage.check(
      registry.mixture('flan_rte'),
      'sentiment',
      lineage=chain,
      allow_overlap=allow_overlap,
    )
    assert report.allowed_overlap == (
      ('sst2', 'sentiment', 'sentiment', 'sentiment', 'run', 'm'),
    )
    assert (
      "leakage: sst2 trained 'm', of sentiment, which is held out (allowed by the run)"
    ) in report.warnings
    assert report.seen == {'sentiment': 'trained on'}

  @CHAINS
  def test_a_cluster_of_one_dataset_is_measured_after_it_trained(self, chain):
    """Nothing is held out, and nobody allowed anything."""
    report = leakage.check_checkpoint(
      chain, 'sentiment', family='flan', itself=('sentiment',)
    )
    (overlap,) = report.allowed_overlap
    assert overlap.by == leakage.ITSELF
    *_, line = report.warnings
    assert line == (
      "leakage: sst2 trained 'm': the figures of sentiment are no held-out ones"
    )
    assert report.seen == {'sentiment': 'trained on'}

  def test_related_clusters_and_shared_texts_are_inherited(self):
    with pytest.raises(InputError, match=r"'m' .* paraphrase, related to it \(glue_q"):
      leakage.check(NLI, lineage=trained_on('flan_glue_qqp'))
    with pytest.raises(InputError, match="'m' .* 'wnli', which shares 'Winograd schem"):
      leakage.check(COREFERENCE, lineage=trained_on('flan_wnli'))

  def test_overlap_that_an_ancestor_s_mixture_allows_is_a_warning(self):
    """A run may start from a run of the same mixture."""
    report = leakage.check(COREFERENCE, lineage=trained_on(COREFERENCE))
    assert report.seen == {'coreference': leakage.NEVER}
    assert [shared.model for shared in report.allowed_overlap] == ['m', '']

  def test_never_trained_on_needs_a_known_lineage_without_overlap(self):
    rte = registry.mixture('flan_rte')
    words = {
      'zero-shot (training unknown)': UNKNOWN,
      leakage.NEVER: trained_on('flan_bool_q').then(
        lineage.Training(model='base', datasets=())
      ),
    }
    for seen, chain in words.items():
      report = leakage.check(rte, 'sentiment', lineage=chain)
      assert report.seen == {'sentiment': seen}

  def test_the_base_model_is_part_of_the_claim(self):
    model, base, seen = (
      leakage.check_checkpoint(
        chain, 'sentiment', family='flan', allow_overlap='sentiment'
      )
      for chain in (trained_on('flan_rte'), UNKNOWN, SST2)
    )
    assert leakage.with_base(model, None)['seen'] == {'sentiment': leakage.NEVER}
    found = leakage.with_base(model, base)
    assert found['seen'] == {'sentiment': 'zero-shot (base model: training unknown)'}
    assert found['warnings'] == [
      "leakage: base model: the training data of 'gemma' is unknown; any cluster may "
      'have been seen'
    ]
    found = leakage.with_base(model, seen)
    assert found['seen'] == {'sentiment': 'zero-shot (base model: trained on)'}
    assert found['base']['allowed_overlap'][0]['dataset'] == 'sst2'
    assert leakage.with_base(seen, model)['seen'] == {'sentiment': 'trained on'}

  WORSE = (
    ('never', 'related', 'zero-shot (base model: related data trained)'),
    ('never', 'unknown', 'zero-shot (base model: training unknown)'),
    ('never', 'seen', 'zero-shot (base model: trained on)'),
    (
      'related',
      'unknown',
      'zero-shot (related data trained; base model: training unknown)',
    ),
    ('related', 'seen', 'zero-shot (related data trained; base model: trained on)'),
    ('unknown', 'seen', 'zero-shot (training unknown; base model: trained on)'),
  )

  @pytest.mark.parametrize('model', ['never', 'related', 'unknown', 'seen'])
  @pytest.mark.parametrize('base', ['never', 'related', 'unknown', 'seen'])
  def test_the_worse_of_two_claims_counts(self, model, base):
    chains = {
      'never': trained_on('flan_rte'),
      'related': lineage.Lineage((on_undeclared_data(sources=('sst2',)),)),
      'unknown': UNKNOWN,
      'seen': SST2,
    }
    reports = {
      name: leakage.check_checkpoint(
        chain,
        'sentiment',
        family='flan',
        allow_overlap='mine' if name == 'related' else 'sst2',
      )
      for name, chain in chains.items()
    }
    alone = {name: report.seen['sentiment'] for name, report in reports.items()}
    assert tuple(alone.values()) == leakage.CLAIMS
    expected = {(model, base): claim for model, base, claim in self.WORSE}
    found = leakage.with_base(reports[model], reports[base])['seen']['sentiment']
    assert found == expected.get((model, base), alone[model])


@pytest.mark.parametrize('family', registry.families())
def test_every_derived_from_name_is_shared_with_another_dataset(family):
  """A name that no other dataset shares would be a typing error."""
  declared = registry.datasets(family)
  for dataset in declared.values():
    for source in dataset.derived_from:
      others = [
        d for d in declared.values() if d is not dataset and source in d.sources
      ]
      assert others, (dataset.name, source)
