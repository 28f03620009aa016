"""`flan plan --search`: the changes it tries, and their order."""

import dataclasses

import pytest

from flan_jax.cli.plan import plan_request
from flan_jax.config import gin
from flan_jax.errors import InputError
from flan_jax.tpu.plan import plan as plan_lib
from flan_jax.tpu.plan import search
from flan_jax.tpu.plan.topology import parse

GIB = plan_lib.GIB


def requested(*flags: str):
  """The request of a run of the 422M model: 32 sequences of 1,280 tokens per step."""
  files = ['gin/runs/base.gin', 'gin/models/422m.gin']
  given = (
    'BATCH_TOKENS=40960',
    'SEQUENCE_LENGTH=1280',
    'TRAIN_STEPS=10',
    'REMAT=none',
    'MODEL_DIR=out',
    'MIXTURE_OR_TASK_NAME=flan_rte',
  )
  more = ('DecoderConfig.dtype=bfloat16', 'Run.logits_chunk=None')
  return plan_request(gin.load(files, [*given, *more, *flags]).build('Run'))


def tried(unchanged, topology: str) -> list[str]:
  found = plan_lib.changes(unchanged, parse(topology), kind='train')
  return [change.description.split()[0] for change in found]


def test_changes_are_cumulative_and_the_cheapest_is_first():
  assert tried(requested('Mesh.fsdp=8', 'Mesh.data=1'), 'v5e:2x4') == [
    "--gin.REMAT='dots'",
    "--gin.REMAT='full'",
    "--gin.Run.gradient_dtype='bfloat16'",
    '--gin.Run.accumulation=4',
    '--gin.Run.logits_chunk=160',
  ]
  last = plan_lib.changes(
    requested('Mesh.fsdp=8', 'Mesh.data=1'), parse('v5e:2x4'), kind='train'
  )[-1].request
  step = last.step
  assert step.gradient_dtype == 'bfloat16'
  assert (last.model.remat, step.accumulation, step.logits_chunk) == ('full', 4, 160)


@pytest.mark.parametrize(
  ('mesh', 'sequences'),
  [
    (('Mesh.data=-1', 'Mesh.fsdp=1'), 4),
    (('Mesh.data=-1', 'Mesh.fsdp=2'), 4),
    (('Mesh.data=-1', 'Mesh.fsdp=2', 'Mesh.model=2'), 8),
    (('Mesh.data=2', 'Mesh.fsdp=2', 'Mesh.model=2'), 8),
  ],
)
def test_accumulation_leaves_one_sequence_per_device(mesh, sequences):
  """Eight cores, 32 sequences: `data` and `fsdp` split them, `model` does not."""
  assert f'--gin.Run.accumulation={sequences}' in tried(requested(*mesh), 'v5e:2x4')


@pytest.fixture
def needs(monkeypatch):
  """Replaces the compiler: sets the bytes that a step of some settings needs."""

  def of(bytes_of):
    def plan(request, topology, *, kind, assumptions, cache):
      wanted = bytes_of(request, topology)
      fits = wanted <= 16 * GIB
      fields = dict.fromkeys(plan_lib.Plan._fields)
      wanted = None if fits else wanted
      fields.update(topology=topology, request=request, wanted=wanted)
      memory = plan_lib.Memory(**dict.fromkeys(plan_lib.Memory._fields, 0))
      fields.update(limit=16 * GIB, memory=memory if fits else None)
      return plan_lib.Plan(**fields)

    monkeypatch.setattr(plan_lib, 'plan', plan)

  return of


def test_it_stops_at_the_first_plan_that_fits(needs):
  needs(lambda request, on: (8 if request.model.remat == 'full' else 32) * GIB)
  trials = search.search(requested('Mesh.fsdp=8', 'Mesh.data=1'), parse('v5e:2x4'))
  assert [trial.plan.fits for trial in trials] == [False, False, True]
  assert trials[-1].plan.request.step.gradient_dtype is None


def test_a_change_that_no_run_may_have_is_refused_like_a_setting():
  """Five devices leave six of 32 sequences each, and six does not divide 32."""
  wrong = r'Run.accumulation: got 6; must divide the 32 sequences of a step; .* is 4$'
  with pytest.raises(InputError, match=wrong) as caught:
    tried(requested('Mesh.data=5', 'Mesh.fsdp=1'), 'v5e:2x4')
  assert caught.value.field == 'Run.accumulation'


def test_a_larger_slice_is_tried_last(needs):
  needs(lambda request, on: 512 // on.cores * GIB)
  unchanged = requested('Mesh.fsdp=8', 'Mesh.data=1')
  *small, last = search.search(unchanged, parse('v5e:2x4'))
  assert last.plan.fits
  assert last.plan.topology.cores == 32
  assert last.description.startswith('unchanged, mesh')
  step = last.plan.request.step
  mesh = step.mesh
  assert mesh.data * mesh.fsdp * mesh.model == 32
  step = dataclasses.replace(step, mesh=unchanged.step.mesh)
  assert dataclasses.replace(last.plan.request, step=step) == unchanged


def test_it_stops_at_sixteen_times_the_chips(needs):
  needs(lambda request, on: 99 * GIB)
  trials = search.search(requested('Mesh.fsdp=8', 'Mesh.data=1'), parse('v5e:2x4'))
  assert not any(trial.plan.fits for trial in trials)
  assert max(trial.plan.topology.chips for trial in trials) == 16 * 8


def test_a_run_without_a_model_has_no_plan():
  given = ['MODEL_DIR=out', 'MIXTURE_OR_TASK_NAME=flan_rte', 'TRAIN_STEPS=1']
  run = gin.load(['gin/runs/base.gin'], given).build('Run')
  with pytest.raises(InputError, match='Run.model: not set; include one of') as caught:
    plan_request(run)
  assert caught.value.field == 'Run.model'
