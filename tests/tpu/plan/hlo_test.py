"""The text of a program: run counts, transfers and their groups."""

import numpy as np
import pytest

from flan_jax.tpu.plan import hlo

# A step as XLA prints it: a loop of five trips that gathers a layer's weights,
# multiplies and reduces; then one fusion of the optimizer.
TEXT = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%fused_computation.1 (param_0: bf16[8,64], param_1: bf16[64,32]) -> bf16[8,32] {
  %param_0 = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.1 = bf16[8,32]{1,0} convolution(%param_0, %param_1), dim_labels=bf_io->bf
}

%fused_computation.2 (param_0.1: f32[64,32]) -> f32[64,32] {
  %param_0.1 = f32[64,32]{1,0} parameter(0)
  ROOT %negate.1 = f32[64,32]{1,0} negate(%param_0.1)
}

%body.3 (arg: (s32[], bf16[5,16,32])) -> (s32[], bf16[5,16,32]) {
  %arg = (s32[], bf16[5,16,32]{2,1,0}) parameter(0)
  %all-gather.4 = bf16[64,32]{1,0:T(8,128)(2,1)} all-gather(%slice.1), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(step)/layers/gather"}
  %fusion.5 = bf16[8,32]{1,0} fusion(%x, %all-gather.4), kind=kOutput, calls=%fused_computation.1, backend_config={"estimated_cycles":"1000"}
  %all-reduce.6 = f32[8,32]{1,0} all-reduce(%fusion.5), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %tuple.7 = (s32[], bf16[5,16,32]{2,1,0}) tuple(%i, %w)
}

%condition.3 (arg.1: (s32[], bf16[5,16,32])) -> pred[] {
  %arg.1 = (s32[], bf16[5,16,32]{2,1,0}) parameter(0)
  %bound = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%i.1, %bound), direction=LT
}

ENTRY %main.8 (p: f32[64,32]) -> f32[64,32] {
  %p = f32[64,32]{1,0} parameter(0)
  %while.9 = (s32[], bf16[5,16,32]{2,1,0}) while(%init), condition=%condition.3, body=%body.3
  %collective-permute.10 = f32[16]{0} collective-permute(%p), channel_id=3, source_target_pairs={{0,1},{1,2},{2,3}}
  ROOT %fusion.11 = f32[64,32]{1,0} fusion(%p), kind=kLoop, calls=%fused_computation.2, backend_config={"estimated_cycles":"70"}
}
"""  # noqa: E501


@pytest.fixture(scope='module')
def module():
  return hlo.Module(TEXT)


def test_the_body_of_a_loop_counts_once_per_trip(module):
  products = {n: module.has_products(line) for line, n in module.runs() if line.cycles}
  assert products == {5: True, 1: False}
  assert sum(line.cycles * n for line, n in module.runs()) == 5 * 1000 + 70


def test_loops_have_trips_and_carried_arrays(module):
  (loop,) = module.loops()
  assert loop.trips == 5
  assert loop.carried == (hlo.Array('s32', ()), hlo.Array('bf16', (5, 16, 32)))
  assert loop.carried[1].bytes == 5 * 16 * 32 * 2


def test_transfers_have_groups_and_bytes(module):
  gather, reduce, permute = module.collectives()
  assert (gather.kind, gather.times, gather.bytes) == ('all-gather', 5, 64 * 32 * 2)
  np.testing.assert_array_equal(gather.groups, [[0, 2, 4, 6], [1, 3, 5, 7]])
  assert gather.op_name == 'jit(step)/layers/gather'
  assert (reduce.kind, reduce.times, reduce.bytes) == ('all-reduce', 5, 8 * 32 * 4)
  np.testing.assert_array_equal(reduce.groups[1], [2, 3])
  assert (permute.kind, permute.times) == ('collective-permute', 1)
  np.testing.assert_array_equal(permute.groups, [[0, 1], [1, 2], [2, 3]])


def test_the_bytes_of_a_reduce_scatter_are_its_input():
  line = (
    '%reduce-scatter.1 = bf16[16,32]{1,0} reduce-scatter(%x), channel_id=4, '
    'replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%add'
  )
  text = f'ENTRY %main (p: f32[]) -> f32[] {{\n  {line}\n}}\n'
  (found,) = hlo.Module(text).collectives()
  assert found.bytes == 4 * 16 * 32 * 2


def test_a_fused_all_reduce_and_slice_is_a_reduce_scatter():
  text = """\
%all-reduce-scatter.1 (p: bf16[64,32]) -> bf16[16,32] {
  %p = bf16[64,32]{1,0} parameter(0)
  %all-reduce.1 = bf16[64,32]{1,0} all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %slice = bf16[16,32]{1,0} dynamic-slice(%all-reduce.1, %i)
}

ENTRY %main (p: bf16[64,32]) -> bf16[16,32] {
  ROOT %fusion.1 = bf16[16,32]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
}
"""  # noqa: E501
  (found,) = hlo.Module(text).collectives()
  assert (found.kind, found.bytes) == ('reduce-scatter', 64 * 32 * 2)


def test_an_asynchronous_transfer_counts_once():
  lines = (
    '%start = (bf16[4]{0}, bf16[16]{0}) all-gather-start(%x), channel_id=5, '
    'replica_groups=[2,4]<=[8], dimensions={0}',
    'ROOT %done = bf16[16]{0} all-gather-done(%start), channel_id=5',
  )
  text = 'ENTRY %main (p: f32[]) -> f32[] {\n  ' + '\n  '.join(lines) + '\n}\n'
  (found,) = hlo.Module(text).collectives()
  assert (found.kind, found.bytes) == ('all-gather', 32)


@pytest.mark.parametrize(
  ('text', 'groups'),
  [
    ('{{0,1},{2,3}}', [[0, 1], [2, 3]]),
    ('[2,2]<=[2,2]T(1,0)', [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2] {'b','a'}", [[0, 2, 1, 3]]),
    ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [[0, 2], [1, 3]]),
    ("mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
    ("mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
  ],
)
def test_groups_in_every_format(text, groups):
  line = f'all-gather(%x), replica_groups={text}, dimensions={{0}}'
  np.testing.assert_array_equal(hlo.groups(line), groups)
