"""YAML of any text: what is read is what was written, by its own key."""

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_jax.runtime import yaml_text

TEXT = st.text(st.characters(exclude_categories=('Cs',)))


@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(st.sampled_from('abc'), st.one_of(TEXT, st.lists(TEXT))))
@example(
  values={'a': 'x\nb: 1\n', 'b': '\n---\nc: 2', 'c': ['- x', '😀\x7f\x85\u2028 ']}
)
@example(values={'a': 'no', 'b': '0x1', 'c': ['null', '~', '*x', '!!python/name:os']})
def test_values_are_read_as_they_were_written(values):
  text = yaml_text.dump(values)
  assert yaml.safe_load(text) == (values or {})
  assert list(yaml.safe_load(text)) == list(values)


def test_lines_stand_as_a_block():
  assert yaml_text.dump({'run': 'a\nb: c\n'}) == 'run: |\n  a\n  b: c\n'
